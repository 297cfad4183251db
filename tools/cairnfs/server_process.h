// Starting a server process, `cairnfs serve`, and trying whether a program could be one.
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

// Forks and executes `binary`, even when another program has taken its name on disk.
// REQUIRES: one thread.
Result<ServerProcess> StartServerProcess(const MountSession& session, const UniqueFd& binary);

struct ProbeProcess {
  pid_t pid = -1;
  UniqueFd output;  // what it printed, once it has ended
};
// Has `binary` say what it would answer to this mount's INIT, and whether it knows the store's
// format. REQUIRES: one thread.
Result<ProbeProcess> StartProbe(const MountSession& session, const UniqueFd& binary);
// Once the process has ended: whether it could serve this mount. kUnsupported says why not.
Status JudgeProbe(const MountSession& session, const ProbeProcess& probe, int wait_state);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_SERVER_PROCESS_H_
