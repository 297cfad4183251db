#include "src/warm/space_reserve.h"

#include <algorithm>

#include "src/base/clock.h"
#include "src/base/log.h"

namespace cairn {
namespace {

constexpr uint64_t kLargestReserve = 24ull << 20;
constexpr uint64_t kSmallestReserve = 16ull << 20;
constexpr uint64_t kReserveShare = 20;  // one part in so many of the filesystem
// LevelDB has two logs at most, each of as much as its write buffer (IndexOptions) and the batch
// that filled it. No table is larger than the buffer that it is written from.
constexpr uint64_t kForOpening = 12ull << 20;
constexpr uint64_t kForLogs = 2ull << 20;  // thousands of removals
constexpr uint64_t kBothParts = kForOpening + kForLogs;
constexpr uint64_t kSmallestStep = 512ull << 10;
constexpr int64_t kRetryIntervalNs = 100'000'000;
// After a try that statvfs called good and that was none: it makes the host write.
constexpr int64_t kLongRetryIntervalNs = 1'000'000'000;

// What this process can take, as far as statvfs tells. Of what root may use, ext4 keeps up to 16
// MiB for itself.
uint64_t SurelyUsable(const SpaceInfo& space) {
  if (space.total_bytes == 0)
    return kLargestReserve * 2;  // it does not say: a tmpfs without a limit
  constexpr uint64_t kForTheFilesystem = 16ull << 20;
  return std::max(space.available_bytes,
                  space.usable_bytes - std::min(space.usable_bytes, kForTheFilesystem));
}

}  // namespace

SpaceReserve::SpaceReserve(Env& env, std::string dir, std::string path)
    : env_(env), dir_(std::move(dir)), path_(std::move(path)) {}

void SpaceReserve::Build() {
  MutexLock lock(mu_);
  opening_ = false;
  logs_have_theirs_ = false;
  BuildLocked();
  if (!scarce_.load(std::memory_order_relaxed)) return;
  // What there is room for.
  const uint64_t held = HeldBytes();
  Status grown(Code::kNoSpace, path_);
  for (uint64_t bytes = kBothParts; bytes > held && grown.code() == Code::kNoSpace;
       bytes -= kSmallestStep) {
    grown = Grow(held, bytes);
  }
}

void SpaceReserve::BuildLocked() {
  auto space = env_.Space(dir_);
  if (!space.ok()) return;
  const uint64_t whole =
      std::clamp(space->total_bytes / kReserveShare, kSmallestReserve, kLargestReserve);
  const uint64_t held = HeldBytes();
  // One that could not be given up is there still, and scarcity has to end.
  if (held >= whole && !scarce_.load(std::memory_order_relaxed)) return;
  const uint64_t usable = SurelyUsable(*space) + held;
  // Free room for half as much again, or the next small write would be back where we are.
  const bool enough = usable >= whole + whole / 2;
  Status grown = enough ? Grow(held, whole) : Status(Code::kNoSpace, path_);
  retry_interval_ns_ = enough && !grown.ok() ? kLongRetryIntervalNs : kRetryIntervalNs;
  if (grown.code() == Code::kUnsupported) LogWarn("no reserve: {}", grown.ToString());
  if (grown.ok() || grown.code() == Code::kUnsupported) {
    scarce_.store(false, std::memory_order_release);
    logs_have_theirs_ = false;
  } else if (grown.code() == Code::kNoSpace) {
    scarce_.store(true, std::memory_order_release);
    // The parts grow back from what is beyond the logs'.
    if (usable >= kBothParts + kForLogs && Grow(held, kBothParts).ok()) logs_have_theirs_ = false;
  }
}

uint64_t SpaceReserve::HeldBytes() {
  const auto info = env_.Info(path_);
  return info.ok() ? std::min(info->size, info->allocated_bytes) : 0;
}

Status SpaceReserve::Grow(uint64_t held, uint64_t bytes) {
  if (bytes <= held) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(const auto file, env_.Open(path_, OpenMode::kCreate));
  Status grown = file->Allocate(0, bytes);
  // Some filesystems keep what fitted.
  if (grown.code() == Code::kNoSpace) (void)file->Truncate(held);
  return grown;
}

Status SpaceReserve::Shrink(uint64_t bytes) {
  CAIRN_ASSIGN_OR_RETURN(const auto file, env_.Open(path_, OpenMode::kReadWrite));
  return file->Truncate(bytes);
}

bool SpaceReserve::Release(For whom) {
  MutexLock lock(mu_);
  scarce_.store(true, std::memory_order_release);
  // What statvfs does not know of (a quota, no inodes) is not to be found out ten times a second.
  const int64_t now_ns = Clock::System().NowNs();
  if (now_ns - ended_ns_ < kLongRetryIntervalNs) next_try_ns_ = now_ns + kLongRetryIntervalNs;
  const uint64_t held = HeldBytes();
  uint64_t kept = held;
  if (opening_) {
    kept = 0;
  } else if (held > kBothParts) {
    kept = kBothParts;
  } else if (whom == For::kLogs && !logs_have_theirs_ && held > 0) {
    // Where the parts are small, never more than what is kept: it has to fit in there as tables.
    kept = held - std::min(kForLogs, held / 2);
  }
  if (kept == held) return false;
  LogWarn(
      "the filesystem is full: giving up {} MiB of the reserve for the index, writers get ENOSPC",
      (held - kept) >> 20);
  const Status freed = Shrink(kept);
  if (!freed.ok()) {
    LogWarn("cannot give up the reserve: {}", freed.ToString());
    return false;
  }
  logs_have_theirs_ |= kept < kBothParts;
  return true;
}

bool SpaceReserve::RoomToCompact() {
  MutexLock lock(mu_);
  if (opening_) return false;
  if (logs_have_theirs_) BuildWhenItIsTime();
  return !logs_have_theirs_;
}

bool SpaceReserve::StillScarce() {
  MutexLock lock(mu_);
  BuildWhenItIsTime();
  return scarce_.load(std::memory_order_relaxed);
}

void SpaceReserve::BuildWhenItIsTime() {
  const int64_t now_ns = Clock::System().NowNs();
  // A clock that was set back must not put off the next try for long.
  if (now_ns < next_try_ns_ && next_try_ns_ - now_ns <= kLongRetryIntervalNs) return;
  BuildLocked();
  next_try_ns_ = now_ns + retry_interval_ns_;
  if (scarce_.load(std::memory_order_relaxed)) return;
  ended_ns_ = now_ns;
  LogInfo("the filesystem has room again");
}

}  // namespace cairn
