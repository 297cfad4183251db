#include "fusefs/hill_climb.h"

#include <algorithm>
#include <array>

#include "src/base/check.h"

namespace cairn {

HillClimb::HillClimb(int least, int first, int most)
    : least_(least), first_(first), most_(most), held_(first) {
  CAIRN_CHECK(least >= 1 && least <= first && first <= most);
  Reset();
}

void HillClimb::Reset() {
  held_ = first_;
  rest_ = kFirstRest;
  move_ = 0;
  moves_lost_ = 0;
  lost_ = 0;
  BeginTrial();
}

void HillClimb::Sample(double rate) {
  ++samples_;
  if (moves_lost_ == kMoves) {
    if (samples_ < rest_) return;
    rest_ = std::min(2 * rest_, kLongestRest);
    moves_lost_ = 0;
    lost_ = 0;
    BeginTrial();
    return;
  }
  if (!trying_) {
    held_rate_ = rate;
    held_sum_ += rate;
    trying_ = true;
    return;
  }
  candidate_sum_ += rate;
  if (rate > held_rate_) ++pairs_won_;
  trying_ = false;
  if (samples_ < 2 * kPairs) return;
  if (pairs_won_ < kPairs - 1 || candidate_sum_ <= kMargin * held_sum_) return LoseTrial();
  lost_ = held_;
  held_ = candidate_;
  moves_lost_ = 0;
  rest_ = kFirstRest;
  BeginTrial();
}

void HillClimb::Abandon() {
  if (moves_lost_ < kMoves && samples_ > 0) LoseTrial();
}

int HillClimb::Candidate(size_t move) const {
  const std::array<int, kMoves> candidates = {held_ / 2, held_ - 1, held_ + 1, 2 * held_};
  return std::clamp(candidates[move], least_, most_);
}

void HillClimb::BeginTrial() {
  trying_ = false;
  samples_ = 0;
  pairs_won_ = 0;
  held_sum_ = 0;
  candidate_sum_ = 0;
  while (moves_lost_ < kMoves && (Candidate(move_) == held_ || Candidate(move_) == lost_)) {
    move_ = (move_ + 1) % kMoves;
    ++moves_lost_;
  }
  candidate_ = Candidate(move_);
}

void HillClimb::LoseTrial() {
  lost_ = candidate_;
  move_ = (move_ + 1) % kMoves;
  ++moves_lost_;
  BeginTrial();
}

}  // namespace cairn
