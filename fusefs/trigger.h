// What is written into the attributes that start something. Pure functions; errors are kInvalid
// and say what would be valid.
#ifndef CAIRN_FUSEFS_TRIGGER_H_
#define CAIRN_FUSEFS_TRIGGER_H_

#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.h"

namespace cairn {

inline constexpr std::string_view kSnapshotTrigger = "user.cairn.snapshot";
inline constexpr std::string_view kCloneTrigger = "user.cairn.clone";

// "NAME[,exclude-role=ROLE][,exclude=GLOB]", the latter two as often as wanted.
struct SnapshotTrigger {
  std::string name;
  std::vector<std::string> exclude_globs;
  std::vector<std::string> exclude_roles;
};
Result<SnapshotTrigger> ParseSnapshotTrigger(std::string_view value);

// "to=PATH".
struct CloneTrigger {
  std::string to;
};
Result<CloneTrigger> ParseCloneTrigger(std::string_view value);

// One filter of a snapshot: "exclude=GLOB" or "exclude-role=ROLE".
Status AddFilter(std::string_view filter, std::vector<std::string>& globs,
                 std::vector<std::string>& roles);

// Where a clone's path leads. From the mount's root: a path that begins with the mountpoint, and
// any other that begins with "/". Else from the directory that holds the source.
struct TargetPath {
  bool from_root = false;
  std::vector<std::string> directories;  // to go through, "." left out, ".." kept
  std::string name;                      // to make there
};
Result<TargetPath> ParseTargetPath(std::string_view path, std::string_view mountpoint);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_TRIGGER_H_
