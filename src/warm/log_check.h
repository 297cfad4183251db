// log_check: tells a log of LevelDB that a crash tore from one that was damaged later.
//
// LevelDB's own reader cannot: it skips bad records and goes on, or, with paranoid checks, refuses
// both. Here it can be told because every batch is written with sync=true: a record was begun only
// when all earlier ones were durable. So what follows the last good record is either what one
// interrupted append left (a torn tail, which nobody was promised) or, when a later record begins
// somewhere behind it, a synced record that went bad (damage).
//
// One case cannot be decided: damage to the last synced record, with nothing behind it, looks like
// a torn append and is taken for one. It loses that one record; the database then is in the state
// before it. The other way round, a torn record whose payload contains a whole valid log fragment
// would be taken for damage: the store then refuses to open, and loses nothing.
//
// All functions here: any thread; nobody may write the files meanwhile.
#ifndef CAIRN_SRC_WARM_LOG_CHECK_H_
#define CAIRN_SRC_WARM_LOG_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "src/base/result.h"
#include "src/base/status.h"
#include "src/env/env.h"

namespace cairn {

enum class LogDamage {
  kNone,
  kTornTail,  // bytes behind valid_bytes that one interrupted append can have left
  kDamaged,   // a record at valid_bytes is bad that had been synced
};

struct LogCheck {
  uint64_t valid_bytes = 0;  // length of the prefix of whole, good records
  uint64_t total_bytes = 0;  // size of the file
  LogDamage damage = LogDamage::kNone;
  uint64_t evidence_offset = 0;  // kDamaged: where the later append shows
};

// Called with each record of the valid prefix and the offset in the file at which it begins, in
// order; an error ends the check with it.
using LogRecordSink = std::function<Status(uint64_t offset, std::span<const std::byte> record)>;

// Reads the log at `path` block by block. Without a sink it needs 32 KiB of memory, with one also
// the longest record. Errors: those of Env (kNotFound when absent) and of `sink`; damage is a
// result, not an error.
Result<LogCheck> CheckLog(Env& env, const std::string& path, const LogRecordSink& sink = nullptr);

// Prepares the database in `db_dir` for an opening with paranoid checks: cuts the torn tails off
// the MANIFEST and the newest log and syncs; then it removes the tables that the MANIFEST never
// named, so that LevelDB has their space to open in. Logs that it would not replay are left alone.
// OK when `db_dir` does not exist or holds no database.
// kCorrupt, naming file and offset, when CURRENT, the MANIFEST or a log is damaged or missing; a
// log that is not the newest counts as damaged when it has a torn tail, since all of it was synced
// before the next was begun. Nothing is changed in that case. Else the errors of Env.
// REQUIRES: the database is closed.
Status RepairLogTails(Env& env, const std::string& db_dir);

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_LOG_CHECK_H_
