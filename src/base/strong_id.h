// Identifiers that the compiler keeps apart: an InodeId is not a BranchId is not an integer.
#ifndef CAIRN_SRC_BASE_STRONG_ID_H_
#define CAIRN_SRC_BASE_STRONG_ID_H_

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace cairn {

template <typename Tag>
class StrongId {
 public:
  constexpr StrongId() noexcept = default;
  constexpr explicit StrongId(uint64_t value) noexcept : value_(value) {}
  constexpr uint64_t value() const noexcept { return value_; }
  constexpr StrongId Next() const noexcept { return StrongId(value_ + 1); }
  friend constexpr auto operator<=>(StrongId, StrongId) noexcept = default;

 private:
  uint64_t value_ = 0;
};

// A file or directory; also the FUSE node id and st_ino. Never used twice. 1 is the root.
using InodeId = StrongId<struct InodeTag>;
// One line of history of a volume. Never used twice; 0 is "none".
using BranchId = StrongId<struct BranchTag>;
// A span of a branch's history between two snapshots; grows.
using Epoch = StrongId<struct EpochTag>;
// A 256 KiB piece of a volume: offset / kChunkSize.
using ChunkIndex = StrongId<struct ChunkTag>;
// A 1 TiB piece of a volume, one extent file each: offset / kSegmentSize.
using SegmentIndex = StrongId<struct SegmentTag>;
// A FUSE request's `unique`, without the resend bit; 0 is "none".
using RequestId = StrongId<struct RequestTag>;
// What a program holds open: the request that opened it. Never used twice within a mount.
using HandleId = StrongId<struct HandleTag>;

inline constexpr InodeId kRootInode{1};
// The directory `.snapshots` in the root. No counter gets that far.
inline constexpr InodeId kSnapshotsInode{uint64_t{1} << 62};

}  // namespace cairn

template <typename Tag>
struct std::hash<cairn::StrongId<Tag>> {
  size_t operator()(cairn::StrongId<Tag> id) const noexcept {
    // Fibonacci hashing: ids are dense, and buckets are chosen by the low bits.
    return static_cast<size_t>(id.value() * 0x9E3779B97F4A7C15ull >> 7);
  }
};

#endif  // CAIRN_SRC_BASE_STRONG_ID_H_
