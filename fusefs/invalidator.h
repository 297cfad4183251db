// Invalidator: tells the kernel to forget what changed without its doing: content of volumes that
// were rolled back, attributes.
//
// Before the kernel lets go of a page, it waits for whoever reads it in, and writes it back when it
// is dirty: for us. So no thread that serves requests ever tells it to: this thread does, while the
// workers go on. A request whose effect the kernel must know before its caller goes on is answered
// from here as well, after the notifications; only requests for which the kernel holds no lock
// (ioctl) may wait like that.
//
// Nor does a thread of a process that may be killed while it serves: the wait cannot be killed, and
// a process whose thread waits in the kernel is not gone, so that nobody would take its place, for
// whom the thread waits. Pages are forgotten by a process of its own (PageForgetter). Names are
// never told: that would wait for the directory's lock; those that go behind the kernel's back it
// does not keep (wire.h).
//
// Thread-safe.
#ifndef CAIRN_FUSEFS_INVALIDATOR_H_
#define CAIRN_FUSEFS_INVALIDATOR_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/base/strong_id.h"

namespace cairn {

// What the kernel is to forget.
struct Invalidation {
  std::vector<InodeId> contents;    // pages and attributes
  std::vector<InodeId> attributes;  // attributes only

  bool empty() const { return contents.empty() && attributes.empty(); }
};

// Tells the kernel to forget pages and attributes of the inodes; returns when it has. Waits for
// requests that the server serves. kIo: it was not told of all.
using PageForgetter = std::function<Status(int fuse_fd, std::span<const InodeId> inodes)>;
// The PageForgetter that does it itself.
Status ForgetPages(int fuse_fd, std::span<const InodeId> inodes);

class Invalidator {
 public:
  // Borrows the descriptor of the mount.
  Invalidator(int fuse_fd, PageForgetter forget_pages)
      : fuse_fd_(fuse_fd), forget_pages_(std::move(forget_pages)) {}
  // Stops.
  ~Invalidator();

  // kIo: no thread.
  Status Start();
  // What is queued is no longer told to the kernel, and answered; but who waits for pages to be
  // forgotten gets no answer from this server, now or later: the kernel sends the request to the
  // next one again, which finds that it was carried out. REQUIRES: the workers still serve, since
  // the notification in work may wait for them.
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

  static bool LeftToTheNextServer(const Entry& entry);
  void Run() noexcept;
  void Notify(const Invalidation& invalidation) noexcept;
  void Answer(const Entry& entry) noexcept;

  const int fuse_fd_;
  const PageForgetter forget_pages_;
  std::thread thread_;
  Mutex mu_;
  CondVar wake_;
  std::deque<Entry> queue_ CAIRN_GUARDED_BY(mu_);
  bool running_ CAIRN_GUARDED_BY(mu_) = false;
  bool stopping_ CAIRN_GUARDED_BY(mu_) = false;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_INVALIDATOR_H_
