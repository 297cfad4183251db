// Retention: which of a series of snapshots to keep. Pure functions.
#ifndef CAIRN_SNAPSHOT_PRUNE_H_
#define CAIRN_SNAPSHOT_PRUNE_H_

#include <cstdint>
#include <string>
#include <vector>

namespace cairn {

// How many of the newest to keep, and of how many hours, days, weeks (from Monday) and months the
// newest one in each; periods without a snapshot do not count.
struct KeepRules {
  uint32_t last = 0;
  uint32_t hourly = 0;
  uint32_t daily = 0;
  uint32_t weekly = 0;
  uint32_t monthly = 0;

  bool any() const { return last != 0 || hourly != 0 || daily != 0 || weekly != 0 || monthly != 0; }
};

struct PruneCandidate {
  uint64_t id = 0;
  int64_t created_ns = 0;  // since 1970 UTC
  // How far east of UTC local time was at that moment. Days begin at local midnight.
  int64_t utc_offset_seconds = 0;
};

struct PruneDecision {
  uint64_t id = 0;
  bool keep = false;
  bool later_than_now = false;
  std::string reason;  // "hourly 2024-05-01 13:00", "among the newest", "no rule keeps it"
};

// Newest first. With no rule at all everything is kept. So is what is dated later than `now_ns`: a
// clock was wrong then or is now, and it would be the newest of all for as long as that takes.
// It counts for no rule, so that the others are kept as if it were not there.
std::vector<PruneDecision> PlanPrune(std::vector<PruneCandidate> candidates, const KeepRules& rules,
                                     int64_t now_ns);

}  // namespace cairn

#endif  // CAIRN_SNAPSHOT_PRUNE_H_
