// fsck: checks a store that no process has open, and puts right what can be put right without
// guessing.
//
// Three severities. A leak is space or a record that nothing refers to: a crash leaves some, no
// data is concerned. A note tells of work that a mount will go on with. Damage is what no crash
// can leave. Repair never makes up data: blocks that are missing stay missing, and reading them
// stays an error.
//
// One thread. Memory grows with the number of files, branches and extent files, not with their
// size.
#ifndef CAIRN_SRC_VOLUME_FSCK_H_
#define CAIRN_SRC_VOLUME_FSCK_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.h"
#include "src/env/env.h"

namespace cairn {

enum class FsckSeverity { kDamage, kLeak, kNote };
std::string_view FsckSeverityName(FsckSeverity severity);

struct FsckFinding {
  FsckSeverity severity = FsckSeverity::kNote;
  std::string code;    // one word for scripts, e.g. "extent-missing"
  std::string where;   // the path of a file, a volume in the mount, or a key of the index
  std::string what;    // a sentence
  uint64_t bytes = 0;  // held for nothing (leaks) or lost (damage)
  bool repaired = false;
};

struct FsckReport {
  // The first of them; `omitted` counts the rest.
  std::vector<FsckFinding> findings;
  uint64_t omitted = 0;
  // Over all findings, omitted ones included.
  uint64_t damage_count = 0;
  uint64_t unrepaired_damage_count = 0;
  uint64_t leak_count = 0;
  uint64_t note_count = 0;
  uint64_t leaked_bytes = 0;
  // What was looked at.
  std::string uuid;
  bool was_clean = false;  // whether the last process had closed the store
  uint64_t volumes = 0;
  uint64_t directories = 0;
  uint64_t snapshots = 0;  // groups
  uint64_t branches = 0;
  uint64_t versions = 0;
  uint64_t extent_files = 0;
  // With check_data: compared with checksums; regions whose checksums are not to be trusted yet.
  uint64_t data_bytes = 0;
  uint64_t open_regions = 0;

  bool sound() const { return unrepaired_damage_count == 0; }
};

struct FsckOptions {
  bool repair = false;
  // Also reads all blocks that have a checksum.
  bool check_data = false;
  // What others who find the store locked are told, e.g. "being checked by process 42".
  std::string holder;
  // How long to wait for a process that is just letting go of the store.
  std::chrono::milliseconds lock_wait{0};
  // Called now and then: which part, and how much of how much of it is done.
  std::function<void(std::string_view part, uint64_t done, uint64_t total)> progress;
};

// Checks the store in `dir`. Damage that keeps the store from being opened at all is a finding as
// well. Errors: kBusy (names the holder), kNotFound and kInvalid (no store there), kUnsupported (a
// later format), kIo, kNoSpace; with repair, an error may leave some of the repairs made.
Result<FsckReport> CheckStore(Env& env, const std::string& dir, const FsckOptions& options);

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_FSCK_H_
