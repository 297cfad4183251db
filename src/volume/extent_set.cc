#include "src/volume/extent_set.h"

#include <algorithm>

namespace cairn {

Result<ExtentSet::KnownSizes> ExtentSet::ReadKnownSizes(Index& index, const Lineage& lineage) {
  KnownSizes known_sizes;
  for (const Lineage::Level& level : lineage.levels()) {
    CAIRN_RETURN_IF_ERROR(index.ForEachExtent(level.branch, [&](const ExtentId& id, uint64_t size) {
      if (id.epoch <= level.epoch) known_sizes[id] = size;
      return true;
    }));
  }
  return known_sizes;
}

Status ExtentSet::Reset(Index& index, const Lineage& lineage) {
  CAIRN_ASSIGN_OR_RETURN(KnownSizes known_sizes, ReadKnownSizes(index, lineage));
  ResetTo(lineage, std::move(known_sizes));
  return Status::Ok();
}

void ExtentSet::ResetTo(const Lineage& lineage, KnownSizes known_sizes) {
  MutexLock lock(mu_);
  for (auto& file : head_) file.store(nullptr, std::memory_order_release);
  open_.clear();
  lower_.clear();
  draining_.clear();
  settled_bytes_.clear();
  head_level_ = lineage.head();
  known_sizes_ = std::move(known_sizes);
}

void ExtentSet::BeginEpoch(Epoch epoch) {
  MutexLock lock(mu_);
  for (uint64_t segment = 0; segment < kSegments; ++segment) {
    if (head_[segment].load(std::memory_order_relaxed) == nullptr) continue;
    draining_.insert(HeadId(SegmentIndex(segment)));
    head_[segment].store(nullptr, std::memory_order_release);
  }
  head_level_.epoch = epoch;
}

void ExtentSet::PrepareEpoch() {
  MutexLock preparing(prepare_mu_);
  if (!prepares_) return;
  std::vector<std::pair<ExtentId, uint64_t>> wanted;
  {
    MutexLock lock(mu_);
    for (uint64_t segment = 0; segment < kSegments; ++segment) {
      ExtentFile* const file = head_[segment].load(std::memory_order_acquire);
      if (file == nullptr) continue;
      ExtentId id = HeadId(SegmentIndex(segment));
      id.epoch = id.epoch.Next();
      prepared_.insert(id);
      wanted.emplace_back(id, file->size());
    }
  }
  for (const auto& [id, size] : wanted) {
    auto file = store_.Open(id, ExtentStore::Mode::kCreate, 0);
    if (!file.ok() || !(*file)->EnsureSize(size).ok()) break;
    store_.Keep(id, std::move(*file));
  }
  RemoveUnusedLocked();
}

void ExtentSet::RemoveUnused() {
  MutexLock preparing(prepare_mu_);
  RemoveUnusedLocked();
}

void ExtentSet::RemoveUnusedLocked() {
  std::set<ExtentId> unused;
  {
    MutexLock lock(mu_);
    std::erase_if(prepared_, [&](const ExtentId& id) CAIRN_REQUIRES(mu_) {
      const bool ended = id.branch != head_level_.branch || id.epoch < head_level_.epoch;
      if (ended) unused.insert(id);
      return ended;
    });
  }
  // Nobody asks for them any more. One that cannot be removed holds no block.
  for (const ExtentId& id : unused) (void)store_.Remove(id);
}

void ExtentSet::RemovePrepared() {
  MutexLock preparing(prepare_mu_);
  prepares_ = false;
  // Held until they are gone: a writer, which there should not be, would find none and make its
  // own.
  MutexLock lock(mu_);
  for (const ExtentId& id : prepared_) (void)store_.Remove(id);
  prepared_.clear();
}

void ExtentSet::Forget(BranchId branch, Epoch epoch) {
  const auto gone = [&](const ExtentId& id) { return id.branch == branch && id.epoch == epoch; };
  MutexLock lock(mu_);
  std::erase_if(open_, [&](const auto& entry) { return gone(entry.first); });
  std::erase_if(lower_, [&](const auto& entry) { return gone(entry.first); });
  // A sync whose commit is done may not have noted that yet.
  std::erase_if(draining_, gone);
  std::erase_if(known_sizes_, [&](const auto& entry) { return gone(entry.first); });
  std::erase_if(settled_bytes_, [&](const auto& entry) { return gone(entry.first); });
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
  prepared_.erase(id);
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

Result<std::shared_ptr<ExtentFile>> ExtentSet::Lower(const ExtentId& id) {
  MutexLock lock(mu_);
  const auto found = open_.find(id);
  if (found != open_.end()) return found->second;
  std::weak_ptr<ExtentFile>& lower = lower_[id];
  if (auto file = lower.lock()) return file;
  const auto known = known_sizes_.find(id);
  const uint64_t known_size = known == known_sizes_.end() ? 0 : known->second;
  CAIRN_ASSIGN_OR_RETURN(auto file, store_.Open(id, ExtentStore::Mode::kMustExist, known_size));
  lower = file;
  store_.Keep(id, file);
  return file;
}

Status ExtentSet::SyncPast() {
  std::vector<std::pair<ExtentId, bool>> known;
  {
    MutexLock lock(mu_);
    for (const auto& [id, size] : known_sizes_) known.emplace_back(id, id == HeadId(id.segment));
  }
  for (const auto& [id, head] : known) {
    if (head) {
      auto file = OpenHead(id.segment, ExtentStore::Mode::kMustExist);
      if (!file.ok() && file.status().code() != Code::kCorrupt) return std::move(file).status();
      // It may have ceased to be the head's meanwhile.
    }
    // A file that is missing or short has nothing to sync; who reads there is told.
    auto file = Lower(id);
    if (file.status().code() == Code::kCorrupt) continue;
    if (!file.ok()) return std::move(file).status();
    CAIRN_RETURN_IF_ERROR((*file)->Sync());
  }
  return Status::Ok();
}

Status ExtentSet::StartWriteback() {
  Files files;
  {
    MutexLock lock(mu_);
    files = open_;
  }
  for (const auto& [id, file] : files) CAIRN_RETURN_IF_ERROR(file->StartWriteback());
  return Status::Ok();
}

Result<ExtentSet::Synced> ExtentSet::Sync(Epoch newest, IndexBatch& batch) {
  if (store_.has_unsynced_past()) CAIRN_RETURN_IF_ERROR(SyncPast());
  Files files;
  Synced synced;
  {
    MutexLock lock(mu_);
    for (const ExtentId& id : draining_) {
      if (id.epoch > newest) continue;
      files[id] = open_[id];
      synced.drained.push_back(id);
    }
    const bool with_head = head_level_.epoch <= newest;
    for (uint64_t segment = 0; with_head && segment < kSegments; ++segment) {
      if (head_[segment].load(std::memory_order_acquire) == nullptr) continue;
      const ExtentId id = HeadId(SegmentIndex(segment));
      files[id] = open_[id];
    }
  }
  for (const auto& [id, file] : files) {
    // Taken before the sync, hence durable after it.
    const uint64_t size = file->size();
    CAIRN_RETURN_IF_ERROR(file->Sync());
    MutexLock lock(mu_);
    const auto known = known_sizes_.find(id);
    if (known != known_sizes_.end() && known->second >= size) continue;
    batch.PutExtent(id, size);
    synced.sizes[id] = size;
  }
  return synced;
}

void ExtentSet::NoteRecorded(const Synced& synced) {
  MutexLock lock(mu_);
  for (const auto& [id, size] : synced.sizes) known_sizes_[id] = size;
  for (const ExtentId& id : synced.drained) {
    if (draining_.erase(id) == 0) continue;
    // From now on it is one of those beneath the head.
    const auto file = open_.extract(id);
    lower_[id] = file.mapped();
    store_.Keep(id, file.mapped());
  }
}

bool ExtentSet::dirty() const {
  MutexLock lock(mu_);
  return std::any_of(open_.begin(), open_.end(),
                     [](const auto& entry) { return entry.second->dirty(); });
}

Result<uint64_t> ExtentSet::AllocatedBytes() {
  std::vector<ExtentId> ids;
  uint64_t bytes = 0;
  uint64_t era = 0;
  {
    MutexLock lock(mu_);
    era = settled_era_;
    const auto add = [&](const ExtentId& id) CAIRN_REQUIRES(mu_) {
      const auto settled = settled_bytes_.find(id);
      if (settled != settled_bytes_.end()) {
        bytes += settled->second;
      } else {
        ids.push_back(id);
      }
    };
    for (const auto& [id, size] : known_sizes_) add(id);
    for (const auto& [id, file] : open_) {
      if (!known_sizes_.contains(id)) add(id);
    }
  }
  for (const ExtentId& id : ids) {
    auto info = store_.Info(id);
    if (!info.ok() && info.status().code() == Code::kNotFound) continue;
    if (!info.ok()) return std::move(info).status();
    bytes += info->allocated_bytes;
    MutexLock lock(mu_);
    const bool head = id.branch == head_level_.branch && id.epoch >= head_level_.epoch;
    if (head || draining_.contains(id) || era != settled_era_) continue;
    settled_bytes_[id] = info->allocated_bytes;
  }
  return bytes;
}

void ExtentSet::ForgetAllocatedBytes(BranchId branch) {
  MutexLock lock(mu_);
  std::erase_if(settled_bytes_, [&](const auto& entry) { return entry.first.branch == branch; });
  ++settled_era_;
}

}  // namespace cairn
