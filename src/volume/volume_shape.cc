// What changes the shape of a DiskVolume with its gate closed: zeroing, reservation, truncation.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <vector>

#include "src/base/log.h"
#include "src/volume/disk_volume.h"

namespace cairn {
namespace {

constexpr size_t kDeletesPerBatch = 4096;

}  // namespace

Status DiskVolume::Zero(uint64_t offset, uint64_t length, bool keep_size) {
  if (offset > kMaxVolumeSize || length > kMaxVolumeSize - offset) {
    return Status(Code::kTooLarge, "a volume has at most 64 TiB");
  }
  GateClosure closure(gate_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  const PoisonedByExceptions guard(*this);
  const uint64_t end = offset + length;
  const uint64_t size = size_.load();
  // Of a last block that is not whole only zeros lie behind the end: it is given back as a whole.
  const bool to_the_end = offset < size && end >= size;
  CAIRN_RETURN_IF_ERROR(
      ZeroInside(offset, to_the_end ? RoundUpToBlock(size) : std::min(end, size)));
  if (!keep_size && end > size_.load()) CAIRN_RETURN_IF_ERROR(Grow(end));
  TouchTimes();
  return Status::Ok();
}

Status DiskVolume::ZeroInside(uint64_t offset, uint64_t end) {
  const ChunkIndex last_chunk(ChunkCount(end));
  while (offset < end) {
    CAIRN_ASSIGN_OR_RETURN(const auto present, FirstPresent(ChunkOf(offset), last_chunk));
    if (!present) return Status::Ok();
    offset = std::max(offset, ChunkStart(*present));
    const ChunkRange range = RangeAt(offset, end);
    CAIRN_RETURN_IF_ERROR(ZeroChunk(range));
    offset = range.offset() + range.length();
  }
  return Status::Ok();
}

Status DiskVolume::ZeroChunk(const ChunkRange& range) {
  const BlockMask covered = BlocksCovered(range.begin, range.end);
  const uint64_t start = ChunkStart(range.chunk);
  if (covered == 0) return ZeroEdge(range.offset(), start + range.end);
  const uint64_t first = static_cast<uint64_t>(std::countr_zero(covered)) * kBlockSize;
  const uint64_t last =
      (kBlocksPerChunk - static_cast<uint64_t>(std::countl_zero(covered))) * kBlockSize;
  if (range.begin < first) CAIRN_RETURN_IF_ERROR(ZeroEdge(range.offset(), start + first));
  CAIRN_RETURN_IF_ERROR(PunchHead(range.chunk, covered));
  if (range.end > last) CAIRN_RETURN_IF_ERROR(ZeroEdge(start + last, start + range.end));
  return Status::Ok();
}

// Less than a block. Written as zeros where there is data, so that the rest of the block stays.
Status DiskVolume::ZeroEdge(uint64_t offset, uint64_t end) {
  while (offset < end) {
    const uint64_t stop = std::min(end, offset / kBlockSize * kBlockSize + kBlockSize);
    CAIRN_ASSIGN_OR_RETURN(const auto leaf, map_.Get(ChunkOf(offset)));
    const BlockMask bit = BlockRange(OffsetInChunk(offset) / kBlockSize, 1);
    const BlockMask head = leaf->Head(ChunkOf(offset)).load();
    if ((head | leaf->LowerData(ChunkOf(offset))) & bit) {
      const std::vector<std::byte> zeros(stop - offset);
      uint64_t done = 0;
      CAIRN_RETURN_IF_ERROR(WriteInside(offset, zeros, done));
    }
    offset = stop;
  }
  return Status::Ok();
}

// Whole blocks: what the head holds becomes a hole of its file; what only lies beneath is hidden by
// a hole that the head holds.
Status DiskVolume::PunchHead(ChunkIndex chunk, BlockMask mask) {
  CAIRN_ASSIGN_OR_RETURN(const auto leaf, map_.Get(chunk));
  const BlockMask head = leaf->Head(chunk).load();
  const BlockMask hidden = leaf->LowerData(chunk) & mask & ~head;
  if (((head & mask) | hidden) == 0) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(BeforeWrite(*leaf, {chunk, 0, kChunkSize}, (head & mask) | hidden));
  CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, hidden == 0
                                                     ? extents_.HeadForReading(SegmentOf(chunk))
                                                     : extents_.HeadForWriting(SegmentOf(chunk)));
  const uint64_t chunk_offset = OffsetInSegment(ChunkStart(chunk));
  if (hidden != 0) {
    CAIRN_RETURN_IF_ERROR(file->EnsureSize(chunk_offset + kChunkSize));
    CAIRN_RETURN_IF_ERROR(ClearLeftovers(*file, chunk, hidden));
  }
  const BlockMask held = head & mask;
  for (BlockRun run = NextRun(held, 0); run.count > 0; run = NextRun(held, run.first + run.count)) {
    CAIRN_RETURN_IF_ERROR(
        file->PunchHole(chunk_offset + run.first * kBlockSize, run.count * kBlockSize));
  }
  return hidden == 0 ? Status::Ok() : RecordBlocks(*leaf, chunk, head | hidden);
}

Status DiskVolume::Allocate(uint64_t offset, uint64_t length, bool keep_size) {
  if (offset > kMaxVolumeSize || length > kMaxVolumeSize - offset) {
    return Status(Code::kTooLarge, "a volume has at most 64 TiB");
  }
  GateClosure closure(gate_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  const PoisonedByExceptions guard(*this);
  // Behind the end there is nothing that a reservation could belong to.
  const uint64_t end = keep_size ? std::min(offset + length, size_.load()) : offset + length;
  if (offset >= end) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(CheckRoomFor(offset, end));
  uint64_t reached = offset;
  Status status;
  while (status.ok() && reached < end) {
    const ChunkRange range = RangeAt(reached, end);
    status = AllocateChunk(range);
    if (status.ok()) reached = range.offset() + range.length();
  }
  // The size after the blocks, as in a write, and as far as they came.
  if (reached > offset) {
    Status extended = ExtendTo(reached);
    if (status.ok()) status = std::move(extended);
  }
  return status;
}

// Before anything changes: who asks for far too much must not have taken all there is when that
// shows. What others take meanwhile, and what the host needs to keep account, only the allocation
// itself finds out.
Status DiskVolume::CheckRoomFor(uint64_t offset, uint64_t end) {
  uint64_t room = 0;
  if (!context_.store->reserve().scarce()) {
    // The reserve is a file and not among it.
    CAIRN_ASSIGN_OR_RETURN(const SpaceInfo space, context_.store->Space());
    if (space.total_bytes == 0) return Status::Ok();  // it does not say, as a tmpfs without a limit
    room = space.usable_bytes;
  }
  uint64_t missing = 0;
  for (uint64_t at = offset / kBlockSize * kBlockSize; at < end;) {
    const uint64_t begin = OffsetInSegment(at);
    const uint64_t length = std::min(end - at, kSegmentSize - begin);
    CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, extents_.HeadIfAny(SegmentOf(at)));
    uint64_t allocated = 0;
    if (file != nullptr && begin < file->size()) {
      CAIRN_ASSIGN_OR_RETURN(allocated,
                             file->AllocatedIn(begin, std::min(length, file->size() - begin)));
    }
    missing += length - allocated;
    if (missing > room) {
      return Status(Code::kNoSpace,
                    fmt::format("{}: {} bytes are free, which is less than the range needs",
                                context_.store->dir(), room));
    }
    at += length;
  }
  return Status::Ok();
}

// The chunk's head gains all the touched blocks, with the content that they have, and their space.
Status DiskVolume::AllocateChunk(const ChunkRange& range) {
  CAIRN_ASSIGN_OR_RETURN(const auto leaf, map_.Get(range.chunk));
  const BlockMask head = leaf->Head(range.chunk).load();
  const BlockMask missing = range.touched() & ~head;
  const BlockMask copied = leaf->LowerData(range.chunk) & missing;
  for (BlockRun run = NextRun(copied, 0); run.count > 0;
       run = NextRun(copied, run.first + run.count)) {
    const ChunkRange part{range.chunk, run.first * kBlockSize,
                          (run.first + run.count) * kBlockSize};
    std::vector<std::byte> bytes(part.length());
    CAIRN_RETURN_IF_ERROR(ReadMixed(*leaf, part, head, bytes));
    CAIRN_RETURN_IF_ERROR(WriteFirstTouch(*leaf, part, bytes));
  }
  CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, extents_.HeadForWriting(SegmentOf(range.chunk)));
  const uint64_t chunk_offset = OffsetInSegment(ChunkStart(range.chunk));
  CAIRN_RETURN_IF_ERROR(file->EnsureSize(chunk_offset + kChunkSize));
  const BlockMask absent = missing & ~copied;
  if (absent != 0) {
    CAIRN_RETURN_IF_ERROR(BeforeWrite(*leaf, {range.chunk, 0, kChunkSize}, absent));
    CAIRN_RETURN_IF_ERROR(ClearLeftovers(*file, range.chunk, absent));
  }
  Status allocated = file->Allocate(chunk_offset + range.begin, range.length());
  if (absent == 0) return allocated;
  if (allocated.ok()) {
    return RecordBlocks(*leaf, range.chunk, leaf->Head(range.chunk).load() | absent);
  }
  // It may have got a part, which would be nobody's. Where that stays, it is zeros.
  for (BlockRun run = NextRun(absent, 0); run.count > 0;
       run = NextRun(absent, run.first + run.count)) {
    (void)file->PunchHole(chunk_offset + run.first * kBlockSize, run.count * kBlockSize);
  }
  return allocated;
}

Status DiskVolume::Truncate(uint64_t size) {
  if (size > kMaxVolumeSize) return Status(Code::kTooLarge, "a volume has at most 64 TiB");
  GateClosure closure(gate_);
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  const PoisonedByExceptions guard(*this);
  const uint64_t old_size = size_.load();
  TouchTimes();
  if (size > old_size) return Grow(size);
  if (size == old_size) return Status::Ok();
  return size == 0 ? ShrinkToNothing() : Shrink(size);
}

Status DiskVolume::Grow(uint64_t size) {
  changed_since_cut_.store(true);
  JournalSize(size);
  const uint64_t old_size = size_.exchange(size);
  IndexBatch batch;
  Status status = CommitRecord(batch, [](InodeRecord&) {});
  if (!status.ok()) {
    size_.store(old_size);
    Poison(status);  // the journal already speaks of the new size
  }
  return status;
}

Status DiskVolume::Shrink(uint64_t size) {
  const uint64_t old_size = size_.load();
  // While this may append to the journal, the sync slot must not be held.
  CAIRN_RETURN_IF_ERROR(ZeroInside(size, std::min(old_size, RoundUpToChunk(size))));
  JournalSize(size);
  SyncSlot slot(*this);
  // From here on the index knows everything, and the zeros behind the new end are durable.
  CAIRN_RETURN_IF_ERROR(SyncHoldingSlot());
  Status cut = UnsealFrom(ChunkIndex(ChunkCount(size)));
  if (cut.ok()) cut = CutOff(size, old_size);
  map_.Clear();
  // Half of it may have happened: what is in memory cannot be trusted to be what is in the index.
  if (!cut.ok()) Poison(cut);
  return cut;
}

Status DiskVolume::CutOff(uint64_t size, uint64_t old_size) {
  IndexBatch batch;
  CAIRN_RETURN_IF_ERROR(DeleteVersionsFrom(ChunkIndex(ChunkCount(size)), batch));
  size_.store(size);
  Status committed = CommitRecord(batch, [](InodeRecord&) {});
  if (!committed.ok()) {
    size_.store(old_size);
    return committed;
  }
  return PunchSegmentsFrom(RoundUpToChunk(size), old_size);
}

// Puts the last deletions into `batch` and commits the others: a crash in between leaves chunks of
// zeros before the old end, which is what a truncation makes of them anyway.
Status DiskVolume::DeleteVersionsFrom(ChunkIndex first, IndexBatch& batch) {
  Index& index = context_.store->index();
  const Lineage::Level head = lineage_.head();
  // The first epoch of a branch without a parent has nothing beneath.
  if (lineage_.levels().size() > 1 || head.epoch != Epoch(1)) return HideVersionsFrom(first, batch);
  const ChunkIndex last(ChunkCount(kMaxVolumeSize));
  for (;;) {
    std::vector<ChunkIndex> found;
    CAIRN_RETURN_IF_ERROR(index.ForEachVersion(head.branch, first, last,
                                               [&](ChunkIndex chunk, Epoch, const VersionRecord&) {
                                                 found.push_back(chunk);
                                                 return found.size() < kDeletesPerBatch;
                                               }));
    for (const ChunkIndex chunk : found) batch.DeleteVersion(head.branch, chunk, head.epoch);
    if (found.size() < kDeletesPerBatch) break;
    CAIRN_RETURN_IF_ERROR(index.Commit(batch));
    batch.Clear();
    first = found.back().Next();
  }
  return Status::Ok();
}

// What lies beneath the head must not come back when the volume grows again: there the head says
// that it is zeros, in the same batch in which it gives up its own.
Status DiskVolume::HideVersionsFrom(ChunkIndex first, IndexBatch& batch) {
  Index& index = context_.store->index();
  const Lineage beneath = lineage_.Beneath();
  for (;;) {
    CAIRN_ASSIGN_OR_RETURN(const auto next, lineage_.FirstVersionFrom(index, first));
    if (!next) return Status::Ok();
    CAIRN_RETURN_IF_ERROR(HideInLeaf(beneath, *next, batch));
    if (batch.count() >= kDeletesPerBatch) {
      CAIRN_RETURN_IF_ERROR(index.Commit(batch));
      batch.Clear();
    }
    first = ChunkIndex((ChunkLeaf::NumberOf(*next) + 1) * ChunkLeaf::kChunks);
  }
}

// From `first` to the end of its leaf.
Status DiskVolume::HideInLeaf(const Lineage& beneath, ChunkIndex first, IndexBatch& batch) {
  Index& index = context_.store->index();
  const Lineage::Level head = lineage_.head();
  const uint64_t number = ChunkLeaf::NumberOf(first);
  const ChunkIndex last((number + 1) * ChunkLeaf::kChunks - 1);
  ChunkLeaf leaf;
  CAIRN_RETURN_IF_ERROR(beneath.LoadLeaf(index, number, {}, leaf));
  std::map<ChunkIndex, VersionRecord> own;
  CAIRN_RETURN_IF_ERROR(index.ForEachVersion(
      head.branch, first, last, [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
        if (epoch == head.epoch) own[chunk] = version;
        return true;
      }));
  for (ChunkIndex chunk = first; chunk <= last; chunk = chunk.Next()) {
    const auto found = own.find(chunk);
    if (found == own.end() && leaf.LowerData(chunk) == 0) continue;
    // Not where zeros lie beneath: clean-up takes them away because of what the head has there.
    if (leaf.Lower(chunk).empty()) {
      batch.DeleteVersion(head.branch, chunk, head.epoch);
      continue;
    }
    if (found != own.end() && found->second.zero == kAllBlocks) continue;
    VersionRecord hidden;
    hidden.zero = kAllBlocks;
    batch.PutVersion(head.branch, chunk, head.epoch, hidden);
  }
  return Status::Ok();
}

Status DiskVolume::PunchSegmentsFrom(uint64_t offset, uint64_t old_size) {
  for (uint64_t number = SegmentOf(offset).value(); number < SegmentCount(old_size); ++number) {
    CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, extents_.HeadIfAny(SegmentIndex(number)));
    if (file == nullptr) continue;
    const uint64_t segment_start = number * kSegmentSize;
    const uint64_t begin = std::max(offset, segment_start) - segment_start;
    if (begin >= file->size()) continue;
    CAIRN_RETURN_IF_ERROR(file->PunchHole(begin, file->size() - begin));
  }
  return Status::Ok();
}

// A new, empty branch takes the old one's place, whatever that held.
Status DiskVolume::ShrinkToNothing() {
  Index& index = context_.store->index();
  CAIRN_ASSIGN_OR_RETURN(const uint64_t id, index.AllocateId());
  JournalSize(0);
  SyncSlot slot(*this);
  const BranchId old_branch = lineage_.head().branch;
  // A cut that is not durable yet must not lose what is pending.
  if (context_.views->IsPinned(old_branch)) CAIRN_RETURN_IF_ERROR(SyncHoldingSlot());
  const uint64_t old_size = size_.exchange(0);
  Replacement replacement;
  replacement.branch = BranchId(id);
  replacement.record.inode = inode_;
  replacement.record.trimmed_crash = context_.store->crash_count();
  replacement.lineage = Lineage::OfNew(replacement.branch, replacement.record.epoch);
  IndexBatch batch;
  batch.PutBranch(replacement.branch, replacement.record);
  // From here on no sealer enters records of the old branch.
  seals_.ForgetAll();
  Status committed = CommitRecordBy(
      batch, [&](InodeRecord& changed) { changed.branch = replacement.branch; },
      [&] {
        return context_.views->Abandon(index, old_branch, batch,
                                       [&] { return index.Commit(batch); });
      });
  if (!committed.ok()) {
    size_.store(old_size);
    Poison(committed);
    return committed;
  }
  SwitchHoldingSlot(std::move(replacement));
  context_.reclaim_soon(old_branch);
  return Status::Ok();
}

}  // namespace cairn
