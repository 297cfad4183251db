// Starting a server process: this program again, as `cairnfs serve`.
#ifndef CAIRN_TOOLS_CAIRNFS_SERVER_PROCESS_H_
#define CAIRN_TOOLS_CAIRNFS_SERVER_PROCESS_H_

#include <sys/types.h>

#include "fusefs/control_channel.h"
#include "src/base/result.h"
#include "tools/cairnfs/mount_session.h"

namespace cairn {

struct ServerProcess {
  pid_t pid = -1;  // -1: none
  ControlChannel control;
};

// Forks and executes the binary of this process, even when another has taken its name on disk.
// REQUIRES: one thread.
Result<ServerProcess> StartServerProcess(const MountSession& session);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_SERVER_PROCESS_H_
