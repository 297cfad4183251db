// Index: every record about files, branches, chunks and extents, in LevelDB.
//
// Thread-safe. Each Commit is atomic and durable when it returns OK: all of LevelDB's writes are
// synced, so that a record in its log is proof that all earlier ones were durable (log_check.h
// builds on that). After a failed Commit the index takes no further ones until it is opened again:
// a write that failed once must not be answered by success later.
// Errors: kNotFound, kCorrupt (naming the damaged file), kIo, kNoSpace, kReadOnly.
#ifndef CAIRN_SRC_WARM_INDEX_H_
#define CAIRN_SRC_WARM_INDEX_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/env/env.h"
#include "src/warm/records.h"
#include "src/warm/warm_format.h"

namespace cairn {

// Changes that become durable together. Not thread-safe.
class IndexBatch {
 public:
  void PutInode(InodeId inode, const InodeRecord& record);
  void DeleteInode(InodeId inode);
  // A directory entry: both of its records.
  void PutName(InodeId parent, std::string_view name, InodeId child);
  void DeleteName(InodeId parent, std::string_view name, InodeId child);
  void PutXattr(InodeId inode, std::string_view name, std::string_view value);
  void DeleteXattr(InodeId inode, std::string_view name);
  void PutBranch(BranchId branch, const BranchRecord& record);
  void DeleteBranch(BranchId branch);
  void PutVersion(BranchId branch, ChunkIndex chunk, Epoch epoch, const VersionRecord& record);
  void DeleteVersion(BranchId branch, ChunkIndex chunk, Epoch epoch);
  // `size` bytes of the file are durable; it must never be found shorter.
  void PutExtent(const ExtentId& id, uint64_t size);
  void DeleteExtent(const ExtentId& id);
  void PutRegion(const RegionId& id, RegionState state);
  void DeleteRegion(const RegionId& id);
  void PutSums(BranchId branch, Epoch epoch, ChunkIndex chunk, const ChunkSums& sums);
  void DeleteSums(BranchId branch, Epoch epoch, ChunkIndex chunk);
  void PutOrphan(InodeId inode);
  void DeleteOrphan(InodeId inode);
  void PutDeadBranch(BranchId branch);
  void DeleteDeadBranch(BranchId branch);
  // `answer` is for the operation that reads it back.
  void PutRequest(RequestId request, std::string_view answer);
  void DeleteRequest(RequestId request);
  void PutGroup(InodeId group, const GroupRecord& record);
  void DeleteGroup(InodeId group);
  void PutToken(std::string_view token, InodeId group);
  void DeleteToken(std::string_view token);
  void PutView(const View& view);
  void DeleteView(const View& view);
  // Versions of the branch may not be needed any more.
  void PutClean(BranchId branch);
  void DeleteClean(BranchId branch);
  void PutCounter(std::string_view name, uint64_t number);
  // For fsck; everything else has a method of its own.
  void PutRaw(std::string key, std::string value);
  void DeleteRaw(std::string key);

  bool empty() const { return changes_.empty(); }
  size_t count() const { return changes_.size(); }
  void Clear() { changes_.clear(); }

 private:
  friend class Index;
  struct Change {
    std::string key;
    std::optional<std::string> value;  // none: delete
  };
  std::vector<Change> changes_;
};

struct IndexOptions {
  bool create = false;
  uint64_t cache_bytes = 32ull << 20;
  uint64_t write_buffer_bytes = 4ull << 20;
  // Called when a write of LevelDB finds the filesystem full; see LevelDbEnv::OnNoSpace.
  std::function<bool(const std::string& path)> on_no_space;
  // Whether a compaction may write now; see LevelDbEnv::RoomToCompact.
  std::function<bool()> room_to_compact;
};

class Index {
 public:
  // `dir` is LevelDB's. kCorrupt, kNotFound when there is none and not `create`.
  static Result<std::unique_ptr<Index>> Open(Env& env, const std::string& dir,
                                             const IndexOptions& options);
  ~Index();

  // Ends LevelDB's own work. An error when something failed since the opening, also what no Commit
  // told of: then nobody knows what LevelDB's files hold after a power cut.
  // REQUIRES: nothing else is used after.
  Status Close();

  // REQUIRES: the batch's changes do not contradict a concurrent batch's; callers keep locks.
  Status Commit(const IndexBatch& batch);
  // The reason why Commit refuses, or OK.
  Status health() const;

  // A number that was never given out before and never will be again; inodes and branches share
  // them.
  Result<uint64_t> AllocateId();

  Result<InodeRecord> GetInode(InodeId inode);
  Result<InodeId> FindName(InodeId parent, std::string_view name);
  // kNotFound as everywhere; the edge calls it kNoAttribute.
  Result<std::string> GetXattr(InodeId inode, std::string_view name);
  Result<BranchRecord> GetBranch(BranchId branch);
  Result<bool> HasOrphan(InodeId inode);
  Result<bool> HasDeadBranch(BranchId branch);
  // None when the request left no record.
  Result<std::optional<std::string>> GetRequest(RequestId request);
  // None for a region that was never sealed.
  Result<std::optional<RegionState>> GetRegion(const RegionId& id);
  // Without any block when there is no record.
  Result<ChunkSums> GetSums(BranchId branch, Epoch epoch, ChunkIndex chunk);
  Result<bool> HasClean(BranchId branch);
  Result<GroupRecord> GetGroup(InodeId group);
  Result<InodeId> FindToken(std::string_view token);
  // 0 when it was never put.
  Result<uint64_t> GetCounter(std::string_view name);

  // Walks. A sink returns false to stop. Sinks must not call Commit on what they walk over.
  Status ForEachXattr(
      InodeId inode,
      const std::function<bool(std::string_view name, std::string_view value)>& sink);
  // Children with an id above `after`, by id.
  Status ForEachChild(InodeId parent, InodeId after,
                      const std::function<bool(InodeId child, std::string_view name)>& sink);
  // Versions of chunks first..last of one branch, by chunk, newest epoch first.
  Status ForEachVersion(BranchId branch, ChunkIndex first, ChunkIndex last,
                        const std::function<bool(ChunkIndex, Epoch, const VersionRecord&)>& sink);
  Status ForEachExtent(BranchId branch,
                       const std::function<bool(const ExtentId&, uint64_t size)>& sink);
  // Regions of one epoch from `from` on, in order.
  Status ForEachRegion(const RegionId& from, const std::function<bool(const RegionId&)>& sink);
  // Chunks first..last of one epoch that have checksums, in order.
  Status ForEachSums(BranchId branch, Epoch epoch, ChunkIndex first, ChunkIndex last,
                     const std::function<bool(ChunkIndex)>& sink);
  // By epoch.
  Status ForEachView(BranchId branch, const std::function<bool(const View&)>& sink);
  Status ForEachGroup(const std::function<bool(InodeId, const GroupRecord&)>& sink);
  Status ForEachClean(const std::function<bool(BranchId)>& sink);
  Status ForEachOrphan(const std::function<bool(InodeId)>& sink);
  Status ForEachDeadBranch(const std::function<bool(BranchId)>& sink);
  // Every record of a kind, undecoded; `verify` reads all of it anew from the disk.
  Status ForEachRaw(KeyKind kind,
                    const std::function<bool(std::string_view key, std::string_view value)>& sink,
                    bool verify = false);
  // The same of those records alone whose keys go on with `first`.
  Status ForEachRaw(KeyKind kind, uint64_t first,
                    const std::function<bool(std::string_view key, std::string_view value)>& sink);
  // Records whose keys start with a letter that this version does not know, for fsck.
  Status ForEachUnknown(const std::function<bool(std::string_view key)>& sink);

  // LevelDB's tables of which a part could not be read since the opening, by path, and why; see
  // LevelDbEnv. Where all records can be read, it is one that LevelDB does without, or one that
  // could be read the next time.
  std::map<std::string, Status> damaged_tables() const;
  // Compacts the table's records into others, so that the file goes; OK when it is gone already.
  // From then on LevelDB's own work does not wait for space: once it found none, Commit fails until
  // the index is opened again. REQUIRES: all records can be read; nobody commits meanwhile.
  Status RewriteTable(const std::string& path);

 private:
  Index();
  Result<std::string> Get(const std::string& key, std::string_view what);
  Result<bool> Has(const std::string& key, std::string_view what);
  Status Walk(
      const std::string& from, const std::string& prefix, bool verify,
      const std::function<Result<bool>(std::string_view key, std::string_view value)>& sink);
  Status ReserveIds() CAIRN_REQUIRES(id_mu_);

  struct Database;
  std::unique_ptr<Database> database_;

  mutable Mutex health_mu_;
  Status health_ CAIRN_GUARDED_BY(health_mu_);

  Mutex id_mu_;
  uint64_t next_id_ CAIRN_GUARDED_BY(id_mu_) = 0;
  uint64_t reserved_ids_end_ CAIRN_GUARDED_BY(id_mu_) = 0;
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_INDEX_H_
