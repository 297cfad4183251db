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
  CAIRN_ASSIGN_OR_RETURN(wanted.target_name, TakeIoctlText("the name", argument.name));
  CAIRN_ASSIGN_OR_RETURN(
      const CloneResult made,
      MakeClone(
          request, std::move(wanted), [&]() -> Result<InodeId> { return InodeId(argument.parent); },
          changed));
  argument.inode = made.inode.value();
  argument.volumes = made.volume_count;
  return Status::Ok();
}

Status IoctlDiff(const Request& request, InodeId inode, cairn_ioc_diff& argument,
                 Invalidation& /*changed*/) {
  if (argument.flags != 0) return Status(Code::kInvalid, "flags must be 0");
  const InodeId other(argument.other);
  const uint64_t offset = argument.offset;
  const Caller caller = CallerWithGroups(request);
  CAIRN_RETURN_IF_ERROR(CheckReach(request.filesystem(), caller, other));
  CAIRN_ASSIGN_OR_RETURN(const Attributes from, request.filesystem().GetPlainAttributes(inode));
  CAIRN_ASSIGN_OR_RETURN(const Attributes to, request.filesystem().GetPlainAttributes(other));
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

Result<CloneResult> MakeClone(const Request& request, CloneRequest wanted,
                              const std::function<Result<InodeId>()>& find_parent,
                              Invalidation& changed) {
  const Caller caller = CallerWithGroups(request);
  Filesystem& filesystem = request.filesystem();
  SnapshotService& snapshots = request.edge().snapshots();
  CAIRN_ASSIGN_OR_RETURN(const auto answer, snapshots.FindCloned(caller));
  if (answer) {
    changed.attributes.push_back(answer->parent);
    return *answer;
  }
  CAIRN_ASSIGN_OR_RETURN(wanted.target_parent, find_parent());
  CAIRN_ASSIGN_OR_RETURN(const Attributes parent,
                         filesystem.GetPlainAttributes(wanted.target_parent));
  if (!ModeAllows(caller, parent, kSearch)) {
    return Status(Code::kAccess, "the directory for the clone does not let you in");
  }
  CAIRN_RETURN_IF_ERROR(CheckReach(filesystem, caller, wanted.target_parent));
  CAIRN_ASSIGN_OR_RETURN(const CloneResult made, snapshots.Clone(wanted, caller));
  changed.attributes.push_back(made.parent);
  return made;
}

}  // namespace cairn
