// Extent files: what is found on the disk, what is durable, and what a failed sync means.
#include "src/warm/extent_store.h"

#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <set>

#include "src/env/memory_env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;
const ExtentId kId{BranchId(0x1ab), Epoch(3), SegmentIndex(0x1f)};
const std::string kPath = "/extents/ab/1ab-3-1f";

class ExtentStoreTest : public ::testing::Test {
 protected:
  using Mode = ExtentStore::Mode;

  void SetUp() override {
    ASSERT_TRUE(ExtentStore::Format(env_, "/extents").ok());
    ASSERT_TRUE(env_.SyncDir("/").ok());
    Reopen();
  }
  void Reopen() { store_ = std::make_unique<ExtentStore>(env_, "/extents"); }
  std::shared_ptr<ExtentFile> MustOpenExtent(const ExtentId& id, Mode mode = Mode::kCreate) {
    auto file = store_->Open(id, mode, 0);
    EXPECT_TRUE(file.ok()) << file.status().ToString();
    return file.ok() ? *file : nullptr;
  }
  static Status Write(ExtentFile& file, uint64_t offset, const std::string& text) {
    CAIRN_RETURN_IF_ERROR(file.EnsureSize(offset + text.size()));
    return file.WriteAt(offset, std::as_bytes(std::span(text)));
  }
  // A file with something to write back, which fails once.
  std::shared_ptr<ExtentFile> OpenWrittenAndFailWriteback() {
    auto file = MustOpenExtent(kId);
    EXPECT_TRUE(Write(*file, 0, "text").ok());
    Fault fault;
    fault.ops = Op::kWriteback;
    env_.AddFault(fault);
    return file;
  }
  static Result<std::string> Read(ExtentFile& file, uint64_t offset, size_t size) {
    std::string text(size, '?');
    CAIRN_RETURN_IF_ERROR(file.ReadAt(offset, std::as_writable_bytes(std::span(text))));
    return text;
  }

  MemoryEnv env_;
  std::unique_ptr<ExtentStore> store_;
};

TEST_F(ExtentStoreTest, PathsAreThoseOfTheFormat) {
  EXPECT_EQ(store_->PathOf(kId), kPath);
  EXPECT_EQ(store_->PathOf({BranchId(7), Epoch(1), SegmentIndex(0)}), "/extents/07/7-1-0");
}

TEST_F(ExtentStoreTest, AMissingFileIsCorruptAndNamed) {
  const auto missing = store_->Open(kId, Mode::kMustExist, 0);
  EXPECT_EQ(CodeOf(missing), Code::kCorrupt);
  EXPECT_NE(missing.status().context().find(kPath), std::string::npos);
  EXPECT_FALSE(env_.Exists(kPath));
}

TEST_F(ExtentStoreTest, AFileShorterThanTheIndexKnowsIsCorruptAndNamed) {
  MakeDurableFile(env_, "/extents/ab", "1ab-3-1f", std::string(5000, 'x'));
  const auto shorter = store_->Open(kId, Mode::kMustExist, 5001);
  EXPECT_EQ(CodeOf(shorter), Code::kCorrupt);
  EXPECT_NE(shorter.status().context().find(kPath), std::string::npos);
  EXPECT_EQ(CodeOf(store_->Open(kId, Mode::kCreate, 5001)), Code::kCorrupt);
  EXPECT_TRUE(store_->Open(kId, Mode::kMustExist, 5000).ok());
}

TEST_F(ExtentStoreTest, WritebackStartsOnceForEachChunkThatWasWrittenAndNotSynced) {
  auto file = MustOpenExtent(kId);
  const auto started = [&] {
    const uint64_t before = env_.operation_count(Op::kWriteback);
    EXPECT_TRUE(file->StartWriteback().ok());
    return env_.operation_count(Op::kWriteback) - before;
  };
  EXPECT_EQ(started(), 0u);
  ASSERT_TRUE(Write(*file, 3 * kChunkSize + 4096, "text").ok());
  ASSERT_TRUE(Write(*file, 3 * kChunkSize, "text").ok());
  ASSERT_TRUE(Write(*file, 65 * kChunkSize - 2, "across").ok());
  ASSERT_TRUE(Write(*file, kSegmentSize - 4, "last").ok());
  EXPECT_EQ(started(), 4u);
  EXPECT_EQ(started(), 0u);
  ASSERT_TRUE(Write(*file, 3 * kChunkSize, "again").ok());
  EXPECT_EQ(started(), 1u);
  ASSERT_TRUE(Write(*file, 3 * kChunkSize, "again").ok());
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(started(), 0u);
}

TEST_F(ExtentStoreTest, AFileThatWasRemovedMeanwhileIsNotKept) {
  auto file = MustOpenExtent(kId);
  ASSERT_TRUE(store_->Remove(kId).ok());
  const std::weak_ptr<ExtentFile> held = file;
  store_->Keep(kId, std::move(file));
  EXPECT_TRUE(held.expired());
  // Nor in the place of a new one of that name.
  auto removed = MustOpenExtent(kId);
  ASSERT_TRUE(store_->Remove(kId).ok());
  const std::weak_ptr<ExtentFile> another = MustOpenExtent(kId);
  store_->Keep(kId, std::move(removed));
  EXPECT_TRUE(another.expired());
  EXPECT_EQ(store_->open_files(), 0u);
}

TEST_F(ExtentStoreTest, WithoutADeviceNoWritebackStarts) {
  env_.SetFilesHaveDevice(false);
  auto file = MustOpenExtent(kId);
  ASSERT_TRUE(Write(*file, 0, "text").ok());
  EXPECT_TRUE(file->StartWriteback().ok());
  EXPECT_EQ(env_.operation_count(Op::kWriteback), 0u);
  EXPECT_TRUE(file->dirty());
  EXPECT_TRUE(file->Sync().ok());
}

// The pages may be gone, and the kernel may tell of that this once.
TEST_F(ExtentStoreTest, AfterAFailedWritebackNoSyncSucceeds) {
  auto file = OpenWrittenAndFailWriteback();
  EXPECT_EQ(CodeOf(file->StartWriteback()), Code::kIo);
  EXPECT_EQ(env_.fired_fault_count(), 1u);
  EXPECT_TRUE(file->dirty());
  for (int turn = 0; turn < 2; ++turn) EXPECT_EQ(CodeOf(file->Sync()), Code::kIo);
}

// The other thread's sync would find the pages clean that the failure drops.
TEST_F(ExtentStoreTest, NoSyncSucceedsWhileAWritebackFails) {
  auto file = OpenWrittenAndFailWriteback();
  std::future<Code> synced;
  env_.SetHook([&](Op op, const std::string&) {
    if (op != Op::kWriteback) return;
    synced = std::async(std::launch::async, [&] { return CodeOf(file->Sync()); });
    EXPECT_EQ(synced.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  });
  EXPECT_EQ(CodeOf(file->StartWriteback()), Code::kIo);
  ASSERT_TRUE(synced.valid());
  EXPECT_EQ(synced.get(), Code::kIo);
  env_.SetHook(nullptr);
}

TEST_F(ExtentStoreTest, ReadsBehindTheEndAreCorruptAndNeverZeros) {
  MakeDurableFile(env_, "/extents/ab", "1ab-3-1f", std::string(5000, 'x'));
  auto file = MustOpenExtent(kId, Mode::kMustExist);
  EXPECT_EQ(*Read(*file, 4900, 100), std::string(100, 'x'));
  const auto behind = Read(*file, 4900, 101);
  EXPECT_EQ(CodeOf(behind), Code::kCorrupt);
  EXPECT_NE(behind.status().context().find(kPath), std::string::npos);
}

TEST_F(ExtentStoreTest, OneObjectForOneFileAsLongAsItIsHeld) {
  auto first = MustOpenExtent(kId);
  EXPECT_EQ(MustOpenExtent(kId, Mode::kMustExist), first);
  ExtentFile* const raw = first.get();
  EXPECT_EQ(MustOpenExtent(kId).get(), raw);
}

TEST_F(ExtentStoreTest, ManyFilesComeAndGo) {
  for (uint64_t branch = 1; branch <= 600; ++branch) {
    ASSERT_TRUE(Write(*MustOpenExtent({BranchId(branch), Epoch(1), SegmentIndex(0)}), 0,
                      std::to_string(branch))
                    .ok());
  }
  for (uint64_t branch = 1; branch <= 600; ++branch) {
    auto file = MustOpenExtent({BranchId(branch), Epoch(1), SegmentIndex(0)}, Mode::kMustExist);
    const std::string text = std::to_string(branch);
    EXPECT_EQ(*Read(*file, 0, text.size()), text);
  }
}

TEST_F(ExtentStoreTest, GrowsInStepsAndNeverBeyondItsSegment) {
  auto file = MustOpenExtent(kId);
  EXPECT_EQ(file->size(), 0u);
  ASSERT_TRUE(file->EnsureSize(1).ok());
  EXPECT_EQ(file->size(), 64 * kMebibyte);
  ASSERT_TRUE(file->EnsureSize(64 * kMebibyte).ok());
  EXPECT_EQ(file->size(), 64 * kMebibyte);
  ASSERT_TRUE(file->EnsureSize(64 * kMebibyte + 1).ok());
  EXPECT_EQ(file->size(), 128 * kMebibyte);
  ASSERT_TRUE(file->EnsureSize(kSegmentSize).ok());
  EXPECT_EQ(file->size(), kSegmentSize);
  EXPECT_EQ(*Read(*file, kSegmentSize - 10, 10), std::string(10, '\0'));
}

TEST_F(ExtentStoreTest, DataSizeAndNameAreDurableAfterSync) {
  for (uint64_t seed = 0; seed < 32; ++seed) {
    const ExtentId id{BranchId(100 + seed), Epoch(1), SegmentIndex(0)};
    {
      auto file = MustOpenExtent(id);
      ASSERT_TRUE(Write(*file, 10000, "kept").ok());
      ASSERT_TRUE(file->Sync().ok());
      EXPECT_FALSE(file->dirty());
    }
    env_.PowerCut(seed);
    Reopen();
    auto file = store_->Open(id, Mode::kMustExist, 64 * kMebibyte);
    ASSERT_TRUE(file.ok()) << "seed " << seed << ": " << file.status().ToString();
    EXPECT_EQ(*Read(**file, 10000, 4), "kept");
  }
}

// The sync of a file that an earlier process made must not trust that its name is durable.
TEST_F(ExtentStoreTest, SyncAnywayMakesDurableWhatAnEarlierProcessLeft) {
  for (uint64_t seed = 0; seed < 32; ++seed) {
    const ExtentId id{BranchId(200 + seed), Epoch(1), SegmentIndex(0)};
    ASSERT_TRUE(Write(*MustOpenExtent(id), 0, "kept").ok());
    env_.KillProcess();
    Reopen();
    ASSERT_TRUE(MustOpenExtent(id, Mode::kMustExist)->SyncAnyway().ok());
    env_.PowerCut(seed);
    Reopen();
    EXPECT_EQ(*Read(*MustOpenExtent(id, Mode::kMustExist), 0, 4), "kept") << seed;
  }
}

TEST_F(ExtentStoreTest, SyncCostsNothingWhenThereIsNothing) {
  auto file = MustOpenExtent(kId);
  EXPECT_TRUE(file->dirty());
  ASSERT_TRUE(file->Sync().ok());
  const uint64_t syncs = env_.sync_count();
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(env_.sync_count(), syncs);
  for (int change = 0; change < 4; ++change) {
    if (change == 0) {
      ASSERT_TRUE(Write(*file, 0, "data").ok());
    }
    if (change == 1) {
      ASSERT_TRUE(file->PunchHole(0, 4096).ok());
    }
    if (change == 2) {
      ASSERT_TRUE(file->Allocate(8192, 4096).ok());
    }
    if (change == 3) {
      ASSERT_TRUE(file->EnsureSize(file->size() + 1).ok());
    }
    EXPECT_TRUE(file->dirty()) << change;
    ASSERT_TRUE(file->Sync().ok());
    EXPECT_EQ(env_.sync_count(), syncs + 1 + static_cast<uint64_t>(change));
  }
}

TEST_F(ExtentStoreTest, AFailedSyncStaysFailed) {
  for (const Op op : {Op::kSync, Op::kSyncDir}) {
    const ExtentId id{BranchId(static_cast<uint64_t>(op)), Epoch(1), SegmentIndex(0)};
    auto file = MustOpenExtent(id);
    ASSERT_TRUE(Write(*file, 0, "data").ok());
    Fault fault;
    fault.ops = op;
    env_.AddFault(fault);
    EXPECT_EQ(CodeOf(file->Sync()), Code::kIo);
    env_.ClearFaults();
    EXPECT_EQ(CodeOf(file->Sync()), Code::kIo);
    ASSERT_TRUE(Write(*file, 0, "more").ok());
    EXPECT_EQ(CodeOf(file->Sync()), Code::kIo);
    EXPECT_EQ(CodeOf(file->SyncAnyway()), Code::kIo);
    file.reset();
    file = MustOpenExtent(id, Mode::kMustExist);
    EXPECT_TRUE(file->SyncAnyway().ok());
  }
}

TEST_F(ExtentStoreTest, AFailedWriteStillLeavesTheFileDirty) {
  auto file = MustOpenExtent(kId);
  ASSERT_TRUE(file->EnsureSize(4096).ok());
  ASSERT_TRUE(file->Sync().ok());
  Fault fault;
  fault.ops = Op::kWrite;
  fault.written_bytes = 2;
  env_.AddFault(fault);
  EXPECT_EQ(CodeOf(Write(*file, 0, "data")), Code::kIo);
  EXPECT_TRUE(file->dirty());
}

TEST_F(ExtentStoreTest, OnlyFilesOfAnEarlierProcessMayHoldLeftovers) {
  {
    auto file = MustOpenExtent(kId);
    EXPECT_FALSE(file->may_hold_leftovers());
    file->SetMayHoldLeftovers();
    EXPECT_TRUE(file->may_hold_leftovers());
    EXPECT_TRUE(MustOpenExtent(kId)->may_hold_leftovers());
  }
  const ExtentId other{BranchId(5), Epoch(1), SegmentIndex(0)};
  EXPECT_FALSE(MustOpenExtent(other)->may_hold_leftovers());
  Reopen();
  EXPECT_TRUE(MustOpenExtent(other, Mode::kMustExist)->may_hold_leftovers());
  Reopen();
  EXPECT_TRUE(MustOpenExtent(other, Mode::kCreate)->may_hold_leftovers());
}

TEST_F(ExtentStoreTest, SeeksDataAndHolesWithinBounds) {
  auto file = MustOpenExtent(kId);
  ASSERT_TRUE(Write(*file, 8192, std::string(4096, 'x')).ok());
  EXPECT_EQ(*file->SeekData(0, kMebibyte), 8192u);
  EXPECT_EQ(*file->SeekData(0, 4096), 4096u);
  EXPECT_EQ(*file->SeekHole(8192, kMebibyte), 12288u);
  EXPECT_EQ(*file->SeekHole(8192, 9000), 9000u);
  EXPECT_EQ(*file->SeekData(12288, kMebibyte), kMebibyte);
  ASSERT_TRUE(file->PunchHole(8192, 4096).ok());
  EXPECT_EQ(*file->SeekData(0, kMebibyte), kMebibyte);
  EXPECT_EQ(*Read(*file, 8192, 10), std::string(10, '\0'));
}

TEST_F(ExtentStoreTest, RemoveBranchTakesAllOfItsFilesAndNoOthers) {
  // These share a folder.
  const BranchId gone(0x2ab);
  std::set<ExtentId> kept = {kId, {BranchId(0x2ab0), Epoch(1), SegmentIndex(0)}};
  for (const ExtentId& id : kept) MustOpenExtent(id);
  for (uint64_t epoch = 1; epoch <= 3; ++epoch) {
    for (uint64_t segment = 0; segment < 2; ++segment) {
      MustOpenExtent({gone, Epoch(epoch), SegmentIndex(segment)});
    }
  }
  MakeFile(env_, "/extents/ab/2ab-1-0.old", "not ours");
  ASSERT_TRUE(store_->RemoveBranch(gone).ok());
  ASSERT_TRUE(store_->RemoveBranch(gone).ok());
  std::set<ExtentId> found;
  std::set<std::string> strangers;
  ASSERT_TRUE(store_
                  ->ForEach([&](const ExtentId& id) { found.insert(id); },
                            [&](const std::string& path) { strangers.insert(path); })
                  .ok());
  EXPECT_EQ(found, kept);
  EXPECT_EQ(strangers, std::set<std::string>{"/extents/ab/2ab-1-0.old"});
}

TEST_F(ExtentStoreTest, NamesThatNoExtentFileHasAreStrangers) {
  const std::set<std::string> names = {
      "/extents/ab/1ab-3",     "/extents/ab/1ab-3-1f-0", "/extents/ab/01ab-3-1f",
      "/extents/ab/1AB-3-1f",  "/extents/ac/1ab-3-1f",   "/extents/ab/1ab--1f",
      "/extents/ab/1ab-3-",    "/extents/ab/0x1ab-3-1f", "/extents/ab/10000000000000000ab-1-1",
      "/extents/ab/1ab-3-1f ", "/extents/ab/-1ab-3-1f"};
  for (const std::string& name : names) MakeFile(env_, name, "");
  std::set<std::string> strangers;
  ASSERT_TRUE(store_
                  ->ForEach([](const ExtentId&) { ADD_FAILURE(); },
                            [&](const std::string& path) { strangers.insert(path); })
                  .ok());
  EXPECT_EQ(strangers, names);
}

TEST_F(ExtentStoreTest, RemovingWhatIsNotThereIsFine) {
  EXPECT_TRUE(store_->Remove(kId).ok());
  MustOpenExtent(kId);
  EXPECT_TRUE(store_->Info(kId).ok());
  EXPECT_TRUE(store_->Remove(kId).ok());
  EXPECT_EQ(CodeOf(store_->Info(kId)), Code::kNotFound);
}

}  // namespace
}  // namespace cairn
