// Lineage: the branches that a volume's content comes from, newest first, and what the index says
// about its chunks along them.
#ifndef CAIRN_SRC_VOLUME_LINEAGE_H_
#define CAIRN_SRC_VOLUME_LINEAGE_H_

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
  };

  // Follows the parents of `branch` in the index. kCorrupt: a missing parent, or a circle.
  static Result<Lineage> Load(Index& index, BranchId branch);

  // Of a branch that was just made, without parent and records.
  static Lineage OfNew(BranchId branch, Epoch epoch);

  const Level& head() const { return levels_.front(); }
  const std::vector<Level>& levels() const { return levels_; }
  // Enters what the index knows of chunks [number * 512, +512) into an empty leaf.
  Status LoadLeaf(Index& index, uint64_t number, ChunkLeaf& leaf) const;
  // The first chunk at or behind `from` of which the index has a version.
  Result<std::optional<ChunkIndex>> FirstVersionFrom(Index& index, ChunkIndex from) const;
  // The same without the current epoch of the head.
  Result<std::optional<ChunkIndex>> FirstVersionBeneathFrom(Index& index, ChunkIndex from) const;

 private:
  Result<std::optional<ChunkIndex>> FirstFrom(Index& index, ChunkIndex from, bool beneath) const;

  std::vector<Level> levels_;  // never empty
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_LINEAGE_H_
