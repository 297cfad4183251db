// cairn du: what volumes hold, next to how large they are, and what of it they share.
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>
#include <iostream>
#include <vector>

#include "fusefs/cairn_ioctl.h"
#include "src/base/strong_id.h"
#include "tools/cairn/cairn_call.h"
#include "tools/cairn/command.h"
#include "tools/cairn/snapshot_place.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kStatBlock = 512;  // the unit of st_blocks

struct Options {
  std::vector<std::string> paths;
  bool json = false;
};

struct Usage {
  std::string path;
  uint64_t size = 0;
  uint64_t held = 0;
  // What only it needs, and what snapshots or clones need as well; of files in a Cairn mount. Of
  // the total, only if it is known of all.
  bool counted = false;
  uint64_t exclusive = 0;
  uint64_t shared = 0;
};

// Asks the mount, if it is one of Cairn's, how much of the volume is shared. 0, or errno.
int CountShared(const std::string& path, Usage& usage) {
  UniqueFd fd;
  if (Outcome opened = OpenForCall(path, fd); !opened.ok()) return opened.error;
  cairn_ioc_status status{};
  status.version = CAIRN_IOC_VERSION;
  status.flags = CAIRN_STATUS_COUNT;
  if (::ioctl(fd.get(), CAIRN_IOC_STATUS, &status) != 0) return errno;
  usage.counted = true;
  usage.held = status.warm_bytes;
  usage.shared = status.shared_bytes;
  usage.exclusive = usage.held - std::min<uint64_t>(usage.held, usage.shared);
  return 0;
}

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
  // Whether it is known of one of them what it shares.
  bool any_counted() const { return any_counted_; }
  bool failed() const { return failed_; }

 private:
  void Complain(const std::string& path) {
    Fail(path + ": " + ::strerror(errno));
    failed_ = true;
  }

  void Add(const std::string& path, const struct stat& st) {
    Usage usage{path, static_cast<uint64_t>(st.st_size),
                static_cast<uint64_t>(st.st_blocks) * kStatBlock};
    const int error = CountShared(path, usage);
    MountEntry mount;
    // Files elsewhere share nothing that we could count.
    if (error != 0 && FindMount(path, mount).ok()) {
      Fail(path + ": what it shares cannot be counted: " + ::strerror(error));
      failed_ = true;
    }
    total_.size += usage.size;
    total_.held += usage.held;
    total_.counted = usage.counted && (total_.counted || volumes_.empty());
    any_counted_ = any_counted_ || usage.counted;
    total_.exclusive += usage.exclusive;
    total_.shared += usage.shared;
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
  bool any_counted_ = false;
  bool failed_ = false;
};

Json ToJson(const Usage& usage, bool with_path) {
  Json json;
  if (with_path) json["path"] = usage.path;
  json["size"] = usage.size;
  json["held_bytes"] = usage.held;
  if (usage.counted) {
    json["exclusive_bytes"] = usage.exclusive;
    json["shared_bytes"] = usage.shared;
  }
  return json;
}

void PrintTable(const Walker& walker) {
  const auto cell = [](const std::string& text) {
    return std::string(12 - std::min<size_t>(12, text.size()), ' ') + text;
  };
  const bool counted = walker.any_counted();
  std::cout << cell("held");
  if (counted) std::cout << cell("exclusive") << cell("shared");
  std::cout << cell("size") << "  volume\n";
  const auto print = [&](const Usage& usage) {
    std::cout << cell(HumanBytes(usage.held));
    if (counted && usage.counted) {
      std::cout << cell(HumanBytes(usage.exclusive)) << cell(HumanBytes(usage.shared));
    } else if (counted) {
      std::cout << cell("-") << cell("-");
    }
    std::cout << cell(HumanBytes(usage.size)) << "  " << Printable(usage.path) << '\n';
  };
  for (const Usage& usage : walker.volumes()) print(usage);
  print(walker.total());
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
    PrintTable(walker);
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
