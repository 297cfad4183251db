#include "tools/cairnfs/stack.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "fusefs/mount.h"
#include "src/warm/warm_store.h"

namespace cairn {
namespace {

// After `umount` has returned, the server that served the mount may still be closing the store. A
// store that is still mounted is not about to be closed.
constexpr std::chrono::seconds kLockWait{30};

std::chrono::seconds LockWait(const ServeCommandLine& command) {
  const bool mounted_elsewhere = command.generation == 1 && IsStoreMounted(command.store);
  return mounted_elsewhere ? std::chrono::seconds(0) : kLockWait;
}

// Of the bound that `memory=` sets: LevelDB's blocks, resolved chunk maps, checksums, and the rest
// for request buffers, open volumes and what the libraries keep.
constexpr uint64_t kIndexShare = 8;
constexpr uint64_t kChunkMapShare = 5;
constexpr uint64_t kSealShare = 20;

std::unique_ptr<Executor> NewExecutor() {
  const int threads = std::max(2, static_cast<int>(std::thread::hardware_concurrency()));
#ifdef CAIRN_NO_TBB
  return NewThreadExecutor(threads);
#else
  return NewTbbExecutor(threads);
#endif
}

}  // namespace

// Not populated: its pages come as they are needed, and stay for the next server.
Result<std::unique_ptr<JournalMapping>> JournalMapping::Create(int memfd) {
  struct stat info {};
  if (fstat(memfd, &info) != 0) return Status::FromErrno(errno, "index journal");
  if (info.st_size <= 0) return Status(Code::kInvalid, "index journal: no memory");
  const auto size = static_cast<size_t>(info.st_size);
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (memory == MAP_FAILED) return Status::FromErrno(errno, "index journal");
  return std::unique_ptr<JournalMapping>(
      new JournalMapping({static_cast<std::byte*>(memory), size}));
}

JournalMapping::~JournalMapping() { munmap(region_.data(), region_.size()); }

Result<std::unique_ptr<Stack>> Stack::Open(const ServeCommandLine& command) {
  std::unique_ptr<Stack> stack(new Stack());
  stack->env_ = NewPosixEnv();
  stack->executor_ = NewExecutor();

  CAIRN_ASSIGN_OR_RETURN(stack->journal_, JournalMapping::Create(command.journal_fd));

  WarmStoreOptions store_options;
  store_options.create = !command.options.read_only;
  store_options.lock_wait = LockWait(command);
  store_options.holder = fmt::format("mounted at {} by process {}", command.mountpoint, getpid());
  store_options.index_cache_bytes = command.options.memory_bytes / kIndexShare;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<WarmStore> store,
                         WarmStore::Open(*stack->env_, command.store, store_options));

  FilesystemOptions options;
  options.chunk_map_bytes = command.options.memory_bytes / kChunkMapShare;
  options.seal_bytes = command.options.memory_bytes / kSealShare;
  options.seal_after = command.options.seal_after;
  options.read_only = command.options.read_only;
  CAIRN_ASSIGN_OR_RETURN(stack->filesystem_,
                         Filesystem::Open({.store = std::move(store),
                                           .executor = stack->executor_.get(),
                                           .journal_region = stack->journal_->region(),
                                           .keep_orphans = command.generation > 1},
                                          options));
  stack->snapshots_ = std::make_unique<SnapshotService>(*stack->filesystem_);
  return stack;
}

}  // namespace cairn
