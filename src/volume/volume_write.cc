// The write path of DiskVolume.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "src/base/log.h"
#include "src/volume/disk_volume.h"

namespace cairn {

Status DiskVolume::CheckWritable() {
  if (retired_.load()) return Status(Code::kStale, "the volume is gone");
  if (is_snapshot_) return Status(Code::kReadOnly, "a snapshot does not change");
  if (context_.read_only) return Status(Code::kReadOnly, "the mount is read-only");
  return Health();
}

Result<size_t> DiskVolume::Write(uint64_t offset, std::span<const std::byte> data) {
  if (offset > kMaxVolumeSize || data.size() > kMaxVolumeSize - offset) {
    return Status(Code::kTooLarge, "a volume has at most 64 TiB");
  }
  GateEntry entry(gate_);
  if (refuses_writes_.load(std::memory_order_relaxed) || read_only_) [[unlikely]] {
    CAIRN_RETURN_IF_ERROR(CheckWritable());
  }
  if (data.empty()) return size_t{0};
  uint64_t done = 0;
  Status status;
  {
    const PoisonedByExceptions guard(*this);
    status = WriteInside(offset, data, done);
    if (done > 0) CAIRN_RETURN_IF_ERROR(ExtendTo(offset + done));
  }
  if (done > 0) TouchTimes();
  if (status.ok() || done > 0) return static_cast<size_t>(done);
  return status;
}

Status DiskVolume::WriteInside(uint64_t offset, std::span<const std::byte> data, uint64_t& done) {
  const uint64_t end = offset + data.size();
  std::shared_ptr<ChunkLeaf> leaf;
  uint64_t leaf_number = 0;
  // What overwrites blocks that the head holds, back to back, is written by one call.
  Run run{offset, 0};
  for (uint64_t at = offset; at < end;) {
    const ChunkRange range = RangeAt(at, end);
    if (!leaf || ChunkLeaf::NumberOf(range.chunk) != leaf_number) {
      CAIRN_ASSIGN_OR_RETURN(leaf, map_.Get(range.chunk));
      leaf_number = ChunkLeaf::NumberOf(range.chunk);
    }
    const BlockMask head = leaf->Head(range.chunk).load(std::memory_order_acquire);
    const bool in_head = (range.touched() & ~head) == 0;
    if (run.length > 0 && (!in_head || SegmentOf(run.offset) != SegmentOf(at))) {
      CAIRN_RETURN_IF_ERROR(WriteRun(run, offset, data));
      done = at - offset;
      run = {at, 0};
    }
    if (in_head) {
      Status admitted = BeforeWrite(*leaf, range, range.touched());
      if (!admitted.ok()) {
        if (run.length > 0) {
          CAIRN_RETURN_IF_ERROR(WriteRun(run, offset, data));
          done = at - offset;
        }
        return admitted;
      }
      run.length += range.length();
    } else {
      CAIRN_RETURN_IF_ERROR(
          WriteFirstTouch(*leaf, range, data.subspan(at - offset, range.length())));
      done = at + range.length() - offset;
      run = {at + range.length(), 0};
    }
    at += range.length();
  }
  if (run.length > 0) CAIRN_RETURN_IF_ERROR(WriteRun(run, offset, data));
  done = data.size();
  return Status::Ok();
}

Status DiskVolume::WriteRun(const Run& run, uint64_t origin, std::span<const std::byte> data) {
  CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, extents_.HeadForReading(SegmentOf(run.offset)));
  const uint64_t begin = OffsetInSegment(run.offset);
  if (context_.store->reserve().scarce()) [[unlikely]] {
    // Blocks that the head holds may be holes in the file: those would take space, unless it was
    // reserved for them.
    CAIRN_ASSIGN_OR_RETURN(const uint64_t allocated, file->AllocatedIn(begin, run.length));
    if (allocated < run.length) {
      return Status(Code::kNoSpace, context_.store->dir() + ": the filesystem is full");
    }
  }
  Status status = file->WriteAt(begin, data.subspan(run.offset - origin, run.length));
  if (!status.ok()) EraseBehindEnd(*file, run.offset, run.offset + run.length);
  return status;
}

Status DiskVolume::WriteFirstTouch(ChunkLeaf& leaf, const ChunkRange& range,
                                   std::span<const std::byte> data) {
  MutexLock chunk_lock(ChunkLock(range.chunk));
  const BlockMask head = leaf.Head(range.chunk).load(std::memory_order_acquire);
  const bool nothing_beneath = head == 0 && leaf.Lower(range.chunk).empty();
  const BlockMask gained = nothing_beneath ? kAllBlocks : range.touched();
  CAIRN_RETURN_IF_ERROR(BeforeWrite(leaf, range, gained));
  if ((range.touched() & ~head) == 0) {
    return WriteRun({range.offset(), range.length()}, range.offset(), data);
  }
  if (context_.store->reserve().scarce()) [[unlikely]] {
    return Status(Code::kNoSpace, context_.store->dir() + ": the filesystem is full");
  }
  CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, extents_.HeadForWriting(SegmentOf(range.chunk)));
  const uint64_t chunk_offset = OffsetInSegment(ChunkStart(range.chunk));
  CAIRN_RETURN_IF_ERROR(file->EnsureSize(chunk_offset + kChunkSize));
  Status status;
  if (nothing_beneath) {
    // The whole chunk becomes the head's: what is not written now is a hole, and reads as the
    // zeros that were there before.
    CAIRN_RETURN_IF_ERROR(ClearLeftovers(*file, range.chunk, kAllBlocks));
    status = file->WriteAt(chunk_offset + range.begin, data);
  } else {
    status = WriteComposed(leaf, *file, range, head, data);
  }
  if (!status.ok()) {
    file->SetMayHoldLeftovers();
    EraseBehindEnd(*file, range.offset(), range.offset() + range.length());
    return status;
  }
  return RecordBlocks(leaf, range.chunk, head | gained);
}

// What a failed write left behind the end, where only zeros may be.
void DiskVolume::EraseBehindEnd(ExtentFile& file, uint64_t offset, uint64_t end) {
  const uint64_t from = std::max(offset, size());
  if (from >= end) return;
  const Status erased = file.PunchHole(OffsetInSegment(from), end - from);
  if (!erased.ok()) Poison(erased);
}

// Blocks that the head gains are written whole: their other bytes come from beneath.
Status DiskVolume::WriteComposed(ChunkLeaf& leaf, ExtentFile& file, const ChunkRange& range,
                                 BlockMask head, std::span<const std::byte> data) {
  ChunkRange whole = range;
  const bool fill_front = !(head & BlockRange(range.begin / kBlockSize, 1));
  const bool fill_back = !(head & BlockRange((range.end - 1) / kBlockSize, 1));
  if (fill_front) whole.begin = range.begin / kBlockSize * kBlockSize;
  if (fill_back) whole.end = RoundUpToBlock(range.end);
  const uint64_t file_offset = OffsetInSegment(whole.offset());
  if (whole.begin == range.begin && whole.end == range.end) {
    return file.WriteAt(file_offset, data);
  }
  std::vector<std::byte> composed(whole.length());
  if (whole.begin < range.begin) {
    const ChunkRange front{range.chunk, whole.begin, range.begin};
    CAIRN_RETURN_IF_ERROR(ReadMixed(leaf, front, head, std::span(composed).first(front.length())));
  }
  if (whole.end > range.end) {
    const ChunkRange back{range.chunk, range.end, whole.end};
    CAIRN_RETURN_IF_ERROR(ReadMixed(leaf, back, head, std::span(composed).last(back.length())));
  }
  std::memcpy(composed.data() + (range.begin - whole.begin), data.data(), data.size());
  return file.WriteAt(file_offset, composed);
}

Status DiskVolume::ClearLeftovers(ExtentFile& file, ChunkIndex chunk, BlockMask mask) {
  if (!file.may_hold_leftovers()) return Status::Ok();
  const uint64_t chunk_offset = OffsetInSegment(ChunkStart(chunk));
  for (BlockRun run = NextRun(mask, 0); run.count > 0; run = NextRun(mask, run.first + run.count)) {
    const uint64_t begin = chunk_offset + run.first * kBlockSize;
    const uint64_t end = begin + run.count * kBlockSize;
    CAIRN_ASSIGN_OR_RETURN(const uint64_t data, file.SeekData(begin, end));
    if (data < end) CAIRN_RETURN_IF_ERROR(file.PunchHole(data, end - data));
  }
  return Status::Ok();
}

Status DiskVolume::RecordBlocks(ChunkLeaf& leaf, ChunkIndex chunk, BlockMask head) {
  for (;;) {
    {
      MutexLock lock(pending_mu_);
      // Behind the entry that a poisoned volume leaves in the journal nothing may follow.
      if (refuses_writes_.load()) return Status(Code::kReadOnly, "the volume takes no writes");
      if (context_.journal->Append(JournalEntry::Blocks(head_.branch, head_.epoch, chunk, head))) {
        const BlockMask zeros = leaf.ZerosOf(chunk, head_.branch, head_.epoch) & ~head;
        pending_.Put(head_.epoch, chunk, {head, zeros});
        if (!changed_since_cut_.load(std::memory_order_relaxed)) changed_since_cut_.store(true);
        leaf.Head(chunk).store(head, std::memory_order_release);
        return Status::Ok();
      }
    }
    context_.make_room_in_journal();
  }
}

Status DiskVolume::ExtendTo(uint64_t end) {
  while (end > size_.load(std::memory_order_acquire)) {
    {
      MutexLock lock(pending_mu_);
      if (end <= size_.load(std::memory_order_relaxed)) return Status::Ok();
      if (refuses_writes_.load()) return Status(Code::kReadOnly, "the volume takes no writes");
      if (context_.journal->Append(JournalEntry::Size(inode_, end))) {
        size_.store(end, std::memory_order_release);
        size_dirty_ = true;
        changed_since_cut_.store(true);
        return Status::Ok();
      }
    }
    context_.make_room_in_journal();
  }
  return Status::Ok();
}

void DiskVolume::JournalSize(uint64_t size) {
  while (!context_.journal->Append(JournalEntry::Size(inode_, size))) {
    context_.make_room_in_journal();
  }
}

void DiskVolume::TouchTimes() {
  if (!changed_since_cut_.load(std::memory_order_relaxed)) changed_since_cut_.store(true);
  const int64_t now_ns = context_.clock->NowNs();
  mtime_ns_.store(now_ns, std::memory_order_relaxed);
  ctime_ns_.store(now_ns, std::memory_order_relaxed);
  if (times_dirty_.load(std::memory_order_relaxed)) return;
  if (!times_dirty_.exchange(true)) context_.mount_table->MarkTimes(inode_);
}

}  // namespace cairn
