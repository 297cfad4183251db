// Cuts, and what lets go of what lies beneath the head.
#include "src/base/log.h"
#include "src/volume/disk_volume.h"

namespace cairn {

Result<DiskVolume::CutState> DiskVolume::Cut() {
  CAIRN_RETURN_IF_ERROR(CheckWritable());
  const Lineage::Level ended = lineage_.head();
  CutState cut{ended.branch, ended.epoch, size_.load(std::memory_order_acquire), Record()};
  BeginEpoch();
  return cut;
}

// All or nothing: half of it, and writers would enter blocks of the ended epoch by what the next
// one holds. Where there is no memory for it the process ends, and the next server has the journal.
void DiskVolume::BeginEpoch() noexcept {
  lineage_.BeginEpoch();
  const Lineage::Level head = lineage_.head();
  extents_.BeginEpoch(head.epoch);
  map_.BeginEpoch();
  {
    MutexLock lock(pending_mu_);
    head_ = head;
  }
  changed_since_cut_.store(false);
}

bool DiskVolume::DependsOn(BranchId branch) {
  GateEntry entry(gate_);
  return lineage_.DependsOn(branch);
}

bool DiskVolume::ShowsEndOf(BranchId branch, Epoch epoch) {
  GateEntry entry(gate_);
  const Lineage::Level& head = lineage_.head();
  return head.branch == branch && head.epoch == epoch.Next() && !changed_since_cut_.load();
}

void DiskVolume::LetReadersOut(BranchId branch, const std::vector<Epoch>& removed) {
  // Who is inside now may have looked up a block before a newer version covered it; who comes later
  // finds the newer one.
  GateClosure closure(gate_);
  for (const Epoch epoch : removed) {
    extents_.Forget(branch, epoch);
    seals_.ForgetFrom({branch, epoch, 0});
  }
  // The leaves stay; what they know of those epochs' files and seals must not be used any more.
  if (!removed.empty()) ++lower_era_;
}

void DiskVolume::Switch(Replacement replacement) noexcept {
  const SyncSlot slot(*this);
  seals_.ForgetAll();
  SwitchHoldingSlot(std::move(replacement));
}

void DiskVolume::SwitchHoldingSlot(Replacement replacement) {
  map_.Clear();
  {
    MutexLock lock(pending_mu_);
    pending_.Clear();
    size_dirty_ = false;
    head_ = {replacement.branch, replacement.record.epoch};
  }
  branch_record_ = replacement.record;
  lineage_ = std::move(replacement.lineage);
  extents_.ResetTo(lineage_, std::move(replacement.known_sizes));
  next_region_to_find_.store(0);
  changed_since_cut_.store(true);
}

}  // namespace cairn
