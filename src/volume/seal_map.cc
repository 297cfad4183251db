#include "src/volume/seal_map.h"

#include <algorithm>

namespace cairn {

bool SealMap::MustStay(const Entry& entry) {
  const RegionSeal& seal = *entry.seal;
  if (entry.seal.use_count() > 1 || entry.waits || seal.written()) return true;
  const RegionSeal::State state = seal.state();
  if (state == RegionSeal::State::kOpen) return seal.tracked();
  return state != RegionSeal::State::kSealed;
}

void SealMap::DropWhatNeedNotStay() {
  const bool room = memory_.HasRoomForSeals();
  std::erase_if(entries_, [room](const auto& entry) {
    const bool sealed = entry.second.seal->state() == RegionSeal::State::kSealed;
    return !MustStay(entry.second) && !(room && sealed);
  });
  look_at_count_ = std::max(kLeastEntries, 2 * entries_.size());
  look_without_room_at_count_ = entries_.size() + kLeastEntries;
}

Result<SealMap::Entry*> SealMap::GetLocked(const RegionId& id) {
  const auto found = entries_.find(id);
  if (found != entries_.end()) return &found->second;
  CAIRN_ASSIGN_OR_RETURN(const auto state, index_.GetRegion(id));
  const bool room = memory_.HasRoomForSeals();
  if (entries_.size() >= (room ? look_at_count_ : look_without_room_at_count_)) {
    DropWhatNeedNotStay();
  }
  Entry& entry = entries_[id];
  entry.seal = std::make_shared<RegionSeal>(memory_, id, state == RegionState::kSealed);
  return &entry;
}

Result<std::shared_ptr<RegionSeal>> SealMap::Get(const RegionId& id) {
  MutexLock lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(Entry* const entry, GetLocked(id));
  return entry->seal;
}

Status SealMap::NoteUnsealed(const RegionId& id, int64_t now_ns) {
  MutexLock lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(Entry* const entry, GetLocked(id));
  if (entry->waits || entry->seal->state() != RegionSeal::State::kOpen) return Status::Ok();
  entry->waits = true;
  entry->last_write_ns = now_ns;
  return Status::Ok();
}

std::vector<std::shared_ptr<RegionSeal>> SealMap::TakeIdle(int64_t now_ns, int64_t idle_ns,
                                                           size_t most) {
  std::vector<std::shared_ptr<RegionSeal>> idle;
  MutexLock lock(mu_);
  for (auto& [id, entry] : entries_) {
    if (entry.seal->TakeWritten()) {
      entry.waits = true;
      entry.last_write_ns = now_ns;
    }
    if (!entry.waits || entry.seal->state() != RegionSeal::State::kOpen) continue;
    // A clock that was set back starts the time anew.
    entry.last_write_ns = std::min(entry.last_write_ns, now_ns);
    if (now_ns - entry.last_write_ns >= idle_ns && idle.size() < most) idle.push_back(entry.seal);
  }
  return idle;
}

void SealMap::Settle(const RegionSeal& seal, int64_t now_ns) {
  MutexLock lock(mu_);
  const auto found = entries_.find(seal.id);
  if (found == entries_.end()) return;
  found->second.waits = seal.state() == RegionSeal::State::kOpen;
  found->second.last_write_ns = now_ns;
}

bool SealMap::HasWork() {
  MutexLock lock(mu_);
  return std::any_of(entries_.begin(), entries_.end(), [](const auto& entry) {
    return entry.second.waits || entry.second.seal->written();
  });
}

std::vector<std::shared_ptr<RegionSeal>> SealMap::All() {
  std::vector<std::shared_ptr<RegionSeal>> all;
  MutexLock lock(mu_);
  for (const auto& [id, entry] : entries_) all.push_back(entry.seal);
  return all;
}

void SealMap::SetGone(RegionSeal& seal) noexcept {
  // Waits for a sealer that is committing.
  MutexLock lock(seal.mu);
  seal.SetGone();
}

void SealMap::ForgetFrom(const RegionId& from) {
  std::vector<std::shared_ptr<RegionSeal>> forgotten;
  {
    MutexLock lock(mu_);
    for (auto it = entries_.lower_bound(from);
         it != entries_.end() && it->first.branch == from.branch && it->first.epoch == from.epoch;
         it = entries_.erase(it)) {
      forgotten.push_back(it->second.seal);
    }
  }
  for (const auto& seal : forgotten) SetGone(*seal);
}

void SealMap::ForgetAll() noexcept {
  decltype(entries_) forgotten;
  {
    MutexLock lock(mu_);
    forgotten.swap(entries_);
  }
  for (const auto& [id, entry] : forgotten) SetGone(*entry.seal);
}

}  // namespace cairn
