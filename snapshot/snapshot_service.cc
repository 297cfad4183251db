#include "snapshot/snapshot_service.h"

namespace cairn {
namespace {

Status NotYet() { return Status(Code::kUnsupported, "this version cannot do that yet"); }

}  // namespace

class SnapshotService::Impl {};

SnapshotService::SnapshotService(Filesystem&) : impl_(std::make_unique<Impl>()) {}
SnapshotService::~SnapshotService() = default;

Result<CreateResult> SnapshotService::Create(const SnapshotRequest&, const Caller&) {
  return NotYet();
}
Result<std::vector<SnapshotInfo>> SnapshotService::List() { return NotYet(); }
Result<SnapshotInfo> SnapshotService::Show(InodeId) { return NotYet(); }
Result<InodeId> SnapshotService::Find(std::string_view) { return NotYet(); }
Result<InodeId> SnapshotService::SnapshotOf(InodeId) { return NotYet(); }
Status SnapshotService::Delete(InodeId, const Caller&) { return NotYet(); }
Result<RollbackResult> SnapshotService::Rollback(InodeId, const Caller&,
                                                 std::chrono::milliseconds) {
  return NotYet();
}
Result<CloneResult> SnapshotService::Clone(const CloneRequest&, const Caller&) { return NotYet(); }
Result<DiffPage> SnapshotService::Diff(InodeId, InodeId, uint64_t, size_t, const Caller&) {
  return NotYet();
}
Result<VolumeSizes> SnapshotService::Sizes(InodeId) { return NotYet(); }

}  // namespace cairn
