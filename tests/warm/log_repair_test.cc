#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "src/env/memory_env.h"
#include "src/warm/log_check.h"
#include "tests/warm/log_builder.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using testing::LogBuilder;
using testing::WriteFile;

class RepairLogTailsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(env_.CreateDir("/db").ok());
    // Comparator "c", next file 9, last sequence 0; then log number 5, previous log 0.
    manifest_.Add(
        std::string("\x01\x01"
                    "c"
                    "\x03\x09\x04\x00",
                    7));
    manifest_.Add(std::string("\x02\x05\x09\x00", 4));
    for (const char* record : {"first", "second", "third"}) log_.Add(record);
    Write("CURRENT", "MANIFEST-000002\n");
    Write("MANIFEST-000002", manifest_.bytes());
    Write("000005.log", log_.bytes());
    Write("000007.log", log_.bytes());
    ASSERT_TRUE(env_.SyncDir("/db").ok());
    ASSERT_TRUE(env_.SyncDir("/").ok());
  }

  void Write(const std::string& name, const std::string& contents) {
    ASSERT_TRUE(WriteFile(env_, "/db/" + name, contents).ok());
  }
  void ExpectDamage(const std::string& in_context) {
    const auto before = Contents();
    const Status status = RepairLogTails(env_, "/db");
    EXPECT_EQ(status.code(), Code::kCorrupt) << status.ToString();
    EXPECT_THAT(status.context(), HasSubstr(in_context));
    EXPECT_EQ(Contents(), before) << "a damaged store must not be changed";
  }
  std::string Contents() {
    std::string all;
    for (const std::string& path : env_.AllFiles()) all += path + *env_.ReadWhole(path, 1 << 20);
    return all;
  }
  std::string Flipped(std::string bytes, size_t at) {
    bytes[at] = static_cast<char>(~bytes[at]);
    return bytes;
  }

  MemoryEnv env_;
  LogBuilder manifest_;
  LogBuilder log_;
};

TEST_F(RepairLogTailsTest, AGoodDatabaseIsLeftAlone) {
  const std::string before = Contents();
  const uint64_t mutations = env_.mutation_count();
  EXPECT_TRUE(RepairLogTails(env_, "/db").ok());
  EXPECT_EQ(Contents(), before);
  EXPECT_EQ(env_.mutation_count(), mutations);
}

TEST_F(RepairLogTailsTest, NoDirectoryAndNoDatabaseAreFine) {
  EXPECT_TRUE(RepairLogTails(env_, "/none").ok());
  ASSERT_TRUE(env_.CreateDir("/fresh").ok());
  EXPECT_TRUE(RepairLogTails(env_, "/fresh").ok());
}

TEST_F(RepairLogTailsTest, TornTailsAreCutDurably) {
  Write("000007.log", log_.bytes() + "torn");
  Write("MANIFEST-000002", manifest_.bytes() + std::string(100, '\0'));
  ASSERT_TRUE(RepairLogTails(env_, "/db").ok());
  EXPECT_EQ(*env_.DurableBytes("/db/000007.log"), log_.bytes());
  EXPECT_EQ(*env_.DurableBytes("/db/MANIFEST-000002"), manifest_.bytes());
}

TEST_F(RepairLogTailsTest, ATornTailOfAnOlderLogIsDamage) {
  Write("000005.log", log_.bytes() + "torn");
  ExpectDamage("/db/000005.log: offset " + std::to_string(log_.bytes().size()));
}

TEST_F(RepairLogTailsTest, DamageNamesFileAndOffset) {
  const std::string offset = "offset " + std::to_string(log_.ends()[0]);
  Write("000007.log", Flipped(log_.bytes(), log_.ends()[0] + 8));
  ExpectDamage("/db/000007.log: " + offset);
  Write("000007.log", log_.bytes());
  Write("000005.log", Flipped(log_.bytes(), log_.ends()[0] + 8));
  ExpectDamage("/db/000005.log: " + offset);
}

TEST_F(RepairLogTailsTest, AMissingLogIsDamageAndNotALogWithoutRecords) {
  ASSERT_TRUE(env_.Remove("/db/000005.log").ok());
  ExpectDamage("/db/000005.log: missing");
  ASSERT_TRUE(env_.Remove("/db/000007.log").ok());
  ExpectDamage("/db/000005.log: missing");
}

TEST_F(RepairLogTailsTest, LogsThatAreNotReplayedDoNotMatter) {
  Write("000004.log", Flipped(log_.bytes(), 8));
  Write("000003.log", "garbage");
  EXPECT_TRUE(RepairLogTails(env_, "/db").ok());
  EXPECT_EQ(*env_.ReadWhole("/db/000003.log", 100), "garbage");
}

TEST_F(RepairLogTailsTest, ThePreviousLogIsReplayedToo) {
  manifest_.Add(std::string("\x09\x03", 2));
  Write("MANIFEST-000002", manifest_.bytes());
  Write("000003.log", Flipped(log_.bytes(), 8));
  ExpectDamage("/db/000003.log: offset 0");
}

TEST_F(RepairLogTailsTest, ABadManifestIsDamage) {
  Write("MANIFEST-000002", Flipped(manifest_.bytes(), 8));
  ExpectDamage("/db/MANIFEST-000002: offset 0");
  // Its first records were durable before CURRENT named it: this is no torn append.
  Write("MANIFEST-000002", manifest_.bytes().substr(0, manifest_.ends()[0]));
  ExpectDamage("/db/MANIFEST-000002: offset " + std::to_string(manifest_.ends()[0]));
  Write("MANIFEST-000002", "");
  ExpectDamage("/db/MANIFEST-000002: offset 0");
  LogBuilder other;
  other.Add("\x63 is no tag");
  Write("MANIFEST-000002", other.bytes());
  ExpectDamage("/db/MANIFEST-000002: offset 0");
}

TEST_F(RepairLogTailsTest, TablesThatTheManifestNeverNamedAreRemovedDurably) {
  // Table 3 of 16 bytes from "a" to "b" joins level 0; then it leaves, and 4 joins level 1.
  manifest_.Add(
      std::string("\x07\x00\x03\x10\x01"
                  "a\x01"
                  "b",
                  8));
  manifest_.Add(
      std::string("\x06\x00\x03\x07\x01\x04\x10\x01"
                  "a\x01"
                  "b",
                  11));
  Write("MANIFEST-000002", manifest_.bytes());
  for (const char* name : {"000003.ldb", "000004.sst", "000006.ldb", "000008.sst", "x.ldb"}) {
    Write(name, "table");
  }
  ASSERT_TRUE(env_.SyncDir("/db").ok());
  ASSERT_TRUE(RepairLogTails(env_, "/db").ok());
  env_.PowerCut(1);
  EXPECT_TRUE(env_.Exists("/db/000003.ldb")) << "the edit that took it out may not be durable";
  EXPECT_TRUE(env_.Exists("/db/000004.sst"));
  EXPECT_TRUE(env_.Exists("/db/x.ldb"));
  EXPECT_FALSE(env_.Exists("/db/000006.ldb"));
  EXPECT_FALSE(env_.Exists("/db/000008.sst"));
}

TEST_F(RepairLogTailsTest, BesideADamagedManifestOrLogNoTableIsRemoved) {
  Write("000006.ldb", "table");
  Write("000007.log", Flipped(log_.bytes(), log_.ends()[0] + 8));
  ExpectDamage("/db/000007.log");
  Write("000007.log", log_.bytes());
  Write("MANIFEST-000002", Flipped(manifest_.bytes(), 8));
  ExpectDamage("/db/MANIFEST-000002");
}

TEST_F(RepairLogTailsTest, ABadCurrentIsDamage) {
  for (const char* text : {"", "MANIFEST-000002", "MANIFEST-\n", "MANIFEST-00x\n", "000005.log\n",
                           "MANIFEST-000003\n", "../MANIFEST-000002\n"}) {
    Write("CURRENT", text);
    ExpectDamage("/db/CURRENT");
  }
}

TEST_F(RepairLogTailsTest, AMissingCurrentBesideLogsOrTablesIsDamage) {
  ASSERT_TRUE(env_.Remove("/db/CURRENT").ok());
  ExpectDamage("/db/CURRENT");
}

TEST_F(RepairLogTailsTest, AFailedReadIsNotDamage) {
  Fault fault;
  fault.ops = Op::kRead;
  fault.path_contains = "000005.log";
  env_.AddFault(fault);
  EXPECT_EQ(RepairLogTails(env_, "/db").code(), Code::kIo);
}

}  // namespace
}  // namespace cairn
