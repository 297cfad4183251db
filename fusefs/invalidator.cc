#include "fusefs/invalidator.h"

#include <pthread.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "fusefs/protocol.h"
#include "src/base/log.h"

namespace cairn {
namespace {

// Hints beyond this are dropped. Entries with an answer are bounded by the kernel, which has a
// request outstanding for each.
constexpr size_t kMaxQueued = 4096;

// Of one inode, from byte `offset` on; a negative one leaves the pages alone.
Status Send(int fuse_fd, InodeId inode, int64_t offset) {
  fuse_notify_inval_inode_out out{.ino = inode.value(), .off = offset, .len = 0};
  fuse_out_header header{
      .len = sizeof(header) + sizeof(out), .error = FUSE_NOTIFY_INVAL_INODE, .unique = 0};
  iovec parts[2] = {{&header, sizeof(header)}, {&out, sizeof(out)}};
  // ENOENT: the kernel has nothing to forget. ENODEV: unmounted.
  if (writev(fuse_fd, parts, 2) < 0 && errno != ENOENT && errno != ENODEV) {
    return Status(Code::kIo, std::string("telling the kernel what changed: ") + strerror(errno));
  }
  return Status::Ok();
}

}  // namespace

Status ForgetPages(int fuse_fd, std::span<const InodeId> inodes) {
  Status status;
  for (const InodeId inode : inodes) {
    Status sent = Send(fuse_fd, inode, 0);
    if (!sent.ok()) status = std::move(sent);
  }
  return status;
}

Invalidator::~Invalidator() { Stop(); }

Status Invalidator::Start() {
  const MutexLock lock(mu_);
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    return Status(Code::kIo, std::string("starting a thread: ") + error.what());
  }
  running_ = true;
  return Status::Ok();
}

void Invalidator::Stop() {
  {
    const MutexLock lock(mu_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
  const MutexLock lock(mu_);
  running_ = false;
}

void Invalidator::Tell(Invalidation invalidation) {
  if (invalidation.empty()) return;
  const bool has_pages = !invalidation.contents.empty();
  {
    const MutexLock lock(mu_);
    if (!running_ || stopping_ || (!has_pages && queue_.size() >= kMaxQueued)) return;
    // However often a request is tried that fails: at most one entry for each volume.
    if (!has_pages || !IsQueued(invalidation.contents)) {
      queue_.push_back({std::move(invalidation), 0, {}, {}});
      wake_.NotifyOne();
      return;
    }
  }
  for (const InodeId inode : invalidation.contents) clear_mark_(inode);
}

bool Invalidator::IsQueued(const std::vector<InodeId>& contents) {
  return std::any_of(queue_.begin(), queue_.end(), [&](const Entry& entry) {
    return entry.unique == 0 && entry.invalidation.contents == contents;
  });
}

void Invalidator::TellAndAnswer(Invalidation invalidation, uint64_t unique,
                                std::vector<std::byte> body, std::function<void()> answered) {
  Entry entry{std::move(invalidation), unique, std::move(body), std::move(answered)};
  {
    const MutexLock lock(mu_);
    if (running_ && !stopping_) {
      queue_.push_back(std::move(entry));
      wake_.NotifyOne();
      return;
    }
    if (stopping_ && LeftToTheNextServer(entry)) return;
  }
  Answer(entry);
}

bool Invalidator::LeftToTheNextServer(const Entry& entry) {
  return !entry.invalidation.contents.empty();
}

void Invalidator::Run() noexcept {
  pthread_setname_np(pthread_self(), "cairnfs-forget");
  for (;;) {
    Entry entry;
    bool tell = true;
    {
      const MutexLock lock(mu_);
      while (queue_.empty() && !stopping_) wake_.Wait(mu_);
      if (queue_.empty()) return;
      entry = std::move(queue_.front());
      queue_.pop_front();
      tell = !stopping_;
    }
    if (!tell && LeftToTheNextServer(entry)) continue;
    if (tell) Notify(entry.invalidation);
    if (entry.unique != 0) Answer(entry);
  }
}

void Invalidator::Notify(const Invalidation& invalidation) noexcept {
  if (!invalidation.contents.empty()) {
    const Status forgotten = forget_pages_(fuse_fd_, invalidation.contents);
    if (forgotten.ok()) {
      for (const InodeId inode : invalidation.contents) clear_mark_(inode);
    } else {
      LogError("{}", forgotten.context());
    }
  }
  for (const InodeId inode : invalidation.attributes) {
    const Status sent = Send(fuse_fd_, inode, -1);
    if (!sent.ok()) LogWarn("{}", sent.context());
  }
}

void Invalidator::Answer(const Entry& entry) noexcept {
  fuse_out_header header{.len = static_cast<uint32_t>(sizeof(header) + entry.body.size()),
                         .error = 0,
                         .unique = entry.unique};
  iovec parts[2] = {{&header, sizeof(header)},
                    {const_cast<std::byte*>(entry.body.data()), entry.body.size()}};
  // ENOENT: the program was killed and the kernel forgot the request.
  if (writev(fuse_fd_, parts, 2) < 0 && errno != ENOENT && errno != ENODEV) {
    LogError("answering a request: {}", std::strerror(errno));
  }
  entry.answered();
}

}  // namespace cairn
