#include "tools/cairnfs/program_copy.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include <cerrno>

namespace cairn {
namespace {

constexpr int kSeals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
constexpr unsigned kMayBeExecuted = 0x10;  // MFD_EXEC, which Linux 6.3 brought
constexpr size_t kLongestName = 200;       // memfd_create allows 249 bytes
constexpr size_t kMostAtOnce = 1 << 30;

// The path can be read in /proc/PID/exe, and ends as the program's does.
UniqueFd NewMemory(const std::string& path) {
  const size_t cut = path.size() > kLongestName ? path.size() - kLongestName : 0;
  const std::string name = "cairnfs:" + path.substr(cut);
  const unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const int fd = memfd_create(name.c_str(), flags | kMayBeExecuted);
  if (fd >= 0 || errno != EINVAL) return UniqueFd(fd);
  return UniqueFd(memfd_create(name.c_str(), flags));
}

}  // namespace

Result<UniqueFd> CopyProgram(const std::string& path) {
  // O_NONBLOCK: a FIFO without a writer is opened at once, and seen to be one.
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!file.valid()) return Status::FromErrno(errno, path);
  struct stat info {};
  if (fstat(file.get(), &info) != 0) return Status::FromErrno(errno, path);
  if (!S_ISREG(info.st_mode) || (info.st_mode & 0111) == 0) {
    return Status(Code::kInvalid, path + " is no program: an executable file is wanted");
  }
  UniqueFd copy = NewMemory(path);
  if (!copy.valid()) return Status::FromErrno(errno, "memory for a copy of " + path);
  for (;;) {
    const ssize_t sent = sendfile(copy.get(), file.get(), nullptr, kMostAtOnce);
    if (sent < 0) return Status::FromErrno(errno, "copying " + path);
    if (sent == 0) break;
  }
  if (fcntl(copy.get(), F_ADD_SEALS, kSeals) != 0) return Status::FromErrno(errno, "F_ADD_SEALS");
  // Opened anew for reading: what can be written to cannot be executed.
  UniqueFd program(
      open(("/proc/self/fd/" + std::to_string(copy.get())).c_str(), O_RDONLY | O_CLOEXEC));
  if (!program.valid()) return Status::FromErrno(errno, "opening the copy of " + path);
  return program;
}

Status CheckProgramCopy(int fd) {
  // Only memory has seals, so that neither this nor reading it waits for anybody.
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) {
    return Status(Code::kInvalid, "the program did not come as a sealed copy in memory");
  }
  return Status::Ok();
}

}  // namespace cairn
