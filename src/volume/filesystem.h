// Filesystem: the whole volume layer behind one face. Names and attributes, extended attributes,
// volumes and their I/O, on a WarmStore. The FUSE edge translates requests into these calls.
//
// Thread-safe throughout; requests may come in any order from any thread. What a method that
// changes names or attributes did is durable and atomic when it returns OK. It never calls back
// into its caller.
#ifndef CAIRN_SRC_VOLUME_FILESYSTEM_H_
#define CAIRN_SRC_VOLUME_FILESYSTEM_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/clock.h"
#include "src/base/executor.h"
#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/volume/attributes.h"
#include "src/volume/volume.h"
#include "src/warm/warm_store.h"

namespace cairn {

class SnapshotOps;

enum class RenameMode { kReplace, kNoReplace, kExchange };
enum class XattrMode { kEither, kCreate, kReplace };

struct FilesystemOptions {
  // Bound of the resolved chunk maps of all volumes together, bytes.
  uint64_t chunk_map_bytes = 64ull << 20;
  // How many volumes without open handles stay loaded.
  size_t idle_volumes = 1024;
  // Index changes that no fsync made durable go to LevelDB after at most about this time.
  std::chrono::milliseconds flush_interval{5000};
  // Blocks that had no write for this long get checksums; 0: none do, and those that have one lose
  // it when they are written.
  std::chrono::milliseconds seal_after{60'000};
  // How long Close may take for what has none yet.
  std::chrono::milliseconds seal_at_close{10'000};
  // Bound of the checksums in memory of all volumes together, bytes.
  uint64_t seal_bytes = 16ull << 20;
  // Between two pieces of work when space of deleted snapshots is given back, and how often to look
  // for more that volumes leave behind.
  std::chrono::milliseconds clean_pause{2};
  std::chrono::milliseconds clean_again{300'000};
  bool read_only = false;
};

class Filesystem {
 public:
  // Borrows all but `store` for its whole life. The journal's entries of an earlier server, if
  // any, are replayed; orphans that no program holds open are reclaimed in the background. A
  // server that `takes_over` finds in both regions what those before it left: the journal, which
  // requests were carried out, and which handles programs hold.
  struct Parts {
    std::unique_ptr<WarmStore> store = nullptr;
    Executor* executor = nullptr;
    const Clock* clock = &Clock::System();
    // Memory for the index journal (src/warm/index_journal.h); empty: the filesystem takes some of
    // its own, and then acknowledged changes do not survive the process.
    std::span<std::byte> journal_region = {};
    // The same for handles (src/warm/mount_table.h).
    std::span<std::byte> table_region = {};
    bool takes_over = false;
    // Shown with the mount's status.
    std::map<std::string, uint64_t> facts = {};
  };
  static Result<std::unique_ptr<Filesystem>> Open(Parts parts, const FilesystemOptions& options);
  // Without Close: like a killed process, nothing is flushed.
  ~Filesystem();

  // Makes everything durable and closes the store. REQUIRES: no other call runs or follows.
  // An error says what may not be durable. `mount_goes_on`: another server takes over.
  Status Close(bool mount_goes_on = false);

  // --- Names. kNotFound, kNotDirectory, kExists, kNotEmpty, kNameTooLong (> 255 bytes), kNoSpace,
  // --- kReadOnly, kPermission (".snapshots" in the root is reserved).
  Result<Attributes> Lookup(InodeId parent, std::string_view name);
  Result<Attributes> Create(InodeId parent, std::string_view name, uint32_t mode,
                            const Caller& caller);
  Result<Attributes> MakeDirectory(InodeId parent, std::string_view name, uint32_t mode,
                                   const Caller& caller);
  // A volume that is open lives on without a name until its last Release.
  Status Unlink(InodeId parent, std::string_view name, const Caller& caller);
  Status RemoveDirectory(InodeId parent, std::string_view name, const Caller& caller);
  Status Rename(InodeId parent, std::string_view name, InodeId new_parent,
                std::string_view new_name, RenameMode mode, const Caller& caller);
  // Entries behind `cookie` (0: from the start) in a stable order, until `sink` returns false.
  // "." and ".." are not among them.
  Status ReadDirectory(InodeId directory, uint64_t cookie,
                       const std::function<bool(const DirectoryEntry&)>& sink);
  // The directory that holds `inode`; the root's is the root.
  Result<InodeId> Parent(InodeId inode);

  // The request was answered, and will not be sent again.
  void SettleRequest(RequestId request);

  // --- Attributes.
  Result<Attributes> GetAttributes(InodeId inode);
  // The same but for allocated_bytes, for which each of a file's extent files has to be looked at.
  Result<Attributes> GetPlainAttributes(InodeId inode);
  // A size change is a truncation. kIsDirectory for the size of a directory, kTooLarge.
  Result<Attributes> SetAttributes(InodeId inode, const AttributeChange& change,
                                   const Caller& caller);

  // --- Extended attributes: "user.*" only. Names under "user.cairn." follow the policy table
  // --- (src/volume/policy.h). kNoAttribute, kRange, kInvalid, kUnsupported, kNoSpace.
  Status SetXattr(InodeId inode, std::string_view name, std::string_view value, XattrMode mode,
                  const Caller& caller);
  Result<std::string> GetXattr(InodeId inode, std::string_view name);
  Result<std::vector<std::string>> ListXattr(InodeId inode);
  Status RemoveXattr(InodeId inode, std::string_view name, const Caller& caller);

  // --- Volumes.
  // Volumes must not be held any more when the Filesystem is closed or destroyed.
  // Counts a handle; kIsDirectory, kNotFound. With `truncate`, also sets the size to 0.
  Result<std::shared_ptr<Volume>> OpenVolume(InodeId inode, HandleId handle, bool truncate);
  // The volume for I/O, whether or not this server saw it opened.
  Result<std::shared_ptr<Volume>> FindVolume(InodeId inode);
  // Uncounts a handle. The last one of an unlinked volume frees its space in the background.
  void ReleaseVolume(InodeId inode, HandleId handle);
  // Copies like copy_file_range(2): how many bytes, short at the source's end; kInvalid when the
  // ranges overlap within one volume.
  struct Copied {
    uint64_t bytes = 0;
    bool failed = false;  // behind them: the target may have changed there, too
  };
  Result<Copied> CopyRange(InodeId source, uint64_t source_offset, InodeId target,
                           uint64_t target_offset, uint64_t length, const Caller& caller);
  // What a rollback, a hole or a truncation changes, the kernel learns from its answer; it keeps
  // old pages when that never comes. Whoever changes content marks it before, and takes the mark
  // back when the kernel knows; a server that takes over has the kernel forget all that is marked.
  // SnapshotOps::Rollback marks what it changes; its caller clears that.
  void MarkStalePages(InodeId inode);
  void ClearStalePages(InodeId inode) noexcept;
  std::vector<InodeId> InodesWithStalePages();
  // Makes everything that was acknowledged durable, on all volumes.
  Status SyncAll();
  // Gives checksums to all written blocks of loaded volumes that have none yet, as far as that can
  // be done within `bound` while writes go on.
  void SealAll(std::chrono::milliseconds bound);

  // Snapshots, clones and rollback, for the module `snapshot`; names and rights are its business.
  SnapshotOps& snapshots();

  Result<SpaceInfo> Space();

  // JSON about a volume, a directory (sums over what lies below it) or, for the root, the mount.
  Result<std::string> StatusJson(InodeId inode);
  // Remembers why a request on `inode` was refused; "user.cairn.error" shows it.
  void NoteError(InodeId inode, const Status& status);

 private:
  Filesystem();
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_FILESYSTEM_H_
