#include "src/warm/written_chunks.h"

#include <bit>
#include <memory>
#include <new>

namespace cairn {
namespace {

// What is there, made if nothing was. Null without memory.
template <typename T>
T* FindOrMake(std::atomic<T*>& place) {
  if (T* const there = place.load(std::memory_order_acquire)) return there;
  std::unique_ptr<T> made(new (std::nothrow) T);
  T* found = nullptr;
  if (place.compare_exchange_strong(found, made.get())) return made.release();
  return found;
}

template <typename Sink>
void TakeBits(std::atomic<uint64_t>& word, const Sink& sink) {
  for (uint64_t rest = word.exchange(0); rest != 0; rest &= rest - 1) {
    sink(static_cast<uint64_t>(std::countr_zero(rest)));
  }
}

}  // namespace

WrittenChunks::~WrittenChunks() {
  for (const auto& node_place : nodes_) {
    const std::unique_ptr<Node> node(node_place.load());
    if (node == nullptr) continue;
    for (const auto& leaf : node->leaves) delete leaf.load();
  }
}

void WrittenChunks::AddSlow(uint64_t chunk) {
  const uint64_t leaf_number = chunk / kLeafChunks;
  Node* const node = FindOrMake(nodes_[leaf_number / kNodeLeaves]);
  if (node == nullptr) return;
  if (FindOrMake(node->leaves[leaf_number % kNodeLeaves]) != nullptr) AddChunk(chunk);
}

void WrittenChunks::TakeEach(const std::function<void(uint64_t chunk)>& sink) {
  if (marks_.load(std::memory_order_relaxed) == 0) return;
  TakeBits(marks_, [&](uint64_t node_number) {
    Node* const node = nodes_[node_number].load(std::memory_order_acquire);
    for (uint64_t half = 0; half < node->marks.size(); ++half) {
      TakeBits(node->marks[half], [&](uint64_t bit) {
        const uint64_t leaf_number = half * 64 + bit;
        Leaf* const leaf = node->leaves[leaf_number].load(std::memory_order_acquire);
        const uint64_t first = (node_number * kNodeLeaves + leaf_number) * kLeafChunks;
        for (uint64_t i = 0; i < leaf->words.size(); ++i) {
          TakeBits(leaf->words[i], [&](uint64_t chunk) { sink(first + kWordChunks * i + chunk); });
        }
      });
    }
  });
}

}  // namespace cairn
