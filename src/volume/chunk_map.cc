#include "src/volume/chunk_map.h"

#include "src/base/check.h"

namespace cairn {

const std::vector<LowerPiece>& ChunkLeaf::Lower(ChunkIndex chunk) const {
  static const std::vector<LowerPiece> none;
  if (lower_.empty()) [[likely]] {
    return none;
  }
  const auto found = lower_.find(chunk.value() % kChunks);
  return found == lower_.end() ? none : found->second;
}

BlockMask ChunkLeaf::LowerData(ChunkIndex chunk) const {
  BlockMask data = 0;
  for (const LowerPiece& piece : Lower(chunk)) {
    if (piece.kind != LowerPiece::Kind::kZero) data |= piece.mask;
  }
  return data;
}

BlockMask ChunkLeaf::ZerosOf(ChunkIndex chunk, BranchId branch, Epoch epoch) const {
  BlockMask zeros = 0;
  for (const LowerPiece& piece : Lower(chunk)) {
    const bool own = piece.branch == branch && piece.epoch == epoch;
    if (own && piece.kind == LowerPiece::Kind::kZero) zeros |= piece.mask;
  }
  return zeros;
}

size_t ChunkLeaf::MemoryBytes() const {
  size_t bytes = sizeof(ChunkLeaf) + 64;
  for (const auto& [number, pieces] : lower_) bytes += 64 + pieces.capacity() * sizeof(LowerPiece);
  return bytes;
}

void ChunkMapBudget::Register(ChunkMap* map) {
  MutexLock lock(mu_);
  maps_.push_back(map);
}

void ChunkMapBudget::Unregister(ChunkMap* map) {
  MutexLock lock(mu_);
  maps_.remove(map);
}

void ChunkMapBudget::Enforce() {
  const auto over = [this] {
    const uint64_t used = used_bytes_.load(std::memory_order_relaxed);
    return used > limit_bytes_ ? used - limit_bytes_ : 0;
  };
  if (over() == 0) [[likely]] {
    return;
  }
  MutexLock lock(mu_);
  // Two rounds: the first only takes the mark off leaves that were used since the last time.
  for (size_t turn = 0; turn < 2 * maps_.size() && over() > 0; ++turn) {
    maps_.front()->DropUnused(over());
    maps_.splice(maps_.end(), maps_, maps_.begin());
  }
}

ChunkMap::ChunkMap(ChunkMapBudget& budget, Loader loader)
    : budget_(budget), loader_(std::move(loader)) {
  budget_.Register(this);
}

ChunkMap::~ChunkMap() {
  budget_.Unregister(this);
  Clear();
}

Result<std::shared_ptr<ChunkLeaf>> ChunkMap::Load(uint64_t number) {
  std::shared_ptr<ChunkLeaf> leaf;
  {
    MutexLock load_lock(load_mu_);
    {
      MutexLock lock(mu_);
      const auto found = leaves_.find(number);
      if (found != leaves_.end()) return found->second.leaf;
    }
    leaf = std::make_shared<ChunkLeaf>();
    CAIRN_RETURN_IF_ERROR(loader_(number, *leaf));
    const uint64_t bytes = leaf->MemoryBytes();
    budget_.Charge(bytes);
    MutexLock lock(mu_);
    leaves_[number] = {leaf, bytes, true};
  }
  budget_.Enforce();
  return leaf;
}

uint64_t ChunkMap::DropUnused(uint64_t wanted_bytes) {
  uint64_t dropped = 0;
  MutexLock lock(mu_);
  for (auto it = leaves_.begin(); it != leaves_.end() && dropped < wanted_bytes;) {
    Entry& entry = it->second;
    if (!entry.used && entry.leaf.use_count() == 1) {
      dropped += entry.bytes;
      it = leaves_.erase(it);
    } else {
      entry.used = false;
      ++it;
    }
  }
  budget_.Refund(dropped);
  return dropped;
}

void ChunkMap::Clear() {
  MutexLock lock(mu_);
  uint64_t dropped = 0;
  for (const auto& [number, entry] : leaves_) {
    CAIRN_CHECK(entry.leaf.use_count() == 1);
    dropped += entry.bytes;
  }
  leaves_.clear();
  budget_.Refund(dropped);
}

}  // namespace cairn
