// Checksums of blocks at rest: bytes that change on the disk are an error that names the file,
// and nothing that was written through the volume ever is.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <random>
#include <string>
#include <thread>

#include "src/volume/disk_volume.h"
#include "tests/volume/volume_test_util.h"

namespace cairn {
namespace {

constexpr std::chrono::seconds kLongEnough{30};

class SealTest : public testing::Test {
 protected:
  // All extent files that hold something.
  static std::vector<std::string> ExtentPaths(MemoryEnv& env) {
    std::vector<std::string> paths;
    const auto folders = env.List("/store/extents");
    for (const std::string& folder : *folders) {
      const auto names = env.List("/store/extents/" + folder);
      for (const std::string& name : *names) {
        paths.push_back("/store/extents/" + folder + "/" + name);
      }
    }
    return paths;
  }
  // Changes one byte of the only extent file.
  static std::string Flip(MemoryEnv& env, uint64_t offset) {
    const std::vector<std::string> paths = ExtentPaths(env);
    EXPECT_EQ(paths.size(), 1u);
    FlipIn(env, paths[0], offset);
    return paths[0];
  }
  static void FlipIn(MemoryEnv& env, const std::string& path, uint64_t offset) {
    auto file = env.Open(path, OpenMode::kReadWrite);
    std::array<std::byte, 1> byte;
    EXPECT_EQ(*(*file)->ReadAt(offset, byte), 1u);
    byte[0] ^= std::byte{0x10};
    EXPECT_TRUE((*file)->WriteAt(offset, byte).ok());
  }
  static Status ReadStatus(Volume& volume, uint64_t offset, uint64_t length) {
    std::vector<std::byte> bytes(length);
    auto got = volume.Read(offset, bytes);
    return got.ok() ? Status::Ok() : std::move(got).status();
  }
  static Code ReadCode(Volume& volume, uint64_t offset, uint64_t length) {
    return ReadStatus(volume, offset, length).code();
  }
};

// It takes what a writer wrote beside with it, of which no other sync may know.
TEST_F(SealTest, ASyncOfTheSealersThatFailsPoisons) {
  constexpr uint64_t kOther = kChunksPerRegion * kChunkSize;
  TestMachine machine;
  machine.Mount();
  auto volume = std::static_pointer_cast<DiskVolume>(machine.Create("v"));
  for (const uint64_t offset : {uint64_t{0}, kOther}) {
    ASSERT_EQ(WriteCode(*volume, offset, kBlockSize, 7), Code::kOk);
  }
  ASSERT_TRUE(volume->Sync().ok());
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 8), Code::kOk);
  uint64_t syncs = 0;
  machine.env().SetHook([&](Op op, const std::string& path) {
    if (op != Op::kSync || path.find("/extents/") == std::string::npos) return;
    ++syncs;
    if (syncs != 1) return;
    EXPECT_EQ(WriteCode(*volume, kOther, kBlockSize, 9), Code::kOk);
  });
  Fault fault;
  fault.ops = Op::kSync;
  fault.path_contains = "/extents/";
  fault.nth = 2;
  fault.error = EIO;
  machine.env().AddFault(fault);
  DiskVolume::SealPass pass;
  pass.most_regions = 1;
  pass.stop = [] { return false; };
  EXPECT_FALSE(volume->SealIdleRegions(pass).ok());
  machine.env().SetHook(nullptr);
  ASSERT_EQ(machine.env().fired_fault_count(), 1u);
  EXPECT_EQ(volume->Health().code(), Code::kReadOnly);
}

TEST_F(SealTest, AFlippedByteIsAnErrorThatNamesTheFileAndTheOtherBlocksStayReadable) {
  TestMachine machine;
  machine.Mount();
  ASSERT_EQ(WriteCode(*machine.Create("v"), 0, 1 << 20, 7), Code::kOk);
  ASSERT_TRUE(machine.Close().ok());
  const uint64_t flipped = (1 << 19) + 1234;
  const uint64_t block = flipped / kBlockSize * kBlockSize;
  const std::string path = Flip(machine.env(), flipped);
  machine.Mount();
  auto volume = machine.Find("v");

  const Status whole = ReadStatus(*volume, 0, 1 << 20);
  EXPECT_EQ(whole.code(), Code::kCorrupt);
  EXPECT_NE(whole.context().find(path), std::string::npos) << whole.context();
  EXPECT_NE(whole.context().find(std::to_string(block)), std::string::npos) << whole.context();
  EXPECT_EQ(ReadCode(*volume, block, kBlockSize), Code::kCorrupt);
  // Parts of the block that do not hold the flipped byte are no better.
  EXPECT_EQ(ReadCode(*volume, block, 512), Code::kCorrupt);
  EXPECT_EQ(ReadCode(*volume, block + 3584, 512), Code::kCorrupt);
  EXPECT_EQ(ReadCode(*volume, block - 512, 1024), Code::kCorrupt);
  EXPECT_TRUE(Holds(*volume, 0, block, 7));
  EXPECT_TRUE(Holds(*volume, block + kBlockSize, (1 << 20) - block - kBlockSize, 7));
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
}

TEST_F(SealTest, WritesBesideADamagedBlockDoNotHideItAndAWriteOfTheWholeBlockHealsIt) {
  TestMachine machine;
  machine.Mount();
  ASSERT_EQ(WriteCode(*machine.Create("v"), 0, 1 << 20, 7), Code::kOk);
  ASSERT_TRUE(machine.Close().ok());
  const uint64_t block = 40 * kBlockSize;
  Flip(machine.env(), block + 5);
  machine.Mount();
  auto volume = machine.Find("v");

  EXPECT_EQ(WriteCode(*volume, block - kBlockSize, kBlockSize, 8), Code::kOk);
  EXPECT_EQ(WriteCode(*volume, block + kBlockSize + 100, 512, 9), Code::kOk);
  EXPECT_EQ(ReadCode(*volume, block, kBlockSize), Code::kCorrupt);
  // What stays of the block would pass for good.
  EXPECT_EQ(WriteCode(*volume, block + 1024, 512, 9), Code::kCorrupt);
  EXPECT_EQ(WriteCode(*volume, block - 512, 1024, 9), Code::kCorrupt);
  EXPECT_EQ(ReadCode(*volume, block, kBlockSize), Code::kCorrupt);
  machine.filesystem().SealAll(kLongEnough);
  EXPECT_EQ(ReadCode(*volume, block, kBlockSize), Code::kCorrupt);
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  machine.Mount();
  volume = machine.Find("v");
  EXPECT_EQ(ReadCode(*volume, block, kBlockSize), Code::kCorrupt);

  EXPECT_EQ(WriteCode(*volume, block, kBlockSize, 10), Code::kOk);
  EXPECT_TRUE(Holds(*volume, block, kBlockSize, 10));
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  machine.Mount();
  volume = machine.Find("v");
  EXPECT_TRUE(Holds(*volume, block, kBlockSize, 10));
  EXPECT_TRUE(Holds(*volume, block - kBlockSize, kBlockSize, 8));
  EXPECT_TRUE(Holds(*volume, block + kBlockSize + 100, 512, 9));
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
}

TEST_F(SealTest, BytesInABlockOfZerosAreDamageToo) {
  TestMachine machine;
  machine.Mount();
  // The whole chunk becomes the head's; all but one block of it are holes.
  ASSERT_EQ(WriteCode(*machine.Create("v"), 2 * kBlockSize, kBlockSize, 7), Code::kOk);
  ASSERT_EQ(WriteCode(*machine.Find("v"), kChunkSize - 1, 1, 7), Code::kOk);
  ASSERT_TRUE(machine.Close().ok());
  Flip(machine.env(), 5 * kBlockSize);
  machine.Mount();
  EXPECT_EQ(ReadCode(*machine.Find("v"), 5 * kBlockSize, kBlockSize), Code::kCorrupt);
  EXPECT_TRUE(Holds(*machine.Find("v"), 4 * kBlockSize, kBlockSize, 0));
  ASSERT_TRUE(machine.Close().ok());
}

TEST_F(SealTest, WhatChangesShapeTakesItsChecksumsAway) {
  constexpr uint64_t kFar = 300ull << 20;  // in the third region
  TestMachine::Settings settings;
  settings.capacity = 1ull << 30;
  TestMachine machine(settings);
  machine.Mount();
  auto volume = machine.Create("v");
  for (const uint64_t offset : {uint64_t{0}, uint64_t{140} << 20, kFar}) {
    ASSERT_EQ(WriteCode(*volume, offset, 3 * kChunkSize, 7), Code::kOk);
  }
  machine.filesystem().SealAll(kLongEnough);
  // A hole, the tail of a region, a region as a whole; then something new in each place.
  ASSERT_TRUE(volume->Zero(kBlockSize, 2 * kBlockSize + 100, true).ok());
  ASSERT_TRUE(volume->Truncate((140ull << 20) + 5000).ok());
  ASSERT_TRUE(volume->Truncate(kFar + kChunkSize).ok());
  ASSERT_EQ(WriteCode(*volume, kFar + 100, 10, 8), Code::kOk);
  for (int life = 0; life < 2; ++life) {
    EXPECT_TRUE(Holds(*volume, 0, kBlockSize, 7));
    EXPECT_TRUE(Holds(*volume, kBlockSize, 2 * kBlockSize + 100, 0));
    EXPECT_TRUE(Holds(*volume, 3 * kBlockSize + 100, kBlockSize, 7));
    EXPECT_TRUE(Holds(*volume, 140ull << 20, 5000, 7));
    EXPECT_TRUE(Holds(*volume, (140ull << 20) + 5000, kChunkSize, 0));
    EXPECT_TRUE(Holds(*volume, kFar, 100, 0));
    EXPECT_TRUE(Holds(*volume, kFar + 100, 10, 8));
    EXPECT_TRUE(Holds(*volume, kFar + 110, kChunkSize - 110, 0));
    volume.reset();
    ASSERT_TRUE(machine.Close().ok());
    machine.ExpectNoDamage();
    machine.Mount();
    volume = machine.Find("v");
  }
  ASSERT_TRUE(volume->Truncate(0).ok());
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 9), Code::kOk);
  EXPECT_TRUE(Holds(*volume, 0, kBlockSize, 9));
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  machine.ExpectNoDamage();
}

TEST_F(SealTest, RegionsAreSealedOnceTheyAreIdle) {
  TestMachine::Settings settings;
  settings.seal_after = std::chrono::milliseconds(1);
  TestMachine machine(settings);
  machine.Mount();
  auto volume = machine.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, kChunkSize, 7), Code::kOk);
  // The first round sees the write, a later one that there was none since.
  for (int round = 0; round < 20; ++round) {
    machine.RunBackground();
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  Flip(machine.env(), 100);
  EXPECT_EQ(ReadCode(*volume, 0, kBlockSize), Code::kCorrupt);
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
}

TEST_F(SealTest, AnOpenRegionIsSealedByTheNextMount) {
  TestMachine machine;
  machine.Mount();
  ASSERT_EQ(WriteCode(*machine.Create("v"), 0, kChunkSize, 7), Code::kOk);
  ASSERT_TRUE(machine.filesystem().SyncAll().ok());
  machine.LoseServer();
  machine.Mount();
  (void)machine.Find("v");
  ASSERT_TRUE(machine.Close().ok());
  Flip(machine.env(), 100);
  machine.Mount();
  EXPECT_EQ(ReadCode(*machine.Find("v"), 0, kBlockSize), Code::kCorrupt);
  ASSERT_TRUE(machine.Close().ok());
}

TEST_F(SealTest, VolumesThatWereUnloadedMeanwhileAreSealedAsWell) {
  constexpr int kVolumes = 60;
  TestMachine::Settings settings;
  settings.idle_volumes = 0;
  TestMachine machine(settings);
  machine.Mount();
  const auto name = [](int number) { return "v" + std::to_string(number); };
  for (int i = 0; i < kVolumes; ++i) {
    ASSERT_EQ(WriteCode(*machine.Create(name(i)), 0, kBlockSize, 7), Code::kOk);
  }
  machine.RunBackground();
  ASSERT_TRUE(machine.Close().ok());
  for (const std::string& path : ExtentPaths(machine.env())) FlipIn(machine.env(), path, 100);
  machine.Mount();
  for (int i = 0; i < kVolumes; ++i) {
    EXPECT_EQ(ReadCode(*machine.Find(name(i)), 0, kBlockSize), Code::kCorrupt) << i;
  }
  ASSERT_TRUE(machine.Close().ok());
}

// Without room for its touched blocks an open region has no protection, and nothing worse.
TEST_F(SealTest, WithoutMemoryOpenRegionsAreNotTracked) {
  TestMachine::Settings settings;
  settings.seal_bytes = 0;
  TestMachine machine(settings);
  machine.Mount();
  auto volume = machine.Create("v");
  for (unsigned stamp = 1; stamp < 5; ++stamp) {
    ASSERT_EQ(WriteCode(*volume, stamp * 1000, 3000, stamp), Code::kOk);
    EXPECT_TRUE(Holds(*volume, stamp * 1000, 3000, stamp));
    machine.filesystem().SealAll(kLongEnough);
    EXPECT_TRUE(Holds(*volume, stamp * 1000, 3000, stamp));
  }
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  Flip(machine.env(), 5000);
  machine.Mount();
  EXPECT_EQ(ReadCode(*machine.Find("v"), 4096, 512), Code::kCorrupt);
  ASSERT_TRUE(machine.Close().ok());
}

// As a clone's: what lies beneath the head has its checksums as well.
TEST_F(SealTest, ABlockOfAParentBranchIsComparedToo) {
  TestMachine machine;
  machine.Mount();
  ASSERT_EQ(WriteCode(*machine.Create("v"), 0, 2 * kChunkSize, 7), Code::kOk);
  ASSERT_TRUE(machine.Close().ok());
  {
    auto store = WarmStore::Open(machine.env(), "/store", {});
    ASSERT_TRUE(store.ok());
    Index& index = (*store)->index();
    const InodeId inode = *index.FindName(kRootInode, "v");
    InodeRecord record = *index.GetInode(inode);
    BranchRecord child;
    child.parent = record.branch;
    child.parent_epoch = Epoch(1);
    child.inode = inode;
    record.branch = BranchId(*index.AllocateId());
    IndexBatch batch;
    batch.PutInode(inode, record);
    batch.PutBranch(record.branch, child);
    ASSERT_TRUE(index.Commit(batch).ok());
    ASSERT_TRUE((*store)->Close().ok());
  }
  const std::string path = Flip(machine.env(), 5 * kBlockSize + 100);
  machine.Mount();
  auto volume = machine.Find("v");
  const Status damaged = ReadStatus(*volume, 0, kChunkSize);
  EXPECT_EQ(damaged.code(), Code::kCorrupt);
  EXPECT_NE(damaged.context().find(path), std::string::npos) << damaged.context();
  EXPECT_TRUE(Holds(*volume, 6 * kBlockSize, kChunkSize, 7));
  // Nor is it taken up into the child by a write of a part.
  EXPECT_EQ(WriteCode(*volume, 5 * kBlockSize, 512, 8), Code::kCorrupt);
  EXPECT_EQ(WriteCode(*volume, 7 * kBlockSize, 512, 8), Code::kOk);
  EXPECT_TRUE(Holds(*volume, 7 * kBlockSize + 512, kBlockSize - 512, 7));
  EXPECT_EQ(WriteCode(*volume, 5 * kBlockSize, kBlockSize, 8), Code::kOk);
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  machine.Mount();
  EXPECT_TRUE(Holds(*machine.Find("v"), 5 * kBlockSize, kBlockSize, 8));
  EXPECT_TRUE(Holds(*machine.Find("v"), 7 * kBlockSize + 512, kChunkSize, 7));
  ASSERT_TRUE(machine.Close().ok());
}

TEST_F(SealTest, ADestroyedVolumeLeavesNoChecksums) {
  TestMachine machine;
  machine.Mount();
  ASSERT_EQ(WriteCode(*machine.Create("v"), 0, kChunkSize, 7), Code::kOk);
  machine.filesystem().SealAll(kLongEnough);
  ASSERT_TRUE(machine.filesystem().Unlink(kRootInode, "v", {}).ok());
  machine.RunBackground();
  ASSERT_TRUE(machine.Close().ok());
  auto store = WarmStore::Open(machine.env(), "/store", {});
  ASSERT_TRUE(store.ok());
  for (const KeyKind kind : {KeyKind::kRegion, KeyKind::kSums}) {
    ASSERT_TRUE((*store)
                    ->index()
                    .ForEachRaw(kind,
                                [](std::string_view, std::string_view) {
                                  ADD_FAILURE() << "a record is left";
                                  return true;
                                })
                    .ok());
  }
  ASSERT_TRUE((*store)->Close().ok());
}

// Readers, writers of whole and of part blocks and a sealer that never rests: no read and no write
// may find damage, now or after a remount.
TEST_F(SealTest, SealingBesideReadersAndWritersNeverInventsDamage) {
  constexpr uint64_t kBlocks = 3 * kBlocksPerChunk;
  TestMachine::Settings settings;
  settings.executor_threads = 2;
  settings.seal_after = std::chrono::milliseconds(1);
  TestMachine machine(settings);
  machine.Mount();
  auto volume = machine.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, kBlocks * kBlockSize, 1), Code::kOk);
  std::atomic<bool> done{false};
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (unsigned number = 0; number < 2; ++number) {
    threads.emplace_back([&, number] {
      std::mt19937 random(number);
      for (unsigned i = 0; i < 4000; ++i) {
        const bool part = random() % 2;
        const uint64_t offset = random() % kBlocks * kBlockSize + (part ? 512 * (random() % 8) : 0);
        const auto data = Stamped(part ? 512 : kBlockSize, i % 251);
        if (!volume->Write(offset, data).ok()) ++failures;
        if (i % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    });
  }
  threads.emplace_back([&] {
    std::mt19937 random(7);
    std::vector<std::byte> bytes(8 * kBlockSize);
    while (!done.load()) {
      const auto out = std::span(bytes).first(512 * (1 + random() % 64));
      if (!volume->Read(random() % (kBlocks * kBlockSize), out).ok()) ++failures;
    }
  });
  threads.emplace_back([&] {
    while (!done.load()) machine.filesystem().SealAll(kLongEnough);
  });
  threads[0].join();
  threads[1].join();
  done.store(true);
  threads[2].join();
  threads[3].join();
  EXPECT_EQ(failures.load(), 0);
  volume.reset();
  ASSERT_TRUE(machine.Close().ok());
  machine.Mount();
  EXPECT_EQ(ReadCode(*machine.Find("v"), 0, kBlocks * kBlockSize), Code::kOk);
  ASSERT_TRUE(machine.Close().ok());
}

}  // namespace
}  // namespace cairn
