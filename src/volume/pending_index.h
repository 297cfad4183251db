// The index changes of one volume that were acknowledged and are not durable yet.
#ifndef CAIRN_SRC_VOLUME_PENDING_INDEX_H_
#define CAIRN_SRC_VOLUME_PENDING_INDEX_H_

#include <map>
#include <optional>
#include <utility>

#include "src/base/strong_id.h"
#include "src/warm/geometry.h"

namespace cairn {

// Chunks and the blocks that an epoch of the volume's branch holds of them, in two generations:
// what the next sync will write, and what the running one is writing. A reader of the index that
// looks here first, and into LevelDB after, misses nothing. Epochs that ended before they were
// synced stay here until a sync writes them together with the newer ones. Not thread-safe: the
// volume's pending_mu_ guards it.
class PendingIndex {
 public:
  // What an epoch's version record of a chunk is to be.
  struct Chunk {
    BlockMask extent = 0;
    BlockMask zero = 0;
  };
  using Chunks = std::map<ChunkIndex, Chunk>;
  using Epochs = std::map<Epoch, Chunks>;

  void Put(Epoch epoch, ChunkIndex chunk, Chunk state) { next_[epoch][chunk] = state; }

  // Moves what is pending to the running sync and returns it; it stays visible until Finish.
  // REQUIRES: no sync runs.
  const Epochs& Start() {
    if (running_.empty()) {
      running_.swap(next_);
      return running_;
    }
    // What a sync that ended by an exception did not finish is older than what came since.
    for (const auto& [epoch, chunks] : next_) {
      for (const auto& [chunk, state] : chunks) running_[epoch][chunk] = state;
    }
    next_.clear();
    return running_;
  }
  // Returns what is no longer pending: it may be much to free.
  Epochs Finish() { return std::exchange(running_, {}); }
  void Clear() {
    next_.clear();
    running_.clear();
  }
  bool empty() const { return next_.empty() && running_.empty(); }

  // Calls sink(epoch, chunk, state) for the pending chunks of [first, last]; of one epoch newer
  // states come later.
  template <typename Sink>
  void ForEach(ChunkIndex first, ChunkIndex last, Sink sink) const {
    for (const Epochs* epochs : {&running_, &next_}) {
      for (const auto& [epoch, chunks] : *epochs) {
        for (auto it = chunks.lower_bound(first); it != chunks.end() && it->first <= last; ++it) {
          sink(epoch, it->first, it->second);
        }
      }
    }
  }
  // The first pending chunk at or behind `from`.
  std::optional<ChunkIndex> FirstFrom(ChunkIndex from) const {
    std::optional<ChunkIndex> first;
    for (const Epochs* epochs : {&running_, &next_}) {
      for (const auto& [epoch, chunks] : *epochs) {
        const auto it = chunks.lower_bound(from);
        if (it != chunks.end() && (!first || it->first < *first)) first = it->first;
      }
    }
    return first;
  }

 private:
  Epochs next_;
  Epochs running_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_PENDING_INDEX_H_
