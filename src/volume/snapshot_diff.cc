// What the index alone tells: which blocks differ, and who holds how many.
#include <algorithm>
#include <bit>

#include "src/volume/branch_cleaner.h"
#include "src/volume/snapshot_ops.h"

namespace cairn {
namespace {

// Where the blocks of one chunk lie: pieces with disjoint masks.
using Pieces = std::vector<LowerPiece>;

// What a volume of `size` bytes sees. Its branch may see more of a parent by now, when the volume
// went on being made a copy; what it holds itself behind its end are zeros that stay.
Pieces PiecesOf(ChunkLeaf& leaf, ChunkIndex chunk, const Lineage& lineage, uint64_t size) {
  const uint64_t start = ChunkStart(chunk);
  const BlockMask inside = size <= start ? 0 : BlocksTouched(0, std::min(size - start, kChunkSize));
  Pieces pieces;
  for (LowerPiece piece : leaf.Lower(chunk)) {
    if (piece.branch != lineage.head().branch) piece.mask &= inside;
    if (piece.mask != 0) pieces.push_back(piece);
  }
  return pieces;
}

BlockMask Data(const Pieces& pieces) {
  BlockMask data = 0;
  for (const LowerPiece& piece : pieces) {
    if (piece.kind != LowerPiece::Kind::kZero) data |= piece.mask;
  }
  return data;
}

// Blocks that lie in the same place in both, or read as zeros in both.
BlockMask Same(const Pieces& a, const Pieces& b) {
  BlockMask same = ~Data(a) & ~Data(b);
  for (const LowerPiece& one : a) {
    for (const LowerPiece& other : b) {
      const bool place =
          one.kind == other.kind && one.branch == other.branch && one.epoch == other.epoch;
      if (place) same |= one.mask & other.mask;
    }
  }
  return same;
}

// Puts stretches of blocks together to ranges.
class RangeList {
 public:
  RangeList(std::vector<DiffRange>& ranges, uint64_t size) : ranges_(ranges), size_(size) {}

  void Add(uint64_t offset, uint64_t length, bool hole) {
    if (offset >= size_) return;
    length = std::min(length, size_ - offset);
    if (!ranges_.empty()) {
      DiffRange& last = ranges_.back();
      if (last.hole == hole && last.offset + last.length == offset) {
        last.length += length;
        return;
      }
    }
    ranges_.push_back({offset, length, hole});
  }

 private:
  std::vector<DiffRange>& ranges_;
  const uint64_t size_;
};

}  // namespace

Result<SnapshotOps::HeldView> SnapshotOps::HoldView(InodeId inode) {
  for (;;) {
    CAIRN_ASSIGN_OR_RETURN(InodeRecord record, parts_.names.Record(inode));
    if (record.kind == FileKind::kDirectory) return Status(Code::kIsDirectory, "not a volume");
    const bool is_snapshot = record.kind == FileKind::kSnapshot;
    Epoch epoch = record.epoch;
    if (!is_snapshot) {
      // What is pending becomes known to the index.
      CAIRN_ASSIGN_OR_RETURN(const auto volume, parts_.table.Find(inode));
      CAIRN_RETURN_IF_ERROR(volume->Sync());
      record = volume->Record();
      CAIRN_ASSIGN_OR_RETURN(const BranchRecord branch, index().GetBranch(record.branch));
      epoch = branch.epoch;
    }
    ViewPin pin(*parts_.context.views, record.branch, epoch);
    // A pass of clean-up that began before the pin has looked for this view elsewhere, and found it
    // only if it is there still.
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord now, index().GetInode(inode));
    CAIRN_ASSIGN_OR_RETURN(const BranchRecord branch, index().GetBranch(record.branch));
    const Epoch seen = is_snapshot ? now.epoch : branch.epoch;
    if (now.branch != record.branch || seen != epoch) continue;
    CAIRN_ASSIGN_OR_RETURN(Lineage lineage, Lineage::LoadSnapshot(index(), record.branch, epoch));
    return HeldView{record, std::move(lineage), std::move(pin)};
  }
}

Result<DiffPage> SnapshotOps::Diff(InodeId from, InodeId to, uint64_t offset, size_t most) {
  CAIRN_ASSIGN_OR_RETURN(const HeldView from_view, HoldView(from));
  CAIRN_ASSIGN_OR_RETURN(const HeldView to_view, HoldView(to));
  const Lineage& older = from_view.lineage;
  const Lineage& newer = to_view.lineage;
  const uint64_t size = to_view.record.size;
  const bool related =
      std::any_of(newer.levels().begin(), newer.levels().end(),
                  [&](const Lineage::Level& level) { return older.DependsOn(level.branch); });
  if (!related) return Status(Code::kInvalid, "the two do not descend from one volume");
  DiffPage page;
  RangeList ranges(page.ranges, size);
  ChunkIndex chunk = ChunkOf(offset);
  const ChunkIndex end(ChunkCount(size));
  while (chunk < end && page.ranges.size() <= most) {
    // Regions of which neither has anything are the same.
    CAIRN_ASSIGN_OR_RETURN(const auto next_newer, newer.FirstVersionFrom(index(), chunk));
    CAIRN_ASSIGN_OR_RETURN(const auto next_older, older.FirstVersionFrom(index(), chunk));
    if (!next_newer && !next_older) {
      chunk = end;
      break;
    }
    chunk = std::min(next_newer.value_or(end), next_older.value_or(end));
    if (chunk >= end) break;
    const uint64_t number = ChunkLeaf::NumberOf(chunk);
    ChunkLeaf newer_leaf;
    ChunkLeaf older_leaf;
    CAIRN_RETURN_IF_ERROR(newer.LoadLeaf(index(), number, {}, newer_leaf));
    CAIRN_RETURN_IF_ERROR(older.LoadLeaf(index(), number, {}, older_leaf));
    const ChunkIndex stop(std::min((number + 1) * ChunkLeaf::kChunks, end.value()));
    for (; chunk < stop && page.ranges.size() <= most; chunk = chunk.Next()) {
      const Pieces now = PiecesOf(newer_leaf, chunk, newer, size);
      const BlockMask differs =
          ~Same(PiecesOf(older_leaf, chunk, older, from_view.record.size), now);
      const BlockMask data = Data(now);
      for (uint64_t block = 0; block < kBlocksPerChunk;) {
        const BlockMask bit = BlockRange(block, 1);
        if (!(differs & bit)) {
          block = NextRun(differs, block).first;
          continue;
        }
        const BlockMask alike = differs & ((data & bit) ? data : ~data);
        const BlockRun run = NextRun(alike, block);
        const uint64_t begin = ChunkStart(chunk) + block * kBlockSize;
        if (begin + run.count * kBlockSize > offset) {
          const uint64_t from_byte = std::max(begin, offset);
          ranges.Add(from_byte, begin + run.count * kBlockSize - from_byte, !(data & bit));
        }
        block += run.count;
      }
    }
  }
  page.next_offset = chunk >= end ? std::max(size, offset) : ChunkStart(chunk);
  if (page.ranges.size() > most) {
    page.next_offset = page.ranges[most].offset;
    page.ranges.resize(most);
  }
  return page;
}

Result<VolumeSizes> SnapshotOps::Sizes(InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(const HeldView view, HoldView(inode));
  const InodeRecord& record = view.record;
  const Lineage& lineage = view.lineage;
  VolumeSizes sizes;
  sizes.size = record.size;
  for (ChunkIndex chunk;;) {
    CAIRN_ASSIGN_OR_RETURN(const auto next, lineage.FirstVersionFrom(index(), chunk));
    if (!next) break;
    const uint64_t number = ChunkLeaf::NumberOf(*next);
    ChunkLeaf leaf;
    CAIRN_RETURN_IF_ERROR(lineage.LoadLeaf(index(), number, {}, leaf));
    for (uint64_t i = 0; i < ChunkLeaf::kChunks; ++i) {
      const ChunkIndex at(number * ChunkLeaf::kChunks + i);
      const BlockMask data = Data(PiecesOf(leaf, at, lineage, record.size));
      sizes.mapped_bytes += static_cast<uint64_t>(std::popcount(data)) * kBlockSize;
    }
    chunk = ChunkIndex((number + 1) * ChunkLeaf::kChunks);
  }
  // A branch that nobody else needs would go as a whole, and with it its view of its parent.
  std::optional<Epoch> seen;
  if (record.kind == FileKind::kSnapshot) seen = record.epoch;
  for (BranchId at = record.branch;;) {
    CAIRN_ASSIGN_OR_RETURN(const Freed freed, FreedWithout(at, seen));
    sizes.exclusive_bytes += freed.bytes;
    if (!freed.all) break;
    if (freed.parent == BranchId(0)) break;
    at = freed.parent;
    seen = freed.parent_epoch;
  }
  sizes.exclusive_bytes = std::min(sizes.exclusive_bytes, sizes.mapped_bytes);
  sizes.shared_bytes = sizes.mapped_bytes - sizes.exclusive_bytes;
  return sizes;
}

Result<SnapshotOps::Freed> SnapshotOps::FreedWithout(BranchId branch, std::optional<Epoch> seen) {
  CAIRN_ASSIGN_OR_RETURN(const BranchRecord record, index().GetBranch(branch));
  // What its volume has overwritten is to be in the index; where it cannot be, less comes back.
  if (const auto volume = parts_.table.FindLoaded(record.inode)) (void)volume->Sync();
  CAIRN_ASSIGN_OR_RETURN(const BranchViews::Needs needs,
                         parts_.context.views->Find(index(), branch));
  const Epoch own = seen.value_or(needs.newest);
  std::vector<Epoch> others;
  size_t at_own = seen ? 0 : 1;
  CAIRN_RETURN_IF_ERROR(index().ForEachView(branch, [&](const View& view) {
    if (view.epoch == own) ++at_own;
    others.push_back(view.epoch);
    return true;
  }));
  if (needs.has_head) others.push_back(needs.newest);
  // Another one that sees the same epoch needs all that this one does.
  if (at_own <= 1) std::erase(others, own);
  std::sort(others.begin(), others.end());
  Freed freed;
  freed.all = others.empty();
  freed.parent = record.parent;
  freed.parent_epoch = record.parent_epoch;
  std::vector<std::pair<Epoch, VersionRecord>> versions;
  ChunkIndex current;
  const auto count = [&] {
    const auto with = NeededBlocks(versions, needs.views);
    const auto without = NeededBlocks(versions, others);
    for (size_t i = 0; i < versions.size(); ++i) {
      const BlockMask blocks = with[i] & ~without[i] & versions[i].second.extent;
      freed.bytes += static_cast<uint64_t>(std::popcount(blocks)) * kBlockSize;
    }
    versions.clear();
  };
  CAIRN_RETURN_IF_ERROR(
      index().ForEachVersion(branch, ChunkIndex(0), ChunkIndex(ChunkCount(kMaxVolumeSize)),
                             [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
                               if (chunk != current) count();
                               current = chunk;
                               if (epoch <= needs.newest) versions.emplace_back(epoch, version);
                               return true;
                             }));
  count();
  return freed;
}

}  // namespace cairn
