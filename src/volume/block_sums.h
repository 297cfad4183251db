// Checksums of single blocks. Pure functions.
#ifndef CAIRN_SRC_VOLUME_BLOCK_SUMS_H_
#define CAIRN_SRC_VOLUME_BLOCK_SUMS_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "src/warm/records.h"

namespace cairn {

bool IsZeros(std::span<const std::byte> bytes);

// Enters the checksum of block `block` of a chunk. REQUIRES: `bytes` has kBlockSize bytes.
void AddSum(ChunkSums& sums, uint64_t block, std::span<const std::byte> bytes);
// The same of blocks that hold nothing but zeros.
void AddZeros(ChunkSums& sums, BlockMask blocks);
// Whether the block holds what was summed. REQUIRES: it has a checksum, and kBlockSize bytes.
bool MatchesSum(const ChunkSums& sums, uint64_t block, std::span<const std::byte> bytes);

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_BLOCK_SUMS_H_
