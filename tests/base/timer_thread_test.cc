#include "src/base/timer_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <latch>
#include <memory>
#include <vector>

namespace cairn {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::ElementsAre;

TEST(TimerThreadTest, NeverCallsBackEarly) {
  TimerThread timer;
  const auto start = steady_clock::now();
  steady_clock::time_point called;
  std::latch done(1);
  // Others wake the thread again and again before it is time.
  for (int delay_ms = 0; delay_ms < 20; ++delay_ms) {
    timer.RunAfter(milliseconds(delay_ms), [] {});
  }
  timer.RunAfter(milliseconds(20), [&] {
    called = steady_clock::now();
    done.count_down();
  });
  done.wait();
  EXPECT_GE(called - start, milliseconds(20));
}

TEST(TimerThreadTest, OrdersByDeadlineThenByCall) {
  TimerThread timer;
  std::vector<int> order;
  std::latch blocked(1);
  std::latch done(5);
  const auto note = [&](int value) {
    return [&, value] {
      order.push_back(value);
      done.count_down();
    };
  };
  // Held back until all are registered, the callbacks run by their deadlines alone.
  timer.RunAfter(milliseconds(0), [&] { blocked.wait(); });
  timer.RunAfter(milliseconds(400), note(4));
  timer.RunAfter(milliseconds(200), note(2));
  timer.RunAfter(milliseconds(300), note(3));
  timer.RunAfter(milliseconds(-5), note(0));
  timer.RunAfter(milliseconds(0), note(1));
  blocked.count_down();
  done.wait();
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

// Hangs, and so fails, when the thread sleeps on towards the deadline it saw first.
TEST(TimerThreadTest, AnEarlierDeadlineWakesTheThread) {
  TimerThread timer;
  timer.RunAfter(hours(1), [] {});
  std::latch ready(1);
  timer.RunAfter(milliseconds(1), [&] { ready.count_down(); });
  ready.wait();
  std::latch again(1);
  timer.RunAfter(milliseconds(1), [&] { again.count_down(); });
  again.wait();
}

TEST(TimerThreadTest, CallbacksMaySetTimers) {
  TimerThread timer;
  std::latch done(1);
  timer.RunAfter(milliseconds(1), [&] {
    timer.RunAfter(milliseconds(1),
                   [&] { timer.RunAfter(milliseconds(1), [&] { done.count_down(); }); });
  });
  done.wait();
}

TEST(TimerThreadTest, TheLongestDelayIsNotInThePast) {
  TimerThread timer;
  bool called = false;
  timer.RunAfter(milliseconds::max(), [&] { called = true; });
  std::latch done(1);
  timer.RunAfter(milliseconds(2), [&] { done.count_down(); });
  done.wait();
  timer.WaitForDue();
  timer.Stop();
  EXPECT_FALSE(called);
}

TEST(TimerThreadTest, WaitForDueCoversTheCallbackThatRuns) {
  TimerThread timer;
  std::latch running(1);
  std::latch release(1);
  int count = 0;
  timer.RunAfter(milliseconds(0), [&] {
    running.count_down();
    release.wait();
    ++count;
  });
  timer.RunAfter(milliseconds(0), [&] { ++count; });
  timer.RunAfter(hours(1), [&] { ++count; });
  running.wait();
  release.count_down();
  timer.WaitForDue();
  EXPECT_EQ(count, 2);
}

TEST(TimerThreadTest, StopDropsWhatWaitsAndWhatComes) {
  TimerThread timer;
  const auto held = std::make_shared<int>(0);
  timer.RunAfter(hours(1), [held] { ++*held; });
  timer.Stop();
  EXPECT_EQ(held.use_count(), 1);
  timer.RunAfter(milliseconds(0), [held] { ++*held; });
  EXPECT_EQ(held.use_count(), 1);
  timer.WaitForDue();
  timer.Stop();
  EXPECT_EQ(*held, 0);
}

}  // namespace
}  // namespace cairn
