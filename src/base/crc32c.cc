#include "src/base/crc32c.h"

#include <isa-l/crc.h>

namespace cairn {

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t seed) noexcept {
  // ISA-L's crc32_iscsi takes a 32-bit length and a pointer to non-const, and neither
  // pre- nor post-inverts.
  uint32_t crc = ~seed;
  while (!bytes.empty()) {
    const size_t length = bytes.size() < (1u << 30) ? bytes.size() : (1u << 30);
    crc = crc32_iscsi(
        const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(bytes.data())),
        static_cast<int>(length), crc);
    bytes = bytes.subspan(length);
  }
  return ~crc;
}

}  // namespace cairn
