// Branches: each volume has its own, each has a volume or a clone that needs it, and parents lead
// to a first one. Also the records that hang on files: extended attributes, marks of deletion.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "src/volume/fsck_state.h"
#include "src/warm/warm_format.h"

namespace cairn::fsck {
namespace {

using Severity = FsckSeverity;
using Repair = State::Repair;

class BranchChecker {
 public:
  explicit BranchChecker(State& state) : state_(state) {}

  Status Run() {
    FindShared();
    for (const InodeEntry& inode : state_.inodes) {
      if (inode.record.kind == FileKind::kVolume) CheckVolume(inode);
    }
    for (const BranchEntry& branch : state_.branches) CheckParent(branch);
    CheckCircles();
    for (const BranchEntry& branch : state_.branches) CheckUsed(branch);
    for (const BranchId id : state_.dead) {
      state_.Add({Severity::kNote, "dead-branch", fmt::format("branch {}", id.value()),
                  "its volume was deleted; the next mount frees its space"},
                 Repair::kNo);
    }
    return state_.Commit(batch_);
  }

 private:
  bool Damage(const char* code, std::string where, std::string what, Repair offered) {
    return state_.Add({Severity::kDamage, code, std::move(where), std::move(what)}, offered);
  }
  static std::string Name(BranchId id) { return fmt::format("branch {}", id.value()); }

  // Before any of them is taken for the owner.
  void FindShared() {
    std::set<BranchId> seen;
    for (const InodeEntry& inode : state_.inodes) {
      if (inode.record.kind != FileKind::kVolume) continue;
      if (seen.insert(inode.record.branch).second) continue;
      if (BranchEntry* const branch = state_.FindBranch(inode.record.branch)) branch->shared = true;
    }
  }

  void CheckVolume(const InodeEntry& volume) {
    const BranchId id = volume.record.branch;
    const bool is_dead = state_.IsDead(id);
    // What is being deleted may have lost its branch already.
    if (volume.orphan && is_dead) return;
    BranchEntry* const branch = state_.FindBranch(id);
    if (branch == nullptr) {
      Damage("branch-missing", state_.PathOf(volume.id),
             fmt::format("the record of its branch {} is missing", id.value()), Repair::kNo);
      return;
    }
    if (branch->volume != nullptr) {
      Damage("branch-shared", state_.PathOf(volume.id),
             fmt::format("its branch {} is also that of {}", id.value(),
                         state_.PathOf(branch->volume->id)),
             Repair::kNo);
      return;
    }
    branch->volume = &volume;
    // Of several volumes its record may name any.
    if (branch->record.inode != volume.id && !branch->shared) {
      const uint64_t wrong = branch->record.inode.value();
      branch->record.inode = volume.id;
      if (Damage("branch-owner", state_.PathOf(volume.id),
                 fmt::format("the record of its branch {} names inode {}", id.value(), wrong),
                 Repair::kYes)) {
        batch_.PutBranch(id, branch->record);
      }
    }
    if (is_dead &&
        Damage("branch-dead", state_.PathOf(volume.id),
               fmt::format("its branch {} is marked for removal", id.value()), Repair::kYes)) {
      batch_.DeleteDeadBranch(id);
      std::erase(state_.dead, id);
    }
  }

  void CheckParent(const BranchEntry& branch) {
    const BranchId parent_id = branch.record.parent;
    if (parent_id == BranchId(0) || state_.IsDead(branch.id)) return;
    BranchEntry* const parent = state_.FindBranch(parent_id);
    if (parent == nullptr) {
      Damage("parent-missing", state_.NameOf(branch.id),
             fmt::format("the record of branch {}, from which branch {} was cloned, is missing",
                         parent_id.value(), branch.id.value()),
             Repair::kNo);
      return;
    }
    // What a clone sees does not change any more.
    if (branch.record.parent_epoch >= parent->record.epoch) {
      Damage("parent-epoch", state_.NameOf(branch.id),
             fmt::format("it was cloned from epoch {} of branch {}, which is at epoch {}",
                         branch.record.parent_epoch.value(), parent_id.value(),
                         parent->record.epoch.value()),
             Repair::kNo);
    }
  }

  // Goes up from each branch; one that is met again on the way up is in a circle.
  void CheckCircles() {
    enum class Mark : uint8_t { kUnseen, kOnPath, kDone };
    std::vector<Mark> marks(state_.branches.size(), Mark::kUnseen);
    for (const BranchEntry& branch : state_.branches) {
      std::vector<size_t> path;
      const BranchEntry* at = &branch;
      for (; at != nullptr; at = state_.FindBranch(at->record.parent)) {
        const auto index = static_cast<size_t>(at - state_.branches.data());
        if (marks[index] != Mark::kUnseen) break;
        marks[index] = Mark::kOnPath;
        path.push_back(index);
      }
      if (at != nullptr &&
          marks[static_cast<size_t>(at - state_.branches.data())] == Mark::kOnPath) {
        Damage("branch-circle", state_.NameOf(at->id),
               fmt::format("branch {} descends from itself", at->id.value()), Repair::kNo);
      }
      for (const size_t index : path) marks[index] = Mark::kDone;
    }
  }

  void CheckUsed(const BranchEntry& branch) {
    if (branch.volume != nullptr || !branch.views.empty() || branch.to_be_cleaned ||
        !state_.index_readable || state_.IsDead(branch.id))
      return;
    Damage("branch-without-volume", Name(branch.id),
           fmt::format("no volume leads to it (it was that of inode {}); its data is kept",
                       branch.record.inode.value()),
           Repair::kNo);
  }

  State& state_;
  IndexBatch batch_;
};

}  // namespace

Status CheckAttributes(State& state) {
  IndexBatch batch;
  const auto check = [&](const char* code, InodeId inode, std::string_view key) {
    if (state.FindInode(inode) != nullptr) return;
    if (state.Add({Severity::kLeak, code, KeyText(key),
                   fmt::format("inode {} does not exist", inode.value())},
                  Repair::kYes)) {
      batch.DeleteRaw(std::string(key));
    }
  };
  CAIRN_RETURN_IF_ERROR(state.Tolerate(
      state.store.index().ForEachRaw(KeyKind::kXattr, [&](std::string_view key, std::string_view) {
        auto parts = DecodeIdNameKey(key);
        if (parts.ok()) check("attribute-without-file", InodeId(parts->id), key);
        return true;
      })));
  CAIRN_RETURN_IF_ERROR(state.Tolerate(
      state.store.index().ForEachRaw(KeyKind::kOrphan, [&](std::string_view key, std::string_view) {
        auto id = DecodeIdKey(key);
        if (id.ok()) check("orphan-without-file", InodeId(*id), key);
        return true;
      })));
  return state.Commit(batch);
}

Status CheckBranches(State& state) { return BranchChecker(state).Run(); }

}  // namespace cairn::fsck
