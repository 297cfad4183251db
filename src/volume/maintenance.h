// Maintenance: what goes on behind the requests. Index changes go to LevelDB now and then and when
// the journal fills, idle volumes are unloaded, dead branches are reclaimed.
#ifndef CAIRN_SRC_VOLUME_MAINTENANCE_H_
#define CAIRN_SRC_VOLUME_MAINTENANCE_H_

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "src/base/executor.h"
#include "src/base/mutex.h"
#include "src/volume/sealer.h"
#include "src/volume/volume_context.h"
#include "src/volume/volume_table.h"

namespace cairn {

// Thread-safe.
class Maintenance {
 public:
  // Borrows all; `executor` may outlive it: tasks that are still queued then do nothing.
  struct Options {
    std::chrono::milliseconds flush_interval{5000};
    std::chrono::milliseconds seal_after{0};  // 0: never
    // Between two pieces of cleaning, and two passes over a branch that its volume goes on to leave
    // behind.
    std::chrono::milliseconds clean_pause{0};
    std::chrono::milliseconds clean_again{300'000};
  };
  Maintenance(VolumeContext& context, VolumeTable& table, Executor& executor,
              const Options& options);
  // Waits for the tasks that run.
  ~Maintenance();

  // Begins the periodic work, and the reclaiming that a crash interrupted.
  Status Start(bool takes_over);
  // No further background work begins, and none runs when it returns.
  void Stop();

  // Makes all pending index changes durable and empties the journal's sealed half. One runs at a
  // time. Volumes whose sync fails are poisoned; the first such failure is returned.
  Status FlushIndex();
  // FlushIndex unless another thread just made room.
  void MakeRoomInJournal();
  // Everything acknowledged becomes durable, on all volumes.
  Status SyncAll();

  // Destroys a claimed volume in the background: its records, then its space.
  void DestroySoon(InodeId inode);
  // A branch that the index marks as dead, or to be cleaned; the mark may be about to be committed.
  void ReclaimSoon(BranchId branch);
  // How many branches wait for that, or have it done now; a few may count twice.
  size_t reclaims_waiting();
  Sealer& sealer() { return sealer_; }

 private:
  // Shared with queued tasks, which may come to run when the Maintenance is gone.
  struct Gatekeeper;

  void Post(std::function<void()> task);
  // `task`, unless the work was stopped before it comes to run.
  static std::function<void()> Guarded(std::shared_ptr<Gatekeeper> gatekeeper,
                                       std::function<void()> task);
  void PostAfter(std::chrono::milliseconds delay, std::function<void()> task);
  void ScheduleTick();
  void Tick();
  void StartWriteback();
  void ScheduleSealing(std::chrono::milliseconds delay);
  Status DestroyVolume(InodeId inode);
  void PostReclaim(BranchId branch, std::chrono::milliseconds delay);
  // One from the queue, and on.
  void RunReclaims();
  void RunReclaim(BranchId branch);
  std::chrono::milliseconds NextTry(BranchId branch);
  // When to come back, if at all.
  Result<std::optional<std::chrono::milliseconds>> Reclaim(BranchId branch);
  Status ReclaimBranch(BranchId branch);
  Status FlushLocked() CAIRN_REQUIRES(flush_mu_);
  Status FlushHalf() CAIRN_REQUIRES(flush_mu_);
  Status SyncPast();

  VolumeContext& context_;
  VolumeTable& table_;
  Executor& executor_;
  const Options options_;
  Sealer sealer_;
  const std::shared_ptr<Gatekeeper> gatekeeper_;

  // Held across the sync of the host filesystem: who waits for it needs to know its outcome.
  Mutex past_mu_;

  Mutex waiting_mu_;
  std::set<BranchId> waiting_ CAIRN_GUARDED_BY(waiting_mu_);
  // The same in the order of asking. One pass at a time takes from it, so that others find the
  // executor's threads free.
  std::deque<BranchId> queue_ CAIRN_GUARDED_BY(waiting_mu_);
  bool reclaiming_ CAIRN_GUARDED_BY(waiting_mu_) = false;
  size_t at_work_ CAIRN_GUARDED_BY(waiting_mu_) = 0;
  // Those whose mark an earlier server left, and no pass has ended since.
  std::set<BranchId> unknown_ CAIRN_GUARDED_BY(waiting_mu_);

  // Held across the syncs of a flush: whoever waits for it waits for room in the journal.
  Mutex flush_mu_;
  std::chrono::steady_clock::time_point last_flush_ CAIRN_GUARDED_BY(flush_mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_MAINTENANCE_H_
