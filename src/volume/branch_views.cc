#include "src/volume/branch_views.h"

#include <algorithm>

namespace cairn {

void BranchViews::Pin(BranchId branch, Epoch epoch) {
  MutexLock lock(pin_mu_);
  pins_.insert({branch, epoch});
}

void BranchViews::Unpin(BranchId branch, Epoch epoch) {
  MutexLock lock(pin_mu_);
  pins_.erase(pins_.find({branch, epoch}));
}

Status BranchViews::Change(const std::function<Status()>& commit) {
  MutexLock lock(mu_);
  return commit();
}

bool BranchViews::IsPinned(BranchId branch) {
  MutexLock lock(pin_mu_);
  const auto pin = pins_.lower_bound({branch, Epoch(0)});
  return pin != pins_.end() && pin->first == branch;
}

Result<bool> BranchViews::HasOthers(Index& index, BranchId branch) {
  if (IsPinned(branch)) return true;
  bool found = false;
  CAIRN_RETURN_IF_ERROR(index.ForEachView(branch, [&](const View&) {
    found = true;
    return false;
  }));
  return found;
}

Status BranchViews::Abandon(Index& index, BranchId branch, IndexBatch& batch,
                            const std::function<Status()>& commit) {
  MutexLock lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(const bool others, HasOthers(index, branch));
  // A clone that dies lets its parent go, too; that is for who reclaims it.
  if (others) {
    batch.PutClean(branch);
  } else {
    batch.PutDeadBranch(branch);
  }
  return commit();
}

Result<BranchViews::Needs> BranchViews::FindLocked(Index& index, BranchId branch) {
  CAIRN_ASSIGN_OR_RETURN(const BranchRecord record, index.GetBranch(branch));
  Needs needs;
  needs.newest = record.epoch;
  needs.last_ended = record.epoch;
  std::set<Epoch> views;
  {
    MutexLock lock(pin_mu_);
    for (auto pin = pins_.lower_bound({branch, Epoch(0)});
         pin != pins_.end() && pin->first == branch; ++pin) {
      views.insert(pin->second);
    }
  }
  CAIRN_RETURN_IF_ERROR(index.ForEachView(branch, [&](const View& view) {
    views.insert(view.epoch);
    return true;
  }));
  auto volume = index.GetInode(record.inode);
  if (!volume.ok() && volume.status().code() != Code::kNotFound) return std::move(volume).status();
  if (volume.ok() && volume->kind == FileKind::kVolume && volume->branch == branch) {
    views.insert(record.epoch);
    needs.has_head = true;
    needs.last_ended = Epoch(record.epoch.value() - 1);
  }
  needs.views.assign(views.begin(), views.end());
  return needs;
}

Result<BranchViews::Needs> BranchViews::Find(Index& index, BranchId branch) {
  MutexLock lock(mu_);
  return FindLocked(index, branch);
}

Result<bool> BranchViews::ClearMark(Index& index, BranchId branch, const Needs& before) {
  MutexLock lock(mu_);
  if (IsPinned(branch)) return false;
  CAIRN_ASSIGN_OR_RETURN(const Needs now, FindLocked(index, branch));
  // An epoch that ended meanwhile may have had views that are gone again: then the mark is theirs.
  if (now.has_head != before.has_head || now.newest != before.newest || now.views != before.views) {
    return false;
  }
  IndexBatch batch;
  batch.DeleteClean(branch);
  CAIRN_RETURN_IF_ERROR(index.Commit(batch));
  return true;
}

Result<bool> BranchViews::DeclareDead(Index& index, BranchId branch) {
  MutexLock lock(mu_);
  CAIRN_ASSIGN_OR_RETURN(const Needs needs, FindLocked(index, branch));
  if (!needs.views.empty()) return false;
  IndexBatch batch;
  batch.PutDeadBranch(branch);
  batch.DeleteClean(branch);
  CAIRN_RETURN_IF_ERROR(index.Commit(batch));
  return true;
}

}  // namespace cairn
