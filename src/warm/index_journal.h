// IndexJournal: index changes that were acknowledged and are not in LevelDB yet, in memory that
// outlives a killed server.
//
// The memory (a memfd's) belongs to the process that supervises the server. It survives the
// server and dies with the power, and that is its point: a change may be acknowledged before its
// data is durable, because whenever the data can be lost, so is the change. Layout: FORMAT.md.
//
// Two halves. Appends go to the active one; to empty it, the owner seals it (appends go on in the
// other), makes all changes durable that were appended before, and releases it. Thread-safe.
#ifndef CAIRN_SRC_WARM_INDEX_JOURNAL_H_
#define CAIRN_SRC_WARM_INDEX_JOURNAL_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/warm/geometry.h"

namespace cairn {

enum class JournalKind : uint16_t {
  kBlocks = 1,  // (branch, epoch) now holds the blocks of `mask` of `chunk` in its extent file
  kSize = 2,    // the volume `inode` is now `size` bytes long; the last entry counts
  // What was said before of the volume `inode` and its `branch` no longer holds: a sync failed, and
  // the data behind it may be gone.
  kForget = 3,
};

struct JournalEntry {
  JournalKind kind = JournalKind::kBlocks;
  // kBlocks: branch, epoch, chunk, mask. kSize: inode, size. kForget: inode, branch.
  uint64_t fields[4] = {};

  static JournalEntry Blocks(BranchId branch, Epoch epoch, ChunkIndex chunk, BlockMask mask) {
    return {JournalKind::kBlocks, {branch.value(), epoch.value(), chunk.value(), mask}};
  }
  static JournalEntry Size(InodeId inode, uint64_t size) {
    return {JournalKind::kSize, {inode.value(), size, 0, 0}};
  }
  static JournalEntry Forget(InodeId inode, BranchId branch) {
    return {JournalKind::kForget, {inode.value(), branch.value(), 0, 0}};
  }
};

class IndexJournal {
 public:
  static constexpr size_t kSmallestRegion = 64u << 10;

  // Takes over `region` (8-byte aligned, at least kSmallestRegion bytes, borrowed for the
  // journal's life). A region of zeros is a new journal. kCorrupt: the region holds something that
  // no writer of ours leaves behind, or belongs to another store; it is left as it is.
  static Result<std::unique_ptr<IndexJournal>> Open(std::span<std::byte> region,
                                                    std::span<const uint8_t, 16> store_uuid);

  // Calls `sink` for each entry, oldest first. kCorrupt at the first damaged or missing one. An
  // entry that was being written when the server died was never acknowledged and is passed over.
  // REQUIRES: no append yet.
  Status Replay(const std::function<void(const JournalEntry&)>& sink);
  // Forgets everything. REQUIRES: what Replay gave is durable; nothing is appended meanwhile.
  void Clear();

  // False when the active half is full: the caller must wait until a sealed one was released.
  bool Append(const JournalEntry& entry);
  // How full the active half is, in percent.
  int FillPercent();

  // Starts a new active half, unless the other one was not released yet. Whether there is a sealed
  // half now: of nothing none is made.
  bool Seal();
  bool has_sealed();
  // Empties the sealed half. REQUIRES: all its changes are durable.
  void Release();

 private:
  struct Header;
  struct Slot;
  IndexJournal(std::span<std::byte> region, size_t slots_per_half);

  Header& header();
  uint64_t Generation(uint64_t half);
  uint64_t Used(uint64_t half);
  void SetHalf(uint64_t half, uint64_t generation, uint64_t used);
  Slot& SlotAt(uint64_t half, size_t number);
  static uint64_t StateOf(const Slot& slot, uint64_t generation);
  // Whether `slot` holds a whole entry of `generation`.
  static bool Holds(const Slot& slot, uint64_t generation);
  Status ReplayHalf(uint64_t half, uint64_t generation,
                    const std::function<void(const JournalEntry&)>& sink);

  const std::span<std::byte> region_;
  const size_t slots_per_half_;

  Mutex mu_;
  uint64_t active_ CAIRN_GUARDED_BY(mu_) = 0;  // 0 or 1
  size_t used_ CAIRN_GUARDED_BY(mu_) = 0;      // slots of the active half
  bool sealed_ CAIRN_GUARDED_BY(mu_) = false;  // the other half waits for its release
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_INDEX_JOURNAL_H_
