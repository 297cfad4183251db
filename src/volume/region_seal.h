// RegionSeal: whether the checksums of one region (512 chunks of one epoch of a branch) can be
// trusted, block by block.
//
//   open      blocks may be written. Untracked: no checksum is trusted. Tracked: the region was
//             sealed before, and the checksums of blocks that were not touched since still are.
//   sealing   open, and a sealer sums what is new; the first writer sets it back to open
//   sealed    all checksums are trusted, durably; before a byte changes, the index must say `open`
//   stuck     sealed or open, nobody knows which, because a commit failed. Nothing is trusted, and
//             writers must get an `open` into the index first
//   gone      the branch is not this volume's any more, or the volume was removed
//
// What readers and writers rely on:
//   - A writer that AdmitsWrite let pass has left the volume's gate before sealing begins: sealing
//     begins with the gate closed.
//   - A block's touched bit is set before its bytes change, and is only cleared together with a new
//     checksum. So a reader that finds a mismatch and the block still trusted has found damage.
#ifndef CAIRN_SRC_VOLUME_REGION_SEAL_H_
#define CAIRN_SRC_VOLUME_REGION_SEAL_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "src/base/mutex.h"
#include "src/volume/sum_cache.h"
#include "src/warm/records.h"

namespace cairn {

// What the seals of all volumes share. Thread-safe; outlives them.
class SealMemory {
 public:
  // `limit_bytes` bounds cached checksums (three quarters) and the touched masks of open regions.
  explicit SealMemory(uint64_t limit_bytes)
      : sums_(limit_bytes / 4 * 3),
        touched_limit_bytes_(limit_bytes / 4),
        most_seals_(limit_bytes / kBytesForEachSeal) {}

  SumCache& sums() { return sums_; }
  // Never the same twice, and never 0.
  uint64_t NextGeneration() { return ++generation_; }
  // Whether seals may be kept that nobody needs but to find the cached checksums again.
  bool HasRoomForSeals() const { return seals_.load(std::memory_order_relaxed) < most_seals_; }

 private:
  friend class RegionSeal;
  // A seal has some 200 bytes, which come on top of the limit: a tenth of it.
  static constexpr uint64_t kBytesForEachSeal = 2048;
  SumCache sums_;
  const uint64_t touched_limit_bytes_;
  const uint64_t most_seals_;
  std::atomic<uint64_t> seals_{0};
  std::atomic<uint64_t> touched_bytes_{0};
  std::atomic<uint64_t> generation_{0};
};

class RegionSeal {
 public:
  enum class State : uint8_t { kOpen, kSealing, kSealed, kStuck, kGone };

  RegionSeal(SealMemory& memory, const RegionId& region, bool sealed);
  ~RegionSeal();
  RegionSeal(const RegionSeal&) = delete;
  RegionSeal& operator=(const RegionSeal&) = delete;

  const RegionId id;

  // For writers inside the gate. Whether the bytes of these blocks may change without more ado.
  bool AdmitsWrite(ChunkIndex chunk, BlockMask mask) const {
    if (state_.load(std::memory_order_acquire) != State::kOpen) return false;
    const Touched* const touched = touched_.load(std::memory_order_acquire);
    return touched == nullptr || (mask & ~touched->Of(chunk).load(std::memory_order_acquire)) == 0;
  }
  void NoteWrite() {
    if (!written_.load(std::memory_order_relaxed)) written_.store(true, std::memory_order_relaxed);
  }

  // For readers inside the gate. The blocks whose checksums are trusted; to be asked for before
  // generation() and the checksums, and once more when one does not match.
  BlockMask Trusted(ChunkIndex chunk) const {
    const State state = state_.load(std::memory_order_acquire);
    if (state == State::kStuck || state == State::kGone) return 0;
    const Touched* const touched = touched_.load(std::memory_order_acquire);
    if (touched != nullptr) return ~touched->Of(chunk).load(std::memory_order_acquire);
    return state == State::kSealed ? kAllBlocks : 0;
  }
  // Under which the region's checksums are in the cache.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }

  State state() const { return state_.load(std::memory_order_acquire); }
  bool tracked() const { return touched_.load(std::memory_order_acquire) != nullptr; }
  BlockMask touched(ChunkIndex chunk) const {
    const Touched* const touched = touched_.load(std::memory_order_acquire);
    return touched == nullptr ? 0 : touched->Of(chunk).load(std::memory_order_acquire);
  }
  bool written() const { return written_.load(std::memory_order_relaxed); }
  // Whether there was a write since the last call.
  bool TakeWritten() { return written_.exchange(false, std::memory_order_relaxed); }

  // Held across the commit that opens or seals the region: others wait for that.
  Mutex mu;

  // sealed or stuck -> open, after the index says so. Tracked where memory allows.
  void Open() CAIRN_REQUIRES(mu);
  // Does nothing to an untracked region.
  void Touch(ChunkIndex chunk, BlockMask mask) CAIRN_REQUIRES(mu);
  // open -> sealing. REQUIRES: the volume's gate is closed.
  void BeginSealing() CAIRN_REQUIRES(mu);
  // sealing -> open; anything else stays.
  void AbandonSealing() CAIRN_REQUIRES(mu);
  // sealing -> sealed, after the index says so.
  void FinishSealing() CAIRN_REQUIRES(mu);
  void SetStuck() CAIRN_REQUIRES(mu);
  void SetGone() CAIRN_REQUIRES(mu);
  // Gives the touched masks of a sealed region back. REQUIRES: the volume's gate is closed.
  void DropTouched() CAIRN_REQUIRES(mu);

 private:
  struct Touched {
    std::array<std::atomic<BlockMask>, kChunksPerRegion> masks{};
    std::atomic<BlockMask>& Of(ChunkIndex chunk) { return masks[chunk.value() % kChunksPerRegion]; }
    const std::atomic<BlockMask>& Of(ChunkIndex chunk) const {
      return masks[chunk.value() % kChunksPerRegion];
    }
  };
  void FreeTouched();

  SealMemory& memory_;
  std::atomic<State> state_;
  std::atomic<bool> written_{false};
  std::atomic<uint64_t> generation_;
  std::atomic<Touched*> touched_{nullptr};  // owned
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_REGION_SEAL_H_
