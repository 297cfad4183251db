#include "tools/cairnfs/forget_process.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "fusefs/invalidator.h"
#include "src/base/log.h"
#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {
namespace {

// Where the process finds what it needs.
constexpr int kInodes = STDIN_FILENO;  // uint64_t each
constexpr int kFuse = STDOUT_FILENO;

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

// It inherits that signals are blocked and ignored as they are here.
Result<pid_t> Start(int fuse_fd, const UniqueFd& inodes) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, inodes.get(), kInodes);
  posix_spawn_file_actions_adddup2(&actions, fuse_fd, kFuse);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
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

}  // namespace

Status ForgetPagesInProcess(int fuse_fd, std::span<const InodeId> inodes) {
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
  return ForgetPages(kFuse, inodes).ok() ? 0 : 1;
}

}  // namespace cairn
