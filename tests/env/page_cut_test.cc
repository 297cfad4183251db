// Power cuts and the contents of files: what was synced is there, of the rest any subset.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "src/env/memory_env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kPage = kMemoryPageSize;
constexpr uint64_t kSeeds = 200;

std::string Pages(const std::string& letters) {
  std::string text;
  for (const char letter : letters) text.append(kPage, letter);
  return text;
}

// The first byte of each page, or '!' where a page is not all of one byte.
std::string Letters(const std::string& text) {
  std::string letters;
  for (size_t at = 0; at < text.size(); at += kPage) {
    const std::string page = text.substr(at, kPage);
    letters += page == std::string(page.size(), page[0]) ? page[0] : '!';
  }
  return letters;
}

TEST(PageCutTest, SyncedContentsSurviveEveryCut) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryEnv env;
    MakeDurableFile(env, "/", "file", Pages("abc") + "tail");
    env.PowerCut(seed);
    ASSERT_EQ(*env.ReadWhole("/file", 1 << 20), Pages("abc") + "tail") << "seed " << seed;
    ASSERT_EQ(*env.DurableBytes("/file"), Pages("abc") + "tail") << "seed " << seed;
  }
}

TEST(PageCutTest, UnsyncedPagesFareIndependently) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryEnv env;
    const auto file = MakeDurableFile(env, "/", "file", Pages("abc"));
    ASSERT_EQ(CodeOf(WriteText(*file, 0, Pages("?"))), Code::kOk);
    ASSERT_EQ(CodeOf(WriteText(*file, 0, Pages("ABC"))), Code::kOk);
    env.PowerCut(seed);
    seen.insert(Letters(*env.ReadWhole("/file", 1 << 20)));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"abc", "Abc", "aBc", "abC", "ABc", "AbC", "aBC", "ABC"}));
}

TEST(PageCutTest, SizeFaresByItself) {
  std::set<std::string> seen;
  const std::string zero(1, '\0');
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryEnv env;
    const auto file = MakeDurableFile(env, "/", "file", Pages("a"));
    ASSERT_EQ(CodeOf(WriteText(*file, kPage, Pages("b"))), Code::kOk);
    env.PowerCut(seed);
    seen.insert(Letters(*env.ReadWhole("/file", 1 << 20)));
  }
  EXPECT_EQ(seen, (std::set<std::string>{"a", "ab", "a" + zero}));
}

TEST(PageCutTest, PagesBehindTheSurvivingSizeAreGone) {
  // The size was lost, the page was not: growing the file again must not bring the page back.
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryEnv env;
    {
      const auto file = MakeDurableFile(env, "/", "file", "short");
      ASSERT_EQ(CodeOf(WriteText(*file, 0, Pages("xy"))), Code::kOk);
    }
    env.PowerCut(seed);
    const auto file = MustOpen(env, "/file");
    const uint64_t size = file->Info()->size;
    ASSERT_EQ(CodeOf(file->Truncate(3 * kPage)), Code::kOk);
    const uint64_t behind = 3 * kPage - size;
    ASSERT_EQ(ReadText(*file, size, behind), std::string(behind, '\0')) << "seed " << seed;
  }
}

TEST(PageCutTest, PunchesAndTruncatesAreVersionsToo) {
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryEnv env;
    const auto file = MakeDurableFile(env, "/", "file", Pages("abcd"));
    ASSERT_EQ(CodeOf(file->PunchHole(0, kPage)), Code::kOk);
    ASSERT_EQ(CodeOf(file->Truncate(3 * kPage)), Code::kOk);
    env.PowerCut(seed);
    std::string letters = Letters(*env.ReadWhole("/file", 1 << 20));
    for (char& letter : letters) letter = letter == '\0' ? '0' : letter;
    seen.insert(letters);
  }
  // The last page, cut off, may come back with or without its contents.
  EXPECT_EQ(seen, (std::set<std::string>{"abc", "0bc", "abcd", "0bcd", "abc0", "0bc0"}));
}

TEST(PageCutTest, SyncedPunchSurvives) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryEnv env;
    const auto file = MakeDurableFile(env, "/", "file", Pages("ab"));
    ASSERT_EQ(CodeOf(file->PunchHole(0, kPage)), Code::kOk);
    ASSERT_EQ(CodeOf(file->Sync()), Code::kOk);
    env.PowerCut(seed);
    ASSERT_EQ(Letters(*env.ReadWhole("/file", 1 << 20)), std::string("\0b", 2));
    ASSERT_EQ(env.Info("/file")->allocated_bytes, kPage);
    ASSERT_EQ(env.Space("/")->total_bytes - env.Space("/")->free_bytes, kPage);
  }
}

TEST(PageCutTest, SectorsTearOnlyWhenAskedTo) {
  for (const bool tearing : {false, true}) {
    bool torn = false;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      MemoryEnv env;
      env.SetSectorTearing(tearing);
      const auto file = MakeDurableFile(env, "/", "file", Pages("a"));
      ASSERT_EQ(CodeOf(WriteText(*file, 0, Pages("b"))), Code::kOk);
      env.PowerCut(seed);
      const std::string text = *env.ReadWhole("/file", kPage);
      torn |= Letters(text) == "!";
      for (size_t at = 0; at < kPage; at += kMemorySectorSize) {
        const std::string sector = text.substr(at, kMemorySectorSize);
        ASSERT_EQ(sector, std::string(kMemorySectorSize, sector[0])) << "seed " << seed;
      }
    }
    EXPECT_EQ(torn, tearing);
  }
}

TEST(PageCutTest, EqualSeedsGiveEqualDisks) {
  const auto run = [](uint64_t seed) {
    MemoryEnv env;
    for (const char* name : {"/a", "/b", "/c"}) MakeFile(env, name, Pages("xyzxyzxyz"));
    env.PowerCut(seed);
    std::string disk;
    for (const std::string& path : env.AllFiles()) {
      disk += path + Letters(*env.ReadWhole(path, 1 << 20));
    }
    return disk;
  };
  for (uint64_t seed = 0; seed < 20; ++seed) EXPECT_EQ(run(seed), run(seed));
  EXPECT_NE(run(1) + run(2) + run(3), run(4) + run(5) + run(6));
}

TEST(PageCutTest, HandlesAndLocksFromBeforeAreDead) {
  MemoryEnv env;
  const auto file = MakeDurableFile(env, "/", "file", "abc");
  auto lock = env.Lock("/file");
  ASSERT_EQ(CodeOf(lock), Code::kOk);
  env.PowerCut(1);
  std::byte byte{};
  EXPECT_EQ(CodeOf(file->ReadAt(0, {&byte, 1})), Code::kIo);
  EXPECT_EQ(CodeOf(WriteText(*file, 0, "x")), Code::kIo);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kIo);
  EXPECT_EQ(CodeOf(file->Info()), Code::kIo);
  const auto new_lock = env.Lock("/file");
  EXPECT_EQ(CodeOf(new_lock), Code::kOk);
  lock->reset();  // must not release the lock of the new life
  EXPECT_EQ(CodeOf(env.Lock("/file")), Code::kBusy);
  EXPECT_EQ(*env.ReadWhole("/file", 10), "abc");
}

TEST(PageCutTest, KilledProcessLosesNothingButItsHandles) {
  MemoryEnv env;
  const auto file = MakeFile(env, "/file", "abc");
  const auto lock = env.Lock("/lock");
  env.KillProcess();
  EXPECT_EQ(CodeOf(WriteText(*file, 0, "x")), Code::kIo);
  EXPECT_EQ(CodeOf(env.Lock("/lock")), Code::kOk);
  EXPECT_EQ(*env.ReadWhole("/file", 10), "abc");
  EXPECT_EQ(CodeOf(env.DurableBytes("/file")), Code::kNotFound);
}

TEST(PageCutTest, CutAtSyncBeforeAndAfter) {
  for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
    std::set<char> seen;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      MemoryEnv env;
      const auto file = MakeDurableFile(env, "/", "file", Pages("a"));
      ASSERT_EQ(CodeOf(WriteText(*file, 0, Pages("b"))), Code::kOk);
      env.CutAtSync(1, side);
      ASSERT_EQ(CodeOf(file->Sync()), Code::kIo);
      EXPECT_FALSE(env.power_on());
      ASSERT_EQ(CodeOf(env.Info("/file")), Code::kIo);
      ASSERT_EQ(CodeOf(file->Sync()), Code::kIo);
      ASSERT_EQ(CodeOf(env.Open("/other", OpenMode::kCreate)), Code::kIo);
      env.Restart(seed);
      EXPECT_TRUE(env.power_on());
      seen.insert((*env.ReadWhole("/file", kPage))[0]);
      ASSERT_FALSE(env.Exists("/other"));
    }
    EXPECT_EQ(seen, side == CutSide::kBefore ? (std::set<char>{'a', 'b'}) : std::set<char>{'b'});
  }
}

TEST(PageCutTest, CutAtOperationBeforeAndAfter) {
  for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
    std::set<std::string> seen;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      MemoryEnv env;
      const auto file = MakeDurableFile(env, "/", "file", "a");
      env.CutAtOperation(2, side);
      ASSERT_EQ(CodeOf(WriteText(*file, 0, "b")), Code::kOk);
      ASSERT_EQ(ReadText(*file, 0, 1), "b");
      ASSERT_EQ(CodeOf(WriteText(*file, 0, "c")), Code::kIo);
      env.Restart(seed);
      seen.insert(*env.ReadWhole("/file", kPage));
    }
    const std::string newest = side == CutSide::kBefore ? "b" : "c";
    EXPECT_EQ(seen, (std::set<std::string>{"a", newest}));
  }
}

// Random operations on one file against a plain model: for each byte, the synced value and the
// newest one are what a cut may leave, and nothing else.
TEST(PageCutTest, RandomHistoriesAgainstAPlainModel) {
  constexpr uint64_t kMaxSize = 6 * kPage;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    MemoryEnv env;
    const auto file = MakeDurableFile(env, "/", "file", "");
    std::string now;
    std::string synced;
    for (int step = 0; step < 30; ++step) {
      const uint64_t offset = random() % kMaxSize;
      const uint64_t length = random() % (kMaxSize - offset) + 1;
      switch (random() % 5) {
        case 0:
        case 1: {
          const std::string data(length, static_cast<char>('a' + step));
          ASSERT_EQ(CodeOf(WriteText(*file, offset, data)), Code::kOk);
          if (now.size() < offset + length) now.resize(offset + length, '\0');
          now.replace(offset, length, data);
          break;
        }
        case 2:
          ASSERT_EQ(CodeOf(file->Truncate(offset)), Code::kOk);
          now.resize(offset, '\0');
          break;
        case 3:
          ASSERT_EQ(CodeOf(file->PunchHole(offset, length)), Code::kOk);
          for (uint64_t i = offset; i < offset + length && i < now.size(); ++i) now[i] = '\0';
          break;
        case 4:
          if (random() % 2 == 0) break;
          ASSERT_EQ(CodeOf(file->Sync()), Code::kOk);
          synced = now;
          break;
      }
      ASSERT_EQ(ReadText(*file, 0, kMaxSize + 1), now) << "step " << step;
      ASSERT_EQ(*env.DurableBytes("/file"), synced) << "step " << step;
    }
    env.SetSectorTearing(seed % 2 == 0);
    env.PowerCut(seed);
    const std::string found = *env.ReadWhole("/file", kMaxSize);
    ASSERT_TRUE(found.size() == now.size() || found.size() == synced.size());
    for (size_t i = 0; i < found.size(); ++i) {
      const char newest = i < now.size() ? now[i] : '\0';
      const char durable = i < synced.size() ? synced[i] : '\0';
      ASSERT_TRUE(found[i] == newest || found[i] == durable) << "byte " << i;
    }
  }
}

}  // namespace
}  // namespace cairn
