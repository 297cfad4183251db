#include "src/volume/group_cut.h"

#include <fmt/format.h>

#include "src/base/give_way.h"
#include "src/base/side_by_side.h"

namespace cairn {

GroupCut::~GroupCut() {
  Open();
  for (const auto& [inode, volume] : volumes_) {
    GiveWay();
    volume->SettleCut();
  }
  const bool marked = !kept_ && !states_.empty() && MarkBranches().ok();
  for (const auto& [inode, state] : states_) context_.views->Unpin(state.branch, state.epoch);
  if (!marked) return;
  for (const auto& [inode, state] : states_) context_.reclaim_soon(state.branch);
}

// Nothing shows the epochs that ended but their volumes. That does no harm; only that nobody would
// be told when a volume has overwritten what they hold. A mark is good for epochs whose end is
// durable: a pass that knows less takes it away. Where a sync fails there are no more writes.
// REQUIRES: they are pinned, so that no branch is gone.
Status GroupCut::MarkBranches() {
  for (const auto& [inode, state] : states_) (void)volumes_.at(inode)->Sync();
  IndexBatch batch;
  for (const auto& [inode, state] : states_) batch.PutClean(state.branch);
  return context_.views->Change([&] { return context_.store->index().Commit(batch); });
}

Status GroupCut::Load(const std::vector<InodeId>& volumes) {
  for (const InodeId inode : volumes) {
    CAIRN_ASSIGN_OR_RETURN(auto volume, table_.Find(inode));
    if (volume->is_snapshot()) return Status(Code::kReadOnly, "a snapshot does not change");
    CAIRN_RETURN_IF_ERROR(volume->Health());
    volumes_[inode] = std::move(volume);
  }
  return ForEachVolume([](DiskVolume& volume) {
    volume.PrepareCut();
    if (!volume.NeedsSync()) return Status::Ok();
    volume.StartWriteback();
    return volume.Sync();
  });
}

Status GroupCut::ForEachVolume(const std::function<Status(DiskVolume&)>& work) {
  std::vector<DiskVolume*> volumes;
  for (const auto& [inode, volume] : volumes_) volumes.push_back(volume.get());
  return ForEachSideBySide(*context_.executor, kMostAtOnce, volumes.size(), [&](size_t number) {
    GiveWay();
    return work(*volumes[number]);
  });
}

Status GroupCut::Close(std::chrono::milliseconds deadline) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  closed_at_ = std::chrono::steady_clock::now();
  const Gate::Deadline end = closed_at_ + deadline;
  std::vector<Gate*> begun;
  begun.reserve(volumes_.size());  // nothing below may leave with gates closed
  const auto fail = [&](InodeId inode) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
    for (Gate* const gate : begun) gate->Open();
    return Status(Code::kDeadline,
                  fmt::format("I/O on volume {} did not end within {} ms; nothing was done",
                              inode.value(), deadline.count()));
  };
  // All begin before the first one is waited for, so that their I/O runs out side by side.
  for (const auto& [inode, volume] : volumes_) {
    if (!volume->gate().BeginClose(end)) return fail(inode);
    begun.push_back(&volume->gate());
  }
  for (const auto& [inode, volume] : volumes_) {
    if (!volume->gate().AwaitEmpty(end)) return fail(inode);
  }
  closed_ = true;
  return Status::Ok();
}

Status GroupCut::Cut() CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  CAIRN_CHECK(closed_);
  cut_ns_ = context_.clock->NowNs();
  for (const auto& [inode, volume] : volumes_) {
    CAIRN_ASSIGN_OR_RETURN(auto state, volume->Cut());
    // What has a state is pinned.
    [&, number = inode]() noexcept {
      context_.views->Pin(state.branch, state.epoch);
      states_[number] = state;
    }();
  }
  return Status::Ok();
}

void GroupCut::Open() CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  if (!closed_) return;
  for (const auto& [inode, volume] : volumes_) volume->gate().Open();
  closed_ = false;
  held_ = std::chrono::steady_clock::now() - closed_at_;
}

Status GroupCut::MakeDurable() {
  // While writers are kept out, all that counts is when it ends.
  return ForEachVolume([in_parts = !closed_](DiskVolume& volume) {
    if (in_parts) volume.StartWriteback();
    CAIRN_RETURN_IF_ERROR(volume.Sync());
    // A sync of one that was removed meanwhile does nothing.
    return volume.Health();
  });
}

}  // namespace cairn
