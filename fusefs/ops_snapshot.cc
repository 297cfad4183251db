#include <span>

#include "fusefs/caller_rights.h"
#include "fusefs/ioctl_call.h"
#include "fusefs/trigger.h"

namespace cairn {
namespace {

constexpr std::chrono::milliseconds kMostHold{60'000};

Result<std::map<std::string, std::string>> TakeTags(const std::vector<std::string>& items) {
  std::map<std::string, std::string> tags;
  for (const std::string& item : items) {
    const size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0) {
      return Status(Code::kInvalid, "'" + item + "' is not KEY=VALUE");
    }
    if (!tags.emplace(item.substr(0, equals), item.substr(equals + 1)).second) {
      return Status(Code::kInvalid, "tag '" + item.substr(0, equals) + "' is given twice");
    }
  }
  return tags;
}

Result<SnapshotRequest> TakeRequest(const cairn_ioc_snapshot_create& argument) {
  SnapshotRequest wanted;
  if (argument.flags != 0) return Status(Code::kInvalid, "flags must be 0");
  if (argument.also_count > CAIRN_ALSO_COUNT) {
    return Status(Code::kInvalid, "more places than one request takes");
  }
  if (argument.hold_ms > kMostHold.count()) {
    return Status(Code::kInvalid, "I/O may be held back for 60 seconds at most");
  }
  if (argument.hold_ms > 0) wanted.deadline = std::chrono::milliseconds(argument.hold_ms);
  CAIRN_ASSIGN_OR_RETURN(wanted.name, TakeIoctlText("the name", argument.name));
  CAIRN_ASSIGN_OR_RETURN(wanted.token, TakeIoctlText("the token", argument.token));
  CAIRN_ASSIGN_OR_RETURN(wanted.description,
                         TakeIoctlText("the description", argument.description));
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> filters,
                         TakeIoctlList("the filters", argument.filters, sizeof(argument.filters)));
  for (const std::string& filter : filters) {
    CAIRN_RETURN_IF_ERROR(AddFilter(filter, wanted.exclude_globs, wanted.exclude_roles));
  }
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> tags,
                         TakeIoctlList("the tags", argument.tags, sizeof(argument.tags)));
  CAIRN_ASSIGN_OR_RETURN(wanted.tags, TakeTags(tags));
  return wanted;
}

// Rights, and what has which number, may have changed since a request was carried out that is sent
// again: they are not asked for once more.
Result<CreateResult> CreateIfReachable(const Request& request, const SnapshotRequest& wanted) {
  const Caller caller = CallerWithGroups(request);
  SnapshotService& snapshots = request.edge().snapshots();
  CAIRN_ASSIGN_OR_RETURN(auto answer, snapshots.FindCreated(wanted, caller));
  if (answer) return std::move(*answer);
  // The first one is what the descriptor is of.
  for (size_t i = 1; i < wanted.roots.size(); ++i) {
    CAIRN_RETURN_IF_ERROR(CheckReach(request.filesystem(), caller, wanted.roots[i]));
  }
  return snapshots.Create(wanted, caller);
}

}  // namespace

Status IoctlSnapshotCreate(const Request& request, InodeId inode,
                           cairn_ioc_snapshot_create& argument, Invalidation& changed) {
  CAIRN_ASSIGN_OR_RETURN(SnapshotRequest wanted, TakeRequest(argument));
  wanted.roots.push_back(inode);
  for (const uint64_t number : std::span(argument.also, argument.also_count)) {
    wanted.roots.push_back(InodeId(number));
  }
  CAIRN_ASSIGN_OR_RETURN(const CreateResult made, CreateIfReachable(request, wanted));
  argument.inode = made.info.id.value();
  argument.created_ns = made.info.created_ns;
  argument.members = made.info.member_count;
  argument.held_ns = static_cast<uint64_t>(made.held.count());
  argument.existed = made.existed ? 1 : 0;
  // The name that a token stands for may be another one than was asked for.
  PutIoctlText(made.info.name, argument.name);
  changed.attributes.push_back(kSnapshotsInode);
  return Status::Ok();
}

Status IoctlSnapshotDelete(const Request& request, InodeId inode,
                           cairn_ioc_snapshot_delete& argument, Invalidation& changed) {
  if (argument.flags != 0) return Status(Code::kInvalid, "flags must be 0");
  CAIRN_RETURN_IF_ERROR(request.edge().snapshots().Delete(inode, CallerWithGroups(request)));
  changed.attributes.push_back(kSnapshotsInode);
  return Status::Ok();
}

Status IoctlSnapshotRollback(const Request& request, InodeId inode,
                             cairn_ioc_snapshot_rollback& argument, Invalidation& changed) {
  if (argument.flags != 0) return Status(Code::kInvalid, "flags must be 0");
  CAIRN_ASSIGN_OR_RETURN(RollbackResult result,
                         request.edge().snapshots().Rollback(inode, CallerWithGroups(request),
                                                             SnapshotRequest{}.deadline));
  argument.members = result.before.member_count;
  argument.kept_inode = result.before.id.value();
  PutIoctlText(result.before.name, argument.kept_name);
  changed.contents = std::move(result.changed);
  changed.attributes.push_back(kSnapshotsInode);
  return Status::Ok();
}

}  // namespace cairn
