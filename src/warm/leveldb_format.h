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
// compression) and the masked CRC-32C of block and byte. A table ends with its filter block, if it
// has one, its metaindex block, its index block and a footer:
//
//   0       n     where the metaindex block is and its size without trailer, as varints
//   n       m     the same of the index block
//   n+m     ...   zeros
//   40      8     a magic number, little-endian
#ifndef CAIRN_SRC_WARM_LEVELDB_FORMAT_H_
#define CAIRN_SRC_WARM_LEVELDB_FORMAT_H_

#include <algorithm>
#include <bit>
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

// Takes a varint off the front of `rest`; false when there is none.
inline bool TakeVarint(std::span<const std::byte>& rest, uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 64 && !rest.empty(); shift += 7) {
    const auto byte = std::to_integer<uint64_t>(rest.front());
    rest = rest.subspan(1);
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

// What a footer says of a block.
struct TableBlock {
  uint64_t begin = 0;
  uint64_t size = 0;  // without its trailer
  uint64_t end() const { return begin + size + kTableTrailerBytes; }
  // Of the shortest varints that say so.
  size_t varint_bytes() const {
    const auto bytes = [](uint64_t value) {
      return std::max<size_t>(1, (static_cast<size_t>(std::bit_width(value)) + 6) / 7);
    };
    return bytes(begin) + bytes(size);
  }
};

// Takes one off the front of `rest`; none when there are not two varints.
inline std::optional<TableBlock> TakeTableBlock(std::span<const std::byte>& rest) {
  TableBlock block;
  if (!TakeVarint(rest, block.begin) || !TakeVarint(rest, block.size)) return std::nullopt;
  return block;
}

enum class TableFooter {
  kGood,
  kUsable,  // wrong only in what no record needs: the metaindex block's place or the zeros
  kBad,     // none, or one that does not lead to the index block
};

// What `bytes`, read at `offset` of a table, are as its footer. It has no checksum, but what it
// says has to fit: the metaindex block, the index block and the footer lie one behind the other.
inline TableFooter CheckTableFooter(std::span<const std::byte> bytes, uint64_t offset) {
  constexpr size_t kMagicBytes = sizeof(kTableMagic);
  if (bytes.size() != kTableFooterBytes ||
      LoadLittleEndian<uint64_t>(bytes.last(kMagicBytes)) != kTableMagic) {
    return TableFooter::kBad;
  }
  std::span<const std::byte> rest = bytes.first(kTableFooterBytes - kMagicBytes);
  const auto metaindex = TakeTableBlock(rest);
  const auto index = TakeTableBlock(rest);
  if (!metaindex || !index) return TableFooter::kBad;
  // LevelDB takes memory for whatever size it reads here.
  if (metaindex->size > offset || index->size > offset) return TableFooter::kBad;
  if (index->begin > offset || index->end() != offset) return TableFooter::kBad;
  const bool is_good =
      metaindex->end() == index->begin &&
      metaindex->varint_bytes() + index->varint_bytes() + rest.size() + kMagicBytes ==
          bytes.size() &&
      std::all_of(rest.begin(), rest.end(), [](std::byte byte) { return byte == std::byte{0}; });
  return is_good ? TableFooter::kGood : TableFooter::kUsable;
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
