#include "src/base/give_way.h"

#include <sched.h>

#include <chrono>

namespace cairn {
namespace {

using Clock = std::chrono::steady_clock;

// Who gives way leaves the rest of its slice to others and may have to wait for some of them: with
// 0.1 ms a snapshot of 1000 busy volumes took a sixth longer than with this.
constexpr std::chrono::microseconds kTurn(200);

}  // namespace

void GiveWay() {
  thread_local Clock::time_point turn_began;
  if (Clock::now() - turn_began < kTurn) return;
  sched_yield();
  turn_began = Clock::now();
}

}  // namespace cairn
