#include "fusefs/concurrency_limit.h"

#include <pthread.h>

#include <string>
#include <system_error>

#include "fusefs/limit_finder.h"
#include "src/base/check.h"

namespace cairn {
namespace {

// The watch sleeps after so many looks in a row before which nobody was needed (see Balance), and
// is woken when somebody is.
constexpr int kIdleLooks = LimitFinder::kForgetAfter;

}  // namespace

// ---- Member

bool ConcurrencyLimit::Member::BeginRead() {
  const uint64_t done = (progress() + 1) / 2;
  const uint64_t old = state_.exchange((2 * done) << 1, std::memory_order_relaxed);
  int16_t unblocks = (old & kBlocked) != 0 ? 1 : 0;
  for (;;) {
    bool parks = false;
    const auto after = limit_.Update([&](Counts counts) {
      counts.blocked = static_cast<int16_t>(counts.blocked - unblocks);
      parks = counts.running() > limit_.limit();
      if (parks) {
        --counts.active;
        ++counts.parked;
      } else {
        ++counts.reading;
      }
      return std::optional(counts);
    });
    if (!parks) return true;
    limit_.Balance(*after);  // nobody may read, and until now nobody could be brought in
    unblocks = 0;
    parked_.store(true, std::memory_order_relaxed);
    const bool goes_on = limit_.AwaitTurn();
    parked_.store(false, std::memory_order_relaxed);
    if (!goes_on) return false;
  }
}

void ConcurrencyLimit::Member::BeginWork() {
  // Only this thread changes the progress, and the watch marks only what is in work.
  state_.store((progress() + 1) << 1, std::memory_order_relaxed);
  const auto after = limit_.Update([](Counts counts) {
    --counts.reading;
    return std::optional(counts);
  });
  limit_.Balance(*after);
}

void ConcurrencyLimit::Member::OnAboutToBlock() noexcept {
  const uint64_t progress = this->progress();
  if (progress % 2 == 1) MarkBlocked(progress);
}

void ConcurrencyLimit::Member::MarkBlocked(uint64_t progress) noexcept {
  uint64_t expected = progress << 1;
  if (!state_.compare_exchange_strong(expected, expected | kBlocked, std::memory_order_relaxed)) {
    return;
  }
  // The thread may have ended this work by now, and counted itself as running again: hence
  // "for a moment one may be missing".
  const auto after = limit_.Update([](Counts counts) {
    ++counts.blocked;
    return std::optional(counts);
  });
  limit_.Balance(*after);
}

// ---- ConcurrencyLimit

ConcurrencyLimit::ConcurrencyLimit(int most, int member_count,
                                   std::chrono::milliseconds watch_interval)
    : most_(most),
      watch_interval_(watch_interval),
      limit_(most),
      counts_(Counts{.active = static_cast<int16_t>(member_count)}) {
  CAIRN_CHECK(most >= 1 && member_count >= 1);
  for (int i = 0; i < member_count; ++i) members_.push_back(std::make_unique<Member>(*this));
}

ConcurrencyLimit::~ConcurrencyLimit() { Stop(); }

Status ConcurrencyLimit::Start() {
  try {
    watch_thread_ = std::thread([this] { Watch(); });
  } catch (const std::system_error& error) {
    return Status(Code::kIo, std::string("starting a thread: ") + error.what());
  }
  return Status::Ok();
}

void ConcurrencyLimit::Stop() {
  {
    const MutexLock lock(mu_);
    stopping_ = true;
    turn_.NotifyAll();
    watch_.NotifyAll();
  }
  if (watch_thread_.joinable()) watch_thread_.join();
}

template <typename Change>
std::optional<ConcurrencyLimit::Counts> ConcurrencyLimit::Update(Change change) noexcept {
  Counts counts = counts_.load();
  for (;;) {
    const std::optional<Counts> changed = change(counts);
    if (!changed) return std::nullopt;
    if (counts_.compare_exchange_weak(counts, *changed)) return changed;
  }
}

void ConcurrencyLimit::Balance(const Counts& counts) noexcept {
  if (counts.reading > 0) return;
  const int limit = this->limit();
  if (counts.running() < limit) {
    const auto brought_in = Update([limit](Counts now) -> std::optional<Counts> {
      if (now.reading > 0 || now.running() >= limit || now.parked == 0) return std::nullopt;
      --now.parked;
      ++now.active;
      return now;
    });
    if (brought_in) {
      const MutexLock lock(mu_);
      ++turns_;
      turn_.NotifyOne();
    }
    return;
  }
  if (counts.parked == 0 || saturated_.load(std::memory_order_relaxed)) return;
  saturated_.store(true);
  if (watch_sleeps_.load()) {
    const MutexLock lock(mu_);
    watch_.NotifyOne();
  }
}

bool ConcurrencyLimit::AwaitTurn() {
  const MutexLock lock(mu_);
  while (turns_ == 0 && !stopping_) turn_.Wait(mu_);
  if (stopping_) return false;
  --turns_;
  return true;
}

uint64_t ConcurrencyLimit::Look() noexcept {
  uint64_t done = 0;
  for (const std::unique_ptr<Member>& member : members_) {
    const uint64_t progress = member->progress();
    const bool in_work = progress % 2 == 1;
    if (in_work && progress == member->progress_seen_) member->MarkBlocked(progress);
    done += progress - member->progress_seen_;
    member->progress_seen_ = progress;
  }
  return done;
}

void ConcurrencyLimit::Watch() noexcept {
  pthread_setname_np(pthread_self(), "cairnfs-watch");
  LimitFinder finder(most_);
  for (int idle_looks = 0;;) {
    {
      const MutexLock lock(mu_);
      if (stopping_) return;
      if (idle_looks < kIdleLooks) {
        watch_.WaitFor(mu_, watch_interval_);
      } else {
        watch_sleeps_.store(true);
        while (!saturated_.load() && !stopping_) watch_.Wait(mu_);
        watch_sleeps_.store(false);
      }
      if (stopping_) return;
    }
    const bool saturated = saturated_.exchange(false);
    idle_looks = saturated ? 0 : idle_looks + 1;
    const uint64_t done = Look();
    limit_.store(finder.AfterLook(saturated, done, std::chrono::steady_clock::now()),
                 std::memory_order_relaxed);
  }
}

}  // namespace cairn
