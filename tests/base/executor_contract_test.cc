// What executor.h promises, of the executor that has threads. A promise of the kind
// "returns at last" is tested by hanging, which ctest's time limit turns into a failure.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/executor.h"

namespace cairn {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

TEST(ExecutorContract, EveryTaskOfManyPostersRunsOnce) {
  constexpr int kPosters = 3;
  constexpr int kTasks = 2000;
  const auto executor = NewThreadExecutor(3);
  std::vector<std::atomic<int>> runs(kPosters * kTasks);
  std::vector<std::jthread> posters;
  for (int poster = 0; poster < kPosters; ++poster) {
    posters.emplace_back([&, poster] {
      for (int i = 0; i < kTasks; ++i) {
        executor->Post([&runs, index = poster * kTasks + i] { ++runs[index]; });
      }
    });
  }
  posters.clear();
  executor->Drain();
  for (const std::atomic<int>& count : runs) ASSERT_EQ(count, 1);
}

TEST(ExecutorContract, TasksRunThoughNobodyWaitsInTheExecutor) {
  for (const int thread_count : {1, 2}) {
    const auto executor = NewThreadExecutor(thread_count);
    std::latch done(1);
    std::thread::id ran_on;
    executor->Post([&] {
      ran_on = std::this_thread::get_id();
      done.count_down();
    });
    done.wait();
    EXPECT_NE(ran_on, std::this_thread::get_id());
  }
}

TEST(ExecutorContract, AsManyTasksRunTogetherAsThereAreThreads) {
  // More threads than the machine has cores: tasks block on I/O.
  const int thread_count = static_cast<int>(std::thread::hardware_concurrency()) + 3;
  const auto executor = NewThreadExecutor(thread_count);
  std::latch together(thread_count);
  for (int i = 0; i < thread_count; ++i) {
    executor->Post([&] { together.arrive_and_wait(); });
  }
  executor->Drain();
}

TEST(ExecutorContract, NoMoreTasksRunTogetherThanThereAreThreads) {
  const auto executor = NewThreadExecutor(2);
  std::atomic<int> running{0};
  std::atomic<int> most{0};
  for (int i = 0; i < 200; ++i) {
    executor->Post([&] {
      const int now = ++running;
      int seen = most;
      while (seen < now && !most.compare_exchange_weak(seen, now)) {
      }
      std::this_thread::yield();
      --running;
    });
  }
  executor->Drain();
  EXPECT_LE(most, 2);
}

TEST(ExecutorContract, TwoExecutorsDoNotHoldEachOtherUp) {
  const auto first = NewThreadExecutor(2);
  const auto second = NewThreadExecutor(2);
  std::latch release(1);
  std::latch blocked(2);
  for (int i = 0; i < 2; ++i) {
    first->Post([&] {
      blocked.count_down();
      release.wait();
    });
  }
  blocked.wait();
  bool ran = false;
  second->Post([&] { ran = true; });
  second->Drain();
  EXPECT_TRUE(ran);
  release.count_down();
  first->Drain();
}

TEST(ExecutorContract, OneThreadKeepsTheOrder) {
  const auto executor = NewThreadExecutor(1);
  std::vector<int> order;
  for (int i = 0; i < 500; ++i) {
    executor->Post([&order, i] { order.push_back(i); });
  }
  executor->Drain();
  ASSERT_EQ(order.size(), 500u);
  for (int i = 0; i < 500; ++i) ASSERT_EQ(order[i], i);
}

TEST(ExecutorContract, DelayedTasksAreNotEarlyAndRunOnTheExecutor) {
  const auto executor = NewThreadExecutor(1);
  std::thread::id worker;
  executor->Post([&] { worker = std::this_thread::get_id(); });
  executor->Drain();
  std::latch done(1);
  std::thread::id ran_on;
  steady_clock::time_point ran_at;
  const auto start = steady_clock::now();
  executor->PostAfter(milliseconds(15), [&] {
    ran_at = steady_clock::now();
    ran_on = std::this_thread::get_id();
    done.count_down();
  });
  done.wait();
  EXPECT_GE(ran_at - start, milliseconds(15));
  EXPECT_EQ(ran_on, worker);
}

TEST(ExecutorContract, DrainCoversWhatTasksPostAndWhatTheyCaptured) {
  const auto executor = NewThreadExecutor(2);
  const auto held = std::make_shared<std::atomic<int>>(0);
  for (int i = 0; i < 50; ++i) {
    executor->Post([&executor, held] {
      executor->Post([&executor, held] { executor->Post([held] { ++*held; }); });
    });
  }
  executor->Drain();
  EXPECT_EQ(*held, 50);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(ExecutorContract, DrainWaitsForTheTaskThatRuns) {
  const auto executor = NewThreadExecutor(2);
  std::latch running(1);
  std::atomic<bool> finished{false};
  executor->Post([&] {
    running.count_down();
    std::this_thread::sleep_for(milliseconds(20));  // a Drain that does not wait is faster
    finished = true;
  });
  running.wait();
  executor->Drain();
  EXPECT_TRUE(finished);
}

TEST(ExecutorContract, DrainDoesNotWaitForDelayedTasks) {
  const auto executor = NewThreadExecutor(1);
  executor->PostAfter(hours(1), [] {});
  executor->Drain();
}

TEST(ExecutorContract, DrainCoversDelayedTasksThatAreDue) {
  const auto executor = NewThreadExecutor(1);
  for (int i = 0; i < 50; ++i) {
    std::atomic<bool> ran{false};
    executor->PostAfter(milliseconds(1), [&ran] { ran = true; });
    const auto due = steady_clock::now() + milliseconds(1);
    while (steady_clock::now() < due) std::this_thread::yield();  // a sleep would be too long
    executor->Drain();
    ASSERT_TRUE(ran) << i;
  }
}

TEST(ExecutorContract, DestructionFinishesWhatRunsAndDropsTheRest) {
  auto owner = NewThreadExecutor(1);
  Executor* const executor = owner.get();  // the task's: reset() empties `owner` first
  std::latch running(1);
  std::latch dropped(1);
  std::atomic<bool> finished{false};
  std::atomic<int> ran_late{0};
  executor->Post([&, executor] {
    running.count_down();
    // Goes on only when the destructor has dropped the task that waits.
    dropped.wait();
    executor->Post([&] { ++ran_late; });
    executor->PostAfter(milliseconds(0), [&] { ++ran_late; });
    finished = true;
  });
  const auto delayed = std::make_shared<int>(0);
  executor->PostAfter(hours(1), [delayed, &ran_late] { ++ran_late; });
  running.wait();
  std::shared_ptr<void> tells(nullptr, [&](void*) { dropped.count_down(); });
  executor->Post([tells = std::move(tells), &ran_late] { ++ran_late; });
  owner.reset();
  EXPECT_TRUE(finished);
  EXPECT_EQ(ran_late, 0);
  EXPECT_EQ(delayed.use_count(), 1);
}

TEST(ExecutorContract, CreatedAndDestroyedUnderLoad) {
  for (int i = 0; i < 50; ++i) {
    const auto held = std::make_shared<std::atomic<int>>(0);
    {
      const auto executor = NewThreadExecutor(2);
      for (int task = 0; task < 20; ++task) executor->Post([held] { ++*held; });
      executor->PostAfter(milliseconds(1), [held] { ++*held; });
    }
    ASSERT_EQ(held.use_count(), 1);
    ASSERT_LE(*held, 21);
  }
}

}  // namespace
}  // namespace cairn
