// ThreadExecutor: a fixed pool of std::thread on one queue.
#include <thread>
#include <utility>
#include <vector>

#include "src/base/check.h"
#include "src/base/executor.h"
#include "src/base/task_queue.h"
#include "src/base/timer_thread.h"

namespace cairn {
namespace {

class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(int thread_count) {
    CAIRN_CHECK(thread_count >= 1);
    for (int i = 0; i < thread_count; ++i) {
      workers_.emplace_back([this] {
        while (queue_.WaitAndRunOne()) {
        }
      });
    }
  }

  ~ThreadExecutor() override {
    timer_.Stop();
    queue_.Shut();
    for (std::thread& worker : workers_) worker.join();
  }

  ThreadExecutor(const ThreadExecutor&) = delete;
  ThreadExecutor& operator=(const ThreadExecutor&) = delete;

  void Post(Task task) override { queue_.Push(std::move(task)); }

  void PostAfter(std::chrono::milliseconds delay, Task task) override {
    timer_.RunAfter(delay,
                    [this, task = std::move(task)]() mutable { queue_.Push(std::move(task)); });
  }

  void Drain() override {
    timer_.WaitForDue();
    queue_.WaitIdle();
  }

 private:
  TaskQueue queue_;
  TimerThread timer_;
  std::vector<std::thread> workers_;
};

}  // namespace

std::unique_ptr<Executor> NewThreadExecutor(int thread_count) {
  return std::make_unique<ThreadExecutor>(thread_count);
}

}  // namespace cairn
