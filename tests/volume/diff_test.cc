// Differences over many leaves, and beside clean-up.
#include <gtest/gtest.h>

#include <future>
#include <optional>
#include <thread>

#include "src/volume/snapshot_ops.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kLeaf = 512 * kChunkSize;
constexpr uint64_t kLeaves = 40;
constexpr uint64_t kLast = (kLeaves - 1) * kLeaf;
constexpr uint64_t kChunksWritten = 64;  // of each leaf, so that records fill blocks of a table

class DiffTest : public testing::Test {
 protected:
  // A volume with records in many leaves, `s1` of it, and its last leaf's first block written
  // since.
  void SetUp() override {
    machine_.Mount();
    {
      const auto v = machine_.Create("v");
      for (uint64_t leaf = 0; leaf < kLeaves; ++leaf) {
        for (uint64_t chunk = 0; chunk < kChunksWritten; ++chunk) {
          ASSERT_EQ(WriteCode(*v, leaf * kLeaf + chunk * kChunkSize, kBlockSize, 1), Code::kOk);
        }
      }
    }
    ASSERT_TRUE(TrySnapshot(filesystem(), "s1", {"v"}).ok());
    WriteLast(2);
    // So that each block of the index is read from its file once.
    ASSERT_TRUE(machine_.Close().ok());
    machine_.Mount();
  }
  Filesystem& filesystem() { return machine_.filesystem(); }
  void WriteLast(unsigned stamp) {
    const auto v = machine_.Find("v");
    ASSERT_EQ(WriteCode(*v, kLast, kBlockSize, stamp), Code::kOk);
    ASSERT_TRUE(v->Sync().ok());
  }
  Result<DiffPage> Diff(const std::string& from, const std::string& to) {
    CAIRN_ASSIGN_OR_RETURN(const InodeId older, FindPath(filesystem(), from));
    CAIRN_ASSIGN_OR_RETURN(const InodeId newer, FindPath(filesystem(), to));
    return filesystem().snapshots().Diff(older, newer, 0, 1000);
  }
  // Runs `beside` to its end at the diff's n-th read of the index; false: there was none.
  bool DiffWith(uint64_t nth, const std::function<void()>& beside, const std::string& from,
                std::optional<Result<DiffPage>>& diff) {
    uint64_t reads = 0;
    std::future<void> running;
    machine_.env().SetHook([&, own = std::this_thread::get_id()](Op op, const std::string& path) {
      if (std::this_thread::get_id() != own) return;  // a compaction
      if (op != Op::kRead || !path.ends_with(".ldb") || ++reads != nth) return;
      running = std::async(std::launch::async, beside);
      // Unless it waits for the diff itself, which loads the volume.
      ended_ += running.wait_for(std::chrono::seconds(3)) == std::future_status::ready;
    });
    diff.emplace(Diff(from, "v"));
    machine_.env().SetHook(nullptr);
    return running.valid();
  }

  TestMachine machine_;
  int ended_ = 0;  // how often `beside` did within the diff
};

TEST_F(DiffTest, FindsABlockThatChangedBehindLeavesThatDidNot) {
  const auto diff = Diff(".snapshots/s1/v", "v");
  ASSERT_TRUE(diff.ok()) << diff.status().ToString();
  ASSERT_EQ(diff->ranges.size(), 1u);
  EXPECT_EQ(diff->ranges[0].offset, kLast);
  EXPECT_EQ(diff->ranges[0].length, kBlockSize);
  EXPECT_FALSE(diff->ranges[0].hole);
}

TEST_F(DiffTest, MissesNothingThatCleanUpTakesAwayMeanwhile) {
  const auto beside = [&] {
    EXPECT_TRUE(TrySnapshot(filesystem(), "s2", {"v"}).ok());
    WriteLast(3);
    EXPECT_TRUE(DeleteSnapshot(filesystem(), "s2").ok());
    machine_.RunBackground();
  };
  for (uint64_t nth = 1;; ++nth) {
    std::optional<Result<DiffPage>> diff;
    if (!DiffWith(nth, beside, ".snapshots/s1/v", diff)) {
      EXPECT_GT(ended_, 5) << "within a diff";
      return;
    }
    SCOPED_TRACE("at read " + std::to_string(nth));
    ASSERT_TRUE(diff->ok()) << diff->status().ToString();
    ASSERT_EQ((*diff)->ranges.size(), 1u);
    EXPECT_EQ((*diff)->ranges[0].offset, kLast);
    ASSERT_TRUE(machine_.Close().ok());
    machine_.Mount();
  }
}

TEST_F(DiffTest, OfASnapshotThatIsDeletedMeanwhileIsWholeOrAnError) {
  for (uint64_t nth = 1;; ++nth) {
    SCOPED_TRACE("at read " + std::to_string(nth));
    ASSERT_TRUE(TrySnapshot(filesystem(), "s3", {"v"}).ok());
    WriteLast(4);
    ASSERT_TRUE(machine_.Close().ok());
    machine_.Mount();
    std::optional<Result<DiffPage>> diff;
    const bool ran = DiffWith(
        nth,
        [&] {
          EXPECT_TRUE(DeleteSnapshot(filesystem(), "s3").ok());
          machine_.RunBackground();
        },
        ".snapshots/s3/v", diff);
    if (!ran) {
      EXPECT_GT(ended_, 5) << "within a diff";
      return;
    }
    if (!diff->ok()) {
      EXPECT_EQ(diff->status().code(), Code::kNotFound) << diff->status().ToString();
      continue;
    }
    ASSERT_EQ((*diff)->ranges.size(), 1u);
    EXPECT_EQ((*diff)->ranges[0].offset, kLast);
  }
}

}  // namespace
}  // namespace cairn
