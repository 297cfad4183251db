// How DiskVolume makes things durable, and what happens when that fails.
#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "src/base/blocking.h"
#include "src/base/give_way.h"
#include "src/base/log.h"
#include "src/volume/disk_volume.h"

namespace cairn {
namespace {

// Into the index by one batch, whose changes LevelDB makes one by one: 0.3 us each where nothing
// else runs. Where there are many, whoever waits for the sync is the worse off with as many waits
// for the device.
constexpr size_t kChangesAtOnce = 256;
constexpr size_t kMostParts = 16;

size_t PartSize(const PendingIndex::Epochs& epochs) {
  size_t changes = 0;
  for (const auto& [epoch, chunks] : epochs) changes += chunks.size();
  return std::max(kChangesAtOnce, changes / kMostParts);
}

}  // namespace

DiskVolume::SyncSlot::SyncSlot(DiskVolume& volume) : volume_(volume) {
  MutexLock lock(volume_.sync_mu_);
  while (volume_.sync_running_) volume_.sync_done_.Wait(volume_.sync_mu_);
  volume_.sync_running_ = true;
}

DiskVolume::SyncSlot::~SyncSlot() {
  MutexLock lock(volume_.sync_mu_);
  volume_.sync_running_ = false;
  volume_.sync_done_.NotifyAll();
}

void DiskVolume::StartWriteback() {
  if (read_only_ || retired_.load() || !Health().ok()) return;
  // At once: a later server would find the pages clean that the failure has dropped.
  const Status status = extents_.StartWriteback();
  if (!status.ok()) Poison(status);
}

Status DiskVolume::Sync() {
  if (read_only_ || retired_.load()) return Status::Ok();
  AboutToBlock();  // also who only waits for another's sync
  uint64_t wanted = 0;
  {
    MutexLock lock(sync_mu_);
    // A sync that already runs may have started before our data was written: the next one counts.
    wanted = syncs_started_ + 1;
    while (syncs_done_ < wanted && sync_running_) sync_done_.Wait(sync_mu_);
    if (syncs_done_ >= wanted) return Health();
  }
  const SyncSlot slot(*this);
  {
    MutexLock lock(sync_mu_);
    if (syncs_done_ >= wanted) return Health();
    ++syncs_started_;
  }
  Status status = SyncHoldingSlot();
  MutexLock lock(sync_mu_);
  syncs_done_ = syncs_started_;
  return status;
}

Status DiskVolume::SyncHoldingSlot() {
  if (retired_.load()) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(Health());
  Status status = SyncAndCommit();
  if (!status.ok()) Poison(status);
  return status;
}

Status DiskVolume::SyncAndCommit() {
  const PendingIndex::Epochs* epochs = nullptr;
  bool with_record = false;
  Lineage::Level head;
  {
    MutexLock lock(pending_mu_);
    // With the changes, not later: what a cut in between leaves behind is for the next sync.
    head = head_;
    epochs = &pending_.Start();
    // With what a sync that ended by an exception has left.
    with_record = std::exchange(size_dirty_, false) || size_syncing_;
    size_syncing_ = with_record;
  }
  // The bytes first. What was written after pending_ was taken may be synced as well; that harms
  // nothing.
  IndexBatch batch;
  CAIRN_ASSIGN_OR_RETURN(const ExtentSet::Synced synced, extents_.Sync(head.epoch, batch));
  CAIRN_RETURN_IF_ERROR(CommitPending(head, *epochs, with_record, batch));
  extents_.NoteRecorded(synced);
  PendingIndex::Epochs written;  // freed without the lock, for which writers wait
  MutexLock lock(pending_mu_);
  written = pending_.Finish();
  size_syncing_ = false;
  return Status::Ok();
}

// All epochs together, and the branch's record with the newest: an epoch that the record calls past
// has all its versions in the index, and one that it does not know has no records at all. While it
// calls the head's epoch the current one, a part may become durable before the rest, as what is
// written without a sync may; so no batch of those takes long.
Status DiskVolume::CommitPending(const Lineage::Level& head, const PendingIndex::Epochs& epochs,
                                 bool with_record, IndexBatch& batch) {
  const bool in_parts = head.epoch == branch_record_.epoch;
  const size_t part_size = PartSize(epochs);
  for (const auto& [epoch, chunks] : epochs) {
    for (const auto& [chunk, state] : chunks) {
      if (in_parts && batch.count() >= part_size) {
        CAIRN_RETURN_IF_ERROR(context_.store->index().Commit(batch));
        GiveWay();
        batch.Clear();
      }
      VersionRecord version;
      version.extent = state.extent;
      version.zero = state.zero;
      batch.PutVersion(head.branch, chunk, epoch, version);
    }
  }
  BranchRecord branch = branch_record_;
  branch.epoch = head.epoch;
  if (branch.epoch != branch_record_.epoch) batch.PutBranch(head.branch, branch);
  CAIRN_RETURN_IF_ERROR(with_record ? CommitRecord(batch, [](InodeRecord&) {})
                                    : context_.store->index().Commit(batch));
  branch_record_ = branch;
  return Status::Ok();
}

bool DiskVolume::HasPendingIndex() {
  if (read_only_ || retired_.load() || !Health().ok()) return false;
  MutexLock lock(pending_mu_);
  return !pending_.empty() || size_dirty_ || size_syncing_;
}

bool DiskVolume::NeedsSync() {
  if (HasPendingIndex()) return true;
  if (read_only_ || retired_.load() || !Health().ok()) return false;
  return extents_.dirty();
}

Status DiskVolume::Health() {
  if (!refuses_writes_.load(std::memory_order_acquire)) [[likely]] {
    return Status::Ok();
  }
  if (retired_.load()) return Status(Code::kStale, "the volume is gone");
  MutexLock lock(health_mu_);
  return health_;
}

void DiskVolume::Poison(const Status& why) {
  std::string reason;
  {
    MutexLock lock(health_mu_);
    if (!health_.ok()) return;
    // Who comes second, or asks for the health, must not get on before writes are refused; nor may
    // anybody be told of the failure before those know who come later: a server that replaces this
    // one must not believe in data that may be lost, nor answer a sync with success.
    context_.mount_table->MarkPoisoned(inode_);
    health_ = Status(Code::kReadOnly,
                     fmt::format("volume {} takes no writes until the next mount, because a sync "
                                 "or a change failed ({})",
                                 inode_.value(), why.ToString()));
    refuses_writes_.store(true, std::memory_order_release);
    reason = health_.context();
  }
  {
    MutexLock lock(pending_mu_);
    forget_owed_ = true;
  }
  SettleForget();
  LogError("{}", reason);
}

void DiskVolume::SettleForget() {
  MutexLock lock(pending_mu_);
  if (!forget_owed_) return;
  forget_owed_ = !context_.journal->Append(JournalEntry::Forget(inode_, head_.branch));
}

}  // namespace cairn
