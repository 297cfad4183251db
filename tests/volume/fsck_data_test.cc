// fsck: records of checksums, and the data against them.
#include "src/volume/block_sums.h"
#include "src/warm/warm_format.h"
#include "tests/volume/fsck_test_util.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FsckDataTest : public FsckTest {
 protected:
  void SetUp() override {
    FsckTest::SetUp();
    volume_ = MakeVolume(MakeDirectory(kRootInode, "vm1"), "data.img", 16 * kChunkSize);
    extent_ = {volume_.branch, Epoch(1), SegmentIndex(0)};
    Write(volume_.branch, 0, kAllBlocks);
    Write(volume_.branch, 7, 0b1100);
    path_ = PathOf(extent_);
    Seal(0, kAllBlocks);
    // More than the version holds: a punched or cut off block may still have its checksum.
    Seal(7, 0b1111);
    SetRegion(RegionState::kSealed);
  }

  void Seal(uint64_t chunk, BlockMask mask) {
    const std::string block(kBlockSize, 'x');
    ChunkSums sums;
    for (uint64_t i = 0; i < kBlocksPerChunk; ++i) {
      if (mask & BlockRange(i, 1)) AddSum(sums, i, std::as_bytes(std::span(block)));
    }
    Change([&](IndexBatch& batch) {
      batch.PutSums(volume_.branch, Epoch(1), ChunkIndex(chunk), sums);
    });
  }
  void SetRegion(RegionState state) {
    Change([&](IndexBatch& batch) { batch.PutRegion({volume_.branch, Epoch(1), 0}, state); });
  }
  void Overwrite(uint64_t offset, uint64_t length) {
    auto file = env_.Open(path_, OpenMode::kReadWrite);
    const std::vector<std::byte> bytes(length, std::byte{1});
    ASSERT_TRUE((*file)->WriteAt(offset, bytes).ok());
  }
  FsckReport CheckData() {
    Close();
    FsckOptions options;
    options.check_data = true;
    auto report = CheckStore(env_, kDir, options);
    EXPECT_TRUE(report.ok()) << report.status().ToString();
    Open();
    return report.ok() ? *report : FsckReport();
  }

  Made volume_;
  ExtentId extent_;
  std::string path_;
};

TEST_F(FsckDataTest, DataThatIsAsItWasIsSound) {
  ExpectClean();
  const FsckReport report = CheckData();
  EXPECT_TRUE(report.findings.empty()) << Text(report);
  EXPECT_EQ(report.data_bytes, 66 * kBlockSize);
  EXPECT_EQ(report.open_regions, 0u);
}

TEST_F(FsckDataTest, DamagedBlocksAreNamedByFileVolumeAndBytes) {
  Overwrite(3 * kBlockSize + 10, 1);
  Overwrite(9 * kBlockSize, 2 * kBlockSize);
  Overwrite(7 * kChunkSize + 3 * kBlockSize, 1);
  ExpectClean();  // nobody asked for the data
  const FsckReport report = CheckData();
  EXPECT_THAT(Codes(report), ElementsAre("data-damaged", "data-damaged", "data-damaged"));
  EXPECT_FALSE(report.sound());
  EXPECT_EQ(report.findings[0].where, "/vm1/data.img");
  EXPECT_THAT(report.findings[0].what, HasSubstr(path_));
  EXPECT_THAT(report.findings[0].what, HasSubstr("bytes 12288 to 16384 of the volume"));
  EXPECT_EQ(report.findings[1].bytes, 2 * kBlockSize);
  EXPECT_THAT(report.findings[2].what, HasSubstr("bytes 1847296 to 1851392 of the volume"));
}

// It could not be read either when the region was sealed.
TEST_F(FsckDataTest, ABlockWithoutAChecksumIsReadAllTheSame) {
  ChunkSums sums = *store_->index().GetSums(volume_.branch, Epoch(1), ChunkIndex(0));
  sums.mask &= ~BlockRange(5, 1);
  Change([&](IndexBatch& batch) { batch.PutSums(volume_.branch, Epoch(1), ChunkIndex(0), sums); });
  EXPECT_TRUE(CheckData().sound());
  Fault fault;
  fault.ops = Op::kRead;
  fault.path_contains = path_;
  fault.forever = true;
  env_.AddFault(fault);
  const FsckReport report = CheckData();
  env_.ClearFaults();
  uint64_t unreadable = 0;
  for (const FsckFinding& finding : report.findings) {
    EXPECT_EQ(finding.code, "data-unreadable");
    unreadable += finding.bytes;
  }
  EXPECT_EQ(unreadable, 66 * kBlockSize) << "this one, too";
}

TEST_F(FsckDataTest, AnOpenRegionIsNotCompared) {
  SetRegion(RegionState::kOpen);
  Overwrite(0, 10);
  const FsckReport report = CheckData();
  EXPECT_TRUE(report.findings.empty()) << Text(report);
  EXPECT_EQ(report.data_bytes, 0u);
  EXPECT_EQ(report.open_regions, 1u);
}

TEST_F(FsckDataTest, BlocksOfNoVersionAreNotCompared) {
  Overwrite(7 * kChunkSize, 2 * kBlockSize);
  EXPECT_TRUE(CheckData().sound());
}

TEST_F(FsckDataTest, RecordsOfNoBranchAreRemoved) {
  const BranchId gone(NewId());
  ChunkSums sums;
  AddZeros(sums, 1);
  Change([&](IndexBatch& batch) {
    batch.PutRegion({gone, Epoch(1), 3}, RegionState::kOpen);
    batch.PutSums(gone, Epoch(1), ChunkIndex(3 * kChunksPerRegion), sums);
  });
  ExpectLeakRepairable({"records-without-branch"});
  EXPECT_EQ(CheckData().data_bytes, 66 * kBlockSize);
}

TEST_F(FsckDataTest, RecordsThatCannotBeDecodedAreDamage) {
  Change([&](IndexBatch& batch) {
    batch.PutRaw(SumsKey(volume_.branch, Epoch(1), ChunkIndex(0)), "?");
    batch.PutRaw(RegionKey({volume_.branch, Epoch(1), 1}), "?");
  });
  ExpectNotRepairable({"record", "record"});
  EXPECT_FALSE(CheckData().sound());
}

}  // namespace
}  // namespace cairn
