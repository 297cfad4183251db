#include "src/volume/disk_volume.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/log.h"

namespace cairn {

DiskVolume::DiskVolume(VolumeContext& context, InodeId inode)
    : context_(context),
      inode_(inode),
      map_(
          *context.budget,
          [this](uint64_t number, ChunkLeaf& leaf) { return LoadLeaf(number, leaf); },
          [this](uint64_t number, ChunkLeaf& old, ChunkLeaf& leaf) {
            return DeriveLeaf(number, old, leaf);
          }),
      extents_(context.store->extents()),
      seals_(context.store->index(), *context.seals) {}

DiskVolume::~DiskVolume() = default;

Result<std::shared_ptr<DiskVolume>> DiskVolume::Load(VolumeContext& context, InodeId inode) {
  std::shared_ptr<DiskVolume> volume(new DiskVolume(context, inode));
  CAIRN_RETURN_IF_ERROR(volume->LoadState());
  return volume;
}

Status DiskVolume::LoadState() {
  Index& index = context_.store->index();
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index.GetInode(inode_));
  if (record.kind == FileKind::kDirectory) {
    return Status(Code::kIsDirectory, fmt::format("inode {}", inode_.value()));
  }
  read_only_ = context_.read_only;
  if (record.kind == FileKind::kSnapshot) return LoadSnapshot(record);
  auto lineage = Lineage::Load(index, record.branch);
  if (!lineage.ok()) {
    return std::move(lineage).status().WithPrefix(fmt::format("volume {}", inode_.value()));
  }
  lineage_ = std::move(*lineage);
  record_ = record;
  head_ = lineage_.head();
  size_.store(record.size);
  mtime_ns_.store(record.mtime_ns);
  ctime_ns_.store(record.ctime_ns);
  CAIRN_RETURN_IF_ERROR(extents_.Reset(index, lineage_));
  CAIRN_ASSIGN_OR_RETURN(BranchRecord branch, index.GetBranch(record.branch));
  branch_record_ = branch;
  if (read_only_) return Status::Ok();
  if (context_.mount_table->IsPoisoned(inode_)) {
    Poison(Status(Code::kIo, "under an earlier server of this mount"));
    return Status::Ok();
  }
  if (branch.trimmed_crash >= context_.store->crash_count()) return Status::Ok();
  // While programs wait for a server that took over, making it durable would be to write all out
  // that the last one left. So it is done again when the volume is next loaded.
  const bool durably = !context_.store->extents().has_unsynced_past();
  CAIRN_RETURN_IF_ERROR(TrimBehindEnd(durably));
  if (!durably) return Status::Ok();
  branch.trimmed_crash = context_.store->crash_count();
  IndexBatch batch;
  batch.PutBranch(record.branch, branch);
  // A cut may have ended an epoch for nothing.
  const bool marked = branch.epoch > Epoch(1);
  if (marked) batch.PutClean(record.branch);
  CAIRN_RETURN_IF_ERROR(index.Commit(batch));
  if (marked) context_.reclaim_soon(record.branch);
  branch_record_ = branch;
  return Status::Ok();
}

Status DiskVolume::LoadSnapshot(const InodeRecord& record) {
  is_snapshot_ = true;
  read_only_ = true;
  Index& index = context_.store->index();
  auto lineage = Lineage::LoadSnapshot(index, record.branch, record.epoch);
  if (!lineage.ok()) {
    return std::move(lineage).status().WithPrefix(fmt::format("snapshot {}", inode_.value()));
  }
  lineage_ = std::move(*lineage);
  record_ = record;
  head_ = lineage_.head();
  size_.store(record.size);
  mtime_ns_.store(record.mtime_ns);
  ctime_ns_.store(record.ctime_ns);
  return extents_.Reset(index, lineage_);
}

// A write behind the end that was not fsynced may have left bytes and records there whose size
// never became durable. They must not show when the volume grows later.
Status DiskVolume::TrimBehindEnd(bool durably) {
  const uint64_t size = size_.load();
  CAIRN_RETURN_IF_ERROR(UnsealFrom(ChunkIndex(ChunkCount(size))));
  IndexBatch batch;
  CAIRN_RETURN_IF_ERROR(DeleteVersionsFrom(ChunkIndex(ChunkCount(size)), batch));
  CAIRN_RETURN_IF_ERROR(context_.store->index().Commit(batch));
  // To the end of each file: a truncation that was cut short has not freed its space yet.
  for (uint64_t number = SegmentOf(size).value(); number < ExtentSet::kSegments; ++number) {
    CAIRN_ASSIGN_OR_RETURN(ExtentFile* const file, extents_.HeadIfAny(SegmentIndex(number)));
    if (file == nullptr) continue;
    const uint64_t begin = number == SegmentOf(size).value() ? OffsetInSegment(size) : 0;
    if (begin >= file->size()) continue;
    CAIRN_RETURN_IF_ERROR(file->PunchHole(begin, file->size() - begin));
    if (durably) CAIRN_RETURN_IF_ERROR(file->Sync());
  }
  return Status::Ok();
}

Status DiskVolume::LoadLeaf(uint64_t number, ChunkLeaf& leaf) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  // What is pending is looked at before the index: a change that becomes durable in between is
  // found in both places, never in none. Nobody adds to these chunks before the leaf is there.
  const ChunkIndex first(number * ChunkLeaf::kChunks);
  const ChunkIndex last(first.value() + ChunkLeaf::kChunks - 1);
  const Lineage::Level head = lineage_.head();
  Lineage::Overlay older;
  std::vector<std::pair<ChunkIndex, PendingIndex::Chunk>> pending;
  {
    MutexLock lock(pending_mu_);
    pending_.ForEach(first, last,
                     [&](Epoch epoch, ChunkIndex chunk, const PendingIndex::Chunk& state) {
                       if (epoch == head.epoch) {
                         pending.emplace_back(chunk, state);
                       } else {
                         older[epoch][chunk] = {state.extent, state.zero, {}};
                       }
                     });
  }
  // What covers a chunk in the head hides what lies beneath from the loader, too.
  for (const auto& [chunk, state] : pending) {
    if (!older.empty()) older[head.epoch][chunk] = {state.extent, state.zero, {}};
  }
  CAIRN_RETURN_IF_ERROR(lineage_.LoadLeaf(context_.store->index(), number, older, leaf));
  CAIRN_ASSIGN_OR_RETURN(auto seal, seals_.Get({head.branch, head.epoch, number}));
  leaf.SetSeal(std::move(seal));
  for (const auto& [chunk, state] : pending) {
    leaf.Head(chunk).store(state.extent, std::memory_order_relaxed);
  }
  return Status::Ok();
}

Status DiskVolume::DeriveLeaf(uint64_t number, ChunkLeaf& old,
                              ChunkLeaf& leaf) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  const Lineage::Level head = lineage_.head();
  leaf.DeriveFrom(old, old.seal().id.branch, old.seal().id.epoch);
  CAIRN_ASSIGN_OR_RETURN(auto seal, seals_.Get({head.branch, head.epoch, number}));
  leaf.SetSeal(std::move(seal));
  return Status::Ok();
}

DiskVolume::ChunkRange DiskVolume::RangeAt(uint64_t offset, uint64_t end) {
  const ChunkIndex chunk = ChunkOf(offset);
  const uint64_t start = ChunkStart(chunk);
  return {chunk, offset - start, std::min(end - start, kChunkSize)};
}

InodeRecord DiskVolume::RecordLocked() {
  InodeRecord record = record_;
  record.size = size_.load(std::memory_order_acquire);
  record.mtime_ns = mtime_ns_.load(std::memory_order_relaxed);
  record.ctime_ns = ctime_ns_.load(std::memory_order_relaxed);
  return record;
}

InodeRecord DiskVolume::Record() {
  MutexLock lock(record_mu_);
  return RecordLocked();
}

Status DiskVolume::CommitRecord(IndexBatch& batch,
                                const std::function<void(InodeRecord&)>& change) {
  return CommitRecordBy(batch, change, [&] { return context_.store->index().Commit(batch); });
}

Status DiskVolume::CommitChange(IndexBatch& batch, const RecordChange& change,
                                const std::function<Status()>& commit) {
  MutexLock commit_lock(commit_mu_);
  if (retired_.load()) return Status(Code::kStale, "the volume is gone");
  // Before the times are read: a write that comes later makes them dirty again.
  const bool times_were_dirty = times_dirty_.exchange(false);
  const InodeRecord before = Record();
  InodeRecord record = before;
  change.apply(record);
  batch.PutInode(inode_, record);
  Status committed = commit();
  if (!committed.ok()) {
    if (times_were_dirty) times_dirty_.store(true);
    return committed;
  }
  // From here on memory must follow the index. Where there is none for that, the process ends, and
  // the next server reads the index.
  [&]() noexcept {
    if (times_were_dirty) context_.mount_table->ClearTimes(inode_);
    if (times_dirty_.load()) context_.mount_table->MarkTimes(inode_);
    MutexLock lock(record_mu_);
    record_ = record;
    // With the branch: a commit that waited for this one must not put the old size beside the new
    // branch.
    if (change.sets_size) size_.store(record.size, std::memory_order_release);
    // Writes that went on meanwhile have moved the times; only what was asked for is set.
    int64_t expected = before.mtime_ns;
    if (record.mtime_ns != expected) {
      mtime_ns_.compare_exchange_strong(expected, record.mtime_ns, std::memory_order_relaxed);
    }
    expected = before.ctime_ns;
    if (record.ctime_ns != expected) {
      ctime_ns_.compare_exchange_strong(expected, record.ctime_ns, std::memory_order_relaxed);
    }
  }();
  return Status::Ok();
}

Status DiskVolume::SyncTimes() {
  if (read_only_ || retired_.load() || !Health().ok()) return Status::Ok();
  if (!times_dirty_.load()) return Status::Ok();
  IndexBatch batch;
  return CommitRecord(batch, [](InodeRecord&) {});
}

void DiskVolume::Retire() {
  {
    GateClosure closure(gate_);
    // A sync or a commit that still runs would bring records back that are deleted next.
    SyncSlot slot(*this);
    MutexLock commit_lock(commit_mu_);
    retired_.store(true);
    refuses_writes_.store(true);
    seals_.ForgetAll();
  }
  // Nor may a snapshot that has this one among its members make files for it.
  DropPrepared();
}

}  // namespace cairn
