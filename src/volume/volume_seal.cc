// How DiskVolume keeps to the checksums of blocks at rest: what is read is compared with them, and
// what is about to be written is durably taken out of their protection first.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "src/volume/block_sums.h"
#include "src/volume/disk_volume.h"

namespace cairn {
namespace {

constexpr size_t kDeletesPerBatch = 4096;

Status Damaged(const ExtentFile& file, uint64_t offset) {
  return Status(Code::kCorrupt,
                fmt::format("extent file {}: the block at offset {} is not what was written there "
                            "(byte {} of the volume)",
                            file.path(), OffsetInSegment(offset), offset));
}

}  // namespace

Status DiskVolume::OpenRegion(ChunkLeaf& leaf, const ChunkRange& range, BlockMask mask) {
  RegionSeal& seal = leaf.seal();
  MutexLock lock(seal.mu);
  // The rest of a block that is overwritten in part would pass for good from here on.
  const BlockMask edges = range.touched() & ~BlocksCovered(range.begin, range.end) &
                          leaf.Head(range.chunk).load(std::memory_order_acquire);
  for (BlockRun run = NextRun(edges, 0); run.count > 0;
       run = NextRun(edges, run.first + run.count)) {
    CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, extents_.HeadForReading(SegmentOf(range.chunk)));
    const uint64_t offset = ChunkStart(range.chunk) + run.first * kBlockSize;
    std::vector<std::byte> bytes(run.count * kBlockSize);
    CAIRN_RETURN_IF_ERROR(file->ReadAt(OffsetInSegment(offset), bytes));
    CAIRN_RETURN_IF_ERROR(VerifyRead(SumsOf(seal), *file, offset, bytes));
  }
  CAIRN_RETURN_IF_ERROR(OpenRegionLocked(seal));
  seal.Touch(range.chunk, mask);
  return Status::Ok();
}

Status DiskVolume::OpenRegionLocked(RegionSeal& seal) {
  switch (seal.state()) {
    case RegionSeal::State::kOpen:
      return Status::Ok();
    case RegionSeal::State::kSealing:
      seal.AbandonSealing();
      return Status::Ok();
    case RegionSeal::State::kSealed:
    case RegionSeal::State::kStuck:
      break;
    case RegionSeal::State::kGone:
      return Status(Code::kStale, "the volume is gone");
  }
  // Durable before the first byte changes: after a power cut in between nobody may take new bytes
  // for damaged old ones.
  IndexBatch batch;
  batch.PutRegion(seal.id, RegionState::kOpen);
  CAIRN_RETURN_IF_ERROR(context_.store->index().Commit(batch));
  seal.Open();
  return Status::Ok();
}

Result<ChunkSums> DiskVolume::FindSums(const RegionSums& region, ChunkIndex chunk,
                                       BlockMask wanted) {
  const uint64_t generation = region.generation();
  ChunkSums sums;
  if (context_.seals->sums().Find(generation, chunk, wanted, sums)) return sums;
  CAIRN_ASSIGN_OR_RETURN(sums, context_.store->index().GetSums(region.branch, region.epoch, chunk));
  context_.seals->sums().Put(generation, chunk, sums);
  return sums;
}

Status DiskVolume::VerifyRead(const RegionSums& region, ExtentFile& file, uint64_t offset,
                              std::span<std::byte> out) {
  const uint64_t end = offset + out.size();
  for (uint64_t at = offset; at < end;) {
    const ChunkRange range = RangeAt(at, end);
    at += range.length();
    const BlockMask trusted = region.Trusted(range.chunk) & range.touched();
    if (trusted == 0) continue;
    CAIRN_ASSIGN_OR_RETURN(const ChunkSums sums, FindSums(region, range.chunk, trusted));
    for (BlockMask rest = trusted & sums.mask; rest != 0; rest &= rest - 1) {
      const auto block = static_cast<uint64_t>(std::countr_zero(rest));
      const uint64_t begin = std::max(range.begin, block * kBlockSize);
      const ChunkRange part{range.chunk, begin, std::min(range.end, (block + 1) * kBlockSize)};
      CAIRN_RETURN_IF_ERROR(VerifyBlock(region, file, part, sums,
                                        out.subspan(part.offset() - offset, part.length())));
    }
  }
  return Status::Ok();
}

// `range` lies in one block. Of one that was read in part the rest is read as well, and what goes
// out is what was compared.
Status DiskVolume::VerifyBlock(const RegionSums& region, ExtentFile& file, const ChunkRange& range,
                               const ChunkSums& sums, std::span<std::byte> out) {
  const uint64_t block = range.begin / kBlockSize;
  const uint64_t offset = ChunkStart(range.chunk) + block * kBlockSize;
  if (out.size() == kBlockSize) {
    if (MatchesSum(sums, block, out)) [[likely]] {
      return Status::Ok();
    }
  } else {
    std::array<std::byte, kBlockSize> whole;
    CAIRN_RETURN_IF_ERROR(file.ReadAt(OffsetInSegment(offset), whole));
    if (MatchesSum(sums, block, whole)) {
      std::memcpy(out.data(), whole.data() + range.begin % kBlockSize, out.size());
      return Status::Ok();
    }
  }
  // A writer may have come in between: then any mixture of old and new is right.
  if (!(region.Trusted(range.chunk) & BlockRange(block, 1))) return Status::Ok();
  return Damaged(file, offset);
}

// The chunks of `region` from `first` on.
Status DiskVolume::UnsealTail(const RegionId& region, ChunkIndex first) {
  CAIRN_ASSIGN_OR_RETURN(const auto seal, seals_.Get(region));
  seal->NoteWrite();
  MutexLock lock(seal->mu);
  // Before the look into the index, where a sealer may be about to enter more.
  seal->AbandonSealing();
  const ChunkIndex last(RegionStart(region.number + 1).value() - 1);
  bool has_sums = false;
  CAIRN_RETURN_IF_ERROR(context_.store->index().ForEachSums(region.branch, region.epoch, first,
                                                            last, [&](ChunkIndex) {
                                                              has_sums = true;
                                                              return false;
                                                            }));
  if (!has_sums) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(OpenRegionLocked(*seal));
  for (ChunkIndex chunk = first; chunk <= last; chunk = chunk.Next()) {
    seal->Touch(chunk, kAllBlocks);
  }
  return Status::Ok();
}

// The checksums of what is cut off go first, durably. A block that becomes the head's again passes
// for touched anyway; this way no false alarm hangs on that alone.
Status DiskVolume::UnsealFrom(ChunkIndex first) {
  Index& index = context_.store->index();
  const Lineage::Level head = lineage_.head();
  RegionId from{head.branch, head.epoch, RegionOf(first)};
  if (first != RegionStart(from.number)) {
    // This region stays in part.
    CAIRN_RETURN_IF_ERROR(UnsealTail(from, first));
    ++from.number;
  }
  seals_.ForgetFrom(from);
  std::vector<RegionId> regions;
  CAIRN_RETURN_IF_ERROR(index.ForEachRegion(from, [&](const RegionId& id) {
    regions.push_back(id);
    return true;
  }));
  IndexBatch batch;
  for (const RegionId& id : regions) {
    batch.DeleteRegion(id);
    const ChunkIndex last(RegionStart(id.number + 1).value() - 1);
    CAIRN_RETURN_IF_ERROR(
        index.ForEachSums(id.branch, id.epoch, RegionStart(id.number), last, [&](ChunkIndex chunk) {
          batch.DeleteSums(id.branch, id.epoch, chunk);
          return true;
        }));
    if (batch.count() < kDeletesPerBatch) continue;
    CAIRN_RETURN_IF_ERROR(index.Commit(batch));
    batch.Clear();
  }
  return index.Commit(batch);
}

}  // namespace cairn
