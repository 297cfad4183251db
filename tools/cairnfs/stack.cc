#include "tools/cairnfs/stack.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <thread>

#include "fusefs/mount.h"
#include "src/warm/warm_store.h"

namespace cairn {
namespace {

// After `umount` has returned, the server that served the mount may still be closing the store. A
// store that is still mounted is not about to be closed.
constexpr std::chrono::seconds kLockWait{60};

std::chrono::seconds LockWait(const ServeCommandLine& command) {
  const bool mounted_elsewhere = command.generation == 1 && IsStoreMounted(command.store);
  return mounted_elsewhere ? std::chrono::seconds(0) : kLockWait;
}

// Of the limit on descriptors, for extent files that nobody uses just now; LevelDB, volumes' heads
// and workers need others.
constexpr uint64_t kKeptFilesShare = 4;
constexpr uint64_t kMostKeptFiles = 4096;

size_t MostKeptFiles() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  return std::min<uint64_t>(kMostKeptFiles, limit.rlim_cur / kKeptFilesShare);
}

// Of the bound that `memory=` sets: LevelDB's blocks, resolved chunk maps, checksums, and the rest
// for request buffers, open volumes and what the libraries keep.
constexpr uint64_t kIndexShare = 8;
constexpr uint64_t kChunkMapShare = 5;
constexpr uint64_t kSealShare = 20;

std::unique_ptr<Executor> NewExecutor() {
  // Most tasks wait for the disk.
  const int threads = std::max(4, static_cast<int>(std::thread::hardware_concurrency()));
  return NewThreadExecutor(threads);
}

std::map<std::string, uint64_t> Facts(const ServeCommandLine& command) {
  return {{"server_pid", static_cast<uint64_t>(getpid())},
          {"supervisor_pid", static_cast<uint64_t>(getppid())},
          {"server_generation", command.generation},
          {"restarts", command.restarts},
          {"upgrades", command.upgrades}};
}

}  // namespace

Result<std::unique_ptr<Stack>> Stack::Open(const ServeCommandLine& command,
                                           const std::function<void()>& on_ours) {
  std::unique_ptr<Stack> stack(new Stack());
  stack->env_ = NewPosixEnv();
  stack->executor_ = NewExecutor();

  CAIRN_ASSIGN_OR_RETURN(stack->memory_,
                         SharedMemory::Map(command.memory_fd, command.options.journal_bytes));

  WarmStoreOptions store_options;
  store_options.create = !command.options.read_only;
  store_options.lock_wait = LockWait(command);
  if (command.lock_fd >= 0) store_options.lock = AdoptFileLock(UniqueFd(command.lock_fd));
  store_options.takes_over = command.generation > 1;
  store_options.holder = fmt::format("mounted at {} by process {}", command.mountpoint, getpid());
  store_options.on_ours = on_ours;
  store_options.most_kept_files = MostKeptFiles();
  store_options.index_cache_bytes = command.options.memory_bytes / kIndexShare;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<WarmStore> store,
                         WarmStore::Open(*stack->env_, command.store, store_options));

  stack->lock_fd_ = store->lock().fd();

  FilesystemOptions options;
  options.chunk_map_bytes = command.options.memory_bytes / kChunkMapShare;
  options.seal_bytes = command.options.memory_bytes / kSealShare;
  options.seal_after = command.options.seal_after;
  options.read_only = command.options.read_only;
  CAIRN_ASSIGN_OR_RETURN(stack->filesystem_,
                         Filesystem::Open({.store = std::move(store),
                                           .executor = stack->executor_.get(),
                                           .journal_region = stack->memory_->journal(),
                                           .table_region = stack->memory_->table(),
                                           .takes_over = command.generation > 1,
                                           .facts = Facts(command)},
                                          options));
  stack->snapshots_ = std::make_unique<SnapshotService>(*stack->filesystem_);
  return stack;
}

}  // namespace cairn
