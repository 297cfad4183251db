// ConcurrencyLimit under threads that take pieces of work from a queue, as workers take requests
// from the kernel.
#include "fusefs/concurrency_limit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "src/base/blocking.h"

namespace cairn {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kNeverLooks = std::chrono::hours(1);
constexpr std::chrono::seconds kLong{30};

// Waits for a condition that other threads bring about; false after a long time.
bool Eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kLong;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return true;
}

class Door {
 public:
  void Open() {
    const std::lock_guard lock(mu_);
    open_ = true;
    opened_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mu_);
    opened_.wait(lock, [this] { return open_; });
  }

 private:
  std::mutex mu_;
  std::condition_variable opened_;
  bool open_ = false;
};

class Crew {
 public:
  using Work = std::function<void()>;

  Crew(int limit, int thread_count, milliseconds watch_interval)
      : limit_(limit, thread_count, watch_interval), thread_count_(thread_count) {
    EXPECT_TRUE(limit_.Start().ok());
    for (int i = 0; i < thread_count; ++i) {
      threads_.emplace_back([this, i] { Run(limit_.member(static_cast<size_t>(i))); });
    }
  }
  ~Crew() { Stop(); }

  void Give(Work work) {
    const std::lock_guard lock(mu_);
    queue_.push_back(std::move(work));
    given_.notify_one();
  }
  void Stop() {
    limit_.Stop();
    {
      const std::lock_guard lock(mu_);
      stopping_ = true;
      given_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  int reading() {
    const std::lock_guard lock(mu_);
    return reading_;
  }
  int parked() {
    int count = 0;
    for (int i = 0; i < thread_count_; ++i) {
      count += limit_.member(static_cast<size_t>(i)).parked() ? 1 : 0;
    }
    return count;
  }

 private:
  void Run(ConcurrencyLimit::Member& member) {
    SetBlockingListener(&member);
    while (member.BeginRead()) {
      Work work = Read();
      member.BeginWork();
      if (!work) return;
      work();
    }
  }
  Work Read() {
    std::unique_lock lock(mu_);
    ++reading_;
    given_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    --reading_;
    if (queue_.empty()) return nullptr;
    Work work = std::move(queue_.front());
    queue_.pop_front();
    return work;
  }

  ConcurrencyLimit limit_;
  const int thread_count_;
  std::mutex mu_;
  std::condition_variable given_;
  std::deque<Work> queue_;
  int reading_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

// How many are inside at once, and were at most.
class Counter {
 public:
  void Enter() {
    const int now = ++now_;
    int most = most_;
    while (now > most && !most_.compare_exchange_weak(most, now)) {
    }
  }
  void Leave() {
    --now_;
    ++total_;
  }
  int now() const { return now_; }
  int most() const { return most_; }
  int total() const { return total_; }

 private:
  std::atomic<int> now_{0};
  std::atomic<int> most_{0};
  std::atomic<int> total_{0};
};

TEST(ConcurrencyLimit, NoMoreThreadsWorkThanTheLimit) {
  Crew crew(3, 8, kNeverLooks);
  Counter counter;
  Door door;
  for (int i = 0; i < 8; ++i) {
    crew.Give([&] {
      counter.Enter();
      door.Pass();
      counter.Leave();
    });
  }
  EXPECT_TRUE(Eventually([&] { return counter.now() == 3 && crew.parked() == 5; }));
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_EQ(counter.most(), 3);
  door.Open();
  EXPECT_TRUE(Eventually([&] { return counter.total() == 8; }));
  EXPECT_EQ(counter.most(), 3);
}

TEST(ConcurrencyLimit, AThreadThatWaitsIsReplaced) {
  Crew crew(2, 6, kNeverLooks);
  Counter waiting;
  Door door;
  for (int i = 0; i < 5; ++i) {
    crew.Give([&] {
      waiting.Enter();
      AboutToBlock();
      AboutToBlock();  // once more: it counts once
      door.Pass();
      waiting.Leave();
    });
  }
  std::atomic<bool> done{false};
  crew.Give([&] { done = true; });
  EXPECT_TRUE(Eventually([&] { return done.load(); })) << waiting.now() << " of 5 wait";
  EXPECT_EQ(waiting.now(), 5);
  door.Open();
  EXPECT_TRUE(Eventually([&] { return waiting.total() == 5 && crew.parked() == 4; }));
}

TEST(ConcurrencyLimit, NobodyIsBroughtInWhileAThreadReads) {
  Crew crew(2, 6, kNeverLooks);
  ASSERT_TRUE(Eventually([&] { return crew.parked() == 4 && crew.reading() == 2; }));
  std::atomic<bool> waits{false};
  Door door;
  crew.Give([&] {
    AboutToBlock();
    waits = true;
    door.Pass();
  });
  ASSERT_TRUE(Eventually([&] { return waits.load(); }));
  EXPECT_EQ(crew.parked(), 4);
  door.Open();
}

TEST(ConcurrencyLimit, TheWatchFindsWaitsThatNobodyTold) {
  Crew crew(2, 6, milliseconds(1));
  Counter waiting;
  Door door;
  // Long idle: the watch sleeps and has to be woken.
  std::this_thread::sleep_for(milliseconds(200));
  for (int i = 0; i < 5; ++i) {
    crew.Give([&] {
      waiting.Enter();
      door.Pass();
      waiting.Leave();
    });
  }
  std::atomic<bool> done{false};
  crew.Give([&] { done = true; });
  EXPECT_TRUE(Eventually([&] { return done.load(); })) << waiting.now() << " of 5 wait";
  door.Open();
}

TEST(ConcurrencyLimit, CountsHoldAfterManyWaits) {
  Crew crew(2, 8, milliseconds(1));
  std::atomic<int> done{0};
  std::minstd_rand random(1);
  constexpr int kPieces = 4000;
  for (int i = 0; i < kPieces; ++i) {
    const bool tells = random() % 3 == 0;
    const bool waits = random() % 8 == 0;
    const milliseconds time(random() % 4);
    crew.Give([&done, tells, waits, time] {
      if (tells) AboutToBlock();
      if (waits) std::this_thread::sleep_for(time);
      ++done;
    });
  }
  EXPECT_TRUE(Eventually([&] { return done == kPieces; }));
  // Whoever was brought in has done its work: two go on, or one too many has yet to park, which it
  // does when it has had something to do.
  const auto settled = [&] {
    crew.Give([] {});
    return crew.parked() == 6;
  };
  EXPECT_TRUE(Eventually(settled)) << crew.parked() << " parked";
}

TEST(ConcurrencyLimit, FewThreadsNeedNoLimit) {
  Crew crew(4, 1, kNeverLooks);
  std::atomic<int> done{0};
  for (int i = 0; i < 10; ++i) crew.Give([&] { ++done; });
  EXPECT_TRUE(Eventually([&] { return done == 10; }));
  EXPECT_EQ(crew.parked(), 0);
}

}  // namespace
}  // namespace cairn
