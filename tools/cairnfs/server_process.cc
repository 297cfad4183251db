#include "tools/cairnfs/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <vector>

#include "tools/cairnfs/command_line.h"

namespace cairn {
namespace {

constexpr int kExecFailed = 127;

}  // namespace

Result<ServerProcess> StartServerProcess(const MountSession& session) {
  CAIRN_ASSIGN_OR_RETURN(auto ends, ControlChannel::CreatePair());
  auto& [ours, theirs] = ends;
  const ServeCommandLine command{.control_fd = theirs.fd(),
                                 .journal_fd = session.journal.get(),
                                 .generation = session.generation,
                                 .foreground = session.foreground,
                                 .debug = session.debug,
                                 .options = session.options,
                                 .store = session.place.store,
                                 .mountpoint = session.mountpoint_as_given};
  std::vector<std::string> words = FormatServeCommandLine(command);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const pid_t child = fork();
  if (child < 0) return Status::FromErrno(errno, "fork");
  if (child == 0) {
    fcntl(command.control_fd, F_SETFD, 0);
    fcntl(command.journal_fd, F_SETFD, 0);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    execv("/proc/self/exe", argv.data());
    _exit(kExecFailed);
  }
  return ServerProcess{.pid = child, .control = std::move(ours)};
}

}  // namespace cairn
