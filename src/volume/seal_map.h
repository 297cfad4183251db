// SealMap: the region seals that one volume has in memory, one object for each region.
#ifndef CAIRN_SRC_VOLUME_SEAL_MAP_H_
#define CAIRN_SRC_VOLUME_SEAL_MAP_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/volume/region_seal.h"
#include "src/warm/index.h"

namespace cairn {

// Thread-safe. Keeps a seal for as long as somebody holds it or it knows something that the index
// does not: that the region waits to be sealed, or which of its blocks were touched. Those of
// sealed regions stay while there is room for them: a region's cached checksums are found by its
// seal only.
//
// Invariant: a seal that says `sealed` is one of which the index says so. An ended epoch's region
// stays sealed until its branch or epoch is removed or the volume leaves the branch, and each of
// these calls ForgetFrom or ForgetAll with the gate closed; a head's is opened through its seal. So
// leaves remember of ended epochs' regions that they are sealed, and under which generation, until
// the volume begins a new era for them (lower_places.h).
class SealMap {
 public:
  // Both are borrowed.
  SealMap(Index& index, SealMemory& memory) : index_(index), memory_(memory) {}

  // The seal of a region, as the index has it when it was not here yet. kCorrupt, kIo.
  Result<std::shared_ptr<RegionSeal>> Get(const RegionId& id);
  // The same, and an open region is to be sealed once it was idle.
  Status NoteUnsealed(const RegionId& id, int64_t now_ns);
  // Regions that wait to be sealed and had no write for `idle_ns`, at most `most`. Notes who had
  // one since the last call.
  std::vector<std::shared_ptr<RegionSeal>> TakeIdle(int64_t now_ns, int64_t idle_ns, size_t most);
  // The region was sealed, or could not be and is to be tried again after it was idle once more.
  void Settle(const RegionSeal& seal, int64_t now_ns);
  // Whether a region waits to be sealed.
  bool HasWork();
  std::vector<std::shared_ptr<RegionSeal>> All();
  // Forgets all regions of (branch, epoch) from `from.number` on, or all there are: who still holds
  // one finds it gone. REQUIRES: the volume's gate is closed.
  void ForgetFrom(const RegionId& from);
  void ForgetAll() noexcept;

 private:
  struct Entry {
    std::shared_ptr<RegionSeal> seal;
    bool waits = false;  // to be sealed
    int64_t last_write_ns = 0;
  };
  static constexpr size_t kLeastEntries = 64;

  Result<Entry*> GetLocked(const RegionId& id) CAIRN_REQUIRES(mu_);
  void DropWhatNeedNotStay() CAIRN_REQUIRES(mu_);
  static bool MustStay(const Entry& entry);
  static void SetGone(RegionSeal& seal) noexcept;

  Index& index_;
  SealMemory& memory_;

  // Held across the reading of a region's record, so that nobody enters an older one.
  Mutex mu_;
  std::map<RegionId, Entry> entries_ CAIRN_GUARDED_BY(mu_);
  // When to look next for entries that need not stay; sooner when seals have no more room.
  size_t look_at_count_ CAIRN_GUARDED_BY(mu_) = kLeastEntries;
  size_t look_without_room_at_count_ CAIRN_GUARDED_BY(mu_) = kLeastEntries;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_SEAL_MAP_H_
