#include "src/warm/mount_table.h"

#include <atomic>
#include <new>

#include "src/base/check.h"
#include "src/base/crc32c.h"

namespace cairn {
namespace {

constexpr uint64_t kMagic = 0x314c42544e524943;  // "CIRNTBL1"
constexpr size_t kHeaderSize = 4096;
constexpr size_t kNoSlot = ~size_t{0};
// In a slot's place for the handle: the volume is poisoned; its times changed; the kernel's pages
// of it may be old.
constexpr HandleId kPoisonMark{~uint64_t{0}};
constexpr HandleId kTimesMark{~uint64_t{1}};
constexpr HandleId kStaleMark{~uint64_t{2}};
// Slots that only marks of poison may take.
constexpr size_t kKeptForPoison = 64;

template <typename Marks>
std::vector<InodeId> InodesOf(const Marks& marks) {
  std::vector<InodeId> inodes;
  inodes.reserve(marks.size());
  for (const auto& [inode, mark] : marks) inodes.push_back(inode);
  return inodes;
}

}  // namespace

struct MountTable::Header {
  uint64_t magic;
  uint64_t used;          // slots behind this one were never used
  uint64_t overflowed;    // not 0: a handle found no slot
  uint64_t live;          // slots that are not empty
  uint64_t changing;      // not 0 while a slot and `live` change
  uint64_t all_poisoned;  // not 0: a mark of poison found no slot
};

// `state` is written last, in one store, and cleared first: 0 is "nothing here".
struct MountTable::Slot {
  uint64_t inode;
  uint64_t handle;
  uint64_t state;  // crc32c of the two | 1 << 32
};

MountTable::MountTable(std::span<std::byte> region)
    : region_(region), slot_count_((region.size() - kHeaderSize) / sizeof(Slot)) {}

MountTable::Slot& MountTable::SlotAt(size_t number) {
  return reinterpret_cast<Slot*>(region_.data() + kHeaderSize)[number];
}

uint64_t MountTable::StateOf(uint64_t inode, uint64_t handle) {
  const uint64_t fields[2] = {inode, handle};
  return Crc32c(std::as_bytes(std::span(fields))) | uint64_t{1} << 32;
}

Result<std::unique_ptr<MountTable>> MountTable::Open(std::span<std::byte> region) {
  CAIRN_CHECK(region.size() >= kSmallestRegion);
  CAIRN_CHECK(reinterpret_cast<uintptr_t>(region.data()) % alignof(Slot) == 0);
  std::unique_ptr<MountTable> table(new MountTable(region));
  Header& header = table->header();
  if (header.magic == 0) header.magic = kMagic;
  if (header.magic != kMagic || header.used > table->slot_count_) {
    return Status(Code::kCorrupt, "table of handles: the memory does not hold one");
  }
  table->exact_ = header.overflowed == 0;
  MutexLock lock(table->mu_);
  CAIRN_RETURN_IF_ERROR(table->ReadSlots());
  return table;
}

Status MountTable::ReadSlots() {
  uint64_t live = 0;
  free_.reserve(header().used);
  for (size_t number = 0; number < header().used; ++number) {
    const Slot& slot = SlotAt(number);
    if (slot.state == 0) {
      free_.push_back(number);
      continue;
    }
    if (slot.state != StateOf(slot.inode, slot.handle)) {
      return Status(Code::kCorrupt, "table of handles: an entry's checksum does not match");
    }
    ++live;
    const InodeId inode(slot.inode);
    const HandleId handle(slot.handle);
    if (handle == kPoisonMark) {
      poisoned_.insert(inode);
    } else if (handle == kTimesMark) {
      times_[inode] = number;
    } else if (handle == kStaleMark) {
      stale_.try_emplace(inode, Mark{number, 1});
    } else if (handles_.try_emplace(handle, Handle{inode, number}).second) {
      ++counts_[inode];
    }
  }
  // A server that was killed within a change left the slot as it was before or after, and the
  // request will come again. Any other difference is a slot that somebody wiped.
  if (live != header().live && header().changing == 0) {
    return Status(Code::kCorrupt, "table of handles: it counts other entries than it holds");
  }
  header().live = live;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  header().changing = 0;
  return Status::Ok();
}

bool MountTable::MakeRoomFor(size_t slot) noexcept {
  if (free_.capacity() > slot) return true;
  try {
    free_.reserve(2 * slot + 64);
  } catch (const std::bad_alloc&) {
    return false;
  }
  return true;
}

size_t MountTable::Take(InodeId inode, HandleId handle, size_t kept_back) noexcept {
  size_t number = kNoSlot;
  if (header().live + kept_back >= slot_count_) return kNoSlot;
  if (!free_.empty()) {
    number = free_.back();
    free_.pop_back();
  } else {
    number = header().used;
    if (!MakeRoomFor(number)) return kNoSlot;
    std::atomic_ref<uint64_t>(header().used).store(number + 1, std::memory_order_release);
  }
  std::atomic_ref<uint64_t>(header().changing).store(1, std::memory_order_release);
  // A kill leaves the slot empty or whole: the process can only be killed between instructions, so
  // the compiler is the one to be held to the order.
  Slot& slot = SlotAt(number);
  slot.inode = inode.value();
  slot.handle = handle.value();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::atomic_ref<uint64_t>(slot.state)
      .store(StateOf(inode.value(), handle.value()), std::memory_order_release);
  std::atomic_ref<uint64_t>(header().live).store(header().live + 1, std::memory_order_release);
  std::atomic_ref<uint64_t>(header().changing).store(0, std::memory_order_release);
  return number;
}

void MountTable::Empty(size_t slot) noexcept {
  std::atomic_ref<uint64_t>(header().changing).store(1, std::memory_order_release);
  std::atomic_ref<uint64_t>(SlotAt(slot).state).store(0, std::memory_order_release);
  std::atomic_ref<uint64_t>(header().live).store(header().live - 1, std::memory_order_release);
  std::atomic_ref<uint64_t>(header().changing).store(0, std::memory_order_release);
  free_.push_back(slot);
}

void MountTable::AddHandle(InodeId inode, HandleId handle) {
  MutexLock lock(mu_);
  const auto [entry, added] = handles_.try_emplace(handle, Handle{inode, kNoSlot});
  if (!added) return;
  entry->second.slot = Take(inode, handle, kKeptForPoison);
  if (entry->second.slot == kNoSlot) {
    std::atomic_ref<uint64_t>(header().overflowed).store(1, std::memory_order_release);
  }
  ++counts_[inode];
}

void MountTable::RemoveHandle(HandleId handle) {
  MutexLock lock(mu_);
  const auto found = handles_.find(handle);
  if (found == handles_.end()) return;
  const auto [inode, slot] = found->second;
  handles_.erase(found);
  if (slot != kNoSlot) Empty(slot);
  const auto count = counts_.find(inode);
  if (--count->second == 0) counts_.erase(count);
}

uint64_t MountTable::HandleCount(InodeId inode) {
  MutexLock lock(mu_);
  const auto found = counts_.find(inode);
  return found == counts_.end() ? 0 : found->second;
}

void MountTable::MarkPoisoned(InodeId inode) {
  MutexLock lock(mu_);
  if (!poisoned_.insert(inode).second || Take(inode, kPoisonMark, 0) != kNoSlot) return;
  std::atomic_ref<uint64_t>(header().all_poisoned).store(1, std::memory_order_release);
}

bool MountTable::IsPoisoned(InodeId inode) {
  MutexLock lock(mu_);
  return header().all_poisoned != 0 || poisoned_.contains(inode);
}

bool MountTable::HasPoisonMark(InodeId inode) {
  MutexLock lock(mu_);
  return poisoned_.contains(inode);
}

void MountTable::MarkTimes(InodeId inode) {
  MutexLock lock(mu_);
  const auto [entry, added] = times_.try_emplace(inode, kNoSlot);
  if (added) entry->second = Take(inode, kTimesMark, kKeptForPoison);
}

void MountTable::ClearTimes(InodeId inode) {
  MutexLock lock(mu_);
  const auto found = times_.find(inode);
  if (found == times_.end()) return;
  if (found->second != kNoSlot) Empty(found->second);
  times_.erase(found);
}

std::vector<InodeId> MountTable::InodesWithTimes() {
  MutexLock lock(mu_);
  return InodesOf(times_);
}

void MountTable::MarkStalePages(InodeId inode) {
  MutexLock lock(mu_);
  const auto [entry, added] = stale_.try_emplace(inode, Mark{kNoSlot, 0});
  if (added) entry->second.slot = Take(inode, kStaleMark, kKeptForPoison);
  ++entry->second.count;
}

void MountTable::ClearStalePages(InodeId inode) noexcept {
  MutexLock lock(mu_);
  const auto found = stale_.find(inode);
  if (found == stale_.end() || --found->second.count > 0) return;
  if (found->second.slot != kNoSlot) Empty(found->second.slot);
  stale_.erase(found);
}

std::vector<InodeId> MountTable::InodesWithStalePages() {
  MutexLock lock(mu_);
  return InodesOf(stale_);
}

}  // namespace cairn
