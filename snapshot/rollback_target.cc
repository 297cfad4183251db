#include "snapshot/rollback_target.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "snapshot/members.h"

namespace cairn {
namespace {

// Whether the caller may make a volume anew that was at `path`, of which `member` was taken.
Status CheckMayMake(Filesystem& filesystem, const std::string& path, InodeId member,
                    const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, filesystem.GetPlainAttributes(member));
  if (caller.uid != 0 && caller.uid != attributes.uid) {
    return Status(Code::kAccess, fmt::format("'{}' was somebody else's and is gone", path));
  }
  for (std::string directory = path; !directory.empty();) {
    const size_t slash = directory.rfind('/');
    directory = slash == std::string::npos ? std::string() : directory.substr(0, slash);
    const auto found = LookupPath(filesystem, kRootInode, directory);
    if (found.status().code() == Code::kNotFound) continue;
    if (!found.ok()) return found.status();
    if (found->kind != FileKind::kDirectory) {
      return Status(Code::kExists, fmt::format("'{}' is no directory any more", directory));
    }
    CAIRN_RETURN_IF_ERROR(CheckWay(filesystem, found->inode, caller));
    if (MaySearch(*found, caller) && MayWrite(*found, caller)) return Status::Ok();
    return Status(Code::kAccess, fmt::format("'{}': you may not write it", directory));
  }
  return Status::Ok();
}

}  // namespace

Result<SnapshotOps::RollbackItem> RollbackTarget(Filesystem& filesystem, InodeId group,
                                                 InodeId member, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const std::string old_path, PathBelow(filesystem, group, member));
  CAIRN_ASSIGN_OR_RETURN(const InodeId source, filesystem.snapshots().VolumeOf(member));
  SnapshotOps::RollbackItem item{member, source, ""};
  // The volume it was taken of, wherever that is now; else the one that has its place.
  auto path = PathBelow(filesystem, kRootInode, source);
  if (path.ok()) {
    item.path = *path;
  } else if (path.status().code() == Code::kNotFound) {
    item.path = old_path;
    const auto found = LookupPath(filesystem, kRootInode, old_path);
    if (!found.ok() && found.status().code() != Code::kNotFound) return found.status();
    item.volume = found.ok() ? found->inode : InodeId(0);
  } else {
    return std::move(path).status();
  }
  if (item.volume == InodeId(0)) {
    CAIRN_RETURN_IF_ERROR(CheckMayMake(filesystem, item.path, member, caller));
    return item;
  }
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, filesystem.GetPlainAttributes(item.volume));
  if (attributes.kind != FileKind::kVolume) {
    return Status(Code::kExists, fmt::format("'{}' is no volume any more", item.path));
  }
  // First: where it lies by now is only for who comes there.
  CAIRN_RETURN_IF_ERROR(CheckWay(filesystem, item.volume, caller));
  if (!MayWrite(attributes, caller)) {
    return Status(Code::kAccess, fmt::format("'{}': you may not write it", item.path));
  }
  return item;
}

}  // namespace cairn
