#include "src/volume/lineage.h"

#include <fmt/format.h>

#include <set>

namespace cairn {
namespace {

// Adds the part of `mask` that nothing newer covers.
void AddPiece(std::vector<LowerPiece>& pieces, BlockMask& covered, LowerPiece piece) {
  piece.mask &= ~covered;
  if (piece.mask == 0) return;
  covered |= piece.mask;
  pieces.push_back(piece);
}

}  // namespace

Result<Lineage> Lineage::Load(Index& index, BranchId branch) {
  Lineage lineage;
  std::set<BranchId> seen;
  std::optional<Epoch> limit;
  while (branch != BranchId(0)) {
    if (!seen.insert(branch).second) {
      return Status(Code::kCorrupt,
                    fmt::format("index: branch {} is its own ancestor", branch.value()));
    }
    auto record = index.GetBranch(branch);
    if (!record.ok()) {
      if (record.status().code() != Code::kNotFound) return std::move(record).status();
      return Status(Code::kCorrupt, fmt::format("index: branch {} is missing", branch.value()));
    }
    lineage.levels_.push_back({branch, limit.value_or(record->epoch)});
    branch = record->parent;
    limit = record->parent_epoch;
  }
  if (lineage.levels_.empty()) {
    return Status(Code::kCorrupt, "index: a volume without a branch");
  }
  return lineage;
}

Lineage Lineage::OfNew(BranchId branch, Epoch epoch) {
  Lineage lineage;
  lineage.levels_.push_back({branch, epoch});
  return lineage;
}

Status Lineage::LoadLeaf(Index& index, uint64_t number, ChunkLeaf& leaf) const {
  const ChunkIndex first(number * ChunkLeaf::kChunks);
  const ChunkIndex last(first.value() + ChunkLeaf::kChunks - 1);
  std::array<BlockMask, ChunkLeaf::kChunks> covered{};
  for (const Level& level : levels_) {
    const bool is_head_branch = &level == &levels_.front();
    CAIRN_RETURN_IF_ERROR(index.ForEachVersion(
        level.branch, first, last,
        [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
          if (epoch > level.epoch) return true;
          BlockMask& known = covered[chunk.value() % ChunkLeaf::kChunks];
          if (is_head_branch && epoch == level.epoch) {
            leaf.Head(chunk).store(version.extent, std::memory_order_relaxed);
            known = version.extent;
          }
          const BlockMask rest = (version.extent | version.zero) & ~known;
          if (rest == 0 && version.tombstones.empty()) return true;
          auto& pieces = leaf.MutableLower(chunk);
          using Kind = LowerPiece::Kind;
          AddPiece(pieces, known, {Kind::kExtent, level.branch, epoch, version.extent});
          AddPiece(pieces, known, {Kind::kZero, level.branch, epoch, version.zero});
          for (const VersionRecord::Tombstone& tombstone : version.tombstones) {
            AddPiece(pieces, known, {Kind::kTombstone, level.branch, epoch, tombstone.mask});
          }
          return true;
        }));
  }
  return Status::Ok();
}

Result<std::optional<ChunkIndex>> Lineage::FirstVersionFrom(Index& index, ChunkIndex from) const {
  return FirstFrom(index, from, false);
}

Result<std::optional<ChunkIndex>> Lineage::FirstVersionBeneathFrom(Index& index,
                                                                   ChunkIndex from) const {
  // The first epoch of a branch without a parent has nothing beneath.
  if (levels_.size() == 1 && head().epoch == Epoch(1)) return std::optional<ChunkIndex>();
  return FirstFrom(index, from, true);
}

Result<std::optional<ChunkIndex>> Lineage::FirstFrom(Index& index, ChunkIndex from,
                                                     bool beneath) const {
  std::optional<ChunkIndex> first;
  for (const Level& level : levels_) {
    const bool is_head_branch = &level == &levels_.front();
    const ChunkIndex last(first ? first->value() : ChunkCount(kMaxVolumeSize));
    CAIRN_RETURN_IF_ERROR(index.ForEachVersion(
        level.branch, from, last, [&](ChunkIndex chunk, Epoch epoch, const VersionRecord&) {
          if (epoch > level.epoch) return true;
          if (beneath && is_head_branch && epoch == level.epoch) return true;
          first = chunk;
          return false;
        }));
  }
  return first;
}

}  // namespace cairn
