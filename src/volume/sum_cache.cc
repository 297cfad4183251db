#include "src/volume/sum_cache.h"

#include <algorithm>
#include <bit>

namespace cairn {

SumCache::SumCache(uint64_t limit_bytes) {
  const uint64_t slots = limit_bytes / (sizeof(Slot) + sizeof(ChunkSums) + 16);
  const uint64_t sets = std::max<uint64_t>(1, slots / (kShards * kWays));
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mu);
    shard.slots.resize(sets * kWays);
  }
}

uint64_t SumCache::HashOf(uint64_t generation, ChunkIndex chunk) {
  uint64_t hash = (generation * 0x9E3779B97F4A7C15ull) ^ chunk.value();
  hash *= 0xD6E8FEB86659FD93ull;
  return hash ^ (hash >> 32);
}

size_t SumCache::SetOf(const Shard& shard, uint64_t hash) {
  return (hash / kShards) % (shard.slots.size() / kWays) * kWays;
}

bool SumCache::Find(uint64_t generation, ChunkIndex chunk, BlockMask wanted, ChunkSums& sums) {
  const uint64_t hash = HashOf(generation, chunk);
  Shard& shard = shards_[hash % kShards];
  MutexLock lock(shard.mu);
  const size_t set = SetOf(shard, hash);
  for (size_t i = set; i < set + kWays; ++i) {
    const Slot& slot = shard.slots[i];
    if (slot.generation != generation || slot.chunk != chunk) continue;
    sums.mask = slot.sums->mask;
    sums.zero = slot.sums->zero;
    for (; wanted != 0; wanted &= wanted - 1) {
      const auto block = static_cast<size_t>(std::countr_zero(wanted));
      sums.crc[block] = slot.sums->crc[block];
    }
    return true;
  }
  return false;
}

void SumCache::Put(uint64_t generation, ChunkIndex chunk, const ChunkSums& sums) {
  const uint64_t hash = HashOf(generation, chunk);
  Shard& shard = shards_[hash % kShards];
  MutexLock lock(shard.mu);
  const size_t set = SetOf(shard, hash);
  size_t place = set + shard.turn++ % kWays;
  for (size_t i = set; i < set + kWays; ++i) {
    const Slot& slot = shard.slots[i];
    if (slot.generation == generation && slot.chunk == chunk) place = i;
  }
  Slot& slot = shard.slots[place];
  if (slot.sums == nullptr) slot.sums = std::make_unique<ChunkSums>();
  slot.generation = generation;
  slot.chunk = chunk;
  *slot.sums = sums;
}

}  // namespace cairn
