// cairn du: what volumes hold, next to how large they are.
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>
#include <iostream>
#include <vector>

#include "src/base/strong_id.h"
#include "tools/cairn/command.h"
#include "tools/cairn/mounts.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kStatBlock = 512;  // the unit of st_blocks
constexpr const char* kSnapshotFolder = ".snapshots";

struct Options {
  std::vector<std::string> paths;
  bool json = false;
};

struct Usage {
  std::string path;
  uint64_t size = 0;
  uint64_t held = 0;
};

class Walker {
 public:
  void Walk(const std::string& path) {
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0) {
      Complain(path);
      return;
    }
    if (S_ISREG(st.st_mode)) {
      Add(path, st);
    } else if (S_ISDIR(st.st_mode)) {
      WalkDirectory(path, st);
    }
  }

  const std::vector<Usage>& volumes() const { return volumes_; }
  const Usage& total() const { return total_; }
  bool failed() const { return failed_; }

 private:
  void Complain(const std::string& path) {
    Fail(path + ": " + ::strerror(errno));
    failed_ = true;
  }

  void Add(const std::string& path, const struct stat& st) {
    const Usage usage{path, static_cast<uint64_t>(st.st_size),
                      static_cast<uint64_t>(st.st_blocks) * kStatBlock};
    total_.size += usage.size;
    total_.held += usage.held;
    volumes_.push_back(usage);
  }

  void WalkDirectory(const std::string& path, const struct stat& st) {
    DIR* const folder = ::opendir(path.c_str());
    if (folder == nullptr) {
      Complain(path);
      return;
    }
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(folder)) {
      const std::string name = entry->d_name;
      if (name != "." && name != ".." && !IsSnapshotFolder(st, name)) names.push_back(name);
    }
    const int error = errno;
    ::closedir(folder);
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) Walk(path + (path.ends_with('/') ? "" : "/") + name);
    if (error != 0) {
      errno = error;
      Complain(path);
    }
  }

  // The members of snapshots share the volumes' space: they would be counted twice. Only a mount's
  // root has this folder; named on the command line, it is walked like any other.
  static bool IsSnapshotFolder(const struct stat& parent, const std::string& name) {
    return parent.st_ino == kRootInode.value() && name == kSnapshotFolder;
  }

  std::vector<Usage> volumes_;
  Usage total_{"total", 0, 0};
  bool failed_ = false;
};

Json ToJson(const Usage& usage, bool with_path) {
  Json json;
  if (with_path) json["path"] = usage.path;
  json["size"] = usage.size;
  json["held_bytes"] = usage.held;
  return json;
}

int Run(const Options& options) {
  Walker walker;
  for (const std::string& path : options.paths) walker.Walk(path);
  if (options.json) {
    Json document;
    document["volumes"] = Json::array();
    for (const Usage& usage : walker.volumes()) {
      document["volumes"].push_back(ToJson(usage, true));
    }
    document["total"] = ToJson(walker.total(), false);
    PrintJson(document);
  } else {
    const auto print = [](const std::string& held, const std::string& size,
                          const std::string& path) {
      std::cout << std::string(12 - std::min<size_t>(12, held.size()), ' ') << held
                << std::string(12 - std::min<size_t>(12, size.size()), ' ') << size << "  " << path
                << '\n';
    };
    print("held", "size", "volume");
    for (const Usage& usage : walker.volumes()) {
      print(HumanBytes(usage.held), HumanBytes(usage.size), usage.path);
    }
    print(HumanBytes(walker.total().held), HumanBytes(walker.total().size), "total");
  }
  return walker.failed() ? kFailed : kDone;
}

}  // namespace

void RegisterDu(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb =
      app.add_subcommand("du", "Show how much each volume holds, and how large it is");
  verb->add_option("PATH", options->paths, "volumes and directories of volumes")->required();
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
