// Lineage: the branches that a volume's content comes from, newest first, and what the index says
// about its chunks along them.
#ifndef CAIRN_SRC_VOLUME_LINEAGE_H_
#define CAIRN_SRC_VOLUME_LINEAGE_H_

#include <map>
#include <optional>
#include <vector>

#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/volume/chunk_map.h"
#include "src/warm/index.h"

namespace cairn {

class Lineage {
 public:
  struct Level {
    BranchId branch;
    Epoch epoch;  // versions of later epochs are not seen
    // Nor blocks that begin here or later, in bytes.
    uint64_t end = kMaxVolumeSize;
  };
  // What the index does not have yet of the head's branch, in the order of epochs and chunks.
  using Overlay = std::map<Epoch, std::map<ChunkIndex, VersionRecord>>;

  // Follows the parents of `branch` in the index. kCorrupt: a missing parent, or a circle.
  static Result<Lineage> Load(Index& index, BranchId branch);
  // The same of what the branch was at the end of `epoch`: there is no head, all lies beneath it.
  static Result<Lineage> LoadSnapshot(Index& index, BranchId branch, Epoch epoch);

  // Of a branch that was just made, without parent and records.
  static Lineage OfNew(BranchId branch, Epoch epoch);
  // Of a branch that was just made from what `parent` shows, without records; of the parent it sees
  // the bytes before `end`.
  static Lineage OfClone(BranchId branch, Epoch epoch, const Lineage& parent, uint64_t end);

  const Level& head() const { return levels_.front(); }
  bool has_head() const { return has_head_; }
  const std::vector<Level>& levels() const { return levels_; }
  bool DependsOn(BranchId branch) const;
  // The head moves on to the next epoch.
  void BeginEpoch() { levels_.front().epoch = levels_.front().epoch.Next(); }
  // What the head lies on.
  Lineage Beneath() const;
  // Enters what the index and the overlay know of chunks [number * 512, +512) into an empty leaf.
  Status LoadLeaf(Index& index, uint64_t number, const Overlay& overlay, ChunkLeaf& leaf) const;
  // The first chunk at or behind `from` of which the index has a version.
  Result<std::optional<ChunkIndex>> FirstVersionFrom(Index& index, ChunkIndex from) const;

 private:
  class LeafLoader;
  static Result<Lineage> Follow(Index& index, BranchId branch, std::optional<Epoch> limit);

  std::vector<Level> levels_;  // empty only beneath a first epoch
  bool has_head_ = true;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_LINEAGE_H_
