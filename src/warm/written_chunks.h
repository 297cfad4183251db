// WrittenChunks: which chunks of a segment were written to, a bit each.
#ifndef CAIRN_SRC_WARM_WRITTEN_CHUNKS_H_
#define CAIRN_SRC_WARM_WRITTEN_CHUNKS_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>

#include "src/warm/geometry.h"

namespace cairn {

// Thread-safe and without locks, for the path of writes: a chunk that is in is not added again. A
// segment's bits would take half a megabyte, so memory comes with the places that are written to:
// 64 bytes for 128 MiB, a kilobyte for each 16 GiB in which there are any, and half a one in any
// case. Bits above them say where to look.
class WrittenChunks {
 public:
  WrittenChunks() = default;
  ~WrittenChunks();
  WrittenChunks(const WrittenChunks&) = delete;
  WrittenChunks& operator=(const WrittenChunks&) = delete;

  // Those that hold some of [offset, offset + length). REQUIRES: it lies in the segment. Without
  // memory for a bit it is left out.
  void Add(uint64_t offset, uint64_t length) {
    if (length == 0) return;
    const uint64_t last = (offset + length - 1) / kChunkSize;
    for (uint64_t chunk = offset / kChunkSize; chunk <= last; ++chunk) AddChunk(chunk);
  }
  // Takes all out and calls `sink` for each, in order. What is added meanwhile may be among them or
  // stay for the next time.
  void TakeEach(const std::function<void(uint64_t chunk)>& sink);
  void Clear() {
    TakeEach([](uint64_t) {});
  }

 private:
  static constexpr uint64_t kWordChunks = 64;
  static constexpr uint64_t kLeafChunks = 512;
  static constexpr uint64_t kNodeLeaves = 128;
  static constexpr uint64_t kNodes = kSegmentSize / kChunkSize / kLeafChunks / kNodeLeaves;
  static_assert(kNodes == 64);
  static_assert(kNodes * kNodeLeaves * kLeafChunks * kChunkSize == kSegmentSize);
  struct Leaf {
    std::array<std::atomic<uint64_t>, kLeafChunks / kWordChunks> words{};
  };
  struct Node {
    std::array<std::atomic<Leaf*>, kNodeLeaves> leaves{};  // owned
    std::array<std::atomic<uint64_t>, kNodeLeaves / kWordChunks> marks{};
  };

  void AddChunk(uint64_t chunk) {
    const uint64_t leaf_number = chunk / kLeafChunks;
    Node* const node = nodes_[leaf_number / kNodeLeaves].load(std::memory_order_acquire);
    if (node == nullptr) [[unlikely]] {
      return AddSlow(chunk);
    }
    Leaf* const leaf = node->leaves[leaf_number % kNodeLeaves].load(std::memory_order_acquire);
    if (leaf == nullptr) [[unlikely]] {
      return AddSlow(chunk);
    }
    std::atomic<uint64_t>& word = leaf->words[chunk % kLeafChunks / kWordChunks];
    const uint64_t bit = uint64_t{1} << chunk % kWordChunks;
    if (word.load(std::memory_order_relaxed) & bit) [[likely]] {
      return;
    }
    // From below, as they are taken from above: a mark may be left over, but none stays away.
    word.fetch_or(bit);
    node->marks[leaf_number % kNodeLeaves / 64].fetch_or(uint64_t{1} << leaf_number % 64);
    marks_.fetch_or(uint64_t{1} << leaf_number / kNodeLeaves);
  }
  void AddSlow(uint64_t chunk);

  std::array<std::atomic<Node*>, kNodes> nodes_{};  // owned
  std::atomic<uint64_t> marks_{0};
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_WRITTEN_CHUNKS_H_
