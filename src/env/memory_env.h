// MemoryEnv: a filesystem in memory that fails, fills up and loses power when a test wants it to.
//
// What is durable: the contents and size of a file as of its last Sync, by pages of 4096 bytes;
// names as of the last SyncDir of their directory. A power cut keeps of each file that was
// written since any subset of the pages and either size, and of the names any set of operations
// that a journal could show (memory_names.h). Handles and locks from before the cut are dead:
// every call returns kIo.
//
// Paths count from the root "/", which exists and is durable; symbolic links there are none.
// Pages of Allocate count as data, unlike on ext4. Thread-safe. Must outlive its files and locks.
#ifndef CAIRN_SRC_ENV_MEMORY_ENV_H_
#define CAIRN_SRC_ENV_MEMORY_ENV_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/thread_annotations.h"
#include "src/env/env.h"
#include "src/env/fault_plan.h"
#include "src/env/memory_names.h"

namespace cairn {

class MemoryEnv final : public Env {
 public:
  static constexpr uint64_t kDefaultCapacity = uint64_t{1} << 40;

  using Hook = std::function<void(Op op, const std::string& path)>;

  MemoryEnv() = default;

  Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override;
  Status Remove(const std::string& path) override;
  Status RemoveDir(const std::string& path) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status CreateDir(const std::string& path) override;
  Status SyncDir(const std::string& path) override;
  // Counts as a SyncDir.
  Status SyncFilesystem(const std::string& path) override;
  Result<std::vector<std::string>> List(const std::string& path) override;
  Result<FileInfo> Info(const std::string& path) override;
  Result<SpaceInfo> Space(const std::string& path) override;
  Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override;

  // Faults. They stay across a power cut until ClearFaults.
  void AddFault(Fault fault);
  void ClearFaults();
  uint64_t fired_fault_count() const;
  // Operations so far, for sweeps: of these kinds, sync points (File::Sync, SyncDir), and
  // operations that change the current or the durable state (sync points are among them).
  uint64_t operation_count(OpSet ops = OpSet::Any()) const;
  uint64_t sync_count() const { return operation_count({Op::kSync, Op::kSyncDir}); }
  uint64_t mutation_count() const;
  // Called before each operation, outside the mutex: it may block, or use this Env. Null: none.
  void SetHook(Hook hook);
  // How many bytes of pages the files may hold. Below what they hold now, nothing grows.
  void SetCapacity(uint64_t bytes);

  // The power goes off at the n-th sync point / mutating operation from now (1 is the next; 0
  // calls it off); that operation and all after it return kIo until Restart. Whether it took
  // effect says `side`.
  void CutAtSync(uint64_t n, CutSide side);
  void CutAtOperation(uint64_t n, CutSide side);
  bool power_on() const;
  // Decides by `seed` what the disk kept, kills handles and locks, and has the power on again.
  // Equal histories and seeds give equal disks.
  void Restart(uint64_t seed);
  // The power goes off and on again now.
  void PowerCut(uint64_t seed) { Restart(seed); }
  // Kills handles and locks and nothing else, as when the process dies; after a cut, as if only the
  // process had ended there: the disk keeps all that it was given.
  void KillProcess();
  // What has_device of all files says; true at first.
  void SetFilesHaveDevice(bool they_have) { files_have_device_ = they_have; }
  // Off at first. On: within a page, each 512-byte sector survives a power cut or does not.
  void SetSectorTearing(bool on);

  // Damage done behind everyone's back: the current and the durable state both change, nothing
  // is counted, no fault applies. FlipByte inverts a byte; kInvalid behind the end of the file.
  Status FlipByte(const std::string& path, uint64_t offset);
  Status TruncateBehindBack(const std::string& path, uint64_t size);
  Status RemoveBehindBack(const std::string& path);

  // What is certain to survive a power cut now. kNotFound: the name is not. No faults, no counts.
  Result<std::string> DurableBytes(const std::string& path) const;
  // All files that there are, with full paths, sorted by directory. No faults, no counts.
  std::vector<std::string> AllFiles() const;

 private:
  friend class MemoryFile;
  class MemoryLock;

  // Runs the hook. REQUIRES: mu_ not held.
  void RunHook(Op op, const std::string& path) const CAIRN_EXCLUDES(mu_);
  Status RemoveName(const std::string& path, bool directory) CAIRN_EXCLUDES(mu_);
  // The regular file at `path`.
  Result<MemoryInode::Ref> FindFile(const std::string& path) const CAIRN_REQUIRES(mu_);
  // `inode` has lost its name: without a handle, its pages are free.
  void ReleaseIfUnused(const MemoryInode& inode) CAIRN_REQUIRES(mu_);
  // Pages that may still be taken.
  uint64_t FreePages() const CAIRN_REQUIRES(mu_);
  // Handles and locks die, and the pages in use are counted anew.
  void ForgetHolders() CAIRN_REQUIRES(mu_);

  mutable Mutex mu_;
  MemoryNames names_ CAIRN_GUARDED_BY(mu_);
  FaultPlan faults_ CAIRN_GUARDED_BY(mu_);
  std::shared_ptr<const Hook> hook_ CAIRN_GUARDED_BY(mu_);
  uint64_t capacity_pages_ CAIRN_GUARDED_BY(mu_) = kDefaultCapacity / kMemoryPageSize;
  uint64_t used_pages_ CAIRN_GUARDED_BY(mu_) = 0;
  // Handles and locks of an earlier life are dead.
  uint64_t life_ CAIRN_GUARDED_BY(mu_) = 0;
  bool tear_sectors_ CAIRN_GUARDED_BY(mu_) = false;
  std::atomic<bool> files_have_device_{true};
};

}  // namespace cairn

#endif  // CAIRN_SRC_ENV_MEMORY_ENV_H_
