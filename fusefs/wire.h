// The answers of the protocol that carry attributes, built from the volume layer's types.
// Pure functions.
#ifndef CAIRN_FUSEFS_WIRE_H_
#define CAIRN_FUSEFS_WIRE_H_

#include <cstdint>

#include "fusefs/protocol.h"
#include "src/env/env.h"
#include "src/volume/attributes.h"

namespace cairn {

// How long the kernel may use a name and attributes without asking. Both change through this
// mount only, and the kernel sees those changes; the short one is for what is counted behind its
// back, the allocated space. Snapshots come and go without its doing: it asks for their names each
// time.
inline constexpr uint64_t kEntrySeconds = 60;
inline constexpr uint64_t kAttributeSeconds = 1;

// S_IFREG or S_IFDIR.
uint32_t FileTypeBits(FileKind kind);
fuse_attr ToWire(const Attributes& attributes);
// Of what lies in `directory`.
fuse_entry_out EntryReply(const Attributes& attributes, InodeId directory);
fuse_attr_out AttributeReply(const Attributes& attributes);
// `open_flags` are open(2)'s. With `direct_drops_pages` (Edge's) O_DIRECT opens bypass the kernel's
// page cache and may write to one volume in parallel; others keep the pages that are cached.
fuse_open_out OpenReply(HandleId handle, uint32_t open_flags, bool direct_drops_pages);
fuse_statfs_out SpaceReply(const SpaceInfo& space);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_WIRE_H_
