#include "src/volume/lineage.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

namespace cairn {

// Enters versions into a leaf, newest first for each chunk.
class Lineage::LeafLoader {
 public:
  explicit LeafLoader(ChunkLeaf& leaf) : leaf_(leaf) {}

  void Add(const Level& level, bool is_head, ChunkIndex chunk, Epoch epoch,
           const VersionRecord& version) {
    const BlockMask seen = SeenOf(level, chunk);
    BlockMask& known = covered_[chunk.value() % ChunkLeaf::kChunks];
    if (is_head) {
      leaf_.Head(chunk).store(version.extent, std::memory_order_relaxed);
      known = version.extent;
    }
    using Kind = LowerPiece::Kind;
    AddPiece(chunk, {Kind::kExtent, level.branch, epoch, version.extent & seen});
    AddPiece(chunk, {Kind::kZero, level.branch, epoch, version.zero & seen});
    for (const VersionRecord::Tombstone& tombstone : version.tombstones) {
      AddPiece(chunk, {Kind::kTombstone, level.branch, epoch, tombstone.mask & seen});
    }
  }
  void Finish() { leaf_.SetLower(pieces_.Build()); }

 private:
  static BlockMask SeenOf(const Level& level, ChunkIndex chunk) {
    const uint64_t start = ChunkStart(chunk);
    if (start + kChunkSize <= level.end) return kAllBlocks;
    return start >= level.end ? 0 : BlockRange(0, (level.end - start) / kBlockSize);
  }
  // Adds the part that nothing newer covers.
  void AddPiece(ChunkIndex chunk, LowerPiece piece) {
    BlockMask& known = covered_[chunk.value() % ChunkLeaf::kChunks];
    piece.mask &= ~known;
    known |= piece.mask;
    pieces_.Add(chunk, piece);
  }

  ChunkLeaf& leaf_;
  LowerPieces::Builder pieces_;
  std::array<BlockMask, ChunkLeaf::kChunks> covered_{};
};

Result<Lineage> Lineage::Follow(Index& index, BranchId branch, std::optional<Epoch> limit) {
  Lineage lineage;
  std::set<BranchId> seen;
  uint64_t end = kMaxVolumeSize;
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
    lineage.levels_.push_back({branch, limit.value_or(record->epoch), end});
    branch = record->parent;
    limit = record->parent_epoch;
    end = std::min(end, record->parent_end);
  }
  if (lineage.levels_.empty()) {
    return Status(Code::kCorrupt, "index: a volume without a branch");
  }
  return lineage;
}

Result<Lineage> Lineage::Load(Index& index, BranchId branch) {
  return Follow(index, branch, std::nullopt);
}

Result<Lineage> Lineage::LoadSnapshot(Index& index, BranchId branch, Epoch epoch) {
  CAIRN_ASSIGN_OR_RETURN(Lineage lineage, Follow(index, branch, epoch));
  lineage.has_head_ = false;
  return lineage;
}

Lineage Lineage::OfNew(BranchId branch, Epoch epoch) {
  Lineage lineage;
  lineage.levels_.push_back({branch, epoch});
  return lineage;
}

Lineage Lineage::OfClone(BranchId branch, Epoch epoch, const Lineage& parent, uint64_t end) {
  Lineage lineage = OfNew(branch, epoch);
  for (Level level : parent.levels_) {
    level.end = std::min(level.end, end);
    lineage.levels_.push_back(level);
  }
  return lineage;
}

bool Lineage::DependsOn(BranchId branch) const {
  return std::any_of(levels_.begin(), levels_.end(),
                     [branch](const Level& level) { return level.branch == branch; });
}

Lineage Lineage::Beneath() const {
  Lineage lineage = *this;
  if (!has_head_) return lineage;
  lineage.has_head_ = false;
  Level& first = lineage.levels_.front();
  if (first.epoch > Epoch(1)) {
    first.epoch = Epoch(first.epoch.value() - 1);
  } else {
    lineage.levels_.erase(lineage.levels_.begin());
  }
  return lineage;
}

Status Lineage::LoadLeaf(Index& index, uint64_t number, const Overlay& overlay,
                         ChunkLeaf& leaf) const {
  const ChunkIndex first(number * ChunkLeaf::kChunks);
  const ChunkIndex last(first.value() + ChunkLeaf::kChunks - 1);
  LeafLoader loader(leaf);
  for (const Level& level : levels_) {
    if (ChunkStart(first) >= level.end) continue;
    const bool own = &level == &levels_.front();
    const auto add = [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
      if (epoch > level.epoch) return true;
      loader.Add(level, own && has_head_ && epoch == level.epoch, chunk, epoch, version);
      return true;
    };
    if (!own || overlay.empty()) {
      CAIRN_RETURN_IF_ERROR(index.ForEachVersion(level.branch, first, last, add));
      continue;
    }
    // Newer epochs first, each as the overlay has it, else the index.
    std::map<Epoch, std::map<ChunkIndex, VersionRecord>, std::greater<>> all;
    CAIRN_RETURN_IF_ERROR(
        index.ForEachVersion(level.branch, first, last,
                             [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
                               all[epoch][chunk] = version;
                               return true;
                             }));
    for (const auto& [epoch, chunks] : overlay) {
      for (const auto& [chunk, version] : chunks) all[epoch][chunk] = version;
    }
    for (const auto& [epoch, chunks] : all) {
      for (const auto& [chunk, version] : chunks) add(chunk, epoch, version);
    }
  }
  loader.Finish();
  return Status::Ok();
}

Result<std::optional<ChunkIndex>> Lineage::FirstVersionFrom(Index& index, ChunkIndex from) const {
  std::optional<ChunkIndex> first;
  for (const Level& level : levels_) {
    const uint64_t end = first ? first->value() : ChunkCount(level.end);
    if (end <= from.value()) continue;
    const ChunkIndex last(end - 1);
    CAIRN_RETURN_IF_ERROR(index.ForEachVersion(
        level.branch, from, last, [&](ChunkIndex chunk, Epoch epoch, const VersionRecord&) {
          if (epoch > level.epoch) return true;
          first = chunk;
          return false;
        }));
  }
  return first;
}

}  // namespace cairn
