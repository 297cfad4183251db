#include "src/base/task_queue.h"

#include <utility>

#include "src/base/check.h"

namespace cairn {

bool TaskQueue::Push(Executor::Task task) {
  const MutexLock lock(mu_);
  if (shut_) return false;
  CAIRN_CHECK(waiting_.size() < limit_);
  waiting_.push_back(std::move(task));
  pushed_or_shut_.NotifyOne();
  return true;
}

bool TaskQueue::RunOne() {
  const MutexLock lock(mu_);
  if (waiting_.empty()) return false;
  RunFront();
  return true;
}

bool TaskQueue::WaitAndRunOne() {
  const MutexLock lock(mu_);
  while (waiting_.empty() && !shut_) pushed_or_shut_.Wait(mu_);
  if (waiting_.empty()) return false;
  RunFront();
  return true;
}

void TaskQueue::RunFront() noexcept {
  Executor::Task task = std::move(waiting_.front());
  waiting_.pop_front();
  ++running_;
  mu_.Unlock();
  task();
  task = nullptr;
  mu_.Lock();
  --running_;
  if (running_ == 0 && waiting_.empty()) idle_.NotifyAll();
}

void TaskQueue::WaitIdle() {
  const MutexLock lock(mu_);
  while (running_ > 0 || !waiting_.empty()) idle_.Wait(mu_);
}

void TaskQueue::Shut() {
  std::deque<Executor::Task> dropped;
  const MutexLock lock(mu_);
  shut_ = true;
  dropped.swap(waiting_);
  pushed_or_shut_.NotifyAll();
  if (running_ == 0) idle_.NotifyAll();
}

size_t TaskQueue::size() const {
  const MutexLock lock(mu_);
  return waiting_.size();
}

}  // namespace cairn
