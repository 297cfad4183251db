#include "src/base/gate.h"

namespace cairn {

void Gate::EnterSlow() {
  for (;;) {
    // Step back out, so that the closer sees the gate run empty, and wait for it to open.
    const uint32_t before = state_.fetch_sub(1, std::memory_order_release);
    if (before == (kClosed | 1)) state_.notify_all();
    for (uint32_t now = state_.load(std::memory_order_relaxed); now & kClosed;
         now = state_.load(std::memory_order_relaxed)) {
      state_.wait(now, std::memory_order_relaxed);
    }
    if (!(state_.fetch_add(1, std::memory_order_acquire) & kClosed)) return;
  }
}

void Gate::Close() CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  closer_.Lock();
  state_.fetch_or(kClosed, std::memory_order_acquire);
  for (uint32_t now = state_.load(std::memory_order_acquire); now != kClosed;
       now = state_.load(std::memory_order_acquire)) {
    state_.wait(now, std::memory_order_acquire);
  }
}

void Gate::Open() CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  state_.fetch_and(~kClosed, std::memory_order_release);
  state_.notify_all();
  closer_.Unlock();
}

}  // namespace cairn
