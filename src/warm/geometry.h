// Offset arithmetic of a volume: bytes, 4 KiB blocks, 256 KiB chunks, 1 TiB segments.
//
// A block is the unit of presence and copy-on-write; a chunk (64 blocks) the unit of the index,
// one 64-bit mask each; a segment the span of one extent file, so that a 64 TiB volume fits on
// filesystems whose largest file is smaller.
#ifndef CAIRN_SRC_WARM_GEOMETRY_H_
#define CAIRN_SRC_WARM_GEOMETRY_H_

#include <algorithm>
#include <bit>
#include <cstdint>

#include "src/base/strong_id.h"

namespace cairn {

inline constexpr uint64_t kBlockSize = 4096;
inline constexpr uint64_t kBlocksPerChunk = 64;
inline constexpr uint64_t kChunkSize = kBlockSize * kBlocksPerChunk;
inline constexpr uint64_t kSegmentSize = 1ull << 40;
inline constexpr uint64_t kMaxVolumeSize = 64ull << 40;

// One bit a block of a chunk, block 0 lowest.
using BlockMask = uint64_t;
inline constexpr BlockMask kAllBlocks = ~BlockMask{0};

static_assert(kBlocksPerChunk == 64, "a BlockMask has one bit a block");
static_assert(kSegmentSize % kChunkSize == 0, "a chunk lies in one segment");

// The stretch whose blocks are sealed and opened together, and are resolved together in memory.
inline constexpr uint64_t kChunksPerRegion = 512;
static_assert(kSegmentSize % (kChunksPerRegion * kChunkSize) == 0, "a region lies in one segment");

constexpr ChunkIndex ChunkOf(uint64_t offset) { return ChunkIndex(offset / kChunkSize); }
constexpr uint64_t ChunkStart(ChunkIndex chunk) { return chunk.value() * kChunkSize; }
constexpr uint64_t OffsetInChunk(uint64_t offset) { return offset % kChunkSize; }
constexpr SegmentIndex SegmentOf(uint64_t offset) { return SegmentIndex(offset / kSegmentSize); }
constexpr SegmentIndex SegmentOf(ChunkIndex chunk) { return SegmentOf(ChunkStart(chunk)); }
constexpr uint64_t RegionOf(ChunkIndex chunk) { return chunk.value() / kChunksPerRegion; }
constexpr ChunkIndex RegionStart(uint64_t region) { return ChunkIndex(region * kChunksPerRegion); }
// Where a volume's byte lies in its segment's extent file.
constexpr uint64_t OffsetInSegment(uint64_t offset) { return offset % kSegmentSize; }
// How many chunks a volume of `size` bytes has.
constexpr uint64_t ChunkCount(uint64_t size) { return (size + kChunkSize - 1) / kChunkSize; }
constexpr uint64_t SegmentCount(uint64_t size) { return (size + kSegmentSize - 1) / kSegmentSize; }
constexpr uint64_t RoundUpToBlock(uint64_t offset) {
  return (offset + kBlockSize - 1) / kBlockSize * kBlockSize;
}
constexpr uint64_t RoundUpToChunk(uint64_t offset) { return ChunkCount(offset) * kChunkSize; }

// The blocks first, first+1 ... first+count-1. REQUIRES: first + count <= 64.
constexpr BlockMask BlockRange(uint64_t first, uint64_t count) {
  if (count == 0) return 0;
  return (kAllBlocks >> (kBlocksPerChunk - count)) << first;
}
// The blocks that the bytes [begin, end) of a chunk touch. REQUIRES: begin < end <= kChunkSize.
constexpr BlockMask BlocksTouched(uint64_t begin, uint64_t end) {
  const uint64_t first = begin / kBlockSize;
  return BlockRange(first, (end - 1) / kBlockSize - first + 1);
}
// The blocks that the bytes [begin, end) of a chunk cover whole. REQUIRES: begin <= end.
constexpr BlockMask BlocksCovered(uint64_t begin, uint64_t end) {
  const uint64_t first = (begin + kBlockSize - 1) / kBlockSize;
  const uint64_t last = end / kBlockSize;
  return last > first ? BlockRange(first, last - first) : 0;
}

// A run of equal bits in a mask, in blocks.
struct BlockRun {
  uint64_t first = 0;
  uint64_t count = 0;
};
// The first run of set bits at or behind block `from`; count 0 when there is none.
constexpr BlockRun NextRun(BlockMask mask, uint64_t from) {
  if (from >= kBlocksPerChunk) return {kBlocksPerChunk, 0};
  const BlockMask rest = mask & (kAllBlocks << from);
  if (rest == 0) return {kBlocksPerChunk, 0};
  const auto first = static_cast<uint64_t>(std::countr_zero(rest));
  const auto count = static_cast<uint64_t>(std::countr_one(rest >> first));
  return {first, std::min(count, kBlocksPerChunk - first)};
}

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_GEOMETRY_H_
