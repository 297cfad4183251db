// Worker: one thread that reads requests from /dev/fuse, one at a time, and answers each before it
// reads the next. Those of a server's workers that the ConcurrencyLimit lets read sleep in read(2)
// on the same descriptor; the kernel wakes one a request. (They are threads of their own and no
// Executor's tasks: they end with the mount only.)
#ifndef CAIRN_FUSEFS_WORKER_H_
#define CAIRN_FUSEFS_WORKER_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <thread>

#include "fusefs/concurrency_limit.h"
#include "fusefs/edge.h"
#include "fusefs/fast_io.h"
#include "fusefs/request_buffers.h"
#include "fusefs/session.h"
#include "src/base/result.h"

namespace cairn {

class Worker {
 public:
  // Gets all that the thread needs, without starting it. Borrows `edge`, `fuse_fd` and
  // `member`, which is this worker's alone.
  static Result<std::unique_ptr<Worker>> Create(Edge& edge, int fuse_fd,
                                                ConcurrencyLimit::Member& member,
                                                std::span<const std::byte> init_request);
  // REQUIRES: not started, or joined.
  ~Worker() = default;

  // `ended_fd`, an eventfd, gets 1 added when the thread ends: the mount is gone, Interrupt was
  // called, or /dev/fuse failed. kIo: no thread.
  Status Start(int ended_fd);
  // Makes the thread end after the request in work, if it has one, unless it is parked, which
  // ConcurrencyLimit::Stop ends. May be called again: a thread that was about to sleep can miss it
  // once.
  void Interrupt();
  bool ended() const { return ended_.load(std::memory_order_acquire); }
  void Join() { thread_.join(); }
  bool buffers_locked() const { return buffers_->locked(); }

 private:
  Worker(Edge& edge, int fuse_fd, ConcurrencyLimit::Member& member,
         std::unique_ptr<RequestBuffers> buffers, std::unique_ptr<Session> session);
  void Run() noexcept;
  // false when there is nothing more to read, ever.
  bool ServeOne();
  void Serve(std::span<std::byte> request);

  const int fuse_fd_;
  ConcurrencyLimit::Member& member_;
  const std::unique_ptr<RequestBuffers> buffers_;
  const std::unique_ptr<Session> session_;
  FastIo fast_io_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_WORKER_H_
