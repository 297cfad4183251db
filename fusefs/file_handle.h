// FileHandle: what an open file's `fh` holds. It means the same in every server process of a
// mount, so it has no pointers and no table behind it; I/O finds its volume by the inode.
#ifndef CAIRN_FUSEFS_FILE_HANDLE_H_
#define CAIRN_FUSEFS_FILE_HANDLE_H_

#include <cstdint>

#include "src/base/strong_id.h"

namespace cairn {

struct FileHandle {
  InodeId inode;
  bool direct = false;  // opened with O_DIRECT

  static constexpr uint64_t kDirectBit = 1ull << 63;

  constexpr uint64_t Encode() const { return inode.value() | (direct ? kDirectBit : 0); }
  static constexpr FileHandle Decode(uint64_t fh) {
    return {.inode = InodeId(fh & ~kDirectBit), .direct = (fh & kDirectBit) != 0};
  }
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_FILE_HANDLE_H_
