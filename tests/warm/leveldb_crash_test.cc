// Power cuts, killed processes and failing I/O under a LevelDB that writes synced batches.
//
// Checked after each: RepairLogTails and an opening with paranoid checks succeed, the database is
// in the state after all acknowledged batches or after one more, and each batch is whole or absent.
#include <gtest/gtest.h>
#include <leveldb/db.h>
#include <leveldb/write_batch.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "src/env/memory_env.h"
#include "src/warm/leveldb_env.h"
#include "src/warm/log_check.h"

namespace cairn {
namespace {

constexpr uint64_t kSlots = 12;
constexpr int kKeysPerBatch = 3;

// The value of batch `n`: its number, and padding of a length that follows from it. Some batches
// cross several log blocks.
std::string ValueOf(uint64_t n) {
  std::mt19937_64 random(n);
  const size_t padding = random() % (n % 9 == 0 ? 40000 : 2500);
  std::string value = std::to_string(n) + ":";
  for (size_t i = 0; i < padding; ++i) value += static_cast<char>(random());
  return value;
}

std::string KeyOf(uint64_t n, int part) {
  return "slot" + std::to_string(n % kSlots) + "." + std::to_string(part);
}

std::map<std::string, std::string> StateAfter(uint64_t batches) {
  std::map<std::string, std::string> state;
  for (uint64_t n = batches > kSlots ? batches - kSlots + 1 : 1; n <= batches; ++n) {
    for (int part = 0; part < kKeysPerBatch; ++part) state[KeyOf(n, part)] = ValueOf(n);
  }
  if (batches > 0) state["count"] = std::to_string(batches);
  return state;
}

class CrashingDatabase {
 public:
  explicit CrashingDatabase(uint64_t seed) : seed_(seed) {
    EXPECT_TRUE(env_.CreateDir("/db").ok());
    EXPECT_TRUE(env_.SyncDir("/").ok());
    env_.SetSectorTearing(seed % 2 == 1);
  }

  MemoryEnv& env() { return env_; }

  // Opens and writes up to `batches` batches; ends at the first error.
  void Run(int batches) {
    LevelDbEnv leveldb_env(env_);
    Status status = RepairLogTails(env_, "/db");
    std::unique_ptr<leveldb::DB> db;
    if (status.ok()) status = Open(leveldb_env, db);
    for (int i = 0; i < batches && status.ok(); ++i) {
      const uint64_t n = acknowledged_ + 1;
      leveldb::WriteBatch batch;
      for (int part = 0; part < kKeysPerBatch; ++part) batch.Put(KeyOf(n, part), ValueOf(n));
      batch.Put("count", std::to_string(n));
      leveldb::WriteOptions options;
      options.sync = true;
      status = leveldb_env.FromLevelDb(db->Write(options, &batch), "write");
      if (status.ok()) acknowledged_ = n;
    }
    // I/O fails here, nothing is ever damaged.
    EXPECT_TRUE(status.ok() || status.code() == Code::kIo || status.code() == Code::kNoSpace)
        << "seed " << seed_ << ": " << status.ToString();
  }

  // REQUIRES: the power is on. Calls off cuts that were planned and did not come.
  void Verify() {
    env_.CutAtSync(0, CutSide::kBefore);
    env_.CutAtOperation(0, CutSide::kBefore);
    LevelDbEnv leveldb_env(env_);
    const Status repaired = RepairLogTails(env_, "/db");
    ASSERT_TRUE(repaired.ok()) << "seed " << seed_ << ": " << repaired.ToString();
    std::unique_ptr<leveldb::DB> db;
    const Status opened = Open(leveldb_env, db);
    ASSERT_TRUE(opened.ok()) << "seed " << seed_ << ": " << opened.ToString();
    std::map<std::string, std::string> state;
    const std::unique_ptr<leveldb::Iterator> it(db->NewIterator(leveldb::ReadOptions()));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      state.emplace(it->key().ToString(), it->value().ToString());
    }
    ASSERT_TRUE(it->status().ok()) << "seed " << seed_ << ": " << it->status().ToString();
    const uint64_t count = state.contains("count") ? std::stoull(state["count"]) : 0;
    EXPECT_GE(count, acknowledged_) << "seed " << seed_;
    EXPECT_LE(count, acknowledged_ + 1) << "seed " << seed_;
    EXPECT_TRUE(state == StateAfter(count)) << "seed " << seed_ << ": not the state of " << count;
    acknowledged_ = count;
  }

 private:
  static Status Open(LevelDbEnv& env, std::unique_ptr<leveldb::DB>& db) {
    leveldb::Options options;
    options.env = &env;
    options.create_if_missing = true;
    options.paranoid_checks = true;
    options.write_buffer_size = 64 * 1024;
    leveldb::DB* opened = nullptr;
    const leveldb::Status status = leveldb::DB::Open(options, "/db", &opened);
    db.reset(opened);
    return env.FromLevelDb(status, "open");
  }

  const uint64_t seed_;
  MemoryEnv env_;
  uint64_t acknowledged_ = 0;
};

uint64_t Seed() {
  const char* text = std::getenv("CAIRN_SEED");
  const uint64_t seed = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
  std::printf("CAIRN_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

TEST(LevelDbCrash, APowerCutAtEverySyncLosesNothingAcknowledged) {
  constexpr int kBatches = 45;
  uint64_t syncs = 0;
  {
    CrashingDatabase whole(0);
    whole.Run(kBatches);
    syncs = whole.env().sync_count();
  }
  ASSERT_GT(syncs, static_cast<uint64_t>(kBatches));
  for (uint64_t n = 1; n <= syncs; ++n) {
    for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
      const uint64_t seed = 2 * n + (side == CutSide::kAfter ? 1 : 0);
      SCOPED_TRACE("cut at sync " + std::to_string(n));
      CrashingDatabase database(seed);
      database.env().CutAtSync(n, side);
      database.Run(kBatches);
      database.env().Restart(seed);
      database.Verify();
      if (HasFatalFailure()) return;
    }
  }
}

// Several crashes in a row, at any operation, also within recovery from the one before.
TEST(LevelDbCrash, PowerCutsAndKillsAtRandomLoseNothingAcknowledged) {
  std::mt19937_64 random(Seed());
  for (int round = 0; round < 150; ++round) {
    const uint64_t seed = random();
    CrashingDatabase database(seed);
    for (int crash = 0; crash < 5; ++crash) {
      const uint64_t operations = random() % 2 ? 25 : 400;
      const CutSide side = random() % 2 ? CutSide::kBefore : CutSide::kAfter;
      database.env().CutAtOperation(1 + random() % operations, side);
      database.Run(static_cast<int>(random() % 60));
      if (database.env().power_on() && random() % 2) {
        database.env().CutAtOperation(0, side);
        database.env().KillProcess();
      } else {
        database.env().Restart(random());
      }
      if (random() % 3 != 0) continue;  // crash again while it recovers
      database.Verify();
      if (HasFatalFailure()) return;
    }
    database.env().Restart(random());
    database.Verify();
    if (HasFatalFailure()) return;
  }
}

TEST(LevelDbCrash, FailingOperationsLoseNothingAcknowledged) {
  std::mt19937_64 random(Seed());
  const Op ops[] = {Op::kWrite, Op::kTruncate, Op::kSync,   Op::kOpen,
                    Op::kRead,  Op::kRemove,   Op::kRename, Op::kSyncDir};
  for (int round = 0; round < 240; ++round) {
    const uint64_t seed = random();
    CrashingDatabase database(seed);
    for (int life = 0; life < 3; ++life) {
      Fault fault;
      fault.ops = ops[random() % std::size(ops)];
      fault.nth = 1 + random() % 20;
      fault.forever = random() % 2 == 0;
      fault.error = random() % 2 ? EIO : ENOSPC;
      fault.written_bytes = random() % 5000;
      database.env().AddFault(fault);
      database.Run(40);
      database.env().ClearFaults();
      if (random() % 2) database.env().PowerCut(random());
      database.Verify();
      if (HasFatalFailure()) return;
    }
  }
}

// The rename to CURRENT took effect, its sync failed, and LevelDB removes the new MANIFEST.
TEST(LevelDbCrash, AManifestThatCurrentMayNameIsKept) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {
    CrashingDatabase database(seed);
    database.Run(5);
    Fault fault;
    fault.ops = Op::kSyncDir;
    fault.forever = true;
    database.env().SetHook([&](Op op, const std::string& path) {
      if (op == Op::kRename && path.ends_with(".dbtmp")) database.env().AddFault(fault);
    });
    database.Run(5);
    database.env().SetHook(nullptr);
    EXPECT_GE(database.env().fired_fault_count(), 1u);
    database.env().ClearFaults();
    if (seed % 2 == 0) database.env().PowerCut(seed);
    database.Verify();
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace cairn
