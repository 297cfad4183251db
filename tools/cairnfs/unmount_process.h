// Unmounting in a process of its own, since umount(2) waits for the server, and the supervisor
// must be there to see the server die.
#ifndef CAIRN_TOOLS_CAIRNFS_UNMOUNT_PROCESS_H_
#define CAIRN_TOOLS_CAIRNFS_UNMOUNT_PROCESS_H_

#include <sys/types.h>

#include "src/base/result.h"
#include "tools/cairnfs/mount_session.h"

namespace cairn {

// How such a process ends: its exit code.
enum class UnmountEnd : int {
  kUnmounted = 0,  // or it was unmounted already
  kDetached = 1,   // programs use it; it is gone from the tree, they still have it
  kFailed = 2,
};

// REQUIRES: one thread.
Result<pid_t> StartUnmountProcess(const MountSession& session);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_UNMOUNT_PROCESS_H_
