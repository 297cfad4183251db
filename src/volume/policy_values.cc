#include "src/volume/policy_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string>

namespace cairn {
namespace {

constexpr uint64_t kMaxSeconds = std::numeric_limits<int64_t>::max() / 1'000'000;

Status Invalid(std::string_view text, std::string_view expected) {
  return Status(Code::kInvalid, fmt::format("'{}' is not {}", text, expected));
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// "HH:MM" as minutes since midnight, or -1.
int ParseTimeOfDay(std::string_view text) {
  const bool shaped = text.size() == 5 && text[2] == ':' && IsDigit(text[0]) && IsDigit(text[1]) &&
                      IsDigit(text[3]) && IsDigit(text[4]);
  if (!shaped) return -1;
  const int hour = (text[0] - '0') * 10 + (text[1] - '0');
  const int minute = (text[3] - '0') * 10 + (text[4] - '0');
  if (hour > 23 || minute > 59) return -1;
  return hour * 60 + minute;
}

struct Unit {
  char letter;
  uint64_t factor;
};

// The number in front of a unit's letter, times the unit; false for anything else.
template <size_t kCount>
bool ParseWithUnit(std::string_view text, const std::array<Unit, kCount>& units, uint64_t limit,
                   uint64_t& product) {
  if (text.empty()) return false;
  const auto* unit = std::find_if(units.begin(), units.end(),
                                  [&](const Unit& one) { return one.letter == text.back(); });
  if (unit == units.end()) return false;
  auto number = ParseNumber(text.substr(0, text.size() - 1));
  if (!number.ok() || *number > limit / unit->factor) return false;
  product = *number * unit->factor;
  return true;
}

}  // namespace

bool IsWord(std::string_view text) {
  return !text.empty() && text.size() <= kMaxWordBytes &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return IsDigit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                  c == '.' || c == '-';
         });
}

Result<uint64_t> ParseNumber(std::string_view text) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (text.empty() || error != std::errc{} || stop != end) {
    return Invalid(text, "a whole number");
  }
  return number;
}

Result<std::chrono::seconds> ParseDuration(std::string_view text) {
  constexpr std::array<Unit, 4> kUnits = {{{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}}};
  uint64_t seconds = 0;
  if (!ParseWithUnit(text, kUnits, kMaxSeconds, seconds)) {
    return Invalid(text, "a duration such as 30d, 12h, 90m or 10s");
  }
  return std::chrono::seconds(static_cast<int64_t>(seconds));
}

Result<uint64_t> ParseByteCount(std::string_view text) {
  constexpr std::array<Unit, 4> kUnits = {
      {{'K', 1ull << 10}, {'M', 1ull << 20}, {'G', 1ull << 30}, {'T', 1ull << 40}}};
  uint64_t bytes = 0;
  if (ParseWithUnit(text, kUnits, std::numeric_limits<int64_t>::max(), bytes)) return bytes;
  auto plain = ParseNumber(text);
  if (plain.ok() && *plain <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return *plain;
  }
  return Invalid(text, "a size such as 10G, 16M, 4K or 4096 (bytes)");
}

Result<uint64_t> ParseRate(std::string_view text) {
  std::string_view bytes = text;
  if (bytes.ends_with("/s")) bytes.remove_suffix(2);
  auto rate = ParseByteCount(bytes);
  if (!rate.ok() || *rate == 0) return Invalid(text, "a rate such as 50M (bytes a second, not 0)");
  return *rate;
}

Result<DayWindow> ParseDayWindow(std::string_view text) {
  if (text.size() == 11 && text[5] == '-') {
    const DayWindow window{ParseTimeOfDay(text.substr(0, 5)), ParseTimeOfDay(text.substr(6))};
    if (window.begin_minute >= 0 && window.end_minute >= 0 &&
        window.begin_minute != window.end_minute) {
      return window;
    }
  }
  return Invalid(text, "a time window such as 22:00-06:00 (HH:MM-HH:MM, begin and end differ)");
}

Result<HitRate> ParseHitRate(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash != std::string_view::npos) {
    auto hits = ParseNumber(text.substr(0, slash));
    auto period = ParseDuration(text.substr(slash + 1));
    if (hits.ok() && *hits > 0 && period.ok() && period->count() > 0) {
      return HitRate{*hits, *period};
    }
  }
  return Invalid(text, "a number of hits in a time such as 3/7d (neither is 0)");
}

Result<int> ParseCompression(std::string_view text) {
  if (text == "none") return 0;
  constexpr std::string_view kPrefix = "zstd:";
  if (text.starts_with(kPrefix)) {
    auto level = ParseNumber(text.substr(kPrefix.size()));
    if (level.ok() && *level >= 1 && *level <= kMaxZstdLevel) return static_cast<int>(*level);
  }
  return Invalid(text, "zstd:1 to zstd:19 or none");
}

std::vector<ListItem> SplitList(std::string_view text) {
  std::vector<ListItem> items;
  for (;;) {
    const size_t comma = text.find(',');
    const std::string_view part = text.substr(0, comma);
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      items.push_back({part, {}, false});
    } else {
      items.push_back({part.substr(0, equals), part.substr(equals + 1), true});
    }
    if (comma == std::string_view::npos) return items;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace cairn
