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
#include <string>
#include <thread>
#include <vector>

#include "fusefs/invalidator.h"
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

// Sleeps until the supervisor is gone, then ends the mount.
void OutliveSupervisor(const MountPlace& place, const std::string& device) {
  pollfd end{.fd = kSupervisor, .events = POLLIN, .revents = 0};
  while (poll(&end, 1, -1) < 0 && errno == EINTR) continue;
  // Nobody is there to be told whether that worked.
  if (end.revents == POLLIN) static_cast<void>(AbortMount(place, device));
}

}  // namespace

Result<PageForgetting> PageForgetting::Create(MountPlace place) {
  // A parent that is gone already is seen by its channel (control_channel.h).
  UniqueFd supervisor(static_cast<int>(syscall(SYS_pidfd_open, getppid(), 0)));
  if (!supervisor.valid()) return Status::FromErrno(errno, "pidfd_open");
  return PageForgetting(std::move(place), std::move(supervisor));
}

// It inherits that signals are blocked and ignored as they are here.
Result<pid_t> PageForgetting::Start(int fuse_fd, const UniqueFd& inodes) const {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // The last one may take the number of one before it.
  posix_spawn_file_actions_adddup2(&actions, inodes.get(), kInodes);
  posix_spawn_file_actions_adddup2(&actions, fuse_fd, kFuse);
  posix_spawn_file_actions_adddup2(&actions, supervisor_.get(), kSupervisor);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&actions, kSupervisor + 1);
  std::vector<std::string> words = {"cairnfs", kForgetVerb, place_.store, place_.mountpoint};
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = -1;
  const int error =
      posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, arguments.data(), environ);
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

int ForgetPagesOfInput(const MountPlace& place) {
  prctl(PR_SET_NAME, "cairnfs-forget");  // not "exe"
  std::vector<InodeId> inodes;
  uint64_t number = 0;
  for (off_t at = 0; pread(kInodes, &number, sizeof(number), at) == sizeof(number);
       at += sizeof(number)) {
    inodes.emplace_back(number);
  }
  // A mount that is gone has nothing that could be forgotten.
  const Result<std::string> device = FindMount(place);
  if (device.ok()) std::thread(OutliveSupervisor, place, *device).detach();
  return ForgetPages(kFuse, inodes).ok() ? 0 : 1;
}

}  // namespace cairn
