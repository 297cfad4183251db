#include "tools/cairnfs/supervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "fusefs/init_reply.h"
#include "src/base/log.h"
#include "tools/cairnfs/unmount_process.h"

namespace cairn {
namespace {

// A server that dies sooner than this after it began to serve dies "at once", by a request that it
// is sent again, most likely; after so many of those in a row another one would not help.
constexpr std::chrono::milliseconds kQuickDeath{50};
constexpr int kMostQuickDeaths = 10;

Result<UniqueFd> CreateJournal(uint64_t bytes) {
  UniqueFd journal(memfd_create("cairn-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!journal.valid() || ftruncate(journal.get(), static_cast<off_t>(bytes)) != 0) {
    return Status::FromErrno(errno, "memory for the index journal");
  }
  // A server cannot take the memory away under its successor. Pages come when they are written.
  fcntl(journal.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return journal;
}

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
  CAIRN_ASSIGN_OR_RETURN(session_.journal, CreateJournal(session_.options.journal_bytes));
  return StartServer();
}

Status Supervisor::StartServer() {
  ++session_.generation;
  server_failure_.clear();
  served_since_ = std::chrono::steady_clock::now();
  CAIRN_ASSIGN_OR_RETURN(server_, StartServerProcess(session_));
  return Status::Ok();
}

void Supervisor::Loop() {
  while (phase_ != Phase::kEnded) {
    std::array<pollfd, 2> events = {pollfd{signals_.get(), POLLIN, 0},
                                    pollfd{server_.control.fd(), POLLIN, 0}};
    if (poll(events.data(), events.size(), -1) < 0) {
      if (errno == EINTR) continue;
      return End(1, "poll failed");
    }
    // What a server said last comes before its end.
    if (events[1].revents != 0) OnControl();
    if (phase_ != Phase::kEnded && events[0].revents != 0) OnSignals();
  }
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

void Supervisor::OnMessage(const ControlMessage& message) {
  switch (message.kind) {
    case ControlKind::kClosed:
      server_.control.Close();  // SIGCHLD follows
      break;
    case ControlKind::kOpened:
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
    case ControlKind::kAttach:
    case ControlKind::kStop:
      LogError("the server sent a message of the supervisor's");
      break;
  }
}

void Supervisor::OnOpened() {
  if (phase_ == Phase::kStopping) return TellServerToStop();
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
  served_since_ = std::chrono::steady_clock::now();
  if (phase_ != Phase::kMounted) return;  // a later server
  const Status answered = AnswerInit();
  if (!answered.ok()) {
    server_failure_ = answered.context();
    AbandonMount();
    return TellServerToStop();
  }
  phase_ = Phase::kServing;
  if (report_.in_background()) {
    const std::string& log = session_.options.log;
    LetGoOfTerminal(log.empty() ? session_.place.store + "/log" : log);
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
    }
  }
}

void Supervisor::OnServerEnd(int wait_state) {
  server_.pid = -1;
  // Its last words may still be in the socket.
  while (server_.control.valid()) OnControl();
  const bool clean = WIFEXITED(wait_state) && WEXITSTATUS(wait_state) == 0;
  const std::string reason = server_failure_.empty() ? DescribeEnd(wait_state) : server_failure_;
  if (phase_ == Phase::kOpening || phase_ == Phase::kMounted) {
    AbandonMount();
    return End(1, reason);
  }
  const bool connected = session_.fuse.valid() && IsConnected(session_.fuse.get());
  if (phase_ == Phase::kServing && connected) {
    LogError("{}", reason);
    if (!clean && ReplaceServer()) return;
    AbandonMount();
    return End(1, reason);
  }
  if (!clean) LogError("{}", reason);
  AbandonMount();
  End(clean ? 0 : 1, reason);
}

bool Supervisor::ReplaceServer() {
  // A server that said why it ended would only say so again.
  if (!session_.options.replace_server || !server_failure_.empty()) return false;
  const bool quick = std::chrono::steady_clock::now() - served_since_ < kQuickDeath;
  quick_deaths_ = quick ? quick_deaths_ + 1 : 0;
  if (quick_deaths_ > kMostQuickDeaths) {
    LogError("{} servers in a row died at once: giving up", quick_deaths_);
    return false;
  }
  const Status started = StartServer();
  if (!started.ok()) {
    LogError("no new server: {}", started.context());
    return false;
  }
  LogWarn("server {} takes over", session_.generation);
  return true;
}

void Supervisor::BeginStop() {
  if (phase_ == Phase::kStopping) return TellServerToStop();  // asked twice: without waiting
  if (phase_ != Phase::kServing) {
    // Nobody waits on a mount that was never ready.
    server_failure_ = "stopped by a signal";
    return TellServerToStop();
  }
  phase_ = Phase::kStopping;
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
  if (!server_.control.valid()) return;
  const Status sent = server_.control.Send(ControlKind::kStop);
  if (!sent.ok()) LogError("{}", sent.context());  // it is gone already, or will be seen so
}

void Supervisor::AbandonMount() {
  if (!session_.fuse.valid()) return;
  const bool connected = IsConnected(session_.fuse.get());
  // First cut the connection: everything that waits on it, unmounting too, comes back.
  session_.fuse.Reset();
  if (!connected) return;
  const Result<std::string> device = FindMount(session_.place);
  if (device.ok() && *device == session_.device) {
    const Status detached = Unmount(session_.place, UnmountMode::kDetach);
    if (!detached.ok()) LogError("{}", detached.context());
  }
}

void Supervisor::End(int exit_code, std::string_view reason) {
  phase_ = Phase::kEnded;
  exit_code_ = exit_code;
  if (exit_code != 0) report_.Fail(reason);
}

}  // namespace cairn
