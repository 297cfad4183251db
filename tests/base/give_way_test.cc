#include "src/base/give_way.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace cairn {
namespace {

using Clock = std::chrono::steady_clock;

// Leaves the thread one core, which it keeps for as long as it neither sleeps nor gives way;
// threads that it starts have the same. False where that is not allowed.
bool HaveOneCoreFirstComeFirstServed() {
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) return false;
  int core = 0;
  while (core < CPU_SETSIZE && !CPU_ISSET(core, &allowed)) ++core;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  const sched_param priority{.sched_priority = 1};
  return sched_setaffinity(0, sizeof(one), &one) == 0 &&
         sched_setscheduler(0, SCHED_FIFO, &priority) == 0;
}

TEST(GiveWayTest, WhoWaitsForTheCoreGetsIt) {
  bool allowed = false;
  bool ran_before = false;
  bool ran_then = false;
  std::atomic<bool> ran{false};
  std::jthread([&] {
    allowed = HaveOneCoreFirstComeFirstServed();
    if (!allowed) return;
    const std::jthread waiting([&] { ran = true; });
    const auto spin_until = [&](std::chrono::milliseconds end, const auto& work) {
      for (const auto began = Clock::now(); !ran && Clock::now() - began < end;) work();
    };
    spin_until(std::chrono::milliseconds(2), [] {});
    ran_before = ran;
    spin_until(std::chrono::milliseconds(500), GiveWay);
    ran_then = ran;
  }).join();
  if (!allowed) GTEST_SKIP() << "this machine lets us not keep a core";
  EXPECT_FALSE(ran_before);
  EXPECT_TRUE(ran_then);
}

}  // namespace
}  // namespace cairn
