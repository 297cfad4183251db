// SteppingExecutor: for tests. Nothing runs until the test says so, on the test's own thread, and
// time stands still until the test moves it, so one test run is like every other.
//
// Post and PostAfter may be called from any thread; the order of tasks is then that of the calls.
#ifndef CAIRN_SRC_BASE_STEPPING_EXECUTOR_H_
#define CAIRN_SRC_BASE_STEPPING_EXECUTOR_H_

#include <chrono>
#include <cstddef>
#include <map>

#include "src/base/executor.h"
#include "src/base/mutex.h"
#include "src/base/task_queue.h"
#include "src/base/thread_annotations.h"

namespace cairn {

class SteppingExecutor final : public Executor {
 public:
  SteppingExecutor() = default;
  ~SteppingExecutor() override;
  SteppingExecutor(const SteppingExecutor&) = delete;
  SteppingExecutor& operator=(const SteppingExecutor&) = delete;

  void Post(Task task) override;
  // A delay of zero or less is Post.
  void PostAfter(std::chrono::milliseconds delay, Task task) override;
  // RunAll(): there is nobody else to wait for.
  void Drain() override;

  // Runs the oldest queued task; false when none is queued.
  bool RunOne();
  // Runs tasks until none is queued, those included that the tasks post meanwhile; returns how
  // many. A task that always posts itself again keeps it from returning.
  size_t RunAll();
  // Moves time on by `step` and queues, without running them, the delayed tasks that are due
  // then, in order of their deadlines and, for equal deadlines, of the calls.
  // REQUIRES: step >= 0.
  void AdvanceTime(std::chrono::milliseconds step);

  // How many tasks are queued; how many wait for their time.
  size_t queued_count() const { return queue_.size(); }
  size_t delayed_count() const;

 private:
  TaskQueue queue_;

  mutable Mutex mu_;
  std::chrono::milliseconds now_ CAIRN_GUARDED_BY(mu_){0};
  // By deadline; equal keys stay in the order of insertion.
  std::multimap<std::chrono::milliseconds, Task> delayed_ CAIRN_GUARDED_BY(mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_STEPPING_EXECUTOR_H_
