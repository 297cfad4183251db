// BranchCleaner: gives back what a branch holds and nobody needs any more.
//
// A version of (branch, chunk, epoch) is needed block by block: by a view (a volume's head, a
// snapshot, a clone) at the same or a later epoch for which no newer version up to its own epoch
// has the block. Everything else goes, in this order, so that a crash at any point loses nothing
// that is needed and leaves nothing behind for good:
//
//   mark      the index marks the branch, in the batch that took the view away
//   records   versions lose blocks, or go
//   readers   everybody who may have looked up such a block before is let out
//   bytes     holes are punched, files removed
//   mark      goes, unless the views have changed meanwhile
//
// Who finds a mark at the start cannot know which bytes were still to be punched: such a pass also
// compares the files with the records.
#ifndef CAIRN_SRC_VOLUME_BRANCH_CLEANER_H_
#define CAIRN_SRC_VOLUME_BRANCH_CLEANER_H_

#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <vector>

#include "src/volume/branch_views.h"
#include "src/volume/volume_context.h"
#include "src/volume/volume_table.h"

namespace cairn {

// What the views leave of one chunk's versions. A pure function. `versions`: newest first;
// `views`: ascending. For each version the blocks that are needed.
std::vector<BlockMask> NeededBlocks(const std::vector<std::pair<Epoch, VersionRecord>>& versions,
                                    const std::vector<Epoch>& views);

// One pass over one branch. REQUIRES: no other pass over the same branch runs; the index journal
// holds nothing of the epochs that had ended when the needs were found.
class BranchCleaner {
 public:
  struct Options {
    // After each piece of work, so that others come to their turn.
    std::chrono::milliseconds pause{0};
    // Asked now and then; true ends the pass, and the mark stays.
    std::function<bool()> stop;
    // Also compare the files with the records.
    bool thorough = false;
  };
  enum class Outcome {
    kClean,      // the mark is gone
    kNoViews,    // nobody needs the branch: the caller reclaims it whole
    kUnsettled,  // what is left may come to be needed by nobody without a further mark
    kChanged,    // views came or went meanwhile, or the pass was stopped: once more
  };

  BranchCleaner(VolumeContext& context, VolumeTable& table, const Options& options)
      : context_(context), table_(table), options_(options) {}

  // `needs`: as found before the journal was emptied.
  Result<Outcome> Run(BranchId branch, const BranchViews::Needs& needs);

 private:
  struct Freed {
    ExtentId file;
    uint64_t offset = 0;  // in the file
    uint64_t length = 0;
  };
  using Versions = std::vector<std::pair<Epoch, VersionRecord>>;

  Index& index() { return context_.store->index(); }
  // Reads versions from `next` on and judges them; true when that was all.
  Result<bool> CleanPiece(ChunkIndex& next);
  void Judge(ChunkIndex chunk, const Versions& versions, IndexBatch& batch);
  Status LetReadersOut(const std::vector<Epoch>& removed);
  // REQUIRES: readers were let out since the pieces were freed.
  Status PunchFreed();
  Status RemoveEmptyFiles();
  Status DropSums(const ExtentId& file);
  Status CompareFiles();
  Result<Outcome> Finish();
  void Pause();

  VolumeContext& context_;
  VolumeTable& table_;
  const Options options_;
  BranchId branch_;
  BranchViews::Needs needs_;
  std::vector<Freed> freed_;    // and not punched yet
  std::set<ExtentId> kept_;     // files with blocks that are needed
  std::set<ExtentId> punched_;  // and not synced since
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_BRANCH_CLEANER_H_
