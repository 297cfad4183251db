#include "src/base/timer_thread.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "src/base/check.h"
#include "src/base/executor.h"

namespace cairn {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// A century in nanoseconds still leaves the clock room to add to.
constexpr milliseconds kLongestDelay = std::chrono::hours(24 * 365 * 100);

}  // namespace

TimerThread::TimerThread() : thread_([this] { Loop(); }) {}

TimerThread::~TimerThread() { Stop(); }

bool TimerThread::RunsAfter(const Entry& a, const Entry& b) {
  return std::tie(a.deadline, a.sequence) > std::tie(b.deadline, b.sequence);
}

void TimerThread::RunAfter(milliseconds delay, Callback callback) {
  const TimePoint deadline =
      steady_clock::now() + std::clamp(delay, milliseconds::zero(), kLongestDelay);
  const MutexLock lock(mu_);
  if (stopping_) return;
  CAIRN_CHECK(heap_.size() < kMaxQueuedTasks);
  const uint64_t sequence = next_sequence_++;
  heap_.push_back({deadline, sequence, std::move(callback)});
  std::push_heap(heap_.begin(), heap_.end(), RunsAfter);
  if (heap_.front().sequence == sequence) changed_.NotifyOne();
}

void TimerThread::WaitForDue() {
  const TimePoint now = steady_clock::now();
  const MutexLock lock(mu_);
  while (!stopping_ && (in_callback_ || (!heap_.empty() && heap_.front().deadline <= now))) {
    callback_done_.Wait(mu_);
  }
}

void TimerThread::Stop() {
  std::vector<Entry> dropped;
  {
    const MutexLock lock(mu_);
    stopping_ = true;
    dropped.swap(heap_);
    changed_.NotifyOne();
    callback_done_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void TimerThread::Loop() noexcept {
  const MutexLock lock(mu_);
  while (!stopping_) {
    if (heap_.empty()) {
      changed_.Wait(mu_);
      continue;
    }
    const steady_clock::duration left = heap_.front().deadline - steady_clock::now();
    if (left > steady_clock::duration::zero()) {
      changed_.WaitFor(mu_, std::chrono::ceil<milliseconds>(left));
      continue;
    }
    std::pop_heap(heap_.begin(), heap_.end(), RunsAfter);
    Callback callback = std::move(heap_.back().callback);
    heap_.pop_back();
    in_callback_ = true;
    mu_.Unlock();
    callback();
    callback = nullptr;
    mu_.Lock();
    in_callback_ = false;
    callback_done_.NotifyAll();
  }
}

}  // namespace cairn
