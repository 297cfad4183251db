// cairn clone: a writable copy that takes no time and no space.
#include <sys/stat.h>

#include <iostream>

#include "tools/cairn/command.h"
#include "tools/cairn/member_sync.h"
#include "tools/cairn/snapshot_place.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string source;
  std::string target;
  bool json = false;
};

// What is to be made, and the directory that it is to be made in.
void SplitTarget(const std::string& target, std::string& parent, std::string& name) {
  std::string trimmed = target;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const size_t slash = trimmed.rfind('/');
  name = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  parent = slash == std::string::npos ? "." : slash == 0 ? "/" : trimmed.substr(0, slash);
}

int Run(const Options& options) {
  std::string source;
  if (Outcome found = FindSource(options.source, source); !found.ok()) return Fail(found.message);
  MountEntry mount;
  if (Outcome found = FindMount(source, mount); !found.ok()) return Fail(found.message);
  std::string parent;
  cairn_ioc_clone argument{};
  std::string name;
  SplitTarget(options.target, parent, name);
  struct stat st {};
  if (::stat(parent.c_str(), &st) != 0) {
    return Fail(parent + ": " + ::strerror(errno) + "; the directory for the clone must be there");
  }
  MountEntry target_mount;
  if (Outcome found = FindMount(parent, target_mount); !found.ok()) return Fail(found.message);
  if (target_mount.mountpoint != mount.mountpoint) {
    return Fail(options.target + " is in another mount than " + options.source +
                "; a clone shares data, so it stays in the mount of its source: use cp");
  }
  if (name == "." || name == ".." || !PutText(name, argument.name)) {
    return Fail(options.target + " is no name for a clone");
  }
  argument.parent = st.st_ino;
  UniqueFd fd;
  if (Outcome opened = OpenForCall(source, fd); !opened.ok()) return Fail(opened.message);
  // Pages of a live source that a program wrote through mmap.
  const bool live = !source.starts_with(mount.mountpoint + "/" + kSnapshotFolder + "/");
  if (live) SyncMembers({source});
  if (Outcome done = Call(fd.get(), source, CAIRN_IOC_CLONE, argument); !done.ok()) {
    return Fail(done.message);
  }
  const std::string target = AbsolutePath(options.target);
  if (options.json) {
    PrintJson(Json{{"source", source},
                   {"path", target},
                   {"inode", static_cast<uint64_t>(argument.inode)},
                   {"volumes", static_cast<uint64_t>(argument.volumes)}});
  } else {
    std::cout << Printable(target) << ": clone of " << Printable(source) << ", " << argument.volumes
              << (argument.volumes == 1 ? " volume\n" : " volumes\n");
  }
  return kDone;
}

}  // namespace

void RegisterClone(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb = app.add_subcommand(
      "clone", "Make a writable clone of a volume, a snapshot, or a directory of volumes, at once");
  verb->add_option("SRC", options->source,
                   "a volume, a directory, a snapshot, or something in a snapshot")
      ->required();
  verb->add_option("DST", options->target, "what to make; must not exist")->required();
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
