#include "src/env/memory_env.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/env/memory_file.h"

namespace cairn {
namespace {

// What Space reports; the number of files is not limited.
constexpr uint64_t kFilesTotal = 1'000'000;

FileInfo InfoOf(const MemoryInode& inode) {
  return FileInfo{.size = inode.pages.size(),
                  .allocated_bytes = inode.pages.page_count() * kMemoryPageSize,
                  .is_directory = inode.is_directory};
}

}  // namespace

class MemoryEnv::MemoryLock final : public FileLock {
 public:
  MemoryLock(MemoryEnv& env, MemoryInode::Ref inode, uint64_t life)
      : env_(env), inode_(std::move(inode)), life_(life) {}
  ~MemoryLock() override {
    MutexLock lock(env_.mu_);
    if (life_ != env_.life_) return;
    inode_->locked = false;
    --inode_->handle_count;
    env_.ReleaseIfUnused(*inode_);
  }

 private:
  MemoryEnv& env_;
  const MemoryInode::Ref inode_;
  const uint64_t life_;
};

void MemoryEnv::RunHook(Op op, const std::string& path) const {
  std::shared_ptr<const Hook> hook;
  {
    MutexLock lock(mu_);
    hook = hook_;
  }
  if (hook != nullptr) (*hook)(op, path);
}

uint64_t MemoryEnv::FreePages() const {
  return capacity_pages_ > used_pages_ ? capacity_pages_ - used_pages_ : 0;
}

void MemoryEnv::ReleaseIfUnused(const MemoryInode& inode) {
  if (!inode.linked && inode.handle_count == 0) used_pages_ -= inode.pages.page_count();
}

Result<MemoryInode::Ref> MemoryEnv::FindFile(const std::string& path) const {
  CAIRN_ASSIGN_OR_RETURN(MemoryInode::Ref inode, names_.Find(path));
  if (inode->is_directory) return Status::FromErrno(EISDIR, path);
  return inode;
}

Result<std::unique_ptr<File>> MemoryEnv::Open(const std::string& path, OpenMode mode) {
  RunHook(Op::kOpen, path);
  MutexLock lock(mu_);
  const bool may_create = mode == OpenMode::kCreate || mode == OpenMode::kCreateNew;
  Result<MemoryInode::Ref> found = names_.Find(path);
  const bool creates = may_create && found.status().code() == Code::kNotFound;
  CAIRN_RETURN_IF_ERROR(faults_.Begin({.op = Op::kOpen, .mutates = creates, .path = path}).status);
  if (creates) {
    found = names_.Create(path, false);
  } else if (found.ok() && mode == OpenMode::kCreateNew) {
    return Status::FromErrno(EEXIST, path + ": open");
  }
  if (!found.ok()) return std::move(found).status().WithPrefix("open");
  if ((*found)->is_directory) return Status::FromErrno(EISDIR, path + ": open");
  CAIRN_RETURN_IF_ERROR(faults_.Finish(Status::Ok(), path));
  ++(*found)->handle_count;
  return std::unique_ptr<File>(
      std::make_unique<MemoryFile>(*this, path, *found, mode != OpenMode::kReadOnly, life_));
}

Status MemoryEnv::RemoveName(const std::string& path, bool directory) {
  RunHook(Op::kRemove, path);
  MutexLock lock(mu_);
  CAIRN_RETURN_IF_ERROR(faults_.Begin({.op = Op::kRemove, .mutates = true, .path = path}).status);
  Result<MemoryInode::Ref> removed = names_.Remove(path, directory);
  if (!removed.ok()) return std::move(removed).status().WithPrefix("remove");
  ReleaseIfUnused(**removed);
  return faults_.Finish(Status::Ok(), path);
}

Status MemoryEnv::Remove(const std::string& path) { return RemoveName(path, false); }

Status MemoryEnv::RemoveDir(const std::string& path) { return RemoveName(path, true); }

Status MemoryEnv::Rename(const std::string& from, const std::string& to) {
  RunHook(Op::kRename, from);
  MutexLock lock(mu_);
  CAIRN_RETURN_IF_ERROR(
      faults_.Begin({.op = Op::kRename, .mutates = true, .path = from, .other_path = &to}).status);
  Result<MemoryInode::Ref> replaced = names_.Rename(from, to);
  if (!replaced.ok()) return std::move(replaced).status().WithPrefix("rename");
  if (*replaced != nullptr) ReleaseIfUnused(**replaced);
  return faults_.Finish(Status::Ok(), from);
}

Status MemoryEnv::CreateDir(const std::string& path) {
  RunHook(Op::kCreateDir, path);
  MutexLock lock(mu_);
  CAIRN_RETURN_IF_ERROR(
      faults_.Begin({.op = Op::kCreateDir, .mutates = true, .path = path}).status);
  Result<MemoryInode::Ref> created = names_.Create(path, true);
  if (!created.ok()) return std::move(created).status().WithPrefix("mkdir");
  return faults_.Finish(Status::Ok(), path);
}

Status MemoryEnv::SyncDir(const std::string& path) {
  RunHook(Op::kSyncDir, path);
  MutexLock lock(mu_);
  CAIRN_RETURN_IF_ERROR(faults_.Begin({.op = Op::kSyncDir, .mutates = true, .path = path}).status);
  CAIRN_RETURN_IF_ERROR(names_.SyncDir(path).WithPrefix("sync directory"));
  return faults_.Finish(Status::Ok(), path);
}

Status MemoryEnv::SyncFilesystem(const std::string& path) {
  RunHook(Op::kSyncDir, path);
  MutexLock lock(mu_);
  CAIRN_RETURN_IF_ERROR(faults_.Begin({.op = Op::kSyncDir, .mutates = true, .path = path}).status);
  names_.SyncAll();
  for (const auto& [file_path, inode] : names_.Files()) inode->pages.Sync();
  return faults_.Finish(Status::Ok(), path);
}

Result<std::vector<std::string>> MemoryEnv::List(const std::string& path) {
  RunHook(Op::kQuery, path);
  MutexLock lock(mu_);
  CAIRN_RETURN_IF_ERROR(faults_.Begin({.op = Op::kQuery, .mutates = false, .path = path}).status);
  CAIRN_ASSIGN_OR_RETURN(const MemoryInode::Ref directory, names_.FindDirectory(path));
  std::vector<std::string> names;
  for (const auto& [name, inode] : directory->current) names.push_back(name);
  return names;
}

Result<FileInfo> MemoryEnv::Info(const std::string& path) {
  RunHook(Op::kQuery, path);
  MutexLock lock(mu_);
  CAIRN_RETURN_IF_ERROR(faults_.Begin({.op = Op::kQuery, .mutates = false, .path = path}).status);
  CAIRN_ASSIGN_OR_RETURN(const MemoryInode::Ref inode, names_.Find(path));
  return InfoOf(*inode);
}

Result<SpaceInfo> MemoryEnv::Space(const std::string& path) {
  RunHook(Op::kQuery, path);
  MutexLock lock(mu_);
  CAIRN_RETURN_IF_ERROR(faults_.Begin({.op = Op::kQuery, .mutates = false, .path = path}).status);
  CAIRN_RETURN_IF_ERROR(names_.Find(path).status());
  const uint64_t free_bytes = FreePages() * kMemoryPageSize;
  return SpaceInfo{.total_bytes = capacity_pages_ * kMemoryPageSize,
                   .free_bytes = free_bytes,
                   .available_bytes = free_bytes,
                   .usable_bytes = free_bytes,
                   .files_total = kFilesTotal,
                   .files_free = kFilesTotal};
}

Result<std::unique_ptr<FileLock>> MemoryEnv::Lock(const std::string& path) {
  RunHook(Op::kLock, path);
  MutexLock lock(mu_);
  Result<MemoryInode::Ref> found = names_.Find(path);
  const bool creates = found.status().code() == Code::kNotFound;
  CAIRN_RETURN_IF_ERROR(faults_.Begin({.op = Op::kLock, .mutates = creates, .path = path}).status);
  if (creates) found = names_.Create(path, false);
  if (!found.ok()) return std::move(found).status().WithPrefix("lock");
  MemoryInode& inode = **found;
  if (inode.is_directory) return Status::FromErrno(EISDIR, path + ": lock");
  if (inode.locked) return Status(Code::kBusy, path + ": lock: locked", EWOULDBLOCK);
  CAIRN_RETURN_IF_ERROR(faults_.Finish(Status::Ok(), path));
  inode.locked = true;
  ++inode.handle_count;
  return std::unique_ptr<FileLock>(std::make_unique<MemoryLock>(*this, *found, life_));
}

void MemoryEnv::AddFault(Fault fault) {
  MutexLock lock(mu_);
  faults_.Add(std::move(fault));
}

void MemoryEnv::ClearFaults() {
  MutexLock lock(mu_);
  faults_.ClearFaults();
}

uint64_t MemoryEnv::fired_fault_count() const {
  MutexLock lock(mu_);
  return faults_.fired_count();
}

uint64_t MemoryEnv::operation_count(OpSet ops) const {
  MutexLock lock(mu_);
  return faults_.count(ops);
}

uint64_t MemoryEnv::mutation_count() const {
  MutexLock lock(mu_);
  return faults_.mutation_count();
}

void MemoryEnv::SetHook(Hook hook) {
  MutexLock lock(mu_);
  hook_ = hook ? std::make_shared<const Hook>(std::move(hook)) : nullptr;
}

void MemoryEnv::SetCapacity(uint64_t bytes) {
  MutexLock lock(mu_);
  capacity_pages_ = bytes / kMemoryPageSize;
}

void MemoryEnv::CutAtSync(uint64_t n, CutSide side) {
  MutexLock lock(mu_);
  faults_.CutAtSync(n, side);
}

void MemoryEnv::CutAtOperation(uint64_t n, CutSide side) {
  MutexLock lock(mu_);
  faults_.CutAtMutation(n, side);
}

bool MemoryEnv::power_on() const {
  MutexLock lock(mu_);
  return faults_.power_on();
}

void MemoryEnv::ForgetHolders() {
  ++life_;
  used_pages_ = 0;
  for (const auto& [path, inode] : names_.Files()) {
    inode->handle_count = 0;
    inode->locked = false;
    used_pages_ += inode->pages.page_count();
  }
}

void MemoryEnv::Restart(uint64_t seed) {
  MutexLock lock(mu_);
  std::mt19937_64 random(seed);
  names_.PowerCut(random);
  for (const auto& [path, inode] : names_.Files()) inode->pages.PowerCut(random, tear_sectors_);
  ForgetHolders();
  faults_.RestorePower();
}

void MemoryEnv::KillProcess() {
  MutexLock lock(mu_);
  ForgetHolders();
  faults_.RestorePower();
}

void MemoryEnv::SetSectorTearing(bool on) {
  MutexLock lock(mu_);
  tear_sectors_ = on;
}

Status MemoryEnv::FlipByte(const std::string& path, uint64_t offset) {
  MutexLock lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(const MemoryInode::Ref inode, FindFile(path));
  if (offset >= inode->pages.size()) {
    return Status(Code::kInvalid, path + ": no byte at " + std::to_string(offset));
  }
  const uint64_t before = inode->pages.page_count();
  inode->pages.FlipByte(offset);
  used_pages_ += inode->pages.page_count() - before;
  return Status::Ok();
}

Status MemoryEnv::TruncateBehindBack(const std::string& path, uint64_t size) {
  MutexLock lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(const MemoryInode::Ref inode, FindFile(path));
  const uint64_t before = inode->pages.page_count();
  inode->pages.TruncateBoth(size);
  used_pages_ += inode->pages.page_count() - before;
  return Status::Ok();
}

Status MemoryEnv::RemoveBehindBack(const std::string& path) {
  MutexLock lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(const MemoryInode::Ref removed, names_.RemoveFromBoth(path));
  ReleaseIfUnused(*removed);
  return Status::Ok();
}

Result<std::string> MemoryEnv::DurableBytes(const std::string& path) const {
  MutexLock lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(const MemoryInode::Ref inode, names_.FindDurable(path));
  if (inode->is_directory) return Status::FromErrno(EISDIR, path);
  return inode->pages.DurableBytes();
}

std::vector<std::string> MemoryEnv::AllFiles() const {
  MutexLock lock(mu_);
  std::vector<std::string> paths;
  for (const auto& [path, inode] : names_.Files()) paths.push_back(path);
  return paths;
}

}  // namespace cairn
