// A sync that has much to enter in the index does so in several batches. The power goes at each of
// its sync points.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "src/volume/disk_volume.h"
#include "tests/volume/snapshot_test_util.h"
#include "tests/volume/volume_test_util.h"

namespace cairn {
namespace {

// Of one block each, and more than a batch takes.
constexpr uint64_t kChunks = 600;
// A journal that is not full before the sync.
constexpr TestMachine::Settings kMuchPending{.journal_bytes = 1 << 20};

void FillFirstBlocks(Volume& volume, unsigned stamp, uint64_t chunks = kChunks) {
  for (uint64_t chunk = 0; chunk < chunks; ++chunk) {
    ASSERT_EQ(WriteCode(volume, chunk * kChunkSize, kBlockSize, stamp), Code::kOk);
  }
}

// How many of the first blocks hold `stamp`; the others must hold one of `others`.
uint64_t CountHolding(Volume& volume, unsigned stamp, const std::vector<unsigned>& others) {
  uint64_t count = 0;
  std::vector<std::byte> block(kBlockSize);
  for (uint64_t at = 0; at < volume.size(); at += kChunkSize) {
    const auto got = volume.Read(at, block);
    EXPECT_TRUE(got.ok()) << got.status().ToString();
    const auto found = std::to_integer<unsigned>(block[0]);
    EXPECT_TRUE(std::all_of(block.begin(), block.end(), [&](auto b) { return b == block[0]; }));
    if (found == stamp) {
      ++count;
    } else {
      EXPECT_TRUE(std::count(others.begin(), others.end(), found) > 0)
          << "chunk " << at / kChunkSize << " holds " << found;
    }
  }
  return count;
}

void Cut(Volume& volume) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  auto& disk = dynamic_cast<DiskVolume&>(volume);
  GateClosure closure(disk.gate());
  ASSERT_TRUE(disk.Cut().ok());
}

// What a crash left behind the end does not show.
void ExpectZerosWhereItGrows(Volume& volume) {
  const uint64_t end = volume.size();
  ASSERT_TRUE(volume.Truncate(kChunks * kChunkSize).ok());
  for (uint64_t at = RoundUpToChunk(end); at < volume.size(); at += kChunkSize) {
    ASSERT_TRUE(Holds(volume, at, kBlockSize, 0));
  }
}

class SyncInPartsTest : public testing::Test {
 protected:
  // Syncs one volume again and again as `prepare` leaves it, with the power going at each of the
  // sync points, and sees to it that nothing but `stamps` is found; the newest is the last, and is
  // complete once the sync succeeded. Returns how many ends were seen that had a part of it.
  uint64_t CutAtEach(const std::function<void(TestMachine&)>& prepare,
                     const std::vector<unsigned>& stamps) {
    uint64_t partial = 0;
    for (uint64_t n = 1;; ++n) {
      SCOPED_TRACE("the power goes at sync point " + std::to_string(n));
      TestMachine machine(kMuchPending);
      machine.Mount();
      machine.Create("v");
      prepare(machine);
      machine.env().CutAtSync(n, n % 2 == 0 ? CutSide::kAfter : CutSide::kBefore);
      const bool synced = machine.Find("v")->Sync().ok();
      machine.env().SetHook(nullptr);
      EXPECT_EQ(synced, machine.env().power_on());
      machine.LosePower(n);
      machine.ExpectNoDamage();
      machine.Mount();
      const uint64_t newest = CountHolding(*machine.Find("v"), stamps.back(), stamps);
      if (newest > 0 && newest < kChunks) ++partial;
      ExpectZerosWhereItGrows(*machine.Find("v"));
      EXPECT_TRUE(machine.Close().ok());
      machine.ExpectNoDamage();
      EXPECT_TRUE(!synced || newest == kChunks) << newest;
      if (synced || testing::Test::HasFailure()) return partial;
    }
  }
};

// How many batches the index gets when the first blocks of so many chunks are synced.
uint64_t CountBatches(uint64_t chunks) {
  TestMachine machine(kMuchPending);
  machine.Mount();
  const auto volume = machine.Create("v");
  EXPECT_TRUE(volume->Truncate(chunks * kChunkSize).ok());
  FillFirstBlocks(*volume, 1, chunks);
  uint64_t log_syncs = 0;
  machine.env().SetHook([&](Op op, const std::string& path) {
    if (op == Op::kSync && path.ends_with(".log")) ++log_syncs;
  });
  EXPECT_TRUE(volume->Sync().ok());
  machine.env().SetHook(nullptr);
  return log_syncs;
}

TEST_F(SyncInPartsTest, NoBatchHoldsAllOfIt) { EXPECT_EQ(CountBatches(kChunks), 3u); }

// Each waits for the device.
TEST_F(SyncInPartsTest, MuchMoreIsEnteredInHardlyMoreBatches) {
  const uint64_t batches = CountBatches(20 * kChunks);
  EXPECT_GE(batches, 16u);
  EXPECT_LE(batches, 18u);
}

// Whose sync is in no hurry hands the bytes to the device in parts first. Who asked for a sync
// waits for it.
TEST_F(SyncInPartsTest, BytesAreHandedOverInPartsForSnapshotsAndInTheBackgroundAlone) {
  constexpr uint64_t kFew = 20;
  TestMachine machine(kMuchPending);
  machine.Mount();
  const auto volume = machine.Create("v");
  ASSERT_TRUE(volume->Truncate(kFew * kChunkSize).ok());
  const auto started_by = [&](const std::function<void()>& act) {
    const uint64_t before = machine.env().operation_count(Op::kWriteback);
    act();
    return machine.env().operation_count(Op::kWriteback) - before;
  };
  FillFirstBlocks(*volume, 1, kFew);
  EXPECT_EQ(started_by([&] { EXPECT_TRUE(volume->Sync().ok()); }), 0u);
  FillFirstBlocks(*volume, 2, kFew);
  EXPECT_EQ(started_by([&] { EXPECT_TRUE(TrySnapshot(machine.filesystem(), "s", {"v"}).ok()); }),
            kFew);
  FillFirstBlocks(*volume, 3, kFew);
  EXPECT_EQ(started_by([&] { EXPECT_TRUE(machine.filesystem().SyncAll().ok()); }), 0u);
  FillFirstBlocks(*volume, 4, kFew);
  ASSERT_EQ(WriteCode(*volume, kFew * kChunkSize, kBlockSize, 4), Code::kOk);
  EXPECT_EQ(started_by([&] { machine.RunBackground(); }), kFew + 1);
}

TEST_F(SyncInPartsTest, WhatIsDurableInAPowerCutIsSound) {
  const auto prepare = [](TestMachine& machine) {
    const auto volume = machine.Find("v");
    ASSERT_TRUE(volume->Truncate(kChunks * kChunkSize).ok());
    ASSERT_TRUE(volume->Sync().ok());
    FillFirstBlocks(*volume, 1);
  };
  EXPECT_GT(CutAtEach(prepare, {0, 1}), 0u);
}

TEST_F(SyncInPartsTest, NothingShowsOfAVolumeThatHasGrownUntilItsSizeIsDurable) {
  CutAtEach([](TestMachine& machine) { FillFirstBlocks(*machine.Find("v"), 1); }, {1});
}

// Versions of an epoch that the branch's record does not know would be nobody's.
TEST_F(SyncInPartsTest, NewerEpochsAreEnteredWithTheRecordThatBeginsThem) {
  const auto prepare = [](TestMachine& machine) {
    const auto volume = machine.Find("v");
    FillFirstBlocks(*volume, 1);
    Cut(*volume);
    FillFirstBlocks(*volume, 2);
  };
  CutAtEach(prepare, {0, 1, 2});
}

// The sync of a new server begins with the files of the last one: there is time for a cut.
TEST_F(SyncInPartsTest, AnEpochThatBeginsMeanwhileIsForTheNextSync) {
  const auto prepare = [](TestMachine& machine) {
    ASSERT_TRUE(machine.Find("v")->Truncate(kChunks * kChunkSize).ok());
    ASSERT_EQ(WriteCode(*machine.Find("v"), 0, kBlockSize, 1), Code::kOk);
    ASSERT_TRUE(machine.Find("v")->Sync().ok());
    machine.LoseServer();
    machine.Mount();
    const auto volume = machine.Find("v");
    FillFirstBlocks(*volume, 2);
    machine.env().SetHook([weak = std::weak_ptr(volume), done = std::make_shared<bool>()](
                              Op op, const std::string& path) {
      if (*done || op != Op::kSync || path.find("/extents/") == std::string::npos) return;
      *done = true;
      Cut(*weak.lock());
      ASSERT_EQ(WriteCode(*weak.lock(), 0, kBlockSize, 2), Code::kOk);
    });
  };
  CutAtEach(prepare, {0, 1, 2});
}

TEST_F(SyncInPartsTest, AnExceptionLosesNoSize) {
  TestMachine machine;
  machine.Mount();
  machine.Create("v");
  ASSERT_EQ(WriteCode(*machine.Find("v"), 0, kBlockSize, 1), Code::kOk);
  Cut(*machine.Find("v"));
  ASSERT_EQ(WriteCode(*machine.Find("v"), 0, kBlockSize, 2), Code::kOk);
  ASSERT_TRUE(machine.Find("v")->Sync().ok());
  machine.LoseServer();
  machine.Mount();
  ASSERT_EQ(WriteCode(*machine.Find("v"), kChunkSize, kBlockSize, 3), Code::kOk);
  bool thrown = false;
  machine.env().SetHook([&](Op op, const std::string& path) {
    if (thrown || op != Op::kOpen || path.find("/extents/") == std::string::npos) return;
    thrown = true;
    throw std::bad_alloc();
  });
  EXPECT_THROW((void)machine.Find("v")->Sync(), std::bad_alloc);
  machine.env().SetHook(nullptr);
  EXPECT_TRUE(machine.Find("v")->Sync().ok());
  machine.LosePower(1);
  machine.Mount();
  EXPECT_EQ(machine.Find("v")->size(), kChunkSize + kBlockSize);
  EXPECT_TRUE(Holds(*machine.Find("v"), kChunkSize, kBlockSize, 3));
}

}  // namespace
}  // namespace cairn
