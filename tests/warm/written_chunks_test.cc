#include "src/warm/written_chunks.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <thread>
#include <vector>

namespace cairn {
namespace {

constexpr uint64_t kChunks = kSegmentSize / kChunkSize;

std::vector<uint64_t> Take(WrittenChunks& written) {
  std::vector<uint64_t> chunks;
  written.TakeEach([&](uint64_t chunk) { chunks.push_back(chunk); });
  return chunks;
}

TEST(WrittenChunksTest, GivesWhatWasAddedOnceAndInOrder) {
  WrittenChunks written;
  EXPECT_EQ(Take(written), std::vector<uint64_t>{});
  std::mt19937_64 random(1);
  for (int turn = 0; turn < 3; ++turn) {
    std::set<uint64_t> expected = {0, kChunks - 1};
    for (int i = 0; i < 1000; ++i) expected.insert(random() % (kChunks >> random() % 22));
    for (const uint64_t chunk : expected) {
      written.Add(chunk * kChunkSize + random() % kChunkSize, 1);
      written.Add(chunk * kChunkSize, 1);
    }
    EXPECT_EQ(Take(written), std::vector(expected.begin(), expected.end()));
    EXPECT_EQ(Take(written), std::vector<uint64_t>{});
  }
}

TEST(WrittenChunksTest, AStretchIsInAllChunksThatItTouches) {
  WrittenChunks written;
  written.Add(5 * kChunkSize, 0);
  EXPECT_EQ(Take(written), std::vector<uint64_t>{});
  written.Add(5 * kChunkSize, kChunkSize);
  EXPECT_EQ(Take(written), std::vector<uint64_t>{5});
  written.Add(512 * kChunkSize - 1, kChunkSize + 2);
  EXPECT_EQ(Take(written), (std::vector<uint64_t>{511, 512, 513}));
  written.Add(kSegmentSize - 1, 1);
  EXPECT_EQ(Take(written), std::vector<uint64_t>{kChunks - 1});
}

TEST(WrittenChunksTest, NothingIsLeftAfterAClear) {
  WrittenChunks written;
  written.Clear();
  for (const uint64_t chunk : {uint64_t{0}, uint64_t{70}, kChunks - 1}) {
    written.Add(chunk * kChunkSize, 1);
  }
  written.Clear();
  EXPECT_EQ(Take(written), std::vector<uint64_t>{});
  written.Add(70 * kChunkSize, 1);
  EXPECT_EQ(Take(written), std::vector<uint64_t>{70});
}

TEST(WrittenChunksTest, NothingIsLostBetweenThreads) {
  constexpr uint64_t kAdded = 20000;
  WrittenChunks written;
  std::vector<std::thread> writers;
  for (uint64_t number = 0; number < 3; ++number) {
    writers.emplace_back([&, number] {
      // The same by all of them, in places that none has been to.
      for (uint64_t i = number; i < kAdded; ++i) written.Add(i * 97 * kChunkSize, 1);
    });
  }
  std::set<uint64_t> found;
  while (found.size() < kAdded / 2) {
    for (const uint64_t chunk : Take(written)) found.insert(chunk);
  }
  for (std::thread& writer : writers) writer.join();
  for (const uint64_t chunk : Take(written)) found.insert(chunk);
  EXPECT_EQ(found.size(), kAdded);
  for (const uint64_t chunk : found) EXPECT_EQ(chunk % 97, 0u);
}

}  // namespace
}  // namespace cairn
