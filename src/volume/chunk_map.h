// The resolved chunk map of a volume: for each chunk, which blocks the current epoch's extent file
// holds and where older epochs and parent branches hold the others.
//
// Loaded from the index by leaves of 512 chunks (128 MiB of a volume, 4 KiB of memory) as they are
// needed, and dropped again, least recently used first, to stay within a bound for all volumes
// together. A leaf is only dropped while nobody holds it, so that whoever changes one changes the
// only one.
#ifndef CAIRN_SRC_VOLUME_CHUNK_MAP_H_
#define CAIRN_SRC_VOLUME_CHUNK_MAP_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/volume/region_seal.h"
#include "src/warm/geometry.h"

namespace cairn {

// Where blocks lie that the current epoch does not hold.
struct LowerPiece {
  enum class Kind : uint8_t { kExtent, kZero, kTombstone };
  Kind kind = Kind::kExtent;
  BranchId branch;
  Epoch epoch;
  BlockMask mask = 0;
};

class ChunkLeaf {
 public:
  static constexpr uint64_t kChunks = kChunksPerRegion;
  static uint64_t NumberOf(ChunkIndex chunk) { return chunk.value() / kChunks; }

  // The blocks that the current epoch's extent file holds. Readers load; whoever adds blocks holds
  // the chunk's lock and stores after the blocks' bytes are in the file.
  std::atomic<BlockMask>& Head(ChunkIndex chunk) { return heads_[chunk.value() % kChunks]; }
  // Newest first, with disjoint masks. Never changes after loading.
  const std::vector<LowerPiece>& Lower(ChunkIndex chunk) const;
  // The blocks that are not zeros by absence, of the lower pieces alone.
  BlockMask LowerData(ChunkIndex chunk) const;
  // The blocks that the current epoch itself says are zeros, of those pieces.
  BlockMask ZerosOf(ChunkIndex chunk, BranchId branch, Epoch epoch) const;

  // Of the current epoch's blocks; never changes after loading.
  RegionSeal& seal() const { return *seal_; }

  // While loading only.
  void SetSeal(std::shared_ptr<RegionSeal> seal) { seal_ = std::move(seal); }
  std::vector<LowerPiece>& MutableLower(ChunkIndex chunk) {
    return lower_[chunk.value() % kChunks];
  }
  size_t MemoryBytes() const;

 private:
  std::array<std::atomic<BlockMask>, kChunks> heads_{};
  std::unordered_map<uint64_t, std::vector<LowerPiece>> lower_;
  std::shared_ptr<RegionSeal> seal_;
};

class ChunkMap;

// The bound that all chunk maps share. Thread-safe; outlives its maps.
class ChunkMapBudget {
 public:
  explicit ChunkMapBudget(uint64_t limit_bytes) : limit_bytes_(limit_bytes) {}
  uint64_t used_bytes() const { return used_bytes_.load(std::memory_order_relaxed); }

 private:
  friend class ChunkMap;
  void Register(ChunkMap* map);
  void Unregister(ChunkMap* map);
  void Charge(uint64_t bytes) { used_bytes_.fetch_add(bytes, std::memory_order_relaxed); }
  void Refund(uint64_t bytes) { used_bytes_.fetch_sub(bytes, std::memory_order_relaxed); }
  // Drops leaves of any map until the bound holds, as far as leaves are not in use.
  void Enforce();

  const uint64_t limit_bytes_;
  std::atomic<uint64_t> used_bytes_{0};
  Mutex mu_;
  std::list<ChunkMap*> maps_ CAIRN_GUARDED_BY(mu_);  // the front one gives up leaves next
};

// Of one volume. Thread-safe. REQUIRES for each Get: the caller is inside the volume's gate, and
// holds the leaf no longer than it is.
class ChunkMap {
 public:
  // Fills a new leaf with what is known of its chunks.
  using Loader = std::function<Status(uint64_t leaf_number, ChunkLeaf& leaf)>;

  ChunkMap(ChunkMapBudget& budget, Loader loader);
  ~ChunkMap();

  Result<std::shared_ptr<ChunkLeaf>> Get(ChunkIndex chunk) {
    const uint64_t number = ChunkLeaf::NumberOf(chunk);
    {
      MutexLock lock(mu_);
      const auto found = leaves_.find(number);
      if (found != leaves_.end()) [[likely]] {
        found->second.used = true;
        return found->second.leaf;
      }
    }
    return Load(number);
  }
  // Forgets all. REQUIRES: the volume's gate is closed, so that nobody holds a leaf.
  void Clear();

 private:
  friend class ChunkMapBudget;
  struct Entry {
    std::shared_ptr<ChunkLeaf> leaf;
    uint64_t bytes = 0;
    bool used = false;  // since the last round of dropping
  };
  Result<std::shared_ptr<ChunkLeaf>> Load(uint64_t number);
  // Drops leaves that nobody holds and nobody used since the last round; returns how many bytes.
  uint64_t DropUnused(uint64_t wanted_bytes);

  ChunkMapBudget& budget_;
  const Loader loader_;

  // Held while a leaf is read from the index, so that it is read once.
  Mutex load_mu_;
  Mutex mu_;
  std::unordered_map<uint64_t, Entry> leaves_ CAIRN_GUARDED_BY(mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_CHUNK_MAP_H_
