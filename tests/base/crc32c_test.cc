#include "src/base/crc32c.h"

#include <gtest/gtest.h>

#include <string_view>
#include <vector>

namespace cairn {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// The definition, bit by bit.
uint32_t Slow(std::span<const std::byte> bytes) {
  uint32_t crc = ~0u;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
  }
  return ~crc;
}

TEST(Crc32cTest, KnownValues) {
  EXPECT_EQ(Crc32c(Bytes("123456789")), 0xE3069283u);
  EXPECT_EQ(Crc32c({}), 0u);
  const std::vector<std::byte> zeros(32);
  EXPECT_EQ(Crc32c(zeros), 0x8A9136AAu);  // RFC 3720, B.4
}

TEST(Crc32cTest, SeedContinuesAtEverySplit) {
  const std::string_view text = "123456789";
  for (size_t split = 0; split <= text.size(); ++split) {
    const uint32_t head = Crc32c(Bytes(text.substr(0, split)));
    EXPECT_EQ(Crc32c(Bytes(text.substr(split)), head), 0xE3069283u) << split;
  }
}

TEST(Crc32cTest, EveryLengthAndAlignmentAgreesWithTheDefinition) {
  std::vector<std::byte> bytes(1200);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 131 + (i >> 8));
  for (size_t offset = 0; offset < 16; ++offset) {
    for (size_t length = 0; length <= 1100; length += length < 300 ? 1 : 97) {
      const auto piece = std::span<const std::byte>(bytes).subspan(offset, length);
      ASSERT_EQ(Crc32c(piece), Slow(piece)) << offset << "+" << length;
    }
  }
}

}  // namespace
}  // namespace cairn
