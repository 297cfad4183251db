// Attributes that start something when they are set.
#include "fusefs/caller_rights.h"
#include "fusefs/invalidator.h"
#include "fusefs/ioctl_call.h"
#include "fusefs/trigger.h"

namespace cairn {
namespace {

Status TakeSnapshot(const Request& request, InodeId inode, std::string_view value,
                    Invalidation& changed) {
  CAIRN_ASSIGN_OR_RETURN(SnapshotTrigger trigger, ParseSnapshotTrigger(value));
  SnapshotRequest wanted;
  wanted.roots.push_back(inode);
  wanted.name = std::move(trigger.name);
  wanted.exclude_globs = std::move(trigger.exclude_globs);
  wanted.exclude_roles = std::move(trigger.exclude_roles);
  CAIRN_RETURN_IF_ERROR(
      request.edge().snapshots().Create(wanted, CallerWithGroups(request)).status());
  changed.attributes.push_back(kSnapshotsInode);
  return Status::Ok();
}

// The directory that the path leads to, as far as the caller may go.
Result<InodeId> Walk(const Request& request, InodeId source, const TargetPath& path) {
  Filesystem& filesystem = request.filesystem();
  InodeId directory = kRootInode;
  if (!path.from_root) {
    CAIRN_ASSIGN_OR_RETURN(directory, filesystem.Parent(source));
  }
  for (const std::string& name : path.directories) {
    if (name == "..") {
      CAIRN_ASSIGN_OR_RETURN(directory, filesystem.Parent(directory));
      continue;
    }
    CAIRN_ASSIGN_OR_RETURN(const Attributes next, filesystem.Lookup(directory, name));
    if (next.kind != FileKind::kDirectory) return Status(Code::kNotDirectory, name);
    directory = next.inode;
  }
  return directory;
}

Status StartClone(const Request& request, InodeId inode, std::string_view value,
                  Invalidation& changed) {
  CAIRN_ASSIGN_OR_RETURN(const CloneTrigger trigger, ParseCloneTrigger(value));
  CAIRN_ASSIGN_OR_RETURN(TargetPath path, ParseTargetPath(trigger.to, request.edge().mountpoint()));
  CloneRequest wanted;
  wanted.source = inode;
  wanted.target_name = std::move(path.name);
  return MakeClone(
             request, std::move(wanted), [&] { return Walk(request, inode, path); }, changed)
      .status();
}

}  // namespace

bool IsTrigger(std::string_view name) { return name == kSnapshotTrigger || name == kCloneTrigger; }

Status PullTrigger(const Request& request, InodeId inode, std::string_view name,
                   std::string_view value) {
  Invalidation changed;
  Status done = name == kSnapshotTrigger ? TakeSnapshot(request, inode, value, changed)
                                         : StartClone(request, inode, value, changed);
  if (!done.ok()) {
    // Whatever the reason: setfattr(1) shows an errno and nothing else.
    request.filesystem().NoteError(inode, done);
    return done;
  }
  // The kernel holds the file's lock until it has the answer: first that, then the notification.
  Invalidator* const invalidator = request.edge().invalidator();
  CAIRN_RETURN_IF_ERROR(request.AnswerDone());
  if (invalidator != nullptr) invalidator->Tell(std::move(changed));
  return Status::Ok();
}

}  // namespace cairn
