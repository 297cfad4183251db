// The tree: every file is reached from the root. What is not gets a name in /lost+found.
#include <fmt/format.h>

#include <algorithm>

#include "src/base/clock.h"
#include "src/volume/fsck_state.h"

namespace cairn::fsck {
namespace {

using Severity = FsckSeverity;
using Repair = State::Repair;

constexpr std::string_view kLostAndFound = "lost+found";
constexpr int kMaxNameTries = 1000;

class TreeChecker {
 public:
  explicit TreeChecker(State& state) : state_(state) {}

  Status Run() {
    // By index: /lost+found may be added behind the end.
    const size_t count = state_.inodes.size();
    for (size_t i = 0; i < count; ++i) CAIRN_RETURN_IF_ERROR(CheckNameless(i));
    marks_.assign(count, Mark::kUnseen);
    for (size_t i = 0; i < count; ++i) CAIRN_RETURN_IF_ERROR(CheckReached(i));
    return state_.Commit(batch_);
  }

 private:
  enum class Mark : uint8_t { kUnseen, kOnPath, kDone };

  Status CheckNameless(size_t index) {
    const InodeEntry& entry = state_.inodes[index];
    if (entry.names > 0) return Status::Ok();
    const std::string where = fmt::format("inode {}", entry.id.value());
    if (entry.orphan) {
      state_.Add({Severity::kNote, "orphan", where, "deleted; the next mount frees its space"},
                 Repair::kNo);
      return Status::Ok();
    }
    if (state_.Add({Severity::kDamage, "nameless", where,
                    "no directory names it; repair gives it a name in /lost+found"},
                   Repair::kYes)) {
      return MoveToLostAndFound(index);
    }
    return Status::Ok();
  }

  // Goes up from a directory until something known; meeting the own path again is a circle.
  Status CheckReached(size_t index) {
    std::vector<size_t> path;
    size_t at = index;
    while (at < marks_.size() && marks_[at] == Mark::kUnseen) {
      const InodeEntry& entry = state_.inodes[at];
      marks_[at] = Mark::kOnPath;
      path.push_back(at);
      // The nameless have been dealt with.
      if (entry.id == kRootInode || entry.names == 0) break;
      const InodeEntry* const parent = state_.FindInode(entry.record.parent);
      if (parent == nullptr) break;
      at = static_cast<size_t>(parent - state_.inodes.data());
    }
    const bool circle = at < marks_.size() && marks_[at] == Mark::kOnPath && at != path.back();
    const bool self = !path.empty() && at == path.back() && IsOwnParent(at);
    for (const size_t passed : path) marks_[passed] = Mark::kDone;
    if (!circle && !self) return Status::Ok();
    // The member that was made first is the likeliest to have been the top.
    const auto begin = std::find(path.begin(), path.end(), at);
    return BreakCircle(*std::min_element(begin, path.end()));
  }

  bool IsOwnParent(size_t index) const {
    const InodeEntry& entry = state_.inodes[index];
    return entry.id != kRootInode && entry.names > 0 && entry.record.parent == entry.id;
  }

  Status BreakCircle(size_t index) {
    const InodeEntry& entry = state_.inodes[index];
    const InodeId parent = entry.record.parent;
    CAIRN_ASSIGN_OR_RETURN(const auto name, state_.Listing(parent, entry.id));
    if (!state_.Add(
            {Severity::kDamage, "directory-circle", fmt::format("inode {}", entry.id.value()),
             "the directory lies within itself, the root does not lead to it"},
            Repair::kYes)) {
      return Status::Ok();
    }
    if (name) batch_.DeleteName(parent, *name, entry.id);
    return MoveToLostAndFound(index);
  }

  Status MoveToLostAndFound(size_t index) {
    CAIRN_RETURN_IF_ERROR(EnsureLostAndFound());
    InodeEntry& entry = state_.inodes[index];
    const std::string base = fmt::format("inode-{}", entry.id.value());
    CAIRN_ASSIGN_OR_RETURN(const std::string name, FreeName(lost_and_found_, base));
    entry.record.parent = lost_and_found_;
    entry.names = 1;
    batch_.PutName(lost_and_found_, name, entry.id);
    batch_.PutInode(entry.id, entry.record);
    return state_.CommitIfLarge(batch_);
  }

  Status EnsureLostAndFound() {
    if (lost_and_found_ != InodeId(0)) return Status::Ok();
    auto found = state_.store.index().FindName(kRootInode, kLostAndFound);
    if (found.ok()) {
      const InodeEntry* const entry = state_.FindInode(*found);
      if (entry != nullptr && entry->record.kind == FileKind::kDirectory) {
        lost_and_found_ = *found;
        return Status::Ok();
      }
    } else if (found.status().code() != Code::kNotFound) {
      return std::move(found).status();
    }
    CAIRN_ASSIGN_OR_RETURN(const std::string name,
                           FreeName(kRootInode, std::string(kLostAndFound)));
    lost_and_found_ = InodeId(*state_.next_id);
    ++*state_.next_id;
    InodeRecord record;
    record.kind = FileKind::kDirectory;
    record.mode = 0700;
    record.parent = kRootInode;
    record.atime_ns = record.mtime_ns = record.ctime_ns = Clock::System().NowNs();
    batch_.PutInode(lost_and_found_, record);
    batch_.PutName(kRootInode, name, lost_and_found_);
    AddCounter(state_, batch_);
    // Its id is the largest, so the table stays in order.
    state_.inodes.push_back({lost_and_found_, record, 1, false});
    return Status::Ok();
  }

  // `base`, or with a number behind it when that is taken.
  Result<std::string> FreeName(InodeId directory, const std::string& base) {
    for (int i = 0; i < kMaxNameTries; ++i) {
      std::string name = i == 0 ? base : fmt::format("{}.{}", base, i);
      auto found = state_.store.index().FindName(directory, name);
      if (found.ok()) continue;
      if (found.status().code() == Code::kNotFound) return name;
      return std::move(found).status();
    }
    return Status(Code::kExists, "all names like " + base + " are taken");
  }

  State& state_;
  IndexBatch batch_;
  std::vector<Mark> marks_;
  InodeId lost_and_found_;
};

}  // namespace

Status CheckTree(State& state) {
  // In an index that cannot be read whole, names are missing for that reason alone.
  if (!state.index_readable) return Status::Ok();
  return TreeChecker(state).Run();
}

}  // namespace cairn::fsck
