// The index: batches, walks, and numbers that are never given out twice.
#include "src/warm/index.h"

#include <gtest/gtest.h>

#include <map>
#include <new>
#include <set>
#include <tuple>
#include <vector>

#include "src/env/memory_env.h"
#include "src/warm/log_check.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

constexpr const char* kDir = "/index";

Result<std::unique_ptr<Index>> OpenIndex(MemoryEnv& env) {
  CAIRN_RETURN_IF_ERROR(RepairLogTails(env, kDir));
  IndexOptions options;
  options.create = true;
  options.write_buffer_bytes = 64 << 10;
  return Index::Open(env, kDir, options);
}

class IndexTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(env_.CreateDir(kDir).ok());
    ASSERT_TRUE(env_.SyncDir("/").ok());
    Reopen();
  }
  void Reopen() {
    index_.reset();
    auto index = OpenIndex(env_);
    ASSERT_TRUE(index.ok()) << index.status().ToString();
    index_ = std::move(*index);
  }
  void Commit(const IndexBatch& batch) {
    const Status status = index_->Commit(batch);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  MemoryEnv env_;
  std::unique_ptr<Index> index_;
};

TEST_F(IndexTest, WhatWasPutIsFoundAlsoAfterReopeningAndGoneWhenDeleted) {
  InodeRecord inode;
  inode.size = 12345;
  BranchRecord branch;
  branch.inode = InodeId(7);
  IndexBatch batch;
  batch.PutInode(InodeId(7), inode);
  batch.PutBranch(BranchId(8), branch);
  batch.PutName(kRootInode, "disk", InodeId(7));
  batch.PutXattr(InodeId(7), "user.x", std::string("\0y", 2));
  batch.PutOrphan(InodeId(9));
  batch.PutCounter("some", 99);
  Commit(batch);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(index_->GetInode(InodeId(7))->size, 12345u);
    EXPECT_EQ(index_->GetBranch(BranchId(8))->inode, InodeId(7));
    EXPECT_EQ(*index_->FindName(kRootInode, "disk"), InodeId(7));
    EXPECT_EQ(*index_->GetXattr(InodeId(7), "user.x"), std::string("\0y", 2));
    EXPECT_TRUE(*index_->HasOrphan(InodeId(9)));
    EXPECT_EQ(*index_->GetCounter("some"), 99u);
    env_.PowerCut(1);
    Reopen();
  }
  IndexBatch removal;
  removal.DeleteInode(InodeId(7));
  removal.DeleteBranch(BranchId(8));
  removal.DeleteName(kRootInode, "disk", InodeId(7));
  removal.DeleteXattr(InodeId(7), "user.x");
  removal.DeleteOrphan(InodeId(9));
  Commit(removal);
  EXPECT_EQ(CodeOf(index_->GetInode(InodeId(7))), Code::kNotFound);
  EXPECT_EQ(CodeOf(index_->GetBranch(BranchId(8))), Code::kNotFound);
  EXPECT_EQ(CodeOf(index_->FindName(kRootInode, "disk")), Code::kNotFound);
  EXPECT_EQ(CodeOf(index_->GetXattr(InodeId(7), "user.x")), Code::kNotFound);
  EXPECT_FALSE(*index_->HasOrphan(InodeId(9)));
}

TEST_F(IndexTest, WhatWasNeverPutIsNotFoundAndCountersStartAtZero) {
  EXPECT_EQ(CodeOf(index_->GetInode(InodeId(7))), Code::kNotFound);
  EXPECT_EQ(CodeOf(index_->FindName(kRootInode, "")), Code::kNotFound);
  EXPECT_EQ(*index_->GetCounter("none"), 0u);
}

TEST_F(IndexTest, RecordsThatCannotBeDecodedAreCorrupt) {
  IndexBatch batch;
  batch.PutRaw(InodeKey(InodeId(7)), "short");
  batch.PutRaw(BranchKey(BranchId(7)), "short");
  batch.PutRaw(NameKey(kRootInode, "x"), "short");
  batch.PutRaw(VersionKey(BranchId(7), ChunkIndex(0), Epoch(1)), "");
  batch.PutRaw(CounterKey("c"), "");
  Commit(batch);
  EXPECT_EQ(CodeOf(index_->GetInode(InodeId(7))), Code::kCorrupt);
  EXPECT_EQ(CodeOf(index_->GetBranch(BranchId(7))), Code::kCorrupt);
  EXPECT_EQ(CodeOf(index_->FindName(kRootInode, "x")), Code::kCorrupt);
  EXPECT_EQ(CodeOf(index_->GetCounter("c")), Code::kCorrupt);
  EXPECT_EQ(CodeOf(index_->ForEachVersion(BranchId(7), ChunkIndex(0), ChunkIndex(0),
                                          [](auto...) { return true; })),
            Code::kCorrupt);
}

using Seen = std::vector<std::tuple<uint64_t, uint64_t, BlockMask>>;

Seen Versions(Index& index, uint64_t branch, uint64_t first, uint64_t last, size_t limit = 1000) {
  Seen seen;
  const Status status =
      index.ForEachVersion(BranchId(branch), ChunkIndex(first), ChunkIndex(last),
                           [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& record) {
                             seen.emplace_back(chunk.value(), epoch.value(), record.extent);
                             return seen.size() < limit;
                           });
  EXPECT_TRUE(status.ok()) << status.ToString();
  return seen;
}

TEST_F(IndexTest, VersionsAreWalkedByChunkNewestFirstWithinOneBranch) {
  IndexBatch batch;
  for (const uint64_t branch : {255, 256, 257}) {
    for (const uint64_t chunk : {0, 1, 255, 256}) {
      for (const uint64_t epoch : {1, 2, 300}) {
        VersionRecord record;
        record.extent = branch << 32 | chunk << 16 | epoch;
        batch.PutVersion(BranchId(branch), ChunkIndex(chunk), Epoch(epoch), record);
      }
    }
  }
  Commit(batch);
  const auto row = [](uint64_t chunk, uint64_t epoch) {
    return std::tuple(chunk, epoch, 256ull << 32 | chunk << 16 | epoch);
  };
  EXPECT_EQ(Versions(*index_, 256, 1, 255),
            (Seen{row(1, 300), row(1, 2), row(1, 1), row(255, 300), row(255, 2), row(255, 1)}));
  EXPECT_EQ(Versions(*index_, 256, 0, ~0ull).size(), 12u);
  EXPECT_EQ(Versions(*index_, 256, 2, 254).size(), 0u);
  EXPECT_EQ(Versions(*index_, 256, 256, 256, 1), Seen{row(256, 300)});
  EXPECT_EQ(Versions(*index_, 258, 0, ~0ull).size(), 0u);
  IndexBatch removal;
  removal.DeleteVersion(BranchId(256), ChunkIndex(256), Epoch(300));
  Commit(removal);
  EXPECT_EQ(Versions(*index_, 256, 256, 256, 1), Seen{row(256, 2)});
}

TEST_F(IndexTest, ChildrenAreWalkedByIdAndGoOnAfterOne) {
  IndexBatch batch;
  for (uint64_t child = 300; child > 200; --child) {
    batch.PutName(InodeId(5), "n" + std::to_string(child), InodeId(child));
    batch.PutName(InodeId(6), "other", InodeId(child + 1000));
  }
  Commit(batch);
  uint64_t after = 0;
  uint64_t next = 201;
  for (int part = 0; part < 20; ++part) {
    int taken = 0;
    ASSERT_TRUE(index_
                    ->ForEachChild(InodeId(5), InodeId(after),
                                   [&](InodeId child, std::string_view name) {
                                     EXPECT_EQ(child, InodeId(next));
                                     EXPECT_EQ(name, "n" + std::to_string(next));
                                     after = next++;
                                     return ++taken < 7;
                                   })
                    .ok());
  }
  EXPECT_EQ(next, 301u);
}

TEST_F(IndexTest, OtherWalksSeeTheirOwnRecordsOnly) {
  const ExtentId extents[] = {{BranchId(4), Epoch(9), SegmentIndex(9)},
                              {BranchId(5), Epoch(1), SegmentIndex(2)},
                              {BranchId(5), Epoch(2), SegmentIndex(0)},
                              {BranchId(6), Epoch(0), SegmentIndex(0)}};
  IndexBatch batch;
  for (const ExtentId& id : extents) batch.PutExtent(id, id.epoch.value() * 100);
  batch.PutOrphan(InodeId(70));
  batch.PutDeadBranch(BranchId(80));
  batch.PutXattr(InodeId(5), "b", "2");
  batch.PutXattr(InodeId(5), "a", "1");
  batch.PutXattr(InodeId(6), "c", "3");
  Commit(batch);
  std::vector<std::pair<ExtentId, uint64_t>> seen;
  ASSERT_TRUE(index_
                  ->ForEachExtent(BranchId(5),
                                  [&](const ExtentId& id, uint64_t size) {
                                    seen.emplace_back(id, size);
                                    return true;
                                  })
                  .ok());
  EXPECT_EQ(seen,
            (std::vector<std::pair<ExtentId, uint64_t>>{{extents[1], 100}, {extents[2], 200}}));
  std::string xattrs;
  ASSERT_TRUE(index_
                  ->ForEachXattr(InodeId(5),
                                 [&](std::string_view name, std::string_view value) {
                                   xattrs += std::string(name) + "=" + std::string(value) + ";";
                                   return true;
                                 })
                  .ok());
  EXPECT_EQ(xattrs, "a=1;b=2;");
  std::vector<uint64_t> ids;
  ASSERT_TRUE(
      index_->ForEachOrphan([&](InodeId id) { return ids.push_back(id.value()), true; }).ok());
  ASSERT_TRUE(
      index_->ForEachDeadBranch([&](BranchId id) { return ids.push_back(id.value()), true; }).ok());
  EXPECT_EQ(ids, (std::vector<uint64_t>{70, 80}));
}

TEST_F(IndexTest, KeysOfReservedAndUnknownLettersAreUnknown) {
  IndexBatch batch;
  batch.PutInode(InodeId(7), {});
  batch.PutDeadBranch(BranchId(8));
  std::set<std::string> expected;
  for (int letter = 0; letter < 256; ++letter) {
    if (std::string_view("BCDEGIJKLMNORSTVX").find(static_cast<char>(letter)) !=
        std::string_view::npos)
      continue;
    expected.insert(static_cast<char>(letter) + std::string("x"));
  }
  for (const std::string& key : expected) batch.PutRaw(key, "");
  Commit(batch);
  std::set<std::string> found;
  ASSERT_TRUE(index_
                  ->ForEachUnknown([&](std::string_view key) {
                    found.emplace(key);
                    return true;
                  })
                  .ok());
  EXPECT_EQ(found, expected);
}

TEST_F(IndexTest, AfterAFailedCommitNoneSucceedsUntilItIsOpenedAgain) {
  IndexBatch batch;
  batch.PutCounter("n", 1);
  Commit(batch);
  Fault fault;
  fault.ops = Op::kSync;
  env_.AddFault(fault);
  batch.PutCounter("n", 2);
  EXPECT_EQ(CodeOf(index_->Commit(batch)), Code::kIo);
  env_.ClearFaults();
  EXPECT_EQ(CodeOf(index_->Commit(batch)), Code::kIo);
  EXPECT_EQ(CodeOf(index_->health()), Code::kIo);
  EXPECT_FALSE(index_->AllocateId().ok());
  Reopen();
  Commit(batch);
  EXPECT_EQ(*index_->GetCounter("n"), 2u);
}

TEST_F(IndexTest, AFullFilesystemAsksForTheReserveAndGoesOn) {
  index_.reset();
  IndexOptions options;
  int asked = 0;
  options.on_no_space = [&](const std::string&) { return ++asked, false; };
  auto index = Index::Open(env_, kDir, options);
  ASSERT_TRUE(index.ok());
  Fault fault;
  fault.ops = Op::kWrite;
  fault.error = ENOSPC;
  env_.AddFault(fault);
  IndexBatch batch;
  batch.PutCounter("n", 1);
  EXPECT_TRUE((*index)->Commit(batch).ok());
  EXPECT_EQ(asked, 1);
}

// One life: commits batches, each of which sets all of a few records to one number, and takes ids
// past a reservation's end.
struct Life {
  uint64_t acknowledged = 0;
  std::set<uint64_t> ids;
  bool repeated = false;

  void Run(MemoryEnv& env) {
    auto index = OpenIndex(env);
    if (!index.ok()) return;
    for (int i = 0; i < 9; ++i) {
      IndexBatch batch;
      for (int part = 0; part < 5; ++part) {
        batch.PutCounter("part" + std::to_string(part), acknowledged + 1);
        // Long enough that some batches cross a block of the log, and tables are written.
        batch.PutXattr(InodeId(3), "x" + std::to_string(part), std::string(4000, 'x'));
      }
      if (!(*index)->Commit(batch).ok()) return;
      ++acknowledged;
      for (int n = 0; n < 600; ++n) {
        const auto id = (*index)->AllocateId();
        if (!id.ok()) return;
        repeated |= !ids.insert(*id).second || *id <= kRootInode.value();
      }
    }
  }
  void Verify(MemoryEnv& env) {
    auto index = OpenIndex(env);
    ASSERT_TRUE(index.ok()) << index.status().ToString();
    const uint64_t number = *(*index)->GetCounter("part0");
    EXPECT_TRUE(number == acknowledged || number == acknowledged + 1) << number;
    for (int part = 1; part < 5; ++part) {
      ASSERT_EQ(*(*index)->GetCounter("part" + std::to_string(part)), number);
    }
    acknowledged = number;
  }
};

// Also one on the lowest level with nothing above it, and one whose first key was deleted since.
TEST_F(IndexTest, ARewrittenTableIsGoneAndItsRecordsAreNot) {
  const auto tables = [&] {
    std::vector<std::string> paths;
    for (const std::string& path : env_.AllFiles()) {
      if (path.ends_with(".ldb")) paths.push_back(path);
    }
    return paths;
  };
  IndexBatch batch;
  for (uint64_t number = 1; number <= 100; ++number) batch.PutOrphan(InodeId(number));
  Commit(batch);
  batch.Clear();
  // More than the write buffer holds: the next change makes it a table, on level 2.
  for (uint64_t number = 0; number < 30; ++number) {
    batch.PutXattr(InodeId(500), "user." + std::to_string(number), std::string(4096, 'x'));
  }
  Commit(batch);
  Reopen();  // what the log holds becomes a table
  batch.Clear();
  batch.DeleteOrphan(InodeId(1));
  Commit(batch);
  Reopen();
  ASSERT_GE(tables().size(), 2u);
  for (int turn = 0; turn < 4; ++turn) {
    for (const std::string& path : tables()) {
      SCOPED_TRACE(path);
      const Status status = index_->RewriteTable(path);
      ASSERT_TRUE(status.ok()) << status.ToString();
      EXPECT_FALSE(env_.Exists(path));
    }
    uint64_t next = 2;
    ASSERT_TRUE(index_->ForEachOrphan([&](InodeId id) { return id.value() == next++; }).ok());
    EXPECT_EQ(next, 101u);
  }
  EXPECT_TRUE(index_->damaged_tables().empty());
}

// Blocks of a table that cannot be read are passed over, and only the end of the walk says so.
class DamagedIndexTest : public IndexTest {
 protected:
  static constexpr uint64_t kWindow = 512;
  static constexpr uint64_t kWindows = 6;

  void SetUp() override {
    IndexTest::SetUp();
    IndexBatch batch;
    for (uint64_t chunk = 0; chunk < kWindow * kWindows; ++chunk) {
      VersionRecord version;
      version.extent = chunk * 0x9e3779b97f4a7c15 + 1;
      batch.PutVersion(BranchId(7), ChunkIndex(chunk), Epoch(1), version);
    }
    Commit(batch);
    Reopen();  // what the log holds becomes a table
  }
  std::vector<std::string> Tables() {
    std::vector<std::string> tables;
    for (const std::string& path : env_.AllFiles()) {
      if (path.ends_with(".ldb")) tables.push_back(path);
    }
    return tables;
  }
  // How many of the walks that end within the records meet the damage; none may miss a record and
  // call it good.
  int FailingWalks() {
    int failing = 0;
    for (uint64_t window = 0; window + 1 < kWindows; ++window) {
      const ChunkIndex first(window * kWindow);
      uint64_t found = 0;
      const Status status = index_->ForEachVersion(
          BranchId(7), first, ChunkIndex(first.value() + kWindow - 1),
          [&](ChunkIndex chunk, Epoch, const VersionRecord&) {
            EXPECT_EQ(chunk.value(), first.value() + found) << "behind a gap";
            ++found;
            return true;
          });
      if (status.ok()) {
        EXPECT_EQ(found, kWindow) << "from chunk " << first.value();
      } else {
        ++failing;
      }
    }
    return failing;
  }
};

TEST_F(DamagedIndexTest, AWalkThatStopsEarlySaysThatItMissedSomething) {
  int failing = 0;
  for (const std::string& table : Tables()) {
    for (uint64_t at = 100; at < env_.Info(table)->size; at += 1500) {
      SCOPED_TRACE(table + " at " + std::to_string(at));
      ASSERT_TRUE(env_.FlipByte(table, at).ok());
      index_.reset();
      auto opened = OpenIndex(env_);
      if (opened.ok()) {
        index_ = std::move(*opened);
        failing += FailingWalks();
      }
      ASSERT_TRUE(env_.FlipByte(table, at).ok());
      if (HasFailure()) return;
    }
  }
  EXPECT_GT(failing, 0);
}

TEST_F(DamagedIndexTest, AWalkThatStopsEarlySaysThatAReadFailed) {
  int failing = 0;
  for (uint64_t n = 1; n <= 40; ++n) {
    SCOPED_TRACE("read " + std::to_string(n));
    Reopen();  // so that nothing is cached
    Fault fault;
    fault.ops = Op::kRead;
    fault.nth = n;
    fault.path_contains = ".ldb";
    env_.AddFault(fault);
    failing += FailingWalks();
    env_.ClearFaults();
    if (HasFailure()) return;
  }
  EXPECT_GT(failing, 0);
}

TEST(IndexCrash, CommitsAreWholeAndIdsNeverRepeatOverCutsAtEverySync) {
  uint64_t syncs = 0;
  for (uint64_t n = 0; n == 0 || n <= syncs; ++n) {
    for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
      SCOPED_TRACE("cut at sync " + std::to_string(n));
      MemoryEnv env;
      ASSERT_TRUE(env.CreateDir(kDir).ok());
      ASSERT_TRUE(env.SyncDir("/").ok());
      const uint64_t before = env.sync_count();
      env.CutAtSync(n, side);
      Life life;
      life.Run(env);
      if (n == 0) syncs = env.sync_count() - before;
      for (uint64_t again = 0; again < 2; ++again) {
        env.CutAtSync(0, side);
        env.Restart(2 * n + again);
        life.Verify(env);
        if (testing::Test::HasFatalFailure()) return;
        // The next life is cut too, within its first syncs.
        env.CutAtSync(1 + n % 7, side);
        life.Run(env);
      }
      env.CutAtSync(0, side);
      env.Restart(n);
      life.Run(env);
      ASSERT_FALSE(life.repeated);
    }
  }
  EXPECT_GT(syncs, 10u);
}

using IndexDeathTest = IndexTest;

TEST_F(IndexDeathTest, AnExceptionWithinLevelDbEndsTheProcess) {
  IndexBatch batch;
  batch.PutCounter("x", 1);
  const auto commit = [&] {
    env_.SetHook([](Op op, const std::string&) {
      if (op == Op::kWrite) throw std::bad_alloc();
    });
    (void)index_->Commit(batch);
  };
  EXPECT_DEATH(commit(), "");
}

}  // namespace
}  // namespace cairn
