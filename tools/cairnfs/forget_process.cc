#include "tools/cairnfs/forget_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "fusefs/invalidator.h"
#include "fusefs/mount.h"
#include "src/base/log.h"

namespace cairn {
namespace {

// Where the process finds what it needs.
constexpr int kInodes = STDIN_FILENO;  // uint64_t each
constexpr int kFuse = STDOUT_FILENO;
constexpr int kSupervisor = STDERR_FILENO + 1;  // a pidfd

Result<UniqueFd> Written(std::span<const InodeId> inodes) {
  UniqueFd file(memfd_create("cairn-forget", MFD_CLOEXEC));
  if (!file.valid()) return Status::FromErrno(errno, "memfd_create");
  std::vector<uint64_t> numbers;
  for (const InodeId inode : inodes) numbers.push_back(inode.value());
  const std::span<const std::byte> bytes = std::as_bytes(std::span(numbers));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t written =
        pwrite(file.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (written < 0) return Status::FromErrno(errno, "writing to memory");
    done += static_cast<size_t>(written);
  }
  return file;
}

// Sleeps until the supervisor is gone, then cuts the connection.
void OutliveSupervisor() {
  pollfd end{.fd = kSupervisor, .events = POLLIN, .revents = 0};
  while (poll(&end, 1, -1) < 0 && errno == EINTR) continue;
  // A process whose end its parent has taken note of counts as hung up, too.
  if ((end.revents & (POLLIN | POLLHUP)) == 0) return;
  // Nobody is there to be told whether that worked.
  static_cast<void>(AbortConnection(kFuse));
}

void StartWatching() {
  try {
    std::thread(OutliveSupervisor).detach();
  } catch (const std::system_error&) {
    // To forget the pages is more important.
  }
}

}  // namespace

PageForgetting::PageForgetting() {
  const pid_t parent = getppid();
  UniqueFd supervisor(static_cast<int>(syscall(SYS_pidfd_open, parent, 0)));
  if (!supervisor.valid()) {
    LogWarn("pidfd_open: {}: a mount whose processes are all killed in a rollback may hang",
            std::strerror(errno));
  }
  // When it died meanwhile, its number may be another's. One that died before is seen by its
  // channel, which ends the server.
  if (getppid() == parent) supervisor_ = std::move(supervisor);
}

// It inherits that signals are blocked and ignored as they are here.
Result<pid_t> PageForgetting::Start(int fuse_fd, const UniqueFd& inodes) const {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // The last one may take the number of one before it.
  posix_spawn_file_actions_adddup2(&actions, inodes.get(), kInodes);
  posix_spawn_file_actions_adddup2(&actions, fuse_fd, kFuse);
  if (supervisor_.valid()) {
    posix_spawn_file_actions_adddup2(&actions, supervisor_.get(), kSupervisor);
  }
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&actions,
                                           supervisor_.valid() ? kSupervisor + 1 : kSupervisor);
  char program[] = "cairnfs";
  char verb[sizeof(kForgetVerb)];
  std::memcpy(verb, kForgetVerb, sizeof(verb));
  char* const arguments[] = {program, verb, nullptr};
  pid_t pid = -1;
  const int error = posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Status::FromErrno(error, "starting a process");
  return pid;
}

Status PageForgetting::Forget(int fuse_fd, std::span<const InodeId> inodes) const {
  const Result<UniqueFd> input = Written(inodes);
  const Result<pid_t> pid = input.ok() ? Start(fuse_fd, *input) : input.status();
  if (!pid.ok()) {
    LogWarn("{}: a server that is killed now may not be replaced", pid.status().context());
    return ForgetPages(fuse_fd, inodes);
  }
  int state = 0;
  while (waitpid(*pid, &state, 0) < 0) {
    if (errno != EINTR) return Status::FromErrno(errno, "waitpid");
  }
  if (WIFEXITED(state) && WEXITSTATUS(state) == 0) return Status::Ok();
  LogWarn("{} ended in state {}", kForgetVerb, state);
  return ForgetPages(fuse_fd, inodes);
}

int ForgetPagesOfInput() {
  prctl(PR_SET_NAME, "cairnfs-forget");  // not "exe"
  std::vector<InodeId> inodes;
  uint64_t number = 0;
  for (off_t at = 0; pread(kInodes, &number, sizeof(number), at) == sizeof(number);
       at += sizeof(number)) {
    inodes.emplace_back(number);
  }
  StartWatching();
  return ForgetPages(kFuse, inodes).ok() ? 0 : 1;
}

}  // namespace cairn
