// TaskQueue: the tasks of one executor that wait, and the count of those that run.
//
// The executors of this folder differ only in which threads call Run*; order, draining and
// shutting down are here. Thread-safe. Tasks are destroyed outside the lock, so a task, or what
// it has captured, may call back into the queue.
#ifndef CAIRN_SRC_BASE_TASK_QUEUE_H_
#define CAIRN_SRC_BASE_TASK_QUEUE_H_

#include <cstddef>
#include <deque>

#include "src/base/executor.h"
#include "src/base/mutex.h"
#include "src/base/thread_annotations.h"

namespace cairn {

class TaskQueue {
 public:
  // More than `limit` waiting tasks stop the process: see kMaxQueuedTasks.
  explicit TaskQueue(size_t limit = kMaxQueuedTasks) : limit_(limit) {}
  // REQUIRES: nobody waits in, or runs a task of, this queue.
  ~TaskQueue() = default;
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  // Appends `task`; false, and the task is dropped, after Shut().
  bool Push(Executor::Task task);
  // Runs the oldest waiting task on the calling thread; false when none waits. A task counts as
  // running until it and what it has captured are destroyed.
  bool RunOne();
  // Waits for a task and runs it; false once the queue is shut.
  bool WaitAndRunOne();
  // Returns when no task waits or runs. Not for use by a task.
  void WaitIdle();
  // Drops the tasks that wait and all later ones. Does not wait for those that run.
  void Shut();
  // How many tasks wait.
  size_t size() const;

 private:
  // Lets go of mu_ while the task runs. REQUIRES: a task waits.
  void RunFront() noexcept CAIRN_REQUIRES(mu_);

  const size_t limit_;

  mutable Mutex mu_;
  CondVar pushed_or_shut_;
  CondVar idle_;
  std::deque<Executor::Task> waiting_ CAIRN_GUARDED_BY(mu_);
  size_t running_ CAIRN_GUARDED_BY(mu_) = 0;
  bool shut_ CAIRN_GUARDED_BY(mu_) = false;
};

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_TASK_QUEUE_H_
