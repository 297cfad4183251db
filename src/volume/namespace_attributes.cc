// Attributes and extended attributes.
#include <fmt/format.h>

#include "src/volume/extent_set.h"
#include "src/volume/lineage.h"
#include "src/volume/namespace.h"
#include "src/volume/request_log.h"

namespace cairn {
namespace {

// What listxattr(2) can return at most.
constexpr size_t kMaxXattrListBytes = 65536;
constexpr size_t kMaxXattrValueBytes = 65536;
constexpr uint32_t kPermissionBits = 07777;

}  // namespace

Attributes Namespace::ToAttributes(InodeId inode, const InodeRecord& record) {
  Attributes attributes;
  attributes.inode = inode;
  attributes.kind = record.kind;
  attributes.mode = record.mode;
  attributes.uid = record.uid;
  attributes.gid = record.gid;
  attributes.size = record.size;
  attributes.atime_ns = record.atime_ns;
  attributes.mtime_ns = record.mtime_ns;
  attributes.ctime_ns = record.ctime_ns;
  return attributes;
}

// As ExtentSet::AllocatedBytes of a volume that is loaded. What a clone sees of its parents counts:
// programs take a file without any blocks for one hole. Where they are damaged, its own
// do: whoever lists its directory does not read it.
Result<uint64_t> Namespace::AllocatedBytes(const InodeRecord& record) {
  const bool is_snapshot = record.kind == FileKind::kSnapshot;
  const auto lineage = is_snapshot ? Lineage::LoadSnapshot(index(), record.branch, record.epoch)
                                   : Lineage::Load(index(), record.branch);
  const Epoch newest = is_snapshot ? record.epoch : Epoch(~uint64_t{0});
  const Lineage own = Lineage::OfNew(record.branch, newest);
  auto files = ExtentSet::ReadKnownSizes(index(), lineage.ok() ? *lineage : own);
  if (!files.ok()) files = ExtentSet::ReadKnownSizes(index(), own);
  if (!files.ok()) return std::move(files).status();
  uint64_t bytes = 0;
  for (const auto& [id, size] : *files) {
    const auto info = context_.store->extents().Info(id);
    if (info.ok()) bytes += info->allocated_bytes;
  }
  return bytes;
}

Result<Attributes> Namespace::GetAttributes(InodeId inode) { return ReadAttributes(inode, true); }

Result<Attributes> Namespace::GetPlainAttributes(InodeId inode) {
  return ReadAttributes(inode, false);
}

Result<Attributes> Namespace::ReadAttributes(InodeId inode, bool with_space) {
  if (const auto volume = table_.FindLoaded(inode)) {
    Attributes attributes = ToAttributes(inode, volume->Record());
    if (with_space) {
      CAIRN_ASSIGN_OR_RETURN(attributes.allocated_bytes, volume->AllocatedBytes());
    }
    if (table_.IsUnlinked(inode)) attributes.link_count = 0;
    return attributes;
  }
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, Record(inode));
  Attributes attributes = ToAttributes(inode, record);
  if (record.kind != FileKind::kDirectory) {
    if (with_space) {
      CAIRN_ASSIGN_OR_RETURN(attributes.allocated_bytes, AllocatedBytes(record));
    }
    // Unlinked under an earlier server and held open since.
    CAIRN_ASSIGN_OR_RETURN(const bool orphan, index().HasOrphan(inode));
    if (orphan) attributes.link_count = 0;
  }
  return attributes;
}

Result<Attributes> Namespace::SetAttributes(InodeId inode, const AttributeChange& change) {
  CAIRN_RETURN_IF_ERROR(CheckWritable(false));
  CAIRN_RETURN_IF_ERROR(CheckChangeable(inode));
  if (change.size) {
    CAIRN_ASSIGN_OR_RETURN(const auto volume, table_.Find(inode));
    CAIRN_RETURN_IF_ERROR(volume->Truncate(*change.size));
  }
  const bool more = change.mode || change.uid || change.gid || change.atime_ns || change.mtime_ns;
  if (more) {
    LockTable::Held held(locks_, {inode});
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, Record(inode));
    const int64_t now_ns = context_.clock->NowNs();
    IndexBatch batch;
    CAIRN_RETURN_IF_ERROR(CommitInode(
        inode, record,
        [&](InodeRecord& changed) {
          if (change.mode) changed.mode = *change.mode & kPermissionBits;
          if (change.uid) changed.uid = *change.uid;
          if (change.gid) changed.gid = *change.gid;
          if (change.atime_ns) changed.atime_ns = *change.atime_ns;
          if (change.mtime_ns) changed.mtime_ns = *change.mtime_ns;
          changed.ctime_ns = now_ns;
        },
        batch));
  }
  return GetAttributes(inode);
}

Status Namespace::SetXattr(InodeId inode, std::string_view name, std::string_view value,
                           XattrMode mode, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, context_.requests->FindAnswer(caller));
  if (answer) return Status::Ok();
  if (name.size() > kMaxNameBytes) return Status(Code::kRange, "an attribute's name has 255 bytes");
  if (value.size() > kMaxXattrValueBytes) {
    return Status(Code::kNoSpace, "an attribute's value has at most 64 KiB");
  }
  CAIRN_RETURN_IF_ERROR(CheckWritable(true));
  CAIRN_RETURN_IF_ERROR(CheckChangeable(inode));
  LockTable::Held held(locks_, {inode});
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, Record(inode));
  bool present = false;
  size_t list_bytes = name.size() + 1;
  CAIRN_RETURN_IF_ERROR(index().ForEachXattr(inode, [&](std::string_view other, std::string_view) {
    if (other == name) {
      present = true;
    } else {
      list_bytes += other.size() + 1;
    }
    return true;
  }));
  if (present && mode == XattrMode::kCreate) return Status(Code::kExists, std::string(name));
  if (!present && mode == XattrMode::kReplace) {
    return Status(Code::kNoAttribute, std::string(name));
  }
  if (list_bytes > kMaxXattrListBytes) {
    return Status(Code::kNoSpace, "the names of a file's attributes have at most 64 KiB");
  }
  IndexBatch batch;
  batch.PutXattr(inode, name, value);
  context_.requests->Enter(batch, caller);
  const int64_t now_ns = context_.clock->NowNs();
  return CommitInode(
      inode, record, [&](InodeRecord& changed) { changed.ctime_ns = now_ns; }, batch);
}

Result<std::string> Namespace::GetOwnXattr(InodeId inode, std::string_view name) {
  auto value = index().GetXattr(inode, name);
  if (value.ok() || value.status().code() != Code::kNotFound) return value;
  return Status(Code::kNoAttribute, std::string(name));
}

Result<std::string> Namespace::GetInheritedXattr(InodeId inode, std::string_view name) {
  for (;;) {
    auto value = GetOwnXattr(inode, name);
    if (value.ok() || value.status().code() != Code::kNoAttribute) return value;
    if (inode == kRootInode) return value;
    CAIRN_ASSIGN_OR_RETURN(inode, Parent(inode));
  }
}

Result<std::vector<std::string>> Namespace::ListXattr(InodeId inode) {
  CAIRN_RETURN_IF_ERROR(Record(inode).status());
  std::vector<std::string> names;
  CAIRN_RETURN_IF_ERROR(index().ForEachXattr(inode, [&](std::string_view name, std::string_view) {
    names.emplace_back(name);
    return true;
  }));
  return names;
}

Status Namespace::RemoveXattr(InodeId inode, std::string_view name, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, context_.requests->FindAnswer(caller));
  if (answer) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(CheckWritable(false));
  CAIRN_RETURN_IF_ERROR(CheckChangeable(inode));
  LockTable::Held held(locks_, {inode});
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, Record(inode));
  CAIRN_RETURN_IF_ERROR(GetOwnXattr(inode, name).status());
  IndexBatch batch;
  batch.DeleteXattr(inode, name);
  context_.requests->Enter(batch, caller);
  const int64_t now_ns = context_.clock->NowNs();
  return CommitInode(
      inode, record, [&](InodeRecord& changed) { changed.ctime_ns = now_ns; }, batch);
}

}  // namespace cairn
