#include "tools/cairnfs/serve.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "fusefs/control_channel.h"
#include "fusefs/server.h"
#include "src/base/log.h"
#include "tools/cairnfs/daemon.h"
#include "tools/cairnfs/forget_process.h"
#include "tools/cairnfs/stack.h"

namespace cairn {
namespace {

void RaiseOpenFileLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    LogWarn("open file limit stays as it is: {}", std::strerror(errno));
  }
}

// The kernel writes dirty pages of volumes back through this process: it must not wait for that
// itself when it needs memory. Threads that are started later inherit it. Returns errno, or 0.
int BecomeIoFlusher() { return prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0 ? 0 : errno; }

void WarnOfIoFlusher(int error) {
  if (error == 0) return;
  LogWarn("PR_SET_IO_FLUSHER: {}: writing through the page cache may stall when memory is short",
          std::strerror(error));
}

// A core dump would hold data of volumes, and writing it would make the pause longer. The limit is
// not looked at when cores are piped to a program, so the process says that it has none.
void ForbidCoreDumps() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

// SIGTERM is read through the descriptor. The supervisor answers the terminal's signals.
Result<UniqueFd> CatchSignals() {
  for (const int number : {SIGINT, SIGHUP, SIGPIPE}) signal(number, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return Status::FromErrno(errno, "sigprocmask");
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return Status::FromErrno(errno, "signalfd");
  return fd;
}

// Empty for stderr.
std::string LogPath(const ServeCommandLine& command) {
  if (!command.options.log.empty() || command.foreground) return command.options.log;
  return command.store + "/log";
}

// What the opening finds and mends belongs in the log, and not on the terminal of whoever called
// `cairnfs`; but a folder that is no store, or somebody else's just now, gets no log.
Result<std::unique_ptr<Stack>> OpenStack(const ServeCommandLine& command) {
  if (command.debug) SetLogLevel(LogLevel::kDebug);
  const std::string log = LogPath(command);
  const auto on_ours = [&log] {
    if (!log.empty()) LogTo(log);
  };
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Stack> stack, Stack::Open(command, on_ours));
  // What libraries and a failed check print goes there too.
  if (!command.foreground) LetGoOfTerminal(log);
  return stack;
}

enum class Ending { kMountGone, kStopped, kReplaced, kSupervisorGone };

// Sleeps until the mount is gone, the supervisor says so, or the supervisor is gone.
Ending AwaitEnd(ControlChannel& control, Server& server, int signals) {
  for (;;) {
    std::array<pollfd, 3> events = {pollfd{control.fd(), POLLIN, 0},
                                    pollfd{server.ended_fd(), POLLIN, 0},
                                    pollfd{signals, POLLIN, 0}};
    if (poll(events.data(), events.size(), -1) < 0) continue;  // EINTR
    if (events[1].revents != 0) return Ending::kMountGone;
    if (events[0].revents != 0) {
      const Result<ControlMessage> message = control.Receive();
      if (!message.ok() || message->kind == ControlKind::kClosed) return Ending::kSupervisorGone;
      if (message->kind == ControlKind::kStop) return Ending::kStopped;
      if (message->kind == ControlKind::kDrain) return Ending::kReplaced;
      if (message->kind == ControlKind::kPing && server.GetsOn() &&
          !control.Send(ControlKind::kAlive).ok()) {
        return Ending::kSupervisorGone;
      }
    }
    if (events[2].revents != 0) {
      // Unmounting comes first, so that the kernel can still write back what it holds.
      signalfd_siginfo info{};
      if (read(signals, &info, sizeof(info)) == sizeof(info) &&
          !control.Send(ControlKind::kUnmountWanted).ok()) {
        return Ending::kSupervisorGone;
      }
    }
  }
}

// From the supervisor's kAttach to the end of the last request.
Result<Ending> ServeRequests(const ServeCommandLine& command, Stack& stack, ControlChannel& control,
                             int signals) {
  CAIRN_RETURN_IF_ERROR(control.Send(ControlKind::kOpened, {}, stack.lock_fd()));
  CAIRN_ASSIGN_OR_RETURN(ControlMessage attach, control.Receive());
  if (attach.kind == ControlKind::kStop) return Ending::kStopped;
  if (attach.kind == ControlKind::kClosed) return Ending::kSupervisorGone;
  if (attach.kind != ControlKind::kAttach || !attach.fd.valid()) {
    return Status(Code::kInvalid, "the supervisor did not hand over the mount");
  }

  const PageForgetting forgetting;
  const auto forget = [&](int fuse_fd, std::span<const InodeId> inodes) {
    return forgetting.Forget(fuse_fd, inodes);
  };
  Edge edge(stack.filesystem(), stack.snapshots(), command.mountpoint);
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Server> server,
                         Server::Create(edge, std::move(attach.fd), attach.payload,
                                        {.thread_count = command.options.threads,
                                         .resend = command.generation > 1,
                                         .forget_pages = forget}));
  CAIRN_RETURN_IF_ERROR(server->Start());
  CAIRN_RETURN_IF_ERROR(control.Send(ControlKind::kServing));
  LogInfo("serving {} at {}", command.store, command.mountpoint);
  const Ending ending = AwaitEnd(control, *server, signals);
  switch (ending) {
    case Ending::kMountGone:
      LogInfo("unmounted");
      break;
    case Ending::kStopped:
      LogInfo("stopping");
      break;
    case Ending::kReplaced:
      LogInfo("making way for another server");
      break;
    case Ending::kSupervisorGone:
      LogError("the supervisor is gone: ending the mount");
      break;
  }
  // A supervisor that is gone need not know.
  [[maybe_unused]] const Status sent = control.Send(ControlKind::kEnding);
  server->Stop();
  return ending;
}

Status ServeStore(const ServeCommandLine& command, ControlChannel& control) {
  CAIRN_ASSIGN_OR_RETURN(const UniqueFd signals, CatchSignals());
  RaiseOpenFileLimit();
  const int flusher_error = BecomeIoFlusher();
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Stack> stack, OpenStack(command));
  WarnOfIoFlusher(flusher_error);
  const Result<Ending> served = ServeRequests(command, *stack, control, signals.get());
  if (!served.ok()) LogError("{}", served.status().ToString());
  // After a failure another program may get the requests that were carried out before it.
  const bool mount_goes_on = !served.ok() || *served == Ending::kReplaced;
  Status closed = stack->Close(mount_goes_on);
  if (!closed.ok()) {
    LogError("closing the store: {}", closed.ToString());
    return std::move(closed).WithPrefix("closing the store");
  }
  return served.status();
}

}  // namespace

int Serve(const ServeCommandLine& command) {
  prctl(PR_SET_NAME, "cairnfs");  // not "exe"
  for (const int fd : {command.control_fd, command.memory_fd, command.lock_fd}) {
    if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
  }
  if (!command.options.core_dumps) ForbidCoreDumps();
  ControlChannel control{UniqueFd(command.control_fd)};
  const Status served = ServeStore(command, control);
  if (served.ok()) return 0;
  // A supervisor that is gone has heard enough.
  [[maybe_unused]] const Status sent = control.SendText(ControlKind::kFailed, served.context());
  return 1;
}

}  // namespace cairn
