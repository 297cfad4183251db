// The verbs below `cairn snapshot`, one family a file.
#ifndef CAIRN_TOOLS_CAIRN_SNAPSHOT_VERBS_H_
#define CAIRN_TOOLS_CAIRN_SNAPSHOT_VERBS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/cairn/cairn_call.h"
#include "tools/cairn/command.h"
#include "tools/cairn/mounts.h"

namespace cairn::cli {

void RegisterSnapshotCreate(CLI::App& parent, int& exit_code);
void RegisterSnapshotList(CLI::App& parent, int& exit_code);
void RegisterSnapshotShow(CLI::App& parent, int& exit_code);
void RegisterSnapshotDelete(CLI::App& parent, int& exit_code);
void RegisterSnapshotRollback(CLI::App& parent, int& exit_code);
void RegisterSnapshotPrune(CLI::App& parent, int& exit_code);

// A snapshot as its ioctls tell it.
struct SnapshotEntry {
  struct Member {
    std::string path;
    uint64_t inode = 0;
    uint64_t volume = 0;
    uint64_t size = 0;
    uint64_t exclusive_bytes = 0;
    uint64_t shared_bytes = 0;
  };

  std::string path;
  std::string name;
  uint64_t id = 0;
  int64_t created_ns = 0;
  std::string description;
  std::vector<std::string> tags;  // KEY=VALUE
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t member_count = 0;
  uint64_t size = 0;
  bool counted = false;  // the members are there, and the next two
  uint64_t exclusive_bytes = 0;
  uint64_t shared_bytes = 0;
  std::vector<Member> members;
};

// With `count`, also the members and what they hold, which takes time.
Outcome ReadSnapshot(const std::string& path, bool count, SnapshotEntry& entry);
// All of a mount, oldest first; the first problem with one of them is returned after the others
// were read. One that goes away meanwhile is none.
Outcome ReadSnapshots(const MountEntry& mount, bool count, std::vector<SnapshotEntry>& entries);

// Fills in the members alone, without what each holds.
Outcome ReadMemberPlaces(const std::string& path, SnapshotEntry& entry);

// With an id only that snapshot: another may have got its name.
Outcome DeleteSnapshot(const std::string& path, std::optional<uint64_t> id = {});

nlohmann::ordered_json ToJson(const SnapshotEntry& entry);

}  // namespace cairn::cli

#endif  // CAIRN_TOOLS_CAIRN_SNAPSHOT_VERBS_H_
