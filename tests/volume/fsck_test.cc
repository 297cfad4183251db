// fsck: opening, records, the id counter, branches. The rest has files of its own (fsck_*_test.cc).
#include "src/volume/fsck.h"

#include "src/warm/warm_format.h"
#include "tests/volume/fsck_test_util.h"

namespace cairn {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(FsckTest, AnEmptyStoreIsClean) {
  ExpectClean();
  EXPECT_EQ(Check(true).directories, 1u);
}

TEST_F(FsckTest, AStoreWithEverythingIsCleanAndStaysSoUnderRepair) {
  const InodeId folder = MakeDirectory(kRootInode, "vm1");
  MakeDirectory(folder, "empty");
  const Made volume = MakeVolume(folder, "data.img", 10 * kChunkSize + 5);
  Write(volume.branch, 0, kAllBlocks);
  Write(volume.branch, 10, 0b1011);
  Change([&](IndexBatch& batch) {
    batch.PutXattr(volume.inode, "user.cairn.role", "data");
    VersionRecord zeros;
    zeros.zero = 0xff;
    batch.PutVersion(volume.branch, ChunkIndex(5), Epoch(1), zeros);
  });
  ExpectClean();
  const FsckReport repaired = Check(true);
  EXPECT_TRUE(repaired.findings.empty()) << Text(repaired);
  EXPECT_EQ(repaired.volumes, 1u);
  EXPECT_EQ(repaired.directories, 3u);
  EXPECT_EQ(repaired.versions, 3u);
  EXPECT_EQ(repaired.extent_files, 1u);
  EXPECT_TRUE(repaired.was_clean);
  EXPECT_EQ(HeldBy({volume.branch, Epoch(1), SegmentIndex(0)}), 67 * kBlockSize);
}

TEST_F(FsckTest, AStoreInUseIsRefusedNamingTheHolder) {
  Close();
  WarmStoreOptions options;
  options.holder = "mounted at /mnt/x by process 42";
  auto held = WarmStore::Open(env_, kDir, options);
  ASSERT_TRUE(held.ok());
  auto report = CheckStore(env_, kDir, {});
  EXPECT_EQ(report.status().code(), Code::kBusy);
  EXPECT_THAT(report.status().context(), HasSubstr("mounted at /mnt/x by process 42"));
}

TEST_F(FsckTest, NoStoreIsAnErrorAndMakesNone) {
  auto report = CheckStore(env_, "/nowhere", {});
  EXPECT_EQ(report.status().code(), Code::kNotFound);
  EXPECT_FALSE(env_.Exists("/nowhere"));
}

TEST_F(FsckTest, DamagedSuperblockIsNamed) {
  Close();
  ASSERT_TRUE(env_.FlipByte("/store/superblock", 100).ok());
  for (const bool repair : {false, true}) {
    FsckOptions options;
    options.repair = repair;
    auto report = CheckStore(env_, kDir, options);
    ASSERT_TRUE(report.ok());
    EXPECT_FALSE(report->sound());
    ASSERT_EQ(report->findings.size(), 1u);
    EXPECT_THAT(report->findings[0].what, HasSubstr("/store/superblock"));
  }
}

TEST_F(FsckTest, EveryDamagedFileOfTheIndexIsNamedAndNothingIsChanged) {
  const Made volume = MakeVolume(kRootInode, "data.img", 64 * kChunkSize);
  Write(volume.branch, 0, kAllBlocks);
  Close();
  int damaged = 0;
  for (const char* name : {"/CURRENT", "/MANIFEST-", ".log"}) {
    for (const std::string& path : env_.AllFiles()) {
      if (!path.starts_with("/store/index/") || path.find(name) == std::string::npos) continue;
      SCOPED_TRACE(path);
      ASSERT_TRUE(env_.FlipByte(path, 0).ok());
      FsckOptions options;
      options.repair = true;
      auto report = CheckStore(env_, kDir, options);
      ASSERT_TRUE(report.ok()) << report.status().ToString();
      EXPECT_FALSE(report->sound());
      EXPECT_THAT(Text(*report), HasSubstr(path));
      ASSERT_TRUE(env_.FlipByte(path, 0).ok());
      ++damaged;
    }
  }
  EXPECT_GE(damaged, 3);
  Open();
  ExpectClean();
}

TEST_F(FsckTest, ARecordThatCannotBeDecodedStopsEveryRepair) {
  const Made volume = MakeVolume(kRootInode, "data.img", kChunkSize);
  Write(volume.branch, 0, kAllBlocks);
  const ExtentId leaked{BranchId(900), Epoch(1), SegmentIndex(0)};
  WriteData(leaked, 0, 1);
  const std::vector<std::string> keys = {VersionKey(volume.branch, ChunkIndex(0), Epoch(1)),
                                         InodeKey(volume.inode), BranchKey(volume.branch),
                                         ExtentKey({volume.branch, Epoch(1), SegmentIndex(0)}),
                                         NameKey(kRootInode, "data.img")};
  for (const std::string& key : keys) {
    SCOPED_TRACE(::testing::PrintToString(key));
    std::string good;
    ASSERT_TRUE(store_->index()
                    .ForEachRaw(static_cast<KeyKind>(key[0]),
                                [&](std::string_view found, std::string_view value) {
                                  if (found == key) good = std::string(value);
                                  return true;
                                })
                    .ok());
    Change([&](IndexBatch& batch) { batch.PutRaw(key, "nonsense that is no record"); });
    const FsckReport report = Check(true);
    EXPECT_THAT(Codes(report), Contains("record"));
    EXPECT_FALSE(report.sound());
    for (const FsckFinding& finding : report.findings) EXPECT_FALSE(finding.repaired);
    EXPECT_TRUE(store_->extents().Info(leaked).ok());
    EXPECT_EQ(HeldBy({volume.branch, Epoch(1), SegmentIndex(0)}), kChunkSize);
    Change([&](IndexBatch& batch) { batch.PutRaw(key, good); });
  }
  ExpectLeakRepairable({"extent-without-branch"});
}

TEST_F(FsckTest, RecordsOfUnknownKindsAreRefused) {
  for (const char* key : {"Pack", "zzz", "\x01"}) {
    Change([&](IndexBatch& batch) { batch.PutRaw(key, "x"); });
    ExpectNotRepairable({"unknown-record"});
    Change([&](IndexBatch& batch) { batch.DeleteRaw(key); });
  }
  ExpectClean();
}

TEST_F(FsckTest, BlocksInTheColdTierAreRefused) {
  const Made volume = MakeVolume(kRootInode, "data.img", kChunkSize);
  VersionRecord version;
  version.tombstones.push_back({1, "somewhere"});
  Change([&](IndexBatch& batch) {
    batch.PutVersion(volume.branch, ChunkIndex(0), Epoch(1), version);
  });
  ExpectNotRepairable({"record"});
}

TEST_F(FsckTest, ARootThatIsNoDirectoryStopsEveryRepair) {
  MakeDirectory(kRootInode, "folder");
  auto root = store_->index().GetInode(kRootInode);
  root->kind = FileKind::kVolume;
  Change([&](IndexBatch& batch) { batch.PutInode(kRootInode, *root); });
  const FsckReport report = Check(true);
  EXPECT_THAT(Codes(report), Contains("root"));
  EXPECT_FALSE(report.sound());
  root->kind = FileKind::kDirectory;
  Change([&](IndexBatch& batch) { batch.PutInode(kRootInode, *root); });
  ExpectClean();
}

TEST_F(FsckTest, AnIdCounterBehindTheIdsIsRaised) {
  const Made volume = MakeVolume(kRootInode, "data.img", kChunkSize);
  Change([&](IndexBatch& batch) {
    batch.PutRaw(CounterKey("next-id"), EncodeU64(volume.branch.value()));
  });
  ExpectDamageRepairable({"id-counter"});
  EXPECT_GT(NewId(), volume.branch.value());
}

TEST_F(FsckTest, AMissingIdCounterIsMadeAnew) {
  const Made volume = MakeVolume(kRootInode, "data.img", kChunkSize);
  Change([&](IndexBatch& batch) { batch.DeleteRaw(CounterKey("next-id")); });
  ExpectDamageRepairable({"id-counter"});
  EXPECT_GT(NewId(), volume.branch.value());
}

TEST_F(FsckTest, AttributesOfNoFileAreRemoved) {
  MakeVolume(kRootInode, "data.img", kChunkSize);
  Change([&](IndexBatch& batch) { batch.PutXattr(InodeId(70), "user.cairn.role", "data"); });
  ExpectLeakRepairable({"attribute-without-file"});
}

TEST_F(FsckTest, MarksOfDeletionOfNoFileAreRemoved) {
  MakeVolume(kRootInode, "data.img", kChunkSize);
  Change([&](IndexBatch& batch) { batch.PutOrphan(InodeId(70)); });
  ExpectLeakRepairable({"orphan-without-file"});
}

TEST_F(FsckTest, AnOrphanIsANote) {
  const Made volume = MakeVolume(kRootInode, "data.img", kChunkSize);
  Write(volume.branch, 0, 1);
  Change([&](IndexBatch& batch) {
    batch.DeleteName(kRootInode, "data.img", volume.inode);
    batch.PutOrphan(volume.inode);
  });
  const FsckReport report = Check(true);
  EXPECT_THAT(Codes(report), ElementsAre("orphan"));
  EXPECT_EQ(report.note_count, 1u);
  EXPECT_TRUE(report.sound());
  EXPECT_TRUE(store_->extents().Info({volume.branch, Epoch(1), SegmentIndex(0)}).ok());
}

TEST_F(FsckTest, ADeadBranchMayLackAnythingAndIsANote) {
  const Made volume = MakeVolume(kRootInode, "data.img", 4 * kChunkSize);
  Write(volume.branch, 0, 1);
  Write(volume.branch, 1, 1);
  Change([&](IndexBatch& batch) {
    batch.DeleteName(kRootInode, "data.img", volume.inode);
    batch.DeleteInode(volume.inode);
    batch.PutDeadBranch(volume.branch);
    batch.DeleteBranch(volume.branch);
    batch.DeleteExtent({volume.branch, Epoch(1), SegmentIndex(0)});
  });
  const FsckReport report = Check(true);
  EXPECT_THAT(Codes(report), ElementsAre("dead-branch"));
  EXPECT_EQ(report.note_count, 1u);
  EXPECT_TRUE(store_->extents().Info({volume.branch, Epoch(1), SegmentIndex(0)}).ok());
}

TEST_F(FsckTest, AVolumeWithoutItsBranchKeepsItsData) {
  const Made volume = MakeVolume(kRootInode, "data.img", kChunkSize);
  Write(volume.branch, 0, kAllBlocks);
  Change([&](IndexBatch& batch) { batch.DeleteBranch(volume.branch); });
  ExpectNotRepairable({"branch-missing"});
  EXPECT_EQ(HeldBy({volume.branch, Epoch(1), SegmentIndex(0)}), kChunkSize);
}

TEST_F(FsckTest, ABranchWhoseVolumeIsGoneKeepsItsData) {
  const Made volume = MakeVolume(kRootInode, "data.img", kChunkSize);
  Write(volume.branch, 0, kAllBlocks);
  Change([&](IndexBatch& batch) {
    batch.DeleteName(kRootInode, "data.img", volume.inode);
    batch.DeleteInode(volume.inode);
  });
  ExpectNotRepairable({"branch-without-volume"});
  EXPECT_EQ(HeldBy({volume.branch, Epoch(1), SegmentIndex(0)}), kChunkSize);
}

TEST_F(FsckTest, TwoVolumesOnOneBranch) {
  const Made first = MakeVolume(kRootInode, "a", kChunkSize);
  const Made second = MakeVolume(kRootInode, "b", kChunkSize);
  auto record = store_->index().GetInode(second.inode);
  record->branch = first.branch;
  Change([&](IndexBatch& batch) {
    batch.PutInode(second.inode, *record);
    batch.DeleteBranch(second.branch);
  });
  ExpectNotRepairable({"branch-shared"});
}

TEST_F(FsckTest, ABranchThatNamesAnotherVolume) {
  const Made volume = MakeVolume(kRootInode, "a", kChunkSize);
  auto record = store_->index().GetBranch(volume.branch);
  record->inode = InodeId(77);
  Change([&](IndexBatch& batch) { batch.PutBranch(volume.branch, *record); });
  ExpectDamageRepairable({"branch-owner"});
}

TEST_F(FsckTest, AVolumeOnABranchMarkedForRemovalIsSaved) {
  const Made volume = MakeVolume(kRootInode, "a", kChunkSize);
  Write(volume.branch, 0, 1);
  Change([&](IndexBatch& batch) { batch.PutDeadBranch(volume.branch); });
  const FsckReport report = Check(true);
  EXPECT_THAT(Codes(report), ElementsAre("branch-dead"));
  EXPECT_TRUE(report.sound());
  ExpectClean();
}

TEST_F(FsckTest, ParentsOfBranches) {
  const Made base = MakeVolume(kRootInode, "base", 4 * kChunkSize);
  const Made clone = MakeVolume(kRootInode, "clone", 4 * kChunkSize);
  for (const Made& volume : {base, clone}) {
    auto record = store_->index().GetBranch(volume.branch);
    record->epoch = Epoch(2);
    Change([&](IndexBatch& batch) { batch.PutBranch(volume.branch, *record); });
  }
  const auto set_parent = [&](Made child, BranchId parent, uint64_t epoch) {
    auto record = store_->index().GetBranch(child.branch);
    const View old{record->parent, record->parent_epoch, child.branch.value(), ViewKind::kClone};
    record->parent = parent;
    record->parent_epoch = Epoch(epoch);
    Change([&](IndexBatch& batch) {
      batch.DeleteView(old);
      batch.PutBranch(child.branch, *record);
      batch.PutView({parent, Epoch(epoch), child.branch.value(), ViewKind::kClone});
    });
  };
  set_parent(clone, base.branch, 1);
  ExpectClean();
  set_parent(clone, base.branch, 2);
  ExpectNotRepairable({"parent-epoch"});
  set_parent(clone, BranchId(999), 1);
  ExpectNotRepairable({"parent-missing"});
  set_parent(clone, clone.branch, 1);
  ExpectNotRepairable({"branch-circle"});
  set_parent(clone, base.branch, 1);
  set_parent(base, clone.branch, 1);
  ExpectNotRepairable({"branch-circle"});
}

TEST_F(FsckTest, ManyFindingsAreCountedBeyondTheOnesThatAreKept) {
  for (int piece = 0; piece < 11; ++piece) {
    Change([&](IndexBatch& batch) {
      for (int i = 0; i < 1000; ++i) {
        batch.PutXattr(InodeId(50), "user." + std::to_string(piece * 1000 + i), "x");
      }
    });
  }
  FsckReport report = Check();
  EXPECT_EQ(report.leak_count, 11'000u);
  EXPECT_EQ(report.findings.size() + report.omitted, 11'000u);
  EXPECT_GT(report.omitted, 0u);
  Check(true);
  ExpectClean();
}

TEST_F(FsckTest, AFailedReadIsAnErrorAndNotAFinding) {
  MakeVolume(kRootInode, "data.img", kChunkSize);
  Close();
  Fault fault;
  fault.ops = Op::kQuery;
  fault.path_contains = "/store/extents";
  env_.AddFault(fault);
  auto report = CheckStore(env_, kDir, {});
  EXPECT_FALSE(report.ok());
  EXPECT_THAT(report.status().context(), HasSubstr("/store/extents"));
}

}  // namespace
}  // namespace cairn
