// What snapshots and clones are described by, between src/volume and who asks for them.
#ifndef CAIRN_SRC_VOLUME_SNAPSHOT_TYPES_H_
#define CAIRN_SRC_VOLUME_SNAPSHOT_TYPES_H_

#include <cstdint>
#include <vector>

namespace cairn {

struct DiffRange {
  uint64_t offset = 0;  // bytes, whole blocks but for the end of the file
  uint64_t length = 0;
  bool hole = false;  // reads as zeros in the newer one; false: may hold data
};

struct DiffPage {
  std::vector<DiffRange> ranges;  // by offset
  // Pass it on for the next page; at or behind the newer one's size: that was all.
  uint64_t next_offset = 0;
};

struct VolumeSizes {
  uint64_t size = 0;
  uint64_t mapped_bytes = 0;     // blocks that lie in extent files
  uint64_t exclusive_bytes = 0;  // what would come back if this one were removed, of as many
  uint64_t shared_bytes = 0;     // the rest: other snapshots, clones or the volume need it, too
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_SNAPSHOT_TYPES_H_
