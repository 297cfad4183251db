// SpaceReserve: blocks kept back so that a full filesystem cannot keep the index from recording
// what was already acknowledged.
//
// A file of preallocated blocks lies in the store. When LevelDB finds the filesystem full, most of
// the file is given up and its write tried again; from then on (scarce() is true) writers that
// would take new space are refused, until there is room to build the reserve anew.
//
// Two parts of it no compaction gets. One is for the logs: without them nothing could be recorded,
// also no removal. The other is for the next opening: LevelDB then writes tables of what its logs
// hold before it removes them, and a store that does not open cannot be emptied either.
//
// Who gets what goes by these parts, not by how much is free: that says little of what this process
// may take (blocks for root, quotas), and another one takes it meanwhile. Thread-safe.
#ifndef CAIRN_SRC_WARM_SPACE_RESERVE_H_
#define CAIRN_SRC_WARM_SPACE_RESERVE_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/env/env.h"

namespace cairn {

class SpaceReserve {
 public:
  // `dir` is the store's, `path` the reserve's file in it.
  SpaceReserve(Env& env, std::string dir, std::string path);

  // The index is open: builds the reserve if an earlier process left none, or of the two parts what
  // there is room for. Finding no room for it is not an error, only scarcity. On filesystems that
  // cannot preallocate there is none.
  void Build();
  enum class For { kLogs, kCompactions };
  // The filesystem is full: gives up the next of what the caller may have, before Build all of it.
  // Whether that was anything. The caller tries again in any case: another one may have made room.
  bool Release(For whom);
  // Whether a compaction may go on writing: not before Build, nor in what the logs were given.
  bool RoomToCompact();
  // Whether only what frees space or needs none may go on. Every so often a call tries to build
  // the reserve anew; it costs one atomic load while there is enough.
  bool scarce() {
    if (!scarce_.load(std::memory_order_acquire)) [[likely]] {
      return false;
    }
    return StillScarce();
  }

 private:
  bool StillScarce();
  void BuildWhenItIsTime() CAIRN_REQUIRES(mu_);
  void BuildLocked() CAIRN_REQUIRES(mu_);
  // Asked of the file each time: others may remove it to make room.
  uint64_t HeldBytes() CAIRN_REQUIRES(mu_);
  // Sees to it that the file holds `bytes`, unless it holds more.
  Status Grow(uint64_t held, uint64_t bytes) CAIRN_REQUIRES(mu_);
  Status Shrink(uint64_t bytes) CAIRN_REQUIRES(mu_);

  Env& env_;
  const std::string dir_;
  const std::string path_;

  std::atomic<bool> scarce_{false};

  Mutex mu_;
  bool opening_ CAIRN_GUARDED_BY(mu_) = true;
  bool logs_have_theirs_ CAIRN_GUARDED_BY(mu_) = false;
  int64_t next_try_ns_ CAIRN_GUARDED_BY(mu_) = 0;
  int64_t retry_interval_ns_ CAIRN_GUARDED_BY(mu_) = 0;
  int64_t ended_ns_ CAIRN_GUARDED_BY(mu_) = 0;  // when scarcity last did
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_SPACE_RESERVE_H_
