#include "src/warm/extent_store.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "src/base/give_way.h"
#include "src/warm/geometry.h"

namespace cairn {
namespace {

constexpr unsigned kFolderCount = 256;
// A growing file is extended by more than was asked for, so that appending writes do not each
// change its size. The surplus is a hole.
constexpr uint64_t kGrowthStep = 64ull << 20;

std::string FolderName(uint64_t number) { return fmt::format("{:02x}", number % kFolderCount); }

// "BRANCH-EPOCH-SEGMENT" in hexadecimal.
std::string FileName(const ExtentId& id) {
  return fmt::format("{:x}-{:x}-{:x}", id.branch.value(), id.epoch.value(), id.segment.value());
}

bool ParseFileName(std::string_view name, ExtentId& id) {
  uint64_t numbers[3] = {};
  const char* at = name.data();
  const char* const end = name.data() + name.size();
  for (int i = 0; i < 3; ++i) {
    const auto [next, error] = std::from_chars(at, end, numbers[i], 16);
    if (error != std::errc{}) return false;
    at = next;
    if (i < 2) {
      if (at == end || *at != '-') return false;
      ++at;
    }
  }
  id = {BranchId(numbers[0]), Epoch(numbers[1]), SegmentIndex(numbers[2])};
  return at == end && FileName(id) == name;
}

}  // namespace

ExtentFile::ExtentFile(Env& env, std::string directory, std::unique_ptr<File> file, Origin origin,
                       uint64_t size)
    : env_(env),
      directory_(std::move(directory)),
      file_(std::move(file)),
      dirty_(!origin.known),
      may_hold_leftovers_(!origin.created),
      size_(size),
      name_is_durable_(origin.known) {}

Status ExtentFile::TooShort(uint64_t end) const {
  return Status(Code::kCorrupt,
                fmt::format("extent file {} ends at {}, the index knows of data behind that",
                            file_->path(), end));
}

Status ExtentFile::Grow(uint64_t size) {
  MutexLock lock(grow_mu_);
  if (size <= size_.load(std::memory_order_relaxed)) return Status::Ok();
  const uint64_t target =
      std::min(kSegmentSize, (size + kGrowthStep - 1) / kGrowthStep * kGrowthStep);
  CAIRN_RETURN_IF_ERROR(file_->Truncate(target));
  dirty_.store(true, std::memory_order_release);
  size_.store(target, std::memory_order_release);
  return Status::Ok();
}

Status ExtentFile::PunchHole(uint64_t offset, uint64_t length) {
  CAIRN_RETURN_IF_ERROR(file_->PunchHole(offset, length));
  dirty_.store(true, std::memory_order_release);
  return Status::Ok();
}

Status ExtentFile::Allocate(uint64_t offset, uint64_t length) {
  CAIRN_RETURN_IF_ERROR(EnsureSize(offset + length));
  Status status = file_->Allocate(offset, length);
  dirty_.store(true, std::memory_order_release);
  return status;
}

Status ExtentFile::StartWriteback() {
  if (!file_->has_device()) return Status::Ok();
  written_.TakeEach([&](uint64_t chunk) {
    {
      // No sync may be on its way: it would not miss the pages that a failure drops.
      MutexLock lock(sync_mu_);
      if (!sync_failure_.ok()) return;
      sync_failure_ = file_->StartWriteback(chunk * kChunkSize, kChunkSize);
      if (!sync_failure_.ok()) dirty_.store(true, std::memory_order_release);
    }
    GiveWay();
  });
  MutexLock lock(sync_mu_);
  return sync_failure_;
}

Status ExtentFile::Sync() {
  MutexLock lock(sync_mu_);
  if (!sync_failure_.ok()) return sync_failure_;
  if (sync_cut_short_) return Status(Code::kIo, "an exception ended a sync before");
  // Taken before the sync: what is written while it runs belongs to the next one.
  if (!dirty_.exchange(false, std::memory_order_acq_rel)) return Status::Ok();
  written_.Clear();
  sync_cut_short_ = true;
  Status status = file_->Sync();
  if (status.ok() && !name_is_durable_) {
    status = env_.SyncDir(directory_);
    name_is_durable_ = status.ok();
  }
  // The kernel may have dropped the pages that it could not write: trying again would succeed and
  // mean nothing.
  if (!status.ok()) sync_failure_ = status;
  sync_cut_short_ = false;
  return status;
}

Status ExtentFile::SyncAnyway() {
  {
    MutexLock lock(sync_mu_);
    name_is_durable_ = false;
  }
  dirty_.store(true, std::memory_order_release);
  return Sync();
}

Result<uint64_t> ExtentFile::SeekData(uint64_t offset, uint64_t end) {
  auto found = file_->SeekData(offset);
  if (!found.ok()) {
    if (found.status().code() == Code::kNoDevice) return end;
    return found;
  }
  return std::min(*found, end);
}

Result<uint64_t> ExtentFile::SeekHole(uint64_t offset, uint64_t end) {
  auto found = file_->SeekHole(offset);
  if (!found.ok()) {
    if (found.status().code() == Code::kNoDevice) return offset;
    return found;
  }
  return std::min(*found, end);
}

Status ExtentStore::Format(Env& env, const std::string& dir) {
  CAIRN_RETURN_IF_ERROR(env.CreateDir(dir));
  for (unsigned i = 0; i < kFolderCount; ++i) {
    CAIRN_RETURN_IF_ERROR(env.CreateDir(dir + "/" + FolderName(i)));
  }
  return env.SyncDir(dir);
}

std::string ExtentStore::DirectoryOf(BranchId branch) const {
  return dir_ + "/" + FolderName(branch.value());
}

std::string ExtentStore::PathOf(const ExtentId& id) const {
  return DirectoryOf(id.branch) + "/" + FileName(id);
}

std::shared_ptr<ExtentFile> ExtentStore::FindOpen(const ExtentId& id) {
  const auto known = open_.find(id);
  if (known == open_.end()) return nullptr;
  auto file = known->second.lock();
  if (file == nullptr) open_.erase(known);
  return file;
}

Result<std::shared_ptr<ExtentFile>> ExtentStore::Open(const ExtentId& id, Mode mode,
                                                      uint64_t known_size) {
  MutexLock opening(OpeningOf(id));
  {
    MutexLock lock(mu_);
    if (auto file = FindOpen(id)) return file;
  }
  const std::string path = PathOf(id);
  bool created = false;
  auto opened = env_.Open(path, OpenMode::kReadWrite);
  if (!opened.ok() && opened.status().code() == Code::kNotFound) {
    if (mode == Mode::kMustExist || known_size > 0) {
      return Status(Code::kCorrupt,
                    "extent file " + path + " is missing, the index knows of data in it");
    }
    opened = env_.Open(path, OpenMode::kCreateNew);
    created = opened.ok();
  }
  if (!opened.ok()) return std::move(opened).status();
  CAIRN_ASSIGN_OR_RETURN(const FileInfo info, (*opened)->Info());
  if (info.size < known_size) {
    return Status(Code::kCorrupt, fmt::format("extent file {} is {} bytes long, the index knows {}",
                                              path, info.size, known_size));
  }
  // Apart from its count, so that a weak_ptr that outlives the file keeps none of its memory.
  std::shared_ptr<ExtentFile> file = std::make_unique<ExtentFile>(
      env_, DirectoryOf(id.branch), std::move(*opened),
      ExtentFile::Origin{.created = created, .known = known_size > 0 && !has_unsynced_past()},
      info.size);
  MutexLock lock(mu_);
  // Forget files that nobody holds any more, now and then.
  if (open_.size() >= 64 && (open_.size() & (open_.size() - 1)) == 0) {
    std::erase_if(open_, [](const auto& entry) { return entry.second.expired(); });
  }
  open_[id] = file;
  return file;
}

// By value, so that a file that is handed over and cannot be kept goes with this call. clang-tidy
// 14 does not see that it is moved on.
// NOLINTNEXTLINE(performance-unnecessary-value-param)
void ExtentStore::Keep(const ExtentId& id, std::shared_ptr<ExtentFile> file) {
  std::shared_ptr<ExtentFile> oldest;  // Closed when the lock is released.
  MutexLock lock(mu_);
  // Removed meanwhile, it would keep its space until it is its turn to go.
  const auto known = open_.find(id);
  if (known == open_.end() || known->second.lock() != file) return;
  if (!kept_.try_emplace(id, std::move(file)).second) return;
  kept_order_.push_back(id);
  while (kept_order_.size() > most_kept_) {
    const auto found = kept_.find(kept_order_.front());
    kept_order_.pop_front();
    oldest = std::move(found->second);
    kept_.erase(found);
  }
}

size_t ExtentStore::open_files() {
  MutexLock lock(mu_);
  return static_cast<size_t>(std::count_if(
      open_.begin(), open_.end(), [](const auto& entry) { return !entry.second.expired(); }));
}

Status ExtentStore::Remove(const ExtentId& id) {
  {
    std::map<ExtentId, std::shared_ptr<ExtentFile>>::node_type kept;  // Closed without the lock.
    MutexLock lock(mu_);
    kept = kept_.extract(id);
    if (kept) std::erase(kept_order_, id);
    // Who still holds it has a file without a name; a new one of that name is another.
    open_.erase(id);
  }
  Status status = env_.Remove(PathOf(id));
  if (status.code() == Code::kNotFound) return Status::Ok();
  return status;
}

Status ExtentStore::RemoveFiles(BranchId branch, std::span<const ExtentId> files) {
  for (const ExtentId& id : files) {
    auto file = env_.Open(PathOf(id), OpenMode::kReadWrite);
    if (file.status().code() == Code::kNotFound) continue;
    if (!file.ok()) return std::move(file).status();
    CAIRN_RETURN_IF_ERROR((*file)->Truncate(0));
    CAIRN_RETURN_IF_ERROR(Remove(id));
  }
  return env_.SyncDir(DirectoryOf(branch));
}

Result<std::vector<ExtentId>> ExtentStore::FilesOf(BranchId branch) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> names, env_.List(DirectoryOf(branch)));
  std::vector<ExtentId> files;
  for (const std::string& name : names) {
    ExtentId id;
    if (ParseFileName(name, id) && id.branch == branch) files.push_back(id);
  }
  return files;
}

Status ExtentStore::RemoveBranch(BranchId branch) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<ExtentId> files, FilesOf(branch));
  for (const ExtentId& id : files) CAIRN_RETURN_IF_ERROR(Remove(id));
  // Once their records are gone nobody would look for files that come back.
  return env_.SyncDir(DirectoryOf(branch));
}

Status ExtentStore::ForEach(const std::function<void(const ExtentId&)>& sink,
                            const std::function<void(const std::string& path)>& stranger) {
  for (unsigned i = 0; i < kFolderCount; ++i) {
    const std::string folder = dir_ + "/" + FolderName(i);
    CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> names, env_.List(folder));
    for (const std::string& name : names) {
      ExtentId id;
      if (ParseFileName(name, id) && FolderName(id.branch.value()) == FolderName(i)) {
        sink(id);
      } else {
        stranger(folder + "/" + name);
      }
    }
  }
  return Status::Ok();
}

}  // namespace cairn
