// DiskVolume: the I/O path of a volume on the warm tier.
//
// Reads and writes enter the volume's gate and run side by side; what changes the shape of the
// volume (truncation, zeroing, reservation) closes it. The order on which crash safety rests:
//
//   open      `open` of the blocks' region into the index (synced), if that says `sealed` -> write
//   write     bytes into the extent file -> index change into the journal and pending_ -> visible
//             in the chunk map -> acknowledged
//   sync      take pending_ -> sync the extent files -> commit the index records (synced)
//   seal      nobody inside -> sync -> sum -> checksums and `sealed`, unless somebody wrote
//   (synced) truncate  sync -> checksums out of the index -> index without the cut-off chunks, and
//   the size (synced) -> punch the bytes
//
// so an index record is never durable before the bytes it speaks of, and bytes are never freed
// while a durable record speaks of them.
//
// Lock order: gate, chunk lock, sync slot, commit_mu_, a region's, record_mu_, pending_mu_
// (ARCHITECTURE.md has the ranks). A writer that waits for room in the journal holds gate and chunk
// lock and waits for syncs, so whoever holds the sync slot must not append to the journal.
#ifndef CAIRN_SRC_VOLUME_DISK_VOLUME_H_
#define CAIRN_SRC_VOLUME_DISK_VOLUME_H_

#include <array>
#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <optional>

#include "src/base/check.h"
#include "src/base/gate.h"
#include "src/base/mutex.h"
#include "src/volume/chunk_map.h"
#include "src/volume/extent_set.h"
#include "src/volume/lineage.h"
#include "src/volume/pending_index.h"
#include "src/volume/seal_map.h"
#include "src/volume/volume.h"
#include "src/volume/volume_context.h"
#include "src/warm/index.h"

namespace cairn {

class DiskVolume final : public Volume {
 public:
  // Loads the volume or snapshot member `inode`. kNotFound, kIsDirectory, kCorrupt. `context`
  // outlives it.
  static Result<std::shared_ptr<DiskVolume>> Load(VolumeContext& context, InodeId inode);
  ~DiskVolume() override;

  InodeId inode() const override { return inode_; }
  uint64_t size() const override { return size_.load(std::memory_order_acquire); }
  Result<size_t> Read(uint64_t offset, std::span<std::byte> out) override;
  Result<size_t> Write(uint64_t offset, std::span<const std::byte> data) override;
  Status Sync() override;
  Status Zero(uint64_t offset, uint64_t length, bool keep_size) override;
  Status Allocate(uint64_t offset, uint64_t length, bool keep_size) override;
  Status Truncate(uint64_t size) override;
  Result<uint64_t> SeekData(uint64_t offset) override;
  Result<uint64_t> SeekHole(uint64_t offset) override;

  // The file record as it is now, with size and times.
  InodeRecord Record();
  // Changes the record together with what else is in `batch`, durably, and shows the change when
  // the commit succeeded. Size, branch and kind are not `change`'s to touch.
  Status CommitRecord(IndexBatch& batch, const std::function<void(InodeRecord&)>& change);
  // The same with a commit of the caller's, e.g. one that brings in a second volume's record.
  Status CommitRecordBy(IndexBatch& batch, const std::function<void(InodeRecord&)>& change,
                        const std::function<Status()>& commit) {
    return CommitChange(batch, {change, false}, commit);
  }
  // Writes out times that changed since the record was last written, if any.
  Status SyncTimes();
  Result<uint64_t> AllocatedBytes() { return extents_.AllocatedBytes(); }
  // After files of the branch that nobody writes to any more got smaller.
  void ForgetAllocatedBytes(BranchId branch) { extents_.ForgetAllocatedBytes(branch); }
  // ExtentFile::StartWriteback of what a sync would make durable. Poisons after a failure.
  void StartWriteback();
  // Whether something would be lost if the machine stopped now; whether the journal speaks of it.
  bool NeedsSync();
  bool HasPendingIndex();
  // The volume is gone: waits for I/O inside, then refuses all with kStale.
  void Retire();
  // What a failed sync still has to say in the journal, once that has room. Does nothing for a
  // volume that is well.
  void SettleForget();
  // Why the volume refuses writes; OK when it does not.
  Status Health();

  // --- Snapshots (volume_cut.cc). A group's gates are closed by their owner in the order of inode
  // --- numbers, for no longer than it takes to call Cut on each.
  Gate& gate() { return gate_; }
  struct CutState {
    BranchId branch;
    Epoch epoch;  // what was written until now lies in it and older ones
    uint64_t size = 0;
    InodeRecord record;
  };
  // Ends the current epoch: what is written from here on goes to the next one. Does not read, write
  // or allocate for what the volume holds. What the cut shows is durable after the next Sync.
  // kReadOnly, kStale.
  Result<CutState> Cut() CAIRN_REQUIRES(gate_);
  // Makes before a cut what writers would have to wait for, and removes what was not used once the
  // volume has moved on, by a cut or to another branch. Neither inside the gate nor with it closed;
  // without effect on what the volume holds.
  void PrepareCut() { extents_.PrepareEpoch(); }
  void SettleCut() { extents_.RemoveUnused(); }
  // What was prepared for a cut that never came. REQUIRES: nobody writes to the volume any more.
  void DropPrepared() { extents_.RemovePrepared(); }
  // Whether it shows what (branch, epoch) did when that epoch ended by a cut.
  bool ShowsEndOf(BranchId branch, Epoch epoch);
  // Whether its content depends on what the branch holds.
  bool DependsOn(BranchId branch);
  // Waits until nobody reads what was resolved before. Epochs of `branch` that were `removed` are
  // forgotten.
  void LetReadersOut(BranchId branch, const std::vector<Epoch>& removed);
  // What Switch makes of the volume, prepared so that Switch cannot fail.
  struct Replacement {
    BranchId branch;
    BranchRecord record;
    Lineage lineage;
    ExtentSet::KnownSizes known_sizes;
    uint64_t size = 0;
  };
  // The volume's content is another branch's from here on, whose records are in the index.
  // REQUIRES: everything was synced with the gate closed, and the journal holds nothing of this
  // volume.
  void Switch(Replacement replacement) noexcept CAIRN_REQUIRES(gate_);
  // CommitRecordBy whose `change` may set size and branch; whoever commits the record next, before
  // Switch even, does so with both. REQUIRES: Switch follows.
  Status CommitSwitch(IndexBatch& batch, const std::function<void(InodeRecord&)>& change,
                      const std::function<Status()>& commit) CAIRN_REQUIRES(gate_) {
    return CommitChange(batch, {change, true}, commit);
  }
  bool is_snapshot() const { return is_snapshot_; }
  // A commit that decides over this volume failed and may be durable all the same.
  void Poison(const Status& why);

  // One round of sealing what had no write for a while (volume_seal_pass.cc).
  struct SealPass {
    int64_t idle_ns = 0;      // 0: also what is being written
    size_t most_regions = 1;  // at a time
    // Asked now and then; true ends the round.
    std::function<bool()> stop;
  };
  struct SealResult {
    uint64_t bytes_read = 0;
    uint64_t regions = 0;  // sealed, or looked for
  };
  Result<SealResult> SealIdleRegions(const SealPass& pass);
  // Whether a round may find something to do; whether it surely will.
  bool HasSealWork();
  bool HasUnsealedRegions();

 private:
  void BeginEpoch() noexcept CAIRN_REQUIRES(gate_);
  // Bytes of one chunk.
  struct ChunkRange {
    ChunkIndex chunk;
    uint64_t begin = 0;  // within the chunk
    uint64_t end = 0;
    uint64_t offset() const { return ChunkStart(chunk) + begin; }
    uint64_t length() const { return end - begin; }
    BlockMask touched() const { return BlocksTouched(begin, end); }
  };
  // Consecutive bytes of the head's extent file that are read or written by one call.
  struct Run {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  // The checksums of a region as a reader inside the gate needs them.
  struct RegionSums {
    BranchId branch;
    Epoch epoch;
    // Null: the region is an ended epoch's and sealed, and stays so while the reader is inside.
    const RegionSeal* seal = nullptr;
    uint64_t sealed_generation = 0;  // of such a region

    BlockMask Trusted(ChunkIndex chunk) const {
      return seal != nullptr ? seal->Trusted(chunk) : kAllBlocks;
    }
    uint64_t generation() const { return seal != nullptr ? seal->generation() : sealed_generation; }
  };
  static RegionSums SumsOf(const RegionSeal& seal) {
    return {seal.id.branch, seal.id.epoch, &seal, 0};
  }

  DiskVolume(VolumeContext& context, InodeId inode);
  Status LoadState() CAIRN_NO_THREAD_SAFETY_ANALYSIS;
  Status LoadSnapshot(const InodeRecord& record) CAIRN_NO_THREAD_SAFETY_ANALYSIS;
  // Removes what a crash may have left behind the volume's end.
  Status TrimBehindEnd(bool durably) CAIRN_NO_THREAD_SAFETY_ANALYSIS;
  Status LoadLeaf(uint64_t number, ChunkLeaf& leaf);
  // The leaf after one or several cuts.
  Status DeriveLeaf(uint64_t number, ChunkLeaf& old, ChunkLeaf& leaf);
  static ChunkRange RangeAt(uint64_t offset, uint64_t end);
  Mutex& ChunkLock(ChunkIndex chunk) { return chunk_locks_[chunk.value() % kChunkLocks]; }

  // volume_read.cc
  Status ReadRun(ChunkLeaf& leaf, const Run& run, uint64_t origin, std::span<std::byte> out)
      CAIRN_REQUIRES_SHARED(gate_);
  // Any mixture of head, lower pieces and nothing.
  Status ReadMixed(ChunkLeaf& leaf, const ChunkRange& range, BlockMask head,
                   std::span<std::byte> out) CAIRN_REQUIRES_SHARED(gate_);
  Status ReadLower(ChunkLeaf& leaf, const LowerPieces::Found& lower, uint64_t offset,
                   std::span<std::byte> out) CAIRN_REQUIRES_SHARED(gate_);
  Status ReadLowerExtent(ChunkLeaf& leaf, const LowerPieces::Found& lower, uint64_t offset,
                         std::span<std::byte> out) CAIRN_REQUIRES_SHARED(gate_);

  // While it lives, an exception poisons the volume before the gate opens: bytes may lie where no
  // record speaks of them, or behind the end, and nobody would take them away before they show. No
  // clean mark is set over a poisoned volume, so the next mount looks for such. Where there is no
  // memory even for that, the process ends, which is a crash as well.
  class PoisonedByExceptions {
   public:
    explicit PoisonedByExceptions(DiskVolume& volume) : volume_(volume) {}
    ~PoisonedByExceptions() {
      if (std::uncaught_exceptions() > before_) [[unlikely]] {
        volume_.Poison(Status(Code::kInternal, "an exception ended a change of it"));
      }
    }
    PoisonedByExceptions(const PoisonedByExceptions&) = delete;
    PoisonedByExceptions& operator=(const PoisonedByExceptions&) = delete;

   private:
    DiskVolume& volume_;
    const int before_ = std::uncaught_exceptions();
  };

  // volume_write.cc
  Status CheckWritable();
  Status WriteInside(uint64_t offset, std::span<const std::byte> data, uint64_t& done)
      CAIRN_REQUIRES_SHARED(gate_);
  Status WriteRun(const Run& run, uint64_t origin, std::span<const std::byte> data)
      CAIRN_REQUIRES_SHARED(gate_);
  // Some touched block is not in the head yet.
  Status WriteFirstTouch(ChunkLeaf& leaf, const ChunkRange& range, std::span<const std::byte> data)
      CAIRN_REQUIRES_SHARED(gate_);
  Status WriteComposed(ChunkLeaf& leaf, ExtentFile& file, const ChunkRange& range, BlockMask head,
                       std::span<const std::byte> data) CAIRN_REQUIRES_SHARED(gate_);
  // Acknowledges that the head holds the blocks `head` of `chunk`. REQUIRES: the chunk's lock, and
  // the bytes are in the extent file.
  // kReadOnly when the volume was poisoned meanwhile.
  Status RecordBlocks(ChunkLeaf& leaf, ChunkIndex chunk, BlockMask head)
      CAIRN_REQUIRES_SHARED(gate_);
  Status ExtendTo(uint64_t end) CAIRN_REQUIRES_SHARED(gate_);
  // Says in the journal what the size is about to become by a truncation, so that what it said
  // before of the size does not outlive that.
  void JournalSize(uint64_t size);
  void TouchTimes();
  void EraseBehindEnd(ExtentFile& file, uint64_t offset, uint64_t end);
  // Makes the blocks of `mask` holes in `file`, unless they are.
  Status ClearLeftovers(ExtentFile& file, ChunkIndex chunk, BlockMask mask);

  // volume_seal.cc
  // Before the bytes of the blocks `mask`, of which `range` covers some in part, change in the
  // head's file, or blocks become the head's. kCorrupt: a block that stays in part is damaged.
  Status BeforeWrite(ChunkLeaf& leaf, const ChunkRange& range, BlockMask mask)
      CAIRN_REQUIRES_SHARED(gate_) {
    RegionSeal& seal = leaf.seal();
    // A leaf of an older epoch would open that one's region and leave the current one sealed.
    CAIRN_CHECK(seal.id.epoch == lineage_.head().epoch);
    seal.NoteWrite();
    if (seal.AdmitsWrite(range.chunk, mask)) [[likely]] {
      return Status::Ok();
    }
    return OpenRegion(leaf, range, mask);
  }
  Status OpenRegion(ChunkLeaf& leaf, const ChunkRange& range, BlockMask mask)
      CAIRN_REQUIRES_SHARED(gate_);
  // Lets the index say that the region is open, unless it does.
  Status OpenRegionLocked(RegionSeal& seal) CAIRN_REQUIRES(seal.mu);
  Status UnsealTail(const RegionId& region, ChunkIndex first);
  // Compares what was read at `offset` of the volume with the checksums that there are.
  Status VerifyRead(const RegionSums& region, ExtentFile& file, uint64_t offset,
                    std::span<std::byte> out) CAIRN_REQUIRES_SHARED(gate_);
  Status VerifyBlock(const RegionSums& region, ExtentFile& file, const ChunkRange& range,
                     const ChunkSums& sums, std::span<std::byte> out) CAIRN_REQUIRES_SHARED(gate_);
  // Of the blocks `wanted`.
  Result<ChunkSums> FindSums(const RegionSums& region, ChunkIndex chunk, BlockMask wanted);
  // Before the head loses everything from chunk `first` on. REQUIRES: nobody else is inside.
  Status UnsealFrom(ChunkIndex first) CAIRN_REQUIRES_SHARED(gate_);

  // volume_seal_pass.cc
  // Goes on looking through the index for regions that nobody sealed.
  Status FindUnsealed(SealResult& result) CAIRN_REQUIRES(seal_pass_mu_);
  std::vector<std::shared_ptr<RegionSeal>> BeginSealing(const SealPass& pass)
      CAIRN_REQUIRES(seal_pass_mu_);
  Status SealRegion(RegionSeal& seal, const SealPass& pass, SealResult& result);

  // volume_shape.cc
  Status ZeroInside(uint64_t offset, uint64_t end) CAIRN_REQUIRES(gate_);
  Status ZeroChunk(const ChunkRange& range) CAIRN_REQUIRES(gate_);
  Status ZeroEdge(uint64_t offset, uint64_t end) CAIRN_REQUIRES(gate_);
  Status PunchHead(ChunkIndex chunk, BlockMask mask) CAIRN_REQUIRES(gate_);
  Status Shrink(uint64_t size) CAIRN_REQUIRES(gate_);
  Status CutOff(uint64_t size, uint64_t old_size) CAIRN_REQUIRES(gate_);
  Status ShrinkToNothing() CAIRN_REQUIRES(gate_);
  Status DeleteVersionsFrom(ChunkIndex first, IndexBatch& batch) CAIRN_REQUIRES(gate_);
  // The same when there is something beneath the head.
  Status HideVersionsFrom(ChunkIndex first, IndexBatch& batch) CAIRN_REQUIRES(gate_);
  Status HideInLeaf(const Lineage& beneath, ChunkIndex first, IndexBatch& batch)
      CAIRN_REQUIRES(gate_);
  Status PunchSegmentsFrom(uint64_t offset, uint64_t old_size) CAIRN_REQUIRES(gate_);
  Status Grow(uint64_t size) CAIRN_REQUIRES(gate_);
  // kNoSpace when what is free does not suffice for the blocks that [offset, end) lacks.
  Status CheckRoomFor(uint64_t offset, uint64_t end) CAIRN_REQUIRES(gate_);
  Status AllocateChunk(const ChunkRange& range) CAIRN_REQUIRES(gate_);

  // volume_seek.cc
  // The first chunk in [from, end) that is not all absent.
  Result<std::optional<ChunkIndex>> FirstPresent(ChunkIndex from, ChunkIndex end)
      CAIRN_REQUIRES_SHARED(gate_);
  Result<std::optional<ChunkIndex>> FirstRecorded(ChunkIndex from) CAIRN_REQUIRES_SHARED(gate_);
  // The first byte of data (or of a hole) in the range; its end when there is none.
  Result<uint64_t> SeekInChunk(const ChunkRange& range, bool data) CAIRN_REQUIRES_SHARED(gate_);

  // volume_sync.cc
  // The right to sync, or to keep others from syncing: one at a time.
  class SyncSlot {
   public:
    explicit SyncSlot(DiskVolume& volume);
    ~SyncSlot();

   private:
    DiskVolume& volume_;
  };
  // REQUIRES: the sync slot. Poisons the volume when it fails.
  Status SyncHoldingSlot();
  Status SyncAndCommit();
  Status CommitPending(const Lineage::Level& head, const PendingIndex::Epochs& epochs,
                       bool with_record, IndexBatch& batch);
  InodeRecord RecordLocked() CAIRN_REQUIRES(record_mu_);
  struct RecordChange {
    const std::function<void(InodeRecord&)>& apply;
    bool sets_size = false;
  };
  // disk_volume.cc
  Status CommitChange(IndexBatch& batch, const RecordChange& change,
                      const std::function<Status()>& commit);

  void SwitchHoldingSlot(Replacement replacement) CAIRN_REQUIRES(gate_);

  static constexpr uint64_t kChunkLocks = 64;

  VolumeContext& context_;
  const InodeId inode_;
  // Set while loading. A snapshot takes no changes, as nothing does on a read-only mount.
  bool is_snapshot_ = false;
  bool read_only_ = false;

  Gate gate_;
  ChunkMap map_;
  ExtentSet extents_;
  SealMap seals_;
  std::array<Mutex, kChunkLocks> chunk_locks_;
  // Changed with the gate closed only.
  Lineage lineage_ CAIRN_GUARDED_BY(gate_);
  // Of what leaves know of the places beneath the head (lower_places.h); grows with the gate
  // closed, when epochs there are removed.
  uint64_t lower_era_ CAIRN_GUARDED_BY(gate_) = 1;

  std::atomic<uint64_t> size_{0};
  std::atomic<int64_t> mtime_ns_{0};
  std::atomic<int64_t> ctime_ns_{0};
  std::atomic<bool> times_dirty_{false};
  // False only when it is known: a volume that was loaded has been written to since its last cut,
  // or not.
  std::atomic<bool> changed_since_cut_{true};
  std::atomic<bool> refuses_writes_{false};
  std::atomic<bool> retired_{false};

  // Held across a round of sealing: one runs at a time.
  Mutex seal_pass_mu_;
  // From here on the index was not looked through yet.
  std::atomic<uint64_t> next_region_to_find_{0};

  // Held across the commit of the file record, so that records reach the index in the order of
  // their changes.
  Mutex commit_mu_;
  Mutex record_mu_;
  InodeRecord record_ CAIRN_GUARDED_BY(record_mu_);  // size and times: see above

  Mutex pending_mu_;
  PendingIndex pending_ CAIRN_GUARDED_BY(pending_mu_);
  bool size_dirty_ CAIRN_GUARDED_BY(pending_mu_) = false;
  // A size is on its way into the index, and only there.
  bool size_syncing_ CAIRN_GUARDED_BY(pending_mu_) = false;
  bool forget_owed_ CAIRN_GUARDED_BY(pending_mu_) = false;
  // Of the branch that record_ names; what the pending changes are about. Its epoch may be ahead of
  // the index.
  Lineage::Level head_ CAIRN_GUARDED_BY(pending_mu_);

  // As the index has it. For who has the sync slot.
  BranchRecord branch_record_;

  // One sync runs at a time; those who come meanwhile share the next one.
  Mutex sync_mu_;
  CondVar sync_done_;
  bool sync_running_ CAIRN_GUARDED_BY(sync_mu_) = false;
  uint64_t syncs_started_ CAIRN_GUARDED_BY(sync_mu_) = 0;
  uint64_t syncs_done_ CAIRN_GUARDED_BY(sync_mu_) = 0;

  Mutex health_mu_;
  Status health_ CAIRN_GUARDED_BY(health_mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_DISK_VOLUME_H_
