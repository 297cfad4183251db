// What volumes keep of what lies beneath their heads: open files and seals of regions.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "src/env/memory_env.h"
#include "src/volume/chunk_map.h"
#include "src/volume/extent_set.h"
#include "src/volume/seal_map.h"
#include "src/warm/warm_store.h"

namespace cairn {
namespace {

constexpr BranchId kBranch(1);
constexpr uint64_t kEpochs = 300;
constexpr uint64_t kLeastSeals = 64;  // are kept whatever the bound says

ExtentId FileOf(uint64_t epoch) { return {kBranch, Epoch(epoch), SegmentIndex(0)}; }
RegionId RegionOfEpoch(uint64_t epoch) { return {kBranch, Epoch(epoch), 0}; }

class LowerCacheTest : public ::testing::Test {
 protected:
  // Files of epochs 1 to kEpochs, each with its number, and a set whose head is the next epoch.
  void MakeFiles(size_t most_kept) {
    ASSERT_TRUE(ExtentStore::Format(env_, "/extents").ok());
    store_ = std::make_unique<ExtentStore>(env_, "/extents", false, most_kept);
    for (uint64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      auto file = store_->Open(FileOf(epoch), ExtentStore::Mode::kCreate, 0);
      ASSERT_TRUE(file.ok()) << file.status().ToString();
      const std::vector<std::byte> data(8, static_cast<std::byte>(epoch % 256));
      ASSERT_TRUE((*file)->EnsureSize(4096).ok());
      ASSERT_TRUE((*file)->WriteAt(0, data).ok());
    }
    set_ = NewSet();
  }
  // What a volume has that ended with those epochs.
  std::unique_ptr<ExtentSet> NewSet() {
    ExtentSet::KnownSizes known_sizes;
    for (uint64_t epoch = 1; epoch <= kEpochs; ++epoch) known_sizes[FileOf(epoch)] = 4096;
    auto set = std::make_unique<ExtentSet>(*store_);
    set->ResetTo(Lineage::OfNew(kBranch, Epoch(kEpochs + 1)), std::move(known_sizes));
    return set;
  }
  void ReadAll() { ReadAll(*set_); }
  static void ReadAll(ExtentSet& set) {
    for (uint64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      auto file = set.Lower(FileOf(epoch));
      ASSERT_TRUE(file.ok()) << file.status().ToString();
      std::vector<std::byte> data(8);
      ASSERT_TRUE((*file)->ReadAt(0, data).ok());
      ASSERT_EQ(data[7], static_cast<std::byte>(epoch % 256));
    }
  }
  void OpenIndex() {
    WarmStoreOptions options;
    options.create = true;
    auto store = WarmStore::Open(env_, "/store", options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    warm_ = std::move(*store);
    IndexBatch batch;
    for (uint64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      batch.PutRegion(RegionOfEpoch(epoch), RegionState::kSealed);
    }
    ASSERT_TRUE(warm_->index().Commit(batch).ok());
  }
  static std::vector<uint64_t> Generations(SealMap& seals) {
    std::vector<uint64_t> generations;
    for (uint64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      auto seal = seals.Get(RegionOfEpoch(epoch));
      EXPECT_TRUE(seal.ok()) << seal.status().ToString();
      generations.push_back((*seal)->generation());
    }
    return generations;
  }
  // What a reader does: whether the file of `epoch` could be read and held what it should.
  bool ReadBy(LowerPlaces& places, uint64_t epoch, uint64_t era) {
    LowerPlaces::Place place = places.Find(epoch - 1, era);
    if (!place.file) {
      auto file = set_->Lower(FileOf(epoch));
      if (!file.ok()) return false;
      place = {*file, epoch};
      places.Put(epoch - 1, era, place);
    }
    std::vector<std::byte> data(8);
    return place.sums_generation == epoch && place.file->ReadAt(0, data).ok() &&
           data[7] == static_cast<std::byte>(epoch % 256);
  }

  MemoryEnv env_;
  std::unique_ptr<ExtentStore> store_;
  std::unique_ptr<ExtentSet> set_;
  std::unique_ptr<WarmStore> warm_;
};

TEST_F(LowerCacheTest, FilesBeneathTheHeadStayOpenWhileThereIsRoom) {
  MakeFiles(1024);
  ReadAll();
  EXPECT_EQ(store_->open_files(), kEpochs);
  ReadAll(*NewSet());
  EXPECT_EQ(store_->open_files(), kEpochs);
}

TEST_F(LowerCacheTest, AllVolumesTogetherKeepNoMoreThanTheBoundAndWhatIsInUse) {
  MakeFiles(100);
  auto held = set_->Lower(FileOf(7));
  ASSERT_TRUE(held.ok());
  const auto other = NewSet();
  for (int turn = 0; turn < 3; ++turn) {
    ReadAll();
    ReadAll(*other);
    EXPECT_LE(store_->open_files(), 101u);
  }
  auto again = set_->Lower(FileOf(7));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->get(), held->get());
}

// Else a group that is written between its snapshots takes all descriptors.
TEST_F(LowerCacheTest, FilesOfEndedEpochsAreClosedBeyondTheBoundAlsoWhenNobodyReads) {
  MakeFiles(10);
  const std::vector<std::byte> data(8, std::byte{1});
  for (uint64_t epoch = kEpochs + 1; epoch <= kEpochs + 100; ++epoch) {
    auto head = set_->HeadForWriting(SegmentIndex(0));
    ASSERT_TRUE(head.ok()) << head.status().ToString();
    ASSERT_TRUE((*head)->EnsureSize(4096).ok());
    ASSERT_TRUE((*head)->WriteAt(0, data).ok());
    set_->BeginEpoch(Epoch(epoch + 1));
    IndexBatch batch;
    auto synced = set_->Sync(Epoch(epoch + 1), batch);
    ASSERT_TRUE(synced.ok()) << synced.status().ToString();
    set_->NoteRecorded(*synced);
    EXPECT_LE(store_->open_files(), 10u);
  }
}

// After a server's death each volume syncs all its files once; together they may be more than can
// be open.
TEST_F(LowerCacheTest, WhatAnEarlierServerLeftIsSyncedWithFewFilesOpen) {
  MakeFiles(10);
  set_.reset();
  store_ = std::make_unique<ExtentStore>(env_, "/extents", /*unsynced_past=*/true, 10);
  std::vector<std::unique_ptr<ExtentSet>> sets;
  for (int i = 0; i < 3; ++i) {
    sets.push_back(NewSet());
    IndexBatch batch;
    ASSERT_TRUE(sets.back()->Sync(Epoch(kEpochs + 1), batch).ok());
    EXPECT_LE(store_->open_files(), 10u);
  }
}

TEST_F(LowerCacheTest, AFileThatIsRemovedIsNeitherKeptNorRead) {
  MakeFiles(1024);
  ReadAll();
  set_->Forget(kBranch, Epoch(5));
  const std::vector<ExtentId> removed{FileOf(5)};
  ASSERT_TRUE(store_->RemoveFiles(kBranch, removed).ok());
  EXPECT_EQ(store_->open_files(), kEpochs - 1);
  EXPECT_EQ(set_->Lower(FileOf(5)).status().code(), Code::kCorrupt);
}

// The cleaner may come between the commit of a sync and its note.
TEST_F(LowerCacheTest, AnEpochThatIsRemovedWhileASyncEndsIsForgottenForGood) {
  MakeFiles(10);
  const ExtentId id = FileOf(kEpochs + 1);
  auto head = set_->HeadForWriting(SegmentIndex(0));
  ASSERT_TRUE(head.ok() && (*head)->EnsureSize(4096).ok());
  set_->BeginEpoch(Epoch(kEpochs + 2));
  IndexBatch batch;
  auto synced = set_->Sync(Epoch(kEpochs + 2), batch);
  ASSERT_TRUE(synced.ok()) << synced.status().ToString();
  set_->Forget(kBranch, id.epoch);
  set_->NoteRecorded(*synced);
  ASSERT_TRUE(store_->RemoveFiles(kBranch, std::vector{id}).ok());
  EXPECT_EQ(set_->Lower(id).status().code(), Code::kCorrupt);
  IndexBatch next;
  EXPECT_TRUE(set_->Sync(Epoch(kEpochs + 2), next).ok());
}

// Epochs that begin while a sync is on its way are the next one's, whole.
TEST_F(LowerCacheTest, ASyncLeavesNewerEpochsToTheNext) {
  MakeFiles(10);
  const Epoch newest(kEpochs + 1);
  for (Epoch epoch = newest; epoch <= newest.Next().Next(); epoch = epoch.Next()) {
    auto head = set_->HeadForWriting(SegmentIndex(0));
    ASSERT_TRUE(head.ok() && (*head)->EnsureSize(4096).ok());
    if (epoch <= newest.Next()) set_->BeginEpoch(epoch.Next());
  }
  IndexBatch batch;
  auto synced = set_->Sync(newest, batch);
  ASSERT_TRUE(synced.ok());
  EXPECT_EQ(synced->sizes.size(), 1u);
  EXPECT_EQ(synced->drained, std::vector{FileOf(kEpochs + 1)});
  set_->NoteRecorded(*synced);
  synced = set_->Sync(newest.Next().Next(), batch);
  ASSERT_TRUE(synced.ok());
  EXPECT_EQ(synced->sizes.size(), 2u);
  EXPECT_EQ(synced->drained, std::vector{FileOf(kEpochs + 2)});
}

TEST_F(LowerCacheTest, PlacesAreFoundAgainInTheirEraOnly) {
  MakeFiles(1024);
  LowerPlaces places;
  places.SetCount(kEpochs);
  EXPECT_EQ(places.Find(3, 1).file, nullptr);
  auto file = set_->Lower(FileOf(4));
  ASSERT_TRUE(file.ok());
  places.Put(3, 1, {*file, 17});
  EXPECT_EQ(places.Find(3, 1).file, *file);
  EXPECT_EQ(places.Find(3, 1).sums_generation, 17u);
  EXPECT_EQ(places.Find(4, 1).file, nullptr);
  EXPECT_EQ(places.Find(4, 1).sums_generation, 0u);
  EXPECT_EQ(places.Find(3, 2).file, nullptr);
  EXPECT_EQ(places.Find(3, 2).sums_generation, 0u);
  // The first that is known of an era is all that is known of it.
  places.Put(5, 2, {*file, 18});
  EXPECT_EQ(places.Find(3, 2).file, nullptr);
  EXPECT_EQ(places.Find(3, 2).sums_generation, 0u);
}

TEST_F(LowerCacheTest, PlacesKeepNoFileOpenAndKnowWhichWereClosed) {
  MakeFiles(10);
  LowerPlaces places;
  places.SetCount(kEpochs);
  for (int turn = 0; turn < 2; ++turn) {
    for (uint64_t epoch = 1; epoch <= kEpochs; ++epoch) {
      EXPECT_TRUE(ReadBy(places, epoch, 1)) << epoch;
      EXPECT_LE(store_->open_files(), 10u);
    }
    EXPECT_EQ(places.Find(0, 1).file, nullptr);
    EXPECT_NE(places.Find(kEpochs - 1, 1).file, nullptr);
  }
}

TEST_F(LowerCacheTest, ReadersOfTheSameLeafDoNotDisturbEachOtherWhileFilesAreClosed) {
  MakeFiles(10);
  LowerPlaces places;
  places.SetCount(kEpochs);
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (uint64_t number = 0; number < 2; ++number) {
    threads.emplace_back([&, number] {
      for (uint64_t i = 0; i < 4000; ++i) {
        const uint64_t epoch = 1 + (i * (7 + 4 * number)) % 20;
        if (!ReadBy(places, epoch, 1)) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures.load(), 0);
  EXPECT_LE(store_->open_files(), 10u);
}

TEST_F(LowerCacheTest, ALeafIsChargedForThePlacesOfAllItsSources) {
  const auto bytes_of = [](uint64_t sources) {
    LowerPieces::Builder builder;
    for (uint64_t i = 0; i < kEpochs; ++i) {
      builder.Add(ChunkIndex(i), {LowerPiece::Kind::kExtent, kBranch, Epoch(1 + i % sources), 1});
    }
    ChunkLeaf leaf;
    leaf.SetLower(builder.Build());
    return leaf.MemoryBytes() - leaf.lower().MemoryBytes();
  };
  EXPECT_GE(bytes_of(kEpochs),
            bytes_of(1) + (kEpochs - 1) * (sizeof(std::weak_ptr<ExtentFile>) + sizeof(uint64_t)));
}

TEST_F(LowerCacheTest, SealsOfSealedRegionsStayWhileThereIsRoom) {
  OpenIndex();
  SealMemory memory(16 << 20);
  SealMap seals(warm_->index(), memory);
  EXPECT_EQ(Generations(seals), Generations(seals));
}

TEST_F(LowerCacheTest, SealsBeyondTheBoundAreDropped) {
  OpenIndex();
  SealMemory memory(0);
  SealMap seals(warm_->index(), memory);
  for (int turn = 0; turn < 3; ++turn) {
    Generations(seals);
    EXPECT_LE(seals.All().size(), kLeastSeals);
  }
}

TEST_F(LowerCacheTest, ARegionThatWasRemovedIsNotTrustedByASealThatWasKept) {
  OpenIndex();
  SealMemory memory(16 << 20);
  SealMap seals(warm_->index(), memory);
  const std::vector<uint64_t> before = Generations(seals);
  auto old = seals.Get(RegionOfEpoch(5));
  ASSERT_TRUE(old.ok());
  IndexBatch batch;
  batch.DeleteRegion(RegionOfEpoch(5));
  ASSERT_TRUE(warm_->index().Commit(batch).ok());
  seals.ForgetFrom(RegionOfEpoch(5));
  EXPECT_EQ((*old)->Trusted(ChunkIndex(0)), 0u);
  auto seal = seals.Get(RegionOfEpoch(5));
  ASSERT_TRUE(seal.ok());
  EXPECT_EQ((*seal)->Trusted(ChunkIndex(0)), 0u);
  EXPECT_NE((*seal)->generation(), before[4]);
}

}  // namespace
}  // namespace cairn
