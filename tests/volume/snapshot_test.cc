// Snapshots: what they show, whatever happens around them, and what remains when they go.
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

#include "src/volume/disk_volume.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {
namespace {

class SnapshotTest : public testing::Test {
 protected:
  void SetUp() override { machine_.Mount(); }

  Filesystem& filesystem() { return machine_.filesystem(); }
  void Snapshot(const std::string& name, const std::vector<std::string>& volumes) {
    const auto made = TrySnapshot(filesystem(), name, volumes);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
  }
  std::string Content(const std::string& path) {
    const auto content = ContentOf(filesystem(), path);
    EXPECT_TRUE(content.ok()) << path << ": " << content.status().ToString();
    return content.ok() ? *content : std::string();
  }
  void Settle() {
    for (int i = 0; i < 3; ++i) machine_.RunBackground();
  }
  // What the store's files hold, beside the reserve's.
  uint64_t AllocatedBytes() {
    uint64_t bytes = 0;
    const auto folders = machine_.env().List("/store/extents");
    for (const std::string& folder : *folders) {
      const std::string path = "/store/extents/" + folder;
      const auto names = machine_.env().List(path);
      for (const std::string& name : *names) {
        bytes += machine_.env().Info(path + "/" + name)->allocated_bytes;
      }
    }
    return bytes;
  }
  void Remount() {
    ASSERT_TRUE(machine_.Close().ok());
    machine_.Mount();
  }

  TestMachine machine_;
};

TEST_F(SnapshotTest, AVolumeShowsAtOnceWhatWasGivenBackOfItsFiles) {
  auto v = machine_.Create("v");
  ASSERT_EQ(WriteCode(*v, 0, 64 * kBlockSize, 1), Code::kOk);
  Snapshot("s", {"v"});
  ASSERT_EQ(WriteCode(*v, 0, 32 * kBlockSize, 2), Code::kOk);
  ASSERT_TRUE(v->Sync().ok());
  EXPECT_EQ(filesystem().GetAttributes(v->inode())->allocated_bytes, 96 * kBlockSize);
  ASSERT_TRUE(DeleteSnapshot(filesystem(), "s").ok());
  Settle();
  EXPECT_EQ(AllocatedBytes(), 64 * kBlockSize);
  EXPECT_EQ(filesystem().GetAttributes(v->inode())->allocated_bytes, 64 * kBlockSize);
}

// fstrim and qemu-img punch to the end of a volume, which may lie within a block.
TEST_F(SnapshotTest, PunchingToAnEndWithinABlockLeavesNoDataBehind) {
  auto volume = machine_.Create("a");
  const uint64_t size = kChunkSize + kBlockSize + 1000;
  ASSERT_EQ(WriteCode(*volume, 0, size, 1), Code::kOk);
  const auto expect_hole = [&](uint64_t from) {
    ASSERT_TRUE(volume->Zero(from, 2 * kChunkSize, true).ok());
    EXPECT_EQ(volume->size(), size);
    EXPECT_EQ(volume->SeekData(from).status().code(), Code::kNoDevice);
    EXPECT_TRUE(Holds(*volume, from, size - from, 0));
    EXPECT_TRUE(Holds(*volume, 0, from, 1));
  };
  expect_hole(kChunkSize + kBlockSize);
  Snapshot("s", {"a"});
  expect_hole(kChunkSize);
  EXPECT_EQ(Content(".snapshots/s/a").substr(kChunkSize, kBlockSize),
            Content("a").substr(0, kBlockSize));
  // What it grows by is zeros, too.
  ASSERT_TRUE(volume->Truncate(2 * kChunkSize).ok());
  EXPECT_TRUE(Holds(*volume, kChunkSize, kChunkSize, 0));
}

TEST_F(SnapshotTest, ShowsWhatTheVolumesHeldThen) {
  auto a = machine_.Create("a");
  auto b = machine_.Create("b");
  ASSERT_EQ(WriteCode(*a, 0, 3 * kChunkSize + 100, 1), Code::kOk);
  ASSERT_EQ(WriteCode(*b, 5 * kBlockSize, kBlockSize, 2), Code::kOk);
  const std::string a_then = Content("a");
  const std::string b_then = Content("b");
  Snapshot("s", {"a", "b"});
  ASSERT_EQ(WriteCode(*a, kBlockSize + 7, 2 * kBlockSize, 3), Code::kOk);
  ASSERT_EQ(WriteCode(*a, 4 * kChunkSize, 100, 4), Code::kOk);
  ASSERT_TRUE(b->Truncate(0).ok());
  EXPECT_EQ(Content(".snapshots/s/a"), a_then);
  EXPECT_EQ(Content(".snapshots/s/b"), b_then);
  EXPECT_TRUE(Holds(*a, kBlockSize, 7, 1));
  EXPECT_TRUE(Holds(*a, kBlockSize + 7, 2 * kBlockSize, 3));
  EXPECT_TRUE(Holds(*a, 3 * kBlockSize + 7, kBlockSize, 1));
  const std::string a_now = Content("a");
  a.reset();
  b.reset();
  Remount();
  EXPECT_EQ(Content(".snapshots/s/a"), a_then);
  EXPECT_EQ(Content(".snapshots/s/b"), b_then);
  EXPECT_EQ(Content("a"), a_now);
  EXPECT_EQ(Content("b"), "");
}

TEST_F(SnapshotTest, TakesNoChanges) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, kBlockSize, 1), Code::kOk);
  Snapshot("s", {"a"});
  auto member = FindVolumeAt(filesystem(), ".snapshots/s/a");
  ASSERT_NE(member, nullptr);
  EXPECT_EQ(WriteCode(*member, 0, 10, 2), Code::kReadOnly);
  EXPECT_EQ(member->Truncate(0).code(), Code::kReadOnly);
  EXPECT_EQ(member->Zero(0, 10, true).code(), Code::kReadOnly);
  EXPECT_TRUE(member->Sync().ok());
  const InodeId directory = *FindPath(filesystem(), ".snapshots/s");
  EXPECT_EQ(filesystem().Create(directory, "x", 0644, {}).status().code(), Code::kReadOnly);
  EXPECT_EQ(filesystem().MakeDirectory(kSnapshotsInode, "x", 0755, {}).status().code(),
            Code::kReadOnly);
  EXPECT_EQ(filesystem().Unlink(directory, "a", {}).code(), Code::kReadOnly);
  EXPECT_EQ(filesystem().RemoveDirectory(kSnapshotsInode, "s", {}).code(), Code::kReadOnly);
  EXPECT_EQ(filesystem().Rename(directory, "a", kRootInode, "b", RenameMode::kReplace, {}).code(),
            Code::kReadOnly);
  EXPECT_EQ(filesystem().Rename(kRootInode, "a", directory, "b", RenameMode::kReplace, {}).code(),
            Code::kReadOnly);
  EXPECT_EQ(filesystem().SetXattr(member->inode(), "user.x", "1", XattrMode::kEither, {}).code(),
            Code::kReadOnly);
  AttributeChange change;
  change.mode = 0600;
  EXPECT_EQ(filesystem().SetAttributes(member->inode(), change, {}).status().code(),
            Code::kReadOnly);
}

TEST_F(SnapshotTest, TheDirectoryOfSnapshotsIsThereFromTheStartAndNotListed) {
  const auto found = filesystem().Lookup(kRootInode, ".snapshots");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->kind, FileKind::kDirectory);
  machine_.Create("a");
  Snapshot("s", {"a"});
  std::vector<std::string> names;
  const auto list = [&](InodeId directory) {
    names.clear();
    EXPECT_TRUE(filesystem()
                    .ReadDirectory(directory, 0,
                                   [&](const DirectoryEntry& entry) {
                                     names.push_back(entry.name);
                                     return true;
                                   })
                    .ok());
    return names;
  };
  EXPECT_EQ(list(kRootInode), (std::vector<std::string>{"a"}));
  EXPECT_EQ(list(kSnapshotsInode), (std::vector<std::string>{"s"}));
  EXPECT_EQ(*filesystem().Parent(*FindPath(filesystem(), ".snapshots/s")), kSnapshotsInode);
  EXPECT_EQ(*filesystem().Parent(kSnapshotsInode), kRootInode);
}

TEST_F(SnapshotTest, ATakenNameIsRefusedAndTheVolumeGoesOn) {
  auto a = machine_.Create("a");
  Snapshot("s", {"a"});
  EXPECT_EQ(TrySnapshot(filesystem(), "s", {"a"}).status().code(), Code::kExists);
  EXPECT_EQ(WriteCode(*a, 0, kBlockSize, 1), Code::kOk);
  EXPECT_TRUE(a->Sync().ok());
}

TEST_F(SnapshotTest, SurvivesTheVolumeAndTheVolumeSurvivesIt) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, 2 * kChunkSize, 1), Code::kOk);
  Snapshot("s1", {"a"});
  ASSERT_EQ(WriteCode(*a, 0, kChunkSize, 2), Code::kOk);
  Snapshot("s2", {"a"});
  ASSERT_EQ(WriteCode(*a, kBlockSize, kBlockSize, 3), Code::kOk);
  const std::string s1 = Content(".snapshots/s1/a");
  const std::string s2 = Content(".snapshots/s2/a");
  const std::string now = Content("a");
  ASSERT_TRUE(DeleteSnapshot(filesystem(), "s1").ok());
  Settle();
  EXPECT_EQ(Content(".snapshots/s2/a"), s2);
  EXPECT_EQ(Content("a"), now);
  a.reset();
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "a", {}).ok());
  Settle();
  EXPECT_EQ(Content(".snapshots/s2/a"), s2);
  Remount();
  EXPECT_EQ(Content(".snapshots/s2/a"), s2);
  ASSERT_TRUE(DeleteSnapshot(filesystem(), "s2").ok());
  Settle();
  EXPECT_EQ(AllocatedBytes(), 0u);
}

TEST_F(SnapshotTest, DeletionGivesBackWhatNobodyElseNeedsToTheBlock) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, kChunkSize, 1), Code::kOk);
  ASSERT_TRUE(a->Sync().ok());
  const uint64_t flat = AllocatedBytes();
  Snapshot("s1", {"a"});
  ASSERT_EQ(WriteCode(*a, 0, 5 * kBlockSize, 2), Code::kOk);
  Snapshot("s2", {"a"});
  ASSERT_EQ(WriteCode(*a, 3 * kBlockSize, 4 * kBlockSize, 3), Code::kOk);
  ASSERT_TRUE(a->Sync().ok());
  EXPECT_EQ(AllocatedBytes(), flat + 9 * kBlockSize);
  const std::string s1 = Content(".snapshots/s1/a");
  const std::string now = Content("a");
  ASSERT_TRUE(DeleteSnapshot(filesystem(), "s2").ok());
  Settle();
  // Blocks 3 and 4 of the second epoch; 5 and 6 are of the first, which s1 needs.
  EXPECT_EQ(AllocatedBytes(), flat + 7 * kBlockSize);
  EXPECT_EQ(Content(".snapshots/s1/a"), s1);
  EXPECT_EQ(Content("a"), now);
  ASSERT_TRUE(DeleteSnapshot(filesystem(), "s1").ok());
  Settle();
  EXPECT_EQ(AllocatedBytes(), flat);
  EXPECT_EQ(Content("a"), now);
}

TEST_F(SnapshotTest, WhatAVolumeLeavesBehindLaterComesBackToo) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, kChunkSize, 1), Code::kOk);
  Snapshot("s", {"a"});
  ASSERT_EQ(WriteCode(*a, 0, kBlockSize, 2), Code::kOk);
  ASSERT_TRUE(DeleteSnapshot(filesystem(), "s").ok());
  Settle();
  ASSERT_EQ(WriteCode(*a, 0, kChunkSize, 3), Code::kOk);
  ASSERT_TRUE(a->Sync().ok());
  auto& stepping = static_cast<SteppingExecutor&>(machine_.executor());
  stepping.AdvanceTime(std::chrono::minutes(10));
  Settle();
  EXPECT_EQ(AllocatedBytes(), kChunkSize);
  EXPECT_TRUE(Holds(*a, 0, kChunkSize, 3));
}

TEST_F(SnapshotTest, AMemberInUseKeepsItsSnapshotFromBeingDeleted) {
  machine_.Create("a");
  Snapshot("s", {"a"});
  const InodeId member = *FindPath(filesystem(), ".snapshots/s/a");
  { ASSERT_TRUE(filesystem().OpenVolume(member, HandleId(2), false).ok()); }
  EXPECT_EQ(DeleteSnapshot(filesystem(), "s").code(), Code::kBusy);
  filesystem().ReleaseVolume(member, HandleId(2));
  EXPECT_TRUE(DeleteSnapshot(filesystem(), "s").ok());
  EXPECT_EQ(filesystem().FindVolume(member).status().code(), Code::kNotFound);
}

TEST_F(SnapshotTest, AReaderOfADeletedSnapshotGetsAnError) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, kBlockSize, 1), Code::kOk);
  Snapshot("s", {"a"});
  const auto member = FindVolumeAt(filesystem(), ".snapshots/s/a");
  ASSERT_TRUE(Holds(*member, 0, kBlockSize, 1));
  ASSERT_TRUE(DeleteSnapshot(filesystem(), "s").ok());
  std::vector<std::byte> bytes(kBlockSize);
  EXPECT_EQ(member->Read(0, bytes).status().code(), Code::kStale);
}

TEST_F(SnapshotTest, TruncatedBlocksDoNotComeBackFromBeneath) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, 3 * kChunkSize, 1), Code::kOk);
  Snapshot("s", {"a"});
  ASSERT_EQ(WriteCode(*a, 2 * kChunkSize, kBlockSize, 2), Code::kOk);
  ASSERT_TRUE(a->Truncate(kBlockSize + 10).ok());
  ASSERT_TRUE(a->Truncate(3 * kChunkSize).ok());
  EXPECT_TRUE(Holds(*a, 0, kBlockSize + 10, 1));
  EXPECT_TRUE(Holds(*a, kBlockSize + 10, 3 * kChunkSize - kBlockSize - 10, 0));
  auto found = a->SeekData(kChunkSize);
  EXPECT_EQ(found.status().code(), Code::kNoDevice);
  a.reset();
  Remount();
  a = machine_.Find("a");
  EXPECT_TRUE(Holds(*a, kBlockSize + 10, 3 * kChunkSize - kBlockSize - 10, 0));
  EXPECT_EQ(Content(".snapshots/s/a"), std::string(3 * kChunkSize, '\1'));
}

TEST_F(SnapshotTest, AServerThatDiesAfterACutLosesNothingOfEitherEpoch) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, 2 * kBlockSize, 1), Code::kOk);
  Snapshot("s", {"a"});
  ASSERT_EQ(WriteCode(*a, kBlockSize, 2 * kBlockSize, 2), Code::kOk);
  a.reset();
  machine_.LoseServer();
  machine_.Mount();
  a = machine_.Find("a");
  EXPECT_TRUE(Holds(*a, 0, kBlockSize, 1));
  EXPECT_TRUE(Holds(*a, kBlockSize, 2 * kBlockSize, 2));
  EXPECT_EQ(Content(".snapshots/s/a"), std::string(2 * kBlockSize, '\1'));
}

// Somebody inside may have looked up a block of the snapshot's epoch before the volume's own newer
// one was there.
TEST_F(SnapshotTest, BytesAreGivenBackOnlyAfterReadersAreOut) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, kChunkSize, 1), Code::kOk);
  Snapshot("s", {"a"});
  ASSERT_EQ(WriteCode(*a, 0, 5 * kBlockSize, 2), Code::kOk);
  ASSERT_TRUE(a->Sync().ok());
  ASSERT_TRUE(DeleteSnapshot(filesystem(), "s").ok());
  const uint64_t before = AllocatedBytes();
  Gate& gate = dynamic_cast<DiskVolume&>(*a).gate();
  gate.Enter();
  std::thread cleaner([this] { Settle(); });
  for (int i = 0; i < 40; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_EQ(AllocatedBytes(), before);
  }
  gate.Leave();
  cleaner.join();
  EXPECT_EQ(AllocatedBytes(), before - 5 * kBlockSize);
}

TEST_F(SnapshotTest, AThousandSnapshotsOfAVolumeAllHoldAndAllSpaceComesBack) {
  auto a = machine_.Create("a");
  ASSERT_EQ(WriteCode(*a, 0, 2 * kChunkSize, 1), Code::kOk);
  std::vector<std::string> contents;
  for (int i = 0; i < 1000; ++i) {
    contents.push_back(Content("a"));
    Snapshot("s" + std::to_string(i), {"a"});
    ASSERT_EQ(WriteCode(*a, (i * 7 % 128) * kBlockSize, kBlockSize, 2 + i % 200), Code::kOk);
  }
  const std::string now = Content("a");
  a.reset();
  Remount();
  EXPECT_EQ(Content("a"), now);
  for (int i = 0; i < 1000; i += 37) {
    EXPECT_EQ(Content(".snapshots/s" + std::to_string(i) + "/a"), contents[i]) << i;
  }
  for (int i = 0; i < 1000; ++i) {
    const int number = i * 371 % 1000;
    ASSERT_TRUE(DeleteSnapshot(filesystem(), "s" + std::to_string(number)).ok()) << number;
    if (i % 100 == 99) Settle();
    if (i == 499) {
      EXPECT_EQ(Content(".snapshots/s" + std::to_string(999 * 371 % 1000) + "/a"),
                contents[999 * 371 % 1000]);
    }
  }
  Settle();
  EXPECT_EQ(Content("a"), now);
  EXPECT_EQ(AllocatedBytes(), 2 * kChunkSize);
}

// Readers of the volume and of snapshots, a writer, and the cleaner beside them: a block never
// shows anything but what was written to it, and a snapshot's never changes.
TEST(SnapshotConcurrencyTest, CleaningNeverTakesABlockFromAReader) {
  TestMachine::Settings settings;
  settings.executor_threads = 2;
  settings.chunk_map_bytes = 1 << 20;
  TestMachine machine(settings);
  machine.Mount();
  constexpr uint64_t kBlocks = 16;
  auto volume = machine.Create("a");
  ASSERT_EQ(WriteCode(*volume, 0, kBlocks * kBlockSize, 1), Code::kOk);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&] {
      std::vector<std::byte> bytes(kBlockSize);
      for (uint64_t i = 0; !stop; ++i) {
        const auto got = volume->Read(i % kBlocks * kBlockSize, bytes);
        EXPECT_TRUE(got.ok()) << got.status().ToString();
        // Zeros are what a hole under a reader would look like.
        EXPECT_NE(bytes[0], std::byte{0});
      }
    });
  }
  threads.emplace_back([&] {
    for (unsigned i = 0; !stop; ++i) {
      EXPECT_EQ(WriteCode(*volume, i * 7 % kBlocks * kBlockSize, kBlockSize, 1 + i % 255),
                Code::kOk);
      if (i % 16 == 0) {
        EXPECT_TRUE(volume->Sync().ok());
      }
    }
  });
  std::map<std::string, std::string> contents;
  for (int i = 0; i < 150; ++i) {
    const std::string name = "s" + std::to_string(i);
    const auto made = TrySnapshot(machine.filesystem(), name, {"a"});
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    auto content = ContentOf(machine.filesystem(), ".snapshots/" + name + "/a");
    EXPECT_TRUE(content.ok()) << content.status().ToString();
    if (content.ok()) contents[name] = *content;
    if (contents.size() > 3) {
      const auto old = contents.begin();
      EXPECT_TRUE(*ContentOf(machine.filesystem(), ".snapshots/" + old->first + "/a") ==
                  old->second)
          << old->first;
      EXPECT_TRUE(DeleteSnapshot(machine.filesystem(), old->first).ok());
      contents.erase(old);
    }
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  for (const auto& [name, content] : contents) {
    EXPECT_TRUE(*ContentOf(machine.filesystem(), ".snapshots/" + name + "/a") == content) << name;
  }
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  machine.ExpectNoDamage();
}

}  // namespace
}  // namespace cairn
