#include "fusefs/wire.h"

#include <sys/stat.h>

#include <algorithm>

#include "src/warm/geometry.h"

namespace cairn {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;
constexpr uint32_t kMaxNameLength = 255;
// Handles are ids of requests, which are even.
constexpr uint64_t kBypassBit = 1;

struct WireTime {
  uint64_t seconds = 0;
  uint32_t nanoseconds = 0;
};

// Times before 1970 have negative seconds and, as everywhere, nanoseconds that count up.
WireTime SplitTime(int64_t ns) {
  int64_t seconds = ns / kNsPerSecond;
  int64_t rest = ns % kNsPerSecond;
  if (rest < 0) {
    rest += kNsPerSecond;
    --seconds;
  }
  return {static_cast<uint64_t>(seconds), static_cast<uint32_t>(rest)};
}

}  // namespace

uint32_t FileTypeBits(FileKind kind) { return kind == FileKind::kDirectory ? S_IFDIR : S_IFREG; }

fuse_attr ToWire(const Attributes& attributes) {
  const WireTime atime = SplitTime(attributes.atime_ns);
  const WireTime mtime = SplitTime(attributes.mtime_ns);
  const WireTime ctime = SplitTime(attributes.ctime_ns);
  fuse_attr wire{};
  wire.ino = attributes.inode.value();
  wire.size = attributes.size;
  wire.blocks = (attributes.allocated_bytes + 511) / 512;
  wire.atime = atime.seconds;
  wire.mtime = mtime.seconds;
  wire.ctime = ctime.seconds;
  wire.atimensec = atime.nanoseconds;
  wire.mtimensec = mtime.nanoseconds;
  wire.ctimensec = ctime.nanoseconds;
  wire.mode = FileTypeBits(attributes.kind) | (attributes.mode & 07777);
  wire.nlink = attributes.link_count;
  wire.uid = attributes.uid;
  wire.gid = attributes.gid;
  wire.blksize = kBlockSize;
  return wire;
}

fuse_entry_out EntryReply(const Attributes& attributes, InodeId directory) {
  fuse_entry_out reply{};
  reply.nodeid = attributes.inode.value();
  reply.entry_valid = directory == kSnapshotsInode ? 0 : kEntrySeconds;
  reply.attr_valid = kAttributeSeconds;
  reply.attr = ToWire(attributes);
  return reply;
}

fuse_attr_out AttributeReply(const Attributes& attributes) {
  fuse_attr_out reply{};
  reply.attr_valid = kAttributeSeconds;
  reply.attr = ToWire(attributes);
  return reply;
}

HandleId HandleOf(uint64_t fh) { return HandleId(fh & ~kBypassBit); }

bool BypassesPages(uint64_t fh) { return (fh & kBypassBit) != 0; }

fuse_open_out OpenReply(HandleId handle, PageUse use) {
  fuse_open_out reply{};
  reply.fh = handle.value() | (use == PageUse::kBypass ? kBypassBit : 0);
  switch (use) {
    case PageUse::kKeep:
      reply.open_flags = FOPEN_KEEP_CACHE;
      break;
    case PageUse::kDrop:
      break;
    case PageUse::kBypass:
      reply.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES;
      break;
  }
  return reply;
}

fuse_statfs_out SpaceReply(const SpaceInfo& space) {
  fuse_statfs_out reply{};
  reply.st.bsize = kBlockSize;
  reply.st.frsize = kBlockSize;
  reply.st.blocks = space.total_bytes / kBlockSize;
  reply.st.bfree = space.free_bytes / kBlockSize;
  reply.st.bavail = space.available_bytes / kBlockSize;
  reply.st.files = space.files_total;
  reply.st.ffree = space.files_free;
  reply.st.namelen = kMaxNameLength;
  return reply;
}

}  // namespace cairn
