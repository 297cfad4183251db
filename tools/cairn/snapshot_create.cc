// cairn snapshot create: one snapshot of several volumes at one instant.
#include <sys/stat.h>

#include <algorithm>
#include <iostream>
#include <memory>

#include "tools/cairn/hooks.h"
#include "tools/cairn/member_sync.h"
#include "tools/cairn/snapshot_place.h"
#include "tools/cairn/snapshot_verbs.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint32_t kMostHoldMs = 60'000;
constexpr const char* kMayBeMissing =
    "what programs wrote there through mmap may be missing in the snapshot";

struct Options {
  std::vector<std::string> paths;
  std::string name;
  std::vector<std::string> exclude_globs;
  std::vector<std::string> exclude_roles;
  std::vector<std::string> tags;
  std::string description;
  std::string token;
  std::string pre;
  std::string post;
  double hook_timeout_seconds = 30;
  uint32_t hold_ms = 0;
  bool json = false;
};

struct Made {
  Outcome outcome;  // of the cut
  cairn_ioc_snapshot_create answer{};
  MemberSync sync;
  std::vector<std::string> late_failures;  // of the sync after the pre hook
  HookResult pre;
  HookResult post;
};

// Fills the request in; the descriptors are of the paths.
Outcome FillRequest(const Options& options, const std::vector<UniqueFd>& fds,
                    cairn_ioc_snapshot_create& request) {
  if (fds.size() > CAIRN_ALSO_COUNT + 1) {
    return {E2BIG, "more than " + std::to_string(CAIRN_ALSO_COUNT + 1) +
                       " paths; give a directory that holds the volumes"};
  }
  for (size_t i = 1; i < fds.size(); ++i) {
    struct stat st {};
    if (::fstat(fds[i].get(), &st) != 0) return {errno, options.paths[i] + ": cannot be read"};
    request.also[request.also_count++] = st.st_ino;
  }
  std::vector<std::string> filters;
  for (const std::string& glob : options.exclude_globs) filters.push_back("exclude=" + glob);
  for (const std::string& role : options.exclude_roles) filters.push_back("exclude-role=" + role);
  const auto too_long = [](const char* what) {
    return Outcome{EINVAL, std::string(what) + " too long, or empty"};
  };
  if (!PutText(options.name, request.name)) return too_long("--name is");
  if (!PutText(options.token, request.token)) return too_long("--token is");
  if (!PutText(options.description, request.description)) return too_long("--description is");
  if (!PutList(filters, request.filters, sizeof(request.filters))) {
    return too_long("--exclude and --exclude-role are");
  }
  if (!PutList(options.tags, request.tags, sizeof(request.tags))) return too_long("--tag is");
  request.hold_ms = options.hold_ms;
  return {};
}

// Opens all paths; all must lie in one mount.
Outcome OpenPaths(const Options& options, MountEntry& mount, std::vector<UniqueFd>& fds) {
  for (const std::string& path : options.paths) {
    MountEntry found;
    if (Outcome outcome = FindMount(path, found); !outcome.ok()) return outcome;
    if (fds.empty()) mount = found;
    if (found.mountpoint != mount.mountpoint) {
      return {EXDEV, path + " is in the mount " + found.mountpoint + ", not in " +
                         mount.mountpoint + "; a snapshot is of one mount"};
    }
    fds.emplace_back();
    if (Outcome outcome = OpenForCall(path, fds.back()); !outcome.ok()) return outcome;
  }
  return {};
}

std::string SnapshotPath(const MountEntry& mount, const std::string& name) {
  return mount.mountpoint + "/" + kSnapshotFolder + "/" + name;
}

std::map<std::string, std::string> HookVariables(const Options& options, const MountEntry& mount) {
  std::string paths;
  for (const std::string& path : options.paths) {
    paths += (paths.empty() ? "" : "\n") + AbsolutePath(path);
  }
  return {{"CAIRN_SNAPSHOT", options.name},
          {"CAIRN_SNAPSHOT_PATH", SnapshotPath(mount, options.name)},
          {"CAIRN_MOUNTPOINT", mount.mountpoint},
          {"CAIRN_PATHS", paths}};
}

// Between the pre hook and the post hook nothing returns early: what was frozen is thawed.
void CutBetweenHooks(const Options& options, const MountEntry& mount, int fd, Made& made) {
  const SignalsWait signals;
  const auto limit =
      std::chrono::milliseconds(static_cast<int64_t>(options.hook_timeout_seconds * 1000));
  auto variables = HookVariables(options, mount);
  if (!options.pre.empty()) {
    variables["CAIRN_STAGE"] = "pre";
    made.pre = RunHook(options.pre, limit, variables);
  }
  if (made.pre.ran && !made.pre.ok()) {
    made.outcome = {ECANCELED, "no snapshot was made: the --pre command " + made.pre.Describe()};
  } else {
    // Once more, for what the hook had written; little is left to do.
    if (made.pre.ran) made.late_failures = SyncMembers(options.paths).failures;
    made.outcome = Call(fd, options.paths.front(), CAIRN_IOC_SNAPSHOT_CREATE, made.answer);
  }
  if (!options.post.empty()) {
    variables["CAIRN_STAGE"] = "post";
    variables["CAIRN_RESULT"] = made.outcome.ok() ? "ok" : "failed";
    if (made.outcome.ok()) {
      // An earlier request with the same token may have given it another name.
      const std::string name = TakeText(made.answer.name);
      variables["CAIRN_SNAPSHOT"] = name;
      variables["CAIRN_SNAPSHOT_PATH"] = SnapshotPath(mount, name);
    }
    made.post = RunHook(options.post, limit, variables);
  }
}

Json HookJson(const HookResult& hook) {
  if (!hook.ran) return nullptr;
  return {{"exit_code", hook.exit_code}, {"timed_out", hook.timed_out}, {"seconds", hook.seconds}};
}

void Print(const Options& options, const MountEntry& mount, const Made& made) {
  const cairn_ioc_snapshot_create& answer = made.answer;
  const std::string name = TakeText(answer.name);
  const std::string path = SnapshotPath(mount, name);
  if (options.json) {
    Json json;
    json["name"] = name;
    json["path"] = path;
    json["id"] = static_cast<uint64_t>(answer.inode);
    json["created"] = UtcTime(answer.created_ns);
    json["created_ns"] = static_cast<int64_t>(answer.created_ns);
    json["member_count"] = static_cast<uint64_t>(answer.members);
    json["existed"] = answer.existed != 0;
    json["held_ns"] = static_cast<uint64_t>(answer.held_ns);
    json["sync_seconds"] = made.sync.seconds;
    json["pre"] = HookJson(made.pre);
    json["post"] = HookJson(made.post);
    PrintJson(json);
    return;
  }
  std::cout << Printable(path) << ": " << answer.members
            << (answer.members == 1 ? " volume" : " volumes");
  if (answer.existed != 0) {
    std::cout << ", made by an earlier request with this token\n";
  } else {
    std::cout << ", I/O was held back for " << (answer.held_ns + 500) / 1000 << " us\n";
  }
}

int Run(const Options& options) {
  MountEntry mount;
  std::vector<UniqueFd> fds;
  if (Outcome opened = OpenPaths(options, mount, fds); !opened.ok()) return Fail(opened.message);
  Made made;
  if (Outcome filled = FillRequest(options, fds, made.answer); !filled.ok()) {
    return Fail(filled.message);
  }
  made.sync = SyncMembers(options.paths);
  WarnOfFailures(made.sync.failures, kMayBeMissing);
  CutBetweenHooks(options, mount, fds.front().get(), made);
  // Those that failed before as well were named before.
  std::erase_if(made.late_failures, [&](const std::string& failure) {
    return std::count(made.sync.failures.begin(), made.sync.failures.end(), failure) > 0;
  });
  WarnOfFailures(made.late_failures, kMayBeMissing);
  if (made.outcome.ok()) Print(options, mount, made);
  int result = made.outcome.ok() ? kDone : Fail(made.outcome.message);
  if (made.post.ran && !made.post.ok()) {
    result = Fail("the --post command " + made.post.Describe() +
                  (made.outcome.ok() ? "; the snapshot was made" : "") +
                  "; see to it that what --pre stopped goes on");
  }
  return result;
}

}  // namespace

void RegisterSnapshotCreate(CLI::App& parent, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb = parent.add_subcommand(
      "create", "Take a snapshot of volumes, and of all volumes below directories, at one instant");
  verb->add_option("PATH", options->paths, "volumes and directories of one mount")->required();
  verb->add_option("--name", options->name, "its name")->required();
  const auto add_list = [&](const char* name, std::vector<std::string>& list, const char* text) {
    verb->add_option(name, list, text)->allow_extra_args(false)->take_all();
  };
  add_list("--exclude", options->exclude_globs,
           "leave out volumes whose path or file name fits the GLOB");
  add_list("--exclude-role", options->exclude_roles, "leave out volumes with this user.cairn.role");
  add_list("--tag", options->tags, "KEY=VALUE, kept with it");
  verb->add_option("--description", options->description, "a text that is kept with it");
  verb->add_option("--token", options->token,
                   "a request with the same token gives the same snapshot, not a second one");
  verb->add_option("--pre", options->pre,
                   "shell command to run before the instant; when it fails, nothing is done");
  verb->add_option("--post", options->post,
                   "shell command to run after it, also when the snapshot or --pre failed");
  verb->add_option("--hook-timeout", options->hook_timeout_seconds,
                   "how long each command may take, in seconds")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 86400.0));
  verb->add_option("--hold-ms", options->hold_ms,
                   "how long I/O may be held back at most; when that passes, nothing is done")
      ->check(CLI::Range(uint32_t{1}, kMostHoldMs));
  AddJsonFlag(*verb, options->json);
  verb->footer(
      "The commands find CAIRN_STAGE (pre or post), CAIRN_SNAPSHOT, CAIRN_SNAPSHOT_PATH,\n"
      "CAIRN_MOUNTPOINT, CAIRN_PATHS (a line each) and, after it, CAIRN_RESULT (ok or failed)\n"
      "in their environment. With --token the snapshot that --post finds may have another name\n"
      "than was asked for. Their output goes to stderr.");
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
