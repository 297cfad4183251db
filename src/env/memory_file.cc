#include "src/env/memory_file.h"

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>
#include <utility>

namespace cairn {
namespace {

constexpr uint64_t kMaxOffset = std::numeric_limits<int64_t>::max();

bool Mutates(Op op) { return op != Op::kRead && op != Op::kQuery; }

}  // namespace

MemoryFile::MemoryFile(MemoryEnv& env, std::string path, MemoryInode::Ref inode, bool writable,
                       uint64_t life)
    : env_(env),
      path_(std::move(path)),
      inode_(std::move(inode)),
      writable_(writable),
      life_(life) {}

MemoryFile::~MemoryFile() {
  MutexLock lock(env_.mu_);
  if (life_ != env_.life_) return;
  --inode_->handle_count;
  env_.ReleaseIfUnused(*inode_);
}

FaultPlan::Admission MemoryFile::Begin(Op op) {
  if (life_ != env_.life_) {
    return {.status = Status(Code::kIo, path_ + ": opened before the power cut", EIO)};
  }
  return env_.faults_.Begin({.op = op, .mutates = Mutates(op), .path = path_});
}

Status MemoryFile::Failed(int sys_errno, const char* call) const {
  return Status::FromErrno(sys_errno, path_ + ": " + call);
}

Status MemoryFile::CheckChange(uint64_t offset, uint64_t length, const char* call) const {
  if (!writable_) return Failed(EBADF, call);
  if (offset > kMaxOffset || length > kMaxOffset - offset) return Failed(EFBIG, call);
  return Status::Ok();
}

void MemoryFile::CountPages(uint64_t before) {
  env_.used_pages_ += inode_->pages.page_count() - before;
}

Result<size_t> MemoryFile::ReadAt(uint64_t offset, std::span<std::byte> out) {
  env_.RunHook(Op::kRead, path_);
  MutexLock lock(env_.mu_);
  CAIRN_RETURN_IF_ERROR(Begin(Op::kRead).status);
  return inode_->pages.Read(offset, out);
}

Status MemoryFile::WriteAt(uint64_t offset, std::span<const std::byte> data) {
  env_.RunHook(Op::kWrite, path_);
  MutexLock lock(env_.mu_);
  FaultPlan::Admission admission = Begin(Op::kWrite);
  if (!admission.status.ok()) {
    data = data.first(std::min<uint64_t>(data.size(), admission.written_bytes));
    if (data.empty()) return std::move(admission.status);
  }
  CAIRN_RETURN_IF_ERROR(CheckChange(offset, data.size(), "write"));
  const uint64_t before = inode_->pages.page_count();
  const size_t written = inode_->pages.Write(offset, data, env_.FreePages());
  CountPages(before);
  if (!admission.status.ok()) return std::move(admission.status);
  return env_.faults_.Finish(written == data.size() ? Status::Ok() : Failed(ENOSPC, "write"),
                             path_);
}

Status MemoryFile::Truncate(uint64_t size) {
  env_.RunHook(Op::kTruncate, path_);
  MutexLock lock(env_.mu_);
  CAIRN_RETURN_IF_ERROR(Begin(Op::kTruncate).status);
  CAIRN_RETURN_IF_ERROR(CheckChange(size, 0, "truncate"));
  const uint64_t before = inode_->pages.page_count();
  inode_->pages.Truncate(size);
  CountPages(before);
  return env_.faults_.Finish(Status::Ok(), path_);
}

Status MemoryFile::PunchHole(uint64_t offset, uint64_t length) {
  env_.RunHook(Op::kPunch, path_);
  MutexLock lock(env_.mu_);
  CAIRN_RETURN_IF_ERROR(Begin(Op::kPunch).status);
  CAIRN_RETURN_IF_ERROR(CheckChange(0, 0, "punch"));
  const uint64_t before = inode_->pages.page_count();
  inode_->pages.Punch(offset, length);
  CountPages(before);
  return env_.faults_.Finish(Status::Ok(), path_);
}

Status MemoryFile::Allocate(uint64_t offset, uint64_t length) {
  env_.RunHook(Op::kAllocate, path_);
  MutexLock lock(env_.mu_);
  CAIRN_RETURN_IF_ERROR(Begin(Op::kAllocate).status);
  CAIRN_RETURN_IF_ERROR(CheckChange(offset, length, "allocate"));
  const uint64_t before = inode_->pages.page_count();
  const bool allocated = inode_->pages.Allocate(offset, length, env_.FreePages());
  CountPages(before);
  return env_.faults_.Finish(allocated ? Status::Ok() : Failed(ENOSPC, "allocate"), path_);
}

// The power cut decides about pages that are on their way.
Status MemoryFile::StartWriteback(uint64_t, uint64_t) {
  env_.RunHook(Op::kWriteback, path_);
  MutexLock lock(env_.mu_);
  Status admitted = Begin(Op::kWriteback).status;
  if (!admitted.ok()) {
    if (life_ == env_.life_ && env_.faults_.power_on()) inode_->pages.FailSync();
    return admitted;
  }
  return env_.faults_.Finish(Status::Ok(), path_);
}

Status MemoryFile::Sync() {
  env_.RunHook(Op::kSync, path_);
  MutexLock lock(env_.mu_);
  Status admitted = Begin(Op::kSync).status;
  if (!admitted.ok()) {
    // Without power nothing was tried: what is dirty stays so until the power cut decides.
    if (life_ == env_.life_ && env_.faults_.power_on()) inode_->pages.FailSync();
    return admitted;
  }
  inode_->pages.Sync();
  return env_.faults_.Finish(Status::Ok(), path_);
}

Result<FileInfo> MemoryFile::Info() {
  env_.RunHook(Op::kQuery, path_);
  MutexLock lock(env_.mu_);
  CAIRN_RETURN_IF_ERROR(Begin(Op::kQuery).status);
  return FileInfo{.size = inode_->pages.size(),
                  .allocated_bytes = inode_->pages.page_count() * kMemoryPageSize,
                  .is_directory = false};
}

Result<uint64_t> MemoryFile::SeekData(uint64_t offset) {
  env_.RunHook(Op::kQuery, path_);
  MutexLock lock(env_.mu_);
  CAIRN_RETURN_IF_ERROR(Begin(Op::kQuery).status);
  const std::optional<uint64_t> found = inode_->pages.SeekData(offset);
  if (!found) return Failed(ENXIO, "seek data");
  return *found;
}

Result<uint64_t> MemoryFile::SeekHole(uint64_t offset) {
  env_.RunHook(Op::kQuery, path_);
  MutexLock lock(env_.mu_);
  CAIRN_RETURN_IF_ERROR(Begin(Op::kQuery).status);
  const std::optional<uint64_t> found = inode_->pages.SeekHole(offset);
  if (!found) return Failed(ENXIO, "seek hole");
  return *found;
}

Result<uint64_t> MemoryFile::AllocatedIn(uint64_t offset, uint64_t length) {
  env_.RunHook(Op::kQuery, path_);
  MutexLock lock(env_.mu_);
  CAIRN_RETURN_IF_ERROR(Begin(Op::kQuery).status);
  return inode_->pages.AllocatedIn(offset, length);
}

}  // namespace cairn
