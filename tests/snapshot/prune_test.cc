#include "snapshot/prune.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

constexpr int64_t kHour = 3600ll * 1'000'000'000;
constexpr int64_t kDay = 24 * kHour;

constexpr int64_t kNow = 1000 * kDay;

std::vector<PruneDecision> Plan(const std::vector<PruneCandidate>& all, const KeepRules& rules) {
  return PlanPrune(all, rules, kNow);
}

std::vector<uint64_t> Kept(const std::vector<PruneDecision>& decisions) {
  std::vector<uint64_t> ids;
  for (const PruneDecision& decision : decisions) {
    if (decision.keep) ids.push_back(decision.id);
  }
  return ids;
}

TEST(PruneTest, WithoutRulesEverythingIsKept) {
  EXPECT_EQ(Kept(Plan({{1, 0}, {2, kHour}}, {})), (std::vector<uint64_t>{2, 1}));
}

TEST(PruneTest, TheNewestOfEachPeriodIsKeptAndEmptyPeriodsDoNotCount) {
  // Two in each of hours 0, 1 and 30.
  const std::vector<PruneCandidate> all = {
      {1, 0}, {2, kHour / 2}, {3, kHour}, {4, 3 * kHour / 2}, {5, 30 * kHour}, {6, 61 * kHour / 2}};
  EXPECT_EQ(Kept(Plan(all, {.hourly = 2})), (std::vector<uint64_t>{6, 4}));
  EXPECT_EQ(Kept(Plan(all, {.daily = 5})), (std::vector<uint64_t>{6, 4}));
  EXPECT_EQ(Kept(Plan(all, {.last = 1})), (std::vector<uint64_t>{6}));
  EXPECT_EQ(Kept(Plan(all, {.last = 3, .hourly = 9})), (std::vector<uint64_t>{6, 5, 4, 2}));
}

TEST(PruneTest, WeeksBeginOnMondayAndMonthsAreThoseOfTheCalendar) {
  // 1970-01-04 was a Sunday, the 5th a Monday.
  const std::vector<PruneCandidate> all = {
      {1, 3 * kDay}, {2, 4 * kDay}, {3, 30 * kDay}, {4, 31 * kDay}};
  EXPECT_EQ(Kept(Plan(all, {.weekly = 9})), (std::vector<uint64_t>{4, 2, 1}));
  EXPECT_EQ(Kept(Plan(all, {.monthly = 9})), (std::vector<uint64_t>{4, 3}));
}

TEST(PruneTest, DaysBeginAtLocalMidnight) {
  const std::vector<PruneCandidate> all = {{1, 22 * kHour}, {2, 23 * kHour}, {3, 25 * kHour}};
  EXPECT_EQ(Kept(Plan(all, {.daily = 9})), (std::vector<uint64_t>{3, 2}));
  std::vector<PruneCandidate> east = all;
  for (PruneCandidate& each : east) each.utc_offset_seconds = 3600;
  EXPECT_EQ(Kept(Plan(east, {.daily = 9})), (std::vector<uint64_t>{3, 1}));
}

TEST(PruneTest, ASnapshotStaysInItsDayWhenClocksChange) {
  // Made at half past eleven in the evening, one hour and then two hours east of UTC.
  const std::vector<PruneCandidate> all = {{1, 21 * kHour, 3600},
                                           {2, 45 * kHour / 2, 3600},
                                           {3, kDay + 41 * kHour / 2, 7200},
                                           {4, kDay + 43 * kHour / 2, 7200}};
  EXPECT_EQ(Kept(Plan(all, {.daily = 9})), (std::vector<uint64_t>{4, 2}));
}

TEST(PruneTest, AnHourThatClocksShowTwiceIsTwoHours) {
  const std::vector<PruneCandidate> all = {{1, 10 * kHour, 7200}, {2, 11 * kHour, 3600}};
  EXPECT_EQ(Kept(Plan(all, {.hourly = 9})), (std::vector<uint64_t>{2, 1}));
}

TEST(PruneTest, TimesBefore1970AreInOrder) {
  EXPECT_EQ(Kept(Plan({{1, -kHour / 2}, {2, kHour / 2}}, {.hourly = 9})),
            (std::vector<uint64_t>{2, 1}));
}

TEST(PruneTest, SnapshotsOfTheFutureAreKeptAndTakeNobodysPlace) {
  const std::vector<PruneCandidate> all = {
      {1, kNow - kDay}, {2, kNow}, {3, kNow + 1}, {4, kNow + kHour}};
  for (const KeepRules& rules : {KeepRules{.last = 1}, KeepRules{.hourly = 1},
                                 KeepRules{.daily = 1}, KeepRules{.monthly = 1}}) {
    const std::vector<PruneDecision> decisions = Plan(all, rules);
    EXPECT_EQ(Kept(decisions), (std::vector<uint64_t>{4, 3, 2}));
    for (const PruneDecision& each : decisions) {
      EXPECT_EQ(each.later_than_now, each.id > 2);
      EXPECT_EQ(each.reason == "dated later than now", each.id > 2);
    }
  }
}

TEST(PruneTest, RulesWhoseSumWrapsAreRules) {
  constexpr uint32_t kHalf = 1u << 31;
  EXPECT_EQ(Kept(Plan({{1, 0}, {2, 1}}, {.hourly = kHalf, .daily = kHalf})),
            (std::vector<uint64_t>{2}));
}

}  // namespace
}  // namespace cairn
