// Namespace: names, attributes and extended attributes of files and directories.
//
// Each change is one batch of the index, hence atomic and durable when the call returns. The locks
// of the inodes concerned are held across that commit; the kernel holds the same directories'
// locks for as long, so nobody waits longer for it.
#ifndef CAIRN_SRC_VOLUME_NAMESPACE_H_
#define CAIRN_SRC_VOLUME_NAMESPACE_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/volume/attributes.h"
#include "src/volume/filesystem.h"
#include "src/volume/lock_table.h"
#include "src/volume/volume_context.h"
#include "src/volume/volume_table.h"

namespace cairn {

// Thread-safe. The methods are those of Filesystem; see there for their errors.
class Namespace {
 public:
  // Called with a volume that has neither name nor handle left and was claimed for destruction.
  using Destroyer = std::function<void(InodeId)>;

  Namespace(VolumeContext& context, VolumeTable& table, Destroyer destroy)
      : context_(context), table_(table), destroy_(std::move(destroy)) {}

  Result<Attributes> Lookup(InodeId parent, std::string_view name);
  Result<Attributes> Make(FileKind kind, InodeId parent, std::string_view name, uint32_t mode,
                          const Caller& caller);
  Status Unlink(InodeId parent, std::string_view name, const Caller& caller);
  Status RemoveDirectory(InodeId parent, std::string_view name, const Caller& caller);
  Status Rename(InodeId parent, std::string_view name, InodeId new_parent,
                std::string_view new_name, RenameMode mode, const Caller& caller);
  Status ReadDirectory(InodeId directory, uint64_t cookie,
                       const std::function<bool(const DirectoryEntry&)>& sink);
  Result<InodeId> Parent(InodeId inode);

  // A directory entry that is to be made together with something else.
  struct NewEntry {
    InodeId parent;
    std::string name;
    InodeId child;
  };
  // Adds the entries to `batch`, whose other changes bring in the children, and runs `commit` while
  // the parents are locked. kExists, kNotDirectory, kReadOnly as for Make.
  Status CommitEntries(const std::vector<NewEntry>& entries, IndexBatch& batch,
                       const std::function<Status()>& commit);
  // The record as it is now, loaded or not; that of `.snapshots` although there may be none.
  Result<InodeRecord> Record(InodeId inode);
  // kReadOnly for `.snapshots` and what lies below it.
  Status CheckChangeable(InodeId inode);

  Result<Attributes> GetAttributes(InodeId inode);
  // The same but for allocated_bytes, which is 0.
  Result<Attributes> GetPlainAttributes(InodeId inode);
  Result<Attributes> SetAttributes(InodeId inode, const AttributeChange& change);

  // `name` was classified by the caller and is stored as it is.
  Status SetXattr(InodeId inode, std::string_view name, std::string_view value, XattrMode mode,
                  const Caller& caller);
  Result<std::string> GetOwnXattr(InodeId inode, std::string_view name);
  // From the nearest directory above when the file itself has none.
  Result<std::string> GetInheritedXattr(InodeId inode, std::string_view name);
  Result<std::vector<std::string>> ListXattr(InodeId inode);
  Status RemoveXattr(InodeId inode, std::string_view name, const Caller& caller);

 private:
  using Change = std::function<void(InodeRecord&)>;
  struct Move;  // a rename's particulars

  Index& index() { return context_.store->index(); }
  Status CheckWritable(bool takes_space);
  Result<InodeRecord> DirectoryRecord(InodeId inode);
  Result<std::optional<InodeId>> FindChild(InodeId parent, std::string_view name);
  Result<bool> IsEmpty(InodeId directory);
  Result<bool> IsAncestor(InodeId ancestor, InodeId inode);
  // Puts the directory's record with new times into the batch.
  void TouchDirectory(InodeId inode, InodeRecord record, IndexBatch& batch);
  // Commits `batch` with a changed record of `inode`, whatever its kind.
  Status CommitInode(InodeId inode, const InodeRecord& record, const Change& change,
                     IndexBatch& batch);
  Status CommitInodeBy(InodeId inode, const InodeRecord& record, const Change& change,
                       IndexBatch& batch, const std::function<Status()>& commit);
  Attributes ToAttributes(InodeId inode, const InodeRecord& record);
  Result<Attributes> ReadAttributes(InodeId inode, bool with_space);
  Result<uint64_t> AllocatedBytes(const InodeRecord& record);

  // What Make answered to a request that is sent again.
  Result<Attributes> AnswerOfMake(std::string_view answer);

  Status CheckMove(const Move& move);
  Status CommitMove(Move& move, const Caller& caller);
  Status DeleteReplaced(Move& move, IndexBatch& batch);

  VolumeContext& context_;
  VolumeTable& table_;
  const Destroyer destroy_;
  LockTable locks_;
  // Two directories that move at once could otherwise each end up below the other. Before locks_.
  Mutex directory_move_mu_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_NAMESPACE_H_
