// SEEK_DATA and SEEK_HOLE of DiskVolume.
#include <algorithm>

#include "src/volume/disk_volume.h"

namespace cairn {

Result<uint64_t> DiskVolume::SeekData(uint64_t offset) {
  GateEntry entry(gate_);
  if (retired_.load()) return Status(Code::kStale, "the volume is gone");
  const uint64_t size = size_.load(std::memory_order_acquire);
  const ChunkIndex end(ChunkCount(size));
  while (offset < size) {
    CAIRN_ASSIGN_OR_RETURN(const auto present, FirstPresent(ChunkOf(offset), end));
    if (!present) break;
    offset = std::max(offset, ChunkStart(*present));
    const ChunkRange range = RangeAt(offset, size);
    CAIRN_ASSIGN_OR_RETURN(const uint64_t found, SeekInChunk(range, true));
    if (found < range.offset() + range.length()) return found;
    offset = range.offset() + range.length();
  }
  return Status(Code::kNoDevice, "no data behind this offset");
}

Result<uint64_t> DiskVolume::SeekHole(uint64_t offset) {
  GateEntry entry(gate_);
  if (retired_.load()) return Status(Code::kStale, "the volume is gone");
  const uint64_t size = size_.load(std::memory_order_acquire);
  if (offset >= size) return Status(Code::kNoDevice, "behind the end");
  while (offset < size) {
    const ChunkRange range = RangeAt(offset, size);
    CAIRN_ASSIGN_OR_RETURN(const uint64_t found, SeekInChunk(range, false));
    if (found < range.offset() + range.length()) return found;
    offset = range.offset() + range.length();
  }
  return size;
}

Result<uint64_t> DiskVolume::SeekInChunk(const ChunkRange& range, bool data) {
  CAIRN_ASSIGN_OR_RETURN(const auto leaf, map_.Get(range.chunk));
  const BlockMask head = leaf->Head(range.chunk).load(std::memory_order_acquire);
  const uint64_t start = ChunkStart(range.chunk);
  const uint64_t end = start + range.end;
  uint64_t at = start + range.begin;
  while (at < end) {
    // The stretch of blocks around `at` that lie in the same file, or in none.
    const uint64_t block = (at - start) / kBlockSize;
    const BlockMask bit = BlockRange(block, 1);
    BlockMask same = kAllBlocks & ~head;
    ExtentFile* file = nullptr;
    std::shared_ptr<ExtentFile> lower;
    bool all_data = false;
    if (head & bit) {
      same = head;
      CAIRN_ASSIGN_OR_RETURN(file, extents_.HeadForReading(SegmentOf(range.chunk)));
    } else {
      const auto found = leaf->lower().Find(range.chunk, block);
      same &= found ? found->piece.mask : ~leaf->lower().Covered(range.chunk);
      if (found && found->piece.kind == LowerPiece::Kind::kExtent) {
        CAIRN_ASSIGN_OR_RETURN(lower, extents_.Lower({found->piece.branch, found->piece.epoch,
                                                      SegmentOf(range.chunk)}));
        file = lower.get();
      }
      all_data = found && found->piece.kind == LowerPiece::Kind::kTombstone;
    }
    const BlockRun stretch = NextRun(same, block);
    const uint64_t stop = std::min(end, start + (block + stretch.count) * kBlockSize);
    if (file != nullptr) {
      const uint64_t from = OffsetInSegment(at);
      const uint64_t to = from + (stop - at);
      CAIRN_ASSIGN_OR_RETURN(const uint64_t found,
                             data ? file->SeekData(from, to) : file->SeekHole(from, to));
      if (found < to) return at + (found - from);
    } else if (all_data == data) {
      return at;
    }
    at = stop;
  }
  return end;
}

Result<std::optional<ChunkIndex>> DiskVolume::FirstPresent(ChunkIndex from, ChunkIndex end) {
  while (from < end) {
    // A leaf at a time in memory; the index tells which leaf comes next.
    CAIRN_ASSIGN_OR_RETURN(const auto leaf, map_.Get(from));
    const uint64_t leaf_end = (ChunkLeaf::NumberOf(from) + 1) * ChunkLeaf::kChunks;
    for (; from.value() < leaf_end && from < end; from = from.Next()) {
      if (leaf->Head(from).load(std::memory_order_acquire) != 0 || !leaf->Lower(from).empty()) {
        return std::optional(from);
      }
    }
    if (from >= end) break;
    CAIRN_ASSIGN_OR_RETURN(const auto recorded, FirstRecorded(from));
    if (!recorded) break;
    from = *recorded;
  }
  return std::optional<ChunkIndex>();
}

Result<std::optional<ChunkIndex>> DiskVolume::FirstRecorded(ChunkIndex from) {
  std::optional<ChunkIndex> first;
  {
    // Before the index, for the same reason as in LoadLeaf.
    MutexLock lock(pending_mu_);
    first = pending_.FirstFrom(from);
  }
  CAIRN_ASSIGN_OR_RETURN(const auto recorded,
                         lineage_.FirstVersionFrom(context_.store->index(), from));
  if (recorded && (!first || *recorded < *first)) first = recorded;
  return first;
}

}  // namespace cairn
