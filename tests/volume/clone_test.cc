// Clones, copies that become clones, and rollback: the bytes of each stay its own.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "src/volume/disk_volume.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {
namespace {

// The kernel has the target's pages forgotten for as many bytes as were copied.
TEST(CopyTest, WhatWasCopiedBeforeAFailureCounts) {
  TestMachine machine;
  machine.Mount();
  const uint64_t size = 8 << 20;
  ASSERT_EQ(WriteCode(*machine.Create("from"), 0, size, 1), Code::kOk);
  ASSERT_EQ(WriteCode(*machine.Create("to"), 0, kBlockSize, 2), Code::kOk);
  const InodeId from = *FindPath(machine.filesystem(), "from");
  const InodeId to = *FindPath(machine.filesystem(), "to");
  Fault fault;
  fault.ops = Op::kRead;
  fault.path_contains = "/extents/";
  fault.nth = 3;
  fault.forever = true;
  machine.env().AddFault(fault);
  // Apart by a block, so that nothing is cloned.
  const auto copied = machine.filesystem().CopyRange(from, kBlockSize, to, 0, size, {});
  ASSERT_TRUE(copied.ok()) << copied.status().ToString();
  const uint64_t bytes = copied->bytes;
  EXPECT_GT(bytes, 0u);
  EXPECT_LT(bytes, size - kBlockSize);
  EXPECT_TRUE(copied->failed);
  const auto nothing =
      machine.filesystem().CopyRange(from, kBlockSize + bytes, to, bytes, size, {});
  EXPECT_EQ(nothing.status().code(), Code::kIo);
  machine.env().ClearFaults();
  EXPECT_EQ(machine.Find("to")->size(), bytes);
  EXPECT_TRUE(Holds(*machine.Find("to"), 0, bytes, 1));
}

constexpr uint64_t kMiB = 1 << 20;

class CloneTest : public testing::Test {
 protected:
  void SetUp() override { machine_.Mount(); }

  Filesystem& filesystem() { return machine_.filesystem(); }
  InodeId Inode(const std::string& path) {
    const auto inode = FindPath(filesystem(), path);
    EXPECT_TRUE(inode.ok()) << path << ": " << inode.status().ToString();
    return inode.ok() ? *inode : InodeId(0);
  }
  void Remount() {
    ASSERT_TRUE(machine_.Close().ok());
    machine_.Mount();
  }
  uint64_t AllocatedBytes(const std::string& path) {
    const auto attributes = filesystem().GetAttributes(Inode(path));
    EXPECT_TRUE(attributes.ok()) << attributes.status().ToString();
    return attributes.ok() ? attributes->allocated_bytes : 0;
  }
  // As copy_file_range would; goes on where a call ends short.
  void Copy(const std::string& from, const std::string& to, uint64_t offset, uint64_t length) {
    while (length > 0) {
      const auto done = filesystem().CopyRange(Inode(from), offset, Inode(to), offset, length, {});
      ASSERT_TRUE(done.ok()) << done.status().ToString();
      ASSERT_GT(done->bytes, 0u);
      offset += done->bytes;
      length -= done->bytes;
    }
  }
  // How much of it became shared; the rest would have to be copied.
  uint64_t Share(const std::string& from, const std::string& to, uint64_t offset, uint64_t length) {
    const auto done =
        filesystem().snapshots().CloneRange(Inode(from), Inode(to), {offset, length}, kEnough, {});
    EXPECT_TRUE(done.ok()) << done.status().ToString();
    return done.ok() ? *done : 0;
  }
  void Clone(const std::string& path, const std::string& name) {
    SnapshotOps::NewClone clone;
    clone.files.push_back({Inode(path), ""});
    clone.parent = kRootInode;
    clone.name = name;
    clone.deadline = kEnough;
    const auto made = filesystem().snapshots().Clone(clone);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
  }

  TestMachine machine_;
};

TEST_F(CloneTest, OneWhoseParentIsDamagedIsSeenAndNotRead) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, kMiB, 1), Code::kOk);
  ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"v"}).ok());
  Clone(".snapshots/s/v", "c");
  const InodeId inode = Inode("c");
  ASSERT_TRUE(machine_.Close().ok());
  {
    const auto store = WarmStore::Open(machine_.env(), "/store", {});
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    Index& index = (*store)->index();
    IndexBatch batch;
    batch.DeleteBranch(index.GetBranch(index.GetInode(inode)->branch)->parent);
    ASSERT_TRUE(index.Commit(batch).ok());
    ASSERT_TRUE((*store)->Close().ok());
  }
  machine_.Mount();
  EXPECT_TRUE(filesystem().GetAttributes(inode).ok());
  EXPECT_EQ(filesystem().FindVolume(inode).status().code(), Code::kCorrupt);
}

// tar takes a file without any blocks for one hole.
TEST_F(CloneTest, WhatItSeesOfItsParentsCountsAsAllocatedLoadedOrNot) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, kMiB, 1), Code::kOk);
  ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"v"}).ok());
  SnapshotOps::NewClone clone;
  clone.parent = kRootInode;
  clone.name = "c";
  clone.deadline = kEnough;
  clone.files = {{Inode(".snapshots/s/v"), ""}};
  ASSERT_TRUE(filesystem().snapshots().Clone(clone).ok());
  ASSERT_TRUE(TrySnapshot(filesystem(), "of-clone", {"c"}).ok());
  Remount();
  for (const char* path : {"c", ".snapshots/s/v", ".snapshots/of-clone/c"}) {
    EXPECT_EQ(AllocatedBytes(path), kMiB) << path;
    EXPECT_TRUE(Holds(*FindVolumeAt(filesystem(), path), 0, kMiB, 1));
    EXPECT_EQ(AllocatedBytes(path), kMiB) << path << ", loaded";
  }
}

TEST_F(CloneTest, WhoeverCommitsTheRecordBeforeASwitchIsDoneDoesSoWithTheNewSize) {
  const auto volume = std::static_pointer_cast<DiskVolume>(machine_.Create("a"));
  ASSERT_EQ(WriteCode(*volume, 0, 100, 1), Code::kOk);
  GateClosure closure(volume->gate());
  IndexBatch batch;
  const auto switch_to = [&](uint64_t size, const Status& outcome) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
    return volume->CommitSwitch(
        batch, [&](InodeRecord& record) { record.size = size; }, [&] { return outcome; });
  };
  EXPECT_EQ(switch_to(7000, Status(Code::kIo, "refused")).code(), Code::kIo);
  EXPECT_EQ(volume->Record().size, 100u);
  EXPECT_TRUE(switch_to(5000, Status::Ok()).ok());
  EXPECT_EQ(volume->Record().size, 5000u);
}

TEST_F(CloneTest, ARolledBackVolumeKeepsItsSizeWhenItsModeChangesBeside) {
  constexpr int kVolumes = 24;
  constexpr int kRounds = 12;
  for (int round = 0; round < kRounds; ++round) {
    const std::string snapshot = "s" + std::to_string(round);
    std::vector<std::string> names;
    for (int i = 0; i < kVolumes; ++i) {
      names.push_back("v" + std::to_string(round) + "." + std::to_string(i));
      ASSERT_EQ(WriteCode(*machine_.Create(names.back()), 0, 5000, 1), Code::kOk);
    }
    ASSERT_TRUE(TrySnapshot(filesystem(), snapshot, names).ok());
    SnapshotOps::NewRollback rollback;
    rollback.before.name = "before-" + snapshot;
    rollback.deadline = kEnough;
    for (const std::string& name : names) {
      ASSERT_TRUE(machine_.Find(name)->Truncate(100).ok());
      rollback.items.push_back({Inode(".snapshots/" + snapshot + "/" + name), Inode(name), name});
    }
    auto last = machine_.Find(names.back());
    std::atomic<bool> stop{false};
    std::thread chmod([&] {
      for (uint32_t i = 0; !stop && last->size() != 5000; ++i) {
        AttributeChange change;
        change.mode = 0600 + i % 8;
        EXPECT_TRUE(filesystem().SetAttributes(last->inode(), change, {}).ok());
      }
    });
    const auto done = filesystem().snapshots().Rollback(rollback);
    stop = true;
    chmod.join();
    ASSERT_TRUE(done.ok()) << done.status().ToString();
    EXPECT_EQ(last->size(), 5000u);
    last.reset();
    machine_.LoseServer();
    machine_.Mount();
    ASSERT_EQ(machine_.Find(names.back())->size(), 5000u) << round;
    for (const std::string& name : names) {
      ASSERT_TRUE(filesystem().Unlink(kRootInode, name, {}).ok());
    }
    machine_.RunBackground();
  }
}

TEST_F(CloneTest, APieceCopiedAfterARestartIsWhatTheSourceHoldsByThen) {
  {
    const auto source = machine_.Create("v");
    machine_.Create("t");
    ASSERT_EQ(WriteCode(*source, 0, 2 * kMiB, 1), Code::kOk);
    ASSERT_EQ(Share("v", "t", 0, 2 * kMiB), 2 * kMiB);
    ASSERT_EQ(WriteCode(*source, 2 * kMiB, 2 * kMiB, 2), Code::kOk);
    ASSERT_TRUE(source->Sync().ok());
  }
  Remount();
  Copy("v", "t", 2 * kMiB, 2 * kMiB);
  EXPECT_TRUE(Holds(*machine_.Find("t"), 0, 2 * kMiB, 1));
  EXPECT_TRUE(Holds(*machine_.Find("t"), 2 * kMiB, 2 * kMiB, 2));
}

TEST_F(CloneTest, PiecesOfAnUnchangedSourceAreShared) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, 4 * kMiB + 100, 1), Code::kOk);
  machine_.Create("t");
  ASSERT_EQ(Share("v", "t", 0, kMiB), kMiB);
  ASSERT_EQ(Share("v", "t", kMiB, kMiB + kBlockSize), kMiB + kBlockSize);
  ASSERT_EQ(Share("v", "t", 2 * kMiB + kBlockSize, 9 * kMiB), 2 * kMiB + 100 - kBlockSize);
  Remount();
  EXPECT_TRUE(Holds(*machine_.Find("t"), 0, 4 * kMiB + 100, 1));
}

TEST_F(CloneTest, WhatATruncationLeftBehindTheEndIsNotWhatTheNextPieceShows) {
  // In the chunk of the end, and with it in the first piece.
  for (const uint64_t end : {2 * kMiB + 64 * 1024, 2 * kMiB}) {
    const std::string target = "t" + std::to_string(end);
    if (!FindPath(filesystem(), "v").ok()) machine_.Create("v");
    ASSERT_EQ(WriteCode(*machine_.Find("v"), 0, 4 * kMiB, 1), Code::kOk);
    const auto volume = machine_.Create(target);
    ASSERT_EQ(Share("v", target, 0, end), end);
    ASSERT_EQ(WriteCode(*volume, end, 64 * 1024, 9), Code::kOk);
    ASSERT_TRUE(volume->Truncate(end).ok());
    Copy("v", target, end, kMiB);
    EXPECT_TRUE(Holds(*volume, 0, end + kMiB, 1)) << end;
  }
}

TEST_F(CloneTest, ZerosThatHideAParentAreNotWhatTheNextPieceShows) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, 4 * kMiB, 1), Code::kOk);
  const auto volume = machine_.Create("t");
  // Within a chunk, whose zeros are then said of all of it.
  const uint64_t end = 2 * kMiB + 64 * 1024;
  ASSERT_EQ(Share("v", "t", 0, end), end);
  ASSERT_TRUE(volume->Truncate(2 * kMiB).ok());
  ASSERT_TRUE(volume->Truncate(end).ok());
  Copy("v", "t", end, kMiB);
  EXPECT_TRUE(Holds(*volume, 0, 2 * kMiB, 1));
  EXPECT_TRUE(Holds(*volume, 2 * kMiB, 64 * 1024, 0));
  EXPECT_TRUE(Holds(*volume, end, kMiB, 1));
}

TEST_F(CloneTest, ACloneOfAHalfMadeCopyDoesNotGrowWithTheCopy) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, 4 * kMiB, 1), Code::kOk);
  machine_.Create("t");
  ASSERT_EQ(Share("v", "t", 0, 2 * kMiB), 2 * kMiB);
  Clone("t", "c");
  ASSERT_TRUE(machine_.Find("c")->Truncate(4 * kMiB).ok());
  EXPECT_TRUE(Holds(*machine_.Find("c"), 2 * kMiB, 2 * kMiB, 0));
  Copy("v", "t", 2 * kMiB, 2 * kMiB);
  Remount();
  EXPECT_TRUE(Holds(*machine_.Find("c"), 0, 2 * kMiB, 1));
  EXPECT_TRUE(Holds(*machine_.Find("c"), 2 * kMiB, 2 * kMiB, 0));
  EXPECT_TRUE(Holds(*machine_.Find("t"), 0, 4 * kMiB, 1));
}

// Beside the pieces the source grows: what the target becomes are bytes that the source had.
TEST_F(CloneTest, APieceBesideAnAppendShowsNoZeros) {
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    const std::string from = "v" + std::to_string(round);
    const std::string to = "t" + std::to_string(round);
    const auto source = machine_.Create(from);
    const auto target = machine_.Create(to);
    ASSERT_EQ(WriteCode(*source, 0, 4 * kBlockSize, 1), Code::kOk);
    ASSERT_EQ(Share(from, to, 0, 2 * kBlockSize), 2 * kBlockSize);
    std::atomic<bool> begun{false};
    std::thread append([&] {
      begun = true;
      EXPECT_EQ(WriteCode(*source, 4 * kBlockSize, 4 * kBlockSize, 1), Code::kOk);
    });
    while (!begun) std::this_thread::yield();
    const uint64_t done = Share(from, to, 2 * kBlockSize, 6 * kBlockSize);
    append.join();
    ASSERT_TRUE(Holds(*target, 0, 2 * kBlockSize + done, 1)) << round;
  }
}

TEST_F(CloneTest, ADiffFromAHalfMadeCopyHasTheRestOfIt) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, 4 * kMiB, 1), Code::kOk);
  machine_.Create("t");
  ASSERT_EQ(Share("v", "t", 0, 2 * kMiB), 2 * kMiB);
  ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"t"}).ok());
  Copy("v", "t", 2 * kMiB, 2 * kMiB);
  const auto diff = filesystem().snapshots().Diff(Inode(".snapshots/s/t"), Inode("t"), 0, 100);
  ASSERT_TRUE(diff.ok()) << diff.status().ToString();
  ASSERT_EQ(diff->ranges.size(), 1u);
  EXPECT_EQ(diff->ranges[0].offset, 2 * kMiB);
  EXPECT_EQ(diff->ranges[0].length, 2 * kMiB);
  EXPECT_FALSE(diff->ranges[0].hole);
}

TEST_F(CloneTest, AVolumeThatTakesNoWritesCanStillBeCopied) {
  const auto source = machine_.Create("v");
  ASSERT_EQ(WriteCode(*source, 0, 2 * kMiB, 1), Code::kOk);
  const auto target = machine_.Create("t");
  static_cast<DiskVolume&>(*source).Poison(Status(Code::kIo, "a test"));
  ASSERT_EQ(WriteCode(*source, 0, 1, 1), Code::kReadOnly);
  Copy("v", "t", 0, 2 * kMiB);
  EXPECT_TRUE(Holds(*target, 0, 2 * kMiB, 1));
}

TEST_F(CloneTest, AViewOfTheCopyThatSawZerosBehindItsEndGoesOnToSeeThem) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, 4 * kMiB, 1), Code::kOk);
  const auto volume = machine_.Create("t");
  ASSERT_EQ(Share("v", "t", 0, 2 * kMiB), 2 * kMiB);
  ASSERT_TRUE(volume->Truncate(4 * kMiB).ok());
  Clone("t", "c");
  ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"t"}).ok());
  ASSERT_TRUE(volume->Truncate(2 * kMiB).ok());
  Copy("v", "t", 2 * kMiB, 2 * kMiB);
  EXPECT_TRUE(Holds(*volume, 0, 4 * kMiB, 1));
  for (const std::string path : {"c", ".snapshots/s/t"}) {
    EXPECT_TRUE(Holds(*FindVolumeAt(filesystem(), path), 2 * kMiB, 2 * kMiB, 0)) << path;
  }
}

}  // namespace
}  // namespace cairn
