// The mounts of this machine, as the kernel lists them.
#ifndef CAIRN_TOOLS_CAIRN_MOUNTS_H_
#define CAIRN_TOOLS_CAIRN_MOUNTS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::cli {

struct MountEntry {
  std::string mountpoint;
  std::string type;    // "fuse.cairnfs"
  std::string source;  // of a Cairn mount, its store
  bool is_cairn() const { return type == "fuse.cairnfs"; }
};

// The text of /proc/self/mountinfo; lines that are none are passed over.
std::vector<MountEntry> ParseMountInfo(std::string_view text);

// In the order in which they were mounted; a later one on the same place hides the earlier.
std::vector<MountEntry> ReadMounts();

// The mount on exactly this place, or the one that `path` lies in.
std::optional<MountEntry> MountAt(const std::string& path);
std::optional<MountEntry> MountContaining(const std::string& path);

// Absolute and without links, also for the place of a mount whose server is dead: the last part
// of a path is not looked into.
std::string AbsolutePath(const std::string& path);

// " (Cairn mounts here: /mnt/a, /mnt/b)" or " (there is no Cairn mount here)", for messages.
std::string KnownMounts();

}  // namespace cairn::cli

#endif  // CAIRN_TOOLS_CAIRN_MOUNTS_H_
