// cairnfs: mounts a Cairn store. This process becomes the supervisor of the mount, and starts
// itself again as `cairnfs serve`.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "tools/cairnfs/command_line.h"
#include "tools/cairnfs/daemon.h"
#include "tools/cairnfs/forget_process.h"
#include "tools/cairnfs/mount_session.h"
#include "tools/cairnfs/places.h"
#include "tools/cairnfs/probe.h"
#include "tools/cairnfs/serve.h"
#include "tools/cairnfs/supervisor.h"

namespace cairn {
namespace {

int Complain(const std::string& reason) {
  std::fprintf(stderr, "cairnfs: %s\n", reason.c_str());
  return 1;
}

Result<MountSession> PrepareSession(const CommandLine& command) {
  MountSession session;
  CAIRN_ASSIGN_OR_RETURN(session.place, ResolvePlaces(command.store, command.mountpoint));
  session.mountpoint_as_given = command.mountpoint;
  session.options = command.options;
  if (!session.options.log.empty()) {
    CAIRN_ASSIGN_OR_RETURN(session.options.log, ResolveNewPath(session.options.log));
  }
  session.foreground = command.foreground;
  session.debug = command.debug;
  return session;
}

// Whether the mount answers, as a program would ask.
Status CheckAnswers(const std::string& mountpoint) {
  struct statfs space {};
  struct stat root {};
  if (statfs(mountpoint.c_str(), &space) != 0 || stat(mountpoint.c_str(), &root) != 0) {
    return Status::FromErrno(errno, mountpoint + " was mounted but does not answer");
  }
  return Status::Ok();
}

// The foreground process of a start in the background.
int AwaitBackground(const Daemon& daemon, const std::string& mountpoint) {
  const Status started = AwaitStart(daemon);
  if (!started.ok()) {
    waitpid(daemon.child, nullptr, 0);
    return Complain(started.context());
  }
  const Status answers = CheckAnswers(mountpoint);
  if (answers.ok()) return 0;
  kill(daemon.child, SIGTERM);
  waitpid(daemon.child, nullptr, 0);
  return Complain(answers.context());
}

// Descriptors that are opened later must not take the numbers of standard input and output.
void OccupyStandardDescriptors() {
  int fd = -1;
  do {
    fd = open("/dev/null", O_RDWR);
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd >= 0) close(fd);
}

int Main(int argc, char** argv) {
  OccupyStandardDescriptors();
  if (argc > 1 && std::strcmp(argv[1], "serve") == 0) {
    const ParsedServeCommandLine parsed = ParseServeCommandLine(argc, argv);
    if (parsed.probe) return Probe(*parsed.probe);
    return parsed.value ? Serve(*parsed.value) : parsed.exit_code;
  }
  if (argc == 2 && std::strcmp(argv[1], kForgetVerb) == 0) return ForgetPagesOfInput();
  const ParsedCommandLine parsed = ParseCommandLine(argc, argv);
  if (!parsed.value) return parsed.exit_code;
  Result<MountSession> session = PrepareSession(*parsed.value);
  if (!session.ok()) return Complain(session.status().context());

  if (session->foreground) return Supervisor(std::move(*session), StartReport()).Run();
  Result<Daemon> daemon = StartDaemon();
  if (!daemon.ok()) return Complain(daemon.status().context());
  if (daemon->child != 0) return AwaitBackground(*daemon, session->place.mountpoint);
  return Supervisor(std::move(*session), StartReport(std::move(daemon->pipe))).Run();
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  try {
    return cairn::Main(argc, argv);
  } catch (const std::exception& exception) {
    std::fprintf(stderr, "cairnfs: %s\n", exception.what());
    return 1;
  }
}
