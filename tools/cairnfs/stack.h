// The whole stack of a server, assembled in one place: Env, store, executor, filesystem,
// snapshots.
#ifndef CAIRN_TOOLS_CAIRNFS_STACK_H_
#define CAIRN_TOOLS_CAIRNFS_STACK_H_

#include <cstddef>
#include <memory>
#include <span>

#include "snapshot/snapshot_service.h"
#include "src/base/executor.h"
#include "src/base/result.h"
#include "src/env/env.h"
#include "src/volume/filesystem.h"
#include "tools/cairnfs/command_line.h"

namespace cairn {

// The supervisor's memory for the index journal, mapped.
class JournalMapping {
 public:
  // kIo, kInvalid (not the supervisor's memory). The descriptor may be closed afterwards.
  static Result<std::unique_ptr<JournalMapping>> Create(int memfd);
  ~JournalMapping();
  JournalMapping(const JournalMapping&) = delete;
  JournalMapping& operator=(const JournalMapping&) = delete;

  std::span<std::byte> region() const { return region_; }

 private:
  explicit JournalMapping(std::span<std::byte> region) : region_(region) {}
  const std::span<std::byte> region_;
};

class Stack {
 public:
  // Opens the store, laying out a new one where there is none. Errors are WarmStore::Open's and
  // Filesystem::Open's.
  static Result<std::unique_ptr<Stack>> Open(const ServeCommandLine& command);

  Filesystem& filesystem() { return *filesystem_; }
  SnapshotService& snapshots() { return *snapshots_; }
  // Makes all durable and lets go of the store. REQUIRES: nothing else is used after.
  Status Close() { return filesystem_->Close(); }

 private:
  Stack() = default;

  // In the order of need: each borrows what is above it.
  std::unique_ptr<Env> env_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<JournalMapping> journal_;
  std::unique_ptr<Filesystem> filesystem_;
  std::unique_ptr<SnapshotService> snapshots_;
};

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_STACK_H_
