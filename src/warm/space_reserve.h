// SpaceReserve: blocks kept back so that a full filesystem cannot keep the index from recording
// what was already acknowledged.
//
// A file of preallocated blocks lies in the store. When LevelDB finds the filesystem full, the
// file is given up and its write tried again; from then on (scarce() is true) writers that would
// take new space are refused, until there is room to build the reserve anew. Thread-safe.
#ifndef CAIRN_SRC_WARM_SPACE_RESERVE_H_
#define CAIRN_SRC_WARM_SPACE_RESERVE_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "src/base/mutex.h"
#include "src/env/env.h"

namespace cairn {

class SpaceReserve {
 public:
  // `dir` is the store's, `path` the reserve's file in it.
  SpaceReserve(Env& env, std::string dir, std::string path);

  // Takes over the reserve that the file is, if it is whole: giving it up and building it anew
  // makes the host write, which is much to wait for.
  void Adopt();
  // Builds the reserve if it is not there. Finding no room for it is not an error, only scarcity.
  // On filesystems that cannot preallocate there is none.
  void Build();
  // Gives the reserve up. Whether there is room now: what it held, or what another caller left.
  bool Release();
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
  void BuildLocked() CAIRN_REQUIRES(mu_);

  Env& env_;
  const std::string dir_;
  const std::string path_;

  std::atomic<bool> scarce_{false};

  Mutex mu_;
  bool held_ CAIRN_GUARDED_BY(mu_) = false;
  int64_t next_try_ns_ CAIRN_GUARDED_BY(mu_) = 0;
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_SPACE_RESERVE_H_
