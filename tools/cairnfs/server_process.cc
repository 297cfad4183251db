#include "tools/cairnfs/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <vector>

#include "fusefs/init_reply.h"
#include "tools/cairnfs/command_line.h"
#include "tools/cairnfs/probe.h"

namespace cairn {
namespace {

constexpr int kExecFailed = 127;

// In the child. Does not return.
[[noreturn]] void Execute(const UniqueFd& binary, std::vector<std::string> words) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execv(("/proc/self/fd/" + std::to_string(binary.get())).c_str(), argv.data());
  _exit(kExecFailed);
}

Result<UniqueFd> MemoryFile(const char* name) {
  UniqueFd file(memfd_create(name, MFD_CLOEXEC));
  if (!file.valid()) return Status::FromErrno(errno, "memfd_create");
  return file;
}

std::string ReadAll(int fd) {
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t got;
       (got = pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(text.size()))) > 0;) {
    text.append(buffer.data(), static_cast<size_t>(got));
  }
  return text;
}

}  // namespace

Result<ServerProcess> StartServerProcess(const MountSession& session, const UniqueFd& binary) {
  CAIRN_ASSIGN_OR_RETURN(auto ends, ControlChannel::CreatePair());
  auto& [ours, theirs] = ends;
  const ServeCommandLine command{.control_fd = theirs.fd(),
                                 .memory_fd = session.memory.get(),
                                 .lock_fd = session.lock.get(),
                                 .generation = session.generation,
                                 .restarts = session.restarts,
                                 .upgrades = session.upgrades,
                                 .foreground = session.foreground,
                                 .debug = session.debug,
                                 .options = session.options,
                                 .store = session.place.store,
                                 .mountpoint = session.mountpoint_as_given};
  const pid_t child = fork();
  if (child < 0) return Status::FromErrno(errno, "fork");
  if (child == 0) {
    for (const int fd : {command.control_fd, command.memory_fd, command.lock_fd}) {
      if (fd >= 0) fcntl(fd, F_SETFD, 0);
    }
    Execute(binary, FormatServeCommandLine(command));
  }
  return ServerProcess{.pid = child, .control = std::move(ours)};
}

Result<ProbeProcess> StartProbe(const MountSession& session, const UniqueFd& binary) {
  CAIRN_ASSIGN_OR_RETURN(const UniqueFd input, MemoryFile("cairn-init"));
  const auto size = static_cast<ssize_t>(session.init_request.size());
  if (write(input.get(), session.init_request.data(), session.init_request.size()) != size ||
      lseek(input.get(), 0, SEEK_SET) != 0) {
    return Status::FromErrno(errno, "INIT request for a probe");
  }
  ProbeProcess probe;
  CAIRN_ASSIGN_OR_RETURN(probe.output, MemoryFile("cairn-probe"));
  const pid_t child = fork();
  if (child < 0) return Status::FromErrno(errno, "fork");
  if (child == 0) {
    dup2(input.get(), STDIN_FILENO);
    dup2(probe.output.get(), STDOUT_FILENO);
    dup2(probe.output.get(), STDERR_FILENO);
    Execute(binary, FormatProbeCommandLine(
                        {.control_version = kControlVersion, .store = session.place.store}));
  }
  probe.pid = child;
  return probe;
}

Status JudgeProbe(const MountSession& session, const ProbeProcess& probe, int wait_state) {
  std::string text = ReadAll(probe.output.get());
  while (!text.empty() && text.back() == '\n') text.pop_back();
  if (!WIFEXITED(wait_state) || WEXITSTATUS(wait_state) == kExecFailed) {
    return Status(Code::kUnsupported, "the new program cannot be run");
  }
  if (WEXITSTATUS(wait_state) != 0) {
    return Status(Code::kUnsupported, "the new program cannot take over: " + text);
  }
  if (!text.starts_with(kProbeAnswerStart)) {
    return Status(Code::kUnsupported, "the new program is no cairnfs that can take over a mount");
  }
  CAIRN_ASSIGN_OR_RETURN(const std::string expected, ProbeAnswer(session.init_request));
  if (text == expected) return Status::Ok();
  return Status(Code::kUnsupported,
                "the new program wants other parameters of the kernel than this mount has: unmount "
                "and mount again to use it");
}

}  // namespace cairn
