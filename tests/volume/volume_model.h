// What a volume may contain, for tests: a plain model of one volume that knows, block by block,
// which contents a crash may leave.
#ifndef CAIRN_TESTS_VOLUME_VOLUME_MODEL_H_
#define CAIRN_TESTS_VOLUME_VOLUME_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "src/warm/geometry.h"

namespace cairn {

// Contents are strings of kBlockSize bytes, or empty for a block of zeros.
class VolumeModel {
 public:
  uint64_t size() const { return size_; }

  void Write(uint64_t offset, std::span<const std::byte> data);
  void Zero(uint64_t offset, uint64_t length);
  void Truncate(uint64_t size);
  // All that was done so far is durable.
  void Sync();

  std::vector<std::byte> Read(uint64_t offset, uint64_t length) const;

  // After a crash: takes over what the volume really holds. Returns what is wrong with it, or an
  // empty string.
  std::string Recover(std::span<const std::byte> actual);

 private:
  using Content = std::string;
  struct Block {
    Content now;
    std::set<Content> possible;  // since the last sync, `now` not among them
  };
  void Change(uint64_t block, Content content);
  const Content& Now(uint64_t block) const;
  void ChangeSize(uint64_t size);

  uint64_t size_ = 0;
  std::set<uint64_t> possible_sizes_;
  std::map<uint64_t, Block> blocks_;
};

}  // namespace cairn

#endif  // CAIRN_TESTS_VOLUME_VOLUME_MODEL_H_
