// The reserve on a filesystem that fills up and empties again.
#include "src/warm/space_reserve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "src/env/memory_env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kMebibyte = 1 << 20;

using For = SpaceReserve::For;

class SpaceReserveTest : public ::testing::Test {
 protected:
  void SetUp() override { env_.SetCapacity(kSpace); }

  uint64_t Allocated() {
    const auto info = env_.Info("/reserve");
    return info.ok() ? info->allocated_bytes : 0;
  }
  // Leaves so much free beside the filler.
  void FillBut(uint64_t bytes) {
    auto file = MustOpen(env_, "/filler");
    ASSERT_TRUE(file->Truncate(0).ok());
    const uint64_t free = env_.Space("/")->free_bytes;
    if (free > bytes) {
      ASSERT_TRUE(file->Allocate(0, free - bytes).ok());
    }
  }
  void FailFromNowOn(Op op, int error) {
    Fault fault;
    fault.ops = op;
    fault.forever = true;
    fault.path_contains = "reserve";
    fault.error = error;
    env_.AddFault(fault);
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
  bool ScarceAfterATry() {
    std::this_thread::sleep_for(std::chrono::milliseconds(1100));
    return reserve_.scarce();
  }

  // As a store that went on until there was nothing left.
  void UseUp() {
    reserve_.Build();
    for (const For whom : {For::kCompactions, For::kLogs}) {
      reserve_.Release(whom);
      FillBut(0);
    }
    ASSERT_EQ(Allocated(), kForOpening);
  }

  static constexpr uint64_t kSpace = 400 * kMebibyte;
  static constexpr uint64_t kWhole = 20 * kMebibyte;
  static constexpr uint64_t kForOpening = 12 * kMebibyte;
  static constexpr uint64_t kForLogs = 2 * kMebibyte;

  MemoryEnv env_;
  SpaceReserve reserve_{env_, "/", "/reserve"};
};

TEST_F(SpaceReserveTest, TakesAShareOfTheFilesystem) {
  reserve_.Build();
  EXPECT_EQ(Allocated(), kWhole);
  EXPECT_FALSE(reserve_.scarce());
}

TEST_F(SpaceReserveTest, IsNeitherSmallNorLarge) {
  env_.SetCapacity(100 * kMebibyte);
  reserve_.Build();
  EXPECT_EQ(Allocated(), 16 * kMebibyte);
  MemoryEnv large;
  SpaceReserve reserve(large, "/", "/reserve");
  reserve.Build();
  EXPECT_EQ(large.Info("/reserve")->allocated_bytes, 24 * kMebibyte);
}

TEST_F(SpaceReserveTest, CompactionsAndLogsAreGivenTheirPartsOnceAndSpaceIsScarce) {
  reserve_.Build();
  FillBut(0);
  reserve_.Release(For::kCompactions);
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
  EXPECT_TRUE(reserve_.scarce());
  FillBut(0);
  reserve_.Release(For::kCompactions);
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
  for (int i = 0; i < 3; ++i) {
    reserve_.Release(For::kLogs);
    EXPECT_EQ(Allocated(), kForOpening);
    EXPECT_TRUE(reserve_.scarce());
  }
  reserve_.Release(For::kCompactions);
  EXPECT_EQ(Allocated(), kForOpening);
}

TEST_F(SpaceReserveTest, LogsThatComeFirstAreGivenTheRestFirst) {
  reserve_.Build();
  reserve_.Release(For::kLogs);
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
  EXPECT_TRUE(reserve_.RoomToCompact());
}

TEST_F(SpaceReserveTest, ACompactionWaitsForTheOpeningAndLeavesWhatTheLogsWereGiven) {
  EXPECT_FALSE(reserve_.RoomToCompact());
  reserve_.Build();
  EXPECT_TRUE(reserve_.RoomToCompact());
  reserve_.Release(For::kCompactions);
  FillBut(0);
  EXPECT_TRUE(reserve_.RoomToCompact()) << "of what others gave back, if they did";
  reserve_.Release(For::kLogs);
  EXPECT_FALSE(reserve_.RoomToCompact());
  // The logs' is not taken back from them while there is nothing else.
  EXPECT_TRUE(ScarceAfterATry());
  EXPECT_EQ(Allocated(), kForOpening);
  EXPECT_FALSE(reserve_.RoomToCompact());
  FillBut(2 * kForLogs);
  std::this_thread::sleep_for(std::chrono::milliseconds(1100));
  EXPECT_TRUE(reserve_.RoomToCompact());
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
  EXPECT_TRUE(reserve_.scarce());
}

TEST_F(SpaceReserveTest, WhatCouldNotBeGivenUpIsStillThere) {
  reserve_.Build();
  for (const Op op : {Op::kOpen, Op::kTruncate}) {
    FillBut(0);
    Fault fault;
    fault.ops = op;
    fault.path_contains = "reserve";
    env_.AddFault(fault);
    reserve_.Release(For::kLogs);
    EXPECT_EQ(Allocated(), kWhole);
    EXPECT_TRUE(reserve_.scarce());
    FillBut(100 * kMebibyte);
    EXPECT_FALSE(ScarceAfterATry());
    EXPECT_EQ(Allocated(), kWhole);
  }
  reserve_.Release(For::kLogs);
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
}

TEST_F(SpaceReserveTest, IsBuiltAnewWhenThereIsRoomForMoreThanItself) {
  UseUp();
  // Room for the reserve alone is not enough: the next write would be where we are.
  FillBut(kWhole - kForOpening + 2 * kMebibyte);
  EXPECT_TRUE(ScarceAfterATry());
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
  FillBut(100 * kMebibyte);
  EXPECT_FALSE(ScarceEvenAfterAWhile(false));
  EXPECT_EQ(Allocated(), kWhole);
  reserve_.Release(For::kLogs);
  reserve_.Release(For::kLogs);
  EXPECT_EQ(Allocated(), kForOpening);
}

TEST_F(SpaceReserveTest, AFullFilesystemIsScarceFromTheStart) {
  FillBut(0);
  reserve_.Build();
  EXPECT_TRUE(reserve_.scarce());
  EXPECT_EQ(Allocated(), 0u);
  reserve_.Release(For::kLogs);
  EXPECT_TRUE(reserve_.RoomToCompact());
}

TEST_F(SpaceReserveTest, WhereThereIsLittleThePartsComeFirst) {
  FillBut(20 * kMebibyte);
  reserve_.Build();
  EXPECT_TRUE(reserve_.scarce());
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
}

TEST_F(SpaceReserveTest, OfPartsThatAreSmallTheLogsGetNoMoreThanWhatIsKept) {
  for (const uint64_t space : {9, 3, 1}) {
    MemoryEnv env;
    env.SetCapacity(space * kMebibyte);
    SpaceReserve reserve(env, "/", "/reserve");
    reserve.Build();
    EXPECT_TRUE(reserve.scarce());
    EXPECT_EQ(env.Space("/")->free_bytes, 0u);
    reserve.Release(For::kLogs);
    EXPECT_EQ(env.Space("/")->free_bytes, std::min(kForLogs, space * kMebibyte / 2)) << space;
  }
}

TEST_F(SpaceReserveTest, WhatAnEarlierProcessReservedIsTakenOver) {
  reserve_.Build();
  FillBut(0);
  SpaceReserve next(env_, "/", "/reserve");
  next.Build();
  EXPECT_FALSE(next.scarce());
  next.Release(For::kCompactions);
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
}

TEST_F(SpaceReserveTest, AfterAnOpeningThatHadNoRoomEitherTheLogsAreGivenSomeAgain) {
  UseUp();
  FillBut(0);
  SpaceReserve next(env_, "/", "/reserve");
  next.Build();
  EXPECT_TRUE(next.scarce());
  EXPECT_EQ(Allocated(), kForOpening);
  next.Release(For::kLogs);
  EXPECT_EQ(Allocated(), kForOpening - kForLogs);
}

TEST_F(SpaceReserveTest, TheOpeningMayHaveAllOfIt) {
  UseUp();
  FillBut(0);
  SpaceReserve next(env_, "/", "/reserve");
  next.Release(For::kLogs);
  EXPECT_EQ(Allocated(), 0u);
  FillBut(kForOpening - kMebibyte);
  next.Build();
  EXPECT_TRUE(next.scarce());
  EXPECT_EQ(Allocated(), kForOpening - kMebibyte);
  EXPECT_TRUE(next.RoomToCompact());
  EXPECT_TRUE(next.Release(For::kLogs));
}

TEST_F(SpaceReserveTest, ScarcityEndsAtOnceWhereThereIsRoomButNotTwiceInASecond) {
  reserve_.Build();
  ASSERT_TRUE(reserve_.Release(For::kLogs));
  EXPECT_FALSE(reserve_.scarce());
  EXPECT_EQ(Allocated(), kWhole);
  ASSERT_TRUE(reserve_.Release(For::kLogs));
  EXPECT_TRUE(reserve_.scarce());
  EXPECT_EQ(Allocated(), kForOpening + kForLogs);
  EXPECT_FALSE(ScarceEvenAfterAWhile(false));
  EXPECT_EQ(Allocated(), kWhole);
}

TEST_F(SpaceReserveTest, ALogsPartThatCouldNotBeGivenIsGivenTheNextTime) {
  reserve_.Build();
  ASSERT_TRUE(reserve_.Release(For::kLogs));
  FillBut(0);
  Fault fault;
  fault.ops = Op::kTruncate;
  fault.path_contains = "reserve";
  env_.AddFault(fault);
  EXPECT_FALSE(reserve_.Release(For::kLogs));
  EXPECT_TRUE(reserve_.RoomToCompact());
  EXPECT_TRUE(reserve_.Release(For::kLogs));
  EXPECT_EQ(Allocated(), kForOpening);
}

// As after a copy of the store.
TEST_F(SpaceReserveTest, AFileOfHolesIsNone) {
  ASSERT_TRUE(MustOpen(env_, "/reserve")->Truncate(kWhole).ok());
  reserve_.Build();
  EXPECT_EQ(Allocated(), kWhole);
  EXPECT_FALSE(reserve_.scarce());
}

TEST_F(SpaceReserveTest, OneThatSomebodyRemovedIsBuiltAgain) {
  reserve_.Build();
  FillBut(0);
  ASSERT_TRUE(env_.Remove("/reserve").ok());
  reserve_.Release(For::kLogs);
  FillBut(11 * kMebibyte);
  EXPECT_TRUE(ScarceAfterATry());
  FillBut(100 * kMebibyte);
  EXPECT_FALSE(ScarceEvenAfterAWhile(false));
  EXPECT_EQ(Allocated(), kWhole);
}

TEST_F(SpaceReserveTest, AFailureOfAnotherKindDoesNotEndScarcity) {
  UseUp();
  FillBut(100 * kMebibyte);
  FailFromNowOn(Op::kOpen, EMFILE);
  EXPECT_TRUE(ScarceAfterATry());
  EXPECT_GE(env_.fired_fault_count(), 1u);
  env_.ClearFaults();
  EXPECT_FALSE(ScarceEvenAfterAWhile(false));
  EXPECT_EQ(Allocated(), kWhole);
}

TEST_F(SpaceReserveTest, WherePreallocationIsNoMoreACompactionGoesOnAllTheSame) {
  UseUp();
  FailFromNowOn(Op::kAllocate, EOPNOTSUPP);
  EXPECT_FALSE(reserve_.RoomToCompact());
  ASSERT_TRUE(env_.Remove("/filler").ok());
  EXPECT_FALSE(ScarceEvenAfterAWhile(false));
  EXPECT_TRUE(reserve_.RoomToCompact());
}

TEST_F(SpaceReserveTest, WithoutPreallocationThereIsNoReserveAndScarcityOnlyWithoutSpace) {
  FailFromNowOn(Op::kAllocate, EOPNOTSUPP);
  reserve_.Build();
  EXPECT_FALSE(reserve_.scarce());
  FillBut(4096);
  reserve_.Release(For::kLogs);
  EXPECT_TRUE(ScarceAfterATry());
  EXPECT_TRUE(reserve_.RoomToCompact());
  FillBut(100 * kMebibyte);
  EXPECT_FALSE(ScarceEvenAfterAWhile(false));
}

}  // namespace
}  // namespace cairn
