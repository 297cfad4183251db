// CRC-32C (Castagnoli), by ISA-L.
#ifndef CAIRN_SRC_BASE_CRC32C_H_
#define CAIRN_SRC_BASE_CRC32C_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace cairn {

// The CRC-32C of `bytes`, continued from `seed` = the CRC of what came before (0 at the start).
// The standard check value: Crc32c("123456789") == 0xE3069283.
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t seed = 0) noexcept;

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_CRC32C_H_
