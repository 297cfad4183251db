// fusermount3, the set-user-id helper that mounts for users who may not mount themselves.
#ifndef CAIRN_FUSEFS_FUSERMOUNT_H_
#define CAIRN_FUSEFS_FUSERMOUNT_H_

#include "fusefs/mount.h"

namespace cairn {

// As MountFuse. The helper hands the descriptor back over a socket.
Result<UniqueFd> MountWithFusermount(const MountPlace& place, const MountOptions& options);
// kBusy without `detach` when programs use the mount.
Status UnmountWithFusermount(const MountPlace& place, bool detach);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_FUSERMOUNT_H_
