// A store directory from nothing to its closing, with refusals and power cuts on the way.
#include "src/warm/warm_store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <numeric>
#include <random>
#include <thread>
#include <vector>

#include "src/env/memory_env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

const std::string kDir = "/store";

Result<std::unique_ptr<WarmStore>> OpenStore(Env& env, bool create,
                                             const std::string& holder = "in use by a test") {
  WarmStoreOptions options;
  options.create = create;
  options.holder = holder;
  return WarmStore::Open(env, kDir, options);
}

// A whole store with its root and without a file, which a reopening finds again.
void ExpectUsable(MemoryEnv& env) {
  auto store = OpenStore(env, true);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  ASSERT_EQ((*store)->index().GetInode(kRootInode)->kind, FileKind::kDirectory);
  auto extent = (*store)->extents().Open({BranchId(0xff), Epoch(1), SegmentIndex(0)},
                                         ExtentStore::Mode::kCreate, 0);
  ASSERT_TRUE(extent.ok()) << extent.status().ToString();
  ASSERT_TRUE((*extent)->Sync().ok());
  ASSERT_TRUE((*store)->Close().ok());
  const auto uuid = (*store)->superblock().uuid;
  store->reset();
  store = OpenStore(env, false);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  EXPECT_TRUE((*store)->was_clean());
  EXPECT_EQ((*store)->superblock().uuid, uuid);
}

TEST(WarmStore, IsLaidOutAndFoundAgain) {
  MemoryEnv env;
  ExpectUsable(env);
  env.PowerCut(5);
  auto store = OpenStore(env, false);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  EXPECT_FALSE((*store)->superblock().formatting);
}

TEST(WarmStore, IsNotMadeWithoutBeingAskedTo) {
  MemoryEnv env;
  EXPECT_EQ(CodeOf(OpenStore(env, false)), Code::kNotFound);
  EXPECT_FALSE(env.Exists(kDir));
  ASSERT_TRUE(env.CreateDir(kDir).ok());
  EXPECT_EQ(CodeOf(OpenStore(env, false)), Code::kNotFound);
  EXPECT_FALSE(env.Exists(kDir + "/superblock"));
}

TEST(WarmStore, ASecondOpeningIsBusyAndNamesTheHolder) {
  MemoryEnv env;
  auto store = OpenStore(env, true, "mounted at /mnt by process 42");
  ASSERT_TRUE(store.ok());
  const auto second = OpenStore(env, true, "mounted at /elsewhere");
  EXPECT_EQ(CodeOf(second), Code::kBusy);
  EXPECT_NE(second.status().context().find("mounted at /mnt by process 42"), std::string::npos)
      << second.status().ToString();
  store->reset();
  EXPECT_TRUE(OpenStore(env, true, "short").ok());
  EXPECT_EQ(*env.ReadWhole(kDir + "/lock", 100), "short");
}

TEST(WarmStore, AForeignDirectoryIsRefusedAndUntouched) {
  for (const bool create : {true, false}) {
    MemoryEnv env;
    ASSERT_TRUE(env.CreateDir(kDir).ok());
    MakeFile(env, kDir + "/thesis.txt", "years of work");
    const uint64_t before = env.mutation_count();
    const auto store = OpenStore(env, create);
    EXPECT_EQ(CodeOf(store), Code::kInvalid);
    EXPECT_NE(store.status().context().find("thesis.txt"), std::string::npos);
    EXPECT_EQ(env.mutation_count(), before);
    EXPECT_EQ(env.List(kDir)->size(), 1u);
  }
}

TEST(WarmStore, WhatProgramsAroundItLeaveIsNoObstacle) {
  MemoryEnv env;
  ASSERT_TRUE(env.CreateDir(kDir).ok());
  ASSERT_TRUE(env.CreateDir(kDir + "/lost+found").ok());
  MakeFile(env, kDir + "/log", "a line\n");
  MakeFile(env, kDir + "/superblock.tmp", "half");
  ExpectUsable(env);
  EXPECT_EQ(*env.ReadWhole(kDir + "/log", 100), "a line\n");
}

TEST(WarmStore, DataWithoutASuperblockIsCorruptAndUntouched) {
  for (const std::string lost : {"/superblock", "/index/CURRENT"}) {
    MemoryEnv env;
    ExpectUsable(env);
    ASSERT_TRUE(env.RemoveBehindBack(kDir + lost).ok());
    const std::vector<std::string> files = env.AllFiles();
    const auto store = OpenStore(env, true);
    EXPECT_EQ(CodeOf(store), Code::kCorrupt);
    EXPECT_NE(store.status().context().find(lost), std::string::npos);
    EXPECT_EQ(env.AllFiles(), files);
  }
}

TEST(WarmStore, ACurrentThatCannotBeLookedAtIsNotMissing) {
  MemoryEnv env;
  ExpectUsable(env);
  Fault fault;
  fault.ops = Op::kQuery;
  fault.path_contains = "/index/CURRENT";
  env.AddFault(fault);
  EXPECT_EQ(CodeOf(OpenStore(env, false)), Code::kIo);
  EXPECT_TRUE(OpenStore(env, false).ok());
}

// To give it up and build it anew makes the host write, which is much to wait for.
TEST(WarmStore, AnOpeningThatHasRoomLeavesTheReserveAsItIs) {
  MemoryEnv env;
  ExpectUsable(env);
  env.SetHook([](Op op, const std::string& path) {
    EXPECT_FALSE(path == kDir + "/reserve" && op != Op::kQuery);
  });
  const auto store = OpenStore(env, false);
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  EXPECT_FALSE((*store)->reserve().scarce());
}

TEST(WarmStore, ADamagedSuperblockIsCorruptAndNotLaidOutAnew) {
  MemoryEnv env;
  ExpectUsable(env);
  ASSERT_TRUE(env.FlipByte(kDir + "/superblock", 75).ok());
  EXPECT_EQ(CodeOf(OpenStore(env, true)), Code::kCorrupt);
  ASSERT_TRUE(env.FlipByte(kDir + "/superblock", 75).ok());
  EXPECT_TRUE(OpenStore(env, false).ok());
}

TEST(WarmStore, ADamagedLogOfAClosedStoreIsCorruptAndNamed) {
  MemoryEnv env;
  ExpectUsable(env);
  ASSERT_TRUE((*OpenStore(env, false))->Close().ok());
  std::string log;
  const auto names = env.List(kDir + "/index");
  ASSERT_TRUE(names.ok());
  for (const std::string& name : *names) {
    if (name.ends_with(".log")) log = kDir + "/index/" + name;
  }
  // A record at the very end, which after a crash would pass for a torn one.
  const uint64_t size = env.Info(log)->size;
  ASSERT_GT(size, 0u);
  ASSERT_TRUE(env.FlipByte(log, size - 1).ok());
  const auto store = OpenStore(env, false);
  EXPECT_EQ(CodeOf(store), Code::kCorrupt);
  EXPECT_NE(store.status().context().find(log), std::string::npos);
}

TEST(WarmStore, CountsTheOpeningsThatFoundItUnclosed) {
  MemoryEnv env;
  auto store = OpenStore(env, true);
  ASSERT_TRUE(store.ok());
  const uint64_t first = (*store)->crash_count();
  for (uint64_t crash = 1; crash <= 4; ++crash) {
    store->reset();
    if (crash % 2 == 0) env.PowerCut(crash);
    store = OpenStore(env, false);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    EXPECT_FALSE((*store)->was_clean());
    EXPECT_EQ((*store)->crash_count(), first + crash);
    ASSERT_TRUE((*store)->Close().ok());
    store->reset();
    env.PowerCut(100 + crash);
    store = OpenStore(env, false);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    EXPECT_TRUE((*store)->was_clean());
    EXPECT_EQ((*store)->crash_count(), first + crash);
  }
}

TEST(WarmStore, AnIndexThatFailedIsNotClosedCleanly) {
  MemoryEnv env;
  auto store = OpenStore(env, true);
  ASSERT_TRUE(store.ok());
  const uint64_t crashes = (*store)->crash_count();
  Fault fault;
  fault.ops = Op::kSync;
  env.AddFault(fault);
  IndexBatch batch;
  batch.PutCounter("x", 1);
  EXPECT_FALSE((*store)->index().Commit(batch).ok());
  env.ClearFaults();
  EXPECT_EQ(CodeOf((*store)->Close()), Code::kIo);
  store->reset();
  store = OpenStore(env, false);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  EXPECT_FALSE((*store)->was_clean());
  EXPECT_EQ((*store)->crash_count(), crashes + 1);
}

// LevelDB's own thread meets the error, after the last commit, and tells nobody.
TEST(WarmStore, AfterAFailedWriteInTheBackgroundItIsNotClosedCleanly) {
  for (const std::string target : {"/index/MANIFEST-", ".ldb"}) {
    MemoryEnv env;
    auto store = OpenStore(env, true);
    ASSERT_TRUE(store.ok());
    std::promise<void> committed;
    const std::shared_future<void> go_on = committed.get_future();
    std::atomic<bool> has_work{false};
    std::atomic<bool> reached{false};
    env.SetHook([&](Op op, const std::string& path) {
      if (op == Op::kOpen && path.ends_with(".log")) has_work = true;
      if (op != Op::kSync || path.find(target) == std::string::npos) return;
      reached = true;
      go_on.wait();
    });
    Fault fault;
    fault.ops = Op::kSync;
    fault.path_contains = target;
    env.AddFault(fault);
    for (uint64_t n = 0; !has_work; ++n) {
      IndexBatch batch;
      batch.PutXattr(InodeId(n), "user.x", std::string(20'000, 'x'));
      ASSERT_TRUE((*store)->index().Commit(batch).ok());
    }
    // Had it not got there yet, the closing would keep it from going there.
    while (!reached) std::this_thread::yield();
    committed.set_value();
    EXPECT_EQ(CodeOf((*store)->Close()), Code::kIo);
    EXPECT_FALSE(env.Exists(kDir + "/clean"));
    store->reset();
    env.SetHook(nullptr);
    env.PowerCut(1);
    store = OpenStore(env, false);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    EXPECT_TRUE((*store)->index().GetXattr(InodeId(0), "user.x").ok());
  }
}

TEST(WarmStore, AStoreWithoutItsRootIsCorrupt) {
  MemoryEnv env;
  {
    auto store = OpenStore(env, true);
    ASSERT_TRUE(store.ok());
    IndexBatch batch;
    batch.DeleteInode(kRootInode);
    ASSERT_TRUE((*store)->index().Commit(batch).ok());
    ASSERT_TRUE((*store)->Close().ok());
  }
  EXPECT_EQ(CodeOf(OpenStore(env, true)), Code::kCorrupt);
}

// Commits records of kRecordBytes under random keys of `keys` many; as many as make `bytes`.
Status CommitRandomly(Index& index, uint64_t seed, uint64_t keys, uint64_t bytes) {
  constexpr size_t kRecordBytes = 200;
  std::mt19937_64 random(seed);
  for (uint64_t done = 0; done < bytes;) {
    IndexBatch batch;
    for (int i = 0; i < 256; ++i, done += kRecordBytes) {
      std::string value(kRecordBytes, '\0');
      for (char& byte : value) byte = static_cast<char>(random());
      // Spread over all of the keys there are, as branches are.
      const uint64_t key = random() % keys * 0x9e3779b97f4a7c15;
      batch.PutXattr(InodeId(key), "user.x", value);
    }
    CAIRN_RETURN_IF_ERROR(index.Commit(batch));
  }
  return Status::Ok();
}

uint64_t UsedBytes(Env& env) {
  const auto space = env.Space("/");
  return space->total_bytes - space->free_bytes;
}

// A compaction needs more than the small reserve of a small filesystem. Each opening finds what the
// one before left of it, and logs that have to become tables.
TEST(WarmStoreFullDisk, HoweverOftenItIsFilledTheStoreOpensAgainAndGoesOnWhenThereIsRoom) {
  // LevelDB's own thread decides where it ends.
  for (uint64_t seed = 0; seed < 3; ++seed) {
    MemoryEnv env;
    env.SetCapacity(200 << 20);
    auto store = OpenStore(env, true);
    ASSERT_TRUE(store.ok());
    constexpr uint64_t kKeys = 200'000;
    ASSERT_TRUE(CommitRandomly((*store)->index(), 2 * seed, kKeys, 60 << 20).ok());
    // With what LevelDB has yet to compact, there would be room for all that comes.
    for (int tries = 0; tries < 600 && UsedBytes(env) > (100 << 20); ++tries) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    env.SetCapacity(UsedBytes(env));
    for (int round = 0; round < 4; ++round) {
      const Status full = CommitRandomly((*store)->index(), 2 * seed + 1, kKeys, 200 << 20);
      EXPECT_EQ(full.code(), Code::kNoSpace) << full.ToString();
      store->reset();
      store = OpenStore(env, false);
      ASSERT_TRUE(store.ok()) << round << ": " << store.status().ToString();
      EXPECT_TRUE((*store)->index().GetInode(kRootInode).ok());
    }
    // Before there is room, some that free space; then the compaction that waited goes on.
    for (uint64_t n = 0; n < 300; ++n) {
      IndexBatch removal;
      removal.DeleteXattr(InodeId(n), "user.x");
      ASSERT_TRUE((*store)->index().Commit(removal).ok()) << n;
    }
    EXPECT_TRUE((*store)->reserve().scarce());
    const Status closed = (*store)->Close();
    EXPECT_TRUE(closed.ok()) << closed.ToString();
    store->reset();
    store = OpenStore(env, false);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    EXPECT_TRUE((*store)->was_clean());
    env.SetCapacity(UsedBytes(env) + (100 << 20));
    const Status roomy = CommitRandomly((*store)->index(), seed, kKeys, 30 << 20);
    EXPECT_TRUE(roomy.ok()) << roomy.ToString();
    EXPECT_TRUE((*store)->Close().ok());
  }
}

TEST(WarmStoreFullDisk, IsClosedCleanly) {
  MemoryEnv env;
  {
    auto store = OpenStore(env, true);
    ASSERT_TRUE(store.ok());
    env.SetCapacity(UsedBytes(env));
    const Status closed = (*store)->Close();
    EXPECT_TRUE(closed.ok()) << closed.ToString();
  }
  const auto store = OpenStore(env, false);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  EXPECT_TRUE((*store)->was_clean());
}

// The usual way to make a store is to make its directory, and nobody syncs that.
TEST(WarmStore, InADirectoryThatWasJustMadeSurvivesAPowerCut) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    MemoryEnv env;
    ASSERT_TRUE(env.CreateDir(kDir).ok());
    {
      auto store = OpenStore(env, true);
      ASSERT_TRUE(store.ok());
      ASSERT_TRUE((*store)->Close().ok());
    }
    env.PowerCut(seed);
    const auto store = OpenStore(env, false);
    ASSERT_TRUE(store.ok()) << "seed " << seed << ": " << store.status().ToString();
  }
}

TEST(WarmStore, ByAPathThatEndsInASlashSurvivesAPowerCut) {
  for (uint64_t seed = 0; seed < 16; ++seed) {
    MemoryEnv env;
    WarmStoreOptions options;
    options.create = true;
    {
      auto store = WarmStore::Open(env, kDir + "/", options);
      if (!store.ok()) GTEST_SKIP() << "not such a path here: " << store.status().ToString();
      ASSERT_TRUE((*store)->Close().ok());
    }
    env.PowerCut(seed);
    const auto store = OpenStore(env, false);
    ASSERT_TRUE(store.ok()) << "seed " << seed << ": " << store.status().ToString();
  }
}

// Cuts the power at each sync point, then at each change, of the first opening.
void CutWhileLayingOut(bool at_syncs) {
  uint64_t points = 0;
  for (uint64_t n = 0; n == 0 || n <= points; ++n) {
    for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
      SCOPED_TRACE("cut at " + std::to_string(n) + (side == CutSide::kAfter ? " after" : ""));
      MemoryEnv env;
      if (at_syncs) {
        env.CutAtSync(n, side);
      } else {
        env.CutAtOperation(n, side);
      }
      const auto first = OpenStore(env, true).status();
      if (n == 0) {
        points = at_syncs ? env.sync_count() : env.mutation_count();
        ASSERT_TRUE(first.ok()) << first.ToString();
      }
      env.CutAtSync(0, side);
      env.CutAtOperation(0, side);
      env.Restart(n);
      // Whoever may not lay it out finds a store or none, and never damage.
      const auto found = OpenStore(env, false);
      ASSERT_TRUE(found.ok() || CodeOf(found) == Code::kNotFound) << found.status().ToString();
      ASSERT_TRUE(found.ok() || !first.ok());
    }
    MemoryEnv env;
    env.CutAtOperation(at_syncs ? 0 : n, CutSide::kAfter);
    env.CutAtSync(at_syncs ? n : 0, CutSide::kAfter);
    (void)OpenStore(env, true).ok();
    env.CutAtOperation(0, CutSide::kAfter);
    env.CutAtSync(0, CutSide::kAfter);
    env.Restart(n + 1);
    ExpectUsable(env);
    if (testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(points, 10u);
}

TEST(WarmStoreCrash, LayingOutIsCutAtEverySync) { CutWhileLayingOut(true); }
TEST(WarmStoreCrash, LayingOutIsCutAtEveryChange) { CutWhileLayingOut(false); }

// Closing and opening again, cut anywhere: the store opens, and what was committed is there.
TEST(WarmStoreCrash, ClosingAndOpeningIsCutAtEverySync) {
  for (uint64_t n = 1; n <= 20; ++n) {
    for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
      SCOPED_TRACE("cut at sync " + std::to_string(n));
      MemoryEnv env;
      auto store = OpenStore(env, true);
      ASSERT_TRUE(store.ok());
      IndexBatch batch;
      batch.PutCounter("kept", 1);
      ASSERT_TRUE((*store)->index().Commit(batch).ok());
      const uint64_t crashes = (*store)->crash_count();
      env.CutAtSync(n, side);
      const bool closed = (*store)->Close().ok();
      store->reset();
      (void)OpenStore(env, false).ok();
      env.CutAtSync(0, side);
      env.Restart(n);
      store = OpenStore(env, false);
      ASSERT_TRUE(store.ok()) << store.status().ToString();
      EXPECT_EQ(*(*store)->index().GetCounter("kept"), 1u);
      if (!(*store)->was_clean()) {
        EXPECT_GT((*store)->crash_count(), crashes);
      }
      if (!closed && (*store)->was_clean()) {
        EXPECT_EQ((*store)->crash_count(), crashes);
      }
    }
  }
}

}  // namespace
}  // namespace cairn
