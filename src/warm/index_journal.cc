#include "src/warm/index_journal.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "src/base/check.h"
#include "src/base/crc32c.h"

namespace cairn {
namespace {

constexpr uint64_t kMagic = 0x314c4e4a4e524943;  // "CIRNJNL1"
constexpr size_t kHeaderSize = 4096;
// At each half's end, for kForget alone: it is needed most when there is no room.
constexpr size_t kForgetSlots = 64;

}  // namespace

// At the region's start. A half is live when its generation is not 0; the one with the larger
// generation is the active one.
struct IndexJournal::Header {
  uint64_t magic;
  uint8_t store_uuid[16];
  uint64_t generation[2];
};

// `state` is written last, in one store: 0 or another generation's is "no entry here".
struct IndexJournal::Slot {
  uint64_t fields[4];
  uint64_t state;  // crc32c of fields, kind and generation | kind << 32 | generation << 48
};

IndexJournal::IndexJournal(std::span<std::byte> region, size_t slots_per_half)
    : region_(region), slots_per_half_(slots_per_half) {}

IndexJournal::Header& IndexJournal::header() { return *reinterpret_cast<Header*>(region_.data()); }

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
    header.generation[0] = 1;
    header.generation[1] = 0;
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

Result<bool> IndexJournal::Holds(const Slot& slot, uint64_t generation) {
  if (slot.state == 0 || slot.state >> 48 != (generation & 0xffff)) {
    return false;  // never used, being written, or of an earlier use of this half
  }
  if (slot.state == StateOf(slot, generation)) return true;
  return Status(Code::kCorrupt, "index journal: an entry's checksum does not match");
}

Status IndexJournal::Replay(const std::function<void(const JournalEntry&)>& sink) {
  const uint64_t generations[2] = {header().generation[0], header().generation[1]};
  const uint64_t older = generations[0] <= generations[1] ? 0 : 1;
  for (const uint64_t half : {older, 1 - older}) {
    if (generations[half] == 0) continue;
    bool ended = false;
    for (size_t number = 0; number < slots_per_half_; ++number) {
      const Slot& slot = SlotAt(half, number);
      CAIRN_ASSIGN_OR_RETURN(const bool holds, Holds(slot, generations[half]));
      if (!holds) {
        ended = true;
        continue;
      }
      // Slots fill one after the other, and only the last can have been left unfinished.
      if (ended) return Status(Code::kCorrupt, "index journal: an entry behind the last one");
      JournalEntry entry;
      entry.kind = static_cast<JournalKind>(slot.state >> 32 & 0xffff);
      std::memcpy(entry.fields, slot.fields, sizeof(slot.fields));
      if (entry.kind != JournalKind::kBlocks && entry.kind != JournalKind::kSize &&
          entry.kind != JournalKind::kForget) {
        return Status(Code::kCorrupt, "index journal: an entry of an unknown kind");
      }
      sink(entry);
    }
  }
  return Status::Ok();
}

void IndexJournal::Clear() {
  MutexLock lock(mu_);
  Header& head = header();
  // A killed process may leave this at any point, and older entries must never be found without
  // the newer ones: the older half dies first, then the newer one's entries become those of an
  // earlier generation, and only then is anything wiped.
  const uint64_t older = head.generation[0] <= head.generation[1] ? 0 : 1;
  const uint64_t next = head.generation[1 - older] + 2;
  std::atomic_ref<uint64_t>(head.generation[older]).store(0, std::memory_order_seq_cst);
  std::atomic_ref<uint64_t>(head.generation[1 - older]).store(next, std::memory_order_seq_cst);
  std::memset(region_.data() + kHeaderSize, 0, region_.size() - kHeaderSize);
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
  const uint64_t state = StateOf(named, header().generation[active_]);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::atomic_ref<uint64_t>(slot.state).store(state, std::memory_order_release);
  ++used_;
  return true;
}

int IndexJournal::FillPercent() {
  MutexLock lock(mu_);
  const size_t slots = slots_per_half_ - kForgetSlots;
  return static_cast<int>(std::min(used_, slots) * 100 / slots);
}

bool IndexJournal::Seal() {
  MutexLock lock(mu_);
  if (sealed_ || used_ == 0) return false;
  Header& head = header();
  const uint64_t other = 1 - active_;
  const uint64_t generation = head.generation[active_] + 1;
  // A slot tells its generation by 16 bits. Wiping each half once in 2^15 generations keeps any two
  // that meet in a half from being mistaken for each other.
  if ((generation & 0x7fff) < 2) {
    std::memset(static_cast<void*>(&SlotAt(other, 0)), 0, slots_per_half_ * sizeof(Slot));
  }
  // A generation that is not 0 makes the half live; its slots are of older ones, hence empty.
  std::atomic_ref<uint64_t>(head.generation[other]).store(generation, std::memory_order_release);
  active_ = other;
  used_ = 0;
  sealed_ = true;
  return true;
}

void IndexJournal::Release() {
  MutexLock lock(mu_);
  CAIRN_CHECK(sealed_);
  std::atomic_ref<uint64_t>(header().generation[1 - active_]).store(0, std::memory_order_release);
  sealed_ = false;
}

}  // namespace cairn
