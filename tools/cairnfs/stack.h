// The whole stack of a server, assembled in one place: Env, store, executor, filesystem,
// snapshots.
#ifndef CAIRN_TOOLS_CAIRNFS_STACK_H_
#define CAIRN_TOOLS_CAIRNFS_STACK_H_

#include <functional>
#include <memory>

#include "snapshot/snapshot_service.h"
#include "src/base/executor.h"
#include "src/base/result.h"
#include "src/env/env.h"
#include "src/volume/filesystem.h"
#include "tools/cairnfs/command_line.h"
#include "tools/cairnfs/shared_memory.h"

namespace cairn {

class Stack {
 public:
  // Opens the store, laying out a new one where there is none. Errors are WarmStore::Open's and
  // Filesystem::Open's. For `on_ours` see WarmStoreOptions.
  static Result<std::unique_ptr<Stack>> Open(const ServeCommandLine& command,
                                             const std::function<void()>& on_ours);

  Filesystem& filesystem() { return *filesystem_; }
  // A copy of it keeps others out of the store.
  int lock_fd() const { return lock_fd_; }
  SnapshotService& snapshots() { return *snapshots_; }
  // Makes all durable and lets go of the store. REQUIRES: nothing else is used after.
  Status Close(bool mount_goes_on) { return filesystem_->Close(mount_goes_on); }

 private:
  Stack() = default;

  int lock_fd_ = -1;

  // In the order of need: each borrows what is above it.
  std::unique_ptr<Env> env_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<SharedMemory> memory_;
  std::unique_ptr<Filesystem> filesystem_;
  std::unique_ptr<SnapshotService> snapshots_;
};

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_STACK_H_
