// LimitFinder: how many workers may run, from look to look of ConcurrencyLimit's watch: the most
// while requests seldom find nobody, and else what HillClimb finds.
//
// Thread-compatible.
#ifndef CAIRN_FUSEFS_LIMIT_FINDER_H_
#define CAIRN_FUSEFS_LIMIT_FINDER_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "fusefs/hill_climb.h"

namespace cairn {

class LimitFinder {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // So many looks in a row before which somebody was needed are a sample of how fast work is done.
  static constexpr int kLooksPerSample = 4;
  // After so many looks without a sample what was learnt is forgotten.
  static constexpr int kForgetAfter = 50;

  // most >= 1.
  explicit LimitFinder(int most) : most_(most), climb_(1, std::max(1, most - 1), most) {}

  // `saturated`: before this look somebody was needed; `done`: how much was done since the last;
  // `now`: later than at the last.
  int AfterLook(bool saturated, uint64_t done, TimePoint now) {
    if (!climbs_) {
      if (!saturated) return most_;
      climbs_ = true;
      looks_without_sample_ = 0;
      BeginSample(now);
    } else if (++looks_without_sample_ >= kForgetAfter) {
      climbs_ = false;
      climb_.Reset();
      return most_;
    } else if (!saturated) {
      climb_.Abandon();
      BeginSample(now);
    } else {
      done_ += done;
      if (++looks_ == kLooksPerSample) EndSample(now);
    }
    return climb_.value();
  }

 private:
  void BeginSample(TimePoint now) {
    looks_ = 0;
    done_ = 0;
    began_ = now;
  }
  void EndSample(TimePoint now) {
    const std::chrono::duration<double> took = now - began_;
    climb_.Sample(static_cast<double>(done_) / took.count());
    looks_without_sample_ = 0;
    BeginSample(now);
  }

  const int most_;
  HillClimb climb_;
  bool climbs_ = false;  // false: the limit is most_, for requests seldom find nobody
  int looks_without_sample_ = 0;
  int looks_ = 0;  // of the sample
  uint64_t done_ = 0;
  TimePoint began_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_LIMIT_FINDER_H_
