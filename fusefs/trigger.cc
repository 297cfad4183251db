#include "fusefs/trigger.h"

#include "src/volume/policy_values.h"

namespace cairn {
namespace {

constexpr std::string_view kSnapshotValue = "NAME[,exclude-role=ROLE][,exclude=GLOB]";

Status Refuse(std::string_view value, std::string_view expected) {
  return Status(Code::kInvalid, "'" + std::string(value) + "' is not " + std::string(expected));
}

std::vector<std::string> SplitPath(std::string_view path) {
  std::vector<std::string> parts;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (!part.empty() && part != ".") parts.emplace_back(part);
    if (slash == std::string_view::npos) break;
    path.remove_prefix(slash + 1);
  }
  return parts;
}

}  // namespace

Status AddFilter(std::string_view filter, std::vector<std::string>& globs,
                 std::vector<std::string>& roles) {
  const size_t equals = filter.find('=');
  const std::string_view kind = filter.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view() : filter.substr(equals + 1);
  if (value.empty()) return Refuse(filter, "exclude=GLOB or exclude-role=ROLE");
  if (kind == "exclude") {
    globs.emplace_back(value);
  } else if (kind == "exclude-role") {
    roles.emplace_back(value);
  } else {
    return Refuse(filter, "exclude=GLOB or exclude-role=ROLE");
  }
  return Status::Ok();
}

Result<SnapshotTrigger> ParseSnapshotTrigger(std::string_view value) {
  if (value.find('\0') != std::string_view::npos) return Refuse(value, kSnapshotValue);
  SnapshotTrigger trigger;
  const size_t comma = value.find(',');
  trigger.name = value.substr(0, comma);
  if (trigger.name.empty()) return Refuse(value, kSnapshotValue);
  while (!value.empty()) {
    const size_t next = value.find(',');
    if (next == std::string_view::npos) break;
    value.remove_prefix(next + 1);
    CAIRN_RETURN_IF_ERROR(
        AddFilter(value.substr(0, value.find(',')), trigger.exclude_globs, trigger.exclude_roles));
  }
  return trigger;
}

Result<CloneTrigger> ParseCloneTrigger(std::string_view value) {
  constexpr std::string_view kTo = "to=";
  if (value.find('\0') != std::string_view::npos || !value.starts_with(kTo) ||
      value.size() == kTo.size()) {
    return Refuse(value, "to=PATH");
  }
  // To make one without would give out what was to be encrypted.
  if (value.find(",key=") != std::string_view::npos) {
    return Status(Code::kUnsupported, "clones with a key of their own cannot be made yet");
  }
  return CloneTrigger{std::string(value.substr(kTo.size()))};
}

Result<TargetPath> ParseTargetPath(std::string_view path, std::string_view mountpoint) {
  TargetPath target;
  if (path.starts_with('/')) {
    target.from_root = true;
    const bool inside = !mountpoint.empty() && path.starts_with(mountpoint) &&
                        path.substr(mountpoint.size()).starts_with('/');
    if (inside) path.remove_prefix(mountpoint.size());
  }
  target.directories = SplitPath(path);
  if (target.directories.empty() || target.directories.back() == "..") {
    return Refuse(path, "the path of a file or directory to make");
  }
  target.name = std::move(target.directories.back());
  target.directories.pop_back();
  return target;
}

}  // namespace cairn
