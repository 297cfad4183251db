// The reserve on a filesystem that fills up and empties again.
#include "src/warm/space_reserve.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "src/env/memory_env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;

class SpaceReserveTest : public ::testing::Test {
 protected:
  void SetUp() override { env_.SetCapacity(200 * kMebibyte); }

  uint64_t Allocated() {
    const auto info = env_.Info("/reserve");
    return info.ok() ? info->allocated_bytes : 0;
  }
  void Fill(uint64_t bytes) {
    auto file = MustOpen(env_, "/filler");
    ASSERT_TRUE(file->Truncate(0).ok());
    ASSERT_TRUE(file->Allocate(0, bytes).ok());
  }
  // The next try comes after an interval that the test need not know.
  bool ScarceEvenAfterAWhile(bool until) {
    bool scarce = reserve_.scarce();
    for (int i = 0; i < 600 && scarce != until; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      scarce = reserve_.scarce();
    }
    return scarce;
  }

  MemoryEnv env_;
  SpaceReserve reserve_{env_, "/", "/reserve"};
};

TEST_F(SpaceReserveTest, TakesAShareOfTheFilesystem) {
  reserve_.Build();
  EXPECT_EQ(Allocated(), 10 * kMebibyte);
  EXPECT_FALSE(reserve_.scarce());
}

TEST_F(SpaceReserveTest, IsNeitherSmallNorLarge) {
  env_.SetCapacity(100 * kMebibyte);
  reserve_.Build();
  EXPECT_EQ(Allocated(), 8 * kMebibyte);
  MemoryEnv large;
  SpaceReserve reserve(large, "/", "/reserve");
  reserve.Build();
  EXPECT_EQ(large.Info("/reserve")->allocated_bytes, 24 * kMebibyte);
}

TEST_F(SpaceReserveTest, ReleaseGivesTheBlocksBackOnceAndMakesSpaceScarce) {
  reserve_.Build();
  Fill(190 * kMebibyte);
  EXPECT_TRUE(reserve_.Release());
  EXPECT_EQ(Allocated(), 0u);
  EXPECT_TRUE(reserve_.scarce());
  Fill(200 * kMebibyte - 4096);
  EXPECT_FALSE(reserve_.Release());
  EXPECT_TRUE(reserve_.scarce());
}

// LevelDB's log and a compaction may find the filesystem full at the same time.
TEST_F(SpaceReserveTest, WhoComesRightAfterItWasGivenUpHasRoomToo) {
  reserve_.Build();
  Fill(190 * kMebibyte);
  EXPECT_TRUE(reserve_.Release());
  EXPECT_TRUE(reserve_.Release());
}

TEST_F(SpaceReserveTest, WhatCouldNotBeGivenUpIsStillThere) {
  reserve_.Build();
  Fill(190 * kMebibyte);
  for (const Op op : {Op::kOpen, Op::kTruncate}) {
    Fault fault;
    fault.ops = op;
    fault.path_contains = "reserve";
    env_.AddFault(fault);
    EXPECT_FALSE(reserve_.Release());
    EXPECT_EQ(Allocated(), 10 * kMebibyte);
    EXPECT_TRUE(reserve_.scarce());
    Fill(100 * kMebibyte);
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    EXPECT_FALSE(reserve_.scarce());
    EXPECT_EQ(Allocated(), 10 * kMebibyte);
    Fill(190 * kMebibyte);
  }
  EXPECT_TRUE(reserve_.Release());
  EXPECT_EQ(Allocated(), 0u);
}

TEST_F(SpaceReserveTest, IsBuiltAnewWhenThereIsRoomForMoreThanItself) {
  reserve_.Build();
  Fill(190 * kMebibyte);
  ASSERT_TRUE(reserve_.Release());
  EXPECT_TRUE(reserve_.scarce());
  // Room for the reserve alone is not enough: the next write would be where we are.
  Fill(188 * kMebibyte);
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  EXPECT_TRUE(reserve_.scarce());
  EXPECT_EQ(Allocated(), 0u);
  Fill(100 * kMebibyte);
  EXPECT_FALSE(ScarceEvenAfterAWhile(false));
  EXPECT_EQ(Allocated(), 10 * kMebibyte);
  EXPECT_TRUE(reserve_.Release());
}

TEST_F(SpaceReserveTest, AFullFilesystemIsScarceFromTheStart) {
  Fill(200 * kMebibyte - 4096);
  reserve_.Build();
  EXPECT_TRUE(reserve_.scarce());
  EXPECT_EQ(Allocated(), 0u);
  EXPECT_FALSE(reserve_.Release());
}

TEST_F(SpaceReserveTest, WhatAnEarlierProcessReservedIsTakenOver) {
  reserve_.Build();
  Fill(184 * kMebibyte);
  SpaceReserve next(env_, "/", "/reserve");
  next.Build();
  EXPECT_FALSE(next.scarce());
  EXPECT_TRUE(next.Release());
  EXPECT_EQ(Allocated(), 0u);
}

TEST_F(SpaceReserveTest, AdoptedItIsGivenUpLikeOneThatWasBuilt) {
  SpaceReserve(env_, "/", "/reserve").Build();
  Fill(190 * kMebibyte);
  reserve_.Adopt();
  reserve_.Build();
  EXPECT_FALSE(reserve_.scarce());
  EXPECT_TRUE(reserve_.Release());
  EXPECT_EQ(Allocated(), 0);
}

TEST_F(SpaceReserveTest, OneThatWasGivenUpIsNotAdopted) {
  {
    SpaceReserve earlier(env_, "/", "/reserve");
    earlier.Build();
    ASSERT_TRUE(earlier.Release());
  }
  Fill(195 * kMebibyte);
  reserve_.Adopt();
  reserve_.Build();
  EXPECT_TRUE(reserve_.scarce());
}

TEST_F(SpaceReserveTest, WithoutPreallocationThereIsNoReserveAndNoScarcity) {
  Fault fault;
  fault.ops = Op::kAllocate;
  fault.forever = true;
  fault.error = EOPNOTSUPP;
  env_.AddFault(fault);
  reserve_.Build();
  EXPECT_FALSE(reserve_.scarce());
  env_.SetCapacity(0);
  EXPECT_FALSE(reserve_.Release());
}

}  // namespace
}  // namespace cairn
