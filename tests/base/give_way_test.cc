#include "src/base/give_way.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <semaphore>
#include <thread>

#include "src/base/gate.h"

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
    std::binary_semaphore go(0);
    const std::jthread waiting([&] {
      go.acquire();
      ran = true;
    });
    // It gets there when this one sleeps; who may run then is still behind this one.
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    go.release();
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

void RunLong() {
  const std::clock_t end = std::clock() + CLOCKS_PER_SEC / 500;
  while (std::clock() < end) {
  }
}

TEST(GiveWayTest, WhoHasNotRunLongGoesOn) {
  RunLong();
  GiveWay();
  const long before = TimesGivenWay();
  GiveWay();
  EXPECT_EQ(TimesGivenWay(), before);
  RunLong();
  GiveWay();
  EXPECT_EQ(TimesGivenWay(), before + 1);
}

void HoldGatesClosed() CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  Gate one;
  Gate two;
  one.Close();
  ASSERT_TRUE(two.BeginClose(Clock::now() + std::chrono::seconds(10)));
  const long before = TimesGivenWay();
  RunLong();
  GiveWay();
  one.Open();
  GiveWay();
  EXPECT_EQ(TimesGivenWay(), before);
  two.Open();
  GiveWay();
  EXPECT_EQ(TimesGivenWay(), before + 1);
}

TEST(GiveWayTest, WhoHoldsAGateClosedGoesOn) { HoldGatesClosed(); }

}  // namespace
}  // namespace cairn
