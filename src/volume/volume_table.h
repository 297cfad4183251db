// VolumeTable: the volumes that are loaded, one object each. Their handles are counted in the
// MountTable, and here is decided what the counts mean.
#ifndef CAIRN_SRC_VOLUME_VOLUME_TABLE_H_
#define CAIRN_SRC_VOLUME_VOLUME_TABLE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/volume/disk_volume.h"
#include "src/volume/volume_context.h"

namespace cairn {

// Thread-safe. A volume stays loaded while it has handles or unsynced changes; of the others the
// table keeps about `idle_limit`.
class VolumeTable {
 public:
  VolumeTable(VolumeContext& context, size_t idle_limit)
      : context_(context), idle_limit_per_shard_(idle_limit / kShards + 1) {}

  // Loads the volume if it is not. kStale when it was claimed for destruction.
  Result<std::shared_ptr<DiskVolume>> Find(InodeId inode);
  // The volume if it is loaded, else null.
  std::shared_ptr<DiskVolume> FindLoaded(InodeId inode);
  // Find, and counts a handle.
  Result<std::shared_ptr<DiskVolume>> Open(InodeId inode, HandleId handle);
  // Uncounts a handle. True when that leaves an unlinked volume without any: claimed for the
  // caller, who destroys it.
  bool Release(InodeId inode, HandleId handle);
  // Notes that the volume has no name any more. True when it has no handles either: claimed.
  // REQUIRES: it is loaded and held by the caller.
  bool MarkUnlinked(InodeId inode);
  bool IsUnlinked(InodeId inode);
  // Whether no program holds the volume open; false when that is not known for certain.
  bool HasNoHandles(InodeId inode);
  // True when the index knows the volume as an orphan and it has no handles: claimed.
  bool ClaimOrphan(InodeId inode);
  // Claims a volume for destruction that has no handles, loaded or not; false when it has some.
  bool ClaimIdle(InodeId inode);
  // Takes ClaimIdle back.
  void Unclaim(InodeId inode);
  // Forgets a claimed volume.
  void Drop(InodeId inode);

  std::vector<std::shared_ptr<DiskVolume>> All();
  // Unloads idle volumes beyond the limit, after syncing what they hold.
  void UnloadIdle();

 private:
  static constexpr size_t kShards = 16;
  struct Entry {
    std::shared_ptr<DiskVolume> volume;
    bool unlinked = false;
    bool claimed = false;
    uint64_t last_use = 0;
  };
  struct Shard {
    Mutex mu;
    std::unordered_map<InodeId, Entry> entries CAIRN_GUARDED_BY(mu);
    uint64_t uses CAIRN_GUARDED_BY(mu) = 0;
    // Held while a volume is loaded, so that each is loaded once. Before `mu`.
    Mutex load_mu;
  };

  bool ClaimUnlinked(Shard& shard, InodeId inode) CAIRN_REQUIRES(shard.mu);
  Shard& ShardOf(InodeId inode) { return shards_[inode.value() % kShards]; }
  Result<std::shared_ptr<DiskVolume>> FindCounting(InodeId inode, std::optional<HandleId> handle);
  void UnloadIdle(Shard& shard);

  VolumeContext& context_;
  const size_t idle_limit_per_shard_;
  std::array<Shard, kShards> shards_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_VOLUME_TABLE_H_
