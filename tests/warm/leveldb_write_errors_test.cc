// LevelDbEnv when writing fails: full disks, errors that stay, and what is durable when.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <leveldb/db.h>

#include <cerrno>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "src/env/memory_env.h"
#include "src/warm/leveldb_env.h"
#include "src/warm/log_check.h"
#include "tests/warm/leveldb_helpers.h"
#include "tests/warm/log_builder.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using testing::Model;
using testing::OpenDb;
using testing::PutSynced;
using testing::RandomText;
using testing::ReadAll;

class LevelDbFullDisk : public ::testing::TestWithParam<Op> {};

INSTANTIATE_TEST_SUITE_P(Ops, LevelDbFullDisk,
                         ::testing::Values(Op::kWrite, Op::kSync, Op::kOpen, Op::kSyncDir,
                                           Op::kRename));

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
    LevelDbEnv env(memory, [&] { return ++calls > 0; });
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
  LevelDbEnv env(memory, [&] {
    ++calls;
    return false;
  });
  Fault fault = NoSpace(GetParam(), 1);
  fault.forever = true;
  ASSERT_TRUE(memory.CreateDir("/db").ok());
  memory.AddFault(fault);
  const Status status = OpenDb(env, "/db").status();
  EXPECT_EQ(status.code(), Code::kNoSpace) << status.ToString();
  EXPECT_THAT(status.context(), HasSubstr("/db"));
  EXPECT_GE(calls, 1);
}

TEST(LevelDbWriteErrors, ASyncThatFailedForSpaceWritesTheDataAgain) {
  MemoryEnv memory;
  LevelDbEnv env(memory, [] { return true; });
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
