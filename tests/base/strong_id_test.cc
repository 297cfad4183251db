#include "src/base/strong_id.h"

#include <gtest/gtest.h>

#include <concepts>
#include <set>
#include <type_traits>
#include <unordered_set>

namespace cairn {
namespace {

template <typename A, typename B>
concept Comparable = requires(A a, B b) {
  a == b;
};

static_assert(Comparable<InodeId, InodeId>);
static_assert(!Comparable<InodeId, BranchId>);
static_assert(!Comparable<InodeId, uint64_t>);
static_assert(!std::is_convertible_v<uint64_t, InodeId>);
static_assert(!std::is_convertible_v<InodeId, uint64_t>);
static_assert(!std::is_constructible_v<InodeId, BranchId>);
static_assert(sizeof(Epoch) == sizeof(uint64_t));

TEST(StrongIdTest, ComparesByValue) {
  EXPECT_EQ(InodeId().value(), 0u);
  EXPECT_EQ(InodeId(7), InodeId(7));
  EXPECT_NE(InodeId(7), InodeId(8));
  EXPECT_LT(Epoch(7), Epoch(8));
  EXPECT_LT(Epoch(8), Epoch(UINT64_MAX));
  EXPECT_EQ(Epoch(7).Next(), Epoch(8));
  EXPECT_EQ(kRootInode, InodeId(1));
}

TEST(StrongIdTest, DenseIdsSpreadOverBuckets) {
  std::unordered_set<ChunkIndex> ids;
  std::set<size_t> low_bits;
  for (uint64_t i = 0; i < 4096; ++i) {
    ids.insert(ChunkIndex(i));
    low_bits.insert(std::hash<ChunkIndex>()(ChunkIndex(i)) % 4096);
  }
  EXPECT_EQ(ids.size(), 4096u);
  EXPECT_TRUE(ids.contains(ChunkIndex(4095)));
  EXPECT_FALSE(ids.contains(ChunkIndex(4096)));
  // A random function would hit 63 % of the buckets; one that ignores the value hits one.
  EXPECT_GT(low_bits.size(), 2048u);
}

}  // namespace
}  // namespace cairn
