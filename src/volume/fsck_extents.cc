// Extents: every extent file and record belongs to a branch; per branch, fsck_branch_extents.h.
#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "src/volume/fsck_branch_extents.h"
#include "src/volume/fsck_state.h"

namespace cairn::fsck {
namespace {

using Severity = FsckSeverity;
using Repair = State::Repair;

constexpr size_t kDeleteBatch = 4096;

// All extent files, by id.
Result<std::vector<ExtentId>> ListFiles(State& state) {
  std::vector<ExtentId> files;
  Status listed = state.store.extents().ForEach(
      [&](const ExtentId& id) { files.push_back(id); },
      [&](const std::string& path) {
        state.Add({Severity::kNote, "stranger", path, "not an extent file, and left alone"},
                  Repair::kNo);
      });
  if (listed.code() == Code::kNotFound) {
    state.Add(
        {Severity::kDamage, "folder-missing", state.store.dir() + "/extents", listed.context()},
        Repair::kNo);
  } else if (!listed.ok()) {
    return listed;
  }
  std::sort(files.begin(), files.end());
  state.report.extent_files = files.size();
  return files;
}

// Calls `walk` with a batch for the records of one branch until it leaves the batch empty. Large
// deletions are made in pieces.
template <typename Walk>
Status InPieces(State& state, Walk walk) {
  for (IndexBatch batch;;) {
    CAIRN_RETURN_IF_ERROR(state.Tolerate(walk(batch)));
    if (batch.empty()) return Status::Ok();
    CAIRN_RETURN_IF_ERROR(state.Commit(batch));
  }
}

// Nothing in the index knows the branch: what there is of it is nobody's.
Status DropUnknown(State& state, BranchId branch, std::span<const ExtentId> files) {
  const bool repairing = state.repairing();
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(InPieces(state, [&](IndexBatch& batch) {
    return state.store.index().ForEachVersion(
        branch, ChunkIndex(0), ChunkIndex(~uint64_t{0}),
        [&](ChunkIndex chunk, Epoch epoch, const VersionRecord&) {
          ++count;
          if (repairing) batch.DeleteVersion(branch, chunk, epoch);
          return batch.count() < kDeleteBatch;
        });
  }));
  CAIRN_RETURN_IF_ERROR(InPieces(state, [&](IndexBatch& batch) {
    return state.store.index().ForEachExtent(branch, [&](const ExtentId& id, uint64_t) {
      ++count;
      if (repairing) batch.DeleteExtent(id);
      return batch.count() < kDeleteBatch;
    });
  }));
  for (const KeyKind kind : {KeyKind::kRegion, KeyKind::kSums}) {
    CAIRN_RETURN_IF_ERROR(InPieces(state, [&](IndexBatch& batch) {
      return state.store.index().ForEachRaw(kind, branch.value(),
                                            [&](std::string_view key, std::string_view) {
                                              ++count;
                                              if (repairing) batch.DeleteRaw(std::string(key));
                                              return batch.count() < kDeleteBatch;
                                            });
    }));
  }
  if (count > 0) {
    state.Add({Severity::kLeak, "records-without-branch", fmt::format("branch {}", branch.value()),
               fmt::format("{} records of a branch that does not exist", count)},
              Repair::kYes);
  }
  for (const ExtentId& id : files) {
    auto info = state.store.extents().Info(id);
    if (!info.ok()) return std::move(info).status();
    if (state.Add({Severity::kLeak, "extent-without-branch", state.store.extents().PathOf(id),
                   "an extent file of a branch that does not exist", info->allocated_bytes},
                  Repair::kYes)) {
      CAIRN_RETURN_IF_ERROR(state.store.extents().Remove(id));
    }
  }
  return Status::Ok();
}

std::vector<BranchId> AllBranches(const State& state, const std::vector<ExtentId>& files) {
  std::vector<BranchId> all;
  for (const BranchEntry& branch : state.branches) all.push_back(branch.id);
  for (const ExtentId& id : files) all.push_back(id.branch);
  all.insert(all.end(), state.version_branches.begin(), state.version_branches.end());
  all.insert(all.end(), state.extent_branches.begin(), state.extent_branches.end());
  all.insert(all.end(), state.seal_branches.begin(), state.seal_branches.end());
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

}  // namespace

Status CheckExtents(State& state) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<ExtentId> files, ListFiles(state));
  const std::vector<BranchId> all = AllBranches(state, files);
  auto first = files.begin();
  for (size_t i = 0; i < all.size(); ++i) {
    const BranchId id = all[i];
    state.Progress("extents", i, all.size());
    const auto last =
        std::find_if(first, files.end(), [&](const ExtentId& file) { return file.branch != id; });
    const std::span<const ExtentId> own(first, last);
    first = last;
    if (state.IsDead(id)) continue;
    if (BranchEntry* const branch = state.FindBranch(id)) {
      CAIRN_RETURN_IF_ERROR(BranchExtents(state, *branch, own).Check());
    } else if (!state.IsReferenced(id)) {
      CAIRN_RETURN_IF_ERROR(DropUnknown(state, id, own));
    }
  }
  state.Progress("extents", all.size(), all.size());
  return Status::Ok();
}

}  // namespace cairn::fsck
