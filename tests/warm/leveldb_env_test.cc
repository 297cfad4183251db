// LevelDB on LevelDbEnv: what it does when all goes well, and how damage is reported.
#include "src/warm/leveldb_env.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <leveldb/db.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <random>
#include <string>

#include "src/base/blocking.h"
#include "src/env/memory_env.h"
#include "src/warm/leveldb_format.h"
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

// --- The same on both Envs ---

class LevelDbOnEnv : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      std::string pattern = (std::filesystem::temp_directory_path() / "cairn-XXXXXX").string();
      ASSERT_NE(mkdtemp(pattern.data()), nullptr);
      scratch_ = pattern;
      env_ = NewPosixEnv();
    } else {
      env_ = std::make_unique<MemoryEnv>();
    }
    dir_ = scratch_ + "/db";
  }
  void TearDown() override {
    if (!scratch_.empty()) std::filesystem::remove_all(scratch_);
  }

  std::string scratch_;
  std::string dir_;
  std::unique_ptr<Env> env_;
};

INSTANTIATE_TEST_SUITE_P(Envs, LevelDbOnEnv, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "Posix" : "Memory"; });

TEST_P(LevelDbOnEnv, KeepsMegabytesThroughCompactionsAndReopening) {
  std::mt19937_64 random(7);
  Model model;
  for (int life = 0; life < 3; ++life) {
    LevelDbEnv env(*env_);
    ASSERT_TRUE(RepairLogTails(*env_, dir_).ok());
    auto db = OpenDb(env, dir_);
    ASSERT_TRUE(db.ok()) << db.status().ToString();
    ASSERT_TRUE(ReadAll(**db) == model);
    for (int i = 0; i < 2500; ++i) {
      const std::string key = "key" + std::to_string(random() % 3000);
      const std::string value = RandomText(random, random() % 1500);
      ASSERT_TRUE((*db)->Put(leveldb::WriteOptions(), key, value).ok());
      model[key] = value;
    }
    (*db)->CompactRange(nullptr, nullptr);
    EXPECT_TRUE(ReadAll(**db) == model);
    std::string value;
    EXPECT_EQ(env.FromLevelDb((*db)->Get({}, "absent", &value), "get").code(), Code::kNotFound);
  }
  const auto names = env_->List(dir_);
  ASSERT_TRUE(names.ok());
  for (const std::string& name : *names) {
    EXPECT_NE(name, "LOG") << "LevelDB's messages belong into the log of the process";
  }
}

TEST_P(LevelDbOnEnv, ItsLogsAndManifestAreOfTheFormatThatTheCheckKnows) {
  LevelDbEnv env(*env_);
  std::mt19937_64 random(8);
  constexpr int kBatches = 10;
  {
    auto db = OpenDb(env, dir_);
    ASSERT_TRUE(db.ok()) << db.status().ToString();
    for (int i = 0; i < kBatches; ++i) {
      ASSERT_TRUE(PutSynced(**db, std::to_string(i), RandomText(random, 6000)).ok());
    }
  }
  const auto names = env_->List(dir_);
  ASSERT_TRUE(names.ok());
  int logs = 0;
  for (const std::string& name : *names) {
    if (!name.ends_with(".log") && !name.starts_with("MANIFEST-")) continue;
    int records = 0;
    const auto count = [&](uint64_t, std::span<const std::byte>) {
      ++records;
      return Status::Ok();
    };
    const auto check = CheckLog(*env_, dir_ + "/" + name, count);
    ASSERT_TRUE(check.ok());
    EXPECT_EQ(check->damage, LogDamage::kNone) << name;
    if (!name.ends_with(".log")) continue;
    ++logs;
    EXPECT_EQ(records, kBatches);
  }
  EXPECT_EQ(logs, 1);
}

TEST_P(LevelDbOnEnv, TheLockKeepsASecondOpenerOut) {
  LevelDbEnv env(*env_);
  auto db = OpenDb(env, dir_);
  ASSERT_TRUE(db.ok());
  LevelDbEnv other(*env_);
  EXPECT_EQ(OpenDb(other, dir_).status().code(), Code::kBusy);
}

// LevelDB calls Flush after each record: a killed process must lose none.
TEST_P(LevelDbOnEnv, FlushPutsBufferedBytesIntoTheFile) {
  LevelDbEnv env(*env_);
  ASSERT_TRUE(env.CreateDir(dir_).ok());
  leveldb::WritableFile* raw = nullptr;
  ASSERT_TRUE(env.NewWritableFile(dir_ + "/000001.log", &raw).ok());
  const std::unique_ptr<leveldb::WritableFile> file(raw);
  ASSERT_TRUE(file->Append("abc").ok());
  ASSERT_TRUE(file->Flush().ok());
  EXPECT_EQ(*env_->ReadWhole(dir_ + "/000001.log", 100), "abc");
  ASSERT_TRUE(file->Append("defg").ok());
  ASSERT_TRUE(file->Close().ok());
  EXPECT_EQ(*env_->ReadWhole(dir_ + "/000001.log", 100), "abcdefg");
  ASSERT_TRUE(env.NewAppendableFile(dir_ + "/000001.log", &raw).ok());
  const std::unique_ptr<leveldb::WritableFile> appended(raw);
  ASSERT_TRUE(appended->Append("h").ok());
  ASSERT_TRUE(appended->Sync().ok());
  EXPECT_EQ(*env_->ReadWhole(dir_ + "/000001.log", 100), "abcdefgh");
}

class CountingListener final : public BlockingListener {
 public:
  void OnAboutToBlock() noexcept override { ++count; }
  int count = 0;
};

TEST(LevelDbEnvHints, WhoListensIsToldThatAWriterIsHeldBack) {
  MemoryEnv memory;
  LevelDbEnv env(memory);
  CountingListener listener;
  SetBlockingListener(&listener);
  env.SleepForMicroseconds(1);
  SetBlockingListener(nullptr);
  EXPECT_EQ(listener.count, 1);
}

TEST(LevelDbEnvThreads, AnUnusedOneEndsAndScheduledWorkEndsBeforeIt) {
  MemoryEnv memory;
  { LevelDbEnv unused(memory); }
  std::atomic<int> runs{0};
  {
    LevelDbEnv env(memory);
    const auto run = [](void* counter) { ++*static_cast<std::atomic<int>*>(counter); };
    for (int i = 0; i < 100; ++i) env.Schedule(run, &runs);
    env.StartThread(run, &runs);
  }
  EXPECT_EQ(runs, 101);
}

// --- Damage ---

class LevelDbDamage : public ::testing::Test {
 protected:
  // A database with its data in tables; returns the path of the largest.
  std::string MakeTables() {
    LevelDbEnv env(memory_);
    auto db = OpenDb(env, "/db");
    EXPECT_TRUE(db.ok()) << db.status().ToString();
    std::mt19937_64 random(9);
    for (int i = 0; i < 400; ++i) {
      EXPECT_TRUE(PutSynced(**db, "key" + std::to_string(i), RandomText(random, 1000)).ok());
    }
    (*db)->CompactRange(nullptr, nullptr);
    std::string largest;
    uint64_t largest_size = 0;
    for (const std::string& path : memory_.AllFiles()) {
      const uint64_t size = memory_.Info(path)->size;
      if (path.ends_with(".ldb") && size > largest_size) {
        largest = path;
        largest_size = size;
      }
    }
    EXPECT_FALSE(largest.empty());
    return largest;
  }

  // Opens and reads everything; the first error.
  Status ReadEverything() {
    LevelDbEnv env(memory_);
    auto db = OpenDb(env, "/db");
    damaged_ = env.damaged_tables();
    if (!db.ok()) return db.status();
    const std::unique_ptr<leveldb::Iterator> it((*db)->NewIterator(leveldb::ReadOptions()));
    row_count_ = 0;
    for (it->SeekToFirst(); it->Valid(); it->Next()) ++row_count_;
    damaged_ = env.damaged_tables();
    return env.FromLevelDb(it->status(), "walk");
  }

  MemoryEnv memory_;
  // What ReadEverything found.
  int row_count_ = 0;
  std::map<std::string, Status> damaged_;
};

TEST_F(LevelDbDamage, AFlippedByteInATableNamesTheTable) {
  const std::string table = MakeTables();
  ASSERT_TRUE(ReadEverything().ok());
  const uint64_t size = memory_.Info(table)->size;
  for (uint64_t at = 0; at < size; at += at + 300 < size ? 4001 : 1) {
    ASSERT_TRUE(memory_.FlipByte(table, at).ok());
    const Status status = ReadEverything();
    ASSERT_TRUE(memory_.FlipByte(table, at).ok());
    ASSERT_TRUE(damaged_.contains(table)) << at;
    EXPECT_THAT(damaged_.at(table).context(), HasSubstr(table)) << at;
    if (status.ok() && at >= size - kTableFooterBytes) {
      EXPECT_EQ(row_count_, 400) << at;  // what no record needs
      continue;
    }
    EXPECT_EQ(status.code(), Code::kCorrupt) << at << ": " << status.ToString();
    EXPECT_THAT(status.context(), HasSubstr(table)) << at;
  }
  EXPECT_TRUE(ReadEverything().ok());
  EXPECT_TRUE(damaged_.empty());
}

TEST_F(LevelDbDamage, EachFlippedBitOfAFooterIsNoticedAndTheUnneededOnesDoNoHarm) {
  const std::string table = MakeTables();
  const uint64_t offset = memory_.Info(table)->size - kTableFooterBytes;
  std::array<std::byte, kTableFooterBytes> footer;
  ASSERT_EQ(*(*memory_.Open(table, OpenMode::kReadOnly))->ReadAt(offset, footer), footer.size());
  EXPECT_EQ(CheckTableFooter(footer, offset), TableFooter::kGood);
  EXPECT_EQ(CheckTableFooter(footer, offset + 1), TableFooter::kBad);
  const auto flip = [&](size_t bit) { footer[bit / 8] ^= std::byte{1} << bit % 8; };
  int usable_places = 0;
  for (size_t bit = 0; bit < footer.size() * 8; ++bit) {
    SCOPED_TRACE(bit);
    flip(bit);
    const TableFooter found = CheckTableFooter(footer, offset);
    EXPECT_NE(found, TableFooter::kGood);
    if (found == TableFooter::kUsable) {
      ASSERT_TRUE((*memory_.Open(table, OpenMode::kReadWrite))->WriteAt(offset, footer).ok());
      EXPECT_TRUE(ReadEverything().ok());
      EXPECT_EQ(row_count_, 400);
      EXPECT_TRUE(damaged_.contains(table));
    }
    std::span<const std::byte> rest = footer;
    const auto metaindex = TakeTableBlock(rest);
    const size_t metaindex_end = footer.size() - rest.size();
    TakeTableBlock(rest);
    if (bit / 8 < metaindex_end && bit % 8 != 7) {
      EXPECT_EQ(found, metaindex->size > offset ? TableFooter::kBad : TableFooter::kUsable);
      if (found == TableFooter::kUsable) ++usable_places;
    } else if (bit / 8 >= footer.size() - 8) {
      EXPECT_EQ(found, TableFooter::kBad);
    } else if (bit / 8 >= footer.size() - rest.size()) {
      EXPECT_EQ(found, TableFooter::kUsable);
    }
    flip(bit);
  }
  EXPECT_GT(usable_places, 14);
}

TEST_F(LevelDbDamage, ATruncatedTableNamesTheTable) {
  const std::string table = MakeTables();
  const uint64_t size = memory_.Info(table)->size;
  for (const uint64_t cut : {size - 1, size - 48, size / 2, uint64_t{1}, uint64_t{0}}) {
    ASSERT_TRUE(memory_.TruncateBehindBack(table, cut).ok());
    const Status status = ReadEverything();
    EXPECT_EQ(status.code(), Code::kCorrupt) << cut << ": " << status.ToString();
    EXPECT_THAT(status.context(), HasSubstr(table)) << cut;
  }
}

TEST_F(LevelDbDamage, DamageMetByACompactionNamesTheTable) {
  const std::string table = MakeTables();
  LevelDbEnv env(memory_);
  auto db = OpenDb(env, "/db");
  ASSERT_TRUE(db.ok());
  ASSERT_TRUE(memory_.FlipByte(table, 5000).ok());
  // So that the compaction has something to merge into the table.
  for (const char* key : {"key0", "key999"}) ASSERT_TRUE(PutSynced(**db, key, "new").ok());
  (*db)->CompactRange(nullptr, nullptr);
  const Status status = env.FromLevelDb(PutSynced(**db, "key", "value"), "put");
  EXPECT_EQ(status.code(), Code::kCorrupt) << status.ToString();
  EXPECT_THAT(status.context(), HasSubstr(table));
}

// LevelDB would say "not found" for the key.
TEST_F(LevelDbDamage, ATableThatVanishesIsNotAnAbsentKey) {
  const std::string table = MakeTables();
  LevelDbEnv env(memory_);
  auto db = OpenDb(env, "/db");
  ASSERT_TRUE(db.ok());
  ASSERT_TRUE(memory_.RemoveBehindBack(table).ok());
  int damaged = 0;
  for (int i = 0; i < 400; ++i) {
    std::string value;
    const Status status = env.FromLevelDb((*db)->Get({}, "key" + std::to_string(i), &value), "get");
    if (status.ok()) continue;
    ASSERT_EQ(status.code(), Code::kCorrupt) << status.ToString();
    EXPECT_THAT(status.context(), HasSubstr(table));
    ++damaged;
  }
  EXPECT_GT(damaged, 0);
}

TEST_F(LevelDbDamage, AMessageWithoutAFileGetsTheOneReadLast) {
  MakeTables();
  ASSERT_TRUE(testing::WriteFile(memory_, "/db/CURRENT", "MANIFEST-000002").ok());
  const Status status = ReadEverything();
  EXPECT_EQ(status.code(), Code::kCorrupt);
  EXPECT_THAT(status.context(), HasSubstr("/db/CURRENT"));
}

// LevelDB would take it for absent and begin a new database there.
TEST_F(LevelDbDamage, ACurrentThatCannotBeLookedAtIsNotAbsent) {
  MakeTables();
  Fault fault;
  fault.ops = Op::kQuery;
  fault.forever = true;
  fault.path_contains = "/CURRENT";
  memory_.AddFault(fault);
  EXPECT_TRUE(ReadEverything().ok());
  EXPECT_EQ(row_count_, 400);
  EXPECT_GE(memory_.fired_fault_count(), 1u);
  memory_.ClearFaults();
  fault.ops = Op::kOpen;
  memory_.AddFault(fault);
  EXPECT_EQ(ReadEverything().code(), Code::kIo);
}

}  // namespace
}  // namespace cairn
