// The files that a snapshot makes ahead for its members' next epochs.
#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "src/env/memory_env.h"
#include "src/volume/extent_set.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {
namespace {

constexpr BranchId kBranch(1);

class PreparedFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(ExtentStore::Format(env_, "/extents").ok());
    store_ = std::make_unique<ExtentStore>(env_, "/extents");
    set_ = std::make_unique<ExtentSet>(*store_);
    set_->ResetToNew(Lineage::OfNew(kBranch, Epoch(1)));
  }
  static ExtentId FileOf(uint64_t epoch, uint64_t segment = 0) {
    return {kBranch, Epoch(epoch), SegmentIndex(segment)};
  }
  bool Exists(const ExtentId& id) { return env_.Exists(store_->PathOf(id)); }
  void Write(uint64_t segment, char stamp) {
    auto file = set_->HeadForWriting(SegmentIndex(segment));
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    ASSERT_TRUE((*file)->EnsureSize(kChunkSize).ok());
    const std::vector<std::byte> data(kBlockSize, static_cast<std::byte>(stamp));
    ASSERT_TRUE((*file)->WriteAt(0, data).ok());
  }
  void Cut(uint64_t epoch) {
    set_->BeginEpoch(Epoch(epoch));
    IndexBatch batch;
    auto synced = set_->Sync(Epoch(epoch), batch);
    ASSERT_TRUE(synced.ok()) << synced.status().ToString();
    set_->NoteRecorded(*synced);
    set_->RemoveUnused();
  }
  char StampIn(const ExtentId& id) {
    auto file = store_->Open(id, ExtentStore::Mode::kMustExist, 0);
    EXPECT_TRUE(file.ok()) << file.status().ToString();
    std::vector<std::byte> data(1);
    EXPECT_TRUE(file.ok() && (*file)->ReadAt(0, data).ok());
    return static_cast<char>(data[0]);
  }

  MemoryEnv env_;
  std::unique_ptr<ExtentStore> store_;
  std::unique_ptr<ExtentSet> set_;
};

TEST_F(PreparedFilesTest, AWriterFindsTheNextEpochsFileOpenAndGrown) {
  Write(0, 'a');
  set_->PrepareEpoch();
  Cut(2);
  ASSERT_TRUE(Exists(FileOf(2)));
  const uint64_t operations = env_.operation_count();
  auto file = set_->HeadForWriting(SegmentIndex(0));
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE((*file)->EnsureSize(kChunkSize).ok());
  EXPECT_EQ(env_.operation_count(), operations);
  EXPECT_FALSE((*file)->may_hold_leftovers());
}

TEST_F(PreparedFilesTest, OnlyWhatTheCurrentEpochUsedGetsAFile) {
  Write(0, 'a');
  Write(1, 'b');
  set_->PrepareEpoch();
  Cut(2);
  Write(1, 'c');
  set_->PrepareEpoch();
  EXPECT_FALSE(Exists(FileOf(3, 0)));
  EXPECT_TRUE(Exists(FileOf(3, 1)));
}

TEST_F(PreparedFilesTest, WhatAnEpochDidNotUseGoesWithItsEndAndNotBefore) {
  Write(0, 'a');
  set_->PrepareEpoch();
  set_->RemoveUnused();
  Cut(2);
  EXPECT_TRUE(Exists(FileOf(2)));
  Cut(3);
  EXPECT_FALSE(Exists(FileOf(2)));
  EXPECT_EQ(StampIn(FileOf(1)), 'a');
}

TEST_F(PreparedFilesTest, WhatWasWrittenToStaysHoweverItsEpochEnds) {
  Write(0, 'a');
  set_->PrepareEpoch();
  Cut(2);
  Write(0, 'b');
  Cut(3);
  Cut(4);
  set_->RemovePrepared();
  EXPECT_EQ(StampIn(FileOf(2)), 'b');
}

// Two snapshots at the same time: both prepare, and both cut.
TEST_F(PreparedFilesTest, PreparingTwiceForOneEpochMakesOneFile) {
  Write(0, 'a');
  set_->PrepareEpoch();
  Write(0, 'b');
  set_->PrepareEpoch();
  Cut(2);
  Write(0, 'c');
  Cut(3);
  Write(0, 'd');
  EXPECT_EQ(StampIn(FileOf(1)), 'b');
  EXPECT_EQ(StampIn(FileOf(2)), 'c');
  EXPECT_EQ(StampIn(FileOf(3)), 'd');
}

TEST_F(PreparedFilesTest, WhatCannotBeMadeIsLeftToTheWriter) {
  Write(0, 'a');
  env_.AddFault({.error = ENOSPC});
  set_->PrepareEpoch();
  EXPECT_EQ(env_.fired_fault_count(), 1u);
  EXPECT_FALSE(Exists(FileOf(2)));
  Cut(2);
  Write(0, 'b');
  EXPECT_EQ(StampIn(FileOf(2)), 'b');
}

uint64_t FilesIn(MemoryEnv& env) {
  uint64_t count = 0;
  const auto folders = env.List("/store/extents");
  for (const std::string& folder : *folders) count += env.List("/store/extents/" + folder)->size();
  return count;
}

TEST(PreparedFilesOfAStoreTest, NothingStaysBehindAnOrderlyEnd) {
  TestMachine machine;
  machine.Mount();
  auto volume = machine.Create("a");
  ASSERT_EQ(WriteCode(*volume, 0, kChunkSize, 1), Code::kOk);
  ASSERT_TRUE(TrySnapshot(machine.filesystem(), "s", {"a"}).ok());
  EXPECT_EQ(FilesIn(machine.env()), 2u);
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  EXPECT_EQ(FilesIn(machine.env()), 1u);
  auto report = CheckStore(machine.env(), "/store", {});
  ASSERT_TRUE(report.ok());
  EXPECT_TRUE(report->findings.empty());
}

// A rollback leaves the branch for which the file was made.
TEST(PreparedFilesOfAStoreTest, ARollbackLeavesNoEmptyFile) {
  TestMachine machine;
  machine.Mount();
  auto volume = machine.Create("a");
  ASSERT_EQ(WriteCode(*volume, 0, kChunkSize, 1), Code::kOk);
  ASSERT_TRUE(TrySnapshot(machine.filesystem(), "s", {"a"}).ok());
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 2), Code::kOk);
  SnapshotOps::NewRollback rollback;
  rollback.before.name = "before";
  rollback.deadline = kEnough;
  const auto member = FindPath(machine.filesystem(), ".snapshots/s/a");
  ASSERT_TRUE(member.ok());
  rollback.items.push_back({*member, volume->inode(), "a"});
  const auto done = machine.filesystem().snapshots().Rollback(rollback);
  ASSERT_TRUE(done.ok()) << done.status().ToString();
  EXPECT_TRUE(Holds(*volume, 0, kChunkSize, 1));
  // The two epochs that were written to.
  EXPECT_EQ(FilesIn(machine.env()), 2u);
}

// The next server finds a file that holds what the one before wrote and did not tell of.
TEST(PreparedFilesOfAStoreTest, AServersDeathBetweenCutAndWriteHarmsNothing) {
  TestMachine machine;
  machine.Mount();
  auto volume = machine.Create("a");
  ASSERT_EQ(WriteCode(*volume, 0, kChunkSize, 1), Code::kOk);
  ASSERT_TRUE(TrySnapshot(machine.filesystem(), "s", {"a"}).ok());
  volume.reset();
  machine.LoseServer();
  machine.Mount();
  volume = machine.Find("a");
  ASSERT_EQ(WriteCode(*volume, kBlockSize, kBlockSize, 2), Code::kOk);
  ASSERT_TRUE(TrySnapshot(machine.filesystem(), "t", {"a"}).ok());
  ASSERT_TRUE(TrySnapshot(machine.filesystem(), "u", {"a"}).ok());
  EXPECT_TRUE(Holds(*volume, 0, kBlockSize, 1));
  EXPECT_TRUE(Holds(*volume, kBlockSize, kBlockSize, 2));
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  machine.ExpectNoDamage();
}

}  // namespace
}  // namespace cairn
