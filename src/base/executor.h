// Executor: where background work runs. No module starts a thread of its own.
//
// Two implementations: ThreadExecutor (production: a fixed number of std::thread, which sleep while
// there is nothing to do, and a timer thread) and SteppingExecutor (tests: nothing runs until the
// test says so, time is the test's).
#ifndef CAIRN_SRC_BASE_EXECUTOR_H_
#define CAIRN_SRC_BASE_EXECUTOR_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>

namespace cairn {

// What bounds an executor's queue is its users: each keeps a fixed number of tasks in flight (one
// flush a volume, one step of a scan) and posts the next when one ends. Post cannot be the bound:
// it may be called by a task, which must not wait for another. So a queue, or a set of delayed
// tasks, that reaches this many is a bug of ours and stops the process.
inline constexpr size_t kMaxQueuedTasks = size_t{1} << 20;

class Executor {
 public:
  using Task = std::function<void()>;

  // Finishes the tasks that run, drops those that do not yet run.
  virtual ~Executor() = default;

  // Any thread. The task runs once, on a thread of the executor, soon. It must not throw; it may
  // block on I/O, but must not wait for another task of this executor.
  virtual void Post(Task task) = 0;
  // The same, not before `delay` has passed.
  virtual void PostAfter(std::chrono::milliseconds delay, Task task) = 0;
  // Waits until no task is queued or running; delayed tasks that are not due do not count.
  virtual void Drain() = 0;
};

// `thread_count` >= 1.
std::unique_ptr<Executor> NewThreadExecutor(int thread_count);

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_EXECUTOR_H_
