// MountTable: what each server of a mount has to know of those before it, in memory that outlives
// them: which handles programs hold, which volumes a failed sync poisoned, whose times changed
// since they were last written, and of which the kernel may keep old pages.
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

  // Stays until the end of the mount. Never forgotten: when there is no room, all count as
  // poisoned.
  void MarkPoisoned(InodeId inode);
  bool IsPoisoned(InodeId inode);
  // Whether it was marked itself; without room for marks, IsPoisoned is true of all.
  bool HasPoisonMark(InodeId inode);
  // The same of the host filesystem as a whole: a sync of what earlier servers wrote failed.
  void MarkPastLost() { MarkPoisoned(kNoInode); }
  bool IsPastLost() { return IsPoisoned(kNoInode); }

  // The volume's times in the index are older than what programs may have seen of them. Without
  // room for it the mark is this server's alone.
  void MarkTimes(InodeId inode);
  void ClearTimes(InodeId inode);
  std::vector<InodeId> InodesWithTimes();

  // The kernel may keep pages that do not show what the volume holds, until this server, or the
  // next one, has it forget them. Each mark needs a Clear of its own; those of earlier servers
  // count as one. Without room for it the mark is this server's alone.
  void MarkStalePages(InodeId inode);
  void ClearStalePages(InodeId inode) noexcept;
  std::vector<InodeId> InodesWithStalePages();

 private:
  struct Header;
  struct Slot;
  struct Handle {
    InodeId inode;
    size_t slot = 0;  // kNoSlot: known to this server alone
  };
  struct Mark {
    size_t slot = 0;  // kNoSlot: this server's alone
    size_t count = 0;
  };
  static constexpr InodeId kNoInode{0};
  explicit MountTable(std::span<std::byte> region);

  Header& header() { return *reinterpret_cast<Header*>(region_.data()); }
  Slot& SlotAt(size_t number);
  static uint64_t StateOf(uint64_t inode, uint64_t handle);
  Status ReadSlots() CAIRN_REQUIRES(mu_);
  // Fills a slot; one of the last `kept_back` ones only if that is 0. kNoSlot: there is none.
  size_t Take(InodeId inode, HandleId handle, size_t kept_back) noexcept CAIRN_REQUIRES(mu_);
  // Makes room in free_ for each slot that was ever used: emptying one cannot fail.
  bool MakeRoomFor(size_t slot) noexcept CAIRN_REQUIRES(mu_);
  void Empty(size_t slot) noexcept CAIRN_REQUIRES(mu_);

  const std::span<std::byte> region_;
  const size_t slot_count_;
  bool exact_ = true;  // constant after Open

  Mutex mu_;
  std::unordered_map<HandleId, Handle> handles_ CAIRN_GUARDED_BY(mu_);
  std::unordered_map<InodeId, uint64_t> counts_ CAIRN_GUARDED_BY(mu_);
  std::unordered_set<InodeId> poisoned_ CAIRN_GUARDED_BY(mu_);
  std::unordered_map<InodeId, size_t> times_ CAIRN_GUARDED_BY(mu_);  // their slots
  std::unordered_map<InodeId, Mark> stale_ CAIRN_GUARDED_BY(mu_);
  std::vector<size_t> free_ CAIRN_GUARDED_BY(mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_MOUNT_TABLE_H_
