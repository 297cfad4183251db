#include "src/volume/chunk_map.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "src/base/check.h"

namespace cairn {

namespace {

// Where the next piece goes.
uint16_t Position(size_t count) { return static_cast<uint16_t>(count); }

}  // namespace

LowerPieces LowerPieces::Builder::Build() {
  LowerPieces built;
  if (pieces_.empty()) return built;
  std::stable_sort(pieces_.begin(), pieces_.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  built.begins_ = std::make_unique<Begins>();
  built.masks_.reserve(pieces_.size());
  built.source_of_.reserve(pieces_.size());
  std::map<std::tuple<LowerPiece::Kind, BranchId, Epoch>, uint16_t> known;
  const Source* last = nullptr;
  size_t chunk = 0;
  for (const auto& [number, piece] : pieces_) {
    for (; chunk <= number; ++chunk) (*built.begins_)[chunk] = Position(built.masks_.size());
    const bool same = last != nullptr && last->kind == piece.kind && last->branch == piece.branch &&
                      last->epoch == piece.epoch;
    if (same) {
      built.source_of_.push_back(built.source_of_.back());
    } else {
      const auto [found, added] = known.try_emplace({piece.kind, piece.branch, piece.epoch},
                                                    static_cast<uint16_t>(built.sources_.size()));
      if (added) built.sources_.push_back({piece.kind, piece.branch, piece.epoch});
      built.source_of_.push_back(found->second);
    }
    last = &built.sources_[built.source_of_.back()];
    built.masks_.push_back(piece.mask);
  }
  for (; chunk <= kChunksPerRegion; ++chunk)
    (*built.begins_)[chunk] = Position(built.masks_.size());
  return built;
}

std::optional<LowerPieces::Found> LowerPieces::Find(ChunkIndex chunk, uint64_t block) const {
  if (!begins_) return std::nullopt;
  const uint64_t at = chunk.value() % kChunksPerRegion;
  const BlockMask bit = BlockRange(block, 1);
  for (size_t i = (*begins_)[at]; i < (*begins_)[at + 1]; ++i) {
    if (masks_[i] & bit) return Found{At(i), source_of_[i]};
  }
  return std::nullopt;
}

BlockMask LowerPieces::Covered(ChunkIndex chunk) const {
  BlockMask covered = 0;
  for (const LowerPiece piece : Of(chunk)) covered |= piece.mask;
  return covered;
}

size_t LowerPieces::MemoryBytes() const {
  return (begins_ ? sizeof(Begins) : 0) + masks_.capacity() * sizeof(BlockMask) +
         source_of_.capacity() * sizeof(uint16_t) + sources_.capacity() * sizeof(Source);
}

BlockMask ChunkLeaf::LowerData(ChunkIndex chunk) const {
  BlockMask data = 0;
  for (const LowerPiece piece : Lower(chunk)) {
    if (piece.kind != LowerPiece::Kind::kZero) data |= piece.mask;
  }
  return data;
}

BlockMask ChunkLeaf::ZerosOf(ChunkIndex chunk, BranchId branch, Epoch epoch) const {
  BlockMask zeros = 0;
  for (const LowerPiece piece : Lower(chunk)) {
    const bool own = piece.branch == branch && piece.epoch == epoch;
    if (own && piece.kind == LowerPiece::Kind::kZero) zeros |= piece.mask;
  }
  return zeros;
}

void ChunkLeaf::DeriveFrom(ChunkLeaf& old, BranchId branch, Epoch epoch) {
  LowerPieces::Builder builder;
  for (uint64_t number = 0; number < kChunks; ++number) {
    const ChunkIndex chunk(number);
    const BlockMask head = old.Head(chunk).load(std::memory_order_acquire);
    builder.Add(chunk, {LowerPiece::Kind::kExtent, branch, epoch, head});
    for (LowerPiece piece : old.Lower(chunk)) {
      piece.mask &= ~head;
      builder.Add(chunk, piece);
    }
  }
  SetLower(builder.Build());
}

size_t ChunkLeaf::MemoryBytes() const {
  return sizeof(ChunkLeaf) + 64 + lower_.MemoryBytes() + places_.MemoryBytes();
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

ChunkMap::ChunkMap(ChunkMapBudget& budget, Loader loader, Deriver deriver)
    : budget_(budget), loader_(std::move(loader)), deriver_(std::move(deriver)) {
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
    std::shared_ptr<ChunkLeaf> old;
    {
      MutexLock lock(mu_);
      const auto found = leaves_.find(number);
      if (found != leaves_.end()) {
        if (found->second.epoch == epoch_) return found->second.leaf;
        old = found->second.leaf;
      }
    }
    leaf = std::make_shared<ChunkLeaf>();
    if (old) {
      CAIRN_RETURN_IF_ERROR(deriver_(number, *old, *leaf));
    } else {
      CAIRN_RETURN_IF_ERROR(loader_(number, *leaf));
    }
    const uint64_t bytes = leaf->MemoryBytes();
    budget_.Charge(bytes);
    MutexLock lock(mu_);
    Entry& entry = leaves_[number];
    budget_.Refund(entry.bytes);
    entry = {leaf, bytes, epoch_, true};
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
