#include "fusefs/fusermount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "fusefs/fd_passing.h"
#include "fusefs/protocol.h"

namespace cairn {
namespace {

constexpr const char* kProgram = "fusermount3";
constexpr int kExecFailed = 127;

std::string EscapeCommas(const std::string& value) {
  std::string escaped;
  for (const char c : value) {
    if (c == ',' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

std::string HelperOptions(const MountPlace& place, const MountOptions& options) {
  std::string text =
      fmt::format("fsname={},subtype=cairnfs,default_permissions,max_read={},nosuid,nodev",
                  EscapeCommas(place.store), protocol::kMaxTransfer);
  if (options.allow_other) text += ",allow_other";
  if (options.read_only) text += ",ro";
  if (options.mount_flags & MS_NOEXEC) text += ",noexec";
  if (options.mount_flags & MS_NOATIME) text += ",noatime";
  return text;
}

// Runs the helper; `socket`, when there is one, is its _FUSE_COMMFD. Returns its process.
Result<pid_t> StartHelper(std::vector<std::string> arguments, int socket) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string socket_number = std::to_string(socket);
  const pid_t child = fork();
  if (child < 0) return Status::FromErrno(errno, "fork");
  if (child == 0) {
    if (socket >= 0) {
      fcntl(socket, F_SETFD, 0);
      setenv("_FUSE_COMMFD", socket_number.c_str(), 1);
    }
    execvp(kProgram, argv.data());
    _exit(kExecFailed);
  }
  return child;
}

Result<int> WaitForHelper(pid_t child) {
  int state = 0;
  while (waitpid(child, &state, 0) < 0) {
    if (errno != EINTR) return Status::FromErrno(errno, "waiting for fusermount3");
  }
  if (!WIFEXITED(state)) return Status(Code::kIo, "fusermount3 was killed");
  if (WEXITSTATUS(state) == kExecFailed) {
    return Status(Code::kPermission,
                  "mounting needs root, or fusermount3 (Debian: apt install fuse3)");
  }
  return WEXITSTATUS(state);
}

}  // namespace

Result<UniqueFd> MountWithFusermount(const MountPlace& place, const MountOptions& options) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return Status::FromErrno(errno, "socketpair");
  }
  const UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  CAIRN_ASSIGN_OR_RETURN(
      const pid_t child,
      StartHelper({kProgram, "-o", HelperOptions(place, options), "--", place.mountpoint},
                  theirs.get()));
  theirs.Reset();
  std::byte byte{};
  Result<ReceivedMessage> message = ReceiveWithFd(ours.get(), {&byte, 1});
  CAIRN_ASSIGN_OR_RETURN(const int exit_code, WaitForHelper(child));
  if (exit_code != 0 || !message.ok() || !message->fd.valid()) {
    return Status(Code::kPermission, "fusermount3 did not mount at " + place.mountpoint);
  }
  return std::move(message->fd);
}

Status UnmountWithFusermount(const MountPlace& place, bool detach) {
  std::vector<std::string> arguments = {kProgram, "-u", "-q"};
  if (detach) arguments.emplace_back("-z");
  arguments.insert(arguments.end(), {"--", place.mountpoint});
  CAIRN_ASSIGN_OR_RETURN(const pid_t child, StartHelper(std::move(arguments), -1));
  CAIRN_ASSIGN_OR_RETURN(const int exit_code, WaitForHelper(child));
  if (exit_code == 0) return Status::Ok();
  return Status(Code::kBusy, "fusermount3 did not unmount " + place.mountpoint);
}

}  // namespace cairn
