// Making and deleting snapshots.
#include "src/volume/snapshot_ops.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/give_way.h"
#include "src/base/log.h"
#include "src/volume/request_log.h"

namespace cairn {
namespace {

// Of a directory that is not to be found any more: it may have let nobody through.
constexpr uint32_t kUnknownMode = 0700;

struct SplitPath {
  std::string directory;  // "" for the top
  std::string name;
};

SplitPath Split(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace

Status SnapshotOps::RequireSpace() {
  VolumeContext& context = parts_.context;
  if (context.read_only) return Status(Code::kReadOnly, "the mount is read-only");
  if (context.store->reserve().scarce()) {
    return Status(Code::kNoSpace, context.store->dir() + ": the filesystem is full");
  }
  return context.store->RequireFeature(kFeatureSnapshots);
}

Result<InodeId> SnapshotOps::NewInode() {
  CAIRN_ASSIGN_OR_RETURN(const uint64_t id, index().AllocateId());
  return InodeId(id);
}

Status SnapshotOps::CopyXattrs(InodeId from, InodeId to, IndexBatch& batch) {
  return index().ForEachXattr(from, [&](std::string_view name, std::string_view value) {
    batch.PutXattr(to, name, value);
    return true;
  });
}

Result<InodeId> SnapshotOps::FindPath(const std::string& path) {
  InodeId inode = kRootInode;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    CAIRN_ASSIGN_OR_RETURN(inode, index().FindName(inode, path.substr(begin, end - begin)));
    begin = end + 1;
  }
  return inode;
}

Result<InodeId> SnapshotOps::TreeDirectory(const std::string& path, InodeId original, Tree& tree,
                                           IndexBatch& batch) {
  const auto known = tree.find(path);
  if (known != tree.end()) return known->second;
  const SplitPath split = Split(path);
  CAIRN_ASSIGN_OR_RETURN(const InodeId inode, NewInode());
  InodeRecord record;
  record.kind = FileKind::kDirectory;
  record.mode = kUnknownMode;
  record.atime_ns = record.mtime_ns = record.ctime_ns = now_ns();
  InodeId above = kRootInode;
  // It may have been moved to another depth since the members were looked for.
  if (original != kRootInode) {
    const auto found = index().GetInode(original);
    if (found.ok() && found->kind == FileKind::kDirectory) {
      record = *found;
      above = found->parent;
      CAIRN_RETURN_IF_ERROR(CopyXattrs(original, inode, batch));
    }
  }
  CAIRN_ASSIGN_OR_RETURN(record.parent, TreeDirectory(split.directory, above, tree, batch));
  batch.PutInode(inode, record);
  batch.PutName(record.parent, split.name, inode);
  tree[path] = inode;
  return inode;
}

Status SnapshotOps::TouchSnapshots(IndexBatch& batch) {
  CAIRN_ASSIGN_OR_RETURN(InodeRecord record, parts_.names.Record(kSnapshotsInode));
  record.mtime_ns = record.ctime_ns = now_ns();
  batch.PutInode(kSnapshotsInode, record);
  return Status::Ok();
}

Result<InodeId> SnapshotOps::AddGroup(const GroupRecord& record, const std::vector<Member>& members,
                                      const GroupCut& cut, IndexBatch& batch) {
  auto taken = index().FindName(kSnapshotsInode, record.name);
  if (taken.ok()) return Status(Code::kExists, "there is a snapshot named '" + record.name + "'");
  if (taken.status().code() != Code::kNotFound) return taken;
  if (!record.token.empty()) {
    taken = index().FindToken(record.token);
    if (taken.ok()) return Status(Code::kExists, "the token has made a snapshot already");
    if (taken.status().code() != Code::kNotFound) return taken;
  }
  CAIRN_ASSIGN_OR_RETURN(const InodeId id, NewInode());
  CAIRN_ASSIGN_OR_RETURN(InodeRecord root, index().GetInode(kRootInode));
  root.parent = kSnapshotsInode;
  batch.PutInode(id, root);
  batch.PutName(kSnapshotsInode, record.name, id);
  CAIRN_RETURN_IF_ERROR(CopyXattrs(kRootInode, id, batch));
  CAIRN_RETURN_IF_ERROR(TouchSnapshots(batch));
  Tree tree;
  tree[""] = id;
  for (const Member& member : members) {
    GiveWay();
    const DiskVolume::CutState& state = cut.StateOf(member.inode);
    const SplitPath split = Split(member.path);
    CAIRN_ASSIGN_OR_RETURN(const InodeId parent,
                           TreeDirectory(split.directory, state.record.parent, tree, batch));
    CAIRN_ASSIGN_OR_RETURN(const InodeId inode, NewInode());
    InodeRecord file = state.record;
    file.kind = FileKind::kSnapshot;
    file.size = state.size;
    file.parent = parent;
    file.branch = state.branch;
    file.epoch = state.epoch;
    batch.PutInode(inode, file);
    batch.PutName(parent, split.name, inode);
    CAIRN_RETURN_IF_ERROR(CopyXattrs(member.inode, inode, batch));
    batch.PutView({state.branch, state.epoch, inode.value(), ViewKind::kSnapshot});
  }
  GroupRecord group = record;
  group.created_ns = cut.cut_ns();
  group.member_count = members.size();
  batch.PutGroup(id, group);
  if (!record.token.empty()) batch.PutToken(record.token, id);
  return id;
}

Result<SnapshotOps::Created> SnapshotOps::Create(const NewGroup& group) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, FindCreated(group.caller));
  if (answer) return *answer;
  CAIRN_RETURN_IF_ERROR(RequireSpace());
  std::vector<InodeId> volumes;
  for (const Member& member : group.members) volumes.push_back(member.inode);
  GroupCut cut(parts_.context, parts_.table);
  CAIRN_RETURN_IF_ERROR(cut.Load(volumes));
  CAIRN_RETURN_IF_ERROR(cut.Close(group.deadline));
  const Status taken = cut.Cut();
  cut.Open();
  CAIRN_RETURN_IF_ERROR(taken);
  CAIRN_RETURN_IF_ERROR(cut.MakeDurable());
  IndexBatch batch;
  MutexLock lock(names_mu_);
  CAIRN_ASSIGN_OR_RETURN(const InodeId id, AddGroup(group.record, group.members, cut, batch));
  const Created created{id, cut.cut_ns(), group.members.size(), cut.held()};
  parts_.context.requests->Enter(batch, group.caller, Encode(created));
  CAIRN_RETURN_IF_ERROR(parts_.context.views->Change([&] { return index().Commit(batch); }));
  cut.Keep();
  return created;
}

Result<InodeId> SnapshotOps::VolumeOf(InodeId member) {
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(member));
  CAIRN_ASSIGN_OR_RETURN(const BranchRecord branch, index().GetBranch(record.branch));
  return branch.inode;
}

Status SnapshotOps::Collect(InodeId directory, std::vector<InodeId>& files,
                            std::vector<InodeId>& directories) {
  std::vector<InodeId> children;
  CAIRN_RETURN_IF_ERROR(
      index().ForEachChild(directory, InodeId(0), [&](InodeId child, std::string_view) {
        children.push_back(child);
        return true;
      }));
  for (const InodeId child : children) {
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(child));
    if (record.kind != FileKind::kDirectory) {
      files.push_back(child);
      continue;
    }
    directories.push_back(child);
    CAIRN_RETURN_IF_ERROR(Collect(child, files, directories));
  }
  return Status::Ok();
}

Status SnapshotOps::Delete(InodeId id, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const bool done, WasDeleted(caller));
  if (done) return Status::Ok();
  if (parts_.context.read_only) return Status(Code::kReadOnly, "the mount is read-only");
  MutexLock lock(names_mu_);
  Doomed doomed{id, {}, {}, {id}};
  CAIRN_ASSIGN_OR_RETURN(doomed.group, index().GetGroup(id));
  CAIRN_RETURN_IF_ERROR(Collect(id, doomed.files, doomed.directories));
  const std::vector<InodeId>& files = doomed.files;
  // From here on nobody opens them.
  size_t claimed = 0;
  while (claimed < files.size() && parts_.table.ClaimIdle(files[claimed])) ++claimed;
  if (claimed < files.size()) {
    for (size_t i = 0; i < claimed; ++i) parts_.table.Unclaim(files[i]);
    return Status(Code::kBusy, "a file of snapshot '" + doomed.group.name + "' is in use");
  }
  // And nobody reads any more what may be given back once the batch is in the index. If it does not
  // get there, they are loaded anew.
  for (const InodeId file : files) {
    if (const auto volume = parts_.table.FindLoaded(file)) volume->Retire();
  }
  Status status = DeleteTree(doomed, caller);
  for (const InodeId file : files) parts_.table.Drop(file);
  return status;
}

Status SnapshotOps::DeleteTree(const Doomed& doomed, const Caller& caller) {
  IndexBatch batch;
  std::vector<BranchId> branches;
  const auto add = [&](InodeId inode, const InodeRecord& record) -> Status {
    std::string name;
    CAIRN_RETURN_IF_ERROR(index().ForEachChild(record.parent, InodeId(inode.value() - 1),
                                               [&](InodeId child, std::string_view child_name) {
                                                 if (child == inode) name = child_name;
                                                 return false;
                                               }));
    if (!name.empty()) batch.DeleteName(record.parent, name, inode);
    batch.DeleteInode(inode);
    return index().ForEachXattr(inode, [&](std::string_view xattr, std::string_view) {
      batch.DeleteXattr(inode, xattr);
      return true;
    });
  };
  for (const InodeId file : doomed.files) {
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(file));
    CAIRN_RETURN_IF_ERROR(add(file, record));
    batch.DeleteView({record.branch, record.epoch, file.value(), ViewKind::kSnapshot});
    batch.PutClean(record.branch);
    branches.push_back(record.branch);
  }
  for (const InodeId directory : doomed.directories) {
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(directory));
    CAIRN_RETURN_IF_ERROR(add(directory, record));
  }
  batch.DeleteGroup(doomed.id);
  if (!doomed.group.token.empty()) batch.DeleteToken(doomed.group.token);
  CAIRN_RETURN_IF_ERROR(TouchSnapshots(batch));
  parts_.context.requests->Enter(batch, caller);
  CAIRN_RETURN_IF_ERROR(parts_.context.views->Change([&] { return index().Commit(batch); }));
  for (const BranchId branch : branches) parts_.context.reclaim_soon(branch);
  return Status::Ok();
}

}  // namespace cairn
