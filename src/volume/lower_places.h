// LowerPlaces: what the readers of a leaf found out about the sources of its lower pieces.
#ifndef CAIRN_SRC_VOLUME_LOWER_PLACES_H_
#define CAIRN_SRC_VOLUME_LOWER_PLACES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/mutex.h"
#include "src/warm/extent_store.h"

namespace cairn {

// A leaf is one region and lies in one segment, so that each of its sources (an epoch of a branch)
// is one extent file and one region seal. With them at hand a read through a thousand epochs looks
// nothing up. Thread-safe. Invariants:
//   - Nothing is kept alive or open: whether a file stays open is for ExtentStore::Keep to say, and
//     one that was closed is found to be absent here. Nor is a seal held, only the number under
//     which a sealed region's checksums are cached.
//   - What was put in one era is not found in another. The volume begins a new one, with its gate
//     closed, whenever epochs beneath its head are removed: who is inside the gate finds neither a
//     file nor a seal that the volume was told to forget.
class LowerPlaces {
 public:
  struct Place {
    std::shared_ptr<ExtentFile> file;  // null: not known, or closed
    // RegionSeal::generation of a region that is sealed, and stays so for the era; 0: not known.
    uint64_t sums_generation = 0;
  };

  // How many sources there are. While loading only.
  void SetCount(size_t count) { count_ = count; }

  // REQUIRES for both: `source` is below the count, and `era` is that of the gate that the caller
  // is inside of.
  Place Find(size_t source, uint64_t era) {
    MutexLock lock(mu_);
    if (era != era_ || slots_.empty()) [[unlikely]] {
      return {};
    }
    const Slot& slot = slots_[source];
    return {slot.file.lock(), slot.sums_generation};
  }
  void Put(size_t source, uint64_t era, const Place& place) {
    MutexLock lock(mu_);
    if (era != era_ || slots_.empty()) slots_.assign(count_, {});
    era_ = era;
    slots_[source] = {place.file, place.sums_generation};
  }

  // At most, once all sources were read from.
  size_t MemoryBytes() const { return count_ * (sizeof(Slot) + kBytesOfAClosedFile); }

 private:
  struct Slot {
    std::weak_ptr<ExtentFile> file;
    uint64_t sums_generation = 0;
  };
  // What std::weak_ptr keeps of an object that is gone.
  static constexpr size_t kBytesOfAClosedFile = 32;

  size_t count_ = 0;
  Mutex mu_;
  uint64_t era_ CAIRN_GUARDED_BY(mu_) = 0;
  std::vector<Slot> slots_ CAIRN_GUARDED_BY(mu_);  // empty before the first Put
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_LOWER_PLACES_H_
