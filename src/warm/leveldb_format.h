// The parts of LevelDB's file formats that Cairn checks itself: log fragments and table blocks.
//
// A log (NNNNNN.log and MANIFEST-NNNNNN) is a sequence of 32 KiB blocks. A block holds fragments:
//
//   offset  size  field
//   0       4     masked CRC-32C of type and payload, little-endian
//   4       2     payload length, little-endian
//   6       1     type: 0 none (zeros), 1 full, 2 first, 3 middle, 4 last
//   7       n     payload
//
// A record is one full fragment, or a first one, any middle ones and a last one. A fragment does
// not cross the end of a block; when fewer than 7 bytes are left there, they are zeros and belong
// to no fragment. First and middle fragments therefore always end where their block ends, middle
// and last ones begin where theirs begins. A table block is followed by one byte (its
// compression) and the masked CRC-32C of block and byte; a table ends with a 48-byte footer whose
// last 8 bytes are a magic number.
#ifndef CAIRN_SRC_WARM_LEVELDB_FORMAT_H_
#define CAIRN_SRC_WARM_LEVELDB_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "src/base/crc32c.h"

namespace cairn {

inline constexpr size_t kLogBlockBytes = 32768;
inline constexpr size_t kLogHeaderBytes = 7;
inline constexpr size_t kTableTrailerBytes = 5;
inline constexpr size_t kTableFooterBytes = 48;
inline constexpr uint64_t kTableMagic = 0xdb4775248b80fb57ull;

// LevelDB stores CRCs masked, because the CRC of bytes that contain their own CRC is useless.
inline constexpr uint32_t MaskCrc(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

template <typename Integer>
Integer LoadLittleEndian(std::span<const std::byte> bytes) {
  Integer value = 0;
  for (size_t i = 0; i < sizeof(Integer); ++i) {
    value = static_cast<Integer>(value | static_cast<Integer>(bytes[i]) << (8 * i));
  }
  return value;
}

enum class FragmentType : uint8_t { kFull = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

struct LogFragment {
  FragmentType type;
  std::span<const std::byte> payload;
  size_t end;  // offset in the block of the byte after the fragment
};

// The fragment at `position` of `block`, a block or what the file has of it; none when there is no
// whole one with the right checksum.
inline std::optional<LogFragment> ParseFragment(std::span<const std::byte> block, size_t position) {
  if (position + kLogHeaderBytes > block.size()) return std::nullopt;
  const auto header = block.subspan(position, kLogHeaderBytes);
  const auto type = std::to_integer<uint8_t>(header[6]);
  if (type < 1 || type > 4) return std::nullopt;
  const size_t length = LoadLittleEndian<uint16_t>(header.subspan(4));
  const size_t end = position + kLogHeaderBytes + length;
  if (end > block.size()) return std::nullopt;
  const auto fragment_type = static_cast<FragmentType>(type);
  const bool goes_on =
      fragment_type == FragmentType::kFirst || fragment_type == FragmentType::kMiddle;
  const bool went_on =
      fragment_type == FragmentType::kMiddle || fragment_type == FragmentType::kLast;
  if ((goes_on && end != kLogBlockBytes) || (went_on && position != 0)) return std::nullopt;
  if (MaskCrc(Crc32c(block.subspan(position + 6, 1 + length))) !=
      LoadLittleEndian<uint32_t>(header)) {
    return std::nullopt;
  }
  return LogFragment{fragment_type, block.subspan(position + kLogHeaderBytes, length), end};
}

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_LEVELDB_FORMAT_H_
