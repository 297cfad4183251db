// The contract of Env and File, the same for every implementation.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "src/env/env.h"
#include "src/env/memory_env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kTiB = uint64_t{1} << 40;

enum class Kind { kPosix, kMemory };

class EnvContractTest : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::kMemory) {
      env_ = std::make_unique<MemoryEnv>();
      root_ = "/store";
      ASSERT_EQ(CodeOf(env_->CreateDir(root_)), Code::kOk);
      return;
    }
    env_ = NewPosixEnv();
    root_ = (std::filesystem::temp_directory_path() / "cairn-env-XXXXXX").string();
    ASSERT_NE(::mkdtemp(root_.data()), nullptr);
  }

  void TearDown() override {
    std::error_code ignored;
    if (GetParam() == Kind::kPosix) std::filesystem::remove_all(root_, ignored);
  }

  std::string Path(const std::string& name) const { return root_ + "/" + name; }
  // ext4 ends at 16 TiB.
  uint64_t FarAway() const { return GetParam() == Kind::kPosix ? 8 * kTiB : 64 * kTiB; }

  std::unique_ptr<Env> env_;
  std::string root_;
};

TEST_P(EnvContractTest, OpenModes) {
  const std::string path = Path("file");
  EXPECT_EQ(CodeOf(env_->Open(path, OpenMode::kReadOnly)), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->Open(path, OpenMode::kReadWrite)), Code::kNotFound);
  EXPECT_FALSE(env_->Exists(path));
  EXPECT_EQ(CodeOf(WriteText(*MustOpen(*env_, path, OpenMode::kCreateNew), 0, "abc")), Code::kOk);
  EXPECT_TRUE(env_->Exists(path));
  EXPECT_EQ(CodeOf(env_->Open(path, OpenMode::kCreateNew)), Code::kExists);
  for (const OpenMode mode : {OpenMode::kReadOnly, OpenMode::kReadWrite, OpenMode::kCreate}) {
    const auto file = MustOpen(*env_, path, mode);
    EXPECT_EQ(file->path(), path);
    EXPECT_EQ(ReadText(*file, 0, 10), "abc");
  }
}

TEST_P(EnvContractTest, OpenRefusesWhatIsNotAFile) {
  ASSERT_EQ(CodeOf(env_->CreateDir(Path("dir"))), Code::kOk);
  EXPECT_EQ(CodeOf(env_->Open(Path("dir"), OpenMode::kReadOnly)), Code::kIsDirectory);
  EXPECT_EQ(CodeOf(env_->Open(Path("dir"), OpenMode::kReadWrite)), Code::kIsDirectory);
  EXPECT_EQ(CodeOf(env_->Open(Path("dir"), OpenMode::kCreate)), Code::kIsDirectory);
  EXPECT_EQ(CodeOf(env_->Open(Path("dir"), OpenMode::kCreateNew)), Code::kExists);
  EXPECT_EQ(CodeOf(env_->Open(Path("none/file"), OpenMode::kCreate)), Code::kNotFound);
  MakeFile(*env_, Path("file"), "x");
  EXPECT_EQ(CodeOf(env_->Open(Path("file/below"), OpenMode::kCreate)), Code::kNotDirectory);
  const std::string long_name(256, 'n');
  EXPECT_EQ(CodeOf(env_->Open(Path(long_name), OpenMode::kCreate)), Code::kNameTooLong);
}

TEST_P(EnvContractTest, ReadOnlyFileRefusesChanges) {
  MakeFile(*env_, Path("file"), "abc");
  const auto file = MustOpen(*env_, Path("file"), OpenMode::kReadOnly);
  EXPECT_FALSE(WriteText(*file, 0, "x").ok());
  EXPECT_FALSE(file->Truncate(0).ok());
  EXPECT_FALSE(file->PunchHole(0, 3).ok());
  EXPECT_FALSE(file->Allocate(0, 8192).ok());
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(ReadText(*file, 0, 10), "abc");
}

TEST_P(EnvContractTest, ReadAndWriteAnywhere) {
  const auto file = MustOpen(*env_, Path("file"));
  EXPECT_EQ(ReadText(*file, 0, 10), "");
  ASSERT_EQ(CodeOf(WriteText(*file, 5000, "world")), Code::kOk);
  ASSERT_EQ(CodeOf(WriteText(*file, 0, "hello")), Code::kOk);
  EXPECT_EQ(file->Info()->size, 5005u);
  EXPECT_EQ(ReadText(*file, 0, 8), std::string("hello\0\0\0", 8));
  EXPECT_EQ(ReadText(*file, 4998, 100), std::string("\0\0world", 7));
  EXPECT_EQ(ReadText(*file, 5005, 10), "");
  EXPECT_EQ(ReadText(*file, 1 << 30, 10), "");
  EXPECT_EQ(ReadText(*file, ~uint64_t{0}, 10), "");

  std::string pattern(300 * kKiB, ' ');
  for (size_t i = 0; i < pattern.size(); ++i) pattern[i] = static_cast<char>(i * 7 + i / 256);
  ASSERT_EQ(CodeOf(WriteText(*file, 777, pattern)), Code::kOk);
  EXPECT_EQ(ReadText(*file, 777, pattern.size() + 5), pattern);
  EXPECT_EQ(ReadText(*file, 777 + 4095, 4098), pattern.substr(4095, 4098));
}

TEST_P(EnvContractTest, EmptyWriteDoesNotExtend) {
  const auto file = MustOpen(*env_, Path("file"));
  EXPECT_EQ(CodeOf(WriteText(*file, 100, "")), Code::kOk);
  EXPECT_EQ(file->Info()->size, 0u);
}

TEST_P(EnvContractTest, OffsetsBeyondTheLargestAreTooLarge) {
  const auto file = MustOpen(*env_, Path("file"));
  const uint64_t largest = std::numeric_limits<int64_t>::max();
  for (const uint64_t offset : {largest, largest + 1, ~uint64_t{0}}) {
    EXPECT_EQ(CodeOf(WriteText(*file, offset, "xy")), Code::kTooLarge) << offset;
    EXPECT_EQ(CodeOf(file->Allocate(offset, 2)), Code::kTooLarge) << offset;
    EXPECT_EQ(CodeOf(file->SeekData(offset)), Code::kNoDevice) << offset;
    EXPECT_EQ(CodeOf(file->SeekHole(offset)), Code::kNoDevice) << offset;
    EXPECT_EQ(CodeOf(file->PunchHole(offset, ~uint64_t{0})), Code::kOk) << offset;
  }
  EXPECT_EQ(CodeOf(file->Truncate(~uint64_t{0})), Code::kTooLarge);
  EXPECT_EQ(file->Info()->size, 0u);
}

TEST_P(EnvContractTest, TruncateShrinksAndGrowsWithZeros) {
  const auto file = MakeFile(*env_, Path("file"), std::string(10000, 'x'));
  ASSERT_EQ(CodeOf(file->Truncate(4100)), Code::kOk);
  EXPECT_EQ(file->Info()->size, 4100u);
  EXPECT_EQ(ReadText(*file, 4090, 100), std::string(10, 'x'));
  ASSERT_EQ(CodeOf(file->Truncate(10000)), Code::kOk);
  EXPECT_EQ(ReadText(*file, 4090, 6000), std::string(10, 'x') + std::string(5900, '\0'));
  ASSERT_EQ(CodeOf(file->Truncate(0)), Code::kOk);
  EXPECT_EQ(file->Info()->allocated_bytes, 0u);
}

TEST_P(EnvContractTest, ToStartWritebackChangesNothing) {
  const auto file = MakeFile(*env_, Path("file"), std::string(10000, 'x'));
  EXPECT_EQ(CodeOf(file->StartWriteback(0, 10000)), Code::kOk);
  EXPECT_EQ(CodeOf(file->StartWriteback(4096, 1)), Code::kOk);
  EXPECT_EQ(CodeOf(file->StartWriteback(4096, 0)), Code::kOk);
  EXPECT_EQ(CodeOf(file->StartWriteback(1 << 20, 4096)), Code::kOk);
  EXPECT_EQ(CodeOf(file->StartWriteback(~uint64_t{0}, 4096)), Code::kOk);
  EXPECT_EQ(CodeOf(file->StartWriteback(4096, ~uint64_t{0})), Code::kOk);
  EXPECT_EQ(file->Info()->size, 10000u);
  EXPECT_EQ(ReadText(*file, 0, 20000), std::string(10000, 'x'));
  EXPECT_EQ(CodeOf(WriteText(*file, 5000, "y")), Code::kOk);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(ReadText(*file, 4999, 3), "xyx");
}

TEST_P(EnvContractTest, SparseFileIsCheap) {
  const auto file = MustOpen(*env_, Path("file"));
  const uint64_t far = FarAway();
  ASSERT_EQ(CodeOf(file->Truncate(far)), Code::kOk);
  ASSERT_EQ(CodeOf(WriteText(*file, far - 3 * 4096, std::string(4096, 'x'))), Code::kOk);
  EXPECT_EQ(file->Info()->size, far);
  EXPECT_LE(file->Info()->allocated_bytes, 64 * kKiB);
  EXPECT_EQ(*file->SeekData(0), far - 3 * 4096);
  EXPECT_EQ(*file->SeekHole(0), 0u);
  EXPECT_EQ(*file->SeekHole(far - 3 * 4096), far - 2 * 4096);
  EXPECT_EQ(CodeOf(file->SeekData(far - 4096)), Code::kNoDevice);
  EXPECT_EQ(ReadText(*file, far / 2, 4), std::string(4, '\0'));
  ASSERT_EQ(CodeOf(file->PunchHole(0, far)), Code::kOk);
  EXPECT_EQ(file->Info()->size, far);
  EXPECT_EQ(CodeOf(file->SeekData(0)), Code::kNoDevice);
}

TEST_P(EnvContractTest, SeeksFindDataAndHoles) {
  const auto file = MustOpen(*env_, Path("file"));
  EXPECT_EQ(CodeOf(file->SeekData(0)), Code::kNoDevice);
  EXPECT_EQ(CodeOf(file->SeekHole(0)), Code::kNoDevice);
  // Data in [64K, 128K) and [256K, 256K + 100).
  ASSERT_EQ(CodeOf(WriteText(*file, 64 * kKiB, std::string(64 * kKiB, 'a'))), Code::kOk);
  ASSERT_EQ(CodeOf(WriteText(*file, 256 * kKiB, std::string(100, 'b'))), Code::kOk);
  EXPECT_EQ(*file->SeekData(0), 64 * kKiB);
  EXPECT_EQ(*file->SeekData(64 * kKiB), 64 * kKiB);
  EXPECT_EQ(*file->SeekData(100000), 100000u);
  EXPECT_EQ(*file->SeekData(128 * kKiB), 256 * kKiB);
  EXPECT_EQ(*file->SeekHole(0), 0u);
  EXPECT_EQ(*file->SeekHole(64 * kKiB), 128 * kKiB);
  EXPECT_EQ(*file->SeekHole(100000), 128 * kKiB);
  EXPECT_EQ(*file->SeekHole(150000), 150000u);
  EXPECT_EQ(*file->SeekHole(256 * kKiB), 256 * kKiB + 100);
  EXPECT_EQ(CodeOf(file->SeekData(256 * kKiB + 100)), Code::kNoDevice);
  EXPECT_EQ(CodeOf(file->SeekHole(256 * kKiB + 100)), Code::kNoDevice);
}

TEST_P(EnvContractTest, PunchZeroesAndGivesBlocksBack) {
  const auto file = MakeFile(*env_, Path("file"), std::string(64 * kKiB + 100, 'x'));
  ASSERT_EQ(CodeOf(file->Sync()), Code::kOk);
  ASSERT_EQ(CodeOf(file->PunchHole(1000, 20000)), Code::kOk);
  EXPECT_EQ(ReadText(*file, 999, 20002), "x" + std::string(20000, '\0') + "x");
  EXPECT_EQ(file->Info()->size, 64 * kKiB + 100);
  EXPECT_EQ(CodeOf(file->PunchHole(0, 0)), Code::kOk);
  EXPECT_EQ(ReadText(*file, 0, 1), "x");
  // The range may end, or lie altogether, behind the end of the file.
  ASSERT_EQ(CodeOf(file->PunchHole(64 * kKiB, kTiB)), Code::kOk);
  EXPECT_EQ(ReadText(*file, 64 * kKiB - 1, 500), "x" + std::string(100, '\0'));
  EXPECT_EQ(CodeOf(file->PunchHole(kTiB, 4096)), Code::kOk);
  ASSERT_EQ(CodeOf(file->PunchHole(0, ~uint64_t{0})), Code::kOk);
  EXPECT_EQ(file->Info()->size, 64 * kKiB + 100);
  ASSERT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(file->Info()->allocated_bytes, 0u);
}

TEST_P(EnvContractTest, AllocateReservesAndExtends) {
  const auto file = MakeFile(*env_, Path("file"), "abc");
  const Status status = file->Allocate(0, 128 * kKiB);
  if (status.code() == Code::kUnsupported) GTEST_SKIP() << status.ToString();
  ASSERT_EQ(CodeOf(status), Code::kOk);
  EXPECT_EQ(file->Info()->size, 128 * kKiB);
  EXPECT_GE(file->Info()->allocated_bytes, 128 * kKiB);
  EXPECT_EQ(ReadText(*file, 0, 5), std::string("abc\0\0", 5));
  EXPECT_EQ(CodeOf(file->Allocate(1, 0)), Code::kOk);
  EXPECT_EQ(CodeOf(file->Allocate(0, 4096)), Code::kOk);
  EXPECT_EQ(file->Info()->size, 128 * kKiB);
}

TEST_P(EnvContractTest, WhatIsWrittenOrReservedIsAllocatedAndHolesAreNot) {
  const auto file = MustOpen(*env_, Path("file"));
  ASSERT_EQ(CodeOf(file->Truncate(512 * kKiB)), Code::kOk);
  EXPECT_EQ(*file->AllocatedIn(0, 512 * kKiB), 0u);
  ASSERT_EQ(CodeOf(WriteText(*file, 64 * kKiB, std::string(64 * kKiB, 'a'))), Code::kOk);
  const Status status = file->Allocate(256 * kKiB, 64 * kKiB);
  if (status.code() == Code::kUnsupported) GTEST_SKIP() << status.ToString();
  ASSERT_EQ(CodeOf(status), Code::kOk);
  for (const bool synced : {false, true}) {
    if (synced) {
      ASSERT_EQ(CodeOf(file->Sync()), Code::kOk);
    }
    EXPECT_EQ(*file->AllocatedIn(0, 512 * kKiB), 128 * kKiB) << synced;
    EXPECT_EQ(*file->AllocatedIn(64 * kKiB, 64 * kKiB), 64 * kKiB) << synced;
    EXPECT_EQ(*file->AllocatedIn(256 * kKiB, 64 * kKiB), 64 * kKiB) << synced;
    EXPECT_EQ(*file->AllocatedIn(128 * kKiB, 128 * kKiB), 0u) << synced;
    EXPECT_EQ(*file->AllocatedIn(100'000, 1000), 1000u) << synced;
    EXPECT_EQ(*file->AllocatedIn(256 * kKiB - 10, 20), 10u) << synced;
    EXPECT_EQ(*file->AllocatedIn(320 * kKiB - 10, 20), 10u) << synced;
    EXPECT_EQ(*file->AllocatedIn(256 * kKiB, 0), 0u) << synced;
  }
  ASSERT_EQ(CodeOf(WriteText(*file, 264 * kKiB, std::string(4 * kKiB, 'b'))), Code::kOk);
  EXPECT_EQ(*file->AllocatedIn(256 * kKiB, 64 * kKiB), 64 * kKiB);
  ASSERT_EQ(CodeOf(file->PunchHole(260 * kKiB, 8 * kKiB)), Code::kOk);
  EXPECT_EQ(*file->AllocatedIn(256 * kKiB, 64 * kKiB), 56 * kKiB);
  EXPECT_EQ(ReadText(*file, 256 * kKiB, 64 * kKiB), std::string(64 * kKiB, '\0'));
}

TEST_P(EnvContractTest, WhatIsAllocatedInManyPiecesIsCountedWhole) {
  const auto file = MustOpen(*env_, Path("file"));
  constexpr uint64_t kPieces = 200;
  for (uint64_t i = 0; i < kPieces; ++i) {
    ASSERT_EQ(CodeOf(WriteText(*file, i * 64 * kKiB, std::string(4 * kKiB, 'a'))), Code::kOk);
  }
  EXPECT_EQ(*file->AllocatedIn(0, (kPieces - 1) * 64 * kKiB + 4 * kKiB), kPieces * 4 * kKiB);
  EXPECT_EQ(*file->AllocatedIn(64 * kKiB + 1000, 128 * kKiB), 2 * 4 * kKiB);
}

TEST_P(EnvContractTest, DirectoriesAndNames) {
  EXPECT_EQ(CodeOf(env_->CreateDir(Path("d"))), Code::kOk);
  EXPECT_EQ(CodeOf(env_->CreateDir(Path("d"))), Code::kExists);
  EXPECT_EQ(CodeOf(env_->CreateDir(Path("none/d"))), Code::kNotFound);
  MakeFile(*env_, Path("d/b"), "1");
  MakeFile(*env_, Path("d/a"), "22");
  EXPECT_EQ(CodeOf(env_->CreateDir(Path("d/a"))), Code::kExists);
  ASSERT_EQ(CodeOf(env_->CreateDir(Path("d/c"))), Code::kOk);
  EXPECT_THAT(*env_->List(Path("d")), ElementsAre("a", "b", "c"));
  EXPECT_THAT(*env_->List(Path("d/c")), ElementsAre());
  EXPECT_EQ(CodeOf(env_->List(Path("none"))), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->List(Path("d/a"))), Code::kNotDirectory);
  EXPECT_TRUE(env_->Info(Path("d"))->is_directory);
  EXPECT_FALSE(env_->Info(Path("d/a"))->is_directory);
  EXPECT_EQ(env_->Info(Path("d/a"))->size, 2u);
  EXPECT_EQ(CodeOf(env_->Info(Path("d/none"))), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->SyncDir(Path("d"))), Code::kOk);
  EXPECT_EQ(CodeOf(env_->SyncDir(Path("none"))), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->SyncDir(Path("d/a"))), Code::kNotDirectory);
}

TEST_P(EnvContractTest, RemoveAndRemoveDir) {
  ASSERT_EQ(CodeOf(env_->CreateDir(Path("d"))), Code::kOk);
  MakeFile(*env_, Path("d/file"), "x");
  EXPECT_EQ(CodeOf(env_->Remove(Path("d"))), Code::kIsDirectory);
  EXPECT_EQ(CodeOf(env_->Remove(Path("none"))), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->RemoveDir(Path("none"))), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->RemoveDir(Path("d/file"))), Code::kNotDirectory);
  EXPECT_EQ(CodeOf(env_->RemoveDir(Path("d"))), Code::kNotEmpty);
  EXPECT_EQ(CodeOf(env_->Remove(Path("d/file"))), Code::kOk);
  EXPECT_EQ(CodeOf(env_->Remove(Path("d/file"))), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->RemoveDir(Path("d"))), Code::kOk);
  EXPECT_FALSE(env_->Exists(Path("d")));
}

TEST_P(EnvContractTest, RemovedFileLivesOnInItsHandle) {
  const auto file = MakeFile(*env_, Path("file"), "abc");
  ASSERT_EQ(CodeOf(env_->Remove(Path("file"))), Code::kOk);
  MakeFile(*env_, Path("file"), "new");
  EXPECT_EQ(ReadText(*file, 0, 10), "abc");
  EXPECT_EQ(CodeOf(WriteText(*file, 3, "d")), Code::kOk);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(ReadText(*file, 0, 10), "abcd");
  EXPECT_EQ(*env_->ReadWhole(Path("file"), 10), "new");
}

TEST_P(EnvContractTest, RenameReplaces) {
  const auto file = MakeFile(*env_, Path("a"), "from a");
  MakeFile(*env_, Path("b"), "from b");
  ASSERT_EQ(CodeOf(env_->Rename(Path("a"), Path("b"))), Code::kOk);
  EXPECT_FALSE(env_->Exists(Path("a")));
  EXPECT_EQ(*env_->ReadWhole(Path("b"), 10), "from a");
  EXPECT_EQ(ReadText(*file, 0, 10), "from a");
  EXPECT_EQ(CodeOf(env_->Rename(Path("b"), Path("b"))), Code::kOk);
  EXPECT_TRUE(env_->Exists(Path("b")));
  EXPECT_EQ(CodeOf(env_->Rename(Path("a"), Path("b"))), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->Rename(Path("b"), Path("none/b"))), Code::kNotFound);
}

TEST_P(EnvContractTest, RenameOfDirectories) {
  ASSERT_EQ(CodeOf(env_->CreateDir(Path("d"))), Code::kOk);
  ASSERT_EQ(CodeOf(env_->CreateDir(Path("d/sub"))), Code::kOk);
  MakeFile(*env_, Path("d/sub/file"), "x");
  MakeFile(*env_, Path("file"), "y");
  ASSERT_EQ(CodeOf(env_->CreateDir(Path("empty"))), Code::kOk);
  EXPECT_EQ(CodeOf(env_->Rename(Path("d"), Path("d/sub/d"))), Code::kInvalid);
  EXPECT_EQ(CodeOf(env_->Rename(Path("file"), Path("empty"))), Code::kIsDirectory);
  EXPECT_EQ(CodeOf(env_->Rename(Path("empty"), Path("file"))), Code::kNotDirectory);
  EXPECT_EQ(CodeOf(env_->Rename(Path("empty"), Path("d"))), Code::kNotEmpty);
  EXPECT_EQ(CodeOf(env_->Rename(Path("d/sub"), Path("empty"))), Code::kOk);
  EXPECT_EQ(*env_->ReadWhole(Path("empty/file"), 10), "x");
  EXPECT_EQ(CodeOf(env_->RemoveDir(Path("d"))), Code::kOk);
}

TEST_P(EnvContractTest, LockExcludes) {
  auto lock = env_->Lock(Path("lock"));
  ASSERT_EQ(CodeOf(lock), Code::kOk);
  EXPECT_TRUE(env_->Exists(Path("lock")));
  EXPECT_EQ(CodeOf(env_->Lock(Path("lock"))), Code::kBusy);
  EXPECT_EQ(CodeOf(env_->Lock(Path("other"))), Code::kOk);
  lock->reset();
  EXPECT_EQ(CodeOf(env_->Lock(Path("lock"))), Code::kOk);
  EXPECT_EQ(CodeOf(env_->Lock(Path("none/lock"))), Code::kNotFound);
  EXPECT_EQ(CodeOf(env_->Lock(root_)), Code::kIsDirectory);
}

TEST_P(EnvContractTest, SpaceAddsUp) {
  const Result<SpaceInfo> space = env_->Space(root_);
  ASSERT_EQ(CodeOf(space), Code::kOk);
  EXPECT_GT(space->total_bytes, 0u);
  EXPECT_LE(space->free_bytes, space->total_bytes);
  EXPECT_LE(space->available_bytes, space->free_bytes);
  EXPECT_LE(space->available_bytes, space->usable_bytes);
  EXPECT_LE(space->usable_bytes, space->free_bytes);
  EXPECT_LE(space->files_free, space->files_total);
  EXPECT_EQ(CodeOf(env_->Space(Path("none"))), Code::kNotFound);
}

TEST_P(EnvContractTest, ErrorsNameThePath) {
  const std::string path = Path("absent");
  EXPECT_THAT(env_->Open(path, OpenMode::kReadOnly).status().context(), HasSubstr(path));
  EXPECT_THAT(env_->Remove(path).context(), HasSubstr(path));
  EXPECT_THAT(env_->RemoveDir(path).context(), HasSubstr(path));
  EXPECT_THAT(env_->Rename(path, Path("x")).context(), HasSubstr(path));
  EXPECT_THAT(env_->CreateDir(root_).context(), HasSubstr(root_));
  EXPECT_THAT(env_->SyncDir(path).context(), HasSubstr(path));
  EXPECT_THAT(env_->List(path).status().context(), HasSubstr(path));
  EXPECT_THAT(env_->Info(path).status().context(), HasSubstr(path));
  EXPECT_THAT(env_->Space(path).status().context(), HasSubstr(path));
  EXPECT_THAT(env_->ReadWhole(path, 1).status().context(), HasSubstr(path));
  const auto file = MustOpen(*env_, Path("empty"));
  EXPECT_THAT(file->SeekData(0).status().context(), HasSubstr(file->path()));
  EXPECT_THAT(WriteText(*file, ~uint64_t{0}, "x").context(), HasSubstr(file->path()));
}

TEST_P(EnvContractTest, ReadWholeHasALimit) {
  MakeFile(*env_, Path("file"), "12345");
  EXPECT_EQ(*env_->ReadWhole(Path("file"), 5), "12345");
  EXPECT_EQ(CodeOf(env_->ReadWhole(Path("file"), 4)), Code::kTooLarge);
  MakeFile(*env_, Path("empty"), "");
  EXPECT_EQ(*env_->ReadWhole(Path("empty"), 0), "");
  EXPECT_EQ(CodeOf(env_->ReadWhole(Path("none"), 4)), Code::kNotFound);
}

TEST_P(EnvContractTest, WriteWholeDurablyReplaces) {
  EXPECT_EQ(CodeOf(env_->WriteWholeDurably(Path("file"), "first, the longer one")), Code::kOk);
  EXPECT_EQ(*env_->ReadWhole(Path("file"), 100), "first, the longer one");
  MakeFile(*env_, Path("file.tmp"), "left over by a crash, much longer than what comes next");
  EXPECT_EQ(CodeOf(env_->WriteWholeDurably(Path("file"), "second")), Code::kOk);
  EXPECT_EQ(*env_->ReadWhole(Path("file"), 100), "second");
  EXPECT_THAT(*env_->List(root_), ElementsAre("file"));
  EXPECT_EQ(CodeOf(env_->WriteWholeDurably(Path("none/file"), "x")), Code::kNotFound);
  ASSERT_EQ(CodeOf(env_->CreateDir(Path("dir"))), Code::kOk);
  EXPECT_EQ(CodeOf(env_->WriteWholeDurably(Path("dir"), "x")), Code::kIsDirectory);
  EXPECT_THAT(*env_->List(root_), ElementsAre("dir", "file"));
}

TEST_P(EnvContractTest, ThreadsShareOneFile) {
  constexpr size_t kThreads = 4;
  constexpr size_t kBlock = 1000;
  const auto file = MustOpen(*env_, Path("file"));
  std::vector<std::thread> threads;
  for (size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const std::string mine(kBlock, static_cast<char>('a' + t));
      for (size_t i = 0; i < 50; ++i) {
        const uint64_t offset = (i * kThreads + t) * kBlock;
        EXPECT_EQ(CodeOf(WriteText(*file, offset, mine)), Code::kOk);
        EXPECT_EQ(CodeOf(file->SeekData(0)), Code::kOk);
        EXPECT_EQ(ReadText(*file, offset, kBlock), mine);
        const std::string name = Path("t" + std::to_string(t));
        MakeFile(*env_, name, mine);
        EXPECT_EQ(CodeOf(env_->Remove(name)), Code::kOk);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(file->Info()->size, 50 * kThreads * kBlock);
}

INSTANTIATE_TEST_SUITE_P(Envs, EnvContractTest, ::testing::Values(Kind::kPosix, Kind::kMemory),
                         [](const ::testing::TestParamInfo<Kind>& kind) {
                           return kind.param == Kind::kPosix ? "Posix" : "Memory";
                         });

}  // namespace
}  // namespace cairn
