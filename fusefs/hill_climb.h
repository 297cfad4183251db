// HillClimb: finds the whole number in a range that gives the highest rate, by trying.
//
// In a trial it uses another value in turn with the one it holds, for kPairs samples of each, and
// changes to it if that was better in nearly all pairs, and in all by kMargin: one sample says
// little on a machine that others use as well. It tries half, one less, one more and double. The
// kind of step that won is tried again at once; when all have lost it rests, at first for
// kFirstRest samples, then for twice as long each time, up to kLongestRest: to look in vain costs
// little.
//
// Thread-compatible.
#ifndef CAIRN_FUSEFS_HILL_CLIMB_H_
#define CAIRN_FUSEFS_HILL_CLIMB_H_

#include <cstddef>

namespace cairn {

class HillClimb {
 public:
  static constexpr int kFirstRest = 64;
  static constexpr int kLongestRest = 256;
  static constexpr int kPairs = 4;
  static constexpr double kMargin = 1.03;

  // 1 <= least <= first <= most.
  HillClimb(int least, int first, int most);

  // What to use until the next sample.
  int value() const { return trying_ ? candidate_ : held_; }
  // `rate`: what value() gave since the call before this one.
  void Sample(double rate);
  // What comes next cannot be compared with the samples before: a trial that has begun is lost.
  void Abandon();
  // Back to `first`: the rates of before say nothing about what comes.
  void Reset();

 private:
  static constexpr size_t kMoves = 4;

  // Tries from the move `move_` on, or rests if all have lost.
  void BeginTrial();
  void LoseTrial();
  int Candidate(size_t move) const;

  const int least_;
  const int first_;
  const int most_;
  int held_;
  int rest_ = kFirstRest;  // samples, the next time
  size_t move_ = 0;        // that is tried
  size_t moves_lost_ = 0;  // since held_ changed or the last rest; kMoves: at rest
  int lost_ = 0;           // the value that lost last, since the last rest; 0: none

  // Of the trial, or of the rest:
  int samples_ = 0;
  int candidate_ = 0;
  bool trying_ = false;  // value() is the candidate
  double held_rate_ = 0;
  double held_sum_ = 0;
  double candidate_sum_ = 0;
  int pairs_won_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_HILL_CLIMB_H_
