// Clones and rollback: branches whose parent is what a snapshot, or a cut just made, shows.
#include <fmt/format.h>

#include <algorithm>

#include "src/volume/request_log.h"
#include "src/volume/snapshot_ops.h"

namespace cairn {
namespace {

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

std::string NameOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// Whether some version of the branch, of whatever epoch, says anything about a block at or behind
// `offset`: that it holds it, or that it is zeros.
Result<bool> HasBlocksFrom(Index& index, BranchId branch, uint64_t offset) {
  const ChunkIndex first = ChunkOf(offset);
  const BlockMask behind = BlocksTouched(OffsetInChunk(offset), kChunkSize);
  bool found = false;
  CAIRN_RETURN_IF_ERROR(
      index.ForEachVersion(branch, first, ChunkIndex(ChunkCount(kMaxVolumeSize)),
                           [&](ChunkIndex chunk, Epoch, const VersionRecord& version) {
                             BlockMask any = version.extent | version.zero;
                             for (const auto& tombstone : version.tombstones) any |= tombstone.mask;
                             found = (chunk == first ? any & behind : any) != 0;
                             return !found;
                           }));
  return found;
}

}  // namespace

Result<SnapshotOps::Source> SnapshotOps::SourceOf(InodeId inode, const GroupCut& cut) {
  if (cut.volumes().contains(inode)) {
    const DiskVolume::CutState& state = cut.StateOf(inode);
    Source source{state.branch, state.epoch, state.record, inode};
    source.record.size = state.size;
    return source;
  }
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(inode));
  if (record.kind != FileKind::kSnapshot) {
    return Status(Code::kStale, fmt::format("inode {} is not what it was", inode.value()));
  }
  return Source{record.branch, record.epoch, record, inode, true};
}

Result<std::pair<BranchId, BranchRecord>> SnapshotOps::AddBranch(const Source& source,
                                                                 InodeId inode, IndexBatch& batch) {
  CAIRN_ASSIGN_OR_RETURN(const uint64_t id, index().AllocateId());
  const BranchId branch(id);
  BranchRecord record;
  record.parent = source.branch;
  record.parent_epoch = source.epoch;
  // The source showed no more of anything. What it is made of may show more later, when a source
  // that is a copy goes on being copied.
  record.parent_end = RoundUpToBlock(source.record.size);
  record.inode = inode;
  record.trimmed_crash = parts_.context.store->crash_count();
  batch.PutBranch(branch, record);
  batch.PutView({source.branch, source.epoch, branch.value(), ViewKind::kClone});
  return std::pair(branch, record);
}

Status SnapshotOps::CommitViews(const std::vector<Member>& snapshots, IndexBatch& batch,
                                const Caller& caller, std::string_view answer) {
  return parts_.context.views->Change([&]() -> Status {
    // Deleted meanwhile, their blocks may be going already.
    for (const Member& member : snapshots) {
      CAIRN_RETURN_IF_ERROR(
          index().GetInode(member.inode).status().WithPrefix("the snapshot was deleted"));
    }
    parts_.context.requests->Enter(batch, caller, answer);
    return index().Commit(batch);
  });
}

Result<InodeId> SnapshotOps::Clone(const NewClone& clone) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, FindCloned(clone.caller));
  if (answer) return answer->inode;
  CAIRN_RETURN_IF_ERROR(RequireSpace());
  std::vector<InodeId> live;
  std::vector<Member> snapshots;
  for (const Member& file : clone.files) {
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(file.inode));
    if (record.kind == FileKind::kSnapshot) {
      snapshots.push_back(file);
    } else {
      live.push_back(file.inode);
    }
  }
  GroupCut cut(parts_.context, parts_.table);
  if (!live.empty()) {
    CAIRN_RETURN_IF_ERROR(cut.Load(live));
    CAIRN_RETURN_IF_ERROR(cut.Close(clone.deadline));
    const Status taken = cut.Cut();
    cut.Open();
    CAIRN_RETURN_IF_ERROR(taken);
    CAIRN_RETURN_IF_ERROR(cut.MakeDurable());
  }
  IndexBatch batch;
  Tree tree;
  const int64_t now = now_ns();
  InodeId top;
  // The parent of a path's entry, and the new inode's own record.
  const auto add = [&](const Member& member, InodeRecord record, InodeId inode,
                       InodeId xattrs_of) -> Status {
    record.parent = clone.parent;
    if (member.path.empty()) {
      top = inode;
    } else {
      record.parent = tree.at(DirectoryOf(member.path));
      batch.PutName(record.parent, NameOf(member.path), inode);
    }
    if (clone.owner) {
      record.uid = clone.owner->uid;
      record.gid = clone.owner->gid;
    }
    record.atime_ns = record.mtime_ns = record.ctime_ns = now;
    batch.PutInode(inode, record);
    return CopyXattrs(xattrs_of, inode, batch);
  };
  for (const Member& directory : clone.directories) {
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(directory.inode));
    CAIRN_ASSIGN_OR_RETURN(tree[directory.path], NewInode());
    CAIRN_RETURN_IF_ERROR(add(directory, record, tree[directory.path], directory.inode));
  }
  for (const Member& file : clone.files) {
    CAIRN_ASSIGN_OR_RETURN(const Source source, SourceOf(file.inode, cut));
    CAIRN_ASSIGN_OR_RETURN(const InodeId inode, NewInode());
    CAIRN_ASSIGN_OR_RETURN(const auto branch, AddBranch(source, inode, batch));
    InodeRecord record = source.record;
    record.kind = FileKind::kVolume;
    record.branch = branch.first;
    record.epoch = Epoch(0);
    CAIRN_RETURN_IF_ERROR(add(file, record, inode, source.xattrs_of));
  }
  const std::string done = Encode(Cloned{top, clone.parent, clone.files.size()});
  CAIRN_RETURN_IF_ERROR(parts_.names.CommitEntries({{clone.parent, clone.name, top}}, batch, [&] {
    return CommitViews(snapshots, batch, clone.caller, done);
  }));
  cut.Keep();
  return top;
}

Result<DiskVolume::Replacement> SnapshotOps::Replace(const Source& source, InodeId inode,
                                                     IndexBatch& batch) {
  CAIRN_ASSIGN_OR_RETURN(const auto branch, AddBranch(source, inode, batch));
  CAIRN_ASSIGN_OR_RETURN(const Lineage parent,
                         Lineage::LoadSnapshot(index(), source.branch, source.epoch));
  DiskVolume::Replacement replacement;
  replacement.branch = branch.first;
  replacement.record = branch.second;
  replacement.lineage =
      Lineage::OfClone(branch.first, branch.second.epoch, parent, branch.second.parent_end);
  CAIRN_ASSIGN_OR_RETURN(replacement.known_sizes,
                         ExtentSet::ReadKnownSizes(index(), replacement.lineage));
  replacement.size = source.record.size;
  return replacement;
}

// All in one batch, with each volume's own record under its lock.
Status SnapshotOps::CommitSwitches(const std::map<InodeId, std::shared_ptr<DiskVolume>>& volumes,
                                   const std::map<InodeId, DiskVolume::Replacement>& replacements,
                                   IndexBatch& batch, const std::function<Status()>& commit)
    CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  const int64_t now = now_ns();
  std::function<Status()> chain = commit;
  // clang 14 does not take std::ranges::reverse_view from the headers of GCC 12.
  // NOLINTNEXTLINE(modernize-loop-convert)
  for (auto it = volumes.rbegin(); it != volumes.rend(); ++it) {
    const DiskVolume::Replacement& replacement = replacements.at(it->first);
    DiskVolume& volume = *it->second;
    chain = [&volume, &replacement, &batch, now, inner = std::move(chain)]()
                CAIRN_NO_THREAD_SAFETY_ANALYSIS {
                  return volume.CommitSwitch(
                      batch,
                      [&](InodeRecord& record) {
                        record.branch = replacement.branch;
                        record.size = replacement.size;
                        record.mtime_ns = record.ctime_ns = now;
                      },
                      inner);
                };
  }
  return chain();
}

Status SnapshotOps::AddMissing(const RollbackItem& item, const Source& source, Tree& made,
                               std::vector<Namespace::NewEntry>& entries, IndexBatch& batch) {
  CAIRN_ASSIGN_OR_RETURN(const InodeId inode, NewInode());
  CAIRN_ASSIGN_OR_RETURN(const auto branch, AddBranch(source, inode, batch));
  InodeRecord record = source.record;
  record.kind = FileKind::kVolume;
  record.branch = branch.first;
  record.epoch = Epoch(0);
  record.mtime_ns = record.ctime_ns = now_ns();
  InodeId child = inode;
  std::string path = item.path;
  InodeRecord child_record = record;
  InodeId xattrs_of = source.xattrs_of;
  InodeId snapshot_directory = source.record.parent;
  // Upwards, until a directory that is there.
  for (;;) {
    const std::string directory = DirectoryOf(path);
    const auto known = made.find(directory);
    InodeId parent;
    bool is_new = known != made.end();
    if (is_new) {
      parent = known->second;
    } else {
      const auto found = FindPath(directory);
      if (found.ok()) {
        parent = *found;
      } else if (found.status().code() != Code::kNotFound) {
        return found.status();
      } else {
        CAIRN_ASSIGN_OR_RETURN(parent, NewInode());
        is_new = true;
      }
    }
    child_record.parent = parent;
    batch.PutInode(child, child_record);
    CAIRN_RETURN_IF_ERROR(CopyXattrs(xattrs_of, child, batch));
    if (!is_new) {
      entries.push_back({parent, NameOf(path), child});
      return Status::Ok();
    }
    batch.PutName(parent, NameOf(path), child);
    if (known != made.end()) return Status::Ok();
    made[directory] = parent;
    CAIRN_ASSIGN_OR_RETURN(child_record, index().GetInode(snapshot_directory));
    xattrs_of = snapshot_directory;
    snapshot_directory = child_record.parent;
    child = parent;
    path = directory;
  }
}

void SnapshotOps::MarkStalePages(const RolledBack& done) {
  for (const InodeId inode : done.changed) parts_.context.mount_table->MarkStalePages(inode);
}

Result<SnapshotOps::RolledBack> SnapshotOps::Rollback(const NewRollback& rollback)
    CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  CAIRN_ASSIGN_OR_RETURN(auto answer, FindRolledBack(rollback.caller));
  if (answer) return std::move(*answer);
  CAIRN_RETURN_IF_ERROR(RequireSpace());
  std::vector<InodeId> live;
  std::vector<Member> overwritten;
  std::vector<Member> snapshots;
  for (const RollbackItem& item : rollback.items) {
    snapshots.push_back({item.member, item.path});
    if (item.volume == InodeId(0)) continue;
    live.push_back(item.volume);
    overwritten.push_back({item.volume, item.path});
  }
  GroupCut cut(parts_.context, parts_.table);
  CAIRN_RETURN_IF_ERROR(cut.Load(live));
  // Of other volumes, too: what is left for the time of closed gates is little.
  (void)parts_.flush_index();
  CAIRN_RETURN_IF_ERROR(cut.Close(rollback.deadline));
  CAIRN_RETURN_IF_ERROR(cut.Cut());
  // With the gates closed nobody adds to the journal: after this it holds nothing of these volumes
  // that could be replayed over what they are about to become.
  (void)parts_.flush_index();
  CAIRN_RETURN_IF_ERROR(cut.MakeDurable());
  MutexLock lock(names_mu_);
  IndexBatch batch;
  RolledBack result;
  if (!live.empty()) {
    CAIRN_ASSIGN_OR_RETURN(result.before, AddGroup(rollback.before, overwritten, cut, batch));
    result.before_name = rollback.before.name;
    result.overwritten = overwritten.size();
  }
  std::map<InodeId, DiskVolume::Replacement> replacements;
  std::vector<Namespace::NewEntry> entries;
  Tree made;
  for (const RollbackItem& item : rollback.items) {
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, index().GetInode(item.member));
    const Source source{record.branch, record.epoch, record, item.member, true};
    if (item.volume == InodeId(0)) {
      CAIRN_RETURN_IF_ERROR(AddMissing(item, source, made, entries, batch));
    } else {
      CAIRN_ASSIGN_OR_RETURN(replacements[item.volume], Replace(source, item.volume, batch));
    }
  }
  for (const auto& [inode, volume] : cut.volumes()) result.changed.push_back(inode);
  for (const Namespace::NewEntry& entry : entries) result.changed.push_back(entry.parent);
  const std::string done = Encode(result);
  // When it fails, a mark too many stays: under the next server pages are read in again.
  MarkStalePages(result);
  const Status committed = parts_.names.CommitEntries(entries, batch, [&] {
    return CommitSwitches(cut.volumes(), replacements, batch,
                          [&] { return CommitViews(snapshots, batch, rollback.caller, done); });
  });
  if (!committed.ok()) {
    // What the index refused for good may be durable all the same.
    if (!index().health().ok()) {
      for (const auto& [inode, volume] : cut.volumes()) volume->Poison(committed);
    }
    return committed;
  }
  cut.Keep();
  for (const auto& [inode, volume] : cut.volumes()) {
    volume->Switch(std::move(replacements.at(inode)));
  }
  return result;
}

// The source as it is now; made durable where it has to be cut for that.
Result<SnapshotOps::Source> SnapshotOps::CutForCopy(InodeId inode, GroupCut& cut,
                                                    std::chrono::milliseconds deadline) {
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, parts_.names.Record(inode));
  if (record.kind == FileKind::kVolume) {
    CAIRN_RETURN_IF_ERROR(cut.Load({inode}));
    CAIRN_RETURN_IF_ERROR(cut.Close(deadline));
    const Status taken = cut.Cut();
    cut.Open();
    CAIRN_RETURN_IF_ERROR(taken);
    CAIRN_RETURN_IF_ERROR(cut.MakeDurable());
  }
  return SourceOf(inode, cut);
}

// Whether what `source` shows now is what (branch, epoch) shows.
Result<bool> SnapshotOps::StillShows(InodeId source, BranchId branch, Epoch epoch) {
  CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, parts_.names.Record(source));
  if (record.branch != branch) return false;
  if (record.kind == FileKind::kSnapshot) return record.epoch == epoch;
  CAIRN_ASSIGN_OR_RETURN(const auto volume, parts_.table.Find(source));
  return volume->ShowsEndOf(branch, epoch);
}

Result<uint64_t> SnapshotOps::CloneRange(InodeId source_inode, InodeId target_inode, Range range,
                                         std::chrono::milliseconds deadline, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, FindClonedRange(caller));
  if (answer) return *answer;
  const uint64_t offset = range.offset;
  uint64_t length = range.length;
  if (source_inode == target_inode || !RequireSpace().ok()) return uint64_t{0};
  CAIRN_ASSIGN_OR_RETURN(const auto target, parts_.table.Find(target_inode));
  if (target->is_snapshot() || target->size() != offset || offset % kBlockSize != 0) {
    return uint64_t{0};
  }
  const BranchId branch = target->Record().branch;
  CAIRN_ASSIGN_OR_RETURN(const BranchRecord record, index().GetBranch(branch));
  Source source;
  GroupCut source_cut(parts_.context, parts_.table);
  if (offset == 0) {
    // One that cannot be cut, because it takes no writes for example, can be read all the same.
    const auto cut = CutForCopy(source_inode, source_cut, deadline);
    if (!cut.ok()) return uint64_t{0};
    source = *cut;
  } else {
    // The next piece of what an earlier call began.
    if (record.parent == BranchId(0) || record.parent_end != offset) return uint64_t{0};
    // The size first: what is appended in between is not in what the target sees.
    const auto now = parts_.names.Record(source_inode);
    if (!now.ok()) return uint64_t{0};
    source.record = *now;
    const auto same = StillShows(source_inode, record.parent, record.parent_epoch);
    if (!same.ok() || !*same) return uint64_t{0};
    source.branch = record.parent;
    source.epoch = record.parent_epoch;
  }
  source.from_snapshot = source_cut.volumes().empty() && offset == 0;
  if (source.record.size <= offset) return uint64_t{0};
  length = std::min(length, source.record.size - offset);
  if (offset + length < source.record.size) length -= length % kBlockSize;
  if (length == 0) return uint64_t{0};
  CAIRN_ASSIGN_OR_RETURN(const uint64_t done, CloneToEnd(source, source_inode, target_inode,
                                                         {offset, length}, deadline, caller));
  if (done > 0) source_cut.Keep();
  return done;
}

// Whether the branch, as it is with its volume's gate closed and nothing pending, may see what the
// source shows from `offset` on.
Result<bool> SnapshotOps::CanMoveEnd(const Source& source, const DiskVolume::Replacement& target,
                                     uint64_t offset) {
  const BranchRecord& record = target.record;
  const bool goes_on = record.parent == source.branch && record.parent_epoch == source.epoch &&
                       record.parent_end == offset;
  if (!goes_on) return false;
  // Who looks through the same record, having seen the volume when it was longer, would see the new
  // bytes where there were zeros. In this order: what a pin is for is in the index before it goes.
  if (parts_.context.views->IsPinned(target.branch)) return false;
  bool viewed = false;
  CAIRN_RETURN_IF_ERROR(index().ForEachView(target.branch, [&](const View&) {
    viewed = true;
    return false;
  }));
  if (viewed) return false;
  // Left behind the end by a write and a truncation, it would show instead.
  CAIRN_ASSIGN_OR_RETURN(const bool hidden, HasBlocksFrom(index(), target.branch, offset));
  return !hidden;
}

// REQUIRES: the volume ended at range.offset a moment ago.
Result<uint64_t> SnapshotOps::CloneToEnd(const Source& source, InodeId source_inode,
                                         InodeId target_inode, const Range& range,
                                         std::chrono::milliseconds deadline,
                                         const Caller& caller) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
  GroupCut target(parts_.context, parts_.table);
  CAIRN_RETURN_IF_ERROR(target.Load({target_inode}));
  if (target.volumes().begin()->second->size() != range.offset) return uint64_t{0};
  (void)parts_.flush_index();  // as in Rollback
  if (!target.Close(deadline).ok()) return uint64_t{0};
  DiskVolume& volume = *target.volumes().begin()->second;
  if (volume.size() != range.offset) return uint64_t{0};
  // After this the journal holds no size of it that could be replayed over the new one.
  (void)parts_.flush_index();
  CAIRN_RETURN_IF_ERROR(target.MakeDurable());
  IndexBatch batch;
  const BranchId old_branch = volume.Record().branch;
  std::map<InodeId, DiskVolume::Replacement> replacements;
  DiskVolume::Replacement& replacement = replacements[target_inode];
  if (range.offset == 0) {
    CAIRN_ASSIGN_OR_RETURN(replacement, Replace(source, target_inode, batch));
  } else {
    replacement.branch = old_branch;
    CAIRN_ASSIGN_OR_RETURN(replacement.record, index().GetBranch(old_branch));
    CAIRN_ASSIGN_OR_RETURN(const bool can_move, CanMoveEnd(source, replacement, range.offset));
    if (!can_move) return uint64_t{0};
  }
  const uint64_t end = range.offset + range.length;
  replacement.size = end;
  replacement.record.parent_end = RoundUpToBlock(end);
  CAIRN_ASSIGN_OR_RETURN(const Lineage parent,
                         Lineage::LoadSnapshot(index(), source.branch, source.epoch));
  replacement.lineage = Lineage::OfClone(replacement.branch, replacement.record.epoch, parent,
                                         replacement.record.parent_end);
  CAIRN_ASSIGN_OR_RETURN(replacement.known_sizes,
                         ExtentSet::ReadKnownSizes(index(), replacement.lineage));
  batch.PutBranch(replacement.branch, replacement.record);
  const auto commit = [&] {
    parts_.context.requests->Enter(batch, caller, EncodeU64(range.length));
    return index().Commit(batch);
  };
  const Status committed = CommitSwitches(target.volumes(), replacements, batch, [&]() -> Status {
    // The branch itself keeps its parent.
    if (range.offset != 0) return commit();
    return parts_.context.views->Abandon(index(), old_branch, batch, [&]() -> Status {
      if (source.from_snapshot) {
        CAIRN_RETURN_IF_ERROR(index().GetInode(source_inode).status());
      }
      return commit();
    });
  });
  if (!committed.ok()) {
    if (!index().health().ok()) volume.Poison(committed);
    return committed;
  }
  volume.Switch(std::move(replacement));
  if (range.offset == 0) parts_.context.reclaim_soon(old_branch);
  return range.length;
}

}  // namespace cairn
