// FaultPlan: which operations of a MemoryEnv fail, and where its power goes off.
//
// Not thread-safe: MemoryEnv guards it with its mutex.
#ifndef CAIRN_SRC_ENV_FAULT_PLAN_H_
#define CAIRN_SRC_ENV_FAULT_PLAN_H_

#include <array>
#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "src/base/status.h"

namespace cairn {

enum class Op : uint8_t {
  kRead,       // File::ReadAt
  kWrite,      // File::WriteAt
  kTruncate,   // File::Truncate
  kPunch,      // File::PunchHole
  kAllocate,   // File::Allocate
  kWriteback,  // File::StartWriteback
  kSync,       // File::Sync
  kQuery,      // File::Info, SeekData, SeekHole, AllocatedIn; Env::Info, List, Space
  kOpen,       // Env::Open
  kRemove,     // Env::Remove, RemoveDir
  kRename,     // Env::Rename
  kCreateDir,  // Env::CreateDir
  kSyncDir,    // Env::SyncDir
  kLock,       // Env::Lock
};
inline constexpr size_t kOpCount = static_cast<size_t>(Op::kLock) + 1;

class OpSet {
 public:
  constexpr OpSet(Op op) : bits_(Bit(op)) {}  // NOLINT: one kind is a set of kinds
  constexpr OpSet(std::initializer_list<Op> ops) {
    for (const Op op : ops) bits_ |= Bit(op);
  }
  static constexpr OpSet Any() {
    OpSet all{};
    all.bits_ = (1u << kOpCount) - 1;
    return all;
  }
  constexpr bool Has(Op op) const { return (bits_ & Bit(op)) != 0; }

 private:
  static constexpr uint32_t Bit(Op op) { return 1u << static_cast<uint32_t>(op); }
  uint32_t bits_ = 0;
};

struct Fault {
  OpSet ops = OpSet::Any();
  uint64_t nth = 1;      // the how-manieth matching operation fails; 1 is the next one
  bool forever = false;  // and every matching one after it
  int error = EIO;
  uint64_t written_bytes = 0;      // how much of a failed write still reaches the file
  std::string path_contains = {};  // empty: every path; a rename matches by either path
};

// Whether the operation at which the power goes off still takes effect. Its caller gets kIo
// either way.
enum class CutSide { kBefore, kAfter };

class FaultPlan {
 public:
  struct Operation {
    Op op;
    bool mutates;  // changes the current or the durable state
    const std::string& path;
    const std::string* other_path = nullptr;
  };
  struct Admission {
    Status status;               // not OK: return it, the operation does not happen
    uint64_t written_bytes = 0;  // a failed write: this much of it does happen
  };

  void Add(Fault fault) { faults_.push_back(std::move(fault)); }
  void ClearFaults() { faults_.clear(); }
  // How many operations failed because of a Fault.
  uint64_t fired_count() const { return fired_count_; }

  // The power goes off at the n-th sync point (File::Sync, SyncDir) / mutating operation from
  // now; 1 is the next one, 0 calls it off.
  void CutAtSync(uint64_t n, CutSide side) { sync_cut_ = {n, side}; }
  void CutAtMutation(uint64_t n, CutSide side) { mutation_cut_ = {n, side}; }
  bool power_on() const { return power_on_; }
  void RestorePower() { power_on_ = true; }

  // Every operation calls Begin before it looks at anything, and a mutating one returns through
  // Finish when it has taken effect.
  Admission Begin(const Operation& operation);
  Status Finish(Status status, const std::string& path) const {
    return power_on_ ? std::move(status) : PowerIsOff(path);
  }

  // Operations begun since construction.
  uint64_t count(OpSet ops) const;
  uint64_t mutation_count() const { return mutation_count_; }

 private:
  struct PlannedCut {
    uint64_t remaining = 0;  // 0: none planned
    CutSide side = CutSide::kBefore;
  };

  static Status PowerIsOff(const std::string& path);
  static bool Matches(const Fault& fault, const Operation& operation);
  // Counts down; true when the power goes off before this operation.
  bool StepCut(PlannedCut& cut);

  std::vector<Fault> faults_;
  PlannedCut sync_cut_;
  PlannedCut mutation_cut_;
  bool power_on_ = true;
  uint64_t fired_count_ = 0;
  uint64_t mutation_count_ = 0;
  std::array<uint64_t, kOpCount> counts_{};
};

}  // namespace cairn

#endif  // CAIRN_SRC_ENV_FAULT_PLAN_H_
