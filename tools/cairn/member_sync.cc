#include "tools/cairn/member_sync.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <iostream>
#include <mutex>
#include <system_error>
#include <thread>

#include "src/base/strong_id.h"
#include "src/base/unique_fd.h"
#include "tools/cairn/command.h"
#include "tools/cairn/snapshot_place.h"

namespace cairn::cli {
namespace {

// fsyncs wait for the disk and not for the processor: together they share its flushes.
constexpr size_t kMostThreads = 8;

class Collector {
 public:
  void Walk(const std::string& path) {
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0) {
      if (errno != ENOENT) failures.push_back(path + ": " + ::strerror(errno));
    } else if (S_ISREG(st.st_mode)) {
      volumes.push_back(path);
    } else if (S_ISDIR(st.st_mode)) {
      WalkDirectory(path, st.st_ino == kRootInode.value());
    }
  }

  std::vector<std::string> volumes;
  std::vector<std::string> failures;

 private:
  void WalkDirectory(const std::string& path, bool is_root) {
    DIR* const folder = ::opendir(path.c_str());
    if (folder == nullptr) {
      failures.push_back(path + ": " + ::strerror(errno));
      return;
    }
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(folder)) {
      const std::string name = entry->d_name;
      if (name != "." && name != ".." && !(is_root && name == kSnapshotFolder)) {
        names.push_back(name);
      }
    }
    ::closedir(folder);
    for (const std::string& name : names) Walk(path + (path.ends_with('/') ? "" : "/") + name);
  }
};

// Empty, or why not.
std::string SyncOne(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd.valid()) return errno == ENOENT ? "" : path + ": " + ::strerror(errno);
  return ::fsync(fd.get()) == 0 ? "" : path + ": fsync: " + ::strerror(errno);
}

}  // namespace

MemberSync SyncMembers(const std::vector<std::string>& paths) {
  const auto begin = std::chrono::steady_clock::now();
  Collector collector;
  for (const std::string& path : paths) collector.Walk(path);
  MemberSync result;
  result.volumes = collector.volumes.size();
  result.failures = std::move(collector.failures);
  std::atomic<size_t> next{0};
  std::mutex mutex;
  const auto work = [&] {
    for (size_t i = next++; i < collector.volumes.size(); i = next++) {
      std::string failure = SyncOne(collector.volumes[i]);
      if (failure.empty()) continue;
      const std::scoped_lock lock(mutex);
      result.failures.push_back(std::move(failure));
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < std::min(kMostThreads, collector.volumes.size()); ++i) {
    // With fewer it takes longer.
    try {
      threads.emplace_back(work);
    } catch (const std::system_error&) {
      break;
    }
  }
  work();
  for (std::thread& thread : threads) thread.join();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

void WarnOfFailures(const std::vector<std::string>& failures, std::string_view consequence) {
  std::cout.flush();
  for (const std::string& failure : failures) {
    std::cerr << "cairn: " << Printable(failure) << "; " << consequence << '\n';
  }
}

void LookAtMembers(const std::vector<std::string>& paths) {
  Collector collector;
  for (const std::string& path : paths) collector.Walk(path);
}

}  // namespace cairn::cli
