// The read path of DiskVolume.
#include <algorithm>
#include <cstring>

#include "src/volume/disk_volume.h"

namespace cairn {

Result<size_t> DiskVolume::Read(uint64_t offset, std::span<std::byte> out) {
  GateEntry entry(gate_);
  if (retired_.load(std::memory_order_relaxed)) return Status(Code::kStale, "the volume is gone");
  const uint64_t size = size_.load(std::memory_order_acquire);
  if (offset >= size) return size_t{0};
  const uint64_t end = std::min<uint64_t>(size, offset + out.size());
  std::shared_ptr<ChunkLeaf> leaf;
  uint64_t leaf_number = 0;
  // What lies in the head's extent file back to back is read by one call.
  Run run{offset, 0};
  for (uint64_t at = offset; at < end;) {
    const ChunkRange range = RangeAt(at, end);
    if (!leaf || ChunkLeaf::NumberOf(range.chunk) != leaf_number) {
      if (run.length > 0) CAIRN_RETURN_IF_ERROR(ReadRun(*leaf, run, offset, out));
      run = {at, 0};
      CAIRN_ASSIGN_OR_RETURN(leaf, map_.Get(range.chunk));
      leaf_number = ChunkLeaf::NumberOf(range.chunk);
    }
    const BlockMask head = leaf->Head(range.chunk).load(std::memory_order_acquire);
    const bool in_head = (range.touched() & ~head) == 0;
    if (run.length > 0 && !in_head) CAIRN_RETURN_IF_ERROR(ReadRun(*leaf, run, offset, out));
    if (in_head) {
      run.length += range.length();
    } else {
      CAIRN_RETURN_IF_ERROR(
          ReadMixed(*leaf, range, head, out.subspan(at - offset, range.length())));
      run = {at + range.length(), 0};
    }
    at += range.length();
  }
  if (run.length > 0) CAIRN_RETURN_IF_ERROR(ReadRun(*leaf, run, offset, out));
  return static_cast<size_t>(end - offset);
}

// REQUIRES: the run lies in `leaf`, hence in one segment.
Status DiskVolume::ReadRun(ChunkLeaf& leaf, const Run& run, uint64_t origin,
                           std::span<std::byte> out) {
  CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, extents_.HeadForReading(SegmentOf(run.offset)));
  const auto part = out.subspan(run.offset - origin, run.length);
  CAIRN_RETURN_IF_ERROR(file->ReadAt(OffsetInSegment(run.offset), part));
  return VerifyRead(SumsOf(leaf.seal()), *file, run.offset, part);
}

Status DiskVolume::ReadMixed(ChunkLeaf& leaf, const ChunkRange& range, BlockMask head,
                             std::span<std::byte> out) {
  uint64_t block = range.begin / kBlockSize;
  const uint64_t end_block = (range.end + kBlockSize - 1) / kBlockSize;
  // Stretches of blocks that lie in the same place.
  while (block < end_block) {
    const BlockMask bit = BlockRange(block, 1);
    BlockMask same = kAllBlocks & ~head;
    std::optional<LowerPieces::Found> lower;
    if (head & bit) {
      same = head;
    } else {
      lower = leaf.lower().Find(range.chunk, block);
      same &= lower ? lower->piece.mask : ~leaf.lower().Covered(range.chunk);
    }
    const BlockRun stretch = NextRun(same, block);
    const uint64_t begin = std::max(range.begin, block * kBlockSize);
    const uint64_t end = std::min(range.end, (block + stretch.count) * kBlockSize);
    const auto part = out.subspan(begin - range.begin, end - begin);
    const uint64_t offset = ChunkStart(range.chunk) + begin;
    if (head & bit) {
      CAIRN_RETURN_IF_ERROR(ReadRun(leaf, {offset, part.size()}, offset, part));
    } else if (lower) {
      CAIRN_RETURN_IF_ERROR(ReadLower(leaf, *lower, offset, part));
    } else {
      std::memset(part.data(), 0, part.size());
    }
    block += stretch.count;
  }
  return Status::Ok();
}

Status DiskVolume::ReadLower(ChunkLeaf& leaf, const LowerPieces::Found& lower, uint64_t offset,
                             std::span<std::byte> out) {
  switch (lower.piece.kind) {
    case LowerPiece::Kind::kExtent:
      return ReadLowerExtent(leaf, lower, offset, out);
    case LowerPiece::Kind::kZero:
      std::memset(out.data(), 0, out.size());
      return Status::Ok();
    case LowerPiece::Kind::kTombstone:
      return Status(Code::kUnsupported, "data in a cold tier, which this version cannot read");
  }
  return Status(Code::kInternal, "a lower piece of unknown kind");
}

Status DiskVolume::ReadLowerExtent(ChunkLeaf& leaf, const LowerPieces::Found& lower,
                                   uint64_t offset, std::span<std::byte> out) {
  const LowerPiece& piece = lower.piece;
  LowerPlaces::Place place = leaf.places().Find(lower.source, lower_era_);
  const bool file_known = place.file != nullptr;
  if (!file_known) {
    CAIRN_ASSIGN_OR_RETURN(place.file,
                           extents_.Lower({piece.branch, piece.epoch, SegmentOf(offset)}));
  }
  CAIRN_RETURN_IF_ERROR(place.file->ReadAt(OffsetInSegment(offset), out));
  std::shared_ptr<RegionSeal> seal;
  const bool sums_known = place.sums_generation != 0;
  if (!sums_known) {
    CAIRN_ASSIGN_OR_RETURN(seal,
                           seals_.Get({piece.branch, piece.epoch, RegionOf(ChunkOf(offset))}));
    // Of an ended epoch, so that it stays sealed (seal_map.h).
    if (seal->state() == RegionSeal::State::kSealed) {
      place.sums_generation = seal->generation();
    }
  }
  if (!file_known || (!sums_known && place.sums_generation != 0)) {
    leaf.places().Put(lower.source, lower_era_, place);
  }
  return VerifyRead({piece.branch, piece.epoch, seal.get(), place.sums_generation}, *place.file,
                    offset, out);
}

}  // namespace cairn
