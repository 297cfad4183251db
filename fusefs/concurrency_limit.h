// ConcurrencyLimit: of a server's many threads it lets only a few run, and brings in another when
// one of them waits.
//
// Many threads are needed since each may wait for a device. But threads that only copy must not be
// more than cores: the kernel hands requests to its readers in turn, so that each request would
// wake a thread that has slept long, and put off one that could have gone on. When programs keep
// the cores busy, fewer may be better still: a thread that finds a queue is never put off, and the
// other cores need not change between the programs and the server. What is best is found by trying
// (see hill_climb.h) while again and again nobody reads.
//
// A thread is parked, reads (sleeps in read(2)), or works; one that works may be known to wait. Of
// those that neither are parked nor known to wait, there shall be limit(). Only when no thread
// reads is another one brought in, so that a thread that waits alone costs nothing; and a thread
// that finds itself one too many parks before it reads again.
//
// What waits without saying so (see src/base/blocking.h) is found by a watch: from when no thread
// reads and some are parked it looks every kWatchInterval, and goes to sleep when that has not been
// so for a while. (When it was seldom so, what was learnt about the limit is forgotten.) When as
// many as limit() wait without saying so, and that may be one, an unrelated request has to wait for
// two looks.
#ifndef CAIRN_FUSEFS_CONCURRENCY_LIMIT_H_
#define CAIRN_FUSEFS_CONCURRENCY_LIMIT_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "src/base/blocking.h"
#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/base/thread_annotations.h"

namespace cairn {

class ConcurrencyLimit {
 public:
  static constexpr std::chrono::milliseconds kWatchInterval{5};

  // How many threads are in which state, in one word, so that each change sees all others. (clang
  // calls a library for an atomic that is not aligned to its size.)
  struct alignas(8) Counts {
    int16_t parked = 0;
    int16_t active = 0;   // not parked
    int16_t blocked = 0;  // of these, known to wait; for a moment one may be missing here
    int16_t reading = 0;  // of these, in read(2) or about to be

    int running() const { return active - blocked; }
    bool operator==(const Counts&) const = default;
  };

  // What one thread tells about itself: a member's functions are its thread's, but for the const
  // ones, which are for any. The thread alternates between BeginRead and BeginWork.
  class alignas(64) Member final : public BlockingListener {
   public:
    explicit Member(ConcurrencyLimit& limit) : limit_(limit) {}

    // Before a read of the next request: ends the work, and parks while the thread is one too
    // many. false: Stop was called while it was parked, and the thread is to end. A thread that
    // need not park learns nothing of Stop.
    bool BeginRead();
    // After the read, whether it brought a request or not.
    void BeginWork();
    // The work waits from here, perhaps, until the next BeginRead.
    void OnAboutToBlock() noexcept override;

    // Twice the pieces of work that are done, and one if another is in work.
    uint64_t progress() const { return state_.load(std::memory_order_relaxed) >> 1; }
    // Waits for its turn to read.
    bool parked() const { return parked_.load(std::memory_order_relaxed); }

   private:
    friend class ConcurrencyLimit;
    static constexpr uint64_t kBlocked = 1;

    // Makes the work that `progress` tells of known to wait, unless it is done or known already.
    void MarkBlocked(uint64_t progress) noexcept;

    ConcurrencyLimit& limit_;
    std::atomic<uint64_t> state_{0};  // progress() << 1, and kBlocked
    std::atomic<bool> parked_{false};
    uint64_t progress_seen_ = 0;  // the watch's
  };

  // `most` >= 1: what the limit is at first, and at most. `member_count` >= 1.
  ConcurrencyLimit(int most, int member_count,
                   std::chrono::milliseconds watch_interval = kWatchInterval);
  // REQUIRES: no thread uses a member any more.
  ~ConcurrencyLimit();
  ConcurrencyLimit(const ConcurrencyLimit&) = delete;
  ConcurrencyLimit& operator=(const ConcurrencyLimit&) = delete;

  // Starts the watch. Once, before any member is used. kIo: no thread.
  Status Start();
  // Ends the watch and wakes all that are parked. May be repeated, but not at the same time.
  void Stop();

  Counts counts() const { return counts_.load(); }
  // How many may run now.
  int limit() const { return limit_.load(std::memory_order_relaxed); }
  Member& member(size_t index) { return *members_[index]; }

 private:
  // Makes `change(counts)` the counts, unless it answers nothing. What they are then.
  template <typename Change>
  std::optional<Counts> Update(Change change) noexcept;
  // After a change that may have left nobody to read.
  void Balance(const Counts& counts) noexcept;
  // Waits until the member is brought in. false: Stop was called.
  bool AwaitTurn();
  void Watch() noexcept;
  // One look of the watch: marks who has been at the same work since the look before. How much was
  // done since then, in halves of pieces of work.
  uint64_t Look() noexcept;

  const int most_;
  const std::chrono::milliseconds watch_interval_;
  std::atomic<int> limit_;
  std::atomic<Counts> counts_;
  static_assert(std::atomic<Counts>::is_always_lock_free);

  std::vector<std::unique_ptr<Member>> members_;

  Mutex mu_;
  CondVar turn_;                         // turns_, or stopping_
  CondVar watch_;                        // saturated_ while watch_sleeps_, or stopping_
  int turns_ CAIRN_GUARDED_BY(mu_) = 0;  // how many of those that wait are brought in
  bool stopping_ CAIRN_GUARDED_BY(mu_) = false;
  std::atomic<bool> saturated_{false};  // since the watch looked, nobody read at some time
  std::atomic<bool> watch_sleeps_{false};
  std::thread watch_thread_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_CONCURRENCY_LIMIT_H_
