#include "src/warm/index_journal.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "src/base/check.h"
#include "src/base/crc32c.h"

namespace cairn {
namespace {

constexpr uint64_t kMagic = 0x324c4e4a4e524943;  // "CIRNJNL2"
constexpr size_t kHeaderSize = 4096;
// At each half's end, for kForget alone: it is needed most when there is no room.
constexpr size_t kForgetSlots = 64;
// So many slots behind the last one are looked at: none may hold an entry.
constexpr size_t kLookBehind = 64;

}  // namespace

// At the region's start. A half is live when its generation is not 0; the one with the larger
// generation is the active one.
struct IndexJournal::Header {
  uint64_t magic;
  uint8_t store_uuid[16];
  // Generation << 32 | how many entries are whole, changed in one store; 0: the half is empty.
  uint64_t half[2];
};

// `state` is written last, in one store: 0 or another generation's is "no entry here".
struct IndexJournal::Slot {
  uint64_t fields[4];
  uint64_t state;  // crc32c of fields, kind and generation | kind << 32 | generation << 48
};

IndexJournal::IndexJournal(std::span<std::byte> region, size_t slots_per_half)
    : region_(region), slots_per_half_(slots_per_half) {}

IndexJournal::Header& IndexJournal::header() { return *reinterpret_cast<Header*>(region_.data()); }

uint64_t IndexJournal::Generation(uint64_t half) { return header().half[half] >> 32; }

uint64_t IndexJournal::Used(uint64_t half) { return header().half[half] & 0xffffffff; }

void IndexJournal::SetHalf(uint64_t half, uint64_t generation, uint64_t used) {
  std::atomic_ref<uint64_t>(header().half[half])
      .store(generation << 32 | used, std::memory_order_release);
}

IndexJournal::Slot& IndexJournal::SlotAt(uint64_t half, size_t number) {
  auto* slots = reinterpret_cast<Slot*>(region_.data() + kHeaderSize);
  return slots[half * slots_per_half_ + number];
}

uint64_t IndexJournal::StateOf(const Slot& slot, uint64_t generation) {
  const uint64_t kind = slot.state >> 32 & 0xffff;
  const uint64_t tail[2] = {kind, generation};
  uint32_t crc = Crc32c(std::as_bytes(std::span(slot.fields)));
  crc = Crc32c(std::as_bytes(std::span(tail)), crc);
  return crc | kind << 32 | (generation & 0xffff) << 48;
}

Result<std::unique_ptr<IndexJournal>> IndexJournal::Open(std::span<std::byte> region,
                                                         std::span<const uint8_t, 16> store_uuid) {
  CAIRN_CHECK(region.size() >= kSmallestRegion);
  CAIRN_CHECK(reinterpret_cast<uintptr_t>(region.data()) % alignof(Slot) == 0);
  const size_t slots = (region.size() - kHeaderSize) / sizeof(Slot) / 2;
  std::unique_ptr<IndexJournal> journal(new IndexJournal(region, slots));
  Header& header = journal->header();
  if (header.magic == 0) {
    std::memcpy(header.store_uuid, store_uuid.data(), store_uuid.size());
    header.half[0] = uint64_t{1} << 32;
    header.half[1] = 0;
    header.magic = kMagic;
    return journal;
  }
  if (header.magic != kMagic) {
    return Status(Code::kCorrupt, "index journal: the memory does not hold a journal");
  }
  if (std::memcmp(header.store_uuid, store_uuid.data(), store_uuid.size()) != 0) {
    return Status(Code::kCorrupt, "index journal: it belongs to another store");
  }
  return journal;
}

bool IndexJournal::Holds(const Slot& slot, uint64_t generation) {
  return slot.state != 0 && slot.state == StateOf(slot, generation);
}

Status IndexJournal::Replay(const std::function<void(const JournalEntry&)>& sink) {
  const uint64_t older = Generation(0) <= Generation(1) ? 0 : 1;
  for (const uint64_t half : {older, 1 - older}) {
    if (header().half[half] == 0) continue;
    CAIRN_RETURN_IF_ERROR(ReplayHalf(half, Generation(half), sink));
  }
  return Status::Ok();
}

Status IndexJournal::ReplayHalf(uint64_t half, uint64_t generation,
                                const std::function<void(const JournalEntry&)>& sink) {
  const uint64_t used = Used(half);
  if (generation == 0 || used > slots_per_half_) {
    return Status(Code::kCorrupt, "index journal: a half counts what it cannot hold");
  }
  // One more may be whole without having been counted, or acknowledged.
  const size_t end = std::min<size_t>(used + 1, slots_per_half_);
  for (size_t number = 0; number < end; ++number) {
    const Slot& slot = SlotAt(half, number);
    if (!Holds(slot, generation)) {
      if (number == used) break;
      return Status(Code::kCorrupt, "index journal: an entry's checksum does not match");
    }
    JournalEntry entry;
    entry.kind = static_cast<JournalKind>(slot.state >> 32 & 0xffff);
    std::memcpy(entry.fields, slot.fields, sizeof(slot.fields));
    if (entry.kind != JournalKind::kBlocks && entry.kind != JournalKind::kSize &&
        entry.kind != JournalKind::kForget) {
      return Status(Code::kCorrupt, "index journal: an entry of an unknown kind");
    }
    sink(entry);
  }
  for (size_t number = end; number < std::min(end + kLookBehind, slots_per_half_); ++number) {
    if (!Holds(SlotAt(half, number), generation)) continue;
    return Status(Code::kCorrupt, "index journal: an entry behind the last one");
  }
  return Status::Ok();
}

void IndexJournal::Clear() {
  MutexLock lock(mu_);
  // A killed process may leave this at any point, and older entries must never be found without
  // the newer ones: the older half dies first, then the newer one's entries become those of an
  // earlier generation. Nothing is wiped: pages that were never touched stay so.
  const uint64_t older = Generation(0) <= Generation(1) ? 0 : 1;
  SetHalf(older, 0, 0);
  SetHalf(1 - older, Generation(1 - older) + 2, 0);
  active_ = 1 - older;
  used_ = 0;
  sealed_ = false;
}

bool IndexJournal::Append(const JournalEntry& entry) {
  MutexLock lock(mu_);
  const size_t limit =
      entry.kind == JournalKind::kForget ? slots_per_half_ : slots_per_half_ - kForgetSlots;
  if (used_ >= limit) return false;
  Slot& slot = SlotAt(active_, used_);
  // Whoever replays must never see the new state with the old fields. The process can only be
  // killed between instructions, so the compiler is the one to be held to the order.
  slot.state = 0;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(slot.fields, entry.fields, sizeof(slot.fields));
  Slot named{};
  std::memcpy(named.fields, entry.fields, sizeof(named.fields));
  named.state = static_cast<uint64_t>(entry.kind) << 32;
  const uint64_t generation = Generation(active_);
  const uint64_t state = StateOf(named, generation);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::atomic_ref<uint64_t>(slot.state).store(state, std::memory_order_release);
  SetHalf(active_, generation, ++used_);
  return true;
}

int IndexJournal::FillPercent() {
  MutexLock lock(mu_);
  const size_t slots = slots_per_half_ - kForgetSlots;
  return static_cast<int>(std::min(used_, slots) * 100 / slots);
}

bool IndexJournal::Seal() {
  MutexLock lock(mu_);
  if (sealed_) return true;
  if (used_ == 0) return false;
  const uint64_t other = 1 - active_;
  // Its slots are of older generations, hence empty.
  SetHalf(other, Generation(active_) + 1, 0);
  active_ = other;
  used_ = 0;
  sealed_ = true;
  return true;
}

bool IndexJournal::has_sealed() {
  MutexLock lock(mu_);
  return sealed_;
}

void IndexJournal::Release() {
  MutexLock lock(mu_);
  CAIRN_CHECK(sealed_);
  SetHalf(1 - active_, 0, 0);
  sealed_ = false;
}

}  // namespace cairn
