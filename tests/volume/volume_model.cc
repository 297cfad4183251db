#include "tests/volume/volume_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace cairn {
namespace {

bool IsZero(std::string_view bytes) { return bytes.find_first_not_of('\0') == bytes.npos; }

// Whether the first `length` bytes of a block are those of `content`.
bool Matches(std::string_view actual, const std::string& content, uint64_t length) {
  if (content.empty()) return IsZero(actual.substr(0, length));
  return actual.substr(0, length) == std::string_view(content).substr(0, length);
}

}  // namespace

const VolumeModel::Content& VolumeModel::Now(uint64_t block) const {
  static const Content zeros;
  const auto found = blocks_.find(block);
  return found == blocks_.end() ? zeros : found->second.now;
}

void VolumeModel::Change(uint64_t block, Content content) {
  if (IsZero(content)) content.clear();
  Block& entry = blocks_[block];
  entry.possible.insert(entry.now);
  entry.now = std::move(content);
}

void VolumeModel::ChangeSize(uint64_t size) {
  possible_sizes_.insert(size_);
  size_ = size;
}

void VolumeModel::Write(uint64_t offset, std::span<const std::byte> data) {
  const uint64_t end = offset + data.size();
  for (uint64_t at = offset; at < end;) {
    const uint64_t block = at / kBlockSize;
    const uint64_t stop = std::min(end, (block + 1) * kBlockSize);
    Content content = Now(block);
    content.resize(kBlockSize, '\0');
    std::memcpy(content.data() + at % kBlockSize, data.data() + (at - offset), stop - at);
    Change(block, std::move(content));
    at = stop;
  }
  if (end > size_) ChangeSize(end);
}

void VolumeModel::Zero(uint64_t offset, uint64_t length) {
  const uint64_t end = std::min(offset + length, size_);
  if (offset >= end) return;
  const uint64_t size = size_;
  const std::vector<std::byte> zeros(end - offset);
  Write(offset, zeros);
  size_ = size;
}

void VolumeModel::Truncate(uint64_t size) {
  if (size < size_) Zero(size, size_ - size);
  if (size != size_) ChangeSize(size);
}

void VolumeModel::Sync() {
  for (auto& [number, block] : blocks_) block.possible.clear();
  possible_sizes_.clear();
}

std::vector<std::byte> VolumeModel::Read(uint64_t offset, uint64_t length) const {
  if (offset >= size_) return {};
  std::vector<std::byte> out(std::min(length, size_ - offset));
  for (uint64_t at = offset; at < offset + out.size();) {
    const uint64_t block = at / kBlockSize;
    const uint64_t stop = std::min(offset + out.size(), (block + 1) * kBlockSize);
    const Content& content = Now(block);
    if (!content.empty()) {
      std::memcpy(out.data() + (at - offset), content.data() + at % kBlockSize, stop - at);
    }
    at = stop;
  }
  return out;
}

std::string VolumeModel::Recover(std::span<const std::byte> actual) {
  if (actual.size() != size_ && !possible_sizes_.contains(actual.size())) {
    return fmt::format("the size is {}, should be {} or one of {} older ones", actual.size(), size_,
                       possible_sizes_.size());
  }
  const std::string_view bytes(reinterpret_cast<const char*>(actual.data()), actual.size());
  std::map<uint64_t, Block> recovered;
  for (uint64_t block = 0; block * kBlockSize < bytes.size(); ++block) {
    const std::string_view part = bytes.substr(block * kBlockSize, kBlockSize);
    const auto known = blocks_.find(block);
    bool fits = Matches(part, Now(block), part.size());
    if (!fits && known != blocks_.end()) {
      fits = std::any_of(known->second.possible.begin(), known->second.possible.end(),
                         [&](const Content& old) { return Matches(part, old, part.size()); });
    }
    if (!fits) {
      return fmt::format("block {} holds neither what was written last nor what was before{}",
                         block, IsZero(part) ? " (zeros)" : "");
    }
    // What lies behind the end is zeros, whatever the block held there before.
    Content content(part);
    if (IsZero(content)) content.clear();
    if (!content.empty()) content.resize(kBlockSize, '\0');
    if (!content.empty()) recovered[block].now = std::move(content);
  }
  blocks_ = std::move(recovered);
  size_ = actual.size();
  possible_sizes_.clear();
  return {};
}

}  // namespace cairn
