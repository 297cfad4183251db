#include "fusefs/caller_rights.h"
#include "fusefs/ioctl_call.h"

namespace cairn {
namespace {

constexpr uint32_t kSearch = 1;

}  // namespace

Status IoctlClone(const Request& request, InodeId inode, cairn_ioc_clone& argument,
                  Invalidation& changed) {
  if (argument.flags != 0) return Status(Code::kInvalid, "flags must be 0");
  CloneRequest wanted;
  wanted.source = inode;
  wanted.target_parent = InodeId(argument.parent);
  CAIRN_ASSIGN_OR_RETURN(wanted.target_name, TakeIoctlText("the name", argument.name));
  return MakeClone(request, wanted, argument.inode, argument.volumes, changed);
}

Status IoctlDiff(const Request& request, InodeId inode, cairn_ioc_diff& argument,
                 Invalidation& /*changed*/) {
  if (argument.flags != 0) return Status(Code::kInvalid, "flags must be 0");
  const InodeId other(argument.other);
  const uint64_t offset = argument.offset;
  const Caller caller = CallerWithGroups(request);
  CAIRN_RETURN_IF_ERROR(CheckReach(request.filesystem(), caller, other));
  CAIRN_ASSIGN_OR_RETURN(const Attributes from, request.filesystem().GetAttributes(inode));
  CAIRN_ASSIGN_OR_RETURN(const Attributes to, request.filesystem().GetAttributes(other));
  CAIRN_ASSIGN_OR_RETURN(
      const DiffPage page,
      request.edge().snapshots().Diff(inode, other, offset, CAIRN_DIFF_EXTENTS, caller));
  argument = {};
  argument.version = CAIRN_IOC_VERSION;
  argument.other = other.value();
  argument.offset = offset;
  argument.next_offset = page.next_offset < to.size ? page.next_offset : 0;
  argument.size = from.size;
  argument.other_size = to.size;
  for (const DiffRange& range : page.ranges) {
    if (argument.count == CAIRN_DIFF_EXTENTS) {
      return Status(Code::kInternal, "more extents than were asked for");
    }
    argument.extents[argument.count++] = {.offset = range.offset,
                                          .length = range.length,
                                          .kind = range.hole ? CAIRN_DIFF_ZERO : CAIRN_DIFF_DATA,
                                          .reserved_word = 0};
  }
  return Status::Ok();
}

Status MakeClone(const Request& request, const CloneRequest& wanted, __u64& inode, __u64& volumes,
                 Invalidation& changed) {
  const Caller caller = CallerWithGroups(request);
  Filesystem& filesystem = request.filesystem();
  CAIRN_ASSIGN_OR_RETURN(const Attributes parent, filesystem.GetAttributes(wanted.target_parent));
  if (!ModeAllows(caller, parent, kSearch)) {
    return Status(Code::kAccess, "the directory for the clone does not let you in");
  }
  CAIRN_RETURN_IF_ERROR(CheckReach(filesystem, caller, wanted.target_parent));
  CAIRN_ASSIGN_OR_RETURN(const CloneResult made, request.edge().snapshots().Clone(wanted, caller));
  inode = made.inode.value();
  volumes = made.volume_count;
  changed.attributes.push_back(wanted.target_parent);
  return Status::Ok();
}

}  // namespace cairn
