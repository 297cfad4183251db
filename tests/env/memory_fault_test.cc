// MemoryEnv's faults: what fails, how often, how much is done before, and how space is counted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "src/env/memory_env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kPage = kMemoryPageSize;

TEST(MemoryFaultTest, NthOperationFailsOnce) {
  MemoryEnv env;
  const auto file = MustOpen(env, "/file");
  env.AddFault({.ops = Op::kWrite, .nth = 3, .error = ENOSPC});
  std::vector<Code> codes;
  for (int i = 0; i < 5; ++i) {
    codes.push_back(CodeOf(WriteText(*file, 0, "x")));
    EXPECT_EQ(ReadText(*file, 0, 1), "x");
  }
  EXPECT_THAT(codes, ElementsAre(Code::kOk, Code::kOk, Code::kNoSpace, Code::kOk, Code::kOk));
  EXPECT_EQ(env.fired_fault_count(), 1u);
}

TEST(MemoryFaultTest, ForeverLastsUntilCleared) {
  MemoryEnv env;
  const auto file = MustOpen(env, "/file");
  env.AddFault({.ops = {Op::kSync, Op::kTruncate}, .nth = 2, .forever = true});
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(CodeOf(file->Truncate(1)), Code::kIo);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kIo);
  EXPECT_EQ(CodeOf(WriteText(*file, 0, "x")), Code::kOk);
  EXPECT_EQ(file->Info()->size, 1u);
  env.ClearFaults();
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
}

TEST(MemoryFaultTest, PathFilterSeesBothNamesOfARename) {
  MemoryEnv env;
  env.AddFault({.forever = true, .path_contains = "victim"});
  MakeFile(env, "/a", "x");
  EXPECT_EQ(CodeOf(env.Open("/victim", OpenMode::kCreate)), Code::kIo);
  EXPECT_EQ(CodeOf(env.Rename("/a", "/victim")), Code::kIo);
  EXPECT_EQ(CodeOf(env.Rename("/a", "/b")), Code::kOk);
  EXPECT_THAT(env.AllFiles(), ElementsAre("/b"));
}

TEST(MemoryFaultTest, FailedOperationsChangeNothing) {
  MemoryEnv env;
  const auto file = MakeFile(env, "/file", std::string(2 * kPage, 'x'));
  env.AddFault({.forever = true});
  EXPECT_EQ(CodeOf(WriteText(*file, 0, "y")), Code::kIo);
  EXPECT_EQ(CodeOf(file->Truncate(0)), Code::kIo);
  EXPECT_EQ(CodeOf(file->PunchHole(0, kPage)), Code::kIo);
  EXPECT_EQ(CodeOf(file->Allocate(0, 9 * kPage)), Code::kIo);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kIo);
  EXPECT_EQ(CodeOf(file->Info()), Code::kIo);
  EXPECT_EQ(CodeOf(file->SeekData(0)), Code::kIo);
  EXPECT_EQ(CodeOf(file->SeekHole(0)), Code::kIo);
  EXPECT_EQ(CodeOf(env.Open("/new", OpenMode::kCreate)), Code::kIo);
  EXPECT_EQ(CodeOf(env.Remove("/file")), Code::kIo);
  EXPECT_EQ(CodeOf(env.Rename("/file", "/other")), Code::kIo);
  EXPECT_EQ(CodeOf(env.CreateDir("/dir")), Code::kIo);
  EXPECT_EQ(CodeOf(env.RemoveDir("/dir")), Code::kIo);
  EXPECT_EQ(CodeOf(env.SyncDir("/")), Code::kIo);
  EXPECT_EQ(CodeOf(env.List("/")), Code::kIo);
  EXPECT_EQ(CodeOf(env.Info("/file")), Code::kIo);
  EXPECT_EQ(CodeOf(env.Space("/")), Code::kIo);
  EXPECT_EQ(CodeOf(env.Lock("/lock")), Code::kIo);
  EXPECT_EQ(env.fired_fault_count(), 18u);
  env.ClearFaults();
  EXPECT_THAT(*env.List("/"), ElementsAre("file"));
  EXPECT_EQ(ReadText(*file, 0, 3 * kPage), std::string(2 * kPage, 'x'));
  EXPECT_EQ(CodeOf(env.DurableBytes("/file")), Code::kNotFound);
}

TEST(MemoryFaultTest, ShortWriteLeavesAPrefix) {
  MemoryEnv env;
  const auto file = MustOpen(env, "/file");
  env.AddFault({.ops = Op::kWrite, .error = EIO, .written_bytes = 3});
  EXPECT_EQ(CodeOf(WriteText(*file, 10, "abcdef")), Code::kIo);
  EXPECT_EQ(ReadText(*file, 10, 10), "abc");
}

TEST(MemoryFaultTest, CountersLetATestSweep) {
  MemoryEnv env;
  const auto file = MakeFile(env, "/file", "x");
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(CodeOf(env.SyncDir("/")), Code::kOk);
  EXPECT_EQ(ReadText(*file, 0, 1), "x");
  MustOpen(env, "/file");
  EXPECT_EQ(env.operation_count(), 6u);
  EXPECT_EQ(env.operation_count(Op::kOpen), 2u);
  EXPECT_EQ(env.sync_count(), 2u);
  // The create, the write and two syncs; neither the read nor the second open.
  EXPECT_EQ(env.mutation_count(), 4u);
}

TEST(MemoryFaultTest, HookRunsOutsideTheMutex) {
  MemoryEnv env;
  std::vector<std::string> synced;
  env.SetHook([&](Op op, const std::string& path) {
    if (op != Op::kSync) return;
    EXPECT_TRUE(env.Exists(path));
    synced.push_back(path);
  });
  const auto file = MakeFile(env, "/file", "x");
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  env.SetHook(nullptr);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_THAT(synced, ElementsAre("/file"));
}

TEST(MemoryFaultTest, FullDiskTakesAPrefix) {
  MemoryEnv env;
  env.SetCapacity(4 * kPage);
  const auto file = MustOpen(env, "/file");
  EXPECT_EQ(CodeOf(WriteText(*file, 100, std::string(6 * kPage, 'x'))), Code::kNoSpace);
  EXPECT_EQ(file->Info()->size, 4 * kPage);
  EXPECT_EQ(env.Space("/")->free_bytes, 0u);
  EXPECT_EQ(env.Space("/")->total_bytes, 4 * kPage);
  // What is there can be written again.
  EXPECT_EQ(CodeOf(WriteText(*file, 0, std::string(4 * kPage, 'y'))), Code::kOk);
  EXPECT_EQ(CodeOf(file->Allocate(0, 4 * kPage)), Code::kOk);
  EXPECT_EQ(CodeOf(file->Allocate(0, 5 * kPage)), Code::kNoSpace);
  EXPECT_EQ(file->Info()->size, 4 * kPage);
}

TEST(MemoryFaultTest, SpaceComesBack) {
  MemoryEnv env;
  env.SetCapacity(8 * kPage);
  const auto free_pages = [&] { return env.Space("/")->free_bytes / kPage; };
  auto file = MakeFile(env, "/file", std::string(4 * kPage, 'x'));
  EXPECT_EQ(free_pages(), 4u);
  EXPECT_EQ(CodeOf(file->PunchHole(kPage, kPage)), Code::kOk);
  EXPECT_EQ(free_pages(), 5u);
  EXPECT_EQ(CodeOf(file->Truncate(kPage + 1)), Code::kOk);
  EXPECT_EQ(free_pages(), 7u);
  EXPECT_EQ(CodeOf(file->Allocate(0, 3 * kPage)), Code::kOk);
  EXPECT_EQ(free_pages(), 5u);
  // A removed file holds its space until the last handle is closed.
  EXPECT_EQ(CodeOf(env.Remove("/file")), Code::kOk);
  EXPECT_EQ(free_pages(), 5u);
  file.reset();
  EXPECT_EQ(free_pages(), 8u);
  MakeFile(env, "/a", std::string(kPage, 'a'));
  MakeFile(env, "/b", std::string(2 * kPage, 'b'));
  EXPECT_EQ(CodeOf(env.Rename("/a", "/b")), Code::kOk);
  EXPECT_EQ(free_pages(), 7u);
}

TEST(MemoryFaultTest, FailedSyncGivesItsPagesUp) {
  // As on Linux: the sync after a failed one succeeds, but what the failed one was to write has
  // not reached the disk.
  MemoryEnv env;
  const auto file = MakeDurableFile(env, "/", "file", std::string(2 * kPage, 'a'));
  EXPECT_EQ(CodeOf(WriteText(*file, 0, "b")), Code::kOk);
  env.AddFault({.ops = Op::kSync});
  EXPECT_EQ(CodeOf(file->Sync()), Code::kIo);
  EXPECT_EQ(CodeOf(WriteText(*file, kPage, "c")), Code::kOk);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(env.DurableBytes("/file")->substr(0, 1), "a");
  EXPECT_EQ(env.DurableBytes("/file")->substr(kPage, 1), "c");
  EXPECT_EQ(ReadText(*file, 0, 1), "b");
  // Written again, the page is as good as any.
  EXPECT_EQ(CodeOf(WriteText(*file, 1, "b")), Code::kOk);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(env.DurableBytes("/file")->substr(0, 3), "bba");
}

TEST(MemoryFaultTest, DamageHitsBothStates) {
  MemoryEnv env;
  const auto file = MakeDurableFile(env, "/", "file", std::string(2 * kPage, '\x0f'));
  EXPECT_EQ(CodeOf(WriteText(*file, 0, "new")), Code::kOk);
  EXPECT_EQ(CodeOf(env.FlipByte("/file", 5)), Code::kOk);
  EXPECT_EQ(CodeOf(env.FlipByte("/file", kPage)), Code::kOk);
  EXPECT_EQ(CodeOf(env.FlipByte("/file", 2 * kPage)), Code::kInvalid);
  EXPECT_EQ(ReadText(*file, 4, 2), "\x0f\xf0");
  EXPECT_EQ(env.DurableBytes("/file")->substr(4, 2), "\x0f\xf0");
  EXPECT_EQ(ReadText(*file, kPage, 2), "\xf0\x0f");
  EXPECT_EQ(env.DurableBytes("/file")->substr(kPage, 2), "\xf0\x0f");
  EXPECT_EQ(ReadText(*file, 0, 3), "new");
  EXPECT_EQ(env.DurableBytes("/file")->substr(0, 3), "\x0f\x0f\x0f");

  EXPECT_EQ(CodeOf(env.TruncateBehindBack("/file", 10)), Code::kOk);
  EXPECT_EQ(file->Info()->size, 10u);
  EXPECT_EQ(env.DurableBytes("/file")->size(), 10u);
  EXPECT_EQ(env.Space("/")->total_bytes - env.Space("/")->free_bytes, kPage);
  EXPECT_EQ(CodeOf(env.RemoveBehindBack("/file")), Code::kOk);
  EXPECT_EQ(CodeOf(env.RemoveBehindBack("/file")), Code::kNotFound);
  EXPECT_FALSE(env.Exists("/file"));
  EXPECT_EQ(CodeOf(env.DurableBytes("/file")), Code::kNotFound);
}

}  // namespace
}  // namespace cairn
