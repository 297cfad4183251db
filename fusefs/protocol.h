// The kernel's FUSE protocol: <linux/fuse.h>, and what newer kernels know that this header, as
// Debian 12 ships it (7.38), does not.
#ifndef CAIRN_FUSEFS_PROTOCOL_H_
#define CAIRN_FUSEFS_PROTOCOL_H_

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>

#include "src/base/strong_id.h"

namespace cairn::protocol {

// INIT flags, bit numbers of the 64-bit set (flags | flags2 << 32).
inline constexpr uint64_t kDirectIoAllowMmap = 1ull << 36;  // 7.39: shared mmap of O_DIRECT opens
inline constexpr uint64_t kHasResend = 1ull << 39;          // 7.40: FUSE_NOTIFY_RESEND

// 7.40: "queue again what was read and never answered". A notification without a payload.
inline constexpr int32_t kNotifyResend = 7;
// Set in `unique` of a request that is sent again; the reply carries it too.
inline constexpr uint64_t kUniqueResend = 1ull << 63;

inline RequestId IdOf(const fuse_in_header& header) {
  return RequestId(header.unique & ~kUniqueResend);
}
inline bool IsResent(const fuse_in_header& header) { return (header.unique & kUniqueResend) != 0; }

// The newest protocol whose structures this code knows. Newer kernels talk 7.40 to us.
inline constexpr uint32_t kMinorSpoken = 40;

// The largest READ, WRITE and READDIR, bytes; also the mount's max_read.
inline constexpr size_t kMaxTransfer = 1u << 20;
inline constexpr size_t kWriteHeaderSize = sizeof(fuse_in_header) + sizeof(fuse_write_in);

static_assert(sizeof(fuse_in_header) == 40 && sizeof(fuse_out_header) == 16);
static_assert(sizeof(fuse_init_out) == 64 && sizeof(fuse_write_in) == 40);
static_assert(sizeof(fuse_entry_out) == 128 && sizeof(fuse_attr_out) == 104);

}  // namespace cairn::protocol

#endif  // CAIRN_FUSEFS_PROTOCOL_H_
