// fsck: versions against extent records and extent files.
#include "src/warm/warm_format.h"
#include "tests/volume/fsck_test_util.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class FsckExtentsTest : public FsckTest {
 protected:
  void SetUp() override {
    FsckTest::SetUp();
    volume_ = MakeVolume(MakeDirectory(kRootInode, "vm1"), "data.img", 16 * kChunkSize);
    extent_ = {volume_.branch, Epoch(1), SegmentIndex(0)};
    Write(volume_.branch, 0, kAllBlocks);
    Write(volume_.branch, 7, 0b1100);
    path_ = PathOf(extent_);
  }

  std::string ReadFile() {
    auto file = env_.Open(path_, OpenMode::kReadOnly);
    std::string bytes((*file)->Info()->size, '\0');
    EXPECT_EQ(*(*file)->ReadAt(0, std::as_writable_bytes(std::span(bytes))), bytes.size());
    return bytes;
  }
  void SetSize(uint64_t size) {
    auto record = store_->index().GetInode(volume_.inode);
    record->size = size;
    Change([&](IndexBatch& batch) { batch.PutInode(volume_.inode, *record); });
  }
  bool HasVersion(uint64_t chunk, Epoch epoch = Epoch(1)) {
    bool found = false;
    EXPECT_TRUE(store_->index()
                    .ForEachVersion(volume_.branch, ChunkIndex(chunk), ChunkIndex(chunk),
                                    [&](ChunkIndex, Epoch at, const VersionRecord&) {
                                      found = found || at == epoch;
                                      return true;
                                    })
                    .ok());
    return found;
  }

  Made volume_;
  ExtentId extent_;
  std::string path_;
};

TEST_F(FsckExtentsTest, BlocksOfNoVersionAreCountedAndPunched) {
  WriteData(extent_, 7, 0b110011);    // beside those of a version
  WriteData(extent_, 3, kAllBlocks);  // between versions
  WriteData(extent_, 9, 1);           // behind the last one
  const uint64_t held = HeldBy(extent_);
  const FsckReport report = Check();
  EXPECT_THAT(Codes(report), ElementsAre("leaked-blocks"));
  EXPECT_EQ(report.leaked_bytes, (4 + 64 + 1) * kBlockSize);
  EXPECT_EQ(report.findings[0].where, path_);
  EXPECT_TRUE(report.sound());
  EXPECT_EQ(HeldBy(extent_), held);
  ExpectLeakRepairable({"leaked-blocks"});
  EXPECT_EQ(HeldBy(extent_), 66 * kBlockSize);
  const std::string bytes = ReadFile();
  EXPECT_EQ(bytes.substr(0, kChunkSize), std::string(kChunkSize, 'x'));
  EXPECT_EQ(bytes.substr(7 * kChunkSize + 2 * kBlockSize, 2 * kBlockSize),
            std::string(2 * kBlockSize, 'x'));
}

TEST_F(FsckExtentsTest, ZeroedBlocksDoNotKeepTheirBytes) {
  VersionRecord version;
  version.extent = 0b0100;
  version.zero = 0b1000;
  Change([&](IndexBatch& batch) {
    batch.PutVersion(volume_.branch, ChunkIndex(7), Epoch(1), version);
  });
  EXPECT_EQ(Check().leaked_bytes, kBlockSize);
  ExpectLeakRepairable({"leaked-blocks"});
}

TEST_F(FsckExtentsTest, PunchingSurvivesThePower) {
  WriteData(extent_, 3, kAllBlocks);
  Check(true);
  Close();
  env_.PowerCut(1);
  Open();
  ASSERT_NE(store_, nullptr);
  ExpectClean();
  EXPECT_EQ(HeldBy(extent_), 66 * kBlockSize);
}

TEST_F(FsckExtentsTest, AFileThatTheIndexDoesNotKnowIsRemoved) {
  const ExtentId unknown{volume_.branch, Epoch(2), SegmentIndex(0)};
  WriteData(unknown, 2, 0b11);
  EXPECT_EQ(Check().leaked_bytes, 2 * kBlockSize);
  ExpectLeakRepairable({"extent-unrecorded"});
  EXPECT_EQ(store_->extents().Info(unknown).status().code(), Code::kNotFound);
}

// Snapshots make files ahead.
TEST_F(FsckExtentsTest, AnUnknownFileWithoutBlocksIsAtMostWorthANote) {
  const auto make = [&](Epoch epoch) {
    const ExtentId id{volume_.branch, epoch, SegmentIndex(0)};
    auto file = store_->extents().Open(id, ExtentStore::Mode::kCreate, 0);
    ASSERT_TRUE(file.ok() && (*file)->EnsureSize(kChunkSize).ok());
  };
  make(Epoch(2));
  ExpectClean();
  auto branch = store_->index().GetBranch(volume_.branch);
  ASSERT_TRUE(branch.ok());
  branch->epoch = Epoch(3);
  Change([&](IndexBatch& batch) { batch.PutBranch(volume_.branch, *branch); });
  EXPECT_EQ(Check().note_count, 1u);
  EXPECT_THAT(Codes(Check(true)), ElementsAre("extent-unrecorded"));
  ExpectClean();
}

TEST_F(FsckExtentsTest, WhatBelongsToNoBranchIsRemoved) {
  const BranchId gone(NewId());
  Write(gone, 0, 0b111);
  WriteData({gone, Epoch(3), SegmentIndex(1)}, 0, 1);
  EXPECT_EQ(Check().leaked_bytes, 4 * kBlockSize);
  ExpectLeakRepairable(
      {"records-without-branch", "extent-without-branch", "extent-without-branch"});
  EXPECT_EQ(HeldBy(extent_), 66 * kBlockSize);
}

TEST_F(FsckExtentsTest, AStrangerIsLeftAlone) {
  const std::string path = path_.substr(0, path_.rfind('/')) + "/readme.txt";
  ASSERT_TRUE(env_.WriteWholeDurably(path, "hello").ok());
  const FsckReport report = Check(true);
  EXPECT_THAT(Codes(report), ElementsAre("stranger"));
  EXPECT_EQ(report.note_count, 1u);
  EXPECT_TRUE(env_.Exists(path));
}

TEST_F(FsckExtentsTest, AMissingFileIsDamageThatNamesFileVolumeAndBytes) {
  Close();
  ASSERT_TRUE(env_.RemoveBehindBack(path_).ok());
  Open();
  ExpectNotRepairable({"extent-missing"});
  const FsckFinding finding = Check().findings[0];
  EXPECT_EQ(finding.where, path_);
  EXPECT_EQ(finding.bytes, 66 * kBlockSize);
  EXPECT_THAT(finding.what, HasSubstr("/vm1/data.img"));
  EXPECT_THAT(finding.what, HasSubstr("0-262143, 1843200-1851391"));
  EXPECT_FALSE(env_.Exists(path_));
}

TEST_F(FsckExtentsTest, AShortFileLosesOnlyWhatIsBehindItsEnd) {
  Close();
  ASSERT_TRUE(env_.TruncateBehindBack(path_, 7 * kChunkSize + 3 * kBlockSize).ok());
  Open();
  ExpectNotRepairable({"extent-short"});
  const FsckFinding finding = Check(true).findings[0];
  EXPECT_EQ(finding.bytes, kBlockSize);
  EXPECT_THAT(finding.what, HasSubstr("1847296-1851391"));
  EXPECT_THAT(finding.what, Not(HasSubstr("0-262143")));
  EXPECT_EQ(env_.Info(path_)->size, 7 * kChunkSize + 3 * kBlockSize);
}

TEST_F(FsckExtentsTest, AShortFileThatLostNothingIsPutRight) {
  Change([&](IndexBatch& batch) { batch.PutExtent(extent_, 100ull << 30); });
  ExpectDamageRepairable({"extent-short"});
}

TEST_F(FsckExtentsTest, ARecordOfAFileThatNobodyNeedsIsRemoved) {
  Change([&](IndexBatch& batch) {
    batch.PutExtent({volume_.branch, Epoch(1), SegmentIndex(5)}, kChunkSize);
  });
  ExpectDamageRepairable({"extent-missing"});
}

TEST_F(FsckExtentsTest, AMissingRecordIsMadeAnewWhenTheFileIsThere) {
  Change([&](IndexBatch& batch) { batch.DeleteExtent(extent_); });
  ExpectDamageRepairable({"extent-record-missing"});
  EXPECT_EQ(HeldBy(extent_), 66 * kBlockSize);
}

TEST_F(FsckExtentsTest, ARecordThatDoesNotCoverItsVersionsIsRaised) {
  Change([&](IndexBatch& batch) { batch.PutExtent(extent_, kChunkSize); });
  ExpectDamageRepairable({"extent-record-short"});
}

TEST_F(FsckExtentsTest, VersionsBehindTheEndAreDeletedWithTheirBytes) {
  SetSize(7 * kChunkSize);
  const FsckReport report = Check();
  EXPECT_THAT(Codes(report), ElementsAre("behind-end", "leaked-blocks"));
  EXPECT_EQ(report.leaked_bytes, 2 * kBlockSize);
  ExpectLeakRepairable({"behind-end", "leaked-blocks"});
  EXPECT_FALSE(HasVersion(7));
  EXPECT_TRUE(HasVersion(0));
}

TEST_F(FsckExtentsTest, ThousandsOfVersionsBehindTheEndAreDeleted) {
  SetSize(10'000 * kChunkSize);
  for (uint64_t piece = 0; piece < 10; ++piece) {
    Change([&](IndexBatch& batch) {
      VersionRecord zeros;
      zeros.zero = kAllBlocks;
      for (uint64_t i = 0; i < 1000; ++i) {
        batch.PutVersion(volume_.branch, ChunkIndex(piece * 1000 + i), Epoch(1), zeros);
      }
    });
  }
  Check(true);
  SetSize(100 * kChunkSize);
  const FsckReport report = Check();
  EXPECT_THAT(Text(report), HasSubstr("9900 version records"));
  EXPECT_THAT(Text(Check(true)), HasSubstr("9900 version records"));
  ExpectClean();
  EXPECT_TRUE(HasVersion(99));
}

TEST_F(FsckExtentsTest, TheLastChunkOfAVolumeMayReachBehindItsEnd) {
  SetSize(7 * kChunkSize + 1);
  ExpectClean();
}

TEST_F(FsckExtentsTest, WhatACloneSeesBehindTheEndStays) {
  const Made clone = MakeVolume(kRootInode, "clone", 16 * kChunkSize);
  auto record = store_->index().GetBranch(clone.branch);
  record->parent = volume_.branch;
  record->parent_epoch = Epoch(1);
  auto parent = store_->index().GetBranch(volume_.branch);
  parent->epoch = Epoch(2);
  Change([&](IndexBatch& batch) {
    batch.PutBranch(clone.branch, *record);
    batch.PutView({volume_.branch, Epoch(1), clone.branch.value(), ViewKind::kClone});
    batch.PutBranch(volume_.branch, *parent);
  });
  Write(volume_.branch, 8, 1, Epoch(2));
  SetSize(kChunkSize);
  ExpectLeakRepairable({"behind-end", "leaked-blocks"});
  EXPECT_TRUE(HasVersion(7));
  EXPECT_EQ(HeldBy({volume_.branch, Epoch(2), SegmentIndex(0)}), 0u);
  EXPECT_EQ(HeldBy(extent_), 66 * kBlockSize);
}

TEST_F(FsckExtentsTest, WhatHidesASnapshotBehindTheEndStaysWhenItsDataGoes) {
  auto branch = store_->index().GetBranch(volume_.branch);
  branch->epoch = Epoch(2);
  InodeRecord snapshots;
  snapshots.kind = FileKind::kDirectory;
  snapshots.mode = 0755;
  snapshots.parent = kRootInode;
  Change([&](IndexBatch& batch) { batch.PutInode(kSnapshotsInode, snapshots); });
  const InodeId directory = MakeDirectory(kSnapshotsInode, "s");
  const InodeId member(NewId());
  auto shown = store_->index().GetInode(volume_.inode);
  shown->kind = FileKind::kSnapshot;
  shown->parent = directory;
  shown->epoch = Epoch(1);
  GroupRecord group;
  group.name = "s";
  Change([&](IndexBatch& batch) {
    batch.PutBranch(volume_.branch, *branch);
    batch.PutInode(member, *shown);
    batch.PutName(directory, "data.img", member);
    batch.PutGroup(directory, group);
    batch.PutView({volume_.branch, Epoch(1), member.value(), ViewKind::kSnapshot});
  });
  // A write that made the volume longer, and whose size a power cut took away.
  Write(volume_.branch, 7, 0b1100, Epoch(2));
  SetSize(kChunkSize);
  ExpectLeakRepairable({"behind-end", "leaked-blocks"});
  EXPECT_TRUE(HasVersion(7));
  EXPECT_EQ(HeldBy(extent_), 66 * kBlockSize);
  VersionRecord newest;
  ASSERT_TRUE(store_->index()
                  .ForEachVersion(volume_.branch, ChunkIndex(7), ChunkIndex(7),
                                  [&](ChunkIndex, Epoch epoch, const VersionRecord& version) {
                                    if (epoch == Epoch(2)) newest = version;
                                    return true;
                                  })
                  .ok());
  EXPECT_EQ(newest.zero, kAllBlocks);
  EXPECT_EQ(newest.extent, 0u);
}

TEST_F(FsckExtentsTest, ABranchBehindItsRecordsCatchesUp) {
  Write(volume_.branch, 9, 1, Epoch(3));
  ExpectDamageRepairable({"epoch-behind"});
  EXPECT_EQ(store_->index().GetBranch(volume_.branch)->epoch, Epoch(3));
}

TEST_F(FsckExtentsTest, EpochsAndSegmentsHaveTheirOwnFiles) {
  auto branch = store_->index().GetBranch(volume_.branch);
  branch->epoch = Epoch(200);
  // Many hold what later ones have, too; that is not what this is about.
  Change([&](IndexBatch& batch) {
    batch.PutBranch(volume_.branch, *branch);
    batch.PutClean(volume_.branch);
  });
  // More files than are open at a time.
  for (uint64_t epoch = 2; epoch <= 150; ++epoch) {
    Write(volume_.branch, epoch % 16, 0b10, Epoch(epoch));
  }
  SetSize(2 * kSegmentSize);
  Write(volume_.branch, kSegmentSize / kChunkSize + 1, 0b1, Epoch(150));
  EXPECT_EQ(Check().leak_count, 0u);
  WriteData({volume_.branch, Epoch(100), SegmentIndex(0)}, 100 % 16, 0b1);
  WriteData({volume_.branch, Epoch(150), SegmentIndex(1)}, 0, 0b1);
  EXPECT_EQ(Check().leaked_bytes, 2 * kBlockSize);
  EXPECT_EQ(Check(true).leak_count, 2u);
  EXPECT_EQ(Check().leak_count, 0u);
}

TEST_F(FsckExtentsTest, RecordsOfPlacesThatNoVolumeHasStopRepairs) {
  VersionRecord version;
  version.extent = 1;
  const ChunkIndex impossible(kMaxVolumeSize / kChunkSize);
  Change(
      [&](IndexBatch& batch) { batch.PutVersion(volume_.branch, impossible, Epoch(1), version); });
  const FsckReport report = Check(true);
  EXPECT_FALSE(report.sound());
  for (const FsckFinding& finding : report.findings) EXPECT_FALSE(finding.repaired);
  EXPECT_EQ(HeldBy(extent_), 66 * kBlockSize);
}

// The size of one says nothing of what the other holds.
class FsckSharedBranchTest : public FsckTest, public testing::WithParamInterface<bool> {};

TEST_P(FsckSharedBranchTest, NothingOfItIsTakenAway) {
  const bool small_first = GetParam();
  const Made first = MakeVolume(kRootInode, "a", 16 * kChunkSize);
  const Made second = MakeVolume(kRootInode, "b", 16 * kChunkSize);
  const Made& owner = small_first ? second : first;
  const Made& other = small_first ? first : second;
  const ExtentId extent{owner.branch, Epoch(1), SegmentIndex(0)};
  const ExtentId unknown{owner.branch, Epoch(1), SegmentIndex(3)};
  Write(owner.branch, 0, kAllBlocks);
  Write(owner.branch, 7, 0b1100);
  Write(owner.branch, 0, kAllBlocks, Epoch(2));
  WriteData(extent, 9, 0b11);
  WriteData(unknown, 3 * kSegmentSize / kChunkSize, 0b1);
  auto record = store_->index().GetInode(other.inode);
  record->branch = owner.branch;
  record->size = kChunkSize;
  auto branch = store_->index().GetBranch(owner.branch);
  branch->epoch = Epoch(2);
  Change([&](IndexBatch& batch) {
    batch.PutBranch(owner.branch, *branch);
    batch.PutInode(other.inode, *record);
    batch.DeleteBranch(other.branch);
    batch.PutExtent({owner.branch, Epoch(1), SegmentIndex(5)}, kBlockSize);
  });
  const uint64_t held = HeldBy(extent);
  for (const bool repair : {false, true, false}) {
    const FsckReport report = Check(repair);
    EXPECT_THAT(Codes(report), testing::UnorderedElementsAre("branch-shared", "extent-unrecorded",
                                                             "extent-missing"))
        << Text(report);
    for (const FsckFinding& finding : report.findings) EXPECT_FALSE(finding.repaired);
  }
  EXPECT_EQ(HeldBy(extent), held);
  ASSERT_TRUE(env_.Exists(PathOf(unknown)));
  EXPECT_EQ(HeldBy(unknown), kBlockSize);
  uint64_t versions = 0;
  EXPECT_TRUE(
      store_->index()
          .ForEachVersion(owner.branch, ChunkIndex(0), ChunkIndex(15),
                          [&](ChunkIndex, Epoch, const VersionRecord&) { return ++versions > 0; })
          .ok());
  EXPECT_EQ(versions, 3u);
  EXPECT_EQ(store_->index().GetBranch(owner.branch)->inode, owner.inode);
  Change([&](IndexBatch& batch) {
    batch.DeleteName(kRootInode, small_first ? "a" : "b", other.inode);
    batch.DeleteInode(other.inode);
  });
  // With one volume all is put right; the older version is left to the next mount.
  ASSERT_TRUE(Check(true).sound());
  EXPECT_THAT(Codes(Check()), ElementsAre("to-be-cleaned"));
}

INSTANTIATE_TEST_SUITE_P(TheSmallerOne, FsckSharedBranchTest, testing::Bool(),
                         [](const auto& which) { return which.param ? "First" : "Last"; });

}  // namespace
}  // namespace cairn
