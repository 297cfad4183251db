// fsck: damage to LevelDB's tables, also where it keeps no record from being read.
#include <chrono>
#include <map>
#include <thread>
#include <utility>

#include "tests/volume/fsck_test_util.h"
#include "tests/warm/log_builder.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FsckTableTest : public FsckTest {
 protected:
  // Leaves the store closed, with all its records in tables; `table_` is the newest.
  void SetUp() override {
    FsckTest::SetUp();
    const Made volume = MakeVolume(kRootInode, "data.img", 64 * kChunkSize);
    Write(volume.branch, 0, kAllBlocks);
    Change([&](IndexBatch& batch) { batch.PutXattr(InodeId(70), "user.cairn.role", "data"); });
    Close();
    Open();
    Close();
    for (const std::string& path : IndexFiles()) {
      saved_[path] = *env_.DurableBytes(path);
      if (path.ends_with(".ldb")) older_ = std::exchange(table_, path);
    }
    ASSERT_FALSE(older_.empty());
  }
  std::vector<std::string> IndexFiles() {
    std::vector<std::string> paths;
    for (const std::string& path : env_.AllFiles()) {
      if (path.starts_with("/store/index/") || path == "/store/clean") paths.push_back(path);
    }
    return paths;
  }
  // The index as SetUp left it: what openings add would have LevelDB compact the table at last.
  void Restore() {
    for (const std::string& path : IndexFiles()) {
      if (saved_.contains(path)) continue;
      ASSERT_TRUE(env_.Remove(path).ok());
    }
    for (const auto& [path, bytes] : saved_) {
      ASSERT_TRUE(testing::WriteFile(env_, path, bytes).ok());
    }
  }
  uint64_t TableSize() const { return saved_.at(table_).size(); }
  FsckReport CheckWithFlipped(uint64_t at) {
    Restore();
    EXPECT_TRUE(env_.FlipByte(table_, at).ok());
    auto report = CheckStore(env_, kDir, {});
    EXPECT_TRUE(report.ok()) << report.status().ToString();
    return report.ok() ? *report : FsckReport();
  }
  // Damage to this byte of the table keeps no record from being read.
  uint64_t HarmlessByte() {
    uint64_t at = 0;
    while (at < TableSize() &&
           Codes(CheckWithFlipped(at)) !=
               std::vector<std::string>{"attribute-without-file", "index-table"}) {
      ++at;
    }
    Restore();
    return at;
  }

  std::string table_;
  std::string older_;
  std::map<std::string, std::string> saved_;
};

// Also of what LevelDB does without when it is bad, like a filter.
TEST_F(FsckTableTest, EveryFlippedByteIsNoticed) {
  for (uint64_t at = 0; at < TableSize() && !HasFailure(); ++at) {
    SCOPED_TRACE(at);
    const FsckReport report = CheckWithFlipped(at);
    EXPECT_FALSE(report.sound());
    EXPECT_THAT(Text(report), HasSubstr(table_));
  }
}

TEST_F(FsckTableTest, EveryFailedReadIsNoticed) {
  int harmless = 0;
  for (uint64_t n = 1;; ++n) {
    SCOPED_TRACE(n);
    Restore();
    Fault fault;
    fault.ops = Op::kRead;
    fault.nth = n;
    fault.path_contains = table_;
    const uint64_t fired = env_.fired_fault_count();
    env_.AddFault(fault);
    auto report = CheckStore(env_, kDir, {});
    env_.ClearFaults();
    if (env_.fired_fault_count() == fired) break;
    if (!report.ok()) {
      EXPECT_EQ(report.status().code(), Code::kIo);
      continue;
    }
    EXPECT_FALSE(report->sound());
    EXPECT_THAT(Text(*report), HasSubstr(table_));
    ++harmless;
  }
  EXPECT_EQ(harmless, 2);  // the metaindex block and the filter
}

TEST_F(FsckTableTest, OneWhoseRecordsCanAllBeReadIsWrittenAnew) {
  ASSERT_TRUE(env_.FlipByte(table_, HarmlessByte()).ok());
  Open();
  for (const bool repair : {false, true}) {
    const FsckReport report = Check(repair);
    EXPECT_THAT(Codes(report), ElementsAre("attribute-without-file", "index-table"));
    EXPECT_EQ(report.sound(), repair) << Text(report);
  }
  EXPECT_FALSE(env_.Exists(table_));
  ExpectClean();
  const FsckReport report = Check();
  EXPECT_EQ(report.volumes, 1u);
  EXPECT_EQ(report.versions, 1u);
  EXPECT_EQ(report.extent_files, 1u);
}

TEST_F(FsckTableTest, OneThatWasCompactedMeanwhileIsANote) {
  const uint64_t at = HarmlessByte();
  // The opening makes the fourth table, with which LevelDB begins a compaction. It leaves the file
  // when something was just being read from it.
  Result<FsckReport> report = FsckReport();
  bool is_gone = false;
  for (int turn = 0; turn < 10 && !is_gone; ++turn) {
    Restore();
    for (const char* name : {"user.a", "user.b"}) {
      Open();
      Change([&](IndexBatch& batch) { batch.PutXattr(kRootInode, name, "x"); });
      Close();
    }
    ASSERT_TRUE(env_.FlipByte(table_, at).ok());
    FsckOptions options;
    int looks = 0;
    options.progress = [&](std::string_view, uint64_t, uint64_t) {
      while (!is_gone && ++looks < 1000) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        is_gone = !env_.Exists(table_);
      }
    };
    report = CheckStore(env_, kDir, options);
    ASSERT_TRUE(report.ok()) << report.status().ToString();
  }
  EXPECT_TRUE(is_gone);
  EXPECT_TRUE(report->sound()) << Text(*report);
  EXPECT_EQ(report->note_count, 1u);
  EXPECT_THAT(Text(*report), HasSubstr("note index-table: "));
  EXPECT_THAT(Text(*report), HasSubstr(table_));
}

// Nor does it wait for space.
TEST_F(FsckTableTest, OnesThatCannotBeWrittenAnewKeepNoOtherRepairBack) {
  const uint64_t at = HarmlessByte();
  for (const char* path : {".ldb", ".log", "MANIFEST", "/store/index/"}) {
    for (const int error : {ENOSPC, EIO}) {
      SCOPED_TRACE(std::string(path) + " " + std::to_string(error));
      Restore();
      ASSERT_TRUE(env_.FlipByte(table_, at).ok());
      ASSERT_TRUE(env_.FlipByte(older_, saved_.at(older_).size() - 9).ok());  // the footer's zeros
      Fault fault;
      fault.ops = {Op::kWrite, Op::kOpen};
      fault.forever = true;
      fault.error = error;
      fault.path_contains = path;
      FsckOptions options;
      options.repair = true;
      // When all the rest has been done.
      options.progress = [&](std::string_view part, uint64_t done, uint64_t total) {
        if (part == "extents" && done == total) env_.AddFault(fault);
      };
      auto report = CheckStore(env_, kDir, options);
      env_.ClearFaults();
      ASSERT_TRUE(report.ok()) << report.status().ToString();
      ASSERT_THAT(Codes(*report),
                  ElementsAre("attribute-without-file", "index-table", "index-table"));
      EXPECT_TRUE(report->findings[0].repaired);
      for (const size_t table : {1, 2}) {
        EXPECT_FALSE(report->findings[table].repaired);
        EXPECT_THAT(report->findings[table].what, HasSubstr("but not be written anew: "));
      }
      EXPECT_FALSE(report->sound());
      Open();
      EXPECT_TRUE(Check(true).sound());
      ExpectClean();
      Close();
    }
  }
}

}  // namespace
}  // namespace cairn
