// The superblock: says that a directory is a Cairn store, in which format, and which one.
// Layout and rules: FORMAT.md.
#ifndef CAIRN_SRC_WARM_SUPERBLOCK_H_
#define CAIRN_SRC_WARM_SUPERBLOCK_H_

#include <array>
#include <cstdint>
#include <string>

#include "src/base/result.h"
#include "src/env/env.h"

namespace cairn {

inline constexpr uint32_t kFormatVersion = 1;

// What a set bit means to a program that does not know it: compatible features may be ignored,
// read-only features may be read past but not written past, incompatible ones forbid opening. This
// program writes to each store that it opens, so the latter two keep it out alike.
//
// Incompatible: blocks have checksums; a program that does not know them would write past them, and
// what it wrote would be taken for damage.
inline constexpr uint64_t kFeatureSeals = 1u << 0;
// Compatible: records of requests. Nobody but the servers of one mount reads them.
inline constexpr uint64_t kFeatureRequests = 1u << 0;
// Incompatible: branches with parents, views and several epochs; a program that does not know them
// would take what only a snapshot needs for garbage.
inline constexpr uint64_t kFeatureSnapshots = 1u << 1;
inline constexpr uint64_t kKnownIncompatibleFeatures = kFeatureSeals | kFeatureSnapshots;
inline constexpr uint64_t kKnownReadOnlyFeatures = 0;

struct Superblock {
  uint32_t version = kFormatVersion;
  uint64_t compatible_features = 0;
  uint64_t read_only_features = 0;
  uint64_t incompatible_features = 0;
  std::array<uint8_t, 16> uuid{};
  int64_t created_ns = 0;
  // Set while a new store is being laid out: nothing in it was ever promised to anyone.
  bool formatting = false;

  std::string UuidText() const;
};

std::string EncodeSuperblock(const Superblock& superblock);
// kCorrupt (damaged), kUnsupported (a later version or unknown features); `path` is for messages.
Result<Superblock> DecodeSuperblock(std::string_view bytes, const std::string& path);

// Reads and checks `path`. kNotFound when there is none.
Result<Superblock> ReadSuperblock(Env& env, const std::string& path);

// A new one with a random uuid.
Superblock NewSuperblock(int64_t now_ns);

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_SUPERBLOCK_H_
