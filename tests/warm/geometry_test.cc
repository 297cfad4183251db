// The offset arithmetic against loops that are too simple to be wrong.
#include "src/warm/geometry.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace cairn {
namespace {

BlockMask Bit(uint64_t block) { return BlockMask{1} << block; }

// Everything next to where something changes.
std::vector<uint64_t> Edges(uint64_t unit, uint64_t limit) {
  std::vector<uint64_t> edges;
  for (uint64_t at = 0; at <= limit; at += unit) {
    for (const uint64_t edge : {at - 1, at, at + 1, at + unit / 2}) {
      if (edge <= limit) edges.push_back(edge);
    }
  }
  return edges;
}

TEST(Geometry, BlockRangeOfEveryFirstAndCount) {
  for (uint64_t first = 0; first <= kBlocksPerChunk; ++first) {
    for (uint64_t count = 0; first + count <= kBlocksPerChunk; ++count) {
      BlockMask expected = 0;
      for (uint64_t block = first; block < first + count; ++block) expected |= Bit(block);
      // The shift by 64 that an empty range at the chunk's end would be is not asked for.
      ASSERT_EQ(BlockRange(first, count), expected) << first << "+" << count;
    }
  }
}

TEST(Geometry, BlocksTouchedAndCoveredAtEveryPairOfEdges) {
  const std::vector<uint64_t> edges = Edges(kBlockSize, kChunkSize);
  for (const uint64_t begin : edges) {
    for (const uint64_t end : edges) {
      if (begin > end) continue;
      BlockMask touched = 0;
      BlockMask covered = 0;
      for (uint64_t block = 0; block < kBlocksPerChunk; ++block) {
        const uint64_t start = block * kBlockSize;
        if (begin < start + kBlockSize && end > start) touched |= Bit(block);
        if (begin <= start && end >= start + kBlockSize) covered |= Bit(block);
      }
      ASSERT_EQ(BlocksCovered(begin, end), covered) << begin << ".." << end;
      if (begin < end) {
        ASSERT_EQ(BlocksTouched(begin, end), touched) << begin << ".." << end;
      }
    }
  }
}

BlockRun NaiveNextRun(BlockMask mask, uint64_t from) {
  for (uint64_t first = from; first < kBlocksPerChunk; ++first) {
    if ((mask & Bit(first)) == 0) continue;
    uint64_t end = first;
    while (end < kBlocksPerChunk && (mask & Bit(end)) != 0) ++end;
    return {first, end - first};
  }
  return {kBlocksPerChunk, 0};
}

void CheckRuns(BlockMask mask) {
  for (uint64_t from = 0; from <= kBlocksPerChunk + 1; ++from) {
    const BlockRun run = NextRun(mask, from);
    const BlockRun expected = NaiveNextRun(mask, from);
    ASSERT_EQ(run.count, expected.count) << std::hex << mask << " from " << from;
    ASSERT_EQ(run.first, expected.first) << std::hex << mask << " from " << from;
  }
}

TEST(Geometry, NextRunOfEveryRangeItsComplementAndRandomMasks) {
  for (uint64_t first = 0; first < kBlocksPerChunk; ++first) {
    for (uint64_t count = 0; first + count <= kBlocksPerChunk; ++count) {
      CheckRuns(BlockRange(first, count));
      CheckRuns(~BlockRange(first, count));
    }
  }
  // All masks of 8 bits, at the bottom, across the middle and at the top.
  for (BlockMask low = 0; low < 256; ++low) {
    for (const uint64_t shift : {0, 28, 56}) CheckRuns(low << shift);
  }
  std::mt19937_64 random(1);
  for (int i = 0; i < 2000; ++i) {
    CheckRuns(random());
    CheckRuns(random() & random() & random());
    CheckRuns(random() | random() | random());
  }
}

TEST(Geometry, RunsOfAMaskAddUpToIt) {
  std::mt19937_64 random(2);
  for (int i = 0; i < 2000; ++i) {
    const BlockMask mask = random();
    BlockMask sum = 0;
    for (BlockRun run = NextRun(mask, 0); run.count != 0;
         run = NextRun(mask, run.first + run.count))
      sum |= BlockRange(run.first, run.count);
    ASSERT_EQ(sum, mask);
  }
}

TEST(Geometry, ChunksAndBlocksOfTheFirstMebibyteByteByByte) {
  uint64_t chunk = 0;
  uint64_t in_chunk = 0;
  for (uint64_t offset = 0; offset <= 4 * kChunkSize; ++offset) {
    if (in_chunk == kChunkSize) {
      ++chunk;
      in_chunk = 0;
    }
    ASSERT_EQ(ChunkOf(offset), ChunkIndex(chunk)) << offset;
    ASSERT_EQ(OffsetInChunk(offset), in_chunk) << offset;
    ASSERT_EQ(ChunkStart(ChunkOf(offset)) + in_chunk, offset);
    ASSERT_EQ(ChunkCount(offset), in_chunk == 0 ? chunk : chunk + 1) << offset;
    ASSERT_EQ(RoundUpToChunk(offset), ChunkCount(offset) * kChunkSize);
    const uint64_t up = RoundUpToBlock(offset);
    ASSERT_TRUE(up >= offset && up - offset < kBlockSize && up % kBlockSize == 0) << offset;
    ++in_chunk;
  }
}

TEST(Geometry, SegmentsUpToTheLargestVolume) {
  for (uint64_t segment = 0; segment < kMaxVolumeSize / kSegmentSize; ++segment) {
    const uint64_t start = segment * kSegmentSize;
    for (const uint64_t within : {uint64_t{0}, uint64_t{1}, kSegmentSize / 2, kSegmentSize - 1}) {
      const uint64_t offset = start + within;
      ASSERT_EQ(SegmentOf(offset), SegmentIndex(segment));
      ASSERT_EQ(OffsetInSegment(offset), within);
      ASSERT_EQ(SegmentOf(ChunkOf(offset)), SegmentIndex(segment));
      ASSERT_EQ(SegmentCount(offset), within == 0 ? segment : segment + 1);
    }
  }
  EXPECT_EQ(SegmentCount(kMaxVolumeSize), 64u);
  EXPECT_EQ(RoundUpToBlock(kMaxVolumeSize - 1), kMaxVolumeSize);
  EXPECT_EQ(RoundUpToChunk(kMaxVolumeSize - 1), kMaxVolumeSize);
  EXPECT_EQ(ChunkStart(ChunkIndex(ChunkCount(kMaxVolumeSize))), kMaxVolumeSize);
}

}  // namespace
}  // namespace cairn
