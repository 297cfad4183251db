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
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/volume/lower_places.h"
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

// What lies beneath the head in one leaf, flat: a chunk's pieces are back to back, and a piece has
// ten bytes. Not changed after it was made.
class LowerPieces {
 public:
  // The pieces of one chunk, newest first.
  class Range {
   public:
    class Iterator {
     public:
      Iterator(const LowerPieces& pieces, size_t at) : pieces_(pieces), at_(at) {}
      LowerPiece operator*() const { return pieces_.At(at_); }
      Iterator& operator++() {
        ++at_;
        return *this;
      }
      friend bool operator==(const Iterator& a, const Iterator& b) { return a.at_ == b.at_; }

     private:
      const LowerPieces& pieces_;
      size_t at_;
    };
    Range(const LowerPieces& pieces, size_t begin, size_t end)
        : pieces_(pieces), begin_(begin), end_(end) {}
    Iterator begin() const { return {pieces_, begin_}; }
    Iterator end() const { return {pieces_, end_}; }
    bool empty() const { return begin_ == end_; }

   private:
    const LowerPieces& pieces_;
    const size_t begin_;
    const size_t end_;
  };

  // Collects pieces. Of one chunk the newer ones have to come first; the order of chunks is free.
  class Builder {
   public:
    void Add(ChunkIndex chunk, const LowerPiece& piece) {
      if (piece.mask != 0) pieces_.emplace_back(chunk.value() % kChunksPerRegion, piece);
    }
    LowerPieces Build();

   private:
    std::vector<std::pair<uint64_t, LowerPiece>> pieces_;
  };

  Range Of(ChunkIndex chunk) const {
    if (!begins_) [[likely]] {
      return {*this, 0, 0};
    }
    const uint64_t at = chunk.value() % kChunksPerRegion;
    return {*this, (*begins_)[at], (*begins_)[at + 1]};
  }
  // The piece that holds a block. Looks at the masks alone before it: a chunk may have a piece of
  // each block, and their sources lie far apart.
  struct Found {
    LowerPiece piece;
    size_t source = 0;  // its number, below source_count()
  };
  std::optional<Found> Find(ChunkIndex chunk, uint64_t block) const;
  // The blocks that some piece holds.
  BlockMask Covered(ChunkIndex chunk) const;
  size_t source_count() const { return sources_.size(); }
  size_t MemoryBytes() const;

 private:
  // (kind, branch, epoch) of pieces; a leaf's pieces come from few of them.
  struct Source {
    LowerPiece::Kind kind;
    BranchId branch;
    Epoch epoch;
  };
  // Each chunk has at most as many pieces as blocks.
  static_assert(kChunksPerRegion * kBlocksPerChunk < 65536);
  using Begins = std::array<uint16_t, kChunksPerRegion + 1>;

  LowerPiece At(size_t at) const {
    const Source& source = sources_[source_of_[at]];
    return {source.kind, source.branch, source.epoch, masks_[at]};
  }

  std::unique_ptr<Begins> begins_;  // null: there are none
  std::vector<BlockMask> masks_;
  std::vector<uint16_t> source_of_;
  std::vector<Source> sources_;
};

class ChunkLeaf {
 public:
  static constexpr uint64_t kChunks = kChunksPerRegion;
  static uint64_t NumberOf(ChunkIndex chunk) { return chunk.value() / kChunks; }

  // The blocks that the current epoch's extent file holds. Readers load; whoever adds blocks holds
  // the chunk's lock and stores after the blocks' bytes are in the file.
  std::atomic<BlockMask>& Head(ChunkIndex chunk) { return heads_[chunk.value() % kChunks]; }
  // Newest first, with disjoint masks. Never changes after loading; blocks that the head gained
  // since are still in it.
  LowerPieces::Range Lower(ChunkIndex chunk) const { return lower_.Of(chunk); }
  const LowerPieces& lower() const { return lower_; }
  // By the numbers of lower()'s sources.
  LowerPlaces& places() { return places_; }
  // The blocks that are not zeros by absence, of the lower pieces alone.
  BlockMask LowerData(ChunkIndex chunk) const;
  // The blocks that the current epoch itself says are zeros, of those pieces.
  BlockMask ZerosOf(ChunkIndex chunk, BranchId branch, Epoch epoch) const;

  // Of the current epoch's blocks; never changes after loading.
  RegionSeal& seal() const { return *seal_; }

  // While loading only.
  void SetSeal(std::shared_ptr<RegionSeal> seal) { seal_ = std::move(seal); }
  void SetLower(LowerPieces lower) {
    lower_ = std::move(lower);
    places_.SetCount(lower_.source_count());
  }
  // Becomes what `old`, a leaf whose head was (branch, epoch), is beneath a newer head that holds
  // nothing yet. REQUIRES: nobody writes to `old` any more.
  void DeriveFrom(ChunkLeaf& old, BranchId branch, Epoch epoch);
  size_t MemoryBytes() const;

 private:
  std::array<std::atomic<BlockMask>, kChunks> heads_{};
  LowerPieces lower_;
  LowerPlaces places_;
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

  // Fills a new leaf from one that an older epoch left.
  using Deriver = std::function<Status(uint64_t leaf_number, ChunkLeaf& old, ChunkLeaf& leaf)>;

  ChunkMap(ChunkMapBudget& budget, Loader loader, Deriver deriver);
  ~ChunkMap();

  Result<std::shared_ptr<ChunkLeaf>> Get(ChunkIndex chunk) {
    const uint64_t number = ChunkLeaf::NumberOf(chunk);
    {
      MutexLock lock(mu_);
      const auto found = leaves_.find(number);
      if (found != leaves_.end() && found->second.epoch == epoch_) [[likely]] {
        found->second.used = true;
        return found->second.leaf;
      }
    }
    return Load(number);
  }
  // A new epoch has begun: the leaves there are lie beneath it, and each is derived anew when it is
  // needed next. REQUIRES: the volume's gate is closed, so that nobody holds a leaf.
  void BeginEpoch() {
    MutexLock lock(mu_);
    ++epoch_;
  }
  // Forgets all. REQUIRES: the volume's gate is closed, so that nobody holds a leaf.
  void Clear();

 private:
  friend class ChunkMapBudget;
  struct Entry {
    std::shared_ptr<ChunkLeaf> leaf;
    uint64_t bytes = 0;
    uint64_t epoch = 0;
    bool used = false;  // since the last round of dropping
  };
  Result<std::shared_ptr<ChunkLeaf>> Load(uint64_t number);
  // Drops leaves that nobody holds and nobody used since the last round; returns how many bytes.
  uint64_t DropUnused(uint64_t wanted_bytes);

  ChunkMapBudget& budget_;
  const Loader loader_;
  const Deriver deriver_;

  // Held while a leaf is read from the index, so that it is read once.
  Mutex load_mu_;
  Mutex mu_;
  std::unordered_map<uint64_t, Entry> leaves_ CAIRN_GUARDED_BY(mu_);
  // Counts BeginEpoch.
  uint64_t epoch_ CAIRN_GUARDED_BY(mu_) = 0;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_CHUNK_MAP_H_
