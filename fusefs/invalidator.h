// Invalidator: tells the kernel to forget what changed without its doing: content of volumes that
// were rolled back, names that went away.
//
// The kernel may have to write dirty pages back, or wait for a directory's lock that is held by
// somebody who waits for us, before a notification returns. So no thread that serves requests ever
// sends one: this thread does, while the workers go on. A request whose effect the kernel must
// know before its caller goes on is answered from here as well, after the notifications; only
// requests for which the kernel holds no lock (ioctl) may wait like that.
//
// Thread-safe.
#ifndef CAIRN_FUSEFS_INVALIDATOR_H_
#define CAIRN_FUSEFS_INVALIDATOR_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/base/strong_id.h"

namespace cairn {

// What the kernel is to forget.
struct Invalidation {
  struct Name {
    InodeId parent;
    std::string name;
  };
  std::vector<InodeId> contents;    // pages and attributes
  std::vector<InodeId> attributes;  // attributes only
  std::vector<Name> names;          // that went away or mean another file now

  bool empty() const { return contents.empty() && attributes.empty() && names.empty(); }
};

class Invalidator {
 public:
  // Borrows the descriptor of the mount.
  explicit Invalidator(int fuse_fd) : fuse_fd_(fuse_fd) {}
  // Stops.
  ~Invalidator();

  // kIo: no thread.
  Status Start();
  // What is queued is answered and no longer told to the kernel. REQUIRES: the workers still
  // serve, since the notification in work may wait for them.
  void Stop();

  // Tells the kernel soon. Without an answer that depends on it, it is a hint: under a flood of
  // them, some are dropped.
  void Tell(Invalidation invalidation);
  // Tells the kernel, then answers the request `unique` with `body`, then calls `answered` (which
  // does not throw): not before may be forgotten that the request was carried out. REQUIRES: the
  // kernel holds no lock for that request.
  void TellAndAnswer(Invalidation invalidation, uint64_t unique, std::vector<std::byte> body,
                     std::function<void()> answered);

 private:
  struct Entry {
    Invalidation invalidation;
    uint64_t unique = 0;  // 0: no answer
    std::vector<std::byte> body;
    std::function<void()> answered;
  };

  void Run() noexcept;
  void Notify(const Invalidation& invalidation) noexcept;
  void Send(int32_t code, std::span<const std::byte> first, std::span<const std::byte> second);
  void Answer(const Entry& entry) noexcept;

  const int fuse_fd_;
  std::thread thread_;
  Mutex mu_;
  CondVar wake_;
  std::deque<Entry> queue_ CAIRN_GUARDED_BY(mu_);
  bool running_ CAIRN_GUARDED_BY(mu_) = false;
  bool stopping_ CAIRN_GUARDED_BY(mu_) = false;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_INVALIDATOR_H_
