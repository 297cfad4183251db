#include "snapshot/members.h"

#include <algorithm>

namespace cairn {
namespace {

constexpr uint32_t kReadBit = 04;
constexpr uint32_t kWriteBit = 02;
constexpr uint32_t kSearchBit = 01;
// More than any path can have.
constexpr int kDeepest = 4096;

bool Allows(const Attributes& attributes, const Caller& caller, uint32_t bit) {
  if (caller.uid == 0) return true;
  if (caller.uid == attributes.uid) return (attributes.mode >> 6 & bit) != 0;
  const bool in_group =
      caller.gid == attributes.gid ||
      std::find(caller.groups.begin(), caller.groups.end(), attributes.gid) != caller.groups.end();
  if (in_group) return (attributes.mode >> 3 & bit) != 0;
  return (attributes.mode & bit) != 0;
}

std::string Join(const std::string& directory, std::string_view name) {
  return directory.empty() ? std::string(name) : directory + "/" + std::string(name);
}

}  // namespace

bool MaySearch(const Attributes& directory, const Caller& caller) {
  return Allows(directory, caller, kSearchBit);
}

bool MayRead(const Attributes& attributes, const Caller& caller) {
  return Allows(attributes, caller, kReadBit);
}

bool MayWrite(const Attributes& attributes, const Caller& caller) {
  return Allows(attributes, caller, kWriteBit);
}

Result<std::vector<Found>> FindBelow(Filesystem& filesystem, InodeId top, const Caller& caller) {
  std::vector<Found> found;
  CAIRN_ASSIGN_OR_RETURN(Attributes attributes, filesystem.GetPlainAttributes(top));
  found.push_back({"", attributes});
  // Grows while it is walked over.
  for (size_t i = 0; i < found.size(); ++i) {
    if (found[i].attributes.kind != FileKind::kDirectory) continue;
    const std::string path = found[i].path;
    const bool open = found[i].reachable && MaySearch(found[i].attributes, caller);
    const std::string closed = found[i].reachable ? path : found[i].closed;
    std::vector<DirectoryEntry> entries;
    CAIRN_RETURN_IF_ERROR(
        filesystem.ReadDirectory(found[i].attributes.inode, 0, [&](const DirectoryEntry& entry) {
          entries.push_back(entry);
          return true;
        }));
    for (const DirectoryEntry& entry : entries) {
      auto child = filesystem.GetPlainAttributes(entry.inode);
      if (child.ok()) {
        if (path.size() + entry.name.size() >= kLongestPath) {
          return Status(Code::kNameTooLong, "what lies below '" + path + "' is nested too deeply");
        }
        found.push_back({Join(path, entry.name), *child, open, open ? "" : closed});
      } else if (child.status().code() != Code::kNotFound) {
        return std::move(child).status();
      }
    }
  }
  return found;
}

Result<std::string> PathBelow(Filesystem& filesystem, InodeId top, InodeId inode) {
  std::string path;
  for (int depth = 0; inode != top; ++depth) {
    if (inode == kRootInode || depth == kDeepest) {
      return Status(Code::kNotFound, "it does not lie there");
    }
    CAIRN_ASSIGN_OR_RETURN(const InodeId parent, filesystem.Parent(inode));
    std::string name;
    // Entries are in the order of their inodes.
    CAIRN_RETURN_IF_ERROR(
        filesystem.ReadDirectory(parent, inode.value() - 1, [&](const DirectoryEntry& entry) {
          if (entry.inode == inode) name = entry.name;
          return false;
        }));
    if (name.empty()) return Status(Code::kNotFound, "it has no name any more");
    path = path.empty() ? name : name + "/" + path;
    inode = parent;
  }
  return path;
}

Status CheckWay(Filesystem& filesystem, InodeId inode, const Caller& caller) {
  while (inode != kRootInode) {
    CAIRN_ASSIGN_OR_RETURN(inode, filesystem.Parent(inode));
    CAIRN_ASSIGN_OR_RETURN(const Attributes directory, filesystem.GetPlainAttributes(inode));
    if (!MaySearch(directory, caller)) {
      return Status(Code::kAccess, "a directory above it does not let you through");
    }
  }
  return Status::Ok();
}

Result<Attributes> LookupPath(Filesystem& filesystem, InodeId top, const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(Attributes attributes, filesystem.GetPlainAttributes(top));
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    CAIRN_ASSIGN_OR_RETURN(attributes,
                           filesystem.Lookup(attributes.inode, path.substr(begin, end - begin)));
    begin = end + 1;
  }
  return attributes;
}

}  // namespace cairn
