#include "src/volume/maintenance.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/log.h"
#include "src/volume/branch_cleaner.h"

namespace cairn {
namespace {

constexpr std::chrono::milliseconds kTickInterval{200};
// While a comparison, or a snapshot on its way, keeps a branch as it is.
constexpr std::chrono::milliseconds kPinnedInterval{2000};
constexpr int kFlushAtFillPercent = 50;
constexpr size_t kDeletesPerBatch = 4096;

}  // namespace

struct Maintenance::Gatekeeper {
  Mutex mu;
  CondVar idle;
  // The same as `stopped`, for a task that takes long.
  std::atomic<bool> stopping{false};
  bool stopped CAIRN_GUARDED_BY(mu) = false;
  int running CAIRN_GUARDED_BY(mu) = 0;
};

Maintenance::Maintenance(VolumeContext& context, VolumeTable& table, Executor& executor,
                         const Options& options)
    : context_(context),
      table_(table),
      executor_(executor),
      options_(options),
      sealer_(table, options.seal_after),
      gatekeeper_(std::make_shared<Gatekeeper>()),
      last_flush_(std::chrono::steady_clock::now()) {}

Maintenance::~Maintenance() { Stop(); }

void Maintenance::Stop() {
  Gatekeeper& gatekeeper = *gatekeeper_;
  gatekeeper.stopping.store(true);
  MutexLock lock(gatekeeper.mu);
  gatekeeper.stopped = true;
  while (gatekeeper.running > 0) gatekeeper.idle.Wait(gatekeeper.mu);
}

// Runs `task` on the executor unless the work was stopped before.
void Maintenance::Post(std::function<void()> task) {
  executor_.Post(Guarded(gatekeeper_, std::move(task)));
}

void Maintenance::PostAfter(std::chrono::milliseconds delay, std::function<void()> task) {
  executor_.PostAfter(delay, Guarded(gatekeeper_, std::move(task)));
}

std::function<void()> Maintenance::Guarded(std::shared_ptr<Gatekeeper> gatekeeper,
                                           std::function<void()> task) {
  return [gatekeeper = std::move(gatekeeper), task = std::move(task)] {
    {
      MutexLock lock(gatekeeper->mu);
      if (gatekeeper->stopped) return;
      ++gatekeeper->running;
    }
    task();
    MutexLock lock(gatekeeper->mu);
    --gatekeeper->running;
    gatekeeper->idle.NotifyAll();
  };
}

Status Maintenance::Start(bool takes_over) {
  if (context_.read_only) return Status::Ok();
  Post([this] {
    // Each volume syncs its own files then, and the store is not closed cleanly.
    const Status status = SyncPast();
    if (!status.ok()) LogError("{}", status.ToString());
  });
  Index& index = context_.store->index();
  std::vector<BranchId> dead;
  CAIRN_RETURN_IF_ERROR(index.ForEachDeadBranch([&](BranchId branch) {
    dead.push_back(branch);
    return true;
  }));
  std::vector<BranchId> marked;
  CAIRN_RETURN_IF_ERROR(index.ForEachClean([&](BranchId branch) {
    marked.push_back(branch);
    return true;
  }));
  {
    MutexLock lock(waiting_mu_);
    unknown_.insert(marked.begin(), marked.end());
  }
  for (const BranchId branch : dead) ReclaimSoon(branch);
  for (const BranchId branch : marked) ReclaimSoon(branch);
  std::vector<InodeId> orphans;
  CAIRN_RETURN_IF_ERROR(index.ForEachOrphan([&](InodeId inode) {
    orphans.push_back(inode);
    return true;
  }));
  for (const InodeId inode : orphans) {
    if (!takes_over) {
      DestroySoon(inode);
    } else if (table_.HasNoHandles(inode)) {
      // Programs may still find it by a name that the kernel remembers, until it is claimed.
      Post([this, inode] {
        if (table_.ClaimOrphan(inode)) DestroySoon(inode);
      });
    }
  }
  ScheduleTick();
  if (sealer_.enabled()) ScheduleSealing(Sealer::kInterval);
  return Status::Ok();
}

void Maintenance::ScheduleTick() {
  PostAfter(kTickInterval, [this] { Tick(); });
}

// Apart from the ticks, which must not wait for it.
void Maintenance::ScheduleSealing(std::chrono::milliseconds delay) {
  PostAfter(delay, [this] {
    ScheduleSealing(sealer_.Round([this] { return gatekeeper_->stopping.load(); }));
  });
}

// While nobody is in a hurry: while the journal has room, and nobody waits for the end.
void Maintenance::StartWriteback() {
  for (const auto& volume : table_.All()) {
    if (context_.journal->FillPercent() >= kFlushAtFillPercent) return;
    if (gatekeeper_->stopping.load()) return;
    if (volume->HasPendingIndex()) volume->StartWriteback();
  }
}

void Maintenance::Tick() {
  const bool scarce = context_.store->reserve().scarce();
  bool due = context_.journal->FillPercent() >= kFlushAtFillPercent;
  {
    MutexLock lock(flush_mu_);
    due |= std::chrono::steady_clock::now() - last_flush_ >= options_.flush_interval;
  }
  if (due) {
    StartWriteback();
    // A failure was logged when it poisoned its volume.
    (void)FlushIndex();
    // Overwrites go on; they must not use up what removals need.
    if (!scarce) {
      for (const auto& volume : table_.All()) (void)volume->SyncTimes();
    }
    table_.UnloadIdle();
  }
  ScheduleTick();
}

Status Maintenance::FlushIndex() {
  MutexLock lock(flush_mu_);
  return FlushLocked();
}

void Maintenance::MakeRoomInJournal() {
  MutexLock lock(flush_mu_);
  if (context_.journal->FillPercent() < 100) return;
  (void)FlushLocked();
}

Status Maintenance::FlushLocked() {
  last_flush_ = std::chrono::steady_clock::now();
  // Of a flush that ended by an exception.
  const bool left_over = context_.journal->has_sealed();
  Status status = FlushHalf();
  if (!left_over) return status;
  const Status second = FlushHalf();
  return status.ok() ? second : status;
}

Status Maintenance::FlushHalf() {
  // What is appended from here on goes to the other half. A change in the sealed half is in its
  // volume's pending set, or on its way there under the lock that HasPendingIndex takes.
  const bool sealed = context_.journal->Seal();
  Status first_failure;
  for (const auto& volume : table_.All()) {
    if (!volume->HasPendingIndex()) continue;
    const Status status = volume->Sync();
    if (!status.ok() && first_failure.ok()) first_failure = status;
  }
  if (sealed) context_.journal->Release();
  for (const auto& volume : table_.All()) volume->SettleForget();
  return first_failure;
}

// The kernel tells of a failure once: what comes after must not take the next success for an
// answer, nor may a later server.
Status Maintenance::SyncPast() {
  MutexLock lock(past_mu_);
  if (context_.mount_table->IsPastLost()) {
    return Status(Code::kIo, "a sync of what earlier servers of this mount wrote failed");
  }
  Status status = context_.store->SyncPast();
  if (status.ok()) return status;
  context_.mount_table->MarkPastLost();
  return std::move(status).WithPrefix("syncing what earlier servers wrote");
}

Status Maintenance::SyncAll() {
  Status first_failure = SyncPast();
  const Status flushed = FlushIndex();
  if (first_failure.ok()) first_failure = flushed;
  for (const auto& volume : table_.All()) {
    Status status = volume->Health();
    if (status.code() == Code::kStale) continue;  // removed meanwhile
    if (status.ok() && volume->NeedsSync()) status = volume->Sync();
    if (status.ok()) status = volume->SyncTimes();
    if (!status.ok() && first_failure.ok()) first_failure = status;
  }
  return first_failure;
}

void Maintenance::DestroySoon(InodeId inode) {
  Post([this, inode] {
    const Status status = DestroyVolume(inode);
    // The orphan record stays, and the next mount tries again.
    if (!status.ok()) LogError("removing volume {}: {}", inode.value(), status.ToString());
  });
}

void Maintenance::ReclaimSoon(BranchId branch) {
  PostReclaim(branch, std::chrono::milliseconds(0));
}

size_t Maintenance::reclaims_waiting() {
  MutexLock lock(waiting_mu_);
  return waiting_.size() + at_work_;
}

void Maintenance::PostReclaim(BranchId branch, std::chrono::milliseconds delay) {
  if (delay.count() > 0) {
    // One that was not done counts as waiting; not one that waits for what its volume overwrites.
    const size_t counted = delay <= kPinnedInterval ? 1 : 0;
    {
      MutexLock lock(waiting_mu_);
      at_work_ += counted;
    }
    return PostAfter(delay, [this, branch, counted] {
      ReclaimSoon(branch);
      MutexLock lock(waiting_mu_);
      at_work_ -= counted;
    });
  }
  {
    // Many requests, one pass.
    MutexLock lock(waiting_mu_);
    if (!waiting_.insert(branch).second) return;
    queue_.push_back(branch);
    if (std::exchange(reclaiming_, true)) return;
  }
  Post([this] { RunReclaims(); });
}

void Maintenance::RunReclaims() {
  BranchId branch;
  {
    // Who asks from here on wants another pass.
    MutexLock lock(waiting_mu_);
    branch = queue_.front();
    queue_.pop_front();
    waiting_.erase(branch);
    ++at_work_;
  }
  RunReclaim(branch);
  {
    MutexLock lock(waiting_mu_);
    --at_work_;
    reclaiming_ = !queue_.empty();
    if (!reclaiming_) return;
  }
  // Behind what others have asked the executor for meanwhile.
  Post([this] { RunReclaims(); });
}

void Maintenance::RunReclaim(BranchId branch) {
  const auto again = Reclaim(branch);
  if (!again.ok()) {
    LogError("reclaiming branch {}: {}", branch.value(), again.status().ToString());
  } else if (*again && !gatekeeper_->stopping.load()) {
    PostReclaim(branch, **again);
  }
}

std::chrono::milliseconds Maintenance::NextTry(BranchId branch) {
  return context_.views->IsPinned(branch) ? kPinnedInterval : kTickInterval;
}

Result<std::optional<std::chrono::milliseconds>> Maintenance::Reclaim(BranchId branch) {
  using Again = std::optional<std::chrono::milliseconds>;
  Index& index = context_.store->index();
  CAIRN_ASSIGN_OR_RETURN(const bool dead, index.HasDeadBranch(branch));
  if (dead) {
    bool viewed = false;
    CAIRN_RETURN_IF_ERROR(index.ForEachView(branch, [&](const View&) {
      viewed = true;
      return false;
    }));
    if (viewed) return Status(Code::kCorrupt, "it is marked as dead, and somebody needs it");
    CAIRN_RETURN_IF_ERROR(ReclaimBranch(branch));
    return Again();
  }
  CAIRN_ASSIGN_OR_RETURN(const bool marked, index.HasClean(branch));
  if (!marked) return Again();
  BranchCleaner::Options options;
  options.pause = options_.clean_pause;
  options.stop = [this] { return gatekeeper_->stopping.load(); };
  {
    MutexLock lock(waiting_mu_);
    options.thorough = unknown_.contains(branch);
  }
  auto found = context_.views->Find(index, branch);
  if (found.status().code() == Code::kNotFound) {
    // A mark that came too late, for a branch that is gone.
    IndexBatch batch;
    batch.DeleteClean(branch);
    CAIRN_RETURN_IF_ERROR(index.Commit(batch));
    return Again();
  }
  CAIRN_ASSIGN_OR_RETURN(const BranchViews::Needs needs, std::move(found));
  // The journal must not bring back what is about to go: after this it speaks of no epoch that had
  // ended before. A failure was logged when it poisoned its volume.
  (void)FlushIndex();
  auto outcome = BranchCleaner(context_, table_, options).Run(branch, needs);
  if (!outcome.ok()) {
    // Where the pass stopped is not known any more.
    MutexLock lock(waiting_mu_);
    unknown_.insert(branch);
    return std::move(outcome).status();
  }
  switch (*outcome) {
    case BranchCleaner::Outcome::kNoViews: {
      CAIRN_ASSIGN_OR_RETURN(const bool declared, context_.views->DeclareDead(index, branch));
      if (!declared) return Again(NextTry(branch));
      CAIRN_RETURN_IF_ERROR(ReclaimBranch(branch));
      return Again();
    }
    case BranchCleaner::Outcome::kChanged:
      return Again(NextTry(branch));
    case BranchCleaner::Outcome::kUnsettled:
      break;
    case BranchCleaner::Outcome::kClean: {
      MutexLock lock(waiting_mu_);
      unknown_.erase(branch);
      return Again();
    }
  }
  MutexLock lock(waiting_mu_);
  unknown_.erase(branch);
  return Again(options_.clean_again);
}

Status Maintenance::DestroyVolume(InodeId inode) {
  Index& index = context_.store->index();
  if (const auto volume = table_.FindLoaded(inode)) volume->Retire();
  IndexBatch batch;
  batch.DeleteOrphan(inode);
  auto record = index.GetInode(inode);
  if (!record.ok() && record.status().code() != Code::kNotFound) return std::move(record).status();
  if (record.ok()) {
    batch.DeleteInode(inode);
    CAIRN_RETURN_IF_ERROR(index.ForEachXattr(inode, [&](std::string_view name, std::string_view) {
      batch.DeleteXattr(inode, name);
      return true;
    }));
  }
  CAIRN_RETURN_IF_ERROR(record.ok() ? context_.views->Abandon(index, record->branch, batch,
                                                              [&] { return index.Commit(batch); })
                                    : index.Commit(batch));
  table_.Drop(inode);
  context_.mount_table->ClearTimes(inode);
  if (record.ok()) ReclaimSoon(record->branch);
  return Status::Ok();
}

// The branch is dead in the index, durably: nothing refers to its files any more. They go first,
// the branch's records last, so that a crash in between is taken up again from the records.
Status Maintenance::ReclaimBranch(BranchId branch) {
  WarmStore& store = *context_.store;
  CAIRN_RETURN_IF_ERROR(store.extents().RemoveBranch(branch));
  Index& index = store.index();
  for (const KeyKind kind :
       {KeyKind::kVersion, KeyKind::kExtent, KeyKind::kRegion, KeyKind::kSums}) {
    for (;;) {
      IndexBatch batch;
      CAIRN_RETURN_IF_ERROR(
          index.ForEachRaw(kind, branch.value(), [&](std::string_view key, std::string_view) {
            batch.DeleteRaw(std::string(key));
            return batch.count() < kDeletesPerBatch;
          }));
      const bool last = batch.count() < kDeletesPerBatch;
      CAIRN_RETURN_IF_ERROR(index.Commit(batch));
      if (last) break;
      if (gatekeeper_->stopping.load()) return Status::Ok();  // the next mount goes on
      std::this_thread::sleep_for(options_.clean_pause);
    }
  }
  IndexBatch batch;
  batch.DeleteBranch(branch);
  batch.DeleteDeadBranch(branch);
  batch.DeleteClean(branch);
  auto record = index.GetBranch(branch);
  if (!record.ok() && record.status().code() != Code::kNotFound) return std::move(record).status();
  const bool has_parent = record.ok() && record->parent != BranchId(0);
  if (!has_parent) return index.Commit(batch);
  // The parent was kept for this one, too.
  batch.DeleteView({record->parent, record->parent_epoch, branch.value(), ViewKind::kClone});
  batch.PutClean(record->parent);
  CAIRN_RETURN_IF_ERROR(context_.views->Change([&] { return index.Commit(batch); }));
  ReclaimSoon(record->parent);
  return Status::Ok();
}

}  // namespace cairn
