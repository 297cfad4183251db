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

#include "fusefs/limit_finder.h"
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
  ConcurrencyLimit::Counts counts() const { return limit_.counts(); }
  int limit() const { return limit_.limit(); }
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
  Counter counter;
  Door door;
  Crew crew(3, 8, kNeverLooks);
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
  Counter waiting;
  Door door;
  std::atomic<bool> done{false};
  Crew crew(2, 6, kNeverLooks);
  for (int i = 0; i < 5; ++i) {
    crew.Give([&] {
      waiting.Enter();
      AboutToBlock();
      AboutToBlock();  // once more: it counts once
      door.Pass();
      waiting.Leave();
    });
  }
  crew.Give([&] { done = true; });
  EXPECT_TRUE(Eventually([&] { return done && waiting.now() == 5; }))
      << waiting.now() << " of 5 wait";
  door.Open();
  EXPECT_TRUE(Eventually([&] { return waiting.total() == 5 && crew.parked() == 4; }));
}

TEST(ConcurrencyLimit, NobodyIsBroughtInWhileAThreadReads) {
  std::atomic<bool> waits{false};
  Door door;
  Crew crew(2, 6, kNeverLooks);
  EXPECT_TRUE(Eventually([&] { return crew.parked() == 4 && crew.reading() == 2; }));
  crew.Give([&] {
    AboutToBlock();
    waits = true;
    door.Pass();
  });
  EXPECT_TRUE(Eventually([&] { return waits.load(); }));
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_EQ(crew.parked(), 4);
  door.Open();
}

TEST(ConcurrencyLimit, TheWatchFindsWaitsThatNobodyTold) {
  Counter waiting;
  Door door;
  std::atomic<bool> done{false};
  Crew crew(2, 6, milliseconds(1));
  // Long idle: the watch sleeps and has to be woken.
  std::this_thread::sleep_for(milliseconds(200));
  for (int i = 0; i < 5; ++i) {
    crew.Give([&] {
      waiting.Enter();
      door.Pass();
      waiting.Leave();
    });
  }
  crew.Give([&] { done = true; });
  EXPECT_TRUE(Eventually([&] { return done.load(); })) << waiting.now() << " of 5 wait";
  door.Open();
}

TEST(ConcurrencyLimit, TheWatchIsWokenByAThreadThatParks) {
  Counter told;
  Counter untold;
  Door told_door;
  Door untold_door;
  std::atomic<bool> done{false};
  Crew crew(3, 8, milliseconds(1));
  for (int i = 0; i < 5; ++i) {
    crew.Give([&] {
      told.Enter();
      AboutToBlock();
      told_door.Pass();
      told.Leave();
    });
  }
  EXPECT_TRUE(Eventually([&] { return told.now() == 5; }));
  std::this_thread::sleep_for(milliseconds(200));  // the watch sleeps
  for (int i = 0; i < 3; ++i) {
    crew.Give([&] {
      untold.Enter();
      untold_door.Pass();
      untold.Leave();
    });
  }
  // All threads are at work: nobody can be brought in before those that told are done, and park.
  EXPECT_TRUE(Eventually([&] { return untold.now() == 3; }));
  told_door.Open();
  EXPECT_TRUE(Eventually([&] { return told.total() == 5; }));
  crew.Give([&] { done = true; });
  EXPECT_TRUE(Eventually([&] { return done.load(); })) << crew.parked() << " parked";
  untold_door.Open();
}

TEST(ConcurrencyLimit, CountsHoldAfterManyWaits) {
  std::atomic<int> done{0};
  Crew crew(2, 8, milliseconds(1));
  std::minstd_rand random(1);
  constexpr int kPieces = 4000;
  for (int i = 0; i < kPieces; ++i) {
    const bool tells = random() % 3 == 0;
    const milliseconds time(random() % 8 == 0 ? random() % 4 : 0);
    crew.Give([&done, tells, time] {
      if (tells) AboutToBlock();
      if (time.count() > 0) std::this_thread::sleep_for(time);
      ++done;
    });
  }
  EXPECT_TRUE(Eventually([&] { return done == kPieces; }));
  // Who is brought in last may take a while to notice.
  const auto right = [&] {
    const auto parked = static_cast<int16_t>(crew.parked());
    const auto reading = static_cast<int16_t>(crew.reading());
    return parked + reading == 8 && crew.counts() == ConcurrencyLimit::Counts{.parked = parked,
                                                                              .active = reading,
                                                                              .blocked = 0,
                                                                              .reading = reading};
  };
  EXPECT_TRUE(Eventually(right)) << crew.parked() << " parked, " << crew.reading()
                                 << " reading, known to wait: " << crew.counts().blocked;
}

TEST(ConcurrencyLimit, FewerRunWhereThatIsFasterUntilLittleIsToBeDone) {
  std::atomic<int> inside{0};
  std::atomic<bool> ends{false};
  Crew crew(3, 6, milliseconds(10));
  // Who begins a piece alone takes some 0.5 ms for it, two that go on at once 5 ms each.
  std::function<void()> work = [&] {
    const int now = ++inside;
    std::this_thread::sleep_for(std::chrono::microseconds(now == 1 ? 500 : 2500 * now));
    --inside;
    if (!ends) crew.Give(work);
  };
  for (int i = 0; i < 8; ++i) crew.Give(work);
  // Longer than a trial of 1, which changes back every few looks.
  int looks_at_one = 0;
  EXPECT_TRUE(Eventually([&] {
    looks_at_one = crew.limit() == 1 ? looks_at_one + 1 : 0;
    return looks_at_one == 500;
  }));
  ends = true;
  // One piece every few looks: with a limit of 1 nobody reads meanwhile, so the watch never sleeps.
  EXPECT_TRUE(Eventually([&] {
    std::this_thread::sleep_for(milliseconds(50));
    crew.Give([] {});
    return crew.limit() == 3;
  }));
  crew.Stop();  // its threads use what is declared after it
}

TEST(ConcurrencyLimit, FewThreadsNeedNoLimit) {
  std::atomic<int> done{0};
  Crew crew(4, 1, kNeverLooks);
  for (int i = 0; i < 10; ++i) crew.Give([&] { ++done; });
  EXPECT_TRUE(Eventually([&] { return done == 10; }));
  EXPECT_EQ(crew.parked(), 0);
}

// LimitFinder with looks that are 5 ms apart.
class Looks {
 public:
  int Saturated(uint64_t done) { return Look(true, done); }
  int Calm() { return Look(false, 0); }
  // A whole sample with so much done at each look.
  int Sample(uint64_t done) {
    for (int i = 1; i < LimitFinder::kLooksPerSample; ++i) Saturated(done);
    return Saturated(done);
  }

 private:
  int Look(bool saturated, uint64_t done) {
    now_ += milliseconds(5);
    return finder_.AfterLook(saturated, done, now_);
  }

  LimitFinder finder_{3};
  LimitFinder::TimePoint now_;
};

TEST(LimitFinder, ALookBeforeWhichNobodyWasNeededLosesTheTrial) {
  Looks looks;
  EXPECT_EQ(looks.Calm(), 3);
  EXPECT_EQ(looks.Saturated(0), 2);
  EXPECT_EQ(looks.Sample(100), 1);
  EXPECT_EQ(looks.Calm(), 2);
  EXPECT_EQ(looks.Sample(100), 3) << "1 has lost";
  for (int i = 1; i < LimitFinder::kForgetAfter; ++i) EXPECT_EQ(looks.Calm(), 2);
  EXPECT_EQ(looks.Calm(), 3);
  EXPECT_EQ(looks.Saturated(0), 2);
  EXPECT_EQ(looks.Sample(100), 1) << "that 1 has lost is forgotten";
}

TEST(LimitFinder, TheLookThatBeginsIsNoSample) {
  Looks looks;
  looks.Calm();
  looks.Saturated(0);  // all of a quiet time before it
  for (const uint64_t tried : {99, 105, 105, 90}) {
    EXPECT_EQ(looks.Sample(100), 1);
    EXPECT_EQ(looks.Sample(tried), 2);
  }
  EXPECT_EQ(looks.Sample(100), 3) << "1 was not taken";
}

}  // namespace
}  // namespace cairn
