#include "src/volume/fsck.h"

#include <algorithm>

#include "src/volume/fsck_state.h"

namespace cairn {
namespace {

// Whether `status` of opening a store tells of damage, which is what fsck is there to report.
bool IsDamage(const Status& status) {
  return status.code() == Code::kCorrupt || status.code() == Code::kForged;
}

Status CheckOpened(fsck::State& state) {
  CAIRN_RETURN_IF_ERROR(fsck::CheckRecords(state));
  CAIRN_RETURN_IF_ERROR(fsck::CheckCounter(state));
  CAIRN_RETURN_IF_ERROR(fsck::CheckNames(state));
  CAIRN_RETURN_IF_ERROR(fsck::CheckTree(state));
  CAIRN_RETURN_IF_ERROR(fsck::CheckAttributes(state));
  CAIRN_RETURN_IF_ERROR(fsck::CheckSnapshots(state));
  CAIRN_RETURN_IF_ERROR(fsck::CheckBranches(state));
  CAIRN_RETURN_IF_ERROR(fsck::CheckExtents(state));
  if (state.options.check_data) CAIRN_RETURN_IF_ERROR(fsck::CheckData(state));
  fsck::CheckTables(state);
  return Status::Ok();
}

}  // namespace

std::string_view FsckSeverityName(FsckSeverity severity) {
  switch (severity) {
    case FsckSeverity::kDamage:
      return "damage";
    case FsckSeverity::kLeak:
      return "leak";
    case FsckSeverity::kNote:
      return "note";
  }
  return "unknown";
}

Result<FsckReport> CheckStore(Env& env, const std::string& dir, const FsckOptions& options) {
  FsckReport report;
  WarmStoreOptions store_options;
  store_options.holder = options.holder;
  store_options.lock_wait = options.lock_wait;
  auto opened = WarmStore::Open(env, dir, store_options);
  if (!opened.ok()) {
    if (!IsDamage(opened.status())) return std::move(opened).status();
    report.findings.push_back({FsckSeverity::kDamage, "store", dir, opened.status().context()});
    report.damage_count = report.unrepaired_damage_count = 1;
    return report;
  }
  WarmStore& store = **opened;
  if (options.repair && (store.superblock().read_only_features & ~kKnownReadOnlyFeatures) != 0) {
    return Status(
        Code::kUnsupported,
        dir + ": the store has features that this program may only read: use a newer one");
  }
  report.uuid = store.superblock().UuidText();
  report.was_clean = store.was_clean();
  fsck::State state(store, options, report);
  Status checked = CheckOpened(state);
  // Also after an error: a store that is closed in order is easier to open again.
  Status closed = store.Close();
  CAIRN_RETURN_IF_ERROR(std::move(checked));
  if (state.rewriting.ok()) CAIRN_RETURN_IF_ERROR(std::move(closed));
  return report;
}

}  // namespace cairn
