// The extent files that one volume reads and writes, opened as they are needed.
#ifndef CAIRN_SRC_VOLUME_EXTENT_SET_H_
#define CAIRN_SRC_VOLUME_EXTENT_SET_H_

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/volume/lineage.h"
#include "src/warm/extent_store.h"
#include "src/warm/index.h"

namespace cairn {

// Thread-safe. Pointers that it gives out stay good until Reset or BeginEpoch.
class ExtentSet {
 public:
  static constexpr uint64_t kSegments = kMaxVolumeSize / kSegmentSize;

  explicit ExtentSet(ExtentStore& store) : store_(store) {}

  // Starts over with the extent records of `lineage`. REQUIRES: the volume's gate is closed (or
  // nobody knows the volume yet).
  Status Reset(Index& index, const Lineage& lineage);
  // The same in two steps, of which the second cannot fail.
  using KnownSizes = std::map<ExtentId, uint64_t>;
  static Result<KnownSizes> ReadKnownSizes(Index& index, const Lineage& lineage);
  void ResetTo(const Lineage& lineage, KnownSizes known_sizes);

  // The same for a branch that has no files yet.
  void ResetToNew(const Lineage& lineage) { ResetTo(lineage, {}); }
  // The head moves on to an epoch that has no files; the ones it had stay open until a sync that
  // began later has made them durable. REQUIRES: the volume's gate is closed.
  void BeginEpoch(Epoch epoch);
  // Makes the next epoch's files of the segments whose files this one has open, which it will most
  // likely write to first, so that a writer need not wait for it. Any thread; neither inside the
  // gate nor with it closed. What fails here is left to the writer.
  void PrepareEpoch();
  // Removes what was made ahead for an epoch that has ended without it. Not by the destructor: the
  // volume may have been loaded anew by then, and use it.
  void RemoveUnused();
  // The same for all that was made ahead; no more is from here on. REQUIRES: nobody writes to the
  // volume any more.
  void RemovePrepared();

  // (branch, epoch) was removed. REQUIRES: it is not the head, and the gate is closed.
  void Forget(BranchId branch, Epoch epoch);

  // The current epoch's file of a segment, created when there is none.
  Result<ExtentFile*> HeadForWriting(SegmentIndex segment) {
    ExtentFile* const file = head_[segment.value()].load(std::memory_order_acquire);
    if (file != nullptr) [[likely]] {
      return file;
    }
    return OpenHead(segment, ExtentStore::Mode::kCreate);
  }
  // The same for a segment of which the index has versions: a missing file is kCorrupt.
  Result<ExtentFile*> HeadForReading(SegmentIndex segment) {
    ExtentFile* const file = head_[segment.value()].load(std::memory_order_acquire);
    if (file != nullptr) [[likely]] {
      return file;
    }
    return OpenHead(segment, ExtentStore::Mode::kMustExist);
  }
  // The current epoch's file if there is one, open or not; null if not.
  Result<ExtentFile*> HeadIfAny(SegmentIndex segment);
  // A file of an older epoch or a parent branch.
  Result<std::shared_ptr<ExtentFile>> Lower(const ExtentId& id);

  // ExtentFile::StartWriteback of the files that a sync would make durable.
  Status StartWriteback();
  // Makes everything durable that was written to the head's files of the epochs up to `newest`, the
  // current one unless another begins meanwhile; adds to `batch` what the index does not know of
  // them yet, which NoteRecorded is to be told when the batch was committed.
  struct Synced {
    std::map<ExtentId, uint64_t> sizes;  // new ones
    std::vector<ExtentId> drained;       // of epochs that had ended when the sync began
  };
  Result<Synced> Sync(Epoch newest, IndexBatch& batch);
  void NoteRecorded(const Synced& synced);
  bool dirty() const;

  // What all the files that the lineage sees hold on their filesystem.
  Result<uint64_t> AllocatedBytes();
  // Clean-up gave back a part of what the branch's ended epochs hold.
  void ForgetAllocatedBytes(BranchId branch);

 private:
  using Files = std::map<ExtentId, std::shared_ptr<ExtentFile>>;
  // Syncs all files that the index knows of, in case that an earlier server left them unsynced, and
  // opens those of the head. One at a time: there may be more than can be open.
  Status SyncPast();
  Result<ExtentFile*> OpenHead(SegmentIndex segment, ExtentStore::Mode mode);
  void RemoveUnusedLocked() CAIRN_REQUIRES(prepare_mu_);
  ExtentId HeadId(SegmentIndex segment) const CAIRN_REQUIRES(mu_) {
    return {head_level_.branch, head_level_.epoch, segment};
  }

  ExtentStore& store_;

  // Held while files are made ahead and removed again, so that none comes back; across that I/O,
  // which no reader or writer waits for.
  Mutex prepare_mu_;
  bool prepares_ CAIRN_GUARDED_BY(prepare_mu_) = true;

  std::array<std::atomic<ExtentFile*>, kSegments> head_{};

  mutable Mutex mu_;
  Lineage::Level head_level_ CAIRN_GUARDED_BY(mu_);
  // The head's, and all those of draining_.
  Files open_ CAIRN_GUARDED_BY(mu_);
  // Others that were opened. The store keeps as many of them as it may.
  std::map<ExtentId, std::weak_ptr<ExtentFile>> lower_ CAIRN_GUARDED_BY(mu_);
  // The files of the head's older epochs that no sync has made durable since those ended.
  std::set<ExtentId> draining_ CAIRN_GUARDED_BY(mu_);
  // Those that were made ahead and nobody has asked for yet. The store keeps them open while it has
  // room; the index learns of one when it is written to.
  std::set<ExtentId> prepared_ CAIRN_GUARDED_BY(mu_);
  // What files that nobody writes to any more hold on their filesystem; only cleaning changes it.
  std::map<ExtentId, uint64_t> settled_bytes_ CAIRN_GUARDED_BY(mu_);
  uint64_t settled_era_ CAIRN_GUARDED_BY(mu_) = 0;  // counts what was forgotten
  // The index's extent records: files that must exist, and how long they must be.
  std::map<ExtentId, uint64_t> known_sizes_ CAIRN_GUARDED_BY(mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_EXTENT_SET_H_
