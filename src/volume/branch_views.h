// BranchViews: who still needs what a branch holds.
//
// The head of the volume that the branch belongs to, snapshots and clones (records of the index),
// and, between a cut and the commit of what it is for or while two are compared, pins in memory.
// Whoever adds or takes away a view commits within one of these calls, so that none is added to a
// branch that is just found to have none.
#ifndef CAIRN_SRC_VOLUME_BRANCH_VIEWS_H_
#define CAIRN_SRC_VOLUME_BRANCH_VIEWS_H_

#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/warm/index.h"

namespace cairn {

// Thread-safe.
class BranchViews {
 public:
  // Keeps (branch, epoch) although no record says so. One Unpin for each Pin.
  void Pin(BranchId branch, Epoch epoch);
  void Unpin(BranchId branch, Epoch epoch);

  // Runs `commit` with no other change of views beside it.
  Status Change(const std::function<Status()>& commit);
  // The same of a batch that takes the head away from `branch`: it also gets a mark by which the
  // branch is reclaimed, whole or what nobody else needs. REQUIRES: reclaiming is asked for after.
  Status Abandon(Index& index, BranchId branch, IndexBatch& batch,
                 const std::function<Status()>& commit);

  struct Needs {
    // No version of a later epoch was looked at; what is in these, and older ones, may be needed.
    Epoch newest;
    // Whose versions do not change any more.
    Epoch last_ended;
    bool has_head = false;
    // Ascending, each the epoch of one or several views; the head's is `newest`.
    std::vector<Epoch> views;
  };
  // Who needs the branch; no views at all: nobody, and nobody ever will. kNotFound.
  Result<Needs> Find(Index& index, BranchId branch);
  // Takes the mark away, durably, if the branch has the views and the epoch that it had `before`,
  // and no pins. False when it has not.
  Result<bool> ClearMark(Index& index, BranchId branch, const Needs& before);
  bool IsPinned(BranchId branch);
  // Marks a branch without any view as dead, durably. False when it has got one.
  Result<bool> DeclareDead(Index& index, BranchId branch);

 private:
  Result<bool> HasOthers(Index& index, BranchId branch) CAIRN_REQUIRES(mu_);
  Result<Needs> FindLocked(Index& index, BranchId branch) CAIRN_REQUIRES(mu_);

  // Held across a commit of the index: changes of views are rare.
  Mutex mu_;
  // Memory only: taken with volumes' gates closed.
  Mutex pin_mu_;
  std::multiset<std::pair<BranchId, Epoch>> pins_ CAIRN_GUARDED_BY(pin_mu_);
};

// A pin for as long as it lives. Borrows the views.
class ViewPin {
 public:
  ViewPin(BranchViews& views, BranchId branch, Epoch epoch)
      : views_(&views), branch_(branch), epoch_(epoch) {
    views.Pin(branch, epoch);
  }
  ViewPin(ViewPin&& other) noexcept
      : views_(std::exchange(other.views_, nullptr)),
        branch_(other.branch_),
        epoch_(other.epoch_) {}
  ViewPin& operator=(ViewPin&&) = delete;
  ~ViewPin() {
    if (views_ != nullptr) views_->Unpin(branch_, epoch_);
  }

 private:
  BranchViews* views_;
  const BranchId branch_;
  const Epoch epoch_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_BRANCH_VIEWS_H_
