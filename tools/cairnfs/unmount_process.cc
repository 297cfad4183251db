#include "tools/cairnfs/unmount_process.h"

#include <unistd.h>

#include <cerrno>

#include "src/base/log.h"

namespace cairn {
namespace {

UnmountEnd UnmountOrDetach(const MountSession& session) {
  // Only our own mount, and only while it is on top.
  const Result<std::string> device = FindMount(session.place);
  if (!device.ok() || *device != session.device) return UnmountEnd::kUnmounted;
  Status status = Unmount(session.place, UnmountMode::kIfIdle);
  if (status.ok()) return UnmountEnd::kUnmounted;
  status = Unmount(session.place, UnmountMode::kDetach);
  if (status.ok()) return UnmountEnd::kDetached;
  LogError("{}", status.context());
  return UnmountEnd::kFailed;
}

}  // namespace

Result<pid_t> StartUnmountProcess(const MountSession& session) {
  const pid_t child = fork();
  if (child < 0) return Status::FromErrno(errno, "fork");
  if (child == 0) {
    // A copy of the connection here would keep it alive when the supervisor wants it cut.
    close(session.fuse.get());
    _exit(static_cast<int>(UnmountOrDetach(session)));
  }
  return child;
}

}  // namespace cairn
