// What volumes do when the disk beneath them fails or is full.
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "tests/volume/snapshot_test_util.h"
#include "tests/volume/volume_test_util.h"

namespace cairn {
namespace {

class VolumeFaultTest : public testing::Test {
 protected:
  void SetUp() override { machine_.Mount(); }

  void FailOnce(OpSet ops, const std::string& path, int error = EIO, uint64_t written_bytes = 0) {
    Fault fault;
    fault.ops = ops;
    fault.path_contains = path;
    fault.error = error;
    fault.written_bytes = written_bytes;
    machine_.env().AddFault(fault);
  }

  void ExpectRefusesWrites(Volume& volume) {
    EXPECT_EQ(WriteCode(volume, 0, 512, 9), Code::kReadOnly);
    EXPECT_EQ(volume.Sync().code(), Code::kReadOnly);
    EXPECT_EQ(volume.Zero(0, kBlockSize, true).code(), Code::kReadOnly);
    EXPECT_EQ(volume.Allocate(0, kBlockSize, true).code(), Code::kReadOnly);
    EXPECT_EQ(volume.Truncate(1).code(), Code::kReadOnly);
    EXPECT_EQ(volume.Truncate(kChunkSize * 9).code(), Code::kReadOnly);
  }

  void Remount() {
    const Status closed = machine_.Close();
    ASSERT_TRUE(closed.ok()) << closed.ToString();
    machine_.ExpectNoDamage();
    machine_.Mount();
  }

  TestMachine machine_;
};

TEST_F(VolumeFaultTest, AFailedSyncOfDataPoisonsItsVolumeOnly) {
  auto sick = machine_.Create("sick");
  ASSERT_EQ(WriteCode(*sick, 0, 2 * kBlockSize, 1), Code::kOk);
  ASSERT_TRUE(sick->Sync().ok());
  auto healthy = machine_.Create("healthy");
  ASSERT_EQ(WriteCode(*healthy, 0, kBlockSize, 2), Code::kOk);
  ASSERT_EQ(WriteCode(*sick, 0, kBlockSize, 3), Code::kOk);
  FailOnce(Op::kSync, "/extents/");
  EXPECT_EQ(sick->Sync().code(), Code::kIo);
  EXPECT_EQ(machine_.env().fired_fault_count(), 1u);
  ExpectRefusesWrites(*sick);
  EXPECT_TRUE(Holds(*sick, 0, kBlockSize, 3));
  EXPECT_TRUE(Holds(*sick, kBlockSize, kBlockSize, 1));

  EXPECT_TRUE(healthy->Sync().ok());
  EXPECT_EQ(WriteCode(*healthy, kChunkSize, kBlockSize, 4), Code::kOk);
  EXPECT_TRUE(healthy->Sync().ok());
  EXPECT_NE(machine_.Create("another"), nullptr);

  sick.reset();
  healthy.reset();
  EXPECT_EQ(machine_.Close().code(), Code::kReadOnly) << "a close that loses data must say so";
  machine_.ExpectNoDamage();
  machine_.Mount();
  auto recovered = machine_.Find("sick");
  EXPECT_TRUE(Holds(*recovered, kBlockSize, kBlockSize, 1));
  EXPECT_EQ(WriteCode(*recovered, 0, kBlockSize, 5), Code::kOk);
  EXPECT_TRUE(recovered->Sync().ok());
  EXPECT_TRUE(Holds(*machine_.Find("healthy"), kChunkSize, kBlockSize, 4));
  recovered.reset();
  Remount();
  EXPECT_TRUE(Holds(*machine_.Find("sick"), 0, kBlockSize, 5));
}

TEST_F(VolumeFaultTest, ASyncThatFailsInTheBackgroundIsToldToTheNextFsync) {
  const auto volume = machine_.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
  FailOnce(Op::kSync, "/extents/");
  machine_.RunBackground();
  ASSERT_EQ(machine_.env().fired_fault_count(), 1u);
  ExpectRefusesWrites(*volume);
}

// What the kernel could not write it may have forgotten, and a sync after that would succeed.
TEST_F(VolumeFaultTest, AWritebackThatFailsBeforeASyncFailsTheSync) {
  const auto volume = machine_.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
  FailOnce(Op::kWriteback, "/extents/");
  EXPECT_FALSE(TrySnapshot(machine_.filesystem(), "s", {"v"}).ok());
  ASSERT_EQ(machine_.env().fired_fault_count(), 1u);
  ExpectRefusesWrites(*volume);
}

// A server that dies before the next sync must have told the one that replaces it.
TEST_F(VolumeFaultTest, AFailedWritebackPoisonsAtOnce) {
  auto volume = std::static_pointer_cast<DiskVolume>(machine_.Create("v"));
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
  FailOnce(Op::kWriteback, "/extents/");
  volume->StartWriteback();
  ASSERT_EQ(machine_.env().fired_fault_count(), 1u);
  volume.reset();
  machine_.LoseServer();
  machine_.Mount();
  ExpectRefusesWrites(*machine_.Find("v"));
  EXPECT_FALSE(machine_.Find("v")->Sync().ok());
}

TEST_F(VolumeFaultTest, AFailedIndexCommitPoisonsUntilTheNextMount) {
  for (const OpSet ops : {OpSet(Op::kSync), OpSet(Op::kWrite)}) {
    const std::string name = "v" + std::to_string(ops.Has(Op::kSync));
    auto volume = machine_.Create(name);
    ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
    ASSERT_TRUE(volume->Sync().ok());
    ASSERT_EQ(WriteCode(*volume, kChunkSize, kBlockSize, 2), Code::kOk);
    FailOnce(ops, "/index/");
    EXPECT_FALSE(volume->Sync().ok());
    ExpectRefusesWrites(*volume);
    EXPECT_TRUE(Holds(*volume, 0, kBlockSize, 1));
    EXPECT_TRUE(Holds(*volume, kChunkSize, kBlockSize, 2));
    volume.reset();
    EXPECT_FALSE(machine_.Close().ok());
    machine_.env().ClearFaults();
    machine_.ExpectNoDamage();
    machine_.Mount();
    auto recovered = machine_.Find(name);
    EXPECT_TRUE(Holds(*recovered, 0, kBlockSize, 1));
    EXPECT_EQ(WriteCode(*recovered, kChunkSize, kBlockSize, 3), Code::kOk);
    EXPECT_TRUE(recovered->Sync().ok());
    recovered.reset();
    Remount();
    EXPECT_TRUE(Holds(*machine_.Find(name), kChunkSize, kBlockSize, 3));
  }
}

// The bytes may be gone from the page cache, so the next server must not take them for true; also
// when the journal has no room left for saying so.
TEST(VolumeFaultJournalTest, AFailedSyncIsForgottenByTheNextServerAlsoWhenTheJournalIsFull) {
  constexpr uint64_t kManyChunks = 4096;
  const auto touch = [](Volume& volume, uint64_t chunk) {
    ASSERT_EQ(WriteCode(volume, chunk * kChunkSize, 512, 1), Code::kOk);
  };
  const auto start = [](TestMachine& machine) {
    machine.Mount();
    const auto volume = machine.Create("v");
    EXPECT_TRUE(volume->Truncate(kManyChunks * kChunkSize).ok());
    return volume;
  };
  // How many first touches fit before a write has to flush.
  uint64_t full = 0;
  {
    TestMachine machine;
    const auto volume = start(machine);
    const uint64_t syncs = machine.env().sync_count();
    for (; machine.env().sync_count() == syncs && full < kManyChunks; ++full) touch(*volume, full);
    --full;
  }
  ASSERT_GT(full, 100u);
  for (const uint64_t chunks : {full - 1, full}) {
    TestMachine machine;
    auto volume = start(machine);
    for (uint64_t chunk = 0; chunk < chunks; ++chunk) touch(*volume, chunk);
    Fault fault;
    fault.ops = Op::kSync;
    fault.path_contains = "/extents/";
    machine.env().AddFault(fault);
    ASSERT_FALSE(volume->Sync().ok());
    volume.reset();
    machine.LoseServer();
    machine.Mount();
    const auto successor = machine.Find("v");
    for (uint64_t chunk = 0; chunk < chunks && !HasFailure(); ++chunk) {
      EXPECT_TRUE(Holds(*successor, chunk * kChunkSize, 512, 0)) << "of " << chunks;
    }
  }
}

// What a sync claims was taken before the bytes were synced; a write that comes in between is the
// next sync's.
TEST_F(VolumeFaultTest, ASyncDoesNotClaimBytesWrittenWhileItRuns) {
  auto volume = machine_.Create("v");
  // Two extent files, which are synced one after the other.
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
  ASSERT_EQ(WriteCode(*volume, kSegmentSize, kBlockSize, 1), Code::kOk);
  int syncs = 0;
  machine_.env().SetHook([&](Op op, const std::string& path) {
    if (op != Op::kSync || path.find("/extents/") == std::string::npos || ++syncs != 2) return;
    std::thread([&] {
      EXPECT_EQ(WriteCode(*volume, 7 * kChunkSize, kBlockSize, 2), Code::kOk);
      EXPECT_EQ(WriteCode(*volume, kSegmentSize + 7 * kChunkSize, kBlockSize, 2), Code::kOk);
    }).join();
  });
  ASSERT_TRUE(volume->Sync().ok());
  machine_.env().SetHook(nullptr);
  ASSERT_GE(syncs, 2);
  volume.reset();
  for (uint64_t seed = 1; seed < 8; ++seed) {
    machine_.LosePower(seed);
    machine_.ExpectNoDamage();
    machine_.Mount();
    const auto recovered = machine_.Find("v");
    EXPECT_TRUE(Holds(*recovered, 0, kBlockSize, 1));
    EXPECT_TRUE(Holds(*recovered, kSegmentSize, kBlockSize, 1));
    for (const uint64_t offset : {7 * kChunkSize, kSegmentSize + 7 * kChunkSize}) {
      EXPECT_TRUE(Holds(*recovered, offset, kBlockSize, 0)) << "not synced, yet there";
    }
  }
}

class ReservationTest : public VolumeFaultTest {
 protected:
  uint64_t FreeBytes() { return machine_.env().Space("/store")->free_bytes; }
  void FailAllocation(uint64_t nth) {
    Fault fault;
    fault.ops = Op::kAllocate;
    fault.nth = nth;
    fault.error = ENOSPC;
    fault.path_contains = "/extents/";
    machine_.env().AddFault(fault);
  }
  // Closes in order; then fsck finds nothing at all.
  void CloseWithoutFindings() {
    ASSERT_TRUE(machine_.Close().ok());
    auto report = CheckStore(machine_.env(), "/store", {});
    ASSERT_TRUE(report.ok());
    for (const FsckFinding& finding : report->findings) {
      ADD_FAILURE() << finding.code << " " << finding.where << ": " << finding.what;
    }
  }
};

TEST_F(ReservationTest, OneThatIsTooLargeFailsBeforeItTakesOrGrowsAnything) {
  auto volume = machine_.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
  auto sparse = machine_.Create("sparse");
  ASSERT_TRUE(sparse->Truncate(4 * kSegmentSize).ok());
  const uint64_t free = FreeBytes();
  const uint64_t mutations = machine_.env().mutation_count();
  for (const uint64_t length : {free + 2 * kBlockSize, 3 * kSegmentSize, kMaxVolumeSize}) {
    EXPECT_EQ(volume->Allocate(0, length, false).code(), Code::kNoSpace) << length;
    EXPECT_EQ(volume->size(), kBlockSize) << length;
  }
  EXPECT_EQ(sparse->Allocate(kBlockSize, 4 * kSegmentSize, true).code(), Code::kNoSpace);
  EXPECT_EQ(machine_.env().mutation_count(), mutations);
  EXPECT_EQ(FreeBytes(), free);
  // What is there already needs no space, and blocks that are touched in part are whole ones.
  machine_.env().SetCapacity(machine_.env().Space("/store")->total_bytes - free + 2 * kBlockSize);
  EXPECT_EQ(volume->Allocate(kBlockSize + 10, 2 * kBlockSize - 5, false).code(), Code::kNoSpace);
  EXPECT_EQ(machine_.env().mutation_count(), mutations);
  EXPECT_TRUE(volume->Allocate(10, 3 * kBlockSize - 10, false).ok());
  EXPECT_EQ(volume->size(), 3 * kBlockSize);
  EXPECT_TRUE(volume->Allocate(0, 3 * kBlockSize, false).ok());
  EXPECT_EQ(volume->Allocate(0, 4 * kBlockSize, false).code(), Code::kNoSpace);
  EXPECT_EQ(volume->size(), 3 * kBlockSize);
}

TEST_F(ReservationTest, OneThatFailsMidwayGrowsTheVolumeAsFarAsItCame) {
  for (const uint64_t came : {0, 1, 3}) {
    const std::string name = "v" + std::to_string(came);
    auto volume = machine_.Create(name);
    ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
    const uint64_t free = FreeBytes();
    FailAllocation(came + 1);
    EXPECT_EQ(volume->Allocate(0, 5 * kChunkSize - 1, false).code(), Code::kNoSpace);
    EXPECT_EQ(volume->size(), came == 0 ? kBlockSize : came * kChunkSize);
    EXPECT_EQ(FreeBytes(), free - (came == 0 ? 0 : came * kChunkSize - kBlockSize));
    volume.reset();
    ASSERT_NO_FATAL_FAILURE(CloseWithoutFindings());
    machine_.Mount();
    volume = machine_.Find(name);
    EXPECT_EQ(volume->size(), came == 0 ? kBlockSize : came * kChunkSize);
    ASSERT_TRUE(volume->Truncate(8 * kChunkSize).ok());
    EXPECT_TRUE(Holds(*volume, kBlockSize, 8 * kChunkSize - kBlockSize, 0));
    EXPECT_TRUE(volume->Allocate(0, 8 * kChunkSize, true).ok());
    EXPECT_TRUE(Holds(*volume, 0, kBlockSize, 1));
  }
}

TEST_F(ReservationTest, OneThatFindsTheDiskFullMidwayGivesBackWhatItsLastPieceTook) {
  auto volume = machine_.Create("v");
  const uint64_t free = FreeBytes();
  const uint64_t total = machine_.env().Space("/store")->total_bytes;
  int allocations = 0;
  machine_.env().SetHook([&](Op op, const std::string&) {
    if (op != Op::kAllocate || ++allocations != 2) return;
    machine_.env().SetCapacity(total - free + kChunkSize + 10 * kBlockSize);
  });
  EXPECT_EQ(volume->Allocate(0, 3 * kChunkSize, false).code(), Code::kNoSpace);
  machine_.env().SetHook(nullptr);
  EXPECT_EQ(volume->size(), kChunkSize);
  EXPECT_EQ(FreeBytes(), 10 * kBlockSize);
  machine_.env().SetCapacity(total);
  volume.reset();
  CloseWithoutFindings();
}

// The blocks come first, then the size: where only the blocks are there, a crash takes them back.
TEST_F(ReservationTest, OneThatWasNotSyncedIsThereInPartOrNotAfterAPowerCut) {
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const std::string name = "v" + std::to_string(seed);
    auto volume = machine_.Create(name);
    ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
    ASSERT_TRUE(volume->Sync().ok());
    // Another one's sync in the middle of it.
    int allocations = 0;
    machine_.env().SetHook([&](Op op, const std::string&) {
      if (op != Op::kAllocate || ++allocations != 3) return;
      std::thread([&] { EXPECT_TRUE(volume->Sync().ok()); }).join();
    });
    ASSERT_TRUE(volume->Allocate(0, 4 * kChunkSize, false).ok());
    machine_.env().SetHook(nullptr);
    EXPECT_EQ(allocations, 4);
    volume.reset();
    machine_.LosePower(seed);
    machine_.ExpectNoDamage();
    machine_.Mount();
    volume = machine_.Find(name);
    EXPECT_EQ(volume->size(), kBlockSize);
    ASSERT_TRUE(volume->Truncate(8 * kChunkSize).ok());
    EXPECT_TRUE(Holds(*volume, 0, kBlockSize, 1));
    EXPECT_TRUE(Holds(*volume, kBlockSize, 8 * kChunkSize - kBlockSize, 0));
    volume.reset();
    ASSERT_NO_FATAL_FAILURE(CloseWithoutFindings());
    machine_.Mount();
  }
}

TEST_F(ReservationTest, OnAFullDiskWhatWasReservedTakesWritesAndNewOnesAreRefused) {
  auto volume = machine_.Create("v");
  ASSERT_TRUE(volume->Allocate(0, 2 * kChunkSize, false).ok());
  ASSERT_TRUE(volume->Sync().ok());
  // Too little to build the reserve anew, once it is given up as by an index that finds no room.
  machine_.env().SetCapacity(machine_.env().Space("/store")->total_bytes - FreeBytes() - (4 << 20));
  machine_.store().reserve().Release(SpaceReserve::For::kLogs);
  ASSERT_TRUE(machine_.store().reserve().scarce());
  EXPECT_EQ(WriteCode(*volume, kBlockSize, kChunkSize, 2), Code::kOk);
  EXPECT_TRUE(volume->Allocate(0, 2 * kChunkSize, false).ok()) << "needs nothing";
  EXPECT_EQ(volume->Allocate(kChunkSize, kChunkSize + 1, false).code(), Code::kNoSpace);
  EXPECT_EQ(volume->size(), 2 * kChunkSize);
  EXPECT_TRUE(Holds(*volume, kBlockSize, kChunkSize, 2));
  EXPECT_TRUE(volume->Sync().ok());
}

class FailedWriteTest : public VolumeFaultTest {
 protected:
  // How the next server finds things; each must show the same.
  void ForEachEnd(const std::function<void()>& check) {
    check();
    machine_.LoseServer();
    machine_.Mount();
    check();
    Remount();
    check();
  }
};

TEST_F(FailedWriteTest, NothingOfAFailedFirstTouchShowsUpLater) {
  for (const int error : {ENOSPC, EIO}) {
    const std::string name = "v" + std::to_string(error);
    auto volume = machine_.Create(name);
    // The extent file is made by a chunk that stays as it is.
    ASSERT_EQ(WriteCode(*volume, 4 * kChunkSize, kBlockSize, 1), Code::kOk);
    FailOnce(Op::kWrite, "/extents/", error, kBlockSize + 1000);
    EXPECT_NE(WriteCode(*volume, kBlockSize, 4 * kBlockSize, 2), Code::kOk);
    FailOnce(Op::kWrite, "/extents/", error, kBlockSize + 1000);
    EXPECT_NE(WriteCode(*volume, 6 * kChunkSize, 4 * kBlockSize, 3), Code::kOk);
    EXPECT_EQ(volume->size(), 4 * kChunkSize + kBlockSize) << "a failed write grew the volume";
    EXPECT_TRUE(Holds(*volume, 0, 4 * kChunkSize, 0));
    // A neighbour's first touch takes over the whole chunk.
    ASSERT_EQ(WriteCode(*volume, 9 * kBlockSize + 512, 512, 4), Code::kOk);
    ASSERT_TRUE(volume->Truncate(8 * kChunkSize).ok());
    ASSERT_EQ(WriteCode(*volume, 6 * kChunkSize + 20 * kBlockSize, 512, 5), Code::kOk);
    ASSERT_TRUE(volume->Sync().ok());
    volume.reset();
    ForEachEnd([&] {
      const auto now = machine_.Find(name);
      EXPECT_TRUE(Holds(*now, 0, 9 * kBlockSize + 512, 0));
      EXPECT_TRUE(Holds(*now, 9 * kBlockSize + 512, 512, 4));
      EXPECT_TRUE(Holds(*now, 6 * kChunkSize, 20 * kBlockSize, 0));
      EXPECT_TRUE(Holds(*now, 6 * kChunkSize + 20 * kBlockSize, 512, 5));
    });
  }
}

TEST_F(FailedWriteTest, NothingOfAFailedWriteBehindTheEndShowsUpWhenTheVolumeGrows) {
  auto volume = machine_.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, 1000, 1), Code::kOk);
  FailOnce(Op::kWrite, "/extents/", ENOSPC, kBlockSize + 1000);
  EXPECT_EQ(WriteCode(*volume, 500, 3 * kBlockSize, 2), Code::kNoSpace);
  EXPECT_EQ(volume->size(), 1000u);
  ASSERT_TRUE(volume->Truncate(kChunkSize).ok());
  EXPECT_TRUE(Holds(*volume, 0, 500, 1));
  volume.reset();
  ForEachEnd([&] { EXPECT_TRUE(Holds(*machine_.Find("v"), 1000, kChunkSize - 1000, 0)); });
}

TEST_F(VolumeFaultTest, AFullDiskRefusesNewBlocksOnlyAndServiceResumes) {
  auto volume = machine_.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, 8 * kBlockSize, 1), Code::kOk);
  ASSERT_TRUE(volume->Sync().ok());
  auto space = machine_.env().Space("/store");
  ASSERT_TRUE(space.ok());
  const uint64_t used = space->total_bytes - space->free_bytes;
  machine_.env().SetCapacity(used + 6 * kBlockSize);
  // The first of these fit, then one fits in part, then none.
  std::vector<uint64_t> there;
  int refused = 0;
  for (uint64_t chunk = 1; chunk < 12; ++chunk) {
    auto written = volume->Write(chunk * kChunkSize + 512, Stamped(4 * kBlockSize, 2));
    if (written.ok()) {
      EXPECT_EQ(*written, 4 * kBlockSize);
      there.push_back(chunk);
    } else {
      EXPECT_EQ(written.status().code(), Code::kNoSpace);
      ++refused;
    }
  }
  EXPECT_GT(refused, 8);
  EXPECT_EQ(WriteCode(*volume, 100, 7 * kBlockSize, 3), Code::kOk) << "an overwrite takes no space";
  EXPECT_TRUE(Holds(*volume, 100, 7 * kBlockSize, 3));

  // Whatever the index made of it (it may have found no room for its log, even so): with room
  // again and a fresh mount, all goes on.
  machine_.env().SetCapacity(256 << 20);
  const bool synced = volume->Sync().ok();
  EXPECT_TRUE(synced);
  for (int tries = 0; tries < 100; ++tries) {
    if (WriteCode(*volume, 20 * kChunkSize, kBlockSize, 4) == Code::kOk) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  EXPECT_TRUE(Holds(*volume, 20 * kChunkSize, kBlockSize, 4));
  ASSERT_EQ(WriteCode(*volume, 11 * kChunkSize + 40 * kBlockSize, 512, 5), Code::kOk);
  EXPECT_TRUE(volume->Sync().ok());
  volume.reset();
  Remount();
  volume = machine_.Find("v");
  EXPECT_TRUE(Holds(*volume, 100, 7 * kBlockSize, 3));
  EXPECT_TRUE(Holds(*volume, 11 * kChunkSize, 40 * kBlockSize, 0)) << "left by a refused write";
  for (uint64_t chunk = 1; chunk < 12; ++chunk) {
    const bool written = std::find(there.begin(), there.end(), chunk) != there.end();
    EXPECT_TRUE(Holds(*volume, chunk * kChunkSize + 512, 4 * kBlockSize, written ? 2 : 0));
  }
}

// Also when the index has to fall back on its reserve.
TEST_F(VolumeFaultTest, AcknowledgedBlocksCanBeFsyncedOnAFullDisk) {
  auto volume = machine_.Create("v");
  for (uint64_t chunk = 0; chunk < 64; ++chunk) {
    ASSERT_EQ(WriteCode(*volume, chunk * kChunkSize, kBlockSize, 1), Code::kOk);
  }
  machine_.env().SetCapacity(0);
  EXPECT_TRUE(volume->Sync().ok());
  EXPECT_EQ(WriteCode(*volume, 100 * kChunkSize, kBlockSize, 2), Code::kNoSpace);
  EXPECT_EQ(WriteCode(*volume, 0, kBlockSize, 3), Code::kOk);
  EXPECT_TRUE(volume->Sync().ok());
  volume.reset();
  machine_.LosePower(1);
  machine_.env().SetCapacity(256 << 20);
  machine_.ExpectNoDamage();
  machine_.Mount();
  EXPECT_TRUE(Holds(*machine_.Find("v"), 0, kBlockSize, 3));
  EXPECT_TRUE(Holds(*machine_.Find("v"), 63 * kChunkSize, kBlockSize, 1));
}

}  // namespace
}  // namespace cairn
