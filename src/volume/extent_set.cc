#include "src/volume/extent_set.h"

#include <algorithm>

namespace cairn {

Status ExtentSet::Reset(Index& index, const Lineage& lineage) {
  std::map<ExtentId, uint64_t> known_sizes;
  for (const Lineage::Level& level : lineage.levels()) {
    CAIRN_RETURN_IF_ERROR(index.ForEachExtent(level.branch, [&](const ExtentId& id, uint64_t size) {
      if (id.epoch <= level.epoch) known_sizes[id] = size;
      return true;
    }));
  }
  ResetToNew(lineage);
  MutexLock lock(mu_);
  known_sizes_ = std::move(known_sizes);
  return Status::Ok();
}

void ExtentSet::ResetToNew(const Lineage& lineage) {
  MutexLock lock(mu_);
  for (auto& file : head_) file.store(nullptr, std::memory_order_release);
  open_.clear();
  head_level_ = lineage.head();
  known_sizes_.clear();
}

Result<ExtentFile*> ExtentSet::OpenHead(SegmentIndex segment, ExtentStore::Mode mode) {
  // Held across the opening of a file: once a segment and load.
  MutexLock lock(mu_);
  if (ExtentFile* const file = head_[segment.value()].load(std::memory_order_acquire)) return file;
  const ExtentId id = HeadId(segment);
  const auto known = known_sizes_.find(id);
  if (known != known_sizes_.end()) mode = ExtentStore::Mode::kMustExist;
  const uint64_t known_size = known == known_sizes_.end() ? 0 : known->second;
  CAIRN_ASSIGN_OR_RETURN(auto file, store_.Open(id, mode, known_size));
  ExtentFile* const pointer = file.get();
  open_[id] = std::move(file);
  head_[segment.value()].store(pointer, std::memory_order_release);
  return pointer;
}

Result<ExtentFile*> ExtentSet::HeadIfAny(SegmentIndex segment) {
  if (ExtentFile* const file = head_[segment.value()].load(std::memory_order_acquire)) return file;
  {
    MutexLock lock(mu_);
    if (!known_sizes_.contains(HeadId(segment))) return nullptr;
  }
  return OpenHead(segment, ExtentStore::Mode::kMustExist);
}

Result<ExtentFile*> ExtentSet::Lower(const ExtentId& id) {
  MutexLock lock(mu_);
  const auto found = open_.find(id);
  if (found != open_.end()) return found->second.get();
  const auto known = known_sizes_.find(id);
  const uint64_t known_size = known == known_sizes_.end() ? 0 : known->second;
  CAIRN_ASSIGN_OR_RETURN(auto file, store_.Open(id, ExtentStore::Mode::kMustExist, known_size));
  ExtentFile* const pointer = file.get();
  open_[id] = std::move(file);
  return pointer;
}

Status ExtentSet::OpenAll() {
  std::vector<std::pair<ExtentId, bool>> files;
  {
    MutexLock lock(mu_);
    for (const auto& [id, size] : known_sizes_) {
      files.emplace_back(id, id == HeadId(id.segment));
    }
  }
  for (const auto& [id, head] : files) {
    auto file = head ? OpenHead(id.segment, ExtentStore::Mode::kMustExist) : Lower(id);
    // A file that is missing or short has nothing to sync; who reads there is told.
    if (!file.ok() && file.status().code() != Code::kCorrupt) return std::move(file).status();
  }
  return Status::Ok();
}

Result<std::vector<ExtentSet::Recorded>> ExtentSet::Sync(IndexBatch& batch) {
  const bool unsynced_past = store_.has_unsynced_past();
  if (unsynced_past) CAIRN_RETURN_IF_ERROR(OpenAll());
  std::vector<std::pair<ExtentId, std::shared_ptr<ExtentFile>>> files;
  {
    MutexLock lock(mu_);
    for (const auto& [id, file] : open_) {
      if (unsynced_past || id == HeadId(id.segment)) files.emplace_back(id, file);
    }
  }
  std::vector<Recorded> recorded;
  for (const auto& [id, file] : files) {
    // Taken before the sync, hence durable after it.
    const uint64_t size = file->size();
    CAIRN_RETURN_IF_ERROR(file->Sync());
    MutexLock lock(mu_);
    if (id != HeadId(id.segment)) continue;
    const auto known = known_sizes_.find(id);
    if (known != known_sizes_.end() && known->second >= size) continue;
    batch.PutExtent(id, size);
    recorded.push_back({id.segment, size});
  }
  return recorded;
}

void ExtentSet::NoteRecorded(const std::vector<Recorded>& recorded) {
  MutexLock lock(mu_);
  for (const Recorded& record : recorded) known_sizes_[HeadId(record.segment)] = record.size;
}

bool ExtentSet::dirty() const {
  MutexLock lock(mu_);
  return std::any_of(open_.begin(), open_.end(),
                     [](const auto& entry) { return entry.second->dirty(); });
}

Result<uint64_t> ExtentSet::AllocatedBytes() {
  std::vector<ExtentId> ids;
  {
    MutexLock lock(mu_);
    for (const auto& [id, size] : known_sizes_) ids.push_back(id);
    for (const auto& [id, file] : open_) {
      if (!known_sizes_.contains(id)) ids.push_back(id);
    }
  }
  uint64_t bytes = 0;
  for (const ExtentId& id : ids) {
    auto info = store_.Info(id);
    if (info.ok()) {
      bytes += info->allocated_bytes;
    } else if (info.status().code() != Code::kNotFound) {
      return std::move(info).status();
    }
  }
  return bytes;
}

}  // namespace cairn
