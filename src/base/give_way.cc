#include "src/base/give_way.h"

#include <chrono>
#include <ctime>
#include <thread>

#include "src/base/gate.h"

namespace cairn {
namespace {

constexpr std::chrono::microseconds kTurn(200);
// To this the kernel adds the slack of its timers, 50 us. A sched_yield would do less and cost
// more: the scheduler runs who yielded again if those who wait have had more than their share (up
// to 6 ms, traced), else takes the rest of its slice away.
constexpr std::chrono::microseconds kSleep(10);

thread_local long times = 0;

std::chrono::nanoseconds TimeOnCores() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

void GiveWay() {
  thread_local std::chrono::nanoseconds turn_began{0};
  if (HoldsClosedGate() || TimeOnCores() - turn_began < kTurn) return;
  ++times;
  std::this_thread::sleep_for(kSleep);
  turn_began = TimeOnCores();
}

long TimesGivenWay() { return times; }

}  // namespace cairn
