// SnapshotOps: what the index and the volumes do for snapshots, clones and rollback.
//
// The module `snapshot` decides who may do what, and names the members; this carries it out, each
// call all or nothing: one batch of the index, after everything that it speaks of is durable.
// Obtained from Filesystem. Thread-safe.
//
// Errors of all calls: kReadOnly, kNoSpace, kIo, kCorrupt; kDeadline where gates are closed; kStale
// when a volume went away meanwhile.
//
// A verb commits the record of its caller's request with its effect (request_log.h), and answers a
// request that is sent again from that. Who checks anything before the verb asks with Find...
// first: what is checked may have changed since the request was carried out.
#ifndef CAIRN_SRC_VOLUME_SNAPSHOT_OPS_H_
#define CAIRN_SRC_VOLUME_SNAPSHOT_OPS_H_

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/volume/attributes.h"
#include "src/volume/group_cut.h"
#include "src/volume/namespace.h"
#include "src/volume/snapshot_types.h"
#include "src/volume/volume_context.h"
#include "src/volume/volume_table.h"

namespace cairn {

class SnapshotOps {
 public:
  struct Parts {
    VolumeContext& context;
    VolumeTable& table;
    Namespace& names;
    // Makes pending index changes durable, so that the journal holds nothing of what is closed.
    std::function<Status()> flush_index;
  };
  explicit SnapshotOps(const Parts& parts) : parts_(parts) {}

  // A file, and a path: relative, without "." and "..".
  struct Member {
    InodeId inode;
    std::string path;
  };

  // --- Snapshots.
  struct NewGroup {
    GroupRecord record;           // created_ns and member_count are filled in
    std::vector<Member> members;  // volumes, and where they are below the root
    std::chrono::milliseconds deadline{0};
    Caller caller = {};
  };
  struct Created {
    InodeId id;
    int64_t created_ns = 0;
    uint64_t member_count = 0;
    std::chrono::nanoseconds held{0};
  };
  // kExists: the name or the token.
  Result<Created> Create(const NewGroup& group);
  Result<std::optional<Created>> FindCreated(const Caller& caller);
  // kNotFound; kBusy: a member is open.
  Status Delete(InodeId id, const Caller& caller);
  // Whether this is a deletion that is sent again and was carried out.
  Result<bool> WasDeleted(const Caller& caller);
  Result<GroupRecord> Get(InodeId id) { return index().GetGroup(id); }
  Result<InodeId> FindToken(std::string_view token) { return index().FindToken(token); }
  Status ForEach(const std::function<bool(InodeId, const GroupRecord&)>& sink) {
    return index().ForEachGroup(sink);
  }

  // The volume that a member was taken of, which may be gone.
  Result<InodeId> VolumeOf(InodeId member);

  // --- Clones.
  struct Owner {
    uint32_t uid = 0;
    uint32_t gid = 0;
  };
  struct NewClone {
    // What is copied, with paths below the target; "" is the target itself. Directories come before
    // what is in them.
    std::vector<Member> directories;
    std::vector<Member> files;  // volumes or members of snapshots
    InodeId parent;
    std::string name;
    std::optional<Owner> owner;  // none: as the sources'
    std::chrono::milliseconds deadline{0};
    Caller caller = {};
  };
  struct Cloned {
    InodeId inode;
    InodeId parent;
    uint64_t volume_count = 0;
  };
  // kExists, kNotFound.
  Result<InodeId> Clone(const NewClone& clone);
  Result<std::optional<Cloned>> FindCloned(const Caller& caller);
  // Lets the volume `target`, which ends at `offset`, show at [offset, +length) what `source` shows
  // there now. Returns how much of that was done, from its beginning on; 0: nothing was, and the
  // caller has to copy bytes.
  struct Range {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  Result<uint64_t> CloneRange(InodeId source, InodeId target, Range range,
                              std::chrono::milliseconds deadline, const Caller& caller);
  Result<std::optional<uint64_t>> FindClonedRange(const Caller& caller);

  // --- Rollback.
  struct RollbackItem {
    InodeId member;    // of a snapshot
    InodeId volume;    // that gets its content; 0: one is made
    std::string path;  // below the root: of the volume as it is, or where it is made
  };
  struct NewRollback {
    std::vector<RollbackItem> items;
    GroupRecord before;  // the snapshot of what is overwritten
    std::chrono::milliseconds deadline{0};
    Caller caller = {};
  };
  struct RolledBack {
    InodeId before;                // 0 when nothing was overwritten
    std::string before_name;       // "" when nothing was
    uint64_t overwritten = 0;      // volumes
    std::vector<InodeId> changed;  // volumes, and directories in which something was made
  };
  // kExists: something else has the place of a volume that is to be made.
  // What `changed` names is marked (Filesystem::MarkStalePages), by FindRolledBack once more: who
  // gets it has the kernel forget those pages, and clears the marks.
  Result<RolledBack> Rollback(const NewRollback& rollback);
  Result<std::optional<RolledBack>> FindRolledBack(const Caller& caller);

  // --- From the index alone. snapshot_diff.cc.
  Result<DiffPage> Diff(InodeId from, InodeId to, uint64_t offset, size_t most);
  Result<VolumeSizes> Sizes(InodeId inode);

 private:
  // What a new file is made of.
  struct Source {
    BranchId branch;
    Epoch epoch;
    InodeRecord record;  // with the size
    InodeId xattrs_of;
    bool from_snapshot = false;
  };
  // Where the paths of a new tree lead to.
  using Tree = std::map<std::string, InodeId>;

  Index& index() { return parts_.context.store->index(); }
  int64_t now_ns() { return parts_.context.clock->NowNs(); }
  Status RequireSpace();
  Result<InodeId> NewInode();
  Status CopyXattrs(InodeId from, InodeId to, IndexBatch& batch);
  // The inode of the directory `path` of `tree`, made like `original` when it is not there yet: the
  // one that the member lies in, whatever has its path by now, and so on upwards.
  Result<InodeId> TreeDirectory(const std::string& path, InodeId original, Tree& tree,
                                IndexBatch& batch);
  Result<InodeId> FindPath(const std::string& path);
  // Adds the records of a group to the batch. REQUIRES: names_mu_ is held until it is committed.
  Result<InodeId> AddGroup(const GroupRecord& record, const std::vector<Member>& members,
                           const GroupCut& cut, IndexBatch& batch) CAIRN_REQUIRES(names_mu_);
  Status TouchSnapshots(IndexBatch& batch);
  // All below a directory of a snapshot.
  Status Collect(InodeId directory, std::vector<InodeId>& files, std::vector<InodeId>& directories);
  struct Doomed {
    InodeId id;
    GroupRecord group;
    std::vector<InodeId> files;
    std::vector<InodeId> directories;
  };
  Status DeleteTree(const Doomed& doomed, const Caller& caller);
  // A branch for `inode` that shows what the source does.
  Result<std::pair<BranchId, BranchRecord>> AddBranch(const Source& source, InodeId inode,
                                                      IndexBatch& batch);
  Result<Source> SourceOf(InodeId inode, const GroupCut& cut);
  // Commits what refers to the sources, if they are still there, with the record of the request.
  Status CommitViews(const std::vector<Member>& snapshots, IndexBatch& batch, const Caller& caller,
                     std::string_view answer);
  // What a record holds of an answer (FORMAT.md). snapshot_answers.cc.
  static std::string Encode(const Created& created);
  static std::string Encode(const Cloned& cloned);
  static std::string Encode(const RolledBack& done);
  Result<DiskVolume::Replacement> Replace(const Source& source, InodeId inode, IndexBatch& batch);
  void MarkStalePages(const RolledBack& done);
  Status CommitSwitches(const std::map<InodeId, std::shared_ptr<DiskVolume>>& volumes,
                        const std::map<InodeId, DiskVolume::Replacement>& replacements,
                        IndexBatch& batch, const std::function<Status()>& commit);
  Status AddMissing(const RollbackItem& item, const Source& source, Tree& made,
                    std::vector<Namespace::NewEntry>& entries, IndexBatch& batch);
  Result<Source> CutForCopy(InodeId inode, GroupCut& cut, std::chrono::milliseconds deadline);
  Result<bool> StillShows(InodeId source, BranchId branch, Epoch epoch);
  Result<bool> CanMoveEnd(const Source& source, const DiskVolume::Replacement& target,
                          uint64_t offset);
  Result<uint64_t> CloneToEnd(const Source& source, InodeId source_inode, InodeId target_inode,
                              const Range& range, std::chrono::milliseconds deadline,
                              const Caller& caller);
  struct Freed {
    uint64_t bytes = 0;
    bool all = false;  // nobody else needs the branch
    BranchId parent;
    Epoch parent_epoch;
  };
  // What of the branch would come back without one view of epoch `seen`, or without its head.
  Result<Freed> FreedWithout(BranchId branch, std::optional<Epoch> seen);
  // What a file shows: a snapshot for ever, a volume as it goes on to be written. Clean-up leaves
  // it alone while this lives, so that its leaves can be read from the index one after the other.
  struct HeldView {
    InodeRecord record;
    Lineage lineage;
    ViewPin pin;
  };
  // kNotFound, kIsDirectory.
  Result<HeldView> HoldView(InodeId inode);

  const Parts parts_;
  // Names of snapshots are given and taken one at a time; held across the commit.
  Mutex names_mu_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_SNAPSHOT_OPS_H_
