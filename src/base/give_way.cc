#include "src/base/give_way.h"

#include <chrono>
#include <thread>

namespace cairn {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::microseconds kTurn(200);
// To this the kernel adds the slack of its timers, 50 us. A sched_yield would do less and cost
// more: the scheduler runs who yielded again if those who wait have had more than their share (up
// to 6 ms, traced), else takes the rest of its slice away.
constexpr std::chrono::microseconds kSleep(10);

thread_local long times = 0;

}  // namespace

void GiveWay() {
  thread_local Clock::time_point turn_began;
  if (Clock::now() - turn_began < kTurn) return;
  ++times;
  std::this_thread::sleep_for(kSleep);
  turn_began = Clock::now();
}

long TimesGivenWay() { return times; }

}  // namespace cairn
