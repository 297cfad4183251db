// What Cairn answers to FUSE_INIT: the parameters that stay for the life of the mount.
//
// The supervisor writes this reply itself, byte for byte, and keeps the request. libfuse, whose
// own reply would not know the newer flags, is fed a copy of the request that offers no more than
// was accepted here, so that both agree on the layout of every later message. Pure functions.
#ifndef CAIRN_FUSEFS_INIT_REPLY_H_
#define CAIRN_FUSEFS_INIT_REPLY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fusefs/protocol.h"
#include "src/base/result.h"

namespace cairn {

struct InitReply {
  fuse_out_header header{};
  fuse_init_out body{};

  uint64_t flags() const { return body.flags | uint64_t{body.flags2} << 32; }
};
static_assert(sizeof(InitReply) == sizeof(fuse_out_header) + sizeof(fuse_init_out));

// `request` is the whole message as read from /dev/fuse. kInvalid when it is no INIT,
// kUnsupported when the kernel is older than 5.1 (protocol 7.29).
Result<InitReply> NegotiateInit(std::span<const std::byte> request);

// The same request, offering only what `reply` took.
std::vector<std::byte> RestrictInit(std::span<const std::byte> request, const InitReply& reply);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_INIT_REPLY_H_
