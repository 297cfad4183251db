// The small values that policies are made of: words, durations, sizes, rates, windows, lists.
//
// Pure functions, any thread. Every error is kInvalid and says what would be valid.
#ifndef CAIRN_SRC_VOLUME_POLICY_VALUES_H_
#define CAIRN_SRC_VOLUME_POLICY_VALUES_H_

#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/result.h"

namespace cairn {

inline constexpr size_t kMaxWordBytes = 64;
inline constexpr int kMaxZstdLevel = 19;

// 1 to 64 of A-Z a-z 0-9 _ . - : a role, a store's name, a key id.
bool IsWord(std::string_view text);

// A number without a sign: decimal digits only.
Result<uint64_t> ParseNumber(std::string_view text);

// "30d", "12h", "90m", "10s"; a unit is required. At most about 290 000 years, in seconds.
Result<std::chrono::seconds> ParseDuration(std::string_view text);

// "10G", "16M", "4K", "2T" (powers of 1024) or plain bytes.
Result<uint64_t> ParseByteCount(std::string_view text);

// "50M" or "50M/s": bytes a second, not 0.
Result<uint64_t> ParseRate(std::string_view text);

// A span of each day in minutes since midnight; it runs over midnight when end < begin.
struct DayWindow {
  int begin_minute = 0;
  int end_minute = 0;
};
// "22:00-06:00". Begin and end must differ.
Result<DayWindow> ParseDayWindow(std::string_view text);

// So many accesses in so much time.
struct HitRate {
  uint64_t hits = 0;
  std::chrono::seconds period{0};
};
// "3/7d"; neither may be 0.
Result<HitRate> ParseHitRate(std::string_view text);

// "zstd:1" to "zstd:19", or "none": 0.
Result<int> ParseCompression(std::string_view text);

// "a=1,b,c=2": the parts between the commas, each split at its first "=" (no "=": an empty value
// that is not there, which `has_value` tells from "a=").
struct ListItem {
  std::string_view name;  // as `value`, points into the text
  std::string_view value;
  bool has_value = false;
};
std::vector<ListItem> SplitList(std::string_view text);

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_POLICY_VALUES_H_
