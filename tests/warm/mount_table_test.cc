#include "src/warm/mount_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace cairn {
namespace {

class MountTableTest : public testing::Test {
 protected:
  std::span<std::byte> region() { return std::as_writable_bytes(std::span(memory_)); }
  // What the next server of the mount finds.
  std::unique_ptr<MountTable> Open() {
    auto table = MountTable::Open(region());
    EXPECT_TRUE(table.ok()) << table.status().ToString();
    return table.ok() ? std::move(*table) : nullptr;
  }

  std::vector<uint64_t> memory_ = std::vector<uint64_t>(MountTable::kSmallestRegion / 8);
};

constexpr InodeId kDisk{7};
constexpr InodeId kOther{8};

TEST_F(MountTableTest, TheNextServerKnowsTheHandles) {
  {
    auto table = Open();
    table->AddHandle(kDisk, HandleId(2));
    table->AddHandle(kDisk, HandleId(4));
    table->AddHandle(kOther, HandleId(6));
    table->RemoveHandle(HandleId(4));
  }
  auto table = Open();
  EXPECT_EQ(table->HandleCount(kDisk), 1u);
  EXPECT_EQ(table->HandleCount(kOther), 1u);
  table->RemoveHandle(HandleId(2));
  EXPECT_EQ(table->HandleCount(kDisk), 0u);
  EXPECT_EQ(Open()->HandleCount(kDisk), 0u);
}

TEST_F(MountTableTest, WhatIsSentAgainChangesNothing) {
  Open()->AddHandle(kDisk, HandleId(2));
  {
    auto table = Open();
    table->AddHandle(kDisk, HandleId(2));
    table->AddHandle(kDisk, HandleId(4));
    EXPECT_EQ(table->HandleCount(kDisk), 2u);
    table->RemoveHandle(HandleId(2));
  }
  auto table = Open();
  table->RemoveHandle(HandleId(2));
  EXPECT_EQ(table->HandleCount(kDisk), 1u);
}

TEST_F(MountTableTest, SlotsAreUsedAgain) {
  auto table = Open();
  for (uint64_t i = 1; i < 10'000; ++i) {
    table->AddHandle(kDisk, HandleId(i));
    table->RemoveHandle(HandleId(i));
  }
  table->AddHandle(kOther, HandleId(20'000));
  EXPECT_TRUE(Open()->counts_are_exact());
  EXPECT_EQ(Open()->HandleCount(kOther), 1u);
}

TEST_F(MountTableTest, WhoHasNoRoomSaysSoToTheNextServer) {
  auto table = Open();
  for (uint64_t i = 1; i < 1000; ++i) table->AddHandle(kDisk, HandleId(i));
  EXPECT_EQ(table->HandleCount(kDisk), 999u);
  EXPECT_TRUE(table->counts_are_exact()) << "this server has seen them all";
  EXPECT_FALSE(Open()->counts_are_exact());
}

TEST_F(MountTableTest, APoisonedVolumeStaysSo) {
  Open()->MarkPoisoned(kDisk);
  Open()->MarkPoisoned(kDisk);
  auto table = Open();
  EXPECT_TRUE(table->IsPoisoned(kDisk));
  EXPECT_FALSE(table->IsPoisoned(kOther));
  EXPECT_EQ(table->HandleCount(kDisk), 0u);
}

TEST_F(MountTableTest, ThereIsRoomForPoisonWhenHandlesHaveTakenAllElse) {
  {
    auto table = Open();
    for (uint64_t i = 1; i < 1000; ++i) table->AddHandle(kDisk, HandleId(i));
    table->MarkPoisoned(kOther);
    EXPECT_FALSE(table->IsPoisoned(kDisk));
  }
  {
    auto table = Open();
    EXPECT_TRUE(table->IsPoisoned(kOther));
    EXPECT_FALSE(table->IsPoisoned(kDisk));
    for (uint64_t i = 100; i < 200; ++i) table->MarkPoisoned(InodeId(i));
  }
  EXPECT_TRUE(Open()->IsPoisoned(kDisk)) << "a mark that found no room counts for all";
}

TEST_F(MountTableTest, TheNextServerKnowsWhoseTimesChanged) {
  {
    auto table = Open();
    table->MarkTimes(kDisk);
    table->MarkTimes(kDisk);
    table->MarkTimes(kOther);
    table->ClearTimes(kOther);
  }
  EXPECT_EQ(Open()->InodesWithTimes(), std::vector<InodeId>{kDisk});
  Open()->ClearTimes(kDisk);
  EXPECT_TRUE(Open()->InodesWithTimes().empty());
}

TEST_F(MountTableTest, TheNextServerKnowsOfStalePagesUntilEachMarkIsCleared) {
  {
    auto table = Open();
    table->MarkStalePages(kDisk);
    table->MarkStalePages(kDisk);
    table->MarkStalePages(kOther);
    table->ClearStalePages(kDisk);
    table->ClearStalePages(kOther);
    EXPECT_EQ(table->InodesWithStalePages(), std::vector<InodeId>{kDisk});
    EXPECT_EQ(table->HandleCount(kDisk), 0u);
  }
  auto next = Open();
  EXPECT_EQ(next->InodesWithStalePages(), std::vector<InodeId>{kDisk});
  next->MarkStalePages(kDisk);
  next->ClearStalePages(kDisk);
  EXPECT_EQ(Open()->InodesWithStalePages(), std::vector<InodeId>{kDisk}) << "the earlier mark";
  next->ClearStalePages(kDisk);
  next->ClearStalePages(kDisk);
  EXPECT_TRUE(Open()->InodesWithStalePages().empty());
}

TEST_F(MountTableTest, AWipedEntryIsRefused) {
  Open()->AddHandle(kDisk, HandleId(2));
  Open()->AddHandle(kDisk, HandleId(4));
  std::fill_n(region().begin() + 4096, 24, std::byte{0});
  EXPECT_EQ(MountTable::Open(region()).status().code(), Code::kCorrupt);
}

TEST_F(MountTableTest, AServerThatDiedWithinAChangeLeavesATable) {
  Open()->AddHandle(kDisk, HandleId(2));
  // The slot is empty already, and the number of entries was not taken down yet.
  std::fill_n(region().begin() + 4096 + 16, 8, std::byte{0});
  region()[32] = std::byte{1};
  EXPECT_EQ(Open()->HandleCount(kDisk), 0u);
  Open()->AddHandle(kDisk, HandleId(4));
  EXPECT_EQ(Open()->HandleCount(kDisk), 1u);
}

TEST_F(MountTableTest, EveryScribbledByteOfAnEntryIsRefused) {
  Open()->AddHandle(kDisk, HandleId(2));
  for (size_t at = 4096; at < 4096 + 24; ++at) {
    region()[at] ^= std::byte{0x10};
    const auto table = MountTable::Open(region());
    EXPECT_EQ(table.status().code(), Code::kCorrupt) << at;
    region()[at] ^= std::byte{0x10};
  }
  EXPECT_EQ(Open()->HandleCount(kDisk), 1u);
  region()[0] ^= std::byte{1};
  EXPECT_EQ(MountTable::Open(region()).status().code(), Code::kCorrupt);
  region()[0] ^= std::byte{1};
  region()[15] = std::byte{1};  // more slots than there are
  EXPECT_EQ(MountTable::Open(region()).status().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace cairn
