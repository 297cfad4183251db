// Where snapshots are: MOUNTPOINT/.snapshots/NAME, from what a person wrote.
#ifndef CAIRN_TOOLS_CAIRN_SNAPSHOT_PLACE_H_
#define CAIRN_TOOLS_CAIRN_SNAPSHOT_PLACE_H_

#include <optional>
#include <string>
#include <vector>

#include "tools/cairn/cairn_call.h"
#include "tools/cairn/mounts.h"

namespace cairn::cli {

inline constexpr const char* kSnapshotFolder = ".snapshots";

// The mount that `path` lies in; without a path, the one that the working directory lies in, or the
// only one there is.
Outcome FindMount(const std::optional<std::string>& path, MountEntry& mount);

// The snapshot directory that `word` names: a path of one, or a bare name.
Outcome FindSnapshot(const std::string& word, std::string& path);

// What a clone or a comparison starts from: an existing path, or the bare name of a snapshot.
Outcome FindSource(const std::string& word, std::string& path);

// The names in a directory, sorted.
Outcome ListDirectory(const std::string& path, std::vector<std::string>& names);

// The names in MOUNTPOINT/.snapshots, sorted.
Outcome ListSnapshotNames(const MountEntry& mount, std::vector<std::string>& names);

}  // namespace cairn::cli

#endif  // CAIRN_TOOLS_CAIRN_SNAPSHOT_PLACE_H_
