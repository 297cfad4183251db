// What nobody needs any more goes, whatever came in between; nothing else does.
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "src/volume/branch_views.h"
#include "src/volume/disk_volume.h"
#include "src/volume/journal_replay.h"
#include "src/warm/warm_store.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kMiB = 1 << 20;

uint64_t AllocatedBytes(TestMachine& machine) {
  uint64_t bytes = 0;
  const auto folders = machine.env().List("/store/extents");
  for (const std::string& folder : *folders) {
    const std::string path = "/store/extents/" + folder;
    const auto names = machine.env().List(path);
    for (const std::string& name : *names) {
      bytes += machine.env().Info(path + "/" + name)->allocated_bytes;
    }
  }
  return bytes;
}

class SnapshotCleaningTest : public testing::Test {
 protected:
  void SetUp() override { machine_.Mount(); }

  Filesystem& filesystem() { return machine_.filesystem(); }
  void Settle() {
    for (int i = 0; i < 5; ++i) machine_.RunBackground();
  }
  // Until a pass over what volumes go on to leave behind has come round.
  void SettleLong() {
    static_cast<SteppingExecutor&>(machine_.executor()).AdvanceTime(std::chrono::minutes(10));
    Settle();
  }
  // The branches that a store out of use marks for cleaning.
  std::vector<uint64_t> Marks() {
    std::vector<uint64_t> marks;
    const auto store = WarmStore::Open(machine_.env(), "/store", {});
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    EXPECT_TRUE((*store)
                    ->index()
                    .ForEachClean([&](BranchId branch) {
                      marks.push_back(branch.value());
                      return true;
                    })
                    .ok());
    EXPECT_TRUE((*store)->Close().ok());
    return marks;
  }
  FsckReport Repair() {
    FsckOptions options;
    options.repair = true;
    auto report = CheckStore(machine_.env(), "/store", options);
    EXPECT_TRUE(report.ok()) << report.status().ToString();
    return report.ok() ? *report : FsckReport();
  }

  TestMachine machine_;
};

TEST_F(SnapshotCleaningTest, AVolumeThatGoesAfterItsSnapshotLeavesNoMark) {
  {
    auto v = machine_.Create("v");
    ASSERT_EQ(WriteCode(*v, 0, kMiB, 1), Code::kOk);
    ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"v"}).ok());
    ASSERT_EQ(WriteCode(*v, 0, kBlockSize, 2), Code::kOk);
    ASSERT_TRUE(DeleteSnapshot(filesystem(), "s").ok());
  }
  Settle();
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "v", {}).ok());
  Settle();
  EXPECT_EQ(AllocatedBytes(machine_), 0u);
  ASSERT_TRUE(machine_.Close().ok());
  EXPECT_TRUE(Marks().empty());
}

TEST_F(SnapshotCleaningTest, WhatAVolumeOverwritesAfterARefusedSnapshotComesBack) {
  auto v = machine_.Create("v");
  auto w = machine_.Create("w");
  ASSERT_EQ(WriteCode(*w, 0, kMiB, 1), Code::kOk);
  ASSERT_TRUE(TrySnapshot(filesystem(), "x", {"w"}).ok());
  ASSERT_EQ(WriteCode(*v, 0, kMiB, 1), Code::kOk);
  ASSERT_EQ(TrySnapshot(filesystem(), "x", {"v"}).status().code(), Code::kExists);
  Settle();
  ASSERT_EQ(WriteCode(*v, 0, kMiB, 2), Code::kOk);
  ASSERT_TRUE(v->Sync().ok());
  SettleLong();
  EXPECT_EQ(AllocatedBytes(machine_), 2 * kMiB);
}

TEST(SnapshotPowerTest, WhatAVolumeOverwritesAfterAPowerCutAmidASnapshotComesBack) {
  const auto prepare = [](TestMachine& machine) {
    machine.Mount();
    auto v = machine.Create("v");
    ASSERT_EQ(WriteCode(*v, 0, kMiB, 1), Code::kOk);
    ASSERT_TRUE(v->Sync().ok());
  };
  uint64_t count = 0;
  {
    TestMachine machine;
    prepare(machine);
    const uint64_t before = machine.env().operation_count();
    ASSERT_TRUE(TrySnapshot(machine.filesystem(), "s", {"v"}).ok());
    count = machine.env().operation_count() - before;
  }
  ASSERT_GT(count, 0u);
  for (uint64_t n = 1; n <= count; ++n) {
    SCOPED_TRACE("operation " + std::to_string(n) + " of " + std::to_string(count));
    TestMachine machine;
    prepare(machine);
    machine.env().CutAtOperation(n, CutSide::kAfter);
    (void)TrySnapshot(machine.filesystem(), "s", {"v"});
    machine.LosePower(n);
    machine.Mount();
    auto v = machine.Find("v");
    ASSERT_EQ(WriteCode(*v, 0, kMiB, 2), Code::kOk);
    ASSERT_TRUE(v->Sync().ok());
    if (FindPath(machine.filesystem(), ".snapshots/s").ok()) {
      ASSERT_TRUE(DeleteSnapshot(machine.filesystem(), "s").ok());
    }
    for (int i = 0; i < 5; ++i) machine.RunBackground();
    static_cast<SteppingExecutor&>(machine.executor()).AdvanceTime(std::chrono::minutes(10));
    for (int i = 0; i < 5; ++i) machine.RunBackground();
    EXPECT_EQ(AllocatedBytes(machine), kMiB);
  }
}

// The volume loses its branch while what it wrote to the newest epoch is neither synced nor known
// to the index.
TEST_F(SnapshotCleaningTest, WhatNobodySyncedComesBackWithoutItsVolume) {
  for (const bool truncated : {false, true}) {
    {
      auto v = machine_.Create("v");
      ASSERT_EQ(WriteCode(*v, 0, kMiB, 1), Code::kOk);
      ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"v"}).ok());
      ASSERT_EQ(WriteCode(*v, 0, 2 * kMiB, 2), Code::kOk);
      const Status gone = truncated ? v->Truncate(0) : filesystem().Unlink(kRootInode, "v", {});
      ASSERT_TRUE(gone.ok()) << gone.ToString();
    }
    Settle();
    EXPECT_EQ(AllocatedBytes(machine_), kMiB) << truncated;
    EXPECT_EQ(*ContentOf(filesystem(), ".snapshots/s/v"), std::string(kMiB, 1));
    ASSERT_TRUE(DeleteSnapshot(filesystem(), "s").ok());
    Settle();
    EXPECT_EQ(AllocatedBytes(machine_), 0u) << truncated;
    (void)filesystem().Unlink(kRootInode, "v", {});
  }
}

TEST_F(SnapshotCleaningTest, NoFileIsMadeAheadForAVolumeThatIsGone) {
  auto v = std::static_pointer_cast<DiskVolume>(machine_.Create("v"));
  ASSERT_EQ(WriteCode(*v, 0, kMiB, 1), Code::kOk);
  v->PrepareCut();
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "v", {}).ok());
  Settle();
  v->PrepareCut();
  for (const std::string& path : machine_.env().AllFiles()) {
    EXPECT_EQ(path.find("/extents/"), std::string::npos) << path;
  }
}

TEST_F(SnapshotCleaningTest, AMarkOfABranchThatIsGoneGoes) {
  ASSERT_TRUE(machine_.Close().ok());
  {
    const auto store = WarmStore::Open(machine_.env(), "/store", {});
    ASSERT_TRUE(store.ok());
    IndexBatch batch;
    batch.PutClean(BranchId(999));
    ASSERT_TRUE((*store)->index().Commit(batch).ok());
    ASSERT_TRUE((*store)->Close().ok());
  }
  ASSERT_EQ(Marks().size(), 1u);
  machine_.Mount();
  Settle();
  ASSERT_TRUE(machine_.Close().ok());
  EXPECT_TRUE(Marks().empty());
}

// No way leads there; but what a mark says is not worth a snapshot.
TEST_F(SnapshotCleaningTest, ADeadBranchThatSomebodyNeedsIsLeftAlone) {
  {
    auto v = machine_.Create("v");
    ASSERT_EQ(WriteCode(*v, 0, kMiB, 1), Code::kOk);
    ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"v"}).ok());
  }
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "v", {}).ok());
  Settle();
  const InodeId member = *FindPath(filesystem(), ".snapshots/s/v");
  ASSERT_TRUE(machine_.Close().ok());
  {
    const auto store = WarmStore::Open(machine_.env(), "/store", {});
    ASSERT_TRUE(store.ok());
    const auto record = (*store)->index().GetInode(member);
    ASSERT_TRUE(record.ok());
    IndexBatch batch;
    batch.PutDeadBranch(record->branch);
    ASSERT_TRUE((*store)->index().Commit(batch).ok());
    ASSERT_TRUE((*store)->Close().ok());
  }
  machine_.Mount();
  Settle();
  EXPECT_EQ(*ContentOf(filesystem(), ".snapshots/s/v"), std::string(kMiB, 1));
}

// A pass takes away what the head covers, while a truncation takes away what the head has. Returns
// how many writes of the index the truncation makes; the pass begins at the n-th of them.
uint64_t TruncateBesideAPass(uint64_t nth) {
  TestMachine machine;
  machine.Mount();
  auto v = machine.Create("v");
  EXPECT_EQ(WriteCode(*v, 0, 2 * kChunkSize, 1), Code::kOk);
  EXPECT_TRUE(TrySnapshot(machine.filesystem(), "s1", {"v"}).ok());
  EXPECT_TRUE(v->Truncate(kChunkSize).ok());
  EXPECT_TRUE(v->Truncate(2 * kChunkSize).ok());
  EXPECT_TRUE(TrySnapshot(machine.filesystem(), "s2", {"v"}).ok());
  EXPECT_EQ(WriteCode(*v, kChunkSize, kChunkSize, 3), Code::kOk);
  EXPECT_TRUE(v->Sync().ok());
  machine.RunBackground();
  EXPECT_TRUE(DeleteSnapshot(machine.filesystem(), "s2").ok());
  std::atomic<uint64_t> writes{0};
  std::future<void> pass;
  machine.env().SetHook([&](Op op, const std::string& path) {
    if (op != Op::kWrite || !path.ends_with(".log") || ++writes != nth) return;
    pass = std::async(std::launch::async, [&] { machine.RunBackground(); });
    // It has read the records then, and waits for the truncation's commit, or for its gate.
    pass.wait_for(std::chrono::milliseconds(100));
  });
  EXPECT_TRUE(v->Truncate(kChunkSize).ok());
  const uint64_t count = writes;
  if (pass.valid()) pass.get();
  machine.env().SetHook(nullptr);
  machine.RunBackground();
  EXPECT_TRUE(v->Truncate(2 * kChunkSize).ok());
  EXPECT_TRUE(Holds(*v, kChunkSize, kChunkSize, 0)) << "the pass began at write " << nth;
  EXPECT_EQ(*ContentOf(machine.filesystem(), ".snapshots/s1/v"), std::string(2 * kChunkSize, 1));
  return count;
}

TEST(SnapshotConcurrencyTest, ATruncationBesideAPassShowsNothingOld) {
  const uint64_t count = TruncateBesideAPass(0);
  ASSERT_GT(count, 0u);
  for (uint64_t nth = 1; nth <= count; ++nth) TruncateBesideAPass(nth);
}

TEST_F(SnapshotCleaningTest, RepairAfterATruncationChangesNothingThatAnybodySees) {
  const uint64_t size = 40 * kChunkSize;
  {
    auto v = machine_.Create("v");
    ASSERT_EQ(WriteCode(*v, 0, size, 1), Code::kOk);
    ASSERT_TRUE(TrySnapshot(filesystem(), "s1", {"v"}).ok());
    ASSERT_EQ(WriteCode(*v, 30 * kChunkSize, 2 * kBlockSize, 2), Code::kOk);
    ASSERT_TRUE(TrySnapshot(filesystem(), "s2", {"v"}).ok());
    ASSERT_EQ(WriteCode(*v, 20 * kChunkSize, kChunkSize, 3), Code::kOk);
    ASSERT_TRUE(v->Truncate(kChunkSize + 10).ok());
  }
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(machine_.Close().ok());
    const FsckReport report = Repair();
    for (const FsckFinding& finding : report.findings) {
      EXPECT_EQ(finding.severity, FsckSeverity::kNote) << finding.code << ": " << finding.what;
    }
    machine_.Mount();
    const auto s1 = FindVolumeAt(filesystem(), ".snapshots/s1/v");
    EXPECT_TRUE(Holds(*s1, 0, size, 1));
    const auto s2 = FindVolumeAt(filesystem(), ".snapshots/s2/v");
    EXPECT_TRUE(Holds(*s2, 0, 30 * kChunkSize, 1));
    EXPECT_TRUE(Holds(*s2, 30 * kChunkSize, 2 * kBlockSize, 2));
    EXPECT_TRUE(Holds(*s2, 30 * kChunkSize + 2 * kBlockSize, 9 * kChunkSize, 1));
  }
  auto v = machine_.Find("v");
  ASSERT_TRUE(v->Truncate(size).ok());
  EXPECT_TRUE(Holds(*v, 0, kChunkSize + 10, 1));
  EXPECT_TRUE(Holds(*v, kChunkSize + 10, size - kChunkSize - 10, 0));
}

// Such an entry is left by a server that dies after the next epoch became durable.
TEST(SnapshotReplayTest, TheJournalMaySpeakOfAnEndedEpochWhoseFileIsGone) {
  MemoryEnv env;
  WarmStoreOptions options;
  options.create = true;
  const auto store = WarmStore::Open(env, "/store", options);
  ASSERT_TRUE(store.ok());
  BranchRecord record;
  record.inode = InodeId(7);
  record.epoch = Epoch(5);
  IndexBatch batch;
  batch.PutBranch(BranchId(8), record);
  ASSERT_TRUE((*store)->index().Commit(batch).ok());
  std::vector<uint64_t> memory(IndexJournal::kSmallestRegion / 8);
  const auto region = std::as_writable_bytes(std::span(memory));
  const auto& uuid = (*store)->superblock().uuid;
  {
    const auto journal = IndexJournal::Open(region, uuid);
    ASSERT_TRUE(journal.ok());
    ASSERT_TRUE((*journal)->Append(JournalEntry::Blocks(BranchId(8), Epoch(4), ChunkIndex(0), 1)));
  }
  const auto journal = IndexJournal::Open(region, uuid);
  ASSERT_TRUE(journal.ok());
  std::vector<uint64_t> table_memory(MountTable::kSmallestRegion / 8);
  const auto table = MountTable::Open(std::as_writable_bytes(std::span(table_memory)));
  ASSERT_TRUE(table.ok());
  const Status replayed = ReplayJournal(**store, **journal, **table);
  EXPECT_TRUE(replayed.ok()) << replayed.ToString();
  EXPECT_TRUE((*store)
                  ->index()
                  .ForEachVersion(BranchId(8), ChunkIndex(0), ChunkIndex(0),
                                  [](ChunkIndex, Epoch, const VersionRecord&) {
                                    ADD_FAILURE() << "it came back";
                                    return true;
                                  })
                  .ok());
}

TEST(BranchViewsTest, AMarkOfASnapshotThatCameAndWentDuringAPassStays) {
  MemoryEnv env;
  WarmStoreOptions options;
  options.create = true;
  const auto store = WarmStore::Open(env, "/store", options);
  ASSERT_TRUE(store.ok());
  Index& index = (*store)->index();
  const BranchId branch(8);
  InodeRecord volume;
  volume.branch = branch;
  BranchRecord record;
  record.inode = InodeId(7);
  record.epoch = Epoch(5);
  const auto commit = [&] {
    IndexBatch batch;
    batch.PutInode(InodeId(7), volume);
    batch.PutBranch(branch, record);
    batch.PutClean(branch);
    ASSERT_TRUE(index.Commit(batch).ok());
  };
  commit();
  BranchViews views;
  const auto needs = views.Find(index, branch);
  ASSERT_TRUE(needs.ok());
  // The cut of a snapshot, and the mark of its deletion.
  record.epoch = Epoch(6);
  commit();
  auto cleared = views.ClearMark(index, branch, *needs);
  ASSERT_TRUE(cleared.ok());
  EXPECT_FALSE(*cleared);
  EXPECT_TRUE(*index.HasClean(branch));
  cleared = views.ClearMark(index, branch, *views.Find(index, branch));
  ASSERT_TRUE(cleared.ok());
  EXPECT_TRUE(*cleared);
  EXPECT_FALSE(*index.HasClean(branch));
}

// Lower bounds only: a pause is never shorter than it was asked to be.
TEST(SnapshotPaceTest, CleaningPausesBetweenPieces) {
  using Clock = std::chrono::steady_clock;
  TestMachine::Settings settings;
  settings.clean_pause = std::chrono::milliseconds(50);
  TestMachine machine(settings);
  machine.Mount();
  const auto volume = machine.Create("v");
  // More chunks than records go in one batch.
  for (uint64_t chunk = 0; chunk < 5000; ++chunk) {
    ASSERT_EQ(WriteCode(*volume, chunk * kChunkSize, kBlockSize, 1), Code::kOk);
  }
  ASSERT_TRUE(TrySnapshot(machine.filesystem(), "s", {"v"}).ok());
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 2), Code::kOk);
  machine.RunBackground();
  ASSERT_TRUE(DeleteSnapshot(machine.filesystem(), "s").ok());
  auto began = Clock::now();
  machine.RunBackground();
  EXPECT_GE(Clock::now() - began, settings.clean_pause) << "what one view left";
  ASSERT_TRUE(machine.filesystem().Unlink(kRootInode, "v", {}).ok());
  began = Clock::now();
  for (int i = 0; i < 3; ++i) machine.RunBackground();
  EXPECT_GE(Clock::now() - began, settings.clean_pause) << "a whole branch";
  EXPECT_EQ(AllocatedBytes(machine), 0u);
}

TEST(SnapshotConcurrencyTest, CleaningOfManyBranchesLeavesTheExecutorToOthers) {
  TestMachine::Settings settings;
  settings.executor_threads = 2;
  settings.flush_interval = std::chrono::hours(1);
  TestMachine machine(settings);
  machine.Mount();
  const std::vector<std::string> names = {"a", "b", "c"};
  std::vector<std::shared_ptr<DiskVolume>> volumes;
  for (const std::string& name : names) {
    volumes.push_back(std::static_pointer_cast<DiskVolume>(machine.Create(name)));
    ASSERT_EQ(WriteCode(*volumes.back(), 0, kMiB, 1), Code::kOk);
  }
  ASSERT_TRUE(TrySnapshot(machine.filesystem(), "s", names).ok());
  for (const auto& volume : volumes) {
    ASSERT_EQ(WriteCode(*volume, 0, kMiB, 2), Code::kOk);
    ASSERT_TRUE(volume->Sync().ok());
  }
  std::promise<void> ran;
  {
    // Readers that stay for long: each pass waits for one of them.
    std::vector<std::unique_ptr<GateEntry>> readers;
    for (const auto& volume : volumes) {
      readers.push_back(std::make_unique<GateEntry>(volume->gate()));
    }
    ASSERT_TRUE(DeleteSnapshot(machine.filesystem(), "s").ok());
    machine.executor().Post([&] { ran.set_value(); });
    EXPECT_EQ(ran.get_future().wait_for(kEnough), std::future_status::ready);
    EXPECT_NE(machine.filesystem()
                  .StatusJson(kRootInode)
                  ->find(R"("jobs":[{"branches":3,"kind":"clean-up"}])"),
              std::string::npos);
  }
  machine.executor().Drain();
  EXPECT_NE(machine.filesystem().StatusJson(kRootInode)->find(R"("jobs":[])"), std::string::npos);
  for (const auto& volume : volumes) {
    EXPECT_TRUE(Holds(*volume, 0, kMiB, 2));
    EXPECT_EQ(*volume->AllocatedBytes(), kMiB);
  }
}

TEST(SnapshotConcurrencyTest, AnExchangeOfNamesTakesVolumesInTheOrderOfARollback) {
  TestMachine machine;
  machine.Mount();
  const auto first = std::static_pointer_cast<DiskVolume>(machine.Create("first"));
  const auto second = std::static_pointer_cast<DiskVolume>(machine.Create("second"));
  const InodeId first_inode = *FindPath(machine.filesystem(), "first");
  const auto nothing = [](InodeRecord&) {};
  std::thread exchange;
  std::thread rollback;
  IndexBatch batch;
  // As a rollback does: the lower inode's record, and within that the other's.
  const Status status = first->CommitRecordBy(batch, nothing, [&] {
    exchange = std::thread([&] {
      const Status renamed = machine.filesystem().Rename(kRootInode, "second", kRootInode, "first",
                                                         RenameMode::kExchange, {});
      EXPECT_TRUE(renamed.ok()) << renamed.ToString();
    });
    // It gets as far as it can; the longer it has, the surer a wrong order shows.
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::promise<void> done;
    auto has_both = done.get_future();
    rollback = std::thread([&second, &nothing, done = std::move(done)]() mutable {
      IndexBatch inner;
      EXPECT_TRUE(second->CommitRecordBy(inner, nothing, [] { return Status::Ok(); }).ok());
      done.set_value();
    });
    EXPECT_EQ(has_both.wait_for(kEnough), std::future_status::ready);
    return Status::Ok();
  });
  EXPECT_TRUE(status.ok()) << status.ToString();
  exchange.join();
  rollback.join();
  EXPECT_EQ(*FindPath(machine.filesystem(), "second"), first_inode);
}

// A rollback holds a volume's record while it enters views.
TEST(SnapshotConcurrencyTest, ATruncationThatWaitsForItsRecordKeepsNobodyFromViews) {
  TestMachine machine;
  machine.Mount();
  const auto first = std::static_pointer_cast<DiskVolume>(machine.Create("first"));
  machine.Create("second");
  ASSERT_EQ(WriteCode(*first, 0, kMiB, 1), Code::kOk);
  std::thread truncation;
  std::thread other;
  IndexBatch batch;
  const Status status = first->CommitRecordBy(
      batch, [](InodeRecord&) {},
      [&] {
        truncation = std::thread([&] { EXPECT_TRUE(first->Truncate(0).ok()); });
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        std::promise<void> done;
        auto taken = done.get_future();
        other = std::thread([&machine, done = std::move(done)]() mutable {
          EXPECT_TRUE(TrySnapshot(machine.filesystem(), "s", {"second"}).ok());
          done.set_value();
        });
        EXPECT_EQ(taken.wait_for(kEnough), std::future_status::ready);
        return Status::Ok();
      });
  EXPECT_TRUE(status.ok()) << status.ToString();
  truncation.join();
  other.join();
  EXPECT_EQ(first->size(), 0u);
}

}  // namespace
}  // namespace cairn
