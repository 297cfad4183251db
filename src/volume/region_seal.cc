#include "src/volume/region_seal.h"

#include "src/base/check.h"

namespace cairn {

RegionSeal::RegionSeal(SealMemory& memory, const RegionId& region, bool sealed)
    : id(region),
      memory_(memory),
      state_(sealed ? State::kSealed : State::kOpen),
      generation_(memory.NextGeneration()) {
  memory_.seals_.fetch_add(1, std::memory_order_relaxed);
}

RegionSeal::~RegionSeal() {
  FreeTouched();
  memory_.seals_.fetch_sub(1, std::memory_order_relaxed);
}

void RegionSeal::FreeTouched() {
  const Touched* const touched = touched_.exchange(nullptr);
  if (touched == nullptr) return;
  delete touched;
  memory_.touched_bytes_.fetch_sub(sizeof(Touched), std::memory_order_relaxed);
}

void RegionSeal::Open() {
  // A stuck region's checksums are those of the last seal or of the one that failed.
  if (state() == State::kSealed && !tracked()) {
    const uint64_t used = memory_.touched_bytes_.fetch_add(sizeof(Touched));
    if (used + sizeof(Touched) <= memory_.touched_limit_bytes_) {
      touched_.store(new Touched, std::memory_order_release);
    } else {
      memory_.touched_bytes_.fetch_sub(sizeof(Touched));
    }
  }
  state_.store(State::kOpen, std::memory_order_release);
}

void RegionSeal::Touch(ChunkIndex chunk, BlockMask mask) {
  Touched* const touched = touched_.load(std::memory_order_acquire);
  if (touched != nullptr) touched->Of(chunk).fetch_or(mask, std::memory_order_seq_cst);
}

void RegionSeal::BeginSealing() {
  CAIRN_CHECK(state() == State::kOpen);
  state_.store(State::kSealing, std::memory_order_release);
}

void RegionSeal::AbandonSealing() {
  if (state() == State::kSealing) state_.store(State::kOpen, std::memory_order_release);
}

void RegionSeal::FinishSealing() {
  CAIRN_CHECK(state() == State::kSealing);
  // In this order: who sees a block trusted then looks for its checksum under the new generation.
  generation_.store(memory_.NextGeneration(), std::memory_order_release);
  if (Touched* const touched = touched_.load(std::memory_order_acquire)) {
    for (auto& mask : touched->masks) mask.store(0, std::memory_order_release);
  }
  state_.store(State::kSealed, std::memory_order_release);
}

void RegionSeal::SetStuck() { state_.store(State::kStuck, std::memory_order_release); }

void RegionSeal::SetGone() { state_.store(State::kGone, std::memory_order_release); }

void RegionSeal::DropTouched() {
  if (state() == State::kSealed) FreeTouched();
}

}  // namespace cairn
