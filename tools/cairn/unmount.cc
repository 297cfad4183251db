// cairn unmount: unmounts, and returns when the mount's processes have ended, so that everything
// is durable and the store is free.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <thread>
#include <vector>

#include "src/base/unique_fd.h"
#include "tools/cairn/command.h"
#include "tools/cairn/mounts.h"

namespace cairn::cli {
namespace {

using SteadyClock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

constexpr std::chrono::milliseconds kPollInterval{20};

struct Options {
  std::string mountpoint;
  double timeout_seconds = 60;
  bool json = false;
};

// A process that cannot be confused with a later one of the same id.
struct Process {
  int pid = 0;
  UniqueFd fd;
};

std::string ReadLink(const std::string& path) {
  std::error_code error;
  return std::filesystem::read_symlink(path, error).string();
}

std::vector<std::string> ReadWords(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  return words;
}

// Whether process `pid` is a cairnfs that was started for this mount. Its arguments may be
// relative to a folder that it has left, so a lock or directory of the store that it has open
// counts as well.
bool ServesMount(const std::string& pid, const MountEntry& mount) {
  const std::string folder = "/proc/" + pid;
  const std::string program = std::filesystem::path(ReadLink(folder + "/exe")).filename();
  if (!program.starts_with("cairnfs")) return false;
  const auto words = ReadWords(folder + "/cmdline");
  if (std::find(words.begin(), words.end(), mount.mountpoint) != words.end()) return true;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder + "/fd", error)) {
    if (ReadLink(entry.path()).starts_with(mount.source + "/")) return true;
  }
  return false;
}

std::vector<Process> FindProcesses(const MountEntry& mount) {
  std::vector<Process> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (!ServesMount(name, mount)) continue;
    const int pid = std::stoi(name);
    UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    // Looked at again: the id may have passed to another program meanwhile.
    if (fd.valid() && ServesMount(name, mount)) found.push_back({pid, std::move(fd)});
  }
  return found;
}

// Users without rights to umount(2) have fusermount3 for their own mounts.
int UnmountByHelper(const std::string& mountpoint) {
  std::string program = "fusermount3";
  std::string flag = "-u";
  std::string end = "--";
  std::string path = mountpoint;
  char* const arguments[] = {program.data(), flag.data(), end.data(), path.data(), nullptr};
  pid_t pid = 0;
  if (::posix_spawnp(&pid, arguments[0], nullptr, nullptr, arguments, environ) != 0) return EPERM;
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : EPERM;
}

int Unmount(const std::string& mountpoint) {
  if (::umount2(mountpoint.c_str(), UMOUNT_NOFOLLOW) == 0) return 0;
  return errno == EPERM ? UnmountByHelper(mountpoint) : errno;
}

// Whether no process has the store open. A shared lock is tried and let go at once.
bool StoreIsFree(const std::string& store) {
  const UniqueFd fd(::open((store + "/lock").c_str(), O_RDONLY | O_CLOEXEC));
  // Without rights to look, or without a store, the processes have to tell.
  if (!fd.valid()) return true;
  return ::flock(fd.get(), LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK;
}

// Whether the last process that had the store open closed it; it leaves a mark when it did. Who may
// not look into the store has to believe it.
bool WasClosed(const std::string& store) {
  struct stat st {};
  return ::stat((store + "/clean").c_str(), &st) == 0 || errno != ENOENT;
}

bool HasEnded(const Process& process) {
  pollfd waiting{process.fd.get(), POLLIN, 0};
  return ::poll(&waiting, 1, 0) > 0;
}

int Run(const Options& options) {
  const std::string path = AbsolutePath(options.mountpoint);
  const auto mount = MountAt(path);
  if (!mount || !mount->is_cairn()) {
    return Fail(options.mountpoint + " is not a Cairn mount" + KnownMounts());
  }
  std::vector<Process> processes = FindProcesses(*mount);
  const auto start = SteadyClock::now();
  if (const int error = Unmount(path); error != 0) {
    if (error == EBUSY) {
      return Fail(options.mountpoint + " is busy: programs have files open in it; 'fuser -vm " +
                  options.mountpoint + "' shows them, end them and try again");
    }
    return Fail(options.mountpoint + ": umount: " + ::strerror(error) +
                (error == EPERM ? "; try it as root or as the user who mounted it" : ""));
  }
  const auto deadline = start + std::chrono::duration<double>(options.timeout_seconds);
  for (;;) {
    std::erase_if(processes, HasEnded);
    if (processes.empty() && StoreIsFree(mount->source)) break;
    if (SteadyClock::now() >= deadline) {
      const std::string who =
          processes.empty() ? "a process" : "process " + std::to_string(processes.front().pid);
      return Fail(options.mountpoint + " is unmounted, but " + who + " still has the store " +
                  mount->source + " open; do not power off or move the store yet, see " +
                  mount->source + "/log");
    }
    std::this_thread::sleep_for(kPollInterval);
  }
  if (!WasClosed(mount->source)) {
    return Fail(options.mountpoint +
                " is unmounted, but its server ended without closing the store: what was not "
                "fsynced may be lost; see " +
                mount->source + "/log and run 'cairn fsck " + mount->source + "'");
  }
  const std::chrono::duration<double> took = SteadyClock::now() - start;
  if (options.json) {
    PrintJson(Json{{"mountpoint", path}, {"store", mount->source}, {"seconds", took.count()}});
  } else {
    std::cout << path << " is unmounted, everything is durable in " << mount->source << '\n';
  }
  return kDone;
}

}  // namespace

void RegisterUnmount(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb = app.add_subcommand(
      "unmount", "Unmount, and wait until everything is durable and the store is free");
  verb->add_option("MOUNTPOINT", options->mountpoint, "the mount")->required();
  verb->add_option("--timeout", options->timeout_seconds, "how long to wait at most, in seconds")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
