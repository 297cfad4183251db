// WarmStore: a store directory, opened. Owns its lock, superblock, index and extent files.
//
//   STORE/superblock    what it is (superblock.h)
//   STORE/lock          held while a process has the store open
//   STORE/index/        LevelDB
//   STORE/extents/      the blocks
//   STORE/reserve       blocks kept back for the index (space_reserve.h)
//   STORE/clean         only after a clean close: proof of what the index's logs held
//
// Thread-safe; Open and Close by one thread.
#ifndef CAIRN_SRC_WARM_WARM_STORE_H_
#define CAIRN_SRC_WARM_WARM_STORE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/env/env.h"
#include "src/warm/extent_store.h"
#include "src/warm/index.h"
#include "src/warm/space_reserve.h"
#include "src/warm/superblock.h"

namespace cairn {

struct WarmStoreOptions {
  // Lay out a new store when the directory is empty or absent.
  bool create = false;
  // How long to wait for another process to let go of the store, e.g. a server that is just
  // closing after its umount.
  std::chrono::milliseconds lock_wait{0};
  // A lock that is held already, by a supervisor for all of a mount's servers; null: take it.
  std::shared_ptr<FileLock> lock;
  // A server of the same mount had the store open before, and only it died: what it left unsynced
  // is synced behind the opening (SyncPast), and with each volume that is synced before that.
  bool takes_over = false;
  // What to tell others who find the store locked, e.g. "mounted at /mnt by process 42".
  std::string holder;
  // Called once the directory is known to be a store, and locked, before anything in it is mended.
  std::function<void()> on_ours;
  uint64_t index_cache_bytes = 32ull << 20;
  // Extent files that stay open while nobody uses them; see ExtentStore::Keep.
  size_t most_kept_files = ExtentStore::kMostKept;
};

class WarmStore {
 public:
  // `env` outlives the store. Errors: kBusy (names the holder), kNotFound, kCorrupt (names the
  // file), kUnsupported, kInvalid (the directory holds something else).
  static Result<std::unique_ptr<WarmStore>> Open(Env& env, const std::string& dir,
                                                 const WarmStoreOptions& options);
  // Without Close the store is as after a crash.
  ~WarmStore();

  // Closes the index and, if the caller made everything durable, leaves the mark of a clean close;
  // without it the next opening looks as closely as after a crash. An error, and no mark, when a
  // write of the index failed, also in the background. REQUIRES: nothing else is used
  // after.
  Status Close(bool all_durable = true);

  // Notes durably that the store now holds what only programs understand that know this feature.
  // To be called before the first such record is written; costs nothing when it is noted already.
  Status RequireFeature(uint64_t incompatible_feature);

  // The same for a feature that other programs may ignore.
  Status NoteFeature(uint64_t compatible_feature);

  // Makes durable what servers before this one left unsynced, if that is still to be done. Takes
  // as long as the host filesystem needs. Thread-safe.
  Status SyncPast();

  const FileLock& lock() const { return *lock_; }
  Env& env() { return env_; }
  const std::string& dir() const { return dir_; }
  const Superblock& superblock() const { return superblock_; }
  Index& index() { return *index_; }
  ExtentStore& extents() { return *extents_; }
  SpaceReserve& reserve() { return *reserve_; }
  // Whether the last process that had the store open closed it.
  bool was_clean() const { return was_clean_; }
  // How many times the store was opened without having been closed. A volume that was not trimmed
  // since the last of them may have bytes behind its end.
  uint64_t crash_count() const { return crash_count_; }
  Result<SpaceInfo> Space() { return env_.Space(dir_); }

 private:
  WarmStore(Env& env, std::string dir);
  Status TakeLock(const WarmStoreOptions& options);
  Status NoteHolder(const std::string& holder);
  // Reads the superblock, or lays out a new store.
  Status ReadOrFormat(const WarmStoreOptions& options);
  Status LayOut();
  Status OpenIndex(const WarmStoreOptions& options);
  Status SyncIndexFiles();
  Status CountCrash();
  Status SetFeature(uint64_t Superblock::*features, uint64_t feature);

  Env& env_;
  const std::string dir_;
  Mutex superblock_mu_;  // held across the write of a new feature, once in a store's life
  Superblock superblock_;
  bool was_clean_ = false;
  uint64_t crash_count_ = 0;
  std::shared_ptr<FileLock> lock_;
  std::unique_ptr<SpaceReserve> reserve_;
  std::unique_ptr<Index> index_;
  std::unique_ptr<ExtentStore> extents_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_WARM_STORE_H_
