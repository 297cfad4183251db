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
// What becomes of the pages that the kernel has of a volume when it is opened. kBypass: they are
// dropped, reads and writes go past them, and writes to one volume may run in parallel.
enum class PageUse { kKeep, kDrop, kBypass };
fuse_open_out OpenReply(HandleId handle, PageUse use);
// From what the kernel calls an open file. How it was opened counts for as long as it is open,
// whatever becomes of its O_DIRECT.
HandleId HandleOf(uint64_t fh);
bool BypassesPages(uint64_t fh);
fuse_statfs_out SpaceReply(const SpaceInfo& space);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_WIRE_H_
