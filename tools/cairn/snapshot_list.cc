// cairn snapshot list, show: what snapshots there are, and what is in one.
#include <algorithm>
#include <iostream>

#include "tools/cairn/snapshot_place.h"
#include "tools/cairn/snapshot_verbs.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string Padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size()), ' ');
  return text;
}

std::string Right(const std::string& text, size_t width) {
  return std::string(width - std::min(width, text.size()), ' ') + text;
}

void PrintList(const std::vector<SnapshotEntry>& entries, bool count) {
  size_t width = 4;
  for (const SnapshotEntry& entry : entries) width = std::max(width, Printable(entry.name).size());
  std::cout << Padded("name", width) << "  " << Padded("created", 19) << "  volumes        size";
  if (count) std::cout << "   exclusive      shared";
  std::cout << "  description\n";
  for (const SnapshotEntry& entry : entries) {
    std::cout << Padded(Printable(entry.name), width) << "  " << LocalTime(entry.created_ns)
              << Right(std::to_string(entry.member_count), 9) << Right(HumanBytes(entry.size), 12);
    if (count) {
      std::cout << Right(HumanBytes(entry.exclusive_bytes), 12)
                << Right(HumanBytes(entry.shared_bytes), 12);
    }
    std::cout << "  " << Printable(entry.description) << '\n';
  }
}

void PrintOne(const SnapshotEntry& entry) {
  std::cout << Printable(entry.path) << "\n  created      " << LocalTime(entry.created_ns)
            << "\n  description  "
            << (entry.description.empty() ? "-" : Printable(entry.description))
            << "\n  tags         ";
  for (size_t i = 0; i < entry.tags.size(); ++i) {
    std::cout << (i ? ", " : "") << Printable(entry.tags[i]);
  }
  std::cout << (entry.tags.empty() ? "-" : "") << "\n  owner        " << entry.uid << ':'
            << entry.gid << "\n  size         " << HumanBytes(entry.size) << "\n  exclusive    "
            << HumanBytes(entry.exclusive_bytes)
            << "   (comes back when it is deleted)\n  shared       "
            << HumanBytes(entry.shared_bytes) << "\n        size   exclusive      shared  volume\n";
  for (const SnapshotEntry::Member& member : entry.members) {
    std::cout << Right(HumanBytes(member.size), 12) << Right(HumanBytes(member.exclusive_bytes), 12)
              << Right(HumanBytes(member.shared_bytes), 12) << "  " << Printable(member.path)
              << '\n';
  }
}

int RunList(const std::string& path, bool count, bool json) {
  MountEntry mount;
  const auto wanted = path.empty() ? std::nullopt : std::optional(path);
  if (Outcome found = FindMount(wanted, mount); !found.ok()) return Fail(found.message);
  std::vector<SnapshotEntry> entries;
  const Outcome read = ReadSnapshots(mount, count, entries);
  if (json) {
    Json document;
    document["mountpoint"] = mount.mountpoint;
    document["snapshots"] = Json::array();
    for (const SnapshotEntry& entry : entries) document["snapshots"].push_back(ToJson(entry));
    PrintJson(document);
  } else if (entries.empty() && read.ok()) {
    std::cout << "no snapshots in " << Printable(mount.mountpoint) << '\n';
  } else {
    PrintList(entries, count);
  }
  return read.ok() ? kDone : Fail(read.message);
}

int RunShow(const std::string& word, bool json) {
  std::string path;
  if (Outcome found = FindSnapshot(word, path); !found.ok()) return Fail(found.message);
  SnapshotEntry entry;
  if (Outcome read = ReadSnapshot(path, /*count=*/true, entry); !read.ok()) {
    return Fail(read.message);
  }
  if (json) {
    PrintJson(ToJson(entry));
  } else {
    PrintOne(entry);
  }
  return kDone;
}

}  // namespace

void RegisterSnapshotList(CLI::App& parent, int& exit_code) {
  struct Options {
    std::string path;
    bool count = false;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* const verb = parent.add_subcommand("list", "List the snapshots of a mount");
  verb->add_option("PATH", options->path, "a path in the mount");
  verb->add_flag("--space", options->count,
                 "also count what each holds alone and shares, which takes time");
  AddJsonFlag(*verb, options->json);
  verb->callback(
      [options, &exit_code] { exit_code = RunList(options->path, options->count, options->json); });
}

void RegisterSnapshotShow(CLI::App& parent, int& exit_code) {
  struct Options {
    std::string snapshot;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* const verb = parent.add_subcommand("show", "Show one with its members");
  verb->add_option("SNAPSHOT", options->snapshot, "its path or name")->required();
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = RunShow(options->snapshot, options->json); });
}

}  // namespace cairn::cli
