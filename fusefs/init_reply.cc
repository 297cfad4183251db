#include "fusefs/init_reply.h"

#include <algorithm>
#include <cstring>
#include <string>

namespace cairn {
namespace {

constexpr uint32_t kOldestMinor = 29;

// Data moves only through this mount and the modification time with each write, so that the
// kernel must not drop its pages by itself: EXPLICIT_INVAL_DATA, not AUTO_INVAL_DATA.
// HANDLE_KILLPRIV_V2: the server clears set-id bits, and the kernel does not ask for
// security.capability at every cached write.
// Absent on purpose: WRITEBACK_CACHE (an acknowledged write is in the server), POSIX_LOCKS and
// FLOCK_LOCKS (the kernel keeps locks itself, across a server's death), SPLICE_* (copying is
// faster here), POSIX_ACL, SETXATTR_EXT, EXPORT_SUPPORT.
constexpr uint64_t kWanted =
    FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_HAS_IOCTL_DIR |
    FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO | FUSE_PARALLEL_DIROPS |
    FUSE_MAX_PAGES | FUSE_EXPLICIT_INVAL_DATA | FUSE_HANDLE_KILLPRIV_V2 | uint64_t{FUSE_INIT_EXT} |
    protocol::kDirectIoAllowMmap | protocol::kHasResend;

constexpr uint16_t kMaxBackground = 512;
constexpr uint16_t kCongestionThreshold = 384;
constexpr size_t kPageSize = 4096;

// What every INIT has had since 7.6; flags2 and the room behind it came with 7.36.
constexpr size_t kShortInit = offsetof(fuse_init_in, flags2);
constexpr size_t kFlagsOffset = sizeof(fuse_in_header) + offsetof(fuse_init_in, flags);
constexpr size_t kFlags2Offset = sizeof(fuse_in_header) + offsetof(fuse_init_in, flags2);

struct Parsed {
  fuse_in_header header{};
  fuse_init_in body{};

  uint64_t offered() const {
    const uint64_t high = (body.flags & FUSE_INIT_EXT) ? body.flags2 : 0;
    return body.flags | high << 32;
  }
};

Result<Parsed> Parse(std::span<const std::byte> request) {
  Parsed parsed;
  if (request.size() < sizeof(fuse_in_header) + kShortInit) {
    return Status(Code::kInvalid, "the kernel's first FUSE message is too short");
  }
  std::memcpy(&parsed.header, request.data(), sizeof(parsed.header));
  const size_t body_size = std::min(request.size() - sizeof(parsed.header), sizeof(parsed.body));
  std::memcpy(&parsed.body, request.data() + sizeof(parsed.header), body_size);
  if (parsed.header.opcode != FUSE_INIT || parsed.header.len != request.size()) {
    return Status(Code::kInvalid, "the kernel's first FUSE message is not INIT");
  }
  return parsed;
}

}  // namespace

Result<InitReply> NegotiateInit(std::span<const std::byte> request) {
  CAIRN_ASSIGN_OR_RETURN(const Parsed parsed, Parse(request));
  if (parsed.body.major != FUSE_KERNEL_VERSION || parsed.body.minor < kOldestMinor) {
    return Status(Code::kUnsupported, "the kernel speaks FUSE " +
                                          std::to_string(parsed.body.major) + "." +
                                          std::to_string(parsed.body.minor) +
                                          "; Cairn needs 7.29 (Linux 5.1) or newer");
  }
  const uint64_t flags = parsed.offered() & kWanted;
  InitReply reply;
  reply.header.len = sizeof(reply);
  reply.header.unique = parsed.header.unique;
  reply.body.major = FUSE_KERNEL_VERSION;
  reply.body.minor = std::min(parsed.body.minor, protocol::kMinorSpoken);
  reply.body.max_readahead = parsed.body.max_readahead;
  reply.body.flags = static_cast<uint32_t>(flags);
  reply.body.flags2 = static_cast<uint32_t>(flags >> 32);
  reply.body.max_background = kMaxBackground;
  reply.body.congestion_threshold = kCongestionThreshold;
  reply.body.max_write = protocol::kMaxTransfer;
  reply.body.time_gran = 1;
  reply.body.max_pages = protocol::kMaxTransfer / kPageSize;
  return reply;
}

std::vector<std::byte> RestrictInit(std::span<const std::byte> request, const InitReply& reply) {
  std::vector<std::byte> restricted(request.begin(), request.end());
  if (restricted.size() >= kFlagsOffset + sizeof(uint32_t)) {
    std::memcpy(restricted.data() + kFlagsOffset, &reply.body.flags, sizeof(uint32_t));
  }
  if (restricted.size() >= kFlags2Offset + sizeof(uint32_t)) {
    std::memcpy(restricted.data() + kFlags2Offset, &reply.body.flags2, sizeof(uint32_t));
  }
  return restricted;
}

}  // namespace cairn
