// Snapshots: each has a directory in .snapshots and a record, each member a branch that holds what
// it shows. Views: one for each member and each clone, and none for anybody else.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "src/volume/fsck_state.h"
#include "src/warm/warm_format.h"

namespace cairn::fsck {
namespace {

using Severity = FsckSeverity;
using Repair = State::Repair;

class SnapshotChecker {
 public:
  explicit SnapshotChecker(State& state) : state_(state) {}

  Status Run() {
    for (const View& view : state_.views) known_[{view.branch, view.epoch, view.viewer}] = view;
    for (const InodeEntry& inode : state_.inodes) {
      if (inode.record.kind == FileKind::kSnapshot) CheckMember(inode);
      if (inode.record.parent == kSnapshotsInode && inode.names > 0) CheckTop(inode);
    }
    for (const BranchEntry& branch : state_.branches) {
      if (branch.record.parent == BranchId(0)) continue;
      Expect(
          {branch.record.parent, branch.record.parent_epoch, branch.id.value(), ViewKind::kClone},
          state_.NameOf(branch.id));
    }
    for (const auto& [key, view] : known_) Leftover(view);
    for (const BranchId id : state_.marked) CheckMark(id);
    for (const GroupEntry& group : state_.groups) CheckGroup(group);
    CAIRN_RETURN_IF_ERROR(CheckTokens());
    return state_.Commit(batch_);
  }

 private:
  using Key = std::tuple<BranchId, Epoch, uint64_t>;

  bool Damage(const char* code, std::string where, std::string what, Repair offered) {
    return state_.Add({Severity::kDamage, code, std::move(where), std::move(what)}, offered);
  }

  // Whoever sees a branch has a record that keeps it.
  void Expect(const View& view, const std::string& where) {
    const auto found = known_.find({view.branch, view.epoch, view.viewer});
    const bool good = found != known_.end() && found->second.kind == view.kind;
    if (found != known_.end()) known_.erase(found);
    if (BranchEntry* const branch = state_.FindBranch(view.branch)) {
      branch->views.push_back(view.epoch);
      branch->newest_view = std::max(branch->newest_view, view.epoch);
    }
    if (good) return;
    if (Damage("view-missing", where,
               fmt::format("nothing keeps what it needs of branch {}", view.branch.value()),
               Repair::kYes)) {
      batch_.PutView(view);
    }
  }

  void CheckMember(const InodeEntry& member) {
    const std::string path = state_.PathOf(member.id);
    Expect({member.record.branch, member.record.epoch, member.id.value(), ViewKind::kSnapshot},
           path);
    const BranchEntry* const branch = state_.FindBranch(member.record.branch);
    if (branch == nullptr) {
      Damage("branch-missing", path,
             fmt::format("the record of its branch {} is missing", member.record.branch.value()),
             Repair::kNo);
    } else if (member.record.epoch >= branch->record.epoch) {
      Damage("snapshot-epoch", path,
             fmt::format("it shows epoch {} of branch {}, which has not ended",
                         member.record.epoch.value(), branch->id.value()),
             Repair::kNo);
    }
  }

  void CheckTop(const InodeEntry& directory) {
    const bool known =
        std::any_of(state_.groups.begin(), state_.groups.end(),
                    [&](const GroupEntry& group) { return group.id == directory.id; });
    if (known) return;
    Damage("snapshot-without-record", state_.PathOf(directory.id), "the directory is no snapshot's",
           Repair::kNo);
  }

  void Leftover(const View& view) {
    if (!state_.Add(
            {Severity::kLeak, "view-without-viewer", fmt::format("branch {}", view.branch.value()),
             fmt::format("kept for {}, which does not exist", view.viewer)},
            Repair::kYes)) {
      return;
    }
    batch_.DeleteView(view);
    // The mark alone would give up what only damage has made nobody's.
    const BranchEntry* const branch = state_.FindBranch(view.branch);
    const bool used = branch != nullptr && (IsHead(*branch) || !branch->views.empty());
    if (used) batch_.PutClean(view.branch);
  }

  bool IsHead(const BranchEntry& branch) {
    const InodeEntry* const volume = state_.FindInode(branch.record.inode);
    return volume != nullptr && volume->record.kind == FileKind::kVolume &&
           volume->record.branch == branch.id;
  }

  void CheckMark(BranchId id) {
    BranchEntry* const branch = state_.FindBranch(id);
    if (branch != nullptr) {
      branch->to_be_cleaned = true;
      state_.Add({Severity::kNote, "to-be-cleaned", state_.NameOf(id),
                  "the next mount frees what nobody needs any more"},
                 Repair::kNo);
      return;
    }
    if (state_.Add({Severity::kLeak, "mark-without-branch", fmt::format("branch {}", id.value()),
                    "marked, but does not exist"},
                   Repair::kYes)) {
      batch_.DeleteClean(id);
    }
  }

  void CheckGroup(const GroupEntry& group) {
    const InodeEntry* const directory = state_.FindInode(group.id);
    if (directory != nullptr && directory->record.parent == kSnapshotsInode) return;
    if (state_.Add({Severity::kLeak, "snapshot-without-directory", group.record.name,
                    "a snapshot without its directory"},
                   Repair::kYes)) {
      batch_.DeleteGroup(group.id);
    }
  }

  Status CheckTokens() {
    return state_.Tolerate(state_.store.index().ForEachRaw(
        KeyKind::kToken, [&](std::string_view key, std::string_view value) {
          const auto id = DecodeU64(value);
          if (!id.ok()) return true;
          const bool known =
              std::any_of(state_.groups.begin(), state_.groups.end(),
                          [&](const GroupEntry& group) { return group.id == InodeId(*id); });
          if (!known && state_.Add({Severity::kLeak, "token-without-snapshot",
                                    std::string(key.substr(1)), "its snapshot does not exist"},
                                   Repair::kYes)) {
            batch_.DeleteRaw(std::string(key));
          }
          return true;
        }));
  }

  State& state_;
  IndexBatch batch_;
  std::map<Key, View> known_;  // those that nobody has asked for yet
};

}  // namespace

Status CheckSnapshots(State& state) {
  // In an index that cannot be read whole, much is missing for that reason alone.
  if (!state.index_readable) return Status::Ok();
  return SnapshotChecker(state).Run();
}

}  // namespace cairn::fsck
