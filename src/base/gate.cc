#include "src/base/gate.h"

#include <thread>

namespace cairn {
namespace {

// Asks until `done` or the deadline: often at first, since I/O is short as a rule.
template <typename Done>
bool Poll(Gate::Deadline deadline, Done done) {
  constexpr int kEagerTries = 64;
  constexpr std::chrono::microseconds kLongestPause{200};
  std::chrono::microseconds pause{5};
  for (int tries = 0; !done(); ++tries) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    if (tries < kEagerTries) {
      std::this_thread::yield();
      continue;
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, kLongestPause);
  }
  return true;
}

thread_local int closed_here = 0;

}  // namespace

bool HoldsClosedGate() { return closed_here > 0; }

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
  ++closed_here;
  state_.fetch_or(kClosed, std::memory_order_acquire);
  for (uint32_t now = state_.load(std::memory_order_acquire); now != kClosed;
       now = state_.load(std::memory_order_acquire)) {
    state_.wait(now, std::memory_order_acquire);
  }
}

bool Gate::BeginClose(Deadline deadline) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  if (!Poll(deadline, [this]() CAIRN_NO_THREAD_SAFETY_ANALYSIS { return closer_.TryLock(); })) {
    return false;
  }
  ++closed_here;
  state_.fetch_or(kClosed, std::memory_order_acquire);
  return true;
}

bool Gate::AwaitEmpty(Deadline deadline) {
  return Poll(deadline, [this] { return state_.load(std::memory_order_acquire) == kClosed; });
}

void Gate::Open() CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  state_.fetch_and(~kClosed, std::memory_order_release);
  state_.notify_all();
  --closed_here;
  closer_.Unlock();
}

}  // namespace cairn
