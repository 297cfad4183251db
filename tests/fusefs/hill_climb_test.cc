// HillClimb on curves that are known, with rates that vary from sample to sample.
#include "fusefs/hill_climb.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <random>
#include <tuple>

namespace cairn {
namespace {

using Curve = std::function<double(int)>;

// Takes `samples` of rates that differ from the curve's by up to `noise` of themselves. The mean of
// what the values in use give by the curve itself.
double Climb(HillClimb& climb, const Curve& curve, int samples, double noise) {
  static std::minstd_rand random(1);
  std::uniform_real_distribution<double> factor(1 - noise, 1 + noise);
  double sum = 0;
  for (int i = 0; i < samples; ++i) {
    const double rate = curve(climb.value());
    sum += rate;
    climb.Sample(rate * factor(random));
  }
  return sum / samples;
}

double OneIsBest(int value) { return value == 1 ? 2.0 : 1.2 - 0.1 * value; }
double TwoIsBest(int value) { return value == 2 ? 1.15 : (value == 1 ? 0.8 : 1.0); }
double TwentyIsBest(int value) { return 1.0 / (1.0 + std::pow(std::log(value / 20.0), 2)); }

TEST(HillClimb, FindsWhatIsBest) {
  for (const auto& [curve, most, best] : {std::tuple<Curve, int, int>{OneIsBest, 3, 1},
                                          {TwoIsBest, 3, 2},
                                          {OneIsBest, 9, 1},
                                          {TwentyIsBest, 65, 20}}) {
    HillClimb climb(1, most - 1, most);
    EXPECT_EQ(climb.value(), most - 1);
    Climb(climb, curve, 1000, 0.02);
    EXPECT_GT(Climb(climb, curve, 4000, 0.02), 0.95 * curve(best)) << "most " << most;
  }
}

TEST(HillClimb, RatesThatVaryMisleadItSeldom) {
  double worst = 1;
  for (int i = 0; i < 50; ++i) {
    HillClimb climb(1, 3, 3);
    worst = std::min(worst, Climb(climb, TwoIsBest, 4000, 0.15) / TwoIsBest(2));
  }
  // To stay where it begins would give 0.87.
  EXPECT_GT(worst, 0.93);
}

// What a trial of 1 makes of 2, whose rate is 1, if 1 has these rates.
int AfterTrial(const std::array<double, HillClimb::kPairs>& rates) {
  HillClimb climb(1, 2, 2);
  for (const double rate : rates) {
    EXPECT_EQ(climb.value(), 2);
    climb.Sample(1);
    EXPECT_EQ(climb.value(), 1);
    climb.Sample(rate);
  }
  return climb.value();
}

TEST(HillClimb, ChangesToWhatIsBetterNearlyEveryTimeAndByAMargin) {
  EXPECT_EQ(AfterTrial({1.1, 1.1, 1.1, 1.1}), 1);
  EXPECT_EQ(AfterTrial({1.1, 1.1, 0.99, 1.1}), 1);
  EXPECT_EQ(AfterTrial({1.1, 0.99, 0.99, 5}), 2);
  EXPECT_EQ(AfterTrial({1.02, 1.02, 1.02, 1.02}), 2);
}

TEST(HillClimb, FollowsWhatChanges) {
  HillClimb climb(1, 8, 9);
  Climb(climb, OneIsBest, 4000, 0.02);
  EXPECT_GT(Climb(
                climb, [](int value) { return value * 1.0; }, 6000, 0.02),
            0.8 * 9);
  EXPECT_GT(Climb(climb, OneIsBest, 6000, 0.02), 0.8 * 2.0);
}

TEST(HillClimb, RestsWhenNothingIsBetter) {
  HillClimb climb(1, 3, 3);
  const Curve most_is_best = [](int value) { return value == 3 ? 1.0 : 0.0; };
  EXPECT_GT(Climb(climb, most_is_best, 1000, 0), 0.9);
  EXPECT_GT(Climb(climb, most_is_best, 10000, 0), 0.97);
}

TEST(HillClimb, ForgetsWhenReset) {
  HillClimb climb(1, 3, 3);
  Climb(climb, OneIsBest, 1000, 0);
  climb.Reset();
  EXPECT_EQ(climb.value(), 3);
}

TEST(HillClimb, HoldsTheOnlyValueThereIs) {
  HillClimb climb(1, 1, 1);
  for (int i = 0; i < 2000; ++i) {
    EXPECT_EQ(climb.value(), 1);
    climb.Sample(1);
  }
}

}  // namespace
}  // namespace cairn
