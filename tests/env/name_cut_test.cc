// Power cuts and names: what a synced directory holds stays, of the rest any history that a
// journal could show.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "src/env/memory_env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kSeeds = 200;

using Disk = std::map<std::string, std::string>;  // path -> contents

Disk DiskOf(MemoryEnv& env) {
  Disk disk;
  for (const std::string& path : env.AllFiles()) disk[path] = *env.ReadWhole(path, 1 << 20);
  return disk;
}

// The disks that power cuts leave after `history`.
template <typename History>
std::set<Disk> DisksAfter(const History& history) {
  std::set<Disk> disks;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryEnv env;
    history(env);
    env.PowerCut(seed);
    disks.insert(DiskOf(env));
  }
  return disks;
}

void Ok(const Status& status) { ASSERT_TRUE(status.ok()) << status.ToString(); }

TEST(NameCutTest, UnsyncedNamesMayVanishOneByOne) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    Ok(MakeFile(env, "/a", "1")->Sync());
    Ok(MakeFile(env, "/b", "2")->Sync());
  });
  EXPECT_EQ(disks, (std::set<Disk>{{}, {{"/a", "1"}}, {{"/b", "2"}}, {{"/a", "1"}, {"/b", "2"}}}));
}

TEST(NameCutTest, SyncOfTheFileDoesNotKeepItsName) {
  MemoryEnv env;
  Ok(MakeFile(env, "/a", "1")->Sync());
  EXPECT_EQ(CodeOf(env.DurableBytes("/a")), Code::kNotFound);
  Ok(env.SyncDir("/"));
  EXPECT_EQ(*env.DurableBytes("/a"), "1");
}

TEST(NameCutTest, SyncedNameWithoutContents) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    MakeFile(env, "/a", "1");
    Ok(env.SyncDir("/"));
  });
  EXPECT_EQ(disks, (std::set<Disk>{{{"/a", ""}}, {{"/a", "1"}}, {{"/a", std::string(1, '\0')}}}));
}

TEST(NameCutTest, RemovedNameMayComeBack) {
  const auto history = [](MemoryEnv& env) {
    MakeDurableFile(env, "/", "a", "1");
    Ok(env.Remove("/a"));
  };
  EXPECT_EQ(DisksAfter(history), (std::set<Disk>{{}, {{"/a", "1"}}}));
  const auto synced = [&](MemoryEnv& env) {
    history(env);
    Ok(env.SyncDir("/"));
  };
  EXPECT_EQ(DisksAfter(synced), (std::set<Disk>{{}}));
}

TEST(NameCutTest, SpaceIsCountedAnewWhenARemovedFileComesBack) {
  std::set<uint64_t> seen;
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    MemoryEnv env;
    const auto file = MakeDurableFile(env, "/", "a", "1");
    Ok(env.Remove("/a"));
    env.PowerCut(seed);
    const uint64_t used = env.Space("/")->total_bytes - env.Space("/")->free_bytes;
    ASSERT_EQ(used, env.Exists("/a") ? kMemoryPageSize : 0u);
    seen.insert(used);
  }
  EXPECT_EQ(seen.size(), 2u);
}

TEST(NameCutTest, RenameShowsOldOrNew) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    MakeDurableFile(env, "/", "a", "1");
    Ok(env.Rename("/a", "/b"));
  });
  EXPECT_EQ(disks, (std::set<Disk>{{{"/a", "1"}}, {{"/b", "1"}}}));
}

TEST(NameCutTest, RenameOverAFileShowsOldOrNew) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    MakeDurableFile(env, "/", "current", "old");
    Ok(MakeFile(env, "/new", "new")->Sync());
    Ok(env.Rename("/new", "/current"));
  });
  EXPECT_EQ(disks, (std::set<Disk>{{{"/current", "old"}},
                                   {{"/current", "old"}, {"/new", "new"}},
                                   {{"/current", "new"}}}));
}

TEST(NameCutTest, RenameBetweenDirectoriesShowsOldOrNew) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    MakeDurableFile(env, "/", "a", "1");
    Ok(env.CreateDir("/d"));  // not synced: it comes with what was moved into it
    Ok(env.Rename("/a", "/d/a"));
  });
  EXPECT_EQ(disks, (std::set<Disk>{{{"/a", "1"}}, {{"/d/a", "1"}}}));
}

TEST(NameCutTest, MovedOutOfARemovedDirectory) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    Ok(env.CreateDir("/d"));
    Ok(env.SyncDir("/"));
    MakeDurableFile(env, "/d", "a", "1");
    Ok(env.Rename("/d/a", "/a"));
    Ok(env.RemoveDir("/d"));
  });
  EXPECT_EQ(disks, (std::set<Disk>{{{"/d/a", "1"}}, {{"/a", "1"}}}));
}

TEST(NameCutTest, SyncOfEitherDirectoryKeepsAMove) {
  for (const char* synced : {"/from", "/to"}) {
    const auto disks = DisksAfter([&](MemoryEnv& env) {
      Ok(env.CreateDir("/from"));
      Ok(env.CreateDir("/to"));
      Ok(env.SyncDir("/"));
      MakeDurableFile(env, "/from", "a", "1");
      Ok(env.Rename("/from/a", "/to/a"));
      Ok(env.SyncDir(synced));
    });
    EXPECT_EQ(disks, (std::set<Disk>{{{"/to/a", "1"}}})) << synced;
  }
}

TEST(NameCutTest, DirectoryThatIsNotSyncedTakesItsFilesAlong) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    Ok(env.CreateDir("/d"));
    MakeDurableFile(env, "/d", "a", "1");
  });
  EXPECT_EQ(disks, (std::set<Disk>{{}, {{"/d/a", "1"}}}));
}

TEST(NameCutTest, RenameWithinADirectoryDoesNotKeepTheDirectory) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    Ok(env.CreateDir("/d"));
    MakeDurableFile(env, "/d", "a", "1");
    Ok(env.Rename("/d/a", "/d/b"));
    Ok(env.SyncDir("/d"));
  });
  EXPECT_EQ(disks, (std::set<Disk>{{}, {{"/d/b", "1"}}}));
}

TEST(NameCutTest, WhatWasRemovedBehindTheBackStaysRemoved) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    MakeDurableFile(env, "/", "old", "1");
    Ok(MakeFile(env, "/new", "2")->Sync());
    Ok(env.Rename("/old", "/moved"));
    Ok(env.RemoveBehindBack("/moved"));
    Ok(env.RemoveBehindBack("/new"));
    Ok(MakeFile(env, "/other", "3")->Sync());
  });
  EXPECT_EQ(disks, (std::set<Disk>{{}, {{"/other", "3"}}}));
}

TEST(NameCutTest, DirectoriesMovedIntoEachOtherStayReachable) {
  const auto disks = DisksAfter([](MemoryEnv& env) {
    Ok(env.CreateDir("/a"));
    Ok(env.CreateDir("/b"));
    Ok(env.SyncDir("/"));
    MakeDurableFile(env, "/a", "f", "a");
    MakeDurableFile(env, "/b", "f", "b");
    Ok(env.Rename("/a", "/b/a"));
    Ok(env.Rename("/b/a", "/c"));
    Ok(env.Rename("/b", "/c/b"));
  });
  for (const Disk& disk : disks) EXPECT_EQ(disk.size(), 2u);
  EXPECT_EQ(disks.size(), 4u);
}

TEST(NameCutTest, CutAtSyncDirBeforeAndAfter) {
  for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
    const auto disks = DisksAfter([&](MemoryEnv& env) {
      const auto file = MakeFile(env, "/a", "1");
      env.CutAtSync(2, side);
      Ok(file->Sync());
      EXPECT_EQ(CodeOf(env.SyncDir("/")), Code::kIo);
    });
    const bool after = side == CutSide::kAfter;
    EXPECT_EQ(disks, after ? (std::set<Disk>{{{"/a", "1"}}}) : (std::set<Disk>{{}, {{"/a", "1"}}}));
  }
}

// After any crash within WriteWholeDurably the old contents or the new ones are found, whole; and
// once it has returned OK, the new ones.
TEST(NameCutTest, WriteWholeDurablyAtEveryCut) {
  const std::string old_text(10000, 'o');
  const std::string new_text(9000, 'n');
  for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
    for (uint64_t n = 1;; ++n) {
      bool finished = false;
      for (uint64_t seed = 0; seed < 50; ++seed) {
        SCOPED_TRACE("cut " + std::to_string(n) + " seed " + std::to_string(seed));
        MemoryEnv env;
        Ok(env.WriteWholeDurably("/file", old_text));
        env.CutAtOperation(n, side);
        finished = env.WriteWholeDurably("/file", new_text).ok();
        ASSERT_EQ(finished, env.power_on());
        env.CutAtOperation(0, side);
        env.Restart(seed);
        const std::string found = *env.ReadWhole("/file", 1 << 20);
        ASSERT_TRUE(found == new_text || (found == old_text && !finished));
        Ok(env.WriteWholeDurably("/file", "next"));
        ASSERT_EQ(env.AllFiles(), std::vector<std::string>{"/file"});
      }
      if (finished) {
        EXPECT_GE(n, 6u);
        break;
      }
    }
  }
}

TEST(NameCutTest, WriteWholeDurablyAtEveryFault) {
  for (uint64_t n = 1;; ++n) {
    SCOPED_TRACE("fault " + std::to_string(n));
    MemoryEnv env;
    Ok(env.WriteWholeDurably("/file", "old"));
    env.AddFault({.nth = n});
    const bool done = env.WriteWholeDurably("/file", "new").ok();
    ASSERT_EQ(done, env.fired_fault_count() == 0);
    env.ClearFaults();
    const std::string found = *env.ReadWhole("/file", 10);
    ASSERT_TRUE(found == "new" || (found == "old" && !done));
    ASSERT_EQ(env.AllFiles(), std::vector<std::string>{"/file"});
    if (done) break;
  }
}

// Random name operations: whatever the cut, a file that was durable and never removed is found
// under exactly one name, with its contents; and no file is found twice.
TEST(NameCutTest, RandomHistoriesNeverLoseOrDoubleAFile) {
  const std::vector<std::string> directories = {"", "/d", "/e", "/d/f"};
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    MemoryEnv env;
    const auto any_path = [&] {
      return directories[random() % directories.size()] + "/" +
             std::string(1, static_cast<char>('a' + random() % 4));
    };
    Ok(env.CreateDir("/d"));
    std::set<std::string> safe;
    int next_file = 0;
    for (int step = 0; step < 40; ++step) {
      switch (random() % 8) {
        case 0:
        case 1: {  // a new file, durable at once or not at all
          const auto file = env.Open(any_path(), OpenMode::kCreateNew);
          if (!file.ok()) break;
          Ok(WriteText(**file, 0, std::to_string(next_file++)));
          Ok((*file)->Sync());
          break;
        }
        case 2:
        case 3: {  // a rename that replaces nothing
          const std::string from = any_path();
          const std::string to = any_path();
          if (!env.Exists(to)) static_cast<void>(env.Rename(from, to));
          break;
        }
        case 4: {  // directories come, move and go
          static_cast<void>(env.CreateDir(directories[1 + random() % 3]));
          const auto& from = directories[1 + random() % 3];
          const auto& to = directories[1 + random() % 3];
          if (!env.Exists(to)) static_cast<void>(env.Rename(from, to));
          break;
        }
        case 5:
          static_cast<void>(env.RemoveDir(directories[1 + random() % 3]));
          break;
        case 6: {
          const std::string path = any_path();
          const auto text = env.ReadWhole(path, 100);
          if (text.ok() && env.Remove(path).ok()) safe.erase(*text);
          break;
        }
        case 7:
          static_cast<void>(env.SyncDir(directories[random() % directories.size()]));
          break;
      }
      for (const std::string& path : env.AllFiles()) {
        const auto durable = env.DurableBytes(path);
        if (durable.ok() && *durable == *env.ReadWhole(path, 100)) safe.insert(*durable);
      }
    }
    env.PowerCut(seed);
    std::multiset<std::string> found;
    for (const auto& [path, text] : DiskOf(env)) found.insert(text);
    for (const std::string& text : safe) ASSERT_EQ(found.count(text), 1u) << "file " << text;
    for (const std::string& text : found) ASSERT_EQ(found.count(text), 1u) << "file " << text;
  }
}

}  // namespace
}  // namespace cairn
