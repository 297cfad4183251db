#include "src/volume/volume_table.h"

#include <algorithm>

namespace cairn {

Result<std::shared_ptr<DiskVolume>> VolumeTable::Find(InodeId inode) {
  return FindCounting(inode, std::nullopt);
}
Result<std::shared_ptr<DiskVolume>> VolumeTable::Open(InodeId inode, HandleId handle) {
  return FindCounting(inode, handle);
}

bool VolumeTable::HasNoHandles(InodeId inode) {
  MountTable& table = *context_.mount_table;
  return table.counts_are_exact() && table.HandleCount(inode) == 0;
}

Result<std::shared_ptr<DiskVolume>> VolumeTable::FindCounting(InodeId inode,
                                                              std::optional<HandleId> handle) {
  Shard& shard = ShardOf(inode);
  const auto look = [&]() CAIRN_REQUIRES(shard.mu) -> Result<std::shared_ptr<DiskVolume>> {
    const auto found = shard.entries.find(inode);
    if (found == shard.entries.end()) return std::shared_ptr<DiskVolume>();
    if (found->second.claimed) return Status(Code::kStale, "the volume was removed");
    if (handle) context_.mount_table->AddHandle(inode, *handle);
    found->second.last_use = ++shard.uses;
    return found->second.volume;
  };
  {
    MutexLock lock(shard.mu);
    auto found = look();
    if (!found.ok() || *found != nullptr) return found;
  }
  MutexLock load_lock(shard.load_mu);
  {
    MutexLock lock(shard.mu);
    auto found = look();
    if (!found.ok() || *found != nullptr) return found;
  }
  CAIRN_ASSIGN_OR_RETURN(auto volume, DiskVolume::Load(context_, inode));
  // An orphan that a server before this one left is known as such by the index alone.
  CAIRN_ASSIGN_OR_RETURN(const bool unlinked, context_.store->index().HasOrphan(inode));
  MutexLock lock(shard.mu);
  Entry& entry = shard.entries[inode];
  entry.volume = volume;
  if (handle) context_.mount_table->AddHandle(inode, *handle);
  entry.unlinked = unlinked;
  entry.last_use = ++shard.uses;
  return volume;
}

std::shared_ptr<DiskVolume> VolumeTable::FindLoaded(InodeId inode) {
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mu);
  const auto found = shard.entries.find(inode);
  return found == shard.entries.end() ? nullptr : found->second.volume;
}

bool VolumeTable::ClaimUnlinked(Shard& shard, InodeId inode) {
  const auto found = shard.entries.find(inode);
  if (found == shard.entries.end()) return false;
  Entry& entry = found->second;
  if (!entry.unlinked || entry.claimed || !HasNoHandles(inode)) return false;
  entry.claimed = true;
  return true;
}

bool VolumeTable::Release(InodeId inode, HandleId handle) {
  Shard& shard = ShardOf(inode);
  {
    MutexLock lock(shard.mu);
    context_.mount_table->RemoveHandle(handle);
    if (shard.entries.contains(inode) || !HasNoHandles(inode)) return ClaimUnlinked(shard, inode);
  }
  // Opened in the time of a server before this one, and not used since.
  return ClaimOrphan(inode);
}

bool VolumeTable::ClaimOrphan(InodeId inode) {
  // Whether it has a name the index alone knows. One that cannot be loaded stays an orphan until
  // the next mount.
  const auto orphan = context_.store->index().HasOrphan(inode);
  if (!orphan.ok() || !*orphan || !Find(inode).ok()) return false;
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mu);
  return ClaimUnlinked(shard, inode);
}

bool VolumeTable::MarkUnlinked(InodeId inode) {
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mu);
  const auto found = shard.entries.find(inode);
  if (found == shard.entries.end()) return false;
  found->second.unlinked = true;
  if (found->second.claimed || !HasNoHandles(inode)) return false;
  found->second.claimed = true;
  return true;
}

bool VolumeTable::IsUnlinked(InodeId inode) {
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mu);
  const auto found = shard.entries.find(inode);
  return found != shard.entries.end() && found->second.unlinked;
}

bool VolumeTable::ClaimIdle(InodeId inode) {
  Shard& shard = ShardOf(inode);
  // Nobody is about to enter it while this is held.
  MutexLock load_lock(shard.load_mu);
  MutexLock lock(shard.mu);
  // First: a volume that is open since the time of another server need not be here.
  if (!HasNoHandles(inode)) return false;
  Entry& entry = shard.entries[inode];
  if (entry.claimed) return false;
  entry.claimed = true;
  return true;
}

void VolumeTable::Unclaim(InodeId inode) {
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mu);
  const auto found = shard.entries.find(inode);
  if (found == shard.entries.end()) return;
  if (found->second.volume == nullptr) {
    shard.entries.erase(found);
  } else {
    found->second.claimed = false;
  }
}

void VolumeTable::Drop(InodeId inode) {
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mu);
  shard.entries.erase(inode);
}

std::vector<std::shared_ptr<DiskVolume>> VolumeTable::All() {
  std::vector<std::shared_ptr<DiskVolume>> all;
  for (Shard& shard : shards_) {
    MutexLock lock(shard.mu);
    for (const auto& [inode, entry] : shard.entries) {
      if (entry.volume) all.push_back(entry.volume);
    }
  }
  return all;
}

void VolumeTable::UnloadIdle() {
  for (Shard& shard : shards_) UnloadIdle(shard);
}

void VolumeTable::UnloadIdle(Shard& shard) {
  std::vector<std::pair<uint64_t, InodeId>> idle;
  {
    MutexLock lock(shard.mu);
    for (const auto& [inode, entry] : shard.entries) {
      if (entry.unlinked || entry.claimed || context_.mount_table->HandleCount(inode) > 0) continue;
      idle.emplace_back(entry.last_use, inode);
    }
  }
  if (idle.size() <= idle_limit_per_shard_) return;
  std::sort(idle.begin(), idle.end());
  idle.resize(idle.size() - idle_limit_per_shard_);
  for (const auto& [last_use, inode] : idle) {
    const std::shared_ptr<DiskVolume> volume = FindLoaded(inode);
    // One that a failed sync poisoned must not be forgotten: loaded anew it would take writes.
    if (!volume || !volume->Health().ok()) continue;
    if (!volume->Sync().ok() || !volume->SyncTimes().ok()) continue;
    MutexLock lock(shard.mu);
    const auto found = shard.entries.find(inode);
    if (found == shard.entries.end()) continue;
    const Entry& entry = found->second;
    // Held by the table and by us: nobody can have changed it since unless they still hold it.
    const bool idle_still = context_.mount_table->HandleCount(inode) == 0 && !entry.claimed &&
                            entry.last_use == last_use;
    if (idle_still && entry.volume.use_count() == 2 && !volume->NeedsSync()) {
      if (volume->HasUnsealedRegions()) context_.note_unsealed(inode);
      shard.entries.erase(found);
    }
  }
}

}  // namespace cairn
