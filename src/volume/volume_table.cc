#include "src/volume/volume_table.h"

#include <algorithm>

namespace cairn {

Result<std::shared_ptr<DiskVolume>> VolumeTable::Find(InodeId inode) {
  return FindCounting(inode, 0);
}
Result<std::shared_ptr<DiskVolume>> VolumeTable::Open(InodeId inode) {
  return FindCounting(inode, 1);
}

Result<std::shared_ptr<DiskVolume>> VolumeTable::FindCounting(InodeId inode, uint32_t handles) {
  Shard& shard = ShardOf(inode);
  const auto look = [&]() CAIRN_REQUIRES(shard.mu) -> Result<std::shared_ptr<DiskVolume>> {
    const auto found = shard.entries.find(inode);
    if (found == shard.entries.end()) return std::shared_ptr<DiskVolume>();
    if (found->second.claimed) return Status(Code::kStale, "the volume was removed");
    found->second.handles += handles;
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
  entry.handles = handles;
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

bool VolumeTable::Release(InodeId inode) {
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mu);
  const auto found = shard.entries.find(inode);
  // A handle from an earlier server's time was never counted here.
  if (found == shard.entries.end() || found->second.handles == 0) return false;
  Entry& entry = found->second;
  if (--entry.handles > 0 || !entry.unlinked || entry.claimed) return false;
  entry.claimed = true;
  return true;
}

bool VolumeTable::MarkUnlinked(InodeId inode) {
  Shard& shard = ShardOf(inode);
  MutexLock lock(shard.mu);
  const auto found = shard.entries.find(inode);
  if (found == shard.entries.end()) return false;
  found->second.unlinked = true;
  if (found->second.handles > 0 || found->second.claimed) return false;
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
  Entry& entry = shard.entries[inode];
  if (entry.handles > 0 || entry.claimed) return false;
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
      if (entry.handles == 0 && !entry.unlinked && !entry.claimed)
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
    const bool idle_still = entry.handles == 0 && !entry.claimed && entry.last_use == last_use;
    if (idle_still && entry.volume.use_count() == 2 && !volume->NeedsSync()) {
      if (volume->HasUnsealedRegions()) context_.note_unsealed(inode);
      shard.entries.erase(found);
    }
  }
}

}  // namespace cairn
