#include "src/volume/fsck_state.h"

#include <fmt/format.h>

#include <algorithm>

namespace cairn::fsck {
namespace {

constexpr size_t kMaxFindings = 10'000;
constexpr size_t kLargeBatch = 4096;
// More than any path can have: names of one byte in a path of PATH_MAX.
constexpr int kDeepestPath = 2048;

template <typename Entry, typename Id>
Entry* Find(std::vector<Entry>& entries, Id id) {
  const auto it = std::lower_bound(entries.begin(), entries.end(), id,
                                   [](const Entry& entry, Id wanted) { return entry.id < wanted; });
  return it != entries.end() && it->id == id ? &*it : nullptr;
}

}  // namespace

bool State::Add(FsckFinding finding, Repair offered) {
  finding.repaired = repairing() && offered == Repair::kYes;
  const bool repaired = finding.repaired;
  switch (finding.severity) {
    case FsckSeverity::kDamage:
      ++report.damage_count;
      if (!repaired) ++report.unrepaired_damage_count;
      break;
    case FsckSeverity::kLeak:
      ++report.leak_count;
      report.leaked_bytes += finding.bytes;
      break;
    case FsckSeverity::kNote:
      ++report.note_count;
      break;
  }
  if (report.findings.size() < kMaxFindings) {
    report.findings.push_back(std::move(finding));
  } else {
    ++report.omitted;
  }
  return repaired;
}

Status State::Tolerate(Status status) const {
  if (!index_readable && status.code() == Code::kCorrupt) return Status::Ok();
  return status;
}

Status State::CommitIfLarge(IndexBatch& batch) {
  return batch.count() >= kLargeBatch ? Commit(batch) : Status::Ok();
}

Status State::Commit(IndexBatch& batch) {
  Status status = store.index().Commit(batch);
  batch.Clear();
  return status;
}

void State::Progress(std::string_view part, uint64_t done, uint64_t total) const {
  if (options.progress) options.progress(part, done, total);
}

InodeEntry* State::FindInode(InodeId id) { return Find(inodes, id); }
BranchEntry* State::FindBranch(BranchId id) { return Find(branches, id); }

bool State::IsDead(BranchId id) const { return std::binary_search(dead.begin(), dead.end(), id); }

bool State::IsReferenced(BranchId id) const {
  return std::binary_search(referenced.begin(), referenced.end(), id);
}

Result<std::optional<std::string>> State::Listing(InodeId parent, InodeId child) {
  std::optional<std::string> found;
  CAIRN_RETURN_IF_ERROR(store.index().ForEachChild(parent, InodeId(child.value() - 1),
                                                   [&](InodeId id, std::string_view name) {
                                                     if (id == child) found = std::string(name);
                                                     return false;
                                                   }));
  return found;
}

std::string State::PathOf(InodeId id) {
  std::string path;
  for (int depth = 0; id != kRootInode && depth < kDeepestPath; ++depth) {
    if (id == kSnapshotsInode) return "/.snapshots" + path;
    const InodeEntry* const entry = FindInode(id);
    if (entry == nullptr) break;
    auto name = Listing(entry->record.parent, id);
    if (!name.ok() || !*name) {
      return fmt::format("inode {}{}", id.value(), path);
    }
    path = "/" + **name + path;
    id = entry->record.parent;
  }
  return path.empty() ? "/" : path;
}

std::string State::NameOf(BranchId id) {
  const BranchEntry* const branch = FindBranch(id);
  if (branch == nullptr || branch->volume == nullptr) return fmt::format("branch {}", id.value());
  return PathOf(branch->volume->id);
}

std::string KeyText(std::string_view key) {
  if (key.empty()) return "an empty key";
  std::string text(1, key[0]);
  const bool printable = key[0] >= ' ' && key[0] <= '~';
  if (!printable) text = fmt::format("\\x{:02x}", static_cast<unsigned char>(key[0]));
  for (const char c : key.substr(1)) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return "key " + text;
}

}  // namespace cairn::fsck
