#include "snapshot/prune.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

namespace cairn {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kHour = 3600;
constexpr int64_t kDay = 24 * kHour;
// 1970-01-01 was a Thursday; weeks begin on Monday.
constexpr int64_t kDaysFromMonday = 3;

int64_t FloorDivide(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

// Of one length of period: how many are still to be filled, and the one that was filled last.
struct Series {
  const char* name;
  uint32_t left;
  int64_t (*period_of)(int64_t local_seconds, int64_t utc_offset_seconds);
  std::optional<int64_t> last = {};
};

// The hour that clocks show twice when summer ends is two hours.
int64_t HourOf(int64_t seconds, int64_t offset) {
  return FloorDivide(seconds - offset / kHour * kHour, kHour);
}
int64_t DayOf(int64_t seconds, int64_t /*offset*/ = 0) { return FloorDivide(seconds, kDay); }
int64_t WeekOf(int64_t seconds, int64_t /*offset*/) {
  return FloorDivide(DayOf(seconds) + kDaysFromMonday, 7);
}

std::chrono::year_month_day DateOf(int64_t seconds) {
  return std::chrono::year_month_day(std::chrono::sys_days(std::chrono::days(DayOf(seconds))));
}

int64_t MonthOf(int64_t seconds, int64_t /*offset*/) {
  const auto date = DateOf(seconds);
  return static_cast<int>(date.year()) * 12 + static_cast<int>(unsigned{date.month()});
}

std::string TimeText(int64_t seconds) {
  const auto date = DateOf(seconds);
  return fmt::format("{:04}-{:02}-{:02} {:02}:00", static_cast<int>(date.year()),
                     unsigned{date.month()}, unsigned{date.day()},
                     (seconds - DayOf(seconds) * kDay) / kHour);
}

}  // namespace

std::vector<PruneDecision> PlanPrune(std::vector<PruneCandidate> candidates, const KeepRules& rules,
                                     int64_t now_ns) {
  std::sort(candidates.begin(), candidates.end(), [](const auto& a, const auto& b) {
    return a.created_ns != b.created_ns ? a.created_ns > b.created_ns : a.id > b.id;
  });
  Series series[] = {{"hourly", rules.hourly, HourOf},
                     {"daily", rules.daily, DayOf},
                     {"weekly", rules.weekly, WeekOf},
                     {"monthly", rules.monthly, MonthOf}};
  uint32_t last_left = rules.last;
  std::vector<PruneDecision> decisions;
  for (const PruneCandidate& candidate : candidates) {
    const int64_t offset = candidate.utc_offset_seconds;
    const int64_t seconds = FloorDivide(candidate.created_ns, kSecond) + offset;
    PruneDecision decision{.id = candidate.id, .reason = "no rule keeps it"};
    const auto keep = [&](std::string reason) {
      if (!decision.keep) decision.reason = std::move(reason);
      decision.keep = true;
    };
    if (candidate.created_ns > now_ns) {
      decision.later_than_now = true;
      keep("dated later than now");
      decisions.push_back(std::move(decision));
      continue;
    }
    if (!rules.any()) keep("no rule was given");
    if (last_left > 0) {
      --last_left;
      keep("among the newest");
    }
    for (Series& each : series) {
      const int64_t period = each.period_of(seconds, offset);
      if (each.left == 0 || each.last == period) continue;
      each.last = period;
      --each.left;
      keep(fmt::format("{} {}", each.name, TimeText(seconds)));
    }
    decisions.push_back(std::move(decision));
  }
  return decisions;
}

}  // namespace cairn
