#include "src/base/gate.h"

#include <gtest/gtest.h>

#include <atomic>
#include <latch>
#include <thread>
#include <vector>

namespace cairn {
namespace {

TEST(GateTest, ManyAreInsideTogether) {
  Gate gate;
  constexpr int kThreads = 4;
  std::latch all_inside(kThreads);  // hangs if one keeps another out
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      const GateEntry entry(gate);
      all_inside.arrive_and_wait();
    });
  }
}

// `plain` is not atomic on purpose: it is only right, and ThreadSanitizer only silent, if closing
// keeps everybody out and passes on what they wrote.
TEST(GateTest, TheCloserSeesNobodyInside) {
  Gate gate;
  constexpr int kThreads = 4;
  constexpr int kClosures = 2000;
  std::atomic<int> inside{0};
  std::atomic<bool> stop{false};
  std::atomic<int64_t> entries{0};
  int plain = 0;
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        const GateEntry entry(gate);
        inside.fetch_add(1, std::memory_order_relaxed);
        EXPECT_EQ(plain % 2, 0);
        entries.fetch_add(1, std::memory_order_relaxed);
        inside.fetch_sub(1, std::memory_order_relaxed);
      }
    });
  }
  while (entries.load(std::memory_order_relaxed) == 0) std::this_thread::yield();
  for (int i = 0; i < kClosures; ++i) {
    const GateClosure closure(gate);
    EXPECT_EQ(inside.load(std::memory_order_relaxed), 0);
    ++plain;
    std::this_thread::yield();
    EXPECT_EQ(inside.load(std::memory_order_relaxed), 0);
    ++plain;
  }
  stop = true;
  threads.clear();
  EXPECT_EQ(plain, 2 * kClosures);
}

// Two threads hand over to each other so that one of them is inside at every moment. Behind a
// lock that prefers readers the closer waits for ever.
TEST(GateTest, AStreamOfEntriesDoesNotStarveTheCloser) {
  Gate gate;
  std::atomic<bool> stop{false};
  std::atomic<int> inside{0};
  std::latch started(2);
  std::atomic<bool> closing{false};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      bool first = true;
      while (!stop.load()) {
        const GateEntry entry(gate);
        inside.fetch_add(1);
        if (first) started.arrive_and_wait();
        first = false;
        // Leaves only when the other one is inside too, or can no longer come in.
        while (inside.load() < 2 && !closing.load()) std::this_thread::yield();
        inside.fetch_sub(1);
      }
    });
  }
  started.wait();
  for (int i = 0; i < 200; ++i) {
    closing = true;
    {
      const GateClosure closure(gate);
      EXPECT_EQ(inside.load(), 0);
    }
    closing = false;
    std::this_thread::yield();
  }
  closing = true;
  stop = true;
}

TEST(GateTest, WhoComesWhileItIsClosedEntersWhenItOpens) {
  Gate gate;
  constexpr int kThreads = 3;
  std::atomic<bool> open{false};
  std::latch arriving(kThreads);
  std::vector<std::jthread> threads;
  {
    const GateClosure closure(gate);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&] {
        arriving.count_down();
        const GateEntry entry(gate);
        EXPECT_TRUE(open.load());
      });
    }
    arriving.wait();
    for (int i = 0; i < 100; ++i) std::this_thread::yield();
    open = true;
  }
}

TEST(GateTest, ClosersQueue) {
  Gate gate;
  constexpr int kThreads = 3;
  constexpr int kRounds = 1000;
  int plain = 0;  // see TheCloserSeesNobodyInside
  std::atomic<int> closers{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        {
          const GateClosure closure(gate);
          EXPECT_EQ(closers.fetch_add(1), 0);
          ++plain;
          std::this_thread::yield();
          closers.fetch_sub(1);
        }
        const GateEntry entry(gate);
        EXPECT_EQ(closers.load(), 0);
      }
    });
  }
  threads.clear();
  EXPECT_EQ(plain, kThreads * kRounds);
  const GateEntry entry(gate);  // left open
}

// One thread plays several parts, which the analysis cannot follow.
void WaitTooLong(Gate& gate) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  const auto soon = [] { return std::chrono::steady_clock::now() + std::chrono::milliseconds(20); };
  gate.Enter();
  ASSERT_TRUE(gate.BeginClose(soon()));
  EXPECT_FALSE(gate.AwaitEmpty(soon()));
  // Another closer has to wait for the first one.
  EXPECT_FALSE(gate.BeginClose(soon()));
  gate.Open();
  gate.Enter();
  gate.Leave();
  gate.Leave();
  ASSERT_TRUE(gate.BeginClose(soon()));
  EXPECT_TRUE(gate.AwaitEmpty(soon()));
  gate.Open();
}

TEST(GateTest, ACloserThatWaitsTooLongLetsEverybodyGoOn) {
  Gate gate;
  WaitTooLong(gate);
}

}  // namespace
}  // namespace cairn
