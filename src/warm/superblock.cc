#include "src/warm/superblock.h"

#include <fmt/format.h>

#include <random>

#include "src/base/crc32c.h"
#include "src/warm/bytes.h"

namespace cairn {
namespace {

// A person who opens the file sees what it is; the bytes are part of the magic.
constexpr std::string_view kMagic = "Cairn store superblock\n";
constexpr size_t kSuperblockSize = 4096;
constexpr size_t kCrcOffset = kSuperblockSize - 4;

uint32_t CrcOf(std::string_view bytes) {
  return Crc32c(std::as_bytes(std::span(bytes.data(), kCrcOffset)));
}

}  // namespace

std::string Superblock::UuidText() const {
  std::string text;
  for (size_t i = 0; i < uuid.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", uuid[i]);
  }
  return text;
}

std::string EncodeSuperblock(const Superblock& superblock) {
  std::string bytes(kMagic);
  AppendLittle(bytes, superblock.version);
  AppendLittle(bytes, superblock.compatible_features);
  AppendLittle(bytes, superblock.read_only_features);
  AppendLittle(bytes, superblock.incompatible_features);
  bytes.append(reinterpret_cast<const char*>(superblock.uuid.data()), superblock.uuid.size());
  AppendLittle(bytes, superblock.created_ns);
  AppendLittle(bytes, static_cast<uint8_t>(superblock.formatting));
  bytes.resize(kCrcOffset, '\0');
  AppendLittle(bytes, CrcOf(bytes));
  return bytes;
}

Result<Superblock> DecodeSuperblock(std::string_view bytes, const std::string& path) {
  if (bytes.size() != kSuperblockSize || !bytes.starts_with(kMagic)) {
    return Status(Code::kCorrupt, path + " is not a Cairn superblock (damaged or truncated)");
  }
  ByteReader crc_reader(bytes.substr(kCrcOffset));
  if (crc_reader.Little<uint32_t>() != CrcOf(bytes)) {
    return Status(Code::kCorrupt, path + ": checksum mismatch, the superblock is damaged");
  }
  ByteReader reader(bytes.substr(kMagic.size()));
  Superblock superblock;
  superblock.version = reader.Little<uint32_t>();
  superblock.compatible_features = reader.Little<uint64_t>();
  superblock.read_only_features = reader.Little<uint64_t>();
  superblock.incompatible_features = reader.Little<uint64_t>();
  for (uint8_t& byte : superblock.uuid) byte = reader.Little<uint8_t>();
  superblock.created_ns = reader.Little<int64_t>();
  superblock.formatting = reader.Little<uint8_t>() != 0;
  if (superblock.version != kFormatVersion) {
    return Status(Code::kUnsupported,
                  fmt::format("{}: store format {}, this program knows {}: use a newer cairnfs",
                              path, superblock.version, kFormatVersion));
  }
  const uint64_t unknown = (superblock.incompatible_features & ~kKnownIncompatibleFeatures) |
                           (superblock.read_only_features & ~kKnownReadOnlyFeatures);
  if (unknown != 0) {
    return Status(Code::kUnsupported,
                  fmt::format("{}: store features {:#x} are unknown here: use a newer cairnfs",
                              path, unknown));
  }
  return superblock;
}

Result<Superblock> ReadSuperblock(Env& env, const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const std::string bytes, env.ReadWhole(path, 2 * kSuperblockSize));
  return DecodeSuperblock(bytes, path);
}

Superblock NewSuperblock(int64_t now_ns) {
  Superblock superblock;
  superblock.created_ns = now_ns;
  std::random_device random;
  for (uint8_t& byte : superblock.uuid) byte = static_cast<uint8_t>(random());
  superblock.uuid[6] = static_cast<uint8_t>((superblock.uuid[6] & 0x0f) | 0x40);
  superblock.uuid[8] = static_cast<uint8_t>((superblock.uuid[8] & 0x3f) | 0x80);
  return superblock;
}

}  // namespace cairn
