#include "src/base/stepping_executor.h"

#include <algorithm>
#include <utility>

#include "src/base/check.h"

namespace cairn {

using std::chrono::milliseconds;

SteppingExecutor::~SteppingExecutor() {
  queue_.Shut();
  // Dropped outside the lock: what a task has captured may call PostAfter.
  std::multimap<milliseconds, Task> dropped;
  const MutexLock lock(mu_);
  dropped.swap(delayed_);
}

void SteppingExecutor::Post(Task task) { queue_.Push(std::move(task)); }

void SteppingExecutor::PostAfter(milliseconds delay, Task task) {
  if (delay <= milliseconds::zero()) {
    Post(std::move(task));
    return;
  }
  const MutexLock lock(mu_);
  CAIRN_CHECK(delayed_.size() < kMaxQueuedTasks);
  delayed_.emplace(now_ + std::min(delay, milliseconds::max() - now_), std::move(task));
}

void SteppingExecutor::Drain() { RunAll(); }

bool SteppingExecutor::RunOne() { return queue_.RunOne(); }

size_t SteppingExecutor::RunAll() {
  size_t count = 0;
  while (queue_.RunOne()) ++count;
  return count;
}

void SteppingExecutor::AdvanceTime(milliseconds step) {
  CAIRN_CHECK(step >= milliseconds::zero());
  const MutexLock lock(mu_);
  now_ += std::min(step, milliseconds::max() - now_);
  while (!delayed_.empty() && delayed_.begin()->first <= now_) {
    queue_.Push(std::move(delayed_.begin()->second));
    delayed_.erase(delayed_.begin());
  }
}

size_t SteppingExecutor::delayed_count() const {
  const MutexLock lock(mu_);
  return delayed_.size();
}

}  // namespace cairn
