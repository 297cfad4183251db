// DirectoryPacker: lays directory entries out as READDIR and READDIRPLUS want them.
// Not thread-safe; borrows its buffer.
#ifndef CAIRN_FUSEFS_DIRECTORY_PACKER_H_
#define CAIRN_FUSEFS_DIRECTORY_PACKER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "fusefs/protocol.h"
#include "src/volume/attributes.h"

namespace cairn {

// The offsets that the kernel hands back: 0 start, 1 behind ".", 2 behind "..", and then each
// entry's cookie moved up by two.
struct DirectoryOffset {
  static constexpr uint64_t kBehindDot = 1;
  static constexpr uint64_t kBehindDotDot = 2;
  static constexpr uint64_t FromCookie(uint64_t cookie) { return cookie + kBehindDotDot; }
  // REQUIRES: offset >= kBehindDotDot.
  static constexpr uint64_t ToCookie(uint64_t offset) { return offset - kBehindDotDot; }
};

class DirectoryPacker {
 public:
  explicit DirectoryPacker(std::span<std::byte> buffer) : buffer_(buffer) {}

  // Each returns false, and changes nothing, when the entry does not fit any more.
  // `next_offset` is where a later request goes on behind this entry.
  bool Add(std::string_view name, InodeId inode, FileKind kind, uint64_t next_offset);
  bool AddPlus(InodeId directory, std::string_view name, const Attributes& attributes,
               uint64_t next_offset);
  // An entry of READDIRPLUS that the kernel does not look up: "." and "..".
  bool AddPlusNameOnly(std::string_view name, InodeId inode, FileKind kind, uint64_t next_offset);

  size_t size() const { return used_; }
  std::span<const std::byte> packed() const { return buffer_.first(used_); }

  // The least that an entry takes, to size lists of entries.
  static constexpr size_t kLeastEntrySize = FUSE_REC_ALIGN(FUSE_NAME_OFFSET + 1);

 private:
  bool Put(const fuse_entry_out* entry, std::string_view name, InodeId inode, FileKind kind,
           uint64_t next_offset);

  const std::span<std::byte> buffer_;
  size_t used_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_DIRECTORY_PACKER_H_
