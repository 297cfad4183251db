#include "src/warm/log_check.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "src/env/memory_env.h"
#include "tests/warm/log_builder.h"

namespace cairn {
namespace {

using testing::LogBuilder;
using testing::RandomText;
using testing::WriteFile;

constexpr uint64_t kPage = 4096;

class LogCheckTest : public ::testing::Test {
 protected:
  LogCheck Check(const std::string& bytes, const LogRecordSink& sink = nullptr) {
    EXPECT_TRUE(WriteFile(env_, "/log", bytes).ok());
    Result<LogCheck> check = CheckLog(env_, "/log", sink);
    EXPECT_TRUE(check.ok()) << check.status().ToString();
    return check.ok() ? *check : LogCheck{};
  }

  MemoryEnv env_;
  std::mt19937_64 random_{20240229};
};

TEST_F(LogCheckTest, AbsentFileIsNotFound) {
  EXPECT_EQ(CheckLog(env_, "/none").status().code(), Code::kNotFound);
}

TEST_F(LogCheckTest, EmptyFileIsGood) {
  const LogCheck check = Check("");
  EXPECT_EQ(check.damage, LogDamage::kNone);
  EXPECT_EQ(check.valid_bytes, 0u);
}

TEST_F(LogCheckTest, ReadsRecordsOfEverySizeAroundTheBlockBoundary) {
  for (size_t first = 32768 - 30; first < 32768 + 30; ++first) {
    LogBuilder log;
    std::vector<std::string> records = {RandomText(random_, first), RandomText(random_, 13),
                                        RandomText(random_, 70000), RandomText(random_, 1)};
    for (const std::string& record : records) log.Add(record);
    size_t seen = 0;
    const LogCheck check =
        Check(log.bytes(), [&](uint64_t offset, std::span<const std::byte> record) {
          EXPECT_TRUE(seen < records.size() &&
                      std::ranges::equal(record, testing::AsBytes(records[seen])));
          const uint64_t after = seen == 0 ? 0 : log.ends()[seen - 1];
          EXPECT_TRUE(offset >= after && offset < after + 7) << offset;
          ++seen;
          return Status::Ok();
        });
    EXPECT_EQ(check.damage, LogDamage::kNone);
    EXPECT_EQ(check.valid_bytes, log.bytes().size());
    EXPECT_EQ(seen, records.size());
  }
}

TEST_F(LogCheckTest, AnErrorOfTheSinkEndsTheCheck) {
  LogBuilder log;
  log.Add("one");
  log.Add("two");
  ASSERT_TRUE(WriteFile(env_, "/log", log.bytes()).ok());
  int calls = 0;
  const auto sink = [&](uint64_t, std::span<const std::byte>) {
    ++calls;
    return Status(Code::kInvalid, "enough");
  };
  EXPECT_EQ(CheckLog(env_, "/log", sink).status().code(), Code::kInvalid);
  EXPECT_EQ(calls, 1);
}

// No single flip is missed, and only flips in the last record pass for a torn append.
TEST_F(LogCheckTest, EveryFlippedByteIsFound) {
  LogBuilder log;
  log.Add(RandomText(random_, 100));
  log.Add(RandomText(random_, 32768 - 107 - 7 - 3));  // leaves 3 bytes of the first block
  const uint64_t padding = log.bytes().size();
  log.Add(RandomText(random_, 33000));  // crosses into the third
  log.Add(RandomText(random_, 40));
  const uint64_t last = log.bytes().size();
  log.Add(RandomText(random_, 60));
  for (uint64_t at = 0; at < log.bytes().size(); ++at) {
    // The middle of the large records is all alike.
    if (at > 200 && at < 32600) at += 97;
    if (at > 33000 && at < 65400) at += 97;
    std::string bytes = log.bytes();
    bytes[at] = static_cast<char>(bytes[at] ^ (1 + random_() % 255));
    const LogCheck check = Check(bytes);
    if (at >= padding && at < 32768) {
      EXPECT_EQ(check.damage, LogDamage::kNone) << at;
      continue;
    }
    EXPECT_EQ(check.damage, at < last ? LogDamage::kDamaged : LogDamage::kTornTail) << at;
    EXPECT_EQ(check.valid_bytes, log.EndBefore(at)) << at;
  }
}

TEST_F(LogCheckTest, EveryTruncationLeavesAPrefixOfTheRecords) {
  LogBuilder log;
  for (const size_t size : {50, 32768 - 57 - 7 - 4, 200, 32768, 1, 500}) {
    log.Add(RandomText(random_, size));
  }
  for (uint64_t size = 0; size <= log.bytes().size(); size += size % 32768 < 300 ? 1 : 61) {
    const LogCheck check = Check(log.bytes().substr(0, size));
    EXPECT_EQ(check.valid_bytes, log.EndBefore(size)) << size;
    EXPECT_EQ(check.damage, log.EndBefore(size) == size ? LogDamage::kNone : LogDamage::kTornTail)
        << size;
  }
}

// What a power cut can leave of one append: any subset of its pages, and its size.
TEST_F(LogCheckTest, LostPagesOfTheLastAppendAreATornTail) {
  for (int round = 0; round < 400; ++round) {
    LogBuilder log;
    for (int i = 0; i < 3; ++i) log.Add(RandomText(random_, random_() % 40000));
    const uint64_t synced = log.bytes().size();
    log.Add(RandomText(random_, 1 + random_() % 120000));
    std::string bytes = log.bytes();
    bool lost = false;
    for (uint64_t page = synced / kPage; page * kPage < bytes.size(); ++page) {
      if (random_() % 2 == 0) continue;
      const uint64_t begin = std::max(synced, page * kPage);
      const uint64_t end = std::min<uint64_t>(bytes.size(), (page + 1) * kPage);
      const std::string zeros(end - begin, '\0');
      lost = lost || bytes.compare(begin, zeros.size(), zeros) != 0;
      bytes.replace(begin, zeros.size(), zeros);
    }
    const LogCheck check = Check(bytes);
    EXPECT_EQ(check.damage, lost ? LogDamage::kTornTail : LogDamage::kNone) << round;
    EXPECT_EQ(check.valid_bytes, lost ? synced : bytes.size()) << round;
  }
}

TEST_F(LogCheckTest, ZerosOrGarbageAtTheEndAreATornTail) {
  for (const size_t length : {1, 6, 7, 8, 4096, 32768, 100000}) {
    LogBuilder log;
    log.Add(RandomText(random_, 1000));
    for (const std::string& tail :
         {std::string(length, '\0'), std::string(length, '\x01'), RandomText(random_, length)}) {
      const LogCheck check = Check(log.bytes() + tail);
      EXPECT_EQ(check.damage, LogDamage::kTornTail) << length;
      EXPECT_EQ(check.valid_bytes, log.bytes().size()) << length;
    }
  }
}

// The lost page holds the end of one record and all beginnings of the next; a part of that next
// record is the only evidence.
TEST_F(LogCheckTest, ALastFragmentThatDoesNotEndTheFileIsDamage) {
  LogBuilder log;
  log.Add(RandomText(random_, 100));
  log.Add(RandomText(random_, 40000));
  log.Add(RandomText(random_, 50));
  std::string bytes = log.bytes();
  bytes[300] = static_cast<char>(~bytes[300]);                 // the second record
  bytes[bytes.size() - 1] = static_cast<char>(~bytes.back());  // and the third
  const LogCheck check = Check(bytes);
  EXPECT_EQ(check.damage, LogDamage::kDamaged);
  EXPECT_EQ(check.valid_bytes, log.ends()[0]);
  EXPECT_EQ(check.evidence_offset, log.ends()[1]);
}

TEST_F(LogCheckTest, WholeBlocksLostBeforeALaterRecordAreDamage) {
  LogBuilder log;
  for (int i = 0; i < 40; ++i) log.Add(RandomText(random_, 5000));
  for (const size_t lost : {1, 2, 4}) {
    std::string bytes = log.bytes();
    bytes.replace(32768, lost * 32768, std::string(lost * 32768, '\0'));
    const LogCheck check = Check(bytes);
    EXPECT_EQ(check.damage, LogDamage::kDamaged);
    EXPECT_EQ(check.valid_bytes, log.EndBefore(32768));
    EXPECT_GE(check.evidence_offset, (1 + lost) * 32768);
  }
}

// The payload of a good fragment is data, even if it is a log.
TEST_F(LogCheckTest, ALogStoredInATornRecordIsNotEvidence) {
  LogBuilder inner;
  inner.Add(RandomText(random_, 100));
  LogBuilder log;
  log.Add(RandomText(random_, 32768 - 7 - 7 - 200));
  log.Add(std::string(50, 'x') + inner.bytes() + RandomText(random_, 40000));
  const LogCheck check = Check(log.bytes().substr(0, 50000));
  EXPECT_EQ(check.damage, LogDamage::kTornTail);
  EXPECT_EQ(check.valid_bytes, log.ends()[0]);
}

}  // namespace
}  // namespace cairn
