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
  // Pages and attributes. Each carries a mark (Filesystem::MarkStalePages).
  std::vector<InodeId> contents;
  std::vector<InodeId> attributes;  // attributes only

  bool empty() const { return contents.empty() && attributes.empty(); }
};

// Tells the kernel to forget pages and attributes of the inodes; returns when it has. Waits for
// requests that the server serves. kIo: it was not told of all.
using PageForgetter = std::function<Status(int fuse_fd, std::span<const InodeId> inodes)>;
// The PageForgetter that does it itself.
Status ForgetPages(int fuse_fd, std::span<const InodeId> inodes);
// Takes back the mark of an inode whose pages the kernel has forgotten. Does not throw.
using MarkClearer = std::function<void(InodeId inode)>;

class Invalidator {
 public:
  // Borrows the descriptor of the mount.
  Invalidator(int fuse_fd, PageForgetter forget_pages, MarkClearer clear_mark)
      : fuse_fd_(fuse_fd),
        forget_pages_(std::move(forget_pages)),
        clear_mark_(std::move(clear_mark)) {}
  // Stops.
  ~Invalidator();

  // kIo: no thread.
  Status Start();
  // What is queued is no longer told to the kernel, and answered; but pages that it has not
  // forgotten stay marked, for the next server, and who waits for that gets no answer from this
  // one, now or later: the kernel sends the request to the next one again, which finds that it was
  // carried out. REQUIRES: the workers still serve, since the notification in work may wait for
  // them.
  void Stop();

  // Tells the kernel soon. Of attributes it is a hint: under a flood of them, some are dropped.
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
  // Whether an entry that nobody has begun with will have the same pages forgotten.
  bool IsQueued(const std::vector<InodeId>& contents) CAIRN_REQUIRES(mu_);
  void Run() noexcept;
  void Notify(const Invalidation& invalidation) noexcept;
  void Answer(const Entry& entry) noexcept;

  const int fuse_fd_;
  const PageForgetter forget_pages_;
  const MarkClearer clear_mark_;
  std::thread thread_;
  Mutex mu_;
  CondVar wake_;
  std::deque<Entry> queue_ CAIRN_GUARDED_BY(mu_);
  bool running_ CAIRN_GUARDED_BY(mu_) = false;
  bool stopping_ CAIRN_GUARDED_BY(mu_) = false;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_INVALIDATOR_H_
