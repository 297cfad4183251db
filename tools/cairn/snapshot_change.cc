// cairn snapshot delete, rollback.
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <iostream>
#include <thread>

#include "tools/cairn/member_sync.h"
#include "tools/cairn/snapshot_place.h"
#include "tools/cairn/snapshot_verbs.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

// close() returns before the server hears of it: whoever deletes the snapshot that was just read
// must not be refused. Of the whole command, which comes after the close.
constexpr std::chrono::seconds kCloseWait{2};
constexpr std::chrono::milliseconds kCloseLookInterval{50};

Outcome DeleteOnceClosed(const std::string& path, std::chrono::steady_clock::time_point deadline) {
  for (;;) {
    Outcome outcome = DeleteSnapshot(path);
    if (outcome.error != EBUSY || std::chrono::steady_clock::now() >= deadline) return outcome;
    std::this_thread::sleep_for(kCloseLookInterval);
  }
}

int RunDelete(const std::vector<std::string>& words, bool json) {
  const auto deadline = std::chrono::steady_clock::now() + kCloseWait;
  Json deleted = Json::array();
  int result = kDone;
  for (const std::string& word : words) {
    std::string path;
    Outcome outcome = FindSnapshot(word, path);
    if (outcome.ok()) outcome = DeleteOnceClosed(path, deadline);
    if (!outcome.ok()) {
      result = Fail(outcome.message);
      continue;
    }
    deleted.push_back(path);
    if (!json)
      std::cout << Printable(path) << " is deleted; its space comes back in the background\n";
  }
  if (json) PrintJson(Json{{"deleted", deleted}});
  return result;
}

// A snapshot, or something in one.
Outcome FindRollbackSource(const std::string& word, std::string& path) {
  Outcome as_snapshot = FindSnapshot(word, path);
  if (as_snapshot.ok() || word.find('/') == std::string::npos) return as_snapshot;
  MountEntry mount;
  path = AbsolutePath(word);
  struct stat st {};
  if (Outcome found = FindMount(path, mount); !found.ok()) return found;
  const std::string root = mount.mountpoint + "/" + kSnapshotFolder + "/";
  if (!path.starts_with(root) || ::lstat(path.c_str(), &st) != 0) return as_snapshot;
  return {};
}

// The live volumes that will be overwritten, or a directory with them all. `path` is the snapshot,
// or what is named in it.
Outcome FindOverwritten(const std::string& path, std::vector<std::string>& volumes) {
  MountEntry mount;
  if (Outcome found = FindMount(path, mount); !found.ok()) return found;
  const std::string root = mount.mountpoint + "/" + kSnapshotFolder + "/";
  if (!path.starts_with(root)) return {EINVAL, path + " is in no snapshot"};
  const size_t end = std::min(path.find('/', root.size()), path.size());
  SnapshotEntry entry;
  if (Outcome read = ReadMemberPlaces(path.substr(0, end), entry); !read.ok()) return read;
  for (const auto& member : entry.members) {
    const std::string inside = path.substr(0, end) + "/" + member.path;
    if (inside != path && !inside.starts_with(path + "/")) continue;
    const std::string there = mount.mountpoint + "/" + member.path;
    struct stat st {};
    if (::lstat(there.c_str(), &st) != 0 || st.st_ino != member.volume) {
      // One that was moved is rolled back where it is now.
      volumes = {mount.mountpoint};
      return {};
    }
    volumes.push_back(there);
  }
  return {};
}

int RunRollback(const std::string& word, bool json) {
  std::string path;
  if (Outcome found = FindRollbackSource(word, path); !found.ok()) return Fail(found.message);
  UniqueFd fd;
  if (Outcome opened = OpenForCall(path, fd); !opened.ok()) return Fail(opened.message);
  // Dirty pages of the volumes must be in what is kept, and not be written over what comes back.
  std::vector<std::string> overwritten;
  const Outcome found = FindOverwritten(path, overwritten);
  std::vector<std::string> failures = SyncMembers(overwritten).failures;
  if (!found.ok()) failures.push_back(found.message + "; no volume was synced before the rollback");
  WarnOfFailures(failures,
                 "what programs wrote there through mmap may be missing in what is kept, and be "
                 "written over what comes back");
  cairn_ioc_snapshot_rollback argument{};
  if (Outcome done = Call(fd.get(), path, CAIRN_IOC_SNAPSHOT_ROLLBACK, argument); !done.ok()) {
    return Fail(done.message);
  }
  LookAtMembers(overwritten);
  const std::string kept = TakeText(argument.kept_name);
  if (json) {
    PrintJson(Json{{"snapshot", path},
                   {"volumes", static_cast<uint64_t>(argument.members)},
                   {"kept_name", kept},
                   {"kept_id", static_cast<uint64_t>(argument.kept_inode)}});
  } else {
    std::cout << argument.members << (argument.members == 1 ? " volume is" : " volumes are")
              << " as in " << Printable(path) << "; what was there is kept as snapshot "
              << Printable(kept) << '\n';
  }
  return kDone;
}

}  // namespace

void RegisterSnapshotDelete(CLI::App& parent, int& exit_code) {
  struct Options {
    std::vector<std::string> snapshots;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* const verb = parent.add_subcommand("delete", "Delete snapshots, in any order");
  verb->add_option("SNAPSHOT", options->snapshots, "their paths or names")->required();
  AddJsonFlag(*verb, options->json);
  verb->callback(
      [options, &exit_code] { exit_code = RunDelete(options->snapshots, options->json); });
}

void RegisterSnapshotRollback(CLI::App& parent, int& exit_code) {
  struct Options {
    std::string snapshot;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* const verb = parent.add_subcommand(
      "rollback",
      "Give volumes the content of a snapshot again, all at once; what they held is kept as "
      "NAME.before-TIME");
  verb->add_option("SNAPSHOT", options->snapshot,
                   "its path or name, or the path of a member or directory in it")
      ->required();
  AddJsonFlag(*verb, options->json);
  verb->footer("Unmount guest filesystems on the volumes first: they keep what they have read.");
  verb->callback(
      [options, &exit_code] { exit_code = RunRollback(options->snapshot, options->json); });
}

}  // namespace cairn::cli
