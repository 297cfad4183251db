// Reads of what lies beneath the head, where a leaf remembers what the read before found out.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "src/volume/disk_volume.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {
namespace {

constexpr std::chrono::seconds kLongEnough{30};
constexpr size_t kMostKept = 8;
constexpr uint64_t kEpochs = 40;

class HistoryReadTest : public testing::Test {
 protected:
  HistoryReadTest() : machine_(SettingsOf()) {}
  void SetUp() override { machine_.Mount(); }

  // Leaves stay, files do not.
  static TestMachine::Settings SettingsOf() {
    TestMachine::Settings settings;
    settings.chunk_map_bytes = 64 << 20;
    settings.most_kept_files = kMostKept;
    return settings;
  }
  Filesystem& filesystem() { return machine_.filesystem(); }
  void Snapshot() {
    const auto created = TrySnapshot(filesystem(), "s" + std::to_string(++snapshots_), {"v"});
    ASSERT_TRUE(created.ok()) << created.status().ToString();
  }
  // Block n - 1 was written in epoch n, as n, and each epoch has ended.
  std::shared_ptr<DiskVolume> MakeHistory(uint64_t epochs) {
    auto volume = std::dynamic_pointer_cast<DiskVolume>(machine_.Create("v"));
    for (uint64_t epoch = 1; epoch <= epochs; ++epoch) {
      EXPECT_EQ(WriteCode(*volume, (epoch - 1) * kBlockSize, kBlockSize, Stamp(epoch)), Code::kOk);
      Snapshot();
    }
    EXPECT_TRUE(filesystem().SyncAll().ok());
    return volume;
  }
  static unsigned Stamp(uint64_t epoch) { return static_cast<unsigned>(epoch); }
  static void ExpectHistory(Volume& volume, uint64_t epochs) {
    for (uint64_t epoch = 1; epoch <= epochs; ++epoch) {
      EXPECT_TRUE(Holds(volume, (epoch - 1) * kBlockSize, kBlockSize, Stamp(epoch))) << epoch;
    }
  }
  static Code ReadCode(Volume& volume, uint64_t offset, uint64_t length) {
    std::vector<std::byte> bytes(length);
    return volume.Read(offset, bytes).status().code();
  }
  ExtentId FileOf(DiskVolume& volume, uint64_t epoch) {
    return {volume.Record().branch, Epoch(epoch), SegmentIndex(0)};
  }
  void Flip(const ExtentId& file, uint64_t offset) {
    const std::string path = machine_.store().extents().PathOf(file);
    ASSERT_TRUE(machine_.env().FlipByte(path, offset).ok());
  }

  TestMachine machine_;
  int snapshots_ = 0;
};

TEST_F(HistoryReadTest, ALeafKeepsNoFileOpenAndFindsThoseAgainThatWereClosed) {
  const auto volume = MakeHistory(kEpochs);
  for (int turn = 0; turn < 3; ++turn) {
    ExpectHistory(*volume, kEpochs);
    EXPECT_LE(machine_.store().extents().open_files(), kMostKept);
  }
}

// The sources of a leaf have other numbers after it.
TEST_F(HistoryReadTest, AfterTheNextSnapshotEachBlockStillComesFromItsEpoch) {
  const auto volume = MakeHistory(kEpochs);
  ExpectHistory(*volume, kEpochs);
  for (uint64_t epoch = kEpochs; epoch > kEpochs - 5; --epoch) {
    ASSERT_EQ(WriteCode(*volume, (epoch - 1) * kBlockSize, kBlockSize, Stamp(epoch)), Code::kOk);
    ExpectHistory(*volume, kEpochs);
    Snapshot();
    ExpectHistory(*volume, kEpochs);
  }
}

TEST_F(HistoryReadTest, EveryReadBeneathTheHeadIsCompared) {
  const auto volume = MakeHistory(kEpochs);
  filesystem().SealAll(kLongEnough);
  ExpectHistory(*volume, kEpochs);
  ExpectHistory(*volume, kEpochs);
  Flip(FileOf(*volume, 7), 6 * kBlockSize + 100);
  EXPECT_EQ(ReadCode(*volume, 6 * kBlockSize, kBlockSize), Code::kCorrupt);
  EXPECT_EQ(ReadCode(*volume, 6 * kBlockSize + 2048, 512), Code::kCorrupt);
  EXPECT_EQ(ReadCode(*volume, 0, kEpochs * kBlockSize), Code::kCorrupt);
  EXPECT_TRUE(Holds(*volume, 5 * kBlockSize, kBlockSize, 6));
  EXPECT_TRUE(Holds(*volume, 7 * kBlockSize, kBlockSize, 8));
}

// Its checksums are those of before its last writes until it is sealed again.
TEST_F(HistoryReadTest, AnEpochThatEndedOpenIsComparedOnceItIsSealedAndNotBefore) {
  const auto volume = MakeHistory(1);
  ASSERT_EQ(WriteCode(*volume, kBlockSize, kBlockSize, 2), Code::kOk);
  filesystem().SealAll(kLongEnough);
  ASSERT_EQ(WriteCode(*volume, kBlockSize, kBlockSize, 3), Code::kOk);
  Snapshot();
  for (int turn = 0; turn < 3; ++turn) {
    EXPECT_TRUE(Holds(*volume, kBlockSize, kBlockSize, 3));
  }
  filesystem().SealAll(kLongEnough);
  EXPECT_TRUE(Holds(*volume, kBlockSize, kBlockSize, 3));
  Flip(FileOf(*volume, 2), kBlockSize);
  EXPECT_EQ(ReadCode(*volume, kBlockSize, kBlockSize), Code::kCorrupt);
}

// What BranchCleaner does to an epoch, here to one that the leaf still leads to.
TEST_F(HistoryReadTest, ALeafThatStaysUsesNothingOfAnEpochThatWasRemoved) {
  const auto volume = MakeHistory(4);
  filesystem().SealAll(kLongEnough);
  ExpectHistory(*volume, 4);
  const ExtentId file = FileOf(*volume, 2);
  IndexBatch batch;
  batch.DeleteRegion({file.branch, file.epoch, 0});
  ASSERT_TRUE(machine_.store().index().Commit(batch).ok());
  Flip(file, kBlockSize);
  EXPECT_EQ(ReadCode(*volume, kBlockSize, kBlockSize), Code::kCorrupt);
  volume->LetReadersOut(file.branch, {file.epoch});
  // Nothing vouches for its bytes any more.
  EXPECT_EQ(ReadCode(*volume, kBlockSize, kBlockSize), Code::kOk);
  const size_t open_before = machine_.store().extents().open_files();
  volume->LetReadersOut(file.branch, {file.epoch});
  ASSERT_TRUE(machine_.store().extents().RemoveFiles(file.branch, std::vector{file}).ok());
  EXPECT_EQ(machine_.store().extents().open_files(), open_before - 1);
  EXPECT_EQ(ReadCode(*volume, kBlockSize, kBlockSize), Code::kCorrupt);
  EXPECT_TRUE(Holds(*volume, 0, kBlockSize, 1));
  EXPECT_TRUE(Holds(*volume, 2 * kBlockSize, kBlockSize, 3));
}

}  // namespace
}  // namespace cairn
