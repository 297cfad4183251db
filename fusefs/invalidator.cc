#include "fusefs/invalidator.h"

#include <pthread.h>
#include <sys/uio.h>

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

template <typename Body>
std::span<const std::byte> BytesOf(const Body& body) {
  return std::as_bytes(std::span(&body, 1));
}

}  // namespace

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
  const MutexLock lock(mu_);
  if (!running_ || stopping_ || queue_.size() >= kMaxQueued) return;
  queue_.push_back({std::move(invalidation), 0, {}, {}});
  wake_.NotifyOne();
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
  }
  Answer(entry);
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
    if (tell) Notify(entry.invalidation);
    if (entry.unique != 0) Answer(entry);
  }
}

void Invalidator::Notify(const Invalidation& invalidation) noexcept {
  for (const auto& [parent, name] : invalidation.names) {
    const fuse_notify_inval_entry_out out{
        .parent = parent.value(), .namelen = static_cast<uint32_t>(name.size()), .flags = 0};
    // With the NUL that `namelen` does not count.
    Send(FUSE_NOTIFY_INVAL_ENTRY, BytesOf(out),
         std::as_bytes(std::span(name.c_str(), name.size() + 1)));
  }
  for (const InodeId inode : invalidation.contents) {
    const fuse_notify_inval_inode_out out{.ino = inode.value(), .off = 0, .len = 0};
    Send(FUSE_NOTIFY_INVAL_INODE, BytesOf(out), {});
  }
  for (const InodeId inode : invalidation.attributes) {
    // A negative offset leaves the pages alone.
    const fuse_notify_inval_inode_out out{.ino = inode.value(), .off = -1, .len = 0};
    Send(FUSE_NOTIFY_INVAL_INODE, BytesOf(out), {});
  }
}

void Invalidator::Send(int32_t code, std::span<const std::byte> first,
                       std::span<const std::byte> second) {
  fuse_out_header header{
      .len = static_cast<uint32_t>(sizeof(header) + first.size() + second.size()),
      .error = code,
      .unique = 0};
  iovec parts[3] = {{&header, sizeof(header)},
                    {const_cast<std::byte*>(first.data()), first.size()},
                    {const_cast<std::byte*>(second.data()), second.size()}};
  // ENOENT: the kernel has nothing to forget. ENODEV: unmounted.
  if (writev(fuse_fd_, parts, second.empty() ? 2 : 3) < 0 && errno != ENOENT && errno != ENODEV) {
    LogWarn("telling the kernel what changed: {}", std::strerror(errno));
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
