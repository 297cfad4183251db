#include "src/volume/sum_cache.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

constexpr uint64_t kLimitBytes = 1 << 20;

ChunkSums SumsFrom(uint32_t first) {
  ChunkSums sums;
  sums.mask = kAllBlocks;
  sums.zero = BlockRange(first % kBlocksPerChunk, 1);
  for (uint32_t& crc : sums.crc) crc = first++;
  return sums;
}

TEST(SumCacheTest, FindsTheBlocksThatAreWanted) {
  SumCache cache(kLimitBytes);
  const ChunkSums kept = SumsFrom(7);
  cache.Put(1, ChunkIndex(2), kept);
  for (const BlockMask wanted : {BlockRange(0, 1), BlockRange(63, 1), BlockRange(5, 9),
                                 BlockRange(0, 1) | BlockRange(40, 2), kAllBlocks}) {
    ChunkSums found;
    ASSERT_TRUE(cache.Find(1, ChunkIndex(2), wanted, found));
    EXPECT_EQ(found.mask, kept.mask);
    EXPECT_EQ(found.zero, kept.zero);
    for (uint64_t block = 0; block < kBlocksPerChunk; ++block) {
      if (!(wanted & BlockRange(block, 1))) continue;
      EXPECT_EQ(found.crc[block], kept.crc[block]) << block;
    }
  }
}

TEST(SumCacheTest, FindsNothingOfAnotherGenerationOrChunk) {
  SumCache cache(kLimitBytes);
  ChunkSums found;
  EXPECT_FALSE(cache.Find(1, ChunkIndex(2), kAllBlocks, found));
  cache.Put(1, ChunkIndex(2), SumsFrom(0));
  EXPECT_FALSE(cache.Find(1, ChunkIndex(3), kAllBlocks, found));
  EXPECT_FALSE(cache.Find(2, ChunkIndex(2), kAllBlocks, found));
}

TEST(SumCacheTest, WhatIsPutLastIsFound) {
  SumCache cache(kLimitBytes);
  cache.Put(1, ChunkIndex(2), SumsFrom(0));
  cache.Put(1, ChunkIndex(2), SumsFrom(1));
  ChunkSums found;
  ASSERT_TRUE(cache.Find(1, ChunkIndex(2), BlockRange(9, 1), found));
  EXPECT_EQ(found.crc[9], 10u);
}

TEST(SumCacheTest, IsBounded) {
  SumCache cache(kLimitBytes);
  constexpr uint64_t kRecords = 4 * kLimitBytes / sizeof(ChunkSums);
  for (uint64_t i = 0; i < kRecords; ++i) cache.Put(1, ChunkIndex(i), SumsFrom(0));
  uint64_t found_bytes = 0;
  for (uint64_t i = 0; i < kRecords; ++i) {
    ChunkSums found;
    if (cache.Find(1, ChunkIndex(i), kAllBlocks, found)) found_bytes += sizeof(ChunkSums);
  }
  EXPECT_GT(found_bytes, kLimitBytes / 2);
  EXPECT_LE(found_bytes, kLimitBytes);
}

}  // namespace
}  // namespace cairn
