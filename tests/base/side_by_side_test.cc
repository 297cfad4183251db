#include "src/base/side_by_side.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <new>
#include <thread>
#include <vector>

#include "src/base/give_way.h"
#include "src/base/stepping_executor.h"

namespace cairn {
namespace {

constexpr std::chrono::microseconds kNoPatience{0};

void Sleep() { std::this_thread::sleep_for(std::chrono::microseconds(1)); }

TEST(SideBySideTest, EachIsCalledOnce) {
  const auto executor = NewThreadExecutor(3);
  std::vector<std::atomic<int>> calls(1000);
  const auto work = [&](size_t number) {
    ++calls[number];
    if (number % 10 == 0) Sleep();
    return Status::Ok();
  };
  const Status status = ForEachSideBySide(*executor, 4, calls.size(), work, kNoPatience);
  EXPECT_TRUE(status.ok());
  for (const auto& each : calls) EXPECT_EQ(each.load(), 1);
}

TEST(SideBySideTest, OfNoneNoneIsCalled) {
  SteppingExecutor executor;
  EXPECT_TRUE(
      ForEachSideBySide(executor, 4, 0, [](size_t) { return Status(Code::kIo, "called"); }).ok());
  EXPECT_EQ(executor.queued_count(), 0u);
}

// The first is slow enough for a helper to be worth it; with that, the others meet in the latch,
// which opens for two only.
TEST(SideBySideTest, CallsThatWaitRunTwoAtATime) {
  const auto executor = NewThreadExecutor(1);
  std::latch meeting(2);
  const auto work = [&](size_t number) {
    if (number == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    } else {
      meeting.arrive_and_wait();
    }
    return Status::Ok();
  };
  EXPECT_TRUE(ForEachSideBySide(*executor, 2, 3, work, kNoPatience).ok());
}

TEST(SideBySideTest, CallsThatDoNotWaitStayWithTheCaller) {
  SteppingExecutor executor;
  const auto work = [](size_t) { return Status::Ok(); };
  EXPECT_TRUE(ForEachSideBySide(executor, 3, 100, work, std::chrono::hours(1)).ok());
  EXPECT_EQ(executor.queued_count(), 0u);
}

TEST(SideBySideTest, CallsThatOnlyTakeLongStayWithTheCaller) {
  using Clock = std::chrono::steady_clock;
  SteppingExecutor executor;
  const auto work = [](size_t) {
    const auto end = Clock::now() + std::chrono::microseconds(500);
    while (Clock::now() < end) {
    }
    GiveWay();
    return Status::Ok();
  };
  EXPECT_TRUE(ForEachSideBySide(executor, 3, 5, work, kNoPatience).ok());
  // One at most: now and then a sleep is over before it has begun, and counts for another.
  EXPECT_LT(executor.queued_count(), 2u);
}

TEST(SideBySideTest, NoMoreThanAskedForRunAtATime) {
  const auto executor = NewThreadExecutor(6);
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  const auto work = [&](size_t) {
    const int now = ++running;
    int seen = most.load();
    while (seen < now && !most.compare_exchange_weak(seen, now)) {
    }
    Sleep();
    --running;
    return Status::Ok();
  };
  EXPECT_TRUE(ForEachSideBySide(*executor, 2, 300, work, kNoPatience).ok());
  EXPECT_LE(most.load(), 2);
}

TEST(SideBySideTest, AnExecutorThatRunsNothingLeavesItToTheCaller) {
  SteppingExecutor executor;
  int calls = 0;
  const auto work = [&](size_t number) {
    EXPECT_EQ(number, static_cast<size_t>(calls));
    ++calls;
    Sleep();
    return Status::Ok();
  };
  EXPECT_TRUE(ForEachSideBySide(executor, 4, 10, work, kNoPatience).ok());
  EXPECT_EQ(calls, 10);
  EXPECT_EQ(executor.queued_count(), 3u);
  // What was posted comes too late, and finds nothing.
  executor.RunAll();
  EXPECT_EQ(calls, 10);
}

TEST(SideBySideTest, AFailureIsReturnedAndNoFurtherOneBegins) {
  SteppingExecutor executor;
  int calls = 0;
  const Status status = ForEachSideBySide(executor, 4, 10, [&](size_t number) {
    ++calls;
    return number == 3 ? Status(Code::kNoSpace, "the fourth") : Status::Ok();
  });
  EXPECT_EQ(status.code(), Code::kNoSpace);
  EXPECT_EQ(status.context(), "the fourth");
  EXPECT_EQ(calls, 4);
}

// On whichever thread.
TEST(SideBySideTest, WhatACallThrowsIsThrownOnceNoneRuns) {
  const auto executor = NewThreadExecutor(3);
  std::atomic<int> running{0};
  const auto work = [&](size_t number) {
    ++running;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    --running;
    if (number == 20) throw std::bad_alloc();
    return Status::Ok();
  };
  EXPECT_THROW((void)ForEachSideBySide(*executor, 4, 1000, work, kNoPatience), std::bad_alloc);
  EXPECT_EQ(running.load(), 0);
}

}  // namespace
}  // namespace cairn
