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
  uint64_t first = 0;  // of the leaf
  for (const auto& node_place : nodes_) {
    const Node* const node = node_place.load(std::memory_order_acquire);
    if (node == nullptr) {
      first += kNodeLeaves * kLeafChunks;
      continue;
    }
    for (const auto& leaf_place : node->leaves) {
      Leaf* const leaf = leaf_place.load(std::memory_order_acquire);
      for (size_t i = 0; leaf != nullptr && i < leaf->words.size(); ++i) {
        if (leaf->words[i].load(std::memory_order_relaxed) == 0) continue;
        for (uint64_t rest = leaf->words[i].exchange(0); rest != 0; rest &= rest - 1) {
          sink(first + kWordChunks * i + static_cast<uint64_t>(std::countr_zero(rest)));
        }
      }
      first += kLeafChunks;
    }
  }
}

}  // namespace cairn
