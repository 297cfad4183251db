#include "src/volume/journal_replay.h"

#include <algorithm>
#include <map>
#include <set>

#include "src/base/log.h"

namespace cairn {
namespace {

struct Changes {
  // (branch, epoch) -> chunk -> blocks.
  std::map<std::pair<BranchId, Epoch>, std::map<ChunkIndex, BlockMask>> heads;
  std::map<InodeId, uint64_t> sizes;
};

Result<Changes> Collect(IndexJournal& journal) {
  Changes changes;
  CAIRN_RETURN_IF_ERROR(journal.Replay([&](const JournalEntry& entry) {
    switch (entry.kind) {
      case JournalKind::kBlocks:
        changes.heads[{BranchId(entry.fields[0]), Epoch(entry.fields[1])}]
                     [ChunkIndex(entry.fields[2])] = entry.fields[3];
        return;
      case JournalKind::kSize:
        changes.sizes[InodeId(entry.fields[0])] = entry.fields[1];
        return;
      case JournalKind::kForget:
        changes.sizes.erase(InodeId(entry.fields[0]));
        std::erase_if(changes.heads, [&](const auto& head) {
          return head.first.first == BranchId(entry.fields[1]);
        });
        return;
    }
  }));
  return changes;
}

// Syncs the branch's files that the chunks lie in, and puts their records into the batch. A branch
// that is gone meanwhile needs nothing. A file that cannot be synced is its volume's affair: `lost`
// says why, and of this epoch nothing is in the batch.
Status ReplayBranch(WarmStore& store, BranchId branch, Epoch epoch,
                    const std::map<ChunkIndex, BlockMask>& chunks, MountTable& table,
                    IndexBatch& batch, Status& lost) {
  Index& index = store.index();
  auto record = index.GetBranch(branch);
  if (!record.ok()) {
    return record.status().code() == Code::kNotFound ? Status::Ok() : std::move(record).status();
  }
  // Its files may be gone already.
  CAIRN_ASSIGN_OR_RETURN(const bool dead, index.HasDeadBranch(branch));
  if (dead) return Status::Ok();
  // All versions of an epoch that the record calls past are in the index, and some of them may have
  // been given back since, with their files.
  if (epoch < record->epoch) return Status::Ok();
  if (table.HasPoisonMark(record->inode)) {
    lost = Status(Code::kIo, "an earlier server could not sync it");
    return Status::Ok();
  }
  std::set<SegmentIndex> segments;
  for (const auto& [chunk, mask] : chunks) segments.insert(SegmentOf(chunk));
  std::map<ExtentId, uint64_t> sizes;
  for (const SegmentIndex segment : segments) {
    const ExtentId id{branch, epoch, segment};
    const auto file = store.extents().Open(id, ExtentStore::Mode::kMustExist, 0);
    lost = file.ok() ? (*file)->SyncAnyway() : file.status();
    if (!lost.ok()) return Status::Ok();
    sizes[id] = (*file)->size();
  }
  for (const auto& [id, size] : sizes) batch.PutExtent(id, size);
  if (epoch > record->epoch) {
    // By epochs in their order, so that the newest one's is the last word.
    record->epoch = epoch;
    batch.PutBranch(branch, *record);
  }
  std::map<ChunkIndex, VersionRecord> known;
  CAIRN_RETURN_IF_ERROR(
      index.ForEachVersion(branch, chunks.begin()->first, chunks.rbegin()->first,
                           [&](ChunkIndex chunk, Epoch at, const VersionRecord& version) {
                             if (at == epoch && chunks.contains(chunk)) known[chunk] = version;
                             return true;
                           }));
  for (const auto& [chunk, mask] : chunks) {
    VersionRecord version = known[chunk];
    version.extent = mask;
    version.zero &= ~mask;
    batch.PutVersion(branch, chunk, epoch, version);
  }
  return Status::Ok();
}

}  // namespace

Status ReplayJournal(WarmStore& store, IndexJournal& journal, MountTable& table) {
  CAIRN_ASSIGN_OR_RETURN(const Changes changes, Collect(journal));
  Index& index = store.index();
  IndexBatch batch;
  // As in a server that lives: a volume whose sync fails takes no writes until the next mount, what
  // was not durable of it is lost, and all others go on.
  std::set<BranchId> lost_branches;
  for (const auto& [head, chunks] : changes.heads) {
    const auto& [branch, epoch] = head;
    if (lost_branches.contains(branch)) continue;
    Status lost;
    CAIRN_RETURN_IF_ERROR(ReplayBranch(store, branch, epoch, chunks, table, batch, lost));
    if (lost.ok()) continue;
    lost_branches.insert(branch);
    CAIRN_ASSIGN_OR_RETURN(const BranchRecord record, index.GetBranch(branch));
    const auto volume = index.GetInode(record.inode);
    if (!volume.ok() && volume.status().code() != Code::kNotFound) return volume.status();
    // What snapshots see of it was in the index before.
    if (!volume.ok() || volume->branch != branch) continue;
    LogError("volume {}: what the last server had not made durable is lost: {}",
             record.inode.value(), lost.ToString());
    table.MarkPoisoned(record.inode);
  }
  for (const auto& [inode, size] : changes.sizes) {
    if (table.HasPoisonMark(inode)) continue;
    auto record = index.GetInode(inode);
    if (!record.ok()) {
      if (record.status().code() == Code::kNotFound) continue;
      return std::move(record).status();
    }
    record->size = size;
    batch.PutInode(inode, *record);
  }
  if (!batch.empty()) LogInfo("replaying {} index changes of the last server", batch.count());
  CAIRN_RETURN_IF_ERROR(index.Commit(batch));
  journal.Clear();
  return Status::Ok();
}

Status ReplayTimes(WarmStore& store, MountTable& table, int64_t now_ns) {
  IndexBatch batch;
  const std::vector<InodeId> inodes = table.InodesWithTimes();
  for (const InodeId inode : inodes) {
    auto record = store.index().GetInode(inode);
    if (record.status().code() == Code::kNotFound) continue;
    if (!record.ok()) return std::move(record).status();
    record->mtime_ns = std::max(record->mtime_ns, now_ns);
    record->ctime_ns = std::max(record->ctime_ns, now_ns);
    batch.PutInode(inode, *record);
  }
  CAIRN_RETURN_IF_ERROR(store.index().Commit(batch));
  for (const InodeId inode : inodes) table.ClearTimes(inode);
  return Status::Ok();
}

}  // namespace cairn
