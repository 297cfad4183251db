// What volumes do when an exception, such as one for want of memory, ends a change of theirs.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "tests/volume/volume_test_util.h"

namespace cairn {
namespace {

class ThrownTest : public testing::Test {
 protected:
  void SetUp() override { machine_.Mount(); }
  // The n-th such operation on an extent file finds no memory.
  void ThrowAt(Op op, int nth) {
    machine_.env().SetHook([op, nth, count = 0](Op now, const std::string& path) mutable {
      if (now == op && path.find("/extents/") != std::string::npos && ++count == nth) {
        throw std::bad_alloc();
      }
    });
  }
  // The volume is read-only, and the next mount takes this one's end for a crash.
  void ExpectPoisonedAndClose(std::shared_ptr<Volume>& volume) {
    machine_.env().SetHook(nullptr);
    EXPECT_EQ(WriteCode(*volume, 0, 512, 9), Code::kReadOnly);
    EXPECT_EQ(volume->Truncate(kChunkSize * 9).code(), Code::kReadOnly);
    EXPECT_EQ(volume->Sync().code(), Code::kReadOnly);
    volume.reset();
    const uint64_t crashes = machine_.store().crash_count();
    EXPECT_FALSE(machine_.Close().ok());
    machine_.ExpectNoDamage();
    machine_.Mount();
    EXPECT_GT(machine_.store().crash_count(), crashes);
  }

  TestMachine machine_;
};

TEST_F(ThrownTest, NothingOfAWriteThatThrewBehindTheEndShowsUpWhenTheVolumeGrows) {
  auto volume = machine_.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, 1000, 1), Code::kOk);
  ASSERT_TRUE(volume->Sync().ok());
  // The first two chunks are written, and their blocks recorded.
  ThrowAt(Op::kWrite, 3);
  EXPECT_THROW((void)volume->Write(0, Stamped(4 * kChunkSize, 2)), std::bad_alloc);
  EXPECT_EQ(volume->size(), 1000u);
  ExpectPoisonedAndClose(volume);
  volume = machine_.Find("v");
  EXPECT_EQ(volume->size(), 1000u);
  ASSERT_TRUE(volume->Truncate(8 * kChunkSize).ok());
  EXPECT_TRUE(Holds(*volume, 1000, 8 * kChunkSize - 1000, 0));
  EXPECT_EQ(WriteCode(*volume, 0, kBlockSize, 3), Code::kOk);
  volume.reset();
  ASSERT_TRUE(machine_.Close().ok());
  machine_.ExpectNoDamage();
  machine_.Mount();
  EXPECT_TRUE(Holds(*machine_.Find("v"), kBlockSize, 8 * kChunkSize - kBlockSize, 0));
}

TEST_F(ThrownTest, AChangeOfShapeThatThrewPoisons) {
  const std::vector<std::pair<Op, std::function<Status(Volume&)>>> changes = {
      {Op::kPunch, [](Volume& volume) { return volume.Zero(0, 4 * kChunkSize, true); }},
      {Op::kAllocate, [](Volume& volume) { return volume.Allocate(0, 9 * kChunkSize, false); }},
      {Op::kSync, [](Volume& volume) { return volume.Truncate(kBlockSize + 100); }},
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    const std::string name = "v" + std::to_string(i);
    auto volume = machine_.Create(name);
    ASSERT_EQ(WriteCode(*volume, 0, 4 * kChunkSize, 1), Code::kOk);
    ThrowAt(changes[i].first, changes[i].first == Op::kSync ? 1 : 2);
    EXPECT_THROW((void)changes[i].second(*volume), std::bad_alloc) << i;
    ExpectPoisonedAndClose(volume);
  }
}

TEST_F(ThrownTest, AReadThatThrewPoisonsNothing) {
  auto volume = machine_.Create("v");
  ASSERT_EQ(WriteCode(*volume, 0, kBlockSize, 1), Code::kOk);
  ThrowAt(Op::kRead, 1);
  EXPECT_THROW((void)Holds(*volume, 0, kBlockSize, 1), std::bad_alloc);
  machine_.env().SetHook(nullptr);
  EXPECT_EQ(WriteCode(*volume, 0, kBlockSize, 2), Code::kOk);
  EXPECT_TRUE(volume->Sync().ok());
}

}  // namespace
}  // namespace cairn
