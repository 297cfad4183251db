// cairn snapshot: what its verbs share.
#include <sys/stat.h>

#include <memory>

#include "tools/cairn/snapshot_place.h"
#include "tools/cairn/snapshot_verbs.h"

namespace cairn::cli {
namespace {

Outcome ReadMembers(int fd, const std::string& path, bool count, SnapshotEntry& entry) {
  const auto page = std::make_unique<cairn_ioc_snapshot_members>();
  uint64_t cookie = 0;
  do {
    *page = {};
    page->flags = count ? CAIRN_MEMBERS_COUNT : 0;
    page->cookie = cookie;
    Outcome got = Call(fd, path, CAIRN_IOC_SNAPSHOT_MEMBERS, *page);
    if (!got.ok()) return got;
    for (uint32_t i = 0; i < std::min<uint32_t>(page->count, CAIRN_MEMBER_COUNT); ++i) {
      const cairn_ioc_member& member = page->members[i];
      if (member.path_offset >= CAIRN_MEMBER_PATHS) continue;
      const char* const text = page->paths + member.path_offset;
      entry.members.push_back(
          {std::string(text, ::strnlen(text, CAIRN_MEMBER_PATHS - member.path_offset)),
           member.inode, member.volume, member.size, member.exclusive_bytes, member.shared_bytes});
      entry.exclusive_bytes += member.exclusive_bytes;
      entry.shared_bytes += member.shared_bytes;
    }
    cookie = page->next_cookie;
  } while (cookie != 0);
  entry.counted = count;
  return {};
}

}  // namespace

Outcome ReadSnapshot(const std::string& path, bool count, SnapshotEntry& entry) {
  UniqueFd fd;
  if (Outcome opened = OpenForCall(path, fd); !opened.ok()) return opened;
  cairn_ioc_snapshot_show show{};
  if (Outcome got = Call(fd.get(), path, CAIRN_IOC_SNAPSHOT_SHOW, show); !got.ok()) return got;
  entry.path = path;
  entry.name = TakeText(show.name);
  entry.id = show.inode;
  entry.created_ns = show.created_ns;
  entry.description = TakeText(show.description);
  entry.tags = TakeList(show.tags, sizeof(show.tags));
  entry.uid = show.uid;
  entry.gid = show.gid;
  entry.member_count = show.members;
  entry.size = show.size;
  return count ? ReadMembers(fd.get(), path, count, entry) : Outcome{};
}

Outcome ReadMemberPlaces(const std::string& path, SnapshotEntry& entry) {
  UniqueFd fd;
  if (Outcome opened = OpenForCall(path, fd); !opened.ok()) return opened;
  return ReadMembers(fd.get(), path, /*count=*/false, entry);
}

Outcome ReadSnapshots(const MountEntry& mount, bool count, std::vector<SnapshotEntry>& entries) {
  std::vector<std::string> names;
  Outcome problem = ListSnapshotNames(mount, names);
  for (const std::string& name : names) {
    SnapshotEntry entry;
    const std::string path = mount.mountpoint + "/" + kSnapshotFolder + "/" + name;
    Outcome got = ReadSnapshot(path, count, entry);
    if (got.ok()) {
      entries.push_back(std::move(entry));
    } else if (got.error != ENOENT && problem.ok()) {
      problem = std::move(got);
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.created_ns < b.created_ns; });
  return problem;
}

Outcome DeleteSnapshot(const std::string& path, std::optional<uint64_t> id) {
  UniqueFd fd;
  if (Outcome opened = OpenForCall(path, fd); !opened.ok()) return opened;
  struct stat st {};
  if (id && ::fstat(fd.get(), &st) != 0) return {errno, path + ": " + ::strerror(errno)};
  if (id && st.st_ino != *id) return {ESTALE, path + ": is another snapshot by now, and stays"};
  cairn_ioc_snapshot_delete argument{};
  return Call(fd.get(), path, CAIRN_IOC_SNAPSHOT_DELETE, argument);
}

nlohmann::ordered_json ToJson(const SnapshotEntry& entry) {
  nlohmann::ordered_json json;
  json["name"] = entry.name;
  json["path"] = entry.path;
  json["id"] = entry.id;
  json["created"] = UtcTime(entry.created_ns);
  json["created_ns"] = entry.created_ns;
  json["description"] = entry.description;
  json["tags"] = nlohmann::ordered_json::object();
  for (const std::string& tag : entry.tags) {
    const size_t equals = tag.find('=');
    if (equals != std::string::npos) json["tags"][tag.substr(0, equals)] = tag.substr(equals + 1);
  }
  json["uid"] = entry.uid;
  json["gid"] = entry.gid;
  json["member_count"] = entry.member_count;
  json["size"] = entry.size;
  // A snapshot is committed with all its members, so that what is listed is whole.
  json["state"] = "complete";
  if (!entry.counted) return json;
  json["exclusive_bytes"] = entry.exclusive_bytes;
  json["shared_bytes"] = entry.shared_bytes;
  json["members"] = nlohmann::ordered_json::array();
  for (const SnapshotEntry::Member& member : entry.members) {
    json["members"].push_back({{"path", member.path},
                               {"inode", member.inode},
                               {"volume", member.volume},
                               {"size", member.size},
                               {"state", "complete"},
                               {"exclusive_bytes", member.exclusive_bytes},
                               {"shared_bytes", member.shared_bytes}});
  }
  return json;
}

void RegisterSnapshot(CLI::App& app, int& exit_code) {
  CLI::App* const verb = app.add_subcommand(
      "snapshot", "Snapshots of volumes and of whole machines: create, list, show, ...");
  verb->require_subcommand(1);
  verb->footer(
      "A SNAPSHOT is MOUNTPOINT/.snapshots/NAME, or NAME alone inside a mount or where there is "
      "only one.");
  RegisterSnapshotCreate(*verb, exit_code);
  RegisterSnapshotList(*verb, exit_code);
  RegisterSnapshotShow(*verb, exit_code);
  RegisterSnapshotDelete(*verb, exit_code);
  RegisterSnapshotRollback(*verb, exit_code);
  RegisterSnapshotPrune(*verb, exit_code);
}

}  // namespace cairn::cli
