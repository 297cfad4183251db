// Crashes around the sealing and the opening of regions: whatever survives, no block that was
// written through the volume is taken for damaged.
#include <gtest/gtest.h>

#include "tests/volume/volume_test_util.h"

namespace cairn {
namespace {

constexpr std::chrono::seconds kLongEnough{30};
constexpr uint64_t kLength = kChunkSize + 10 * kBlockSize;

// A store with a sealed volume, and what is done to it until the power goes.
class Story {
 public:
  Story() {
    machine_.Mount();
    auto volume = machine_.Create("v");
    EXPECT_EQ(WriteCode(*volume, 0, kLength, 1), Code::kOk);
    volume.reset();
    EXPECT_TRUE(machine_.Close().ok());
    machine_.Mount();
  }

  TestMachine& machine() { return machine_; }

  // True when it came to its end.
  bool Play() {
    Filesystem& filesystem = machine_.filesystem();
    auto volume = machine_.Find("v");
    if (!volume) return false;
    bool all_done = true;
    const auto done = [&](bool ok) { all_done = all_done && ok; };
    done(WriteCode(*volume, 3 * kBlockSize, 2 * kBlockSize, 2) == Code::kOk);
    done(WriteCode(*volume, 9 * kBlockSize + 512, 512, 2) == Code::kOk);
    filesystem.SealAll(kLongEnough);
    done(WriteCode(*volume, 4 * kBlockSize, kBlockSize, 3) == Code::kOk);
    done(volume->Sync().ok());
    filesystem.SealAll(kLongEnough);
    done(volume->Zero(kBlockSize, 5 * kBlockSize, true).ok());
    filesystem.SealAll(kLongEnough);
    done(volume->Truncate(kChunkSize / 2 + 100).ok());
    filesystem.SealAll(kLongEnough);
    done(WriteCode(*volume, kChunkSize, kBlockSize, 4) == Code::kOk);
    filesystem.SealAll(kLongEnough);
    return all_done && machine_.env().power_on();
  }

  void CheckAllReadable() {
    machine_.Mount();
    auto volume = machine_.Find("v");
    ASSERT_NE(volume, nullptr);
    const auto read_all = [&] {
      std::vector<std::byte> bytes(volume->size());
      auto got = volume->Read(0, bytes);
      ASSERT_TRUE(got.ok()) << got.status().ToString();
    };
    ASSERT_NO_FATAL_FAILURE(read_all());
    // Whatever the checksums say now must hold for what is written next, too.
    ASSERT_EQ(WriteCode(*volume, 7 * kBlockSize + 700, 3 * kBlockSize, 5), Code::kOk);
    ASSERT_TRUE(volume->Truncate(2 * kChunkSize).ok());
    ASSERT_NO_FATAL_FAILURE(read_all());
    volume.reset();
    ASSERT_TRUE(machine_.Close().ok());
    machine_.ExpectNoDamage();
    machine_.Mount();
    volume = machine_.Find("v");
    ASSERT_NO_FATAL_FAILURE(read_all());
  }

 private:
  TestMachine machine_;
};

// Cuts the power at the first, second, ... event until the story comes to its end.
template <typename Plan>
void Sweep(const char* what, Plan plan) {
  uint64_t cuts = 0;
  for (uint64_t at = 1;; ++at) {
    for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
      for (uint64_t seed = 1; seed <= 3; ++seed) {
        SCOPED_TRACE(std::string(what) + " " + std::to_string(at) +
                     (side == CutSide::kBefore ? " before" : " after") + " seed " +
                     std::to_string(seed));
        Story story;
        plan(story.machine().env(), at, side);
        const bool ended = story.Play();
        story.machine().LosePower(seed);
        ASSERT_NO_FATAL_FAILURE(story.CheckAllReadable());
        if (testing::Test::HasFailure()) return;
        if (ended) {
          EXPECT_GT(cuts, 10u);
          return;
        }
        ++cuts;
      }
    }
  }
}

TEST(SealCrashTest, APowerCutAtEverySyncLeavesGoodBlocksReadable) {
  Sweep("sync", [](MemoryEnv& env, uint64_t at, CutSide side) { env.CutAtSync(at, side); });
}

TEST(SealCrashTest, APowerCutAtEveryOperationLeavesGoodBlocksReadable) {
  Sweep("operation",
        [](MemoryEnv& env, uint64_t at, CutSide side) { env.CutAtOperation(at, side); });
}

TEST(SealCrashTest, AServerThatDiesWhileRegionsAreOpenLeavesGoodBlocksReadable) {
  Story story;
  auto volume = story.machine().Find("v");
  ASSERT_EQ(WriteCode(*volume, 3 * kBlockSize, 2 * kBlockSize, 2), Code::kOk);
  ASSERT_EQ(WriteCode(*volume, 2 * kChunkSize, 10, 2), Code::kOk);
  volume.reset();
  story.machine().LoseServer();
  story.CheckAllReadable();
}

}  // namespace
}  // namespace cairn
