#include "src/warm/space_reserve.h"

#include <algorithm>

#include "src/base/clock.h"
#include "src/base/log.h"

namespace cairn {
namespace {

constexpr uint64_t kLargestReserve = 24ull << 20;
constexpr uint64_t kSmallestReserve = 8ull << 20;
constexpr uint64_t kReserveShare = 20;        // one part in so many of the filesystem
constexpr uint64_t kEnoughRoom = 1ull << 20;  // for what LevelDB writes at once
constexpr int64_t kRetryIntervalNs = 100'000'000;

}  // namespace

SpaceReserve::SpaceReserve(Env& env, std::string dir, std::string path)
    : env_(env), dir_(std::move(dir)), path_(std::move(path)) {}

void SpaceReserve::Adopt() {
  MutexLock lock(mu_);
  const auto existing = env_.Info(path_);
  held_ = existing.ok() && existing->allocated_bytes >= kSmallestReserve;
}

void SpaceReserve::Build() {
  MutexLock lock(mu_);
  BuildLocked();
}

void SpaceReserve::BuildLocked() {
  // One that could not be given up is there still, and scarcity has to end.
  if (held_ && !scarce_.load(std::memory_order_relaxed)) return;
  auto space = env_.Space(dir_);
  if (!space.ok()) return;
  const uint64_t size =
      std::clamp(space->total_bytes / kReserveShare, kSmallestReserve, kLargestReserve);
  // Free room for as much again, or the next small write would be back where we are.
  const auto existing = env_.Info(path_);
  const uint64_t allocated = existing.ok() ? existing->allocated_bytes : 0;
  if (space->available_bytes + allocated < size + size / 2) {
    scarce_.store(true, std::memory_order_release);
    return;
  }
  auto file = env_.Open(path_, OpenMode::kCreate);
  if (!file.ok()) return;
  const Status allocated_now = (*file)->Allocate(0, size);
  if (allocated_now.code() == Code::kNoSpace) {
    (void)(*file)->Truncate(0);
    scarce_.store(true, std::memory_order_release);
    return;
  }
  held_ = allocated_now.ok();
  if (!held_) LogWarn("no reserve for a full filesystem: {}", allocated_now.ToString());
  scarce_.store(false, std::memory_order_release);
}

bool SpaceReserve::Release() {
  MutexLock lock(mu_);
  scarce_.store(true, std::memory_order_release);
  if (held_) {
    LogWarn("the filesystem is full: giving up the reserve for the index, writers get ENOSPC");
    auto file = env_.Open(path_, OpenMode::kReadWrite);
    const Status freed = file.ok() ? (*file)->Truncate(0) : file.status();
    held_ = !freed.ok();
    if (freed.ok()) return true;
    LogWarn("cannot give up the reserve: {}", freed.ToString());
  }
  // The caller may have found the filesystem full just before another one made room, or while the
  // reserve was built in vain.
  const auto space = env_.Space(dir_);
  return space.ok() && space->available_bytes >= kEnoughRoom;
}

bool SpaceReserve::StillScarce() {
  MutexLock lock(mu_);
  const int64_t now_ns = Clock::System().NowNs();
  // A clock that was set back must not put off the next try for long.
  if (now_ns >= next_try_ns_ || next_try_ns_ - now_ns > kRetryIntervalNs) {
    next_try_ns_ = now_ns + kRetryIntervalNs;
    BuildLocked();
    if (!scarce_.load(std::memory_order_relaxed)) LogInfo("the filesystem has room again");
  }
  return scarce_.load(std::memory_order_relaxed);
}

}  // namespace cairn
