// The records of the index, as the rest of the code sees them. How they lie in LevelDB is the
// business of warm_format.h.
#ifndef CAIRN_SRC_WARM_RECORDS_H_
#define CAIRN_SRC_WARM_RECORDS_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "src/base/strong_id.h"
#include "src/warm/geometry.h"

namespace cairn {

enum class FileKind : uint8_t {
  kVolume = 1,
  kDirectory = 2,
  kSnapshot = 3,  // a member of a snapshot: what a volume was, read-only
};

// A file or directory. Hard links do not exist, so the record names its one place.
struct InodeRecord {
  FileKind kind = FileKind::kVolume;
  uint32_t mode = 0;  // permission bits
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint64_t size = 0;
  int64_t atime_ns = 0;
  int64_t mtime_ns = 0;
  int64_t ctime_ns = 0;
  InodeId parent;   // the root's is the root; of an orphan, where it was
  BranchId branch;  // 0 for a directory
  Epoch epoch;      // of a snapshot: up to which of the branch's epochs it sees; else 0
};

// A branch: where it came from and where it stands.
struct BranchRecord {
  BranchId parent;     // 0: none
  Epoch parent_epoch;  // what of the parent it sees
  Epoch epoch{1};      // the current one: writes go to its extent files
  InodeId inode;       // whose head it is (or was)
  // Up to which crash of the store (WarmStore::crash_count) what crashes may leave behind the
  // volume's end was removed from the extent files.
  uint64_t trimmed_crash = 0;
  // Of the parent only the bytes before this one, which begins a block, are seen.
  uint64_t parent_end = kMaxVolumeSize;
};

// What one epoch of a branch says about one chunk. The masks are disjoint; a block in none of them
// is as older epochs and parent branches say.
struct VersionRecord {
  BlockMask extent = 0;  // blocks in the extent file of (branch, epoch)
  BlockMask zero = 0;    // blocks that read as zeros
  // Blocks in the cold tier; `location` is the tiering's and opaque here. None in this version.
  struct Tombstone {
    BlockMask mask = 0;
    std::string location;
  };
  std::vector<Tombstone> tombstones;
};

// One extent file: the blocks of `segment` that (branch, epoch) wrote.
struct ExtentId {
  BranchId branch;
  Epoch epoch;
  SegmentIndex segment;
  friend auto operator<=>(const ExtentId&, const ExtentId&) = default;
};

// kChunksPerRegion chunks of what one epoch of a branch holds.
struct RegionId {
  BranchId branch;
  Epoch epoch;
  uint64_t number = 0;
  friend auto operator<=>(const RegionId&, const RegionId&) = default;
};

// Whether the checksums of a region's blocks mean anything. A region without a record has none.
enum class RegionState : uint8_t {
  kSealed = 1,  // each block that has a checksum holds what was summed
  kOpen = 2,    // blocks may have been written since
};

// Who needs what a branch held at some epoch, beside the volume whose head it is.
enum class ViewKind : uint8_t {
  kSnapshot = 1,  // a snapshot's member, by its inode
  kClone = 2,     // a branch that has this one as parent, by its id
};
struct View {
  BranchId branch;
  Epoch epoch;
  uint64_t viewer = 0;
  ViewKind kind = ViewKind::kSnapshot;
};

// A snapshot of a group of volumes. Its id is the inode of its directory in .snapshots.
struct GroupRecord {
  std::string name;
  int64_t created_ns = 0;  // since 1970 UTC
  uint32_t uid = 0;        // who asked for it
  uint32_t gid = 0;
  uint64_t member_count = 0;
  std::string token;  // of the request; may be empty
  std::string description;
  std::map<std::string, std::string> tags;
};

// Checksums of the blocks of one chunk in the extent file of one epoch.
struct ChunkSums {
  BlockMask mask = 0;  // blocks that have a checksum
  BlockMask zero = 0;  // those of them that hold nothing but zeros, and whose `crc` is not kept
  std::array<uint32_t, kBlocksPerChunk> crc{};  // CRC-32C
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_RECORDS_H_
