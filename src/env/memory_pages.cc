#include "src/env/memory_pages.h"

#include <algorithm>
#include <cstring>

#include "src/base/check.h"

namespace cairn {

std::shared_ptr<MemoryPages::Page> MemoryPages::Find(const State& state, uint64_t index) {
  const auto it = state.pages.find(index);
  return it == state.pages.end() ? nullptr : it->second;
}

MemoryPages::Page& MemoryPages::Mutable(State& state, uint64_t index) {
  std::shared_ptr<Page>& page = state.pages[index];
  if (page == nullptr) {
    page = std::make_shared<Page>();
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

void MemoryPages::MarkDirty(uint64_t index) {
  dirty_.insert(index);
  lost_.erase(index);
}

size_t MemoryPages::ReadState(const State& state, uint64_t offset, std::span<std::byte> out) {
  if (offset >= state.size) return 0;
  const size_t count = std::min<uint64_t>(out.size(), state.size - offset);
  std::fill_n(out.begin(), count, std::byte{0});
  const uint64_t end = offset + count;
  for (auto it = state.pages.lower_bound(offset / kMemoryPageSize); it != state.pages.end(); ++it) {
    const uint64_t page_start = it->first * kMemoryPageSize;
    if (page_start >= end) break;
    const uint64_t from = std::max(offset, page_start);
    const uint64_t to = std::min(end, page_start + kMemoryPageSize);
    std::memcpy(out.data() + (from - offset), it->second->data() + (from - page_start), to - from);
  }
  return count;
}

size_t MemoryPages::Read(uint64_t offset, std::span<std::byte> out) const {
  return ReadState(current_, offset, out);
}

size_t MemoryPages::Write(uint64_t offset, std::span<const std::byte> data,
                          uint64_t max_new_pages) {
  size_t done = 0;
  while (done < data.size()) {
    const uint64_t index = (offset + done) / kMemoryPageSize;
    const uint64_t in_page = (offset + done) % kMemoryPageSize;
    const size_t count = std::min<uint64_t>(kMemoryPageSize - in_page, data.size() - done);
    if (!current_.pages.contains(index)) {
      if (max_new_pages == 0) break;
      --max_new_pages;
    }
    std::memcpy(Mutable(current_, index).data() + in_page, data.data() + done, count);
    MarkDirty(index);
    done += count;
  }
  if (done > 0) current_.size = std::max(current_.size, offset + done);
  return done;
}

void MemoryPages::Trim(State& state) {
  const uint64_t in_page = state.size % kMemoryPageSize;
  const uint64_t last = state.size / kMemoryPageSize;
  state.pages.erase(state.pages.lower_bound(last + (in_page > 0 ? 1 : 0)), state.pages.end());
  const std::shared_ptr<Page> page = in_page > 0 ? Find(state, last) : nullptr;
  if (page == nullptr) return;
  // A tail that is zero already stays shared between the states.
  const auto is_zero = [](std::byte byte) { return byte == std::byte{0}; };
  if (std::all_of(page->begin() + in_page, page->end(), is_zero)) return;
  Page& changed = Mutable(state, last);
  std::fill(changed.begin() + in_page, changed.end(), std::byte{0});
}

void MemoryPages::Truncate(uint64_t size) {
  if (size < current_.size) {
    const auto first = current_.pages.lower_bound(size / kMemoryPageSize);
    for (auto it = first; it != current_.pages.end(); ++it) MarkDirty(it->first);
  }
  current_.size = size;
  Trim(current_);
}

void MemoryPages::Punch(uint64_t offset, uint64_t length) {
  if (offset >= current_.size) return;
  // Nothing but zeros lies between the end of the file and the end of its last page.
  const bool to_end = length >= current_.size - offset;
  const uint64_t end =
      to_end ? (current_.size + kMemoryPageSize - 1) / kMemoryPageSize * kMemoryPageSize
             : offset + length;
  auto it = current_.pages.lower_bound(offset / kMemoryPageSize);
  while (it != current_.pages.end() && it->first * kMemoryPageSize < end) {
    const uint64_t index = it->first;
    const uint64_t page_start = index * kMemoryPageSize;
    const uint64_t from = std::max(offset, page_start) - page_start;
    const uint64_t to = std::min(end, page_start + kMemoryPageSize) - page_start;
    ++it;
    MarkDirty(index);
    if (to - from == kMemoryPageSize) {
      current_.pages.erase(index);
    } else {
      std::fill_n(Mutable(current_, index).begin() + from, to - from, std::byte{0});
    }
  }
}

bool MemoryPages::Allocate(uint64_t offset, uint64_t length, uint64_t max_new_pages) {
  if (length == 0) return true;
  const uint64_t first = offset / kMemoryPageSize;
  const uint64_t end = (offset + length - 1) / kMemoryPageSize + 1;
  const auto present = static_cast<uint64_t>(
      std::distance(current_.pages.lower_bound(first), current_.pages.lower_bound(end)));
  const bool fits = end - first - present <= max_new_pages;
  const auto zeros = std::make_shared<Page>();
  for (uint64_t index = first; index < end; ++index) {
    // What did not fit in part stays, as on ext4.
    if (!fits && (max_new_pages == 0 || index * kMemoryPageSize >= current_.size)) return false;
    if (!current_.pages.emplace(index, zeros).second) continue;
    MarkDirty(index);
    if (!fits) --max_new_pages;
  }
  current_.size = std::max(current_.size, offset + length);
  return true;
}

std::optional<uint64_t> MemoryPages::SeekData(uint64_t offset) const {
  if (offset >= current_.size) return std::nullopt;
  const auto it = current_.pages.lower_bound(offset / kMemoryPageSize);
  if (it == current_.pages.end()) return std::nullopt;
  return std::max(offset, it->first * kMemoryPageSize);
}

std::optional<uint64_t> MemoryPages::SeekHole(uint64_t offset) const {
  if (offset >= current_.size) return std::nullopt;
  uint64_t index = offset / kMemoryPageSize;
  for (auto it = current_.pages.find(index); it != current_.pages.end() && it->first == index; ++it)
    ++index;
  return std::min(current_.size, std::max(offset, index * kMemoryPageSize));
}

uint64_t MemoryPages::AllocatedIn(uint64_t offset, uint64_t length) const {
  const uint64_t end = offset + length;
  uint64_t bytes = 0;
  for (auto it = current_.pages.lower_bound(offset / kMemoryPageSize);
       it != current_.pages.end() && it->first * kMemoryPageSize < end; ++it) {
    const uint64_t start = it->first * kMemoryPageSize;
    bytes += std::min(end, start + kMemoryPageSize) - std::max(offset, start);
  }
  return bytes;
}

void MemoryPages::Sync() {
  for (const uint64_t index : dirty_) {
    if (lost_.contains(index)) continue;
    if (std::shared_ptr<Page> page = Find(current_, index)) {
      durable_.pages[index] = std::move(page);
    } else {
      durable_.pages.erase(index);
    }
  }
  durable_.size = current_.size;
  Trim(durable_);
  dirty_ = lost_;
}

void MemoryPages::FailSync() { lost_ = dirty_; }

std::shared_ptr<MemoryPages::Page> MemoryPages::Survivor(uint64_t index, std::mt19937_64& random,
                                                         uint64_t keep_quarters,
                                                         bool tear_sectors) const {
  const std::shared_ptr<Page> old_page = Find(durable_, index);
  const std::shared_ptr<Page> new_page = Find(current_, index);
  if (!tear_sectors) return random() % 4 < keep_quarters ? new_page : old_page;
  if (old_page == nullptr && new_page == nullptr) return nullptr;
  auto torn = old_page ? std::make_shared<Page>(*old_page) : std::make_shared<Page>();
  for (uint64_t at = 0; at < kMemoryPageSize; at += kMemorySectorSize) {
    if (random() % 4 >= keep_quarters) continue;
    if (new_page != nullptr) {
      std::memcpy(torn->data() + at, new_page->data() + at, kMemorySectorSize);
    } else {
      std::fill_n(torn->begin() + at, kMemorySectorSize, std::byte{0});
    }
  }
  return torn;
}

void MemoryPages::PowerCut(std::mt19937_64& random, bool tear_sectors) {
  // The share of pages that survive is drawn for each file, so that "all" and "none" are as
  // likely as a mixture even with many dirty pages.
  const uint64_t keep_quarters = random() % 5;
  const bool keep_size = random() % 2 == 0;
  State next = durable_;
  for (const uint64_t index : dirty_) {
    if (auto page = Survivor(index, random, keep_quarters, tear_sectors)) {
      next.pages[index] = std::move(page);
    } else {
      next.pages.erase(index);
    }
  }
  if (keep_size) next.size = current_.size;
  durable_ = std::move(next);
  Trim(durable_);
  current_ = durable_;
  dirty_.clear();
  lost_.clear();
}

void MemoryPages::FlipByte(uint64_t offset) {
  CAIRN_CHECK(offset < current_.size);
  const uint64_t index = offset / kMemoryPageSize;
  const uint64_t in_page = offset % kMemoryPageSize;
  Mutable(current_, index)[in_page] ^= std::byte{0xff};
  if (dirty_.contains(index)) {
    if (offset < durable_.size) Mutable(durable_, index)[in_page] ^= std::byte{0xff};
  } else {
    durable_.pages[index] = current_.pages[index];
  }
}

void MemoryPages::TruncateBoth(uint64_t size) {
  Truncate(size);
  durable_.size = std::min(durable_.size, size);
  Trim(durable_);
}

std::string MemoryPages::DurableBytes() const {
  std::string bytes(durable_.size, '\0');
  ReadState(durable_, 0, std::as_writable_bytes(std::span(bytes)));
  return bytes;
}

}  // namespace cairn
