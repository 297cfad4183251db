#include "fusefs/caller_rights.h"
#include "fusefs/ioctl_call.h"

namespace cairn {
namespace {

Result<SnapshotInfo> InfoOf(const Request& request, InodeId inode) {
  SnapshotService& snapshots = request.edge().snapshots();
  CAIRN_ASSIGN_OR_RETURN(const InodeId id, snapshots.SnapshotOf(inode));
  return snapshots.Show(id);
}

// What fits; the service bounds what is taken so that all of it does.
void PutTags(const std::map<std::string, std::string>& tags, char* field, size_t size) {
  std::memset(field, 0, size);
  size_t used = 0;
  for (const auto& [key, value] : tags) {
    const std::string item = key + "=" + value;
    if (item.size() + 2 > size - used) return;
    std::memcpy(field + used, item.c_str(), item.size() + 1);
    used += item.size() + 1;
  }
}

}  // namespace

Status IoctlSnapshotShow(const Request& request, InodeId inode, cairn_ioc_snapshot_show& argument,
                         Invalidation& /*changed*/) {
  if (argument.flags != 0) return Status(Code::kInvalid, "flags must be 0");
  CAIRN_ASSIGN_OR_RETURN(const SnapshotInfo info, InfoOf(request, inode));
  argument = {};
  argument.version = CAIRN_IOC_VERSION;
  argument.inode = info.id.value();
  argument.created_ns = info.created_ns;
  argument.members = info.member_count;
  for (const SnapshotMember& member : info.members) argument.size += member.size;
  argument.uid = info.uid;
  argument.gid = info.gid;
  PutIoctlText(info.name, argument.name);
  PutIoctlText(info.description, argument.description);
  PutTags(info.tags, argument.tags, sizeof(argument.tags));
  return Status::Ok();
}

Status IoctlSnapshotMembers(const Request& request, InodeId inode,
                            cairn_ioc_snapshot_members& argument, Invalidation& /*changed*/) {
  if ((argument.flags & ~CAIRN_MEMBERS_COUNT) != 0) {
    return Status(Code::kInvalid, "flags that are not known");
  }
  const bool counts = (argument.flags & CAIRN_MEMBERS_COUNT) != 0;
  CAIRN_ASSIGN_OR_RETURN(const SnapshotInfo info, InfoOf(request, inode));
  const Caller caller = CallerWithGroups(request);
  const uint64_t first = argument.cookie;
  argument = {};
  argument.version = CAIRN_IOC_VERSION;
  argument.cookie = first;
  size_t path_bytes = 0;
  for (uint64_t i = first; i < info.members.size(); ++i) {
    const SnapshotMember& member = info.members[i];
    if (caller.uid != 0 && !CheckReach(request.filesystem(), caller, member.inode).ok()) continue;
    const size_t path_size = member.path.size() + 1;
    if (argument.count == CAIRN_MEMBER_COUNT || path_size > CAIRN_MEMBER_PATHS - path_bytes) {
      if (argument.count == 0) return Status(Code::kNameTooLong, member.path);
      argument.next_cookie = i;
      break;
    }
    cairn_ioc_member& out = argument.members[argument.count++];
    out.inode = member.inode.value();
    out.volume = member.source.value();
    out.size = member.size;
    out.path_offset = static_cast<uint32_t>(path_bytes);
    std::memcpy(argument.paths + path_bytes, member.path.c_str(), path_size);
    path_bytes += path_size;
    if (!counts) continue;
    CAIRN_ASSIGN_OR_RETURN(const VolumeSizes sizes, request.edge().snapshots().Sizes(member.inode));
    out.exclusive_bytes = sizes.exclusive_bytes;
    out.shared_bytes = sizes.shared_bytes;
  }
  return Status::Ok();
}

}  // namespace cairn
