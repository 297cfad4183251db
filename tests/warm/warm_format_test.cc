// The index's records: what is encoded decodes to the same, and whatever else is decoded is either
// kCorrupt or a record that encodes again.
#include "src/warm/warm_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

using Random = std::mt19937_64;

InodeRecord RandomInode(Random& random) {
  InodeRecord record;
  record.kind = random() % 2 ? FileKind::kVolume : FileKind::kDirectory;
  record.mode = random() % 010000;
  record.uid = static_cast<uint32_t>(random());
  record.gid = static_cast<uint32_t>(random());
  record.size = random() % (kMaxVolumeSize + 1);
  record.atime_ns = static_cast<int64_t>(random());
  record.mtime_ns = static_cast<int64_t>(random());
  record.ctime_ns = static_cast<int64_t>(random());
  record.parent = InodeId(random());
  record.branch = BranchId(random());
  return record;
}

BranchRecord RandomBranch(Random& random) {
  BranchRecord record{BranchId(random() % 2 * random()), Epoch(random()), Epoch(random() | 1),
                      InodeId(random()), random()};
  if (record.parent != BranchId(0)) record.parent_end = random() % 1000 * kBlockSize;
  return record;
}

VersionRecord RandomVersion(Random& random) {
  VersionRecord record;
  if (random() % 8 == 0) {
    record.extent = kAllBlocks;
    return record;
  }
  record.extent = random() & random();
  record.zero = random() % 2 ? random() & ~record.extent : 0;
  BlockMask rest = ~(record.extent | record.zero);
  while (random() % 2 && rest != 0) {
    const BlockMask mask = rest & (random() | rest << 1);
    if (mask == 0) break;
    record.tombstones.push_back({mask, std::string(random() % 40, static_cast<char>(random()))});
    rest &= ~mask;
  }
  if (record.extent == 0 && record.zero == 0 && record.tombstones.empty()) record.extent = 1;
  return record;
}

// Every truncation, one byte more, and every flipped bit. `decode` gives the record's encoding
// again, or the status.
template <typename Decode>
void Mangle(const std::string& bytes, bool fixed_size, const Decode& decode) {
  const auto check = [&](const std::string& mangled, bool must_fail) {
    const Result<std::string> again = decode(mangled);
    if (!again.ok()) {
      ASSERT_EQ(CodeOf(again), Code::kCorrupt) << again.status().ToString();
      return;
    }
    ASSERT_FALSE(must_fail);
    const Result<std::string> twice = decode(*again);
    ASSERT_TRUE(twice.ok());
    ASSERT_EQ(*twice, *again);
    ASSERT_NE(*again, bytes);
  };
  for (size_t size = 0; size < bytes.size(); ++size) check(bytes.substr(0, size), fixed_size);
  check(bytes + '\0', fixed_size);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    check(flipped, false);
  }
}

Result<std::string> InodeAgain(const std::string& bytes) {
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, DecodeInode(bytes));
  return EncodeInode(record);
}
Result<std::string> BranchAgain(const std::string& bytes) {
  CAIRN_ASSIGN_OR_RETURN(const BranchRecord record, DecodeBranch(bytes));
  return EncodeBranch(record);
}
Result<std::string> VersionAgain(const std::string& bytes) {
  CAIRN_ASSIGN_OR_RETURN(const VersionRecord record, DecodeVersion(bytes));
  BlockMask seen = record.extent;
  EXPECT_EQ(record.zero & seen, 0u);
  seen |= record.zero;
  for (const auto& tombstone : record.tombstones) {
    EXPECT_NE(tombstone.mask, 0u);
    EXPECT_EQ(tombstone.mask & seen, 0u);
    seen |= tombstone.mask;
  }
  EXPECT_NE(seen, 0u);
  return EncodeVersion(record);
}

TEST(WarmFormat, InodesRoundTripAndMangledOnesNeverPassForTheSame) {
  Random random(1);
  for (int i = 0; i < 300; ++i) {
    const InodeRecord record = RandomInode(random);
    const std::string bytes = EncodeInode(record);
    ASSERT_EQ(bytes.size(), 61u);
    const auto back = DecodeInode(bytes);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->kind, record.kind);
    EXPECT_EQ(back->mode, record.mode);
    EXPECT_EQ(back->uid, record.uid);
    EXPECT_EQ(back->gid, record.gid);
    EXPECT_EQ(back->size, record.size);
    EXPECT_EQ(back->atime_ns, record.atime_ns);
    EXPECT_EQ(back->mtime_ns, record.mtime_ns);
    EXPECT_EQ(back->ctime_ns, record.ctime_ns);
    EXPECT_EQ(back->parent, record.parent);
    EXPECT_EQ(back->branch, record.branch);
    Mangle(bytes, true, InodeAgain);
  }
}

TEST(WarmFormat, InodesOutsideTheirBoundsAreCorrupt) {
  Random random(2);
  InodeRecord record = RandomInode(random);
  record.size = kMaxVolumeSize + 1;
  EXPECT_EQ(CodeOf(DecodeInode(EncodeInode(record))), Code::kCorrupt);
  record = RandomInode(random);
  record.mode = 010000;
  EXPECT_EQ(CodeOf(DecodeInode(EncodeInode(record))), Code::kCorrupt);
  for (int kind = 0; kind < 256; ++kind) {
    std::string bytes = EncodeInode(RandomInode(random));
    bytes[0] = static_cast<char>(kind);
    // A snapshot's record is longer.
    EXPECT_EQ(DecodeInode(bytes).ok(), kind == 1 || kind == 2) << kind;
  }
}

TEST(WarmFormat, BranchesRoundTripAndMangledOnesNeverPassForTheSame) {
  Random random(3);
  for (int i = 0; i < 300; ++i) {
    const BranchRecord record = RandomBranch(random);
    const std::string bytes = EncodeBranch(record);
    ASSERT_EQ(bytes.size(), record.parent == BranchId(0) ? 40u : 48u);
    const auto back = DecodeBranch(bytes);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->parent, record.parent);
    EXPECT_EQ(back->parent_epoch, record.parent_epoch);
    EXPECT_EQ(back->epoch, record.epoch);
    EXPECT_EQ(back->inode, record.inode);
    EXPECT_EQ(back->trimmed_crash, record.trimmed_crash);
    EXPECT_EQ(back->parent_end, record.parent_end);
    Mangle(bytes, true, BranchAgain);
  }
  BranchRecord none = RandomBranch(random);
  none.epoch = Epoch(0);
  EXPECT_EQ(CodeOf(DecodeBranch(EncodeBranch(none))), Code::kCorrupt);
}

TEST(WarmFormat, VersionsRoundTripAndMangledOnesAreWellFormed) {
  Random random(4);
  for (int i = 0; i < 500; ++i) {
    const VersionRecord record = RandomVersion(random);
    const std::string bytes = EncodeVersion(record);
    const auto back = DecodeVersion(bytes);
    ASSERT_TRUE(back.ok()) << i;
    EXPECT_EQ(back->extent, record.extent);
    EXPECT_EQ(back->zero, record.zero);
    ASSERT_EQ(back->tombstones.size(), record.tombstones.size());
    for (size_t t = 0; t < record.tombstones.size(); ++t) {
      EXPECT_EQ(back->tombstones[t].mask, record.tombstones[t].mask);
      EXPECT_EQ(back->tombstones[t].location, record.tombstones[t].location);
    }
    Mangle(bytes, false, VersionAgain);
  }
}

TEST(WarmFormat, ChecksumsRoundTripAndMangledOnesAreWellFormed) {
  Random random(5);
  for (int round = 0; round < 200; ++round) {
    ChunkSums sums;
    sums.mask = random() | 1;
    sums.zero = random() & random() & sums.mask;
    for (uint64_t block = 0; block < kBlocksPerChunk; ++block) {
      if ((sums.mask & ~sums.zero) & BlockRange(block, 1)) {
        sums.crc[block] = static_cast<uint32_t>(random());
      }
    }
    const std::string bytes = EncodeSums(sums);
    const auto back = DecodeSums(bytes);
    ASSERT_TRUE(back.ok());
    EXPECT_EQ(back->mask, sums.mask);
    EXPECT_EQ(back->zero, sums.zero);
    EXPECT_EQ(back->crc, sums.crc);
    Mangle(bytes, false, [](const std::string& mangled) -> Result<std::string> {
      CAIRN_ASSIGN_OR_RETURN(const ChunkSums decoded, DecodeSums(mangled));
      return EncodeSums(decoded);
    });
  }
  // No block at all, and a block of zeros that has no checksum.
  EXPECT_EQ(CodeOf(DecodeSums(std::string(16, '\0'))), Code::kCorrupt);
  EXPECT_EQ(CodeOf(DecodeSums(EncodeU64(1) + EncodeU64(2) + "abcd")), Code::kCorrupt);
}

TEST(WarmFormat, ARegionIsSealedOrOpen) {
  EXPECT_EQ(*DecodeRegion("\1"), RegionState::kSealed);
  EXPECT_EQ(*DecodeRegion("\2"), RegionState::kOpen);
  EXPECT_EQ(EncodeRegion(RegionState::kSealed), "\1");
  EXPECT_EQ(EncodeRegion(RegionState::kOpen), "\2");
  for (const std::string& other :
       {std::string(), std::string(1, '\0'), std::string("\3"), std::string("\1\1")}) {
    EXPECT_EQ(CodeOf(DecodeRegion(other)), Code::kCorrupt);
  }
}

TEST(WarmFormat, AWholeChunkIsOneByteAndNothingIsNoVersion) {
  VersionRecord whole;
  whole.extent = kAllBlocks;
  EXPECT_EQ(EncodeVersion(whole), std::string(1, '\1'));
  EXPECT_EQ(CodeOf(DecodeVersion("")), Code::kCorrupt);
  EXPECT_EQ(CodeOf(DecodeVersion("\1\1")), Code::kCorrupt);
}

TEST(WarmFormat, OverlappingDoubledAndUnknownPartsAreCorrupt) {
  const auto part = [](char letter, BlockMask mask) { return letter + EncodeU64(mask); };
  EXPECT_TRUE(DecodeVersion(part(2, 1) + part(3, 2)).ok());
  EXPECT_EQ(CodeOf(DecodeVersion(part(2, 3) + part(3, 2))), Code::kCorrupt);
  EXPECT_EQ(CodeOf(DecodeVersion(part(2, 1) + part(2, 2))), Code::kCorrupt);
  EXPECT_EQ(CodeOf(DecodeVersion(part(3, 1) + part(3, 2))), Code::kCorrupt);
  EXPECT_EQ(CodeOf(DecodeVersion(part(2, 0))), Code::kCorrupt);
  EXPECT_EQ(CodeOf(DecodeVersion(part(5, 1))), Code::kCorrupt);
  EXPECT_EQ(CodeOf(DecodeVersion(part(1, 1))), Code::kCorrupt);
}

TEST(WarmFormat, RandomBytesNeverCrashADecoder) {
  Random random(5);
  for (int i = 0; i < 100000; ++i) {
    std::string bytes(random() % 70, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % (random() % 2 ? 6 : 256));
    for (const auto& result : {InodeAgain(bytes), BranchAgain(bytes), VersionAgain(bytes)}) {
      if (!result.ok()) {
        ASSERT_EQ(CodeOf(result), Code::kCorrupt);
      }
    }
  }
}

TEST(WarmFormat, KeysDecodeToTheirPartsAndNoOtherLength) {
  Random random(6);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t a = random() >> random() % 64;
    const uint64_t b = random() >> random() % 64;
    const uint64_t c = random() >> random() % 64;
    const std::string version_key = VersionKey(BranchId(a), ChunkIndex(b), Epoch(c));
    const auto version = DecodeVersionKey(version_key);
    ASSERT_TRUE(version.ok());
    EXPECT_EQ(version->branch, BranchId(a));
    EXPECT_EQ(version->chunk, ChunkIndex(b));
    EXPECT_EQ(version->epoch, Epoch(c));
    const ExtentId id{BranchId(a), Epoch(b), SegmentIndex(c)};
    const std::string extent_key = ExtentKey(id);
    const auto extent = DecodeExtentKey(extent_key);
    ASSERT_TRUE(extent.ok());
    EXPECT_EQ(*extent, id);
    const std::string sums_key = SumsKey(BranchId(a), Epoch(b), ChunkIndex(a));
    const auto sums = DecodeSumsKey(sums_key);
    ASSERT_TRUE(sums.ok());
    EXPECT_EQ(sums->branch, BranchId(a));
    EXPECT_EQ(sums->epoch, Epoch(b));
    EXPECT_EQ(sums->chunk, ChunkIndex(a));
    const RegionId region_id{BranchId(a), Epoch(b), b};
    const auto region = DecodeRegionKey(RegionKey(region_id));
    ASSERT_TRUE(region.ok());
    EXPECT_EQ(*region, region_id);
    const std::string listing_key = ListingKey(InodeId(a), InodeId(b));
    const auto listing = DecodeListingKey(listing_key);
    ASSERT_TRUE(listing.ok());
    EXPECT_EQ(listing->first, a);
    EXPECT_EQ(listing->second, b);
    const std::string name_key = NameKey(InodeId(a), "name");
    const auto name = DecodeIdNameKey(name_key);
    ASSERT_TRUE(name.ok());
    EXPECT_EQ(name->id, a);
    EXPECT_EQ(name->name, "name");
    const auto branch = DecodeIdKey(BranchKey(BranchId(a)));
    ASSERT_TRUE(branch.ok());
    EXPECT_EQ(*branch, a);
    for (size_t size = 0; size < version_key.size() + 3; ++size) {
      std::string other = version_key;
      other.resize(size);
      EXPECT_EQ(DecodeVersionKey(other).ok(), size == 25u);
      EXPECT_EQ(DecodeExtentKey(other).ok(), size == 25u);
      EXPECT_EQ(DecodeListingKey(other).ok(), size == 17u);
      EXPECT_EQ(DecodeIdKey(other).ok(), size == 9u);
      EXPECT_EQ(DecodeIdNameKey(other).ok(), size > 9u);
    }
  }
}

TEST(WarmFormat, VersionsSortByBranchThenChunkThenNewestEpochFirst) {
  struct Place {
    uint64_t branch, chunk, epoch;
  };
  std::vector<Place> places;
  const std::vector<uint64_t> numbers = {0, 1, 2, 255, 256, 65536, 1ull << 40, ~0ull - 1, ~0ull};
  for (const uint64_t branch : numbers) {
    for (const uint64_t chunk : numbers) {
      for (auto epoch = numbers.rbegin(); epoch != numbers.rend(); ++epoch) {
        places.push_back({branch, chunk, *epoch});
      }
    }
  }
  std::vector<std::string> keys;
  for (const Place& place : places) {
    keys.push_back(VersionKey(BranchId(place.branch), ChunkIndex(place.chunk), Epoch(place.epoch)));
    EXPECT_TRUE(keys.back().starts_with(KeyPrefix(KeyKind::kVersion, place.branch)));
  }
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
  EXPECT_EQ(std::adjacent_find(keys.begin(), keys.end()), keys.end());
}

TEST(WarmFormat, ListingsSortByParentThenChild) {
  const std::vector<uint64_t> numbers = {0, 1, 255, 256, 1ull << 32, ~0ull};
  std::vector<std::string> keys;
  for (const uint64_t parent : numbers) {
    for (const uint64_t child : numbers)
      keys.push_back(ListingKey(InodeId(parent), InodeId(child)));
  }
  EXPECT_TRUE(std::is_sorted(keys.begin(), keys.end()));
}

}  // namespace
}  // namespace cairn
