// ExtentStore: the extent files, which hold the blocks' bytes.
//
// The extent file of (branch, epoch, segment) holds what that epoch wrote of that segment, each
// byte at its own offset; what was never written or was punched is a hole. Invariant: the index
// has an extent record with a size for each file that it refers to, the file is never shorter, and
// reaches to the end of each chunk of which there is a version record. One that is shorter was
// damaged.
#ifndef CAIRN_SRC_WARM_EXTENT_STORE_H_
#define CAIRN_SRC_WARM_EXTENT_STORE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/env/env.h"
#include "src/warm/records.h"
#include "src/warm/written_chunks.h"

namespace cairn {

// One open extent file. Thread-safe. Offsets are the segment's.
class ExtentFile {
 public:
  // `created`: by this opening, so that it holds nothing. `known`: the index has its record, so
  // that its name is durable.
  struct Origin {
    bool created = false;
    bool known = false;
  };
  ExtentFile(Env& env, std::string directory, std::unique_ptr<File> file, Origin origin,
             uint64_t size);

  const std::string& path() const { return file_->path(); }

  // Fills `out`; a file that ends inside is kCorrupt.
  Status ReadAt(uint64_t offset, std::span<std::byte> out) {
    auto got = file_->ReadAt(offset, out);
    if (!got.ok()) [[unlikely]] {
      return std::move(got).status();
    }
    if (*got != out.size()) [[unlikely]] {
      return TooShort(offset + *got);
    }
    return Status::Ok();
  }
  // REQUIRES: EnsureSize(offset + data.size()) was called at some time.
  Status WriteAt(uint64_t offset, std::span<const std::byte> data) {
    Status status = file_->WriteAt(offset, data);
    // Also after an error: a prefix may have been written.
    written_.Add(offset, data.size());
    if (!dirty_.load(std::memory_order_relaxed)) dirty_.store(true, std::memory_order_release);
    return status;
  }
  // Lets the file reach to `size` at least.
  Status EnsureSize(uint64_t size) {
    if (size <= size_.load(std::memory_order_acquire)) return Status::Ok();
    return Grow(size);
  }
  Status PunchHole(uint64_t offset, uint64_t length);
  Status Allocate(uint64_t offset, uint64_t length);
  // Only grows. What it was before a Sync is durable after it.
  uint64_t size() const { return size_.load(std::memory_order_acquire); }
  // Hands what was written since the last call to the device, a chunk at a time, and gives way in
  // between: for who is about to sync much and in no hurry. In one go a sync of much takes a core
  // for many milliseconds (ext4 finds a place for each page, some 5 us), and writers stand behind
  // it. Makes nothing durable; after a failure, which counts as one of a Sync, every later one
  // fails. Without a device it does nothing.
  Status StartWriteback();
  // Makes durable what was written, punched or grown before the call, and the file's name. Costs
  // nothing when there is nothing. After a failure every later call fails too.
  Status Sync();
  // Sync, also when this process wrote nothing: for what an earlier one may have left unsynced.
  Status SyncAnyway();
  bool dirty() const { return dirty_.load(std::memory_order_acquire); }

  // What an earlier process or a failed write may have left where the index knows of nothing.
  // Before such a place is given out as zeros, it must be punched.
  bool may_hold_leftovers() const { return may_hold_leftovers_.load(std::memory_order_acquire); }
  void SetMayHoldLeftovers() { may_hold_leftovers_.store(true, std::memory_order_release); }

  // The first data or hole in [offset, end); `end` when there is none.
  Result<uint64_t> SeekData(uint64_t offset, uint64_t end);
  Result<uint64_t> SeekHole(uint64_t offset, uint64_t end);
  // File::AllocatedIn.
  Result<uint64_t> AllocatedIn(uint64_t offset, uint64_t length) {
    return file_->AllocatedIn(offset, length);
  }
  Result<FileInfo> Info() { return file_->Info(); }

 private:
  Status TooShort(uint64_t end) const;
  Status Grow(uint64_t size);

  Env& env_;
  const std::string directory_;
  const std::unique_ptr<File> file_;

  std::atomic<bool> dirty_{false};
  WrittenChunks written_;  // since the last StartWriteback or Sync
  std::atomic<bool> may_hold_leftovers_;
  std::atomic<uint64_t> size_;

  Mutex grow_mu_;
  // Held across a sync, so that a caller whose data another one's sync covers waits for it, and
  // while the writeback of a chunk starts.
  Mutex sync_mu_;
  bool name_is_durable_ CAIRN_GUARDED_BY(sync_mu_);
  Status sync_failure_ CAIRN_GUARDED_BY(sync_mu_);
  // One that ended without saying how.
  bool sync_cut_short_ CAIRN_GUARDED_BY(sync_mu_) = false;
};

// All extent files of a store. Thread-safe.
class ExtentStore {
 public:
  // `dir` was made by Format. `env` outlives the store.
  // `unsynced_past`: another process may have written to any file and not synced it.
  // `most_kept`: see Keep.
  ExtentStore(Env& env, std::string dir, bool unsynced_past = false, size_t most_kept = kMostKept)
      : env_(env), dir_(std::move(dir)), most_kept_(most_kept), unsynced_past_(unsynced_past) {}
  static constexpr size_t kMostKept = 1024;

  // While there is one, each file that is opened counts as dirty, and its name as not durable.
  bool has_unsynced_past() const { return unsynced_past_.load(std::memory_order_acquire); }
  void PastIsSynced() { unsynced_past_.store(false, std::memory_order_release); }

  // Makes the folders; for a new store.
  static Status Format(Env& env, const std::string& dir);

  enum class Mode { kMustExist, kCreate };
  // One object for one file as long as anyone holds it. kCorrupt when the file must exist and does
  // not, or is shorter than `known_size`, the size in the index's extent record.
  Result<std::shared_ptr<ExtentFile>> Open(const ExtentId& id, Mode mode, uint64_t known_size);
  // Holds a file that its user may let go of, so that the next one need not open it. All volumes
  // together have `most_kept` such files: the one that was kept first goes. A file that is removed
  // is kept no longer.
  void Keep(const ExtentId& id, std::shared_ptr<ExtentFile> file);
  // Files that somebody holds, or that are kept.
  size_t open_files();
  // OK when it is not there. REQUIRES: nothing in the index refers to it durably any more, and
  // nobody opens it meanwhile: an unlink may take long, and no other file's opening is to wait for
  // it.
  Status Remove(const ExtentId& id);
  // The same for all files of a branch, those that the index does not know among them.
  Status RemoveBranch(BranchId branch);
  // Some files of one branch, durably: also their space when somebody still has them open.
  Status RemoveFiles(BranchId branch, std::span<const ExtentId> files);
  // Those of a branch that there are, known to the index or not.
  Result<std::vector<ExtentId>> FilesOf(BranchId branch);
  // kNotFound when it is not there.
  Result<FileInfo> Info(const ExtentId& id) { return env_.Info(PathOf(id)); }
  std::string PathOf(const ExtentId& id) const;
  // Every extent file there is; `stranger` gets paths that are none.
  Status ForEach(const std::function<void(const ExtentId&)>& sink,
                 const std::function<void(const std::string& path)>& stranger);

 private:
  static constexpr size_t kOpeningStripes = 16;

  std::string DirectoryOf(BranchId branch) const;
  Mutex& OpeningOf(const ExtentId& id) {
    return opening_[(id.branch.value() + id.segment.value()) % kOpeningStripes];
  }
  std::shared_ptr<ExtentFile> FindOpen(const ExtentId& id) CAIRN_REQUIRES(mu_);

  Env& env_;
  const std::string dir_;
  const size_t most_kept_;
  std::atomic<bool> unsynced_past_;

  // Held across the opening of a file, so that there is one object for it.
  std::array<Mutex, kOpeningStripes> opening_;
  Mutex mu_;
  std::map<ExtentId, std::weak_ptr<ExtentFile>> open_ CAIRN_GUARDED_BY(mu_);
  std::map<ExtentId, std::shared_ptr<ExtentFile>> kept_ CAIRN_GUARDED_BY(mu_);
  // The order in which they were.
  std::deque<ExtentId> kept_order_ CAIRN_GUARDED_BY(mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_EXTENT_STORE_H_
