// What stat() shows of a file or directory, what setattr may change, and who asks.
#ifndef CAIRN_SRC_VOLUME_ATTRIBUTES_H_
#define CAIRN_SRC_VOLUME_ATTRIBUTES_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/base/strong_id.h"
#include "src/warm/records.h"

namespace cairn {

struct Attributes {
  InodeId inode;
  FileKind kind = FileKind::kVolume;
  uint32_t mode = 0;  // permission bits 07777
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t link_count = 1;
  uint64_t size = 0;             // bytes; 0 for a directory
  uint64_t allocated_bytes = 0;  // what the warm tier really holds for it
  int64_t atime_ns = 0;          // since 1970 UTC; reading does not change it
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
};

// A field without a value stays as it is.
struct AttributeChange {
  std::optional<uint32_t> mode;
  std::optional<uint32_t> uid;
  std::optional<uint32_t> gid;
  std::optional<uint64_t> size;
  std::optional<int64_t> atime_ns;
  std::optional<int64_t> mtime_ns;
};

// Who asks, and by which request; `request` identifies the request for ever within a mount, so
// that one that is sent again after the server died is not carried out twice.
struct Caller {
  uint32_t uid = 0;
  uint32_t gid = 0;
  RequestId request = {};  // 0: not a request that could be sent again
  bool resent = false;     // a server before this one may have carried it out
  // Supplementary groups; known only where the kernel did not check rights before it asked.
  std::vector<uint32_t> groups = {};
};

struct DirectoryEntry {
  std::string name;
  InodeId inode;
  FileKind kind = FileKind::kVolume;
  // Pass to ReadDirectory to go on behind this entry. Stable while entries come and go, and over
  // remounts.
  uint64_t cookie = 0;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_ATTRIBUTES_H_
