#include "src/volume/namespace.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "src/volume/request_log.h"

namespace cairn {
namespace {

constexpr std::string_view kSnapshotsName = ".snapshots";
constexpr uint32_t kSnapshotsMode = 0755;
constexpr uint32_t kSetGidBit = 02000;
constexpr uint32_t kPermissionBits = 07777;

Status CheckName(InodeId parent, std::string_view name) {
  if (name.size() > kMaxNameBytes) return Status(Code::kNameTooLong, "a name has 255 bytes");
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string_view::npos ||
      name.find('\0') != std::string_view::npos) {
    return Status(Code::kInvalid, "not a file name");
  }
  if (parent == kRootInode && name == kSnapshotsName) {
    return Status(Code::kPermission, "'.snapshots' is where snapshots appear, and nothing else");
  }
  return Status::Ok();
}

}  // namespace

Status Namespace::CheckWritable(bool takes_space) {
  if (context_.read_only) return Status(Code::kReadOnly, "the mount is read-only");
  if (takes_space && context_.store->reserve().scarce()) {
    return Status(Code::kNoSpace, context_.store->dir() + ": the filesystem is full");
  }
  return Status::Ok();
}

Result<InodeRecord> Namespace::Record(InodeId inode) {
  if (const auto volume = table_.FindLoaded(inode)) return volume->Record();
  auto record = index().GetInode(inode);
  if (inode != kSnapshotsInode || record.status().code() != Code::kNotFound) return record;
  // Before the first snapshot.
  CAIRN_ASSIGN_OR_RETURN(InodeRecord snapshots, index().GetInode(kRootInode));
  snapshots.mode = kSnapshotsMode;
  snapshots.uid = snapshots.gid = 0;
  snapshots.parent = kRootInode;
  return snapshots;
}

Status Namespace::CheckChangeable(InodeId inode) {
  while (inode != kRootInode) {
    if (inode == kSnapshotsInode) return Status(Code::kReadOnly, "a snapshot does not change");
    const auto record = Record(inode);
    // Of an orphan the directory may be gone; nothing in a snapshot ever becomes one.
    if (record.status().code() == Code::kNotFound) return Status::Ok();
    if (!record.ok()) return record.status();
    inode = record->parent;
  }
  return Status::Ok();
}

Result<InodeRecord> Namespace::DirectoryRecord(InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, Record(inode));
  if (record.kind == FileKind::kDirectory) return record;
  return Status(Code::kNotDirectory, fmt::format("inode {}", inode.value()));
}

Result<std::optional<InodeId>> Namespace::FindChild(InodeId parent, std::string_view name) {
  auto child = index().FindName(parent, name);
  if (child.ok()) return std::optional(*child);
  if (child.status().code() == Code::kNotFound) return std::optional<InodeId>();
  return std::move(child).status();
}

Result<bool> Namespace::IsEmpty(InodeId directory) {
  bool empty = true;
  CAIRN_RETURN_IF_ERROR(index().ForEachChild(directory, InodeId(0), [&](InodeId, std::string_view) {
    empty = false;
    return false;
  }));
  return empty;
}

Result<bool> Namespace::IsAncestor(InodeId ancestor, InodeId inode) {
  while (inode != ancestor) {
    if (inode == kRootInode) return false;
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(inode));
    inode = record.parent;
  }
  return true;
}

void Namespace::TouchDirectory(InodeId inode, InodeRecord record, IndexBatch& batch) {
  record.mtime_ns = record.ctime_ns = context_.clock->NowNs();
  batch.PutInode(inode, record);
}

Status Namespace::CommitInodeBy(InodeId inode, const InodeRecord& record, const Change& change,
                                IndexBatch& batch, const std::function<Status()>& commit) {
  if (record.kind == FileKind::kVolume) {
    // The loaded volume has the record that counts: size and times change without us.
    CAIRN_ASSIGN_OR_RETURN(const auto volume, table_.Find(inode));
    return volume->CommitRecordBy(batch, change, commit);
  }
  InodeRecord changed = record;
  change(changed);
  batch.PutInode(inode, changed);
  return commit();
}

Status Namespace::CommitInode(InodeId inode, const InodeRecord& record, const Change& change,
                              IndexBatch& batch) {
  return CommitInodeBy(inode, record, change, batch, [&] { return index().Commit(batch); });
}

Result<Attributes> Namespace::Lookup(InodeId parent, std::string_view name) {
  if (name.size() > kMaxNameBytes) return Status(Code::kNameTooLong, "a name has 255 bytes");
  if (parent == kRootInode && name == kSnapshotsName) return GetAttributes(kSnapshotsInode);
  CAIRN_ASSIGN_OR_RETURN(const auto child, FindChild(parent, name));
  if (!child) return Status(Code::kNotFound, std::string(name));
  return GetAttributes(*child);
}

Result<Attributes> Namespace::Make(FileKind kind, InodeId parent, std::string_view name,
                                   uint32_t mode, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, context_.requests->FindAnswer(caller));
  if (answer) return AnswerOfMake(*answer);
  CAIRN_RETURN_IF_ERROR(CheckName(parent, name));
  CAIRN_RETURN_IF_ERROR(CheckWritable(true));
  CAIRN_RETURN_IF_ERROR(CheckChangeable(parent));
  LockTable::Held held(locks_, {parent});
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord directory, DirectoryRecord(parent));
  CAIRN_ASSIGN_OR_RETURN(const auto present, FindChild(parent, name));
  if (present) return Status(Code::kExists, std::string(name));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t id, index().AllocateId());
  const InodeId inode(id);
  InodeRecord record;
  record.kind = kind;
  record.mode = mode & kPermissionBits;
  record.uid = caller.uid;
  record.gid = caller.gid;
  record.atime_ns = record.mtime_ns = record.ctime_ns = context_.clock->NowNs();
  record.parent = parent;
  if (directory.mode & kSetGidBit) {
    record.gid = directory.gid;
    if (kind == FileKind::kDirectory) record.mode |= kSetGidBit;
  }
  IndexBatch batch;
  if (kind == FileKind::kVolume) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t branch_id, index().AllocateId());
    record.branch = BranchId(branch_id);
    BranchRecord branch;
    branch.inode = inode;
    branch.trimmed_crash = context_.store->crash_count();
    batch.PutBranch(record.branch, branch);
  }
  batch.PutInode(inode, record);
  batch.PutName(parent, name, inode);
  TouchDirectory(parent, directory, batch);
  context_.requests->Enter(batch, caller, EncodeU64(inode.value()) + EncodeInode(record));
  CAIRN_RETURN_IF_ERROR(index().Commit(batch));
  return ToAttributes(inode, record);
}

Result<Attributes> Namespace::AnswerOfMake(std::string_view answer) {
  const size_t split = std::min(answer.size(), sizeof(uint64_t));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t inode, DecodeU64(answer.substr(0, split)));
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, DecodeInode(answer.substr(split)));
  return ToAttributes(InodeId(inode), record);
}

Status Namespace::CommitEntries(const std::vector<NewEntry>& entries, IndexBatch& batch,
                                const std::function<Status()>& commit) {
  CAIRN_RETURN_IF_ERROR(CheckWritable(true));
  std::vector<InodeId> parents;
  for (const NewEntry& entry : entries) {
    CAIRN_RETURN_IF_ERROR(CheckName(entry.parent, entry.name));
    CAIRN_RETURN_IF_ERROR(CheckChangeable(entry.parent));
    parents.push_back(entry.parent);
  }
  LockTable::Held held(locks_, parents);
  std::map<InodeId, InodeRecord> directories;
  for (const NewEntry& entry : entries) {
    CAIRN_ASSIGN_OR_RETURN(directories[entry.parent], DirectoryRecord(entry.parent));
    CAIRN_ASSIGN_OR_RETURN(const auto present, FindChild(entry.parent, entry.name));
    if (present) return Status(Code::kExists, entry.name);
    batch.PutName(entry.parent, entry.name, entry.child);
  }
  for (const auto& [inode, record] : directories) TouchDirectory(inode, record, batch);
  return commit();
}

Status Namespace::Unlink(InodeId parent, std::string_view name, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, context_.requests->FindAnswer(caller));
  if (answer) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(CheckName(parent, name));
  CAIRN_RETURN_IF_ERROR(CheckWritable(false));
  CAIRN_RETURN_IF_ERROR(CheckChangeable(parent));
  for (;;) {
    CAIRN_ASSIGN_OR_RETURN(const auto child, FindChild(parent, name));
    if (!child) return Status(Code::kNotFound, std::string(name));
    LockTable::Held held(locks_, {parent, *child});
    CAIRN_ASSIGN_OR_RETURN(const auto child_now, FindChild(parent, name));
    if (child_now != child) continue;
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord directory, DirectoryRecord(parent));
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, Record(*child));
    if (record.kind == FileKind::kDirectory) {
      return Status(Code::kIsDirectory, std::string(name));
    }
    CAIRN_ASSIGN_OR_RETURN(const auto volume, table_.Find(*child));
    IndexBatch batch;
    batch.DeleteName(parent, name, *child);
    batch.PutOrphan(*child);
    TouchDirectory(parent, directory, batch);
    context_.requests->Enter(batch, caller);
    const int64_t now_ns = context_.clock->NowNs();
    CAIRN_RETURN_IF_ERROR(CommitInode(
        *child, record, [&](InodeRecord& changed) { changed.ctime_ns = now_ns; }, batch));
    if (table_.MarkUnlinked(*child)) destroy_(*child);
    return Status::Ok();
  }
}

Status Namespace::RemoveDirectory(InodeId parent, std::string_view name, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, context_.requests->FindAnswer(caller));
  if (answer) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(CheckName(parent, name));
  CAIRN_RETURN_IF_ERROR(CheckWritable(false));
  CAIRN_RETURN_IF_ERROR(CheckChangeable(parent));
  for (;;) {
    CAIRN_ASSIGN_OR_RETURN(const auto child, FindChild(parent, name));
    if (!child) return Status(Code::kNotFound, std::string(name));
    LockTable::Held held(locks_, {parent, *child});
    CAIRN_ASSIGN_OR_RETURN(const auto child_now, FindChild(parent, name));
    if (child_now != child) continue;
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord directory, DirectoryRecord(parent));
    CAIRN_RETURN_IF_ERROR(DirectoryRecord(*child).status());
    CAIRN_ASSIGN_OR_RETURN(const bool empty, IsEmpty(*child));
    if (!empty) return Status(Code::kNotEmpty, std::string(name));
    IndexBatch batch;
    batch.DeleteName(parent, name, *child);
    batch.DeleteInode(*child);
    CAIRN_RETURN_IF_ERROR(
        index().ForEachXattr(*child, [&](std::string_view xattr, std::string_view) {
          batch.DeleteXattr(*child, xattr);
          return true;
        }));
    TouchDirectory(parent, directory, batch);
    context_.requests->Enter(batch, caller);
    return index().Commit(batch);
  }
}

Status Namespace::ReadDirectory(InodeId directory, uint64_t cookie,
                                const std::function<bool(const DirectoryEntry&)>& sink) {
  CAIRN_RETURN_IF_ERROR(DirectoryRecord(directory).status());
  Status failed;
  CAIRN_RETURN_IF_ERROR(
      index().ForEachChild(directory, InodeId(cookie), [&](InodeId child, std::string_view name) {
        auto record = index().GetInode(child);
        if (!record.ok()) {
          if (record.status().code() == Code::kNotFound) return true;  // removed meanwhile
          failed = std::move(record).status();
          return false;
        }
        return sink({std::string(name), child, record->kind, child.value()});
      }));
  return failed;
}

Result<InodeId> Namespace::Parent(InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, Record(inode));
  return record.parent;
}

}  // namespace cairn
