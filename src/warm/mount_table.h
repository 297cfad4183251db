// MountTable: what each server of a mount has to know of those before it, in memory that outlives
// them: which handles programs hold, and which volumes a failed sync poisoned.
//
// A handle is the request that opened it, so that an open or a release that is sent again changes
// nothing more. Like the index journal the memory belongs to the supervisor and ends with the
// mount. Layout: FORMAT.md. Thread-safe.
#ifndef CAIRN_SRC_WARM_MOUNT_TABLE_H_
#define CAIRN_SRC_WARM_MOUNT_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/base/strong_id.h"

namespace cairn {

class MountTable {
 public:
  static constexpr size_t kSmallestRegion = 8u << 10;

  // Takes over `region` (8-byte aligned, at least kSmallestRegion bytes, borrowed). A region of
  // zeros is a new table. kCorrupt: the region holds what no writer of ours leaves behind.
  static Result<std::unique_ptr<MountTable>> Open(std::span<std::byte> region);

  // Adding or removing what was added or removed before changes nothing.
  void AddHandle(InodeId inode, HandleId handle);
  void RemoveHandle(HandleId handle);
  uint64_t HandleCount(InodeId inode);
  // False when an earlier server had no room for all handles: a count may then be too small.
  bool counts_are_exact() const { return exact_; }

  // Stays until the end of the mount.
  void MarkPoisoned(InodeId inode);
  bool IsPoisoned(InodeId inode);

 private:
  struct Header;
  struct Slot;
  struct Handle {
    InodeId inode;
    size_t slot = 0;  // kNoSlot: known to this server alone
  };
  explicit MountTable(std::span<std::byte> region);

  Header& header() { return *reinterpret_cast<Header*>(region_.data()); }
  Slot& SlotAt(size_t number);
  static uint64_t StateOf(uint64_t inode, uint64_t handle);
  Status ReadSlots() CAIRN_REQUIRES(mu_);
  size_t Take(InodeId inode, HandleId handle) CAIRN_REQUIRES(mu_);

  const std::span<std::byte> region_;
  const size_t slot_count_;
  bool exact_ = true;  // constant after Open

  Mutex mu_;
  std::unordered_map<HandleId, Handle> handles_ CAIRN_GUARDED_BY(mu_);
  std::unordered_map<InodeId, uint64_t> counts_ CAIRN_GUARDED_BY(mu_);
  std::unordered_set<InodeId> poisoned_ CAIRN_GUARDED_BY(mu_);
  std::vector<size_t> free_ CAIRN_GUARDED_BY(mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_MOUNT_TABLE_H_
