// Random damage to logs. A seed other than the daily one: CAIRN_SEED=n log_check_fuzz_test.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "src/env/memory_env.h"
#include "src/warm/log_check.h"
#include "tests/warm/log_builder.h"

namespace cairn {
namespace {

using testing::LogBuilder;
using testing::RandomText;
using testing::WriteFile;

uint64_t Seed() {
  const char* text = std::getenv("CAIRN_SEED");
  const uint64_t seed = text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
  std::printf("CAIRN_SEED=%llu\n", static_cast<unsigned long long>(seed));
  return seed;
}

void Spoil(std::string& bytes, std::mt19937_64& random) {
  if (bytes.empty()) return;
  const size_t at = random() % bytes.size();
  switch (random() % 6) {
    case 0:
      bytes[at] = static_cast<char>(random());
      break;
    case 1:
      bytes.resize(at);
      break;
    case 2:
      bytes += RandomText(random, random() % 9000);
      break;
    case 3:
      bytes.insert(at, RandomText(random, 1 + random() % 50));
      break;
    case 4:
      bytes.erase(at, 1 + random() % 5000);
      break;
    default: {
      const size_t length = std::min<size_t>(bytes.size() - at, 1 + random() % 9000);
      // Bytes 0 to 7 make plausible headers.
      for (size_t i = 0; i < length; ++i) bytes[at + i] = static_cast<char>(random() % 8);
    }
  }
}

TEST(LogCheckFuzz, NoNoiseCrashesTheCheckOrMakesUpRecords) {
  const uint64_t seed = Seed();
  std::mt19937_64 random(seed);
  MemoryEnv env;
  for (int round = 0; round < 1500; ++round) {
    LogBuilder log;
    for (uint64_t i = random() % 8; i > 0; --i) {
      log.Add(RandomText(random, random() % (random() % 4 == 0 ? 90000 : 900)));
    }
    std::string bytes = log.bytes();
    for (uint64_t i = random() % 4; i > 0; --i) Spoil(bytes, random);
    const auto mismatch =
        std::mismatch(bytes.begin(), bytes.end(), log.bytes().begin(), log.bytes().end());
    const uint64_t intact = static_cast<uint64_t>(mismatch.first - bytes.begin());

    ASSERT_TRUE(WriteFile(env, "/log", bytes).ok());
    const Result<LogCheck> check = CheckLog(env, "/log");
    ASSERT_TRUE(check.ok()) << check.status().ToString();
    ASSERT_EQ(check->total_bytes, bytes.size());
    ASSERT_LE(check->valid_bytes, bytes.size());
    ASSERT_GE(check->valid_bytes, log.EndBefore(intact)) << "seed " << seed << " round " << round;
    ASSERT_EQ(check->damage == LogDamage::kNone, check->valid_bytes == bytes.size());
    // Cut to its valid part, a log is good.
    ASSERT_TRUE(WriteFile(env, "/log", bytes.substr(0, check->valid_bytes)).ok());
    const Result<LogCheck> again = CheckLog(env, "/log");
    ASSERT_TRUE(again.ok());
    ASSERT_EQ(again->damage, LogDamage::kNone) << "seed " << seed << " round " << round;
  }
}

// CURRENT, MANIFEST and logs of any contents give a verdict.
TEST(LogCheckFuzz, NoNoiseCrashesTheRepair) {
  std::mt19937_64 random(Seed());
  for (int round = 0; round < 1500; ++round) {
    MemoryEnv env;
    ASSERT_TRUE(env.CreateDir("/db").ok());
    LogBuilder manifest;
    // Comparator, log number 3, next file 9, last sequence 0, then what may come.
    std::string edit(
        "\x01\x01"
        "c"
        "\x02\x03\x03\x09\x04\x00",
        9);
    if (random() % 2) edit += RandomText(random, random() % 20);
    manifest.Add(edit);
    for (uint64_t i = random() % 3; i > 0; --i) manifest.Add(RandomText(random, random() % 30));
    std::string current = "MANIFEST-000002\n";
    std::string manifest_bytes = manifest.bytes();
    if (random() % 8 == 0) Spoil(current, random);
    if (random() % 4 == 0) Spoil(manifest_bytes, random);
    ASSERT_TRUE(WriteFile(env, "/db/CURRENT", current).ok());
    ASSERT_TRUE(WriteFile(env, "/db/MANIFEST-000002", manifest_bytes).ok());
    ASSERT_TRUE(WriteFile(env, "/db/000004.log", RandomText(random, random() % 9000)).ok());
    const Status status = RepairLogTails(env, "/db");
    ASSERT_TRUE(status.ok() || status.code() == Code::kCorrupt) << status.ToString();
    if (status.ok()) {
      EXPECT_TRUE(RepairLogTails(env, "/db").ok());
    }
  }
}

}  // namespace
}  // namespace cairn
