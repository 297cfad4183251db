// Supervisor: the process that owns a mount. It mounts, keeps the descriptor, the INIT request and
// the journal's memory, and starts, watches and ends the server. It has one thread, holds no lock
// of the store and does nothing else: it is the part that must not fail.
//
// It sits in one poll(2) for: a message of the server, the end of a child, a signal.
#ifndef CAIRN_TOOLS_CAIRNFS_SUPERVISOR_H_
#define CAIRN_TOOLS_CAIRNFS_SUPERVISOR_H_

#include <chrono>
#include <string>
#include <string_view>

#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "tools/cairnfs/daemon.h"
#include "tools/cairnfs/mount_session.h"
#include "tools/cairnfs/server_process.h"

namespace cairn {

class Supervisor {
 public:
  Supervisor(MountSession session, StartReport report)
      : session_(std::move(session)), report_(std::move(report)) {}

  // Until the mount is gone and the server has ended. Returns the exit code: 0 when all is
  // durable.
  int Run();

 private:
  enum class Phase {
    kOpening,  // the first server opens the store; nothing is mounted
    kMounted,  // mounted, the server is on its way to serving
    kServing,
    kStopping,  // unmounting, or waiting for the server's end
    kEnded,
  };

  Status Start();
  Status StartServer();
  Status Mount();
  Status AnswerInit();
  void Loop();

  void OnControl();
  void OnMessage(const ControlMessage& message);
  void OnOpened();
  void OnServing();
  void OnSignals();
  void OnChildren();
  void OnServerEnd(int wait_state);
  void OnUnmountEnd(int wait_state);

  void BeginStop();
  void TellServerToStop();
  // Another server for the same mount, when that is wanted and makes sense.
  bool ReplaceServer();
  // Cuts the mount off: programs get ENOTCONN from here on.
  void AbandonMount();
  // Ends with `exit_code`; `reason` is reported if the start is still being waited for.
  void End(int exit_code, std::string_view reason);

  MountSession session_;
  StartReport report_;
  Phase phase_ = Phase::kOpening;
  int exit_code_ = 1;
  ServerProcess server_;
  std::string server_failure_;  // what the server said before it ended
  pid_t unmount_pid_ = -1;
  UniqueFd signals_;
  std::chrono::steady_clock::time_point served_since_;
  int quick_deaths_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_SUPERVISOR_H_
