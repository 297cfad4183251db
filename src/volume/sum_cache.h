// SumCache: checksum records that reads needed lately, within a fixed bound of memory.
#ifndef CAIRN_SRC_VOLUME_SUM_CACHE_H_
#define CAIRN_SRC_VOLUME_SUM_CACHE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/strong_id.h"
#include "src/warm/records.h"

namespace cairn {

// Thread-safe. A record is kept under the generation of its region (region_seal.h), which no two
// regions share and which changes when a region is sealed anew: what was read before that is not
// found any more, and nothing has to be invalidated.
class SumCache {
 public:
  explicit SumCache(uint64_t limit_bytes);

  // Copies what the record of `chunk` says of the blocks `wanted`, which most often is one, to
  // `sums`: its masks, and the checksums of these alone. False when it is not here.
  bool Find(uint64_t generation, ChunkIndex chunk, BlockMask wanted, ChunkSums& sums);
  void Put(uint64_t generation, ChunkIndex chunk, const ChunkSums& sums);

 private:
  static constexpr size_t kShards = 16;
  // A key has a place in one set only, where it takes the turn's place.
  static constexpr size_t kWays = 4;
  struct Slot {
    uint64_t generation = 0;  // 0: empty
    ChunkIndex chunk;
    std::unique_ptr<ChunkSums> sums;
  };
  struct Shard {
    Mutex mu;
    std::vector<Slot> slots CAIRN_GUARDED_BY(mu);
    uint32_t turn CAIRN_GUARDED_BY(mu) = 0;
  };
  static uint64_t HashOf(uint64_t generation, ChunkIndex chunk);
  static size_t SetOf(const Shard& shard, uint64_t hash) CAIRN_REQUIRES(shard.mu);

  std::array<Shard, kShards> shards_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_SUM_CACHE_H_
