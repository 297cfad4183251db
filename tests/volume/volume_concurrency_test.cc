// Volumes under several threads at once. Data is stamped block by block, so that what is wrong
// tells where it comes from.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/volume/volume_test_util.h"

namespace cairn {
namespace {

constexpr TestMachine::Settings kThreaded{.flush_interval = std::chrono::milliseconds(300),
                                          .executor_threads = 2};

void InParallel(int count, const std::function<void(int)>& body) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(body, i);
  for (std::thread& thread : threads) thread.join();
}

std::vector<std::byte> StampedBlock(uint64_t stamp) {
  std::vector<std::byte> block(kBlockSize);
  for (uint64_t at = 0; at < kBlockSize; at += sizeof(stamp)) {
    std::memcpy(block.data() + at, &stamp, sizeof(stamp));
  }
  return block;
}

// The stamp of the block at `offset`; fails the test when the block is torn.
uint64_t StampAt(Volume& volume, uint64_t offset) {
  std::vector<std::byte> block(kBlockSize);
  auto got = volume.Read(offset, block);
  EXPECT_TRUE(got.ok()) << got.status().ToString();
  uint64_t stamp = 0;
  std::memcpy(&stamp, block.data(), sizeof(stamp));
  // A block that the volume's end cuts off has no more than its beginning.
  if (got.ok() && *got == kBlockSize) {
    EXPECT_TRUE(block == StampedBlock(stamp)) << "the block at " << offset << " is torn";
  }
  return stamp;
}

TEST(VolumeConcurrencyTest, NeighbouringSectorsOfAbsentBlocksAllSurvive) {
  constexpr int kThreads = 8;
  constexpr uint64_t kChunks = 24;
  TestMachine machine(kThreaded);
  machine.Mount();
  ASSERT_EQ(WriteCode(*machine.Create("v"), 1000 * kChunkSize, 512, 1), Code::kOk);
  // A file from an earlier life: what lies in its absent chunks is cleared at the first touch.
  ASSERT_TRUE(machine.Close().ok());
  machine.Mount();
  auto volume = machine.Find("v");
  machine.env().SetHook([](Op op, const std::string& path) {
    if (op != Op::kQuery && op != Op::kPunch) return;
    if (path.find("/extents/") == std::string::npos) return;
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  });
  std::array<std::atomic<int>, kChunks> arrived{};
  InParallel(kThreads, [&](int thread) {
    const auto sector = static_cast<uint64_t>(thread);
    for (uint64_t chunk = 0; chunk < kChunks; ++chunk) {
      ++arrived[chunk];
      while (arrived[chunk].load() < kThreads) std::this_thread::yield();
      for (uint64_t block = 0; block < 3; ++block) {
        const uint64_t offset = chunk * kChunkSize + block * kBlockSize + sector * 512;
        EXPECT_EQ(WriteCode(*volume, offset, 512, 10 + static_cast<unsigned>(thread)), Code::kOk);
      }
    }
  });
  machine.env().SetHook(nullptr);
  const auto check = [&] {
    for (uint64_t chunk = 0; chunk < kChunks; ++chunk) {
      for (uint64_t sector = 0; sector < 3 * kThreads; ++sector) {
        EXPECT_TRUE(Holds(*volume, chunk * kChunkSize + sector * 512, 512,
                          static_cast<unsigned>(10 + sector % kThreads)));
      }
    }
  };
  check();
  volume.reset();
  machine.LoseServer();
  machine.Mount();
  volume = machine.Find("v");
  check();
}

TEST(VolumeConcurrencyTest, WritesRaceWithSyncsTruncationsZeroingAndEviction) {
  constexpr int kWriters = 3;
  constexpr uint64_t kStable = 40 * kChunkSize;  // no truncation or zeroing reaches below
  constexpr uint64_t kEnd = 2 * kStable;
  TestMachine machine(kThreaded);
  machine.Mount();
  auto volume = machine.Create("v");
  std::map<uint64_t, uint64_t> last[kWriters];
  std::atomic<int> writing{kWriters};
  InParallel(kWriters + 3, [&](int thread) {
    std::mt19937_64 random(static_cast<uint64_t>(thread));
    if (thread == kWriters) {
      while (writing > 0) EXPECT_TRUE(volume->Sync().ok());
    } else if (thread == kWriters + 1) {
      while (writing > 0) {
        if (random() % 2) {
          EXPECT_TRUE(volume->Truncate(kStable + RoundUpToBlock(random() % kStable)).ok());
        } else {
          EXPECT_TRUE(volume
                          ->Zero(kStable + RoundUpToBlock(random() % kStable),
                                 RoundUpToBlock(random() % kStable), true)
                          .ok());
        }
        std::this_thread::yield();
      }
    } else if (thread == kWriters + 2) {
      while (writing > 0) (void)StampAt(*volume, random() % (kEnd / kBlockSize) * kBlockSize);
    } else {
      for (uint64_t i = 1; i <= 1500; ++i) {
        const uint64_t block =
            random() % (kEnd / kBlockSize) / kWriters * kWriters + static_cast<uint64_t>(thread);
        const uint64_t stamp = i * kWriters + static_cast<uint64_t>(thread);
        auto written = volume->Write(block * kBlockSize, StampedBlock(stamp));
        EXPECT_TRUE(written.ok()) << written.status().ToString();
        if (block * kBlockSize >= kStable) continue;
        last[thread][block] = stamp;
        EXPECT_EQ(StampAt(*volume, block * kBlockSize), stamp);
      }
      --writing;
    }
  });
  const auto check = [&] {
    for (const auto& stamps : last) {
      for (const auto& [block, stamp] : stamps) {
        EXPECT_EQ(StampAt(*volume, block * kBlockSize), stamp) << "block " << block;
      }
    }
    for (uint64_t at = kStable; at < volume->size(); at += kBlockSize) (void)StampAt(*volume, at);
  };
  check();
  volume.reset();
  machine.LoseServer();
  machine.Mount();
  volume = machine.Find("v");
  check();
  EXPECT_TRUE(volume->Sync().ok());
  volume.reset();
  machine.LosePower(1);
  machine.ExpectNoDamage();
  machine.Mount();
  volume = machine.Find("v");
  check();
}

TEST(VolumeConcurrencyTest, ASmallJournalThatIsAlwaysFullMakesNobodyWaitForEver) {
  constexpr int kThreads = 6;
  constexpr int kVolumes = 3;
  constexpr uint64_t kTouches = 1200;
  TestMachine machine(kThreaded);
  machine.Mount();
  std::vector<std::shared_ptr<Volume>> volumes;
  for (int i = 0; i < kVolumes; ++i) volumes.push_back(machine.Create("v" + std::to_string(i)));
  const auto offset_of = [](int thread, uint64_t i) {
    return (i * kThreads + static_cast<uint64_t>(thread)) * kChunkSize;
  };
  InParallel(kThreads, [&](int thread) {
    Volume& volume = *volumes[static_cast<size_t>(thread % kVolumes)];
    for (uint64_t i = 0; i < kTouches; ++i) {
      EXPECT_TRUE(volume.Write(offset_of(thread, i), StampedBlock(i + 1)).ok());
      if (i % 400 == 399) {
        EXPECT_TRUE(volume.Truncate(offset_of(kThreads, kTouches) + i).ok());
      }
      if (i % 100 == 99) {
        EXPECT_TRUE(volume.Sync().ok());
      }
    }
  });
  volumes.clear();
  machine.LoseServer();
  machine.ExpectNoDamage();
  machine.Mount();
  for (int thread = 0; thread < kThreads; ++thread) {
    const auto volume = machine.Find("v" + std::to_string(thread % kVolumes));
    for (uint64_t i = 0; i < kTouches; ++i) {
      ASSERT_EQ(StampAt(*volume, offset_of(thread, i)), i + 1) << "thread " << thread;
    }
  }
}

TEST(VolumeConcurrencyTest, AnUnlinkedVolumeTakesWritesUntilItsRelease) {
  for (int round = 0; round < 20; ++round) {
    TestMachine machine(kThreaded);
    machine.Mount();
    const InodeId inode = machine.Create("v")->inode();
    std::shared_ptr<Volume> volume =
        machine.filesystem().OpenVolume(inode, HandleId(1), false).value();
    std::atomic<bool> released{false};
    std::atomic<int> started{0};
    InParallel(4, [&](int thread) {
      if (thread == 3) {
        while (started < 3) std::this_thread::yield();
        EXPECT_TRUE(machine.filesystem().Unlink(kRootInode, "v", {}).ok());
        EXPECT_TRUE(Holds(*volume, 0, 512, 1));
        released = true;
        machine.filesystem().ReleaseVolume(inode, HandleId(1));
        return;
      }
      EXPECT_EQ(WriteCode(*volume, 0, 512, 1), Code::kOk);
      ++started;
      // Some writes come in behind the release, as from a server's threads that are late.
      for (uint64_t i = 0; i < 200; ++i) {
        const uint64_t offset = (i * 3 + static_cast<uint64_t>(thread)) * kChunkSize / 2;
        auto written = volume->Write(RoundUpToBlock(offset) + kBlockSize, StampedBlock(i));
        if (written.ok()) continue;
        EXPECT_EQ(written.status().code(), Code::kStale);
        EXPECT_TRUE(released);
      }
    });
    machine.executor().Drain();
    EXPECT_FALSE(volume->Write(0, StampedBlock(1)).ok());
    volume.reset();
    for (const std::string& path : machine.env().AllFiles()) {
      EXPECT_EQ(path.find("/extents/"), std::string::npos) << path;
    }
    EXPECT_TRUE(machine.Close().ok());
    machine.ExpectNoDamage();
  }
}

TEST(VolumeConcurrencyTest, APowerCutLosesNothingThatASharedFsyncAcknowledged) {
  constexpr int kThreads = 4;
  constexpr uint64_t kSlots = 16;
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 40; ++round) {
    TestMachine machine(kThreaded);
    machine.Mount();
    auto volume = machine.Create("v");
    struct Slot {
      uint64_t tried = 0;
      uint64_t synced = 0;
    };
    std::array<std::array<Slot, kSlots>, kThreads> slots{};
    // Slots of the same chunk and of different ones, all first touches at first.
    const auto offset_of = [](uint64_t thread, uint64_t slot) {
      return slot * kChunkSize + (thread + slot % 3 * 7) * kBlockSize;
    };
    machine.env().CutAtOperation(20 + random() % 800, CutSide::kBefore);
    InParallel(kThreads, [&](int thread) {
      const auto t = static_cast<uint64_t>(thread);
      for (uint64_t i = 1; i < 2000; ++i) {
        Slot& slot = slots[t][i % kSlots];
        slot.tried = i;
        if (!volume->Write(offset_of(t, i % kSlots), StampedBlock(i)).ok()) return;
        if (!volume->Sync().ok()) return;
        slot.synced = i;
      }
    });
    volume.reset();
    machine.LosePower(random());
    machine.ExpectNoDamage();
    machine.Mount();
    volume = machine.Find("v");
    for (uint64_t t = 0; t < kThreads; ++t) {
      for (uint64_t s = 0; s < kSlots; ++s) {
        const Slot& slot = slots[t][s];
        if (slot.synced == 0) continue;
        const uint64_t found = StampAt(*volume, offset_of(t, s));
        EXPECT_TRUE(found == slot.synced || found == slot.tried)
            << "slot " << s << " of thread " << t << " holds " << found << "; " << slot.synced
            << " was synced, " << slot.tried << " tried";
      }
    }
    volume.reset();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace cairn
