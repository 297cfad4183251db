#include "src/warm/warm_store.h"

#include <algorithm>
#include <array>
#include <thread>

#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/warm/clean_mark.h"
#include "src/warm/log_check.h"

namespace cairn {
namespace {

constexpr std::chrono::milliseconds kLockRetryInterval{20};
constexpr size_t kHolderLimit = 4096;

// What may lie in a store directory that is not laid out yet: the folder's own and what the
// programs around the store put there before it is opened.
bool IsHarmless(const std::string& name) {
  constexpr std::array<std::string_view, 5> kNames = {"lock", "lost+found", "log", "cold",
                                                      "control"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

// Before anything is written: without a superblock, the directory must be empty.
Status CheckWhatIsThere(Env& env, const std::string& dir) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(dir));
  const auto there = [&names](std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (there("superblock")) return Status::Ok();
  if (there("index") || there("extents")) {
    return Status(Code::kCorrupt,
                  dir + "/superblock is missing, but the directory holds a store's data");
  }
  for (const std::string& name : names) {
    // A first superblock that was not written to its end has another name.
    if (IsHarmless(name) || name.starts_with("superblock.")) continue;
    return Status(Code::kInvalid,
                  dir + " is not a Cairn store and not empty (it holds '" + name + "')");
  }
  return Status::Ok();
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status RemoveTree(Env& env, const std::string& path) {
  auto info = env.Info(path);
  if (!info.ok()) {
    return info.status().code() == Code::kNotFound ? Status::Ok() : std::move(info).status();
  }
  if (!info->is_directory) return env.Remove(path);
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(path));
  for (const std::string& name : names) CAIRN_RETURN_IF_ERROR(RemoveTree(env, path + "/" + name));
  return env.RemoveDir(path);
}

}  // namespace

WarmStore::WarmStore(Env& env, std::string dir) : env_(env), dir_(std::move(dir)) {}
WarmStore::~WarmStore() = default;

Result<std::unique_ptr<WarmStore>> WarmStore::Open(Env& env, const std::string& dir,
                                                   const WarmStoreOptions& options) {
  if (!env.Exists(dir)) {
    if (!options.create) return Status(Code::kNotFound, dir + ": there is no store");
    CAIRN_RETURN_IF_ERROR(env.CreateDir(dir));
  }
  CAIRN_RETURN_IF_ERROR(CheckWhatIsThere(env, dir));
  std::unique_ptr<WarmStore> store(new WarmStore(env, dir));
  CAIRN_RETURN_IF_ERROR(store->TakeLock(options));
  CAIRN_RETURN_IF_ERROR(store->ReadOrFormat(options));
  if (options.on_ours) options.on_ours();
  CAIRN_RETURN_IF_ERROR(store->NoteHolder(options.holder));
  CAIRN_RETURN_IF_ERROR(store->OpenIndex(options));
  const bool unsynced_past = options.takes_over && !store->was_clean_;
  store->extents_ =
      std::make_unique<ExtentStore>(env, dir + "/extents", unsynced_past, options.most_kept_files);
  return store;
}

Status WarmStore::TakeLock(const WarmStoreOptions& options) {
  const std::string path = dir_ + "/lock";
  lock_ = options.lock;
  const auto deadline = std::chrono::steady_clock::now() + options.lock_wait;
  while (lock_ == nullptr) {
    auto lock = env_.Lock(path);
    if (lock.ok()) {
      lock_ = std::move(*lock);
      break;
    }
    if (lock.status().code() != Code::kBusy) return std::move(lock).status();
    if (std::chrono::steady_clock::now() >= deadline) {
      auto holder = env_.ReadWhole(path, kHolderLimit);
      const bool known = holder.ok() && !holder->empty();
      return Status(Code::kBusy,
                    "store " + dir_ + " is " + (known ? *holder : "in use by another process"));
    }
    std::this_thread::sleep_for(kLockRetryInterval);
  }
  return Status::Ok();
}

Status WarmStore::NoteHolder(const std::string& holder) {
  CAIRN_ASSIGN_OR_RETURN(const auto file, env_.Open(dir_ + "/lock", OpenMode::kReadWrite));
  // Only a message for people: a full disk must not keep a store from being opened.
  Status told = file->Truncate(0);
  if (told.ok()) told = file->WriteAt(0, std::as_bytes(std::span(holder)));
  if (!told.ok()) LogWarn("cannot note the holder: {}", told.ToString());
  return Status::Ok();
}

Status WarmStore::ReadOrFormat(const WarmStoreOptions& options) {
  auto read = ReadSuperblock(env_, dir_ + "/superblock");
  if (read.ok()) {
    superblock_ = *read;
    // The last step of the laying out may be seen here before it is durable. Were it lost later,
    // the store would be laid out again, with data in it.
    if (!superblock_.formatting) return env_.SyncDir(dir_);
    if (!options.create) {
      return Status(Code::kNotFound, dir_ + ": the store was never laid out to its end");
    }
    return LayOut();
  }
  if (read.status().code() != Code::kNotFound) return std::move(read).status();
  if (!options.create) return Status(Code::kNotFound, dir_ + ": there is no store");
  superblock_ = NewSuperblock(Clock::System().NowNs());
  return LayOut();
}

Status WarmStore::LayOut() {
  // The mark goes first and is taken away last: a crash in between leaves a store that is laid
  // out again, and one that is complete is never touched.
  superblock_.formatting = true;
  CAIRN_RETURN_IF_ERROR(
      env_.WriteWholeDurably(dir_ + "/superblock", EncodeSuperblock(superblock_)));
  CAIRN_RETURN_IF_ERROR(RemoveTree(env_, dir_ + "/index"));
  CAIRN_RETURN_IF_ERROR(RemoveTree(env_, dir_ + "/extents"));
  CAIRN_RETURN_IF_ERROR(env_.CreateDir(dir_ + "/index"));
  CAIRN_RETURN_IF_ERROR(ExtentStore::Format(env_, dir_ + "/extents"));
  IndexOptions options;
  options.create = true;
  CAIRN_ASSIGN_OR_RETURN(auto index, Index::Open(env_, dir_ + "/index", options));
  InodeRecord root;
  root.kind = FileKind::kDirectory;
  root.mode = 0755;
  root.parent = kRootInode;
  root.atime_ns = root.mtime_ns = root.ctime_ns = superblock_.created_ns;
  IndexBatch batch;
  batch.PutInode(kRootInode, root);
  CAIRN_RETURN_IF_ERROR(index->Commit(batch));
  index.reset();
  CAIRN_RETURN_IF_ERROR(env_.SyncDir(dir_ + "/index"));
  CAIRN_RETURN_IF_ERROR(env_.SyncDir(dir_));
  CAIRN_RETURN_IF_ERROR(env_.SyncDir(ParentOf(dir_)));
  superblock_.formatting = false;
  return env_.WriteWholeDurably(dir_ + "/superblock", EncodeSuperblock(superblock_));
}

Status WarmStore::OpenIndex(const WarmStoreOptions& options) {
  const std::string index_dir = dir_ + "/index";
  if (auto current = env_.Info(index_dir + "/CURRENT"); !current.ok()) {
    if (current.status().code() != Code::kNotFound) return std::move(current).status();
    return Status(Code::kCorrupt, index_dir + "/CURRENT is missing");
  }
  CAIRN_ASSIGN_OR_RETURN(was_clean_, CheckAndRemoveCleanMark(env_, index_dir, dir_ + "/clean"));
  if (!was_clean_) {
    // What the last process wrote and did not sync is still in the page cache when only the process
    // died. Nobody here knows of it, so no later fsync would cover it: it becomes durable now.
    // All of it is much to wait for while programs wait for their server, and the index needs to be
    // sure of its own files only: all others come before what depends on them.
    CAIRN_RETURN_IF_ERROR(options.takes_over ? SyncIndexFiles() : env_.SyncFilesystem(dir_));
  }
  CAIRN_RETURN_IF_ERROR(RepairLogTails(env_, index_dir));
  reserve_ = std::make_unique<SpaceReserve>(env_, dir_, dir_ + "/reserve");
  // Opening writes what the logs hold, and must be possible on a filesystem that was left full:
  // what the last process kept back is given up if there is no other room, and built anew when the
  // index is open.
  IndexOptions index_options;
  index_options.cache_bytes = options.index_cache_bytes;
  SpaceReserve* const reserve = reserve_.get();
  index_options.on_no_space = [reserve](const std::string& path) {
    return reserve->Release(path.ends_with(".ldb") ? SpaceReserve::For::kCompactions
                                                   : SpaceReserve::For::kLogs);
  };
  index_options.room_to_compact = [reserve] { return reserve->RoomToCompact(); };
  CAIRN_ASSIGN_OR_RETURN(index_, Index::Open(env_, index_dir, index_options));
  reserve_->Build();
  CAIRN_RETURN_IF_ERROR(CountCrash());
  auto root = index_->GetInode(kRootInode);
  if (root.ok()) return Status::Ok();
  if (root.status().code() != Code::kNotFound) return std::move(root).status();
  return Status(Code::kCorrupt, index_dir + ": the root directory's record is missing");
}

// Tables were synced before anything referred to them. LevelDB reads the rest to open, and writes
// what it finds there anew.
Status WarmStore::SyncIndexFiles() {
  const std::string index_dir = dir_ + "/index";
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> names, env_.List(index_dir));
  for (const std::string& name : names) {
    if (name.ends_with(".ldb") || name.ends_with(".sst")) continue;
    CAIRN_ASSIGN_OR_RETURN(const auto file,
                           env_.Open(index_dir + "/" + name, OpenMode::kReadWrite));
    CAIRN_RETURN_IF_ERROR(file->Sync());
  }
  return env_.SyncDir(index_dir);
}

Status WarmStore::SyncPast() {
  if (!extents_->has_unsynced_past()) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(env_.SyncFilesystem(dir_));
  extents_->PastIsSynced();
  return Status::Ok();
}

Status WarmStore::CountCrash() {
  CAIRN_ASSIGN_OR_RETURN(crash_count_, index_->GetCounter(kCrashCounter));
  if (was_clean_) return Status::Ok();
  ++crash_count_;
  IndexBatch batch;
  batch.PutCounter(kCrashCounter, crash_count_);
  return index_->Commit(batch);
}

Status WarmStore::RequireFeature(uint64_t incompatible_feature) {
  return SetFeature(&Superblock::incompatible_features, incompatible_feature);
}

Status WarmStore::NoteFeature(uint64_t compatible_feature) {
  return SetFeature(&Superblock::compatible_features, compatible_feature);
}

Status WarmStore::SetFeature(uint64_t Superblock::*features, uint64_t feature) {
  MutexLock lock(superblock_mu_);
  if (superblock_.*features & feature) return Status::Ok();
  Superblock changed = superblock_;
  changed.*features |= feature;
  CAIRN_RETURN_IF_ERROR(env_.WriteWholeDurably(dir_ + "/superblock", EncodeSuperblock(changed)));
  superblock_.*features = changed.*features;
  return Status::Ok();
}

Status WarmStore::Close(bool all_durable) {
  Status closed = index_->Close();
  index_.reset();
  extents_.reset();
  if (!closed.ok()) return closed;
  if (!all_durable) return Status::Ok();
  const auto mark = [&] { return WriteCleanMark(env_, dir_ + "/index", dir_ + "/clean"); };
  Status marked = mark();
  while (marked.code() == Code::kNoSpace && reserve_->Release(SpaceReserve::For::kLogs)) {
    marked = mark();
  }
  return marked;
}

}  // namespace cairn
