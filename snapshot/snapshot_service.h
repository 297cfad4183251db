// SnapshotService: snapshots of groups of volumes, clones, rollback, differences.
//
// The one door for who asks from outside (ioctl, attributes, the command line's requests): it finds
// the members, checks names and the caller's rights, and only then lets src/volume hold any I/O.
// Thread-safe. Borrows the Filesystem, whose calls it makes; never call it from within one of those
// or while holding a handle's lock: Create and Rollback wait for the volumes' running I/O.
//
// A snapshot is a directory of `.snapshots`, with its members at the paths they had below the
// mount's root; its id is that directory's inode number. Looking around there needs nothing of
// this class: Filesystem::Lookup and its kin do. Create, Delete and Rollback change names there
// that nobody is told of: they are not to be cached.
//
// A request that is sent again to another server after it was carried out (Caller::resent) gets the
// answer that it would have got, whatever others have done since. A caller who checks something of
// its own first asks with FindCreated or FindCloned before that; for a request that is
// not known all give none, and cost nothing for a new one.
//
// Errors of all calls: kReadOnly (the mount is), kNoSpace, kIo, kCorrupt. The Status says in one
// sentence what to do.
#ifndef CAIRN_SNAPSHOT_SNAPSHOT_SERVICE_H_
#define CAIRN_SNAPSHOT_SNAPSHOT_SERVICE_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/volume/filesystem.h"
#include "src/volume/snapshot_types.h"

namespace cairn {

struct SnapshotRequest {
  // Directories (all volumes below) and volumes. A volume that is named twice is one member.
  std::vector<InodeId> roots;
  // 1 to 255 bytes without '/', not "." nor "..".
  std::string name;
  // fnmatch(3) patterns: a member is left out when one fits its path below the root that it was
  // found under, or its file name.
  std::vector<std::string> exclude_globs;
  // Values of user.cairn.role, own or inherited.
  std::vector<std::string> exclude_roles;
  std::map<std::string, std::string> tags;
  std::string description;
  // Not empty: a request with a token that made a snapshot gives that snapshot, not a second one.
  std::string token;
  // How long the members' I/O may be held back; when it passes, nothing was done.
  std::chrono::milliseconds deadline{5000};
};

struct SnapshotMember {
  std::string path;   // below the snapshot's directory, "vm1/data.img"
  InodeId inode;      // of the read-only file in .snapshots
  InodeId source;     // of the volume that it was taken of; may be gone
  uint64_t size = 0;  // bytes
};

struct SnapshotInfo {
  InodeId id;  // the directory .snapshots/NAME
  std::string name;
  int64_t created_ns = 0;  // since 1970 UTC: the instant of the cut
  std::string description;
  std::map<std::string, std::string> tags;
  uint32_t uid = 0;  // who asked for it
  uint32_t gid = 0;
  uint64_t member_count = 0;
  // Only from Create, Show and Rollback, as long as the snapshot is there; by path.
  std::vector<SnapshotMember> members;
};

struct CreateResult {
  SnapshotInfo info;
  bool existed = false;  // the token's snapshot, made by an earlier request
  // How long the members' I/O was held back; 0 when it existed.
  std::chrono::nanoseconds held{0};
};

struct RollbackResult {
  // What was overwritten: NAME.before-TIME.
  SnapshotInfo before;
  // Volumes whose content changed under open handles: the kernel's caches of their data and
  // attributes are to be dropped, from outside any handler. Directories in which volumes that had
  // been removed were made anew are among them. Until it is done they stay marked
  // (Filesystem::ClearStalePages).
  std::vector<InodeId> changed;
};

struct CloneRequest {
  // A volume, a snapshot's member, or a directory: a live one, a snapshot's (.snapshots/NAME) or
  // one inside a snapshot. What a directory holds is cloned at one instant.
  InodeId source;
  InodeId target_parent;
  std::string target_name;  // must not exist
  std::chrono::milliseconds deadline{5000};
};

struct CloneResult {
  InodeId inode;   // of the new volume or directory
  InodeId parent;  // the directory that it was made in
  uint64_t volume_count = 0;
};

class SnapshotService {
 public:
  explicit SnapshotService(Filesystem& filesystem);
  ~SnapshotService();

  // kNotFound (a root), kInvalid (a bad name, pattern or tag; the filters leave nothing), kExists
  // (the name is taken), kAccess (the caller may not write a root or a member, or not come there),
  // kNameTooLong (something has a path of more than 4096 bytes), kBusy (a request
  // for the same name runs), kDeadline (I/O that did not end; goes on unharmed), kReadOnly (a
  // member takes no writes until the next mount). In all these cases nothing was made.
  Result<CreateResult> Create(const SnapshotRequest& request, const Caller& caller);
  Result<std::optional<CreateResult>> FindCreated(const SnapshotRequest& request,
                                                  const Caller& caller);

  // All of them, oldest first, without members.
  Result<std::vector<SnapshotInfo>> List();
  // kNotFound. `id` is the inode of .snapshots/NAME.
  Result<SnapshotInfo> Show(InodeId id);
  // kNotFound.
  Result<InodeId> Find(std::string_view name);
  // The snapshot that `inode`, anything below .snapshots/NAME or that itself, belongs to.
  // kNotFound when it belongs to none.
  Result<InodeId> SnapshotOf(InodeId inode);

  // The caller made the snapshot or is root, else kPermission. kNotFound; kBusy: a member is open.
  // Space comes back in the background.
  Status Delete(InodeId id, const Caller& caller);

  // Brings volumes back to what they were: `what` is a snapshot, a directory in one, or one member.
  // All of them or none. kAccess: the caller may not read what comes back, or not write a volume,
  // or a directory where one that was removed has to be made anew; kExists: something else has its
  // place by now; kDeadline.
  Result<RollbackResult> Rollback(InodeId what, const Caller& caller,
                                  std::chrono::milliseconds deadline);

  // kExists, kNotFound, kAccess (the caller may not read a source or write target_parent), kInvalid
  // (no volume in it), kDeadline. Owner of what is made: the caller, or for root the source's.
  Result<CloneResult> Clone(const CloneRequest& request, const Caller& caller);
  Result<std::optional<CloneResult>> FindCloned(const Caller& caller);

  // Which bytes of `to` are not those of `from`, from byte `offset` on, at most `most` ranges
  // (>= 1). Both are volumes or members that descend from one volume, else kInvalid. Reads no
  // data: a range may hold what it held before. kAccess: may not read one of them.
  Result<DiffPage> Diff(InodeId from, InodeId to, uint64_t offset, size_t most,
                        const Caller& caller);

  // Of a volume or member. Reads its part of the index whole: seconds for a TiB.
  Result<VolumeSizes> Sizes(InodeId inode);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn

#endif  // CAIRN_SNAPSHOT_SNAPSHOT_SERVICE_H_
