#include "src/volume/block_sums.h"

#include <cstring>

#include "src/base/crc32c.h"

namespace cairn {

bool IsZeros(std::span<const std::byte> bytes) {
  // Each byte equals the next one, and the first is zero.
  return bytes.empty() || (bytes[0] == std::byte{0} &&
                           std::memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0);
}

void AddSum(ChunkSums& sums, uint64_t block, std::span<const std::byte> bytes) {
  if (IsZeros(bytes)) return AddZeros(sums, BlockRange(block, 1));
  sums.mask |= BlockRange(block, 1);
  sums.zero &= ~BlockRange(block, 1);
  sums.crc[block] = Crc32c(bytes);
}

void AddZeros(ChunkSums& sums, BlockMask blocks) {
  sums.mask |= blocks;
  sums.zero |= blocks;
}

bool MatchesSum(const ChunkSums& sums, uint64_t block, std::span<const std::byte> bytes) {
  if (sums.zero & BlockRange(block, 1)) return IsZeros(bytes);
  return sums.crc[block] == Crc32c(bytes);
}

}  // namespace cairn
