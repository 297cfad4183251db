// Where the content of a snapshot's member goes when it is rolled back, and whether the caller may
// put it there.
#ifndef CAIRN_SNAPSHOT_ROLLBACK_TARGET_H_
#define CAIRN_SNAPSHOT_ROLLBACK_TARGET_H_

#include "src/volume/filesystem.h"
#include "src/volume/snapshot_ops.h"

namespace cairn {

// `member` of the snapshot `group`. The volume that it was taken of, wherever that is now; when it
// is gone, the one that has its place, or none (volume 0): it is to be made anew at the path.
// kAccess; kExists: something else is at the path. Locks nothing: others may change all that.
Result<SnapshotOps::RollbackItem> RollbackTarget(Filesystem& filesystem, InodeId group,
                                                 InodeId member, const Caller& caller);

}  // namespace cairn

#endif  // CAIRN_SNAPSHOT_ROLLBACK_TARGET_H_
