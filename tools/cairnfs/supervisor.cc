#include "tools/cairnfs/supervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "fusefs/init_reply.h"
#include "src/base/log.h"
#include "tools/cairnfs/shared_memory.h"
#include "tools/cairnfs/unmount_process.h"

namespace cairn {
namespace {

// Blocked here, read through the descriptor.
Result<UniqueFd> CatchSignals() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGCHLD}) sigaddset(&set, number);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) return Status::FromErrno(errno, "sigprocmask");
  UniqueFd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return Status::FromErrno(errno, "signalfd");
  return fd;
}

std::string DescribeEnd(int wait_state) {
  if (WIFSIGNALED(wait_state)) {
    return fmt::format("the server was killed by signal {} ({})", WTERMSIG(wait_state),
                       strsignal(WTERMSIG(wait_state)));
  }
  return fmt::format("the server ended with exit code {}", WEXITSTATUS(wait_state));
}

}  // namespace

int Supervisor::Run() {
  const Status started = Start();
  if (started.ok()) {
    Loop();
  } else {
    End(1, started.context());
  }
  return exit_code_;
}

Status Supervisor::Start() {
  CAIRN_ASSIGN_OR_RETURN(signals_, CatchSignals());
  CAIRN_ASSIGN_OR_RETURN(session_.memory, SharedMemory::Create(session_.options.journal_bytes));
  session_.binary = UniqueFd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  if (!session_.binary.valid()) return Status::FromErrno(errno, "/proc/self/exe");
  return StartServer(session_.binary);
}

Status Supervisor::StartServer(const UniqueFd& binary) {
  server_failure_.clear();
  serving_ = false;
  has_opened_ = false;
  has_served_ = false;
  draining_ = false;
  ended_late_ = false;
  served_since_ = SteadyClock::now();
  ++session_.generation;
  Result<ServerProcess> server = StartServerProcess(session_, binary);
  if (!server.ok()) {
    --session_.generation;
    return std::move(server).status();
  }
  server_ = std::move(*server);
  return Status::Ok();
}

void Supervisor::Loop() {
  while (phase_ != Phase::kEnded) Wait();
}

void Supervisor::Wait() {
  std::array<pollfd, 3> events = {pollfd{signals_.get(), POLLIN, 0},
                                  pollfd{server_.control.fd(), POLLIN, 0},
                                  pollfd{control_socket_.fd(), POLLIN, 0}};
  const TimePoint next = NextTick();
  int wait_ms = -1;
  if (next != kNever) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next - SteadyClock::now());
    wait_ms = static_cast<int>(std::clamp<int64_t>(left.count(), 0, 60'000));
  }
  if (poll(events.data(), events.size(), wait_ms) < 0) {
    if (errno != EINTR) End(1, "poll failed");
    return;
  }
  // What a server said last comes before its end.
  if (events[1].revents != 0) OnControl();
  if (phase_ != Phase::kEnded && events[0].revents != 0) OnSignals();
  if (phase_ != Phase::kEnded && events[2].revents != 0) OnClient();
  if (phase_ != Phase::kEnded) Tick();
}

void Supervisor::OnControl() {
  Result<ControlMessage> message = server_.control.Receive();
  if (!message.ok()) {
    LogError("message of the server: {}", message.status().context());
    server_.control.Close();
    return;
  }
  OnMessage(*message);
}

void Supervisor::OnMessage(ControlMessage& message) {
  switch (message.kind) {
    case ControlKind::kClosed:
      server_.control.Close();  // SIGCHLD follows
      break;
    case ControlKind::kOpened:
      has_opened_ = true;
      if (!session_.lock.valid()) session_.lock = std::move(message.fd);
      OnOpened();
      break;
    case ControlKind::kServing:
      OnServing();
      break;
    case ControlKind::kUnmountWanted:
      BeginStop();
      break;
    case ControlKind::kFailed:
      server_failure_ = message.text();
      break;
    case ControlKind::kAlive:
      ping_unanswered_ = false;
      missed_pings_ = 0;
      if (systemd_.watchdog().count() > 0) systemd_.Tell("WATCHDOG=1");
      break;
    case ControlKind::kEnding:
      serving_ = false;
      break;
    case ControlKind::kAttach:
    case ControlKind::kStop:
    case ControlKind::kDrain:
    case ControlKind::kPing:
      LogError("the server sent a message of the supervisor's");
      break;
  }
}

void Supervisor::OnOpened() {
  if (ending_ || (phase_ == Phase::kStopping && !IsServerNeeded())) return TellServerToStop();
  if (!session_.fuse.valid()) {
    const Status mounted = Mount();
    if (!mounted.ok()) {
      server_failure_ = mounted.context();
      return TellServerToStop();
    }
    phase_ = Phase::kMounted;
  }
  const Status sent =
      server_.control.Send(ControlKind::kAttach, session_.init_request, session_.fuse.get());
  if (!sent.ok()) LogError("{}", sent.context());  // its end follows
}

Status Supervisor::Mount() {
  CAIRN_ASSIGN_OR_RETURN(session_.fuse, MountFuse(session_.place, session_.options));
  const Result<std::string> device = FindMount(session_.place);
  if (device.ok()) session_.device = *device;
  Result<std::vector<std::byte>> init = ReadInit(session_.fuse.get());
  Status status = init.status();
  if (init.ok()) {
    session_.init_request = std::move(*init);
    status = NegotiateInit(session_.init_request).status();
  }
  if (!status.ok()) AbandonMount();
  return status;
}

Status Supervisor::AnswerInit() {
  CAIRN_ASSIGN_OR_RETURN(const InitReply reply, NegotiateInit(session_.init_request));
  if (write(session_.fuse.get(), &reply, sizeof(reply)) != sizeof(reply)) {
    return Status::FromErrno(errno, "answering the kernel's INIT");
  }
  if (!(reply.flags() & protocol::kHasResend)) {
    LogWarn("this kernel (before 6.9) cannot send requests again: a dead server ends the mount");
    session_.options.replace_server = false;
  }
  return Status::Ok();
}

void Supervisor::OnServing() {
  server_deadline_ = kNever;
  served_since_ = SteadyClock::now();
  has_served_ = true;
  killed_openings_ = 0;
  on_trial_ = false;
  serving_ = !ending_;
  ping_unanswered_ = false;
  missed_pings_ = 0;
  next_ping_ = served_since_;
  if (phase_ != Phase::kMounted) return OnNewServerServes();
  const Status answered = AnswerInit();
  if (!answered.ok()) {
    server_failure_ = answered.context();
    AbandonMount();
    return TellServerToStop();
  }
  phase_ = Phase::kServing;
  Result<ControlSocket> control = ControlSocket::Create(session_.place.store);
  if (control.ok()) {
    control_socket_ = std::move(*control);
  } else {
    LogWarn("cairn restart and cairn upgrade will not work: {}", control.status().context());
  }
  systemd_.Tell("READY=1");
  next_sign_ = served_since_;
  const std::string& log = session_.options.log;
  if (report_.in_background()) {
    LetGoOfTerminal(log.empty() ? session_.place.store + "/log" : log);
  } else if (!log.empty()) {
    LogTo(log);
  }
  report_.Ready();
}

void Supervisor::OnSignals() {
  signalfd_siginfo info{};
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    if (static_cast<int>(info.ssi_signo) == SIGCHLD) continue;
    LogInfo("signal {} from process {}: unmounting", info.ssi_signo, info.ssi_pid);
    BeginStop();
  }
  // Several ends may share one SIGCHLD.
  OnChildren();
}

void Supervisor::OnChildren() {
  int state = 0;
  for (pid_t pid = 0; (pid = waitpid(-1, &state, WNOHANG)) > 0;) {
    if (pid == server_.pid) {
      OnServerEnd(state);
    } else if (pid == unmount_pid_) {
      OnUnmountEnd(state);
    } else if (replacement_ && pid == replacement_->probe.pid) {
      OnProbeEnd(state);
    }
  }
}

void Supervisor::OnServerEnd(int wait_state) {
  server_.pid = -1;
  server_deadline_ = kNever;
  // Its last words may still be in the socket.
  while (server_.control.valid()) OnControl();
  serving_ = false;
  // One that did not open the store did not close it either.
  const bool clean = has_opened_ && WIFEXITED(wait_state) && WEXITSTATUS(wait_state) == 0;
  store_clean_ = clean;
  const std::string end = ended_late_ ? "the server took too long" : DescribeEnd(wait_state);
  const std::string reason = server_failure_.empty() ? end : server_failure_;
  if (phase_ == Phase::kOpening || phase_ == Phase::kMounted) {
    AbandonMount();
    return End(1, reason);
  }
  // What another program says of the store is not the last word.
  if (on_trial_) server_failure_.clear();
  if (!IsServerNeeded()) return OnLastServerEnd(clean, reason);
  if (OnDrained(clean) || OnNewServerFailed(reason)) return;
  // It made way when the unmounting began, which needs a server still.
  if (clean && draining_) return StartNextServer();
  LogError("{}", reason);
  if (!clean && ReplaceDeadServer(wait_state)) return;
  LogError("the mount ends: programs that use it get ENOTCONN from here on");
  AbandonMount();
  if (clean || !BeginRescue(1, reason)) End(1, reason);
}

void Supervisor::OnLastServerEnd(bool clean, const std::string& reason) {
  if (!clean) LogError("{}", reason);
  AbandonMount();
  if (!clean && BeginRescue(0, reason)) return;
  if (clean && rescue_) return End(rescue_->exit_code, rescue_->reason);
  End(clean ? 0 : 1, reason);
}

bool Supervisor::IsServerNeeded() const {
  if (ending_ || !session_.fuse.valid() || !IsConnected(session_.fuse.get())) return false;
  return phase_ == Phase::kServing || (phase_ == Phase::kStopping && unmount_pid_ > 0);
}

void Supervisor::BeginStop() {
  if (phase_ == Phase::kStopping) return TellServerToStop();  // asked twice: without waiting
  if (phase_ != Phase::kServing) {
    // Nobody waits on a mount that was never ready.
    server_failure_ = "stopped by a signal";
    return TellServerToStop();
  }
  phase_ = Phase::kStopping;
  systemd_.Tell("STOPPING=1");
  if (replacement_) FinishReplacement("the mount is ending");
  // A server that was held back is needed once more, for what the kernel still writes; and so is
  // the successor of one that makes way just now.
  if (server_.pid < 0) restart_at_ = SteadyClock::now();
  const Result<pid_t> pid = StartUnmountProcess(session_);
  if (!pid.ok()) {
    LogError("unmounting: {}", pid.status().context());
    return TellServerToStop();
  }
  unmount_pid_ = *pid;
}

void Supervisor::OnUnmountEnd(int wait_state) {
  unmount_pid_ = -1;
  const int end =
      WIFEXITED(wait_state) ? WEXITSTATUS(wait_state) : static_cast<int>(UnmountEnd::kFailed);
  // Unmounted: the server sees that by itself. Otherwise programs have it still, and it must not
  // wait for them.
  if (end == static_cast<int>(UnmountEnd::kUnmounted)) {
    if (!IsConnected(session_.fuse.get())) return;
  } else {
    LogWarn("the mount is in use: programs that use it get ENOTCONN from here on");
  }
  TellServerToStop();
}

void Supervisor::TellServerToStop() {
  ending_ = true;
  serving_ = false;
  // Whatever it still has to make durable takes its time.
  if (has_opened_) server_deadline_ = kNever;
  if (!server_.control.valid()) return;
  const Status sent = server_.control.Send(ControlKind::kStop);
  if (!sent.ok()) LogError("{}", sent.context());  // it is gone already, or will be seen so
}

void Supervisor::AbandonMount() {
  if (!session_.fuse.valid()) return;
  const bool connected = IsConnected(session_.fuse.get());
  // First cut the connection: everything that waits on it, unmounting too, comes back. A process
  // that has the kernel forget pages may hold it, and wait for who serves it: so by force.
  // Where that cannot be done, most mounts have no such process just now.
  if (connected) static_cast<void>(AbortConnection(session_.fuse.get(), session_.device));
  session_.fuse.Reset();
  if (!connected) return;
  const Result<std::string> device = FindMount(session_.place);
  if (device.ok() && *device == session_.device) {
    const Status detached = Unmount(session_.place, UnmountMode::kAbort);
    if (!detached.ok()) LogError("{}", detached.context());
  }
}

void Supervisor::End(int exit_code, std::string_view reason) {
  phase_ = Phase::kEnded;
  exit_code_ = exit_code;
  if (replacement_) FinishReplacement(reason.empty() ? "the mount has ended" : reason);
  control_socket_.Close();
  if (exit_code != 0) report_.Fail(reason);
}

}  // namespace cairn
