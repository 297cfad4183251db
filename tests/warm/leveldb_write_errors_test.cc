// LevelDbEnv when writing fails: full disks, errors that stay, and what is durable when.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <leveldb/db.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "src/env/memory_env.h"
#include "src/warm/leveldb_env.h"
#include "src/warm/log_check.h"
#include "tests/warm/leveldb_helpers.h"
#include "tests/warm/log_builder.h"

namespace cairn {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using testing::Model;
using testing::OpenDb;
using testing::PutSynced;
using testing::RandomText;
using testing::ReadAll;

class LevelDbFullDisk : public ::testing::TestWithParam<Op> {};

INSTANTIATE_TEST_SUITE_P(Ops, LevelDbFullDisk,
                         ::testing::Values(Op::kWrite, Op::kSync, Op::kOpen, Op::kRename));

Fault NoSpace(OpSet ops, uint64_t nth) {
  Fault fault;
  fault.ops = ops;
  fault.nth = nth;
  fault.error = ENOSPC;
  fault.written_bytes = 5;
  // Opening for reading needs no space; logs of a new database are opened for writing only.
  if (ops.Has(Op::kOpen)) fault.path_contains = ".log";
  return fault;
}

TEST_P(LevelDbFullDisk, AFreedReserveLetsEveryOperationGoOn) {
  for (uint64_t nth = 1; nth < 60; nth += 3) {
    MemoryEnv memory;
    int calls = 0;
    LevelDbEnv env(memory, [&](const std::string&) { return ++calls, false; });
    Model model;
    {
      ASSERT_TRUE(memory.CreateDir("/db").ok());
      ASSERT_TRUE(memory.SyncDir("/").ok());
      memory.AddFault(NoSpace(GetParam(), nth));
      auto db = OpenDb(env, "/db");
      ASSERT_TRUE(db.ok()) << nth << ": " << db.status().ToString();
      std::mt19937_64 random(nth);
      for (int i = 0; i < 150; ++i) {
        const std::string key = std::to_string(i);
        model[key] = RandomText(random, 1000);
        const leveldb::Status status = PutSynced(**db, key, model[key]);
        ASSERT_TRUE(status.ok()) << nth << ": " << status.ToString();
      }
    }
    EXPECT_EQ(static_cast<uint64_t>(calls), memory.fired_fault_count());
    memory.ClearFaults();
    memory.PowerCut(nth);
    ASSERT_TRUE(RepairLogTails(memory, "/db").ok());
    auto db = OpenDb(env, "/db");
    ASSERT_TRUE(db.ok()) << nth << ": " << db.status().ToString();
    EXPECT_TRUE(ReadAll(**db) == model) << nth;
  }
}

TEST_P(LevelDbFullDisk, WithoutAReserveTheCodeComesBack) {
  MemoryEnv memory;
  int calls = 0;
  LevelDbEnv env(memory, [&](const std::string&) { return ++calls, false; });
  Fault fault = NoSpace(GetParam(), 1);
  fault.forever = true;
  ASSERT_TRUE(memory.CreateDir("/db").ok());
  memory.AddFault(fault);
  const Status status = OpenDb(env, "/db").status();
  EXPECT_EQ(status.code(), Code::kNoSpace) << status.ToString();
  EXPECT_THAT(status.context(), HasSubstr("/db"));
  EXPECT_GE(calls, 1);
}

// Others may take what was made before the log is written again.
TEST(LevelDbWriteErrors, ALogIsTriedForAsLongAsSpaceIsMade) {
  MemoryEnv memory;
  int calls = 0;
  LevelDbEnv env(memory, [&](const std::string&) {
    if (++calls == 3) memory.ClearFaults();
    return calls < 3;
  });
  auto db = OpenDb(env, "/db");
  ASSERT_TRUE(db.ok());
  Fault fault = NoSpace(Op::kWrite, 1);
  fault.forever = true;
  memory.AddFault(fault);
  EXPECT_TRUE(PutSynced(**db, "key", "value").ok());
  EXPECT_EQ(calls, 3);
}

TEST(LevelDbWriteErrors, ASyncThatFailedForSpaceWritesTheDataAgain) {
  MemoryEnv memory;
  LevelDbEnv env(memory, [](const std::string&) { return false; });
  leveldb::WritableFile* raw = nullptr;
  ASSERT_TRUE(env.NewWritableFile("/000001.log", &raw).ok());
  const std::unique_ptr<leveldb::WritableFile> file(raw);
  ASSERT_TRUE(file->Append("synced").ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(file->Append("lost").ok());
  ASSERT_TRUE(file->Flush().ok());
  memory.AddFault(NoSpace(Op::kSync, 1));
  const uint64_t before = memory.operation_count(Op::kWrite);
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(memory.operation_count(Op::kWrite), before + 1);
  EXPECT_EQ(*memory.DurableBytes("/000001.log"), "syncedlost");
}

// The second one would succeed and have written nothing.
TEST(LevelDbWriteErrors, ASyncOfADirectoryIsNotTriedAgain) {
  MemoryEnv memory;
  int calls = 0;
  LevelDbEnv env(memory, [&](const std::string&) { return ++calls, true; });
  leveldb::WritableFile* raw = nullptr;
  ASSERT_TRUE(env.NewWritableFile("/000001.log", &raw).ok());
  const std::unique_ptr<leveldb::WritableFile> file(raw);
  ASSERT_TRUE(file->Append("data").ok());
  memory.AddFault(NoSpace(Op::kSyncDir, 1));
  EXPECT_FALSE(file->Sync().ok());
  ASSERT_TRUE(env.NewWritableFile("/CURRENT.new", &raw).ok());
  delete raw;
  memory.AddFault(NoSpace(Op::kSyncDir, 1));
  EXPECT_FALSE(env.RenameFile("/CURRENT.new", "/CURRENT").ok());
  EXPECT_EQ(memory.fired_fault_count(), 2u);
  EXPECT_EQ(calls, 0);
  EXPECT_FALSE(env.write_failure().ok());
}

// A compaction without space. The database of these tests has write buffers of 64 KiB.
class LevelDbSpaceWait : public ::testing::Test {
 protected:
  void SetUp() override {
    auto db = OpenDb(env_, "/db");
    ASSERT_TRUE(db.ok());
    db_ = std::move(*db);
  }
  void TearDown() override { env_.StopWaiting(); }
  Status Put(int number) {
    const std::string key = std::to_string(number);
    std::string value = RandomText(random_, 1000);
    env_.ChangeBegins();
    const leveldb::Status status = PutSynced(*db_, key, value);
    env_.ChangeEnds();
    if (status.ok()) model_[key] = std::move(value);
    return env_.FromLevelDb(status, "put");
  }
  // More than one buffer and less than two: the worker has something to do, and no change waits.
  void FillABuffer() {
    for (int i = 0; i < 90; ++i) ASSERT_TRUE(Put(i).ok());
  }
  bool Becomes(const std::function<bool()>& condition) {
    for (int i = 0; i < 6000 && !condition(); ++i) std::this_thread::sleep_for(5ms);
    return condition();
  }
  void FailTables(Op op = Op::kWrite) {
    Fault fault = NoSpace(op, 1);
    fault.path_contains = ".ldb";
    fault.forever = true;
    memory_.AddFault(fault);
  }
  int Tables() {
    const auto names = memory_.List("/db");
    return static_cast<int>(
        std::count_if(names->begin(), names->end(),
                      [](const std::string& name) { return name.ends_with(".ldb"); }));
  }

  std::mt19937_64 random_{1};
  MemoryEnv memory_;
  std::atomic<bool> room_{true};
  std::atomic<int> asked_{0};
  std::atomic<int> released_{0};
  LevelDbEnv env_{memory_, [this](const std::string&) { return ++released_, false; },
                  [this] {
                    ++asked_;
                    return room_.load();
                  }};
  std::unique_ptr<leveldb::DB> db_;
  Model model_;
};

TEST_F(LevelDbSpaceWait, BeforeThereIsRoomNothingIsWrittenAndChangesGoOn) {
  room_ = false;
  FillABuffer();
  ASSERT_TRUE(Becomes([&] { return asked_ >= 3; }));
  EXPECT_EQ(Tables(), 0);
  ASSERT_TRUE(Put(90).ok());
  room_ = true;
  for (int i = 91; i < 300; ++i) ASSERT_TRUE(Put(i).ok());
  EXPECT_GT(Tables(), 0);
  EXPECT_TRUE(ReadAll(*db_) == model_);
}

class LevelDbSpaceWaitOfTables : public LevelDbSpaceWait,
                                 public ::testing::WithParamInterface<Op> {};

INSTANTIATE_TEST_SUITE_P(Ops, LevelDbSpaceWaitOfTables, ::testing::Values(Op::kWrite, Op::kSync));

TEST_P(LevelDbSpaceWaitOfTables, OneThatFoundNoSpaceIsTriedUntilThereIsSome) {
  FailTables(GetParam());
  FillABuffer();
  ASSERT_TRUE(Becomes([&] { return released_ >= 3; })) << "space is scarce as long as it waits";
  ASSERT_TRUE(Put(90).ok());
  memory_.ClearFaults();
  for (int i = 91; i < 300; ++i) ASSERT_TRUE(Put(i).ok());
  EXPECT_TRUE(env_.write_failure().ok());
  EXPECT_TRUE(ReadAll(*db_) == model_);
}

TEST_F(LevelDbSpaceWait, AChangeThatHasToWaitForItFailsAfterAWhile) {
  FailTables();
  FillABuffer();
  Status status;
  for (int i = 90; i < 300 && status.ok(); ++i) status = Put(i);
  EXPECT_EQ(status.code(), Code::kNoSpace) << status.ToString();
}

TEST_F(LevelDbSpaceWait, ASlowSyncIsNotHeldBackByIt) {
  FailTables();
  FillABuffer();
  memory_.SetHook([](Op op, const std::string& path) {
    if (op == Op::kSync && path.ends_with(".log")) std::this_thread::sleep_for(6s);
  });
  EXPECT_TRUE(Put(90).ok());
  memory_.SetHook(nullptr);
  memory_.ClearFaults();
  for (int i = 91; i < 300; ++i) ASSERT_TRUE(Put(i).ok());
}

TEST_F(LevelDbSpaceWait, ADatabaseIsClosedMeanwhile) {
  FailTables();
  FillABuffer();
  ASSERT_TRUE(Becomes([&] { return released_ > 0; }));
  env_.StopWaiting();
  db_.reset();
  EXPECT_TRUE(env_.write_failure().ok()) << "the log has it all";
  memory_.ClearFaults();
  auto db = OpenDb(env_, "/db");
  ASSERT_TRUE(db.ok()) << db.status().ToString();
  EXPECT_TRUE(ReadAll(**db) == model_);
  db_ = std::move(*db);
  for (int i = 90; i < 300; ++i) ASSERT_TRUE(Put(i).ok());
}

class LevelDbStickyErrors : public ::testing::TestWithParam<Op> {};

INSTANTIATE_TEST_SUITE_P(Ops, LevelDbStickyErrors, ::testing::Values(Op::kWrite, Op::kSync));

// One failed append, then a working disk: LevelDB alone would go on with a log out of step.
TEST_P(LevelDbStickyErrors, AfterAFailedAppendNothingIsWrittenUntilReopened) {
  MemoryEnv memory;
  LevelDbEnv env(memory);
  {
    auto db = OpenDb(env, "/db");
    ASSERT_TRUE(db.ok());
    ASSERT_TRUE(PutSynced(**db, "before", "1").ok());
    Fault fault;
    fault.ops = GetParam();
    fault.written_bytes = 9;
    fault.path_contains = ".log";
    memory.AddFault(fault);
    EXPECT_EQ(env.FromLevelDb(PutSynced(**db, "failed", "2"), "put").code(), Code::kIo);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(env.FromLevelDb(PutSynced(**db, "after", "3"), "put").code(), Code::kIo);
      // Asks for a new log.
      (*db)->CompactRange(nullptr, nullptr);
    }
  }
  EXPECT_EQ(memory.fired_fault_count(), 1u);
  ASSERT_TRUE(RepairLogTails(memory, "/db").ok());
  auto db = OpenDb(env, "/db");
  ASSERT_TRUE(db.ok()) << db.status().ToString();
  const Model model = ReadAll(**db);
  EXPECT_TRUE(model.contains("before"));
  EXPECT_FALSE(model.contains("after"));
  EXPECT_TRUE(PutSynced(**db, "again", "4").ok());
}

TEST(LevelDbDurability, TheFirstSyncMakesContentsThenNameDurable) {
  MemoryEnv memory;
  LevelDbEnv env(memory);
  leveldb::WritableFile* raw = nullptr;
  ASSERT_TRUE(env.NewWritableFile("/000001.log", &raw).ok());
  const std::unique_ptr<leveldb::WritableFile> file(raw);
  std::vector<Op> order;
  memory.SetHook([&](Op op, const std::string&) {
    if (op == Op::kSync || op == Op::kSyncDir) order.push_back(op);
  });
  ASSERT_TRUE(file->Append("a").ok());
  EXPECT_EQ(memory.DurableBytes("/000001.log").status().code(), Code::kNotFound);
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(*memory.DurableBytes("/000001.log"), "a");
  ASSERT_TRUE(file->Append("b").ok());
  ASSERT_TRUE(file->Sync().ok());
  EXPECT_EQ(order, (std::vector<Op>{Op::kSync, Op::kSyncDir, Op::kSync}));
}

TEST(LevelDbErrors, AreMappedBackByKind) {
  MemoryEnv memory;
  LevelDbEnv env(memory);
  const auto map = [&](const leveldb::Status& s) { return env.FromLevelDb(s, "what").code(); };
  EXPECT_EQ(map(leveldb::Status::OK()), Code::kOk);
  EXPECT_EQ(map(leveldb::Status::NotFound("x")), Code::kNotFound);
  EXPECT_EQ(map(leveldb::Status::Corruption("x")), Code::kCorrupt);
  EXPECT_EQ(map(leveldb::Status::InvalidArgument("x")), Code::kInvalid);
  EXPECT_EQ(map(leveldb::Status::NotSupported("x")), Code::kUnsupported);
  EXPECT_EQ(map(leveldb::Status::IOError("x")), Code::kIo);
  const leveldb::Status reported = env.Report(Status(Code::kReadOnly, "/a: write", EROFS));
  const Status back = env.FromLevelDb(reported, "what");
  EXPECT_EQ(back.code(), Code::kReadOnly);
  EXPECT_EQ(back.sys_errno(), EROFS);
  EXPECT_EQ(back.context(), "what: /a: write");
}

}  // namespace
}  // namespace cairn
