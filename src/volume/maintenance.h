// Maintenance: what goes on behind the requests. Index changes go to LevelDB now and then and when
// the journal fills, idle volumes are unloaded, dead branches are reclaimed.
#ifndef CAIRN_SRC_VOLUME_MAINTENANCE_H_
#define CAIRN_SRC_VOLUME_MAINTENANCE_H_

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>

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
  void ReclaimSoon(BranchId branch);
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
  void ScheduleSealing(std::chrono::milliseconds delay);
  Status DestroyVolume(InodeId inode);
  Status ReclaimBranch(BranchId branch);
  Status FlushLocked() CAIRN_REQUIRES(flush_mu_);
  Status SyncPast();

  VolumeContext& context_;
  VolumeTable& table_;
  Executor& executor_;
  const Options options_;
  Sealer sealer_;
  const std::shared_ptr<Gatekeeper> gatekeeper_;

  // Held across the sync of the host filesystem: who waits for it needs to know its outcome.
  Mutex past_mu_;

  // Held across the syncs of a flush: whoever waits for it waits for room in the journal.
  Mutex flush_mu_;
  std::chrono::steady_clock::time_point last_flush_ CAIRN_GUARDED_BY(flush_mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_MAINTENANCE_H_
