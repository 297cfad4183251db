// Supervisor: the process that owns a mount. It mounts, keeps the descriptor, the INIT request, the
// store's lock and the memory that outlives servers, and starts, watches and replaces the server.
// It has one thread and does nothing else: it is the part that must not fail.
//
// It sits in one poll(2) for: a message of the server, the end of a child, a signal, somebody who
// wants a restart or an upgrade, and the time of what is due.
#ifndef CAIRN_TOOLS_CAIRNFS_SUPERVISOR_H_
#define CAIRN_TOOLS_CAIRNFS_SUPERVISOR_H_

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "src/base/status.h"
#include "src/base/unique_fd.h"
#include "tools/cairnfs/control_socket.h"
#include "tools/cairnfs/daemon.h"
#include "tools/cairnfs/mount_session.h"
#include "tools/cairnfs/server_process.h"
#include "tools/cairnfs/systemd.h"

namespace cairn {

class Supervisor {
 public:
  Supervisor(MountSession session, StartReport report)
      : session_(std::move(session)), report_(std::move(report)) {}

  // Until the mount is gone and the server has ended. Returns the exit code: 0 when all is
  // durable.
  int Run();

 private:
  using SteadyClock = std::chrono::steady_clock;
  using TimePoint = SteadyClock::time_point;
  static constexpr TimePoint kNever = TimePoint::max();

  // A replacement of the server that somebody asked for, from the question to the answer.
  struct Replacement {
    enum class Stage {
      kProbing,      // the new program says whether it fits
      kWaiting,      // for a server that serves
      kDraining,     // the old server ends
      kStarting,     // the new server comes up
      kFallingBack,  // it did not: the old program comes up again
    };
    Stage stage = Stage::kWaiting;
    bool upgrade = false;
    UniqueFd client;
    UniqueFd binary;  // of an upgrade: program_copy.h
    ProbeProcess probe;
    std::string trouble;          // why the new program does not serve
    TimePoint drained_at;         // when the old server was told to end
    TimePoint deadline = kNever;  // of kProbing
  };

  // A server that serves nothing: it opens the store once more, which carries out what is only in
  // the shared memory, and makes all durable. How the mount ends is settled already.
  struct Rescue {
    int tries = 0;
    int exit_code = 1;
    std::string reason;
  };

  enum class Phase {
    kOpening,  // the first server opens the store; nothing is mounted
    kMounted,  // mounted, the server is on its way to serving
    kServing,
    kStopping,  // unmounting, or waiting for the server's end
    kEnded,
  };

  Status Start();
  Status StartServer(const UniqueFd& binary);
  // The server that is wanted now, of whichever program. When there are no processes to be had, it
  // is tried again later.
  void StartNextServer();
  Status Mount();
  Status AnswerInit();
  void Loop();
  void Wait();

  void OnControl();
  void OnMessage(ControlMessage& message);
  void OnOpened();
  void OnServing();
  void OnSignals();
  void OnChildren();
  void OnServerEnd(int wait_state);
  // The server that ended, `clean` or not, gets no successor that serves.
  void OnLastServerEnd(bool clean, const std::string& reason);
  void OnUnmountEnd(int wait_state);
  // Whether programs, or the kernel that unmounts, wait for answers of a server.
  bool IsServerNeeded() const;

  void BeginStop();
  void TellServerToStop();

  // supervisor_replace.cc
  // Whether another server was started only to make durable what the last one has acknowledged.
  bool BeginRescue(int exit_code, const std::string& reason);
  // Another server in the place of one that died, when that is wanted and makes sense.
  bool ReplaceDeadServer(int wait_state);
  void OnClient();
  void OnProbeEnd(int wait_state);
  void BeginDrain();
  // The server is gone that was to make way. False when that is no business of a replacement's.
  bool OnDrained(bool clean);
  bool OnNewServerFailed(const std::string& reason);
  void OnNewServerServes();
  void FinishReplacement(std::string_view trouble);
  // What is due; and when the next is.
  void Tick();
  TimePoint NextTick() const;
  void Watch(TimePoint now);
  // Tells systemd that the supervisor is alive while no server answers for it: each stage has an
  // end of its own.
  void WatchSelf(TimePoint now);

  // Cuts the mount off: programs get ENOTCONN from here on.
  void AbandonMount();
  // Ends with `exit_code`; `reason` is reported if the start is still being waited for.
  void End(int exit_code, std::string_view reason);

  MountSession session_;
  StartReport report_;
  Phase phase_ = Phase::kOpening;
  int exit_code_ = 1;
  ServerProcess server_;
  bool serving_ = false;      // the server said that it serves, and neither ends nor was told to
  bool has_opened_ = false;   // it said that it has opened the store
  bool has_served_ = false;   // it ever said that it serves
  bool on_trial_ = false;     // it is another program, that never served
  bool draining_ = false;     // it was told to make way
  bool ended_late_ = false;   // it was killed since its stage took too long
  bool store_clean_ = false;  // the last server ended in order
  TimePoint server_deadline_ = kNever;  // to serve, or to have made way
  std::string server_failure_;          // what the server said before it ended
  bool ending_ = false;                 // servers are told to stop
  std::optional<Rescue> rescue_;
  pid_t unmount_pid_ = -1;
  UniqueFd signals_;
  ControlSocket control_socket_;
  std::optional<Replacement> replacement_;
  Systemd systemd_;

  TimePoint served_since_;
  int short_lives_ = 0;            // servers in a row that died soon
  int killed_openings_ = 0;        // in a row, before they served
  TimePoint restart_at_ = kNever;  // the next server is held back until then
  int failed_starts_ = 0;          // in a row, for want of a process or a descriptor

  TimePoint next_ping_ = kNever;
  bool ping_unanswered_ = false;
  int missed_pings_ = 0;
  TimePoint next_sign_ = kNever;  // of WatchSelf; from READY=1 on
};

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_SUPERVISOR_H_
