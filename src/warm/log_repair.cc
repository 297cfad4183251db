// RepairLogTails of log_check.h, and as much of LevelDB's MANIFEST as it needs.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/log.h"
#include "src/warm/leveldb_format.h"
#include "src/warm/log_check.h"

namespace cairn {
namespace {

constexpr std::string_view kManifestPrefix = "MANIFEST-";
constexpr size_t kCurrentLimitBytes = 4096;

std::optional<uint64_t> ParseNumber(std::string_view digits) {
  uint64_t number = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

// "000123.log" -> 123, given the suffix ".log".
std::optional<uint64_t> FileNumber(std::string_view name, std::string_view suffix) {
  if (!name.ends_with(suffix)) return std::nullopt;
  return ParseNumber(name.substr(0, name.size() - suffix.size()));
}

// What the records of a MANIFEST ("version edits") say about logs and tables, taken together.
class ManifestState {
 public:
  // False when `edit` is not a version edit.
  bool Apply(std::span<const std::byte> edit) {
    rest_ = edit;
    while (!rest_.empty()) {
      if (!ReadField()) return false;
    }
    return true;
  }

  // LevelDB opens no database without these.
  bool complete() const { return log_number_ && has_next_file_ && has_last_sequence_; }
  // REQUIRES: complete().
  // The oldest log with records that no table has; 0 in a database that was only just made.
  uint64_t log_number() const { return *log_number_; }
  bool Replays(uint64_t log) const { return log >= *log_number_ || log == previous_log_; }
  // Whether any edit made the table part of the database, also when a later one took it out again.
  bool Knows(uint64_t table) const { return tables_.contains(table); }

 private:
  enum Tag : uint64_t {
    kComparator = 1,
    kLogNumber = 2,
    kNextFileNumber = 3,
    kLastSequence = 4,
    kCompactPointer = 5,
    kDeletedFile = 6,
    kNewFile = 7,
    kPreviousLogNumber = 9,
  };

  bool ReadField() {
    uint64_t tag = 0;
    uint64_t ignored = 0;
    if (!Varint(tag)) return false;
    switch (tag) {
      case kComparator:
        return Bytes();
      case kLogNumber: {
        uint64_t number = 0;
        if (!Varint(number)) return false;
        log_number_ = number;
        return true;
      }
      case kNextFileNumber:
        has_next_file_ = true;
        return Varint(ignored);
      case kLastSequence:
        has_last_sequence_ = true;
        return Varint(ignored);
      case kCompactPointer:
        return Varint(ignored) && Bytes();
      case kDeletedFile:
        return Varint(ignored) && Varint(ignored);
      case kNewFile: {
        uint64_t table = 0;
        if (!Varint(ignored) || !Varint(table)) return false;
        tables_.insert(table);
        return Varint(ignored) && Bytes() && Bytes();
      }
      case kPreviousLogNumber:
        return Varint(previous_log_);
      default:
        return false;
    }
  }

  bool Varint(uint64_t& value) { return TakeVarint(rest_, value); }

  bool Bytes() {
    uint64_t length = 0;
    if (!Varint(length) || length > rest_.size()) return false;
    rest_ = rest_.subspan(length);
    return true;
  }

  std::span<const std::byte> rest_;
  std::set<uint64_t> tables_;
  std::optional<uint64_t> log_number_;
  uint64_t previous_log_ = 0;
  bool has_next_file_ = false;
  bool has_last_sequence_ = false;
};

Status DamagedAt(const std::string& path, uint64_t offset, std::string_view why) {
  return Status(Code::kCorrupt,
                path + ": offset " + std::to_string(offset) + ": " + std::string(why));
}

struct CheckedLog {
  std::string path;
  LogCheck check;
};

// Fails when `log` is damaged.
Status RequireUndamaged(const CheckedLog& log) {
  if (log.check.damage != LogDamage::kDamaged) return Status::Ok();
  return DamagedAt(log.path, log.check.valid_bytes,
                   "a synced record is bad (a later one shows at offset " +
                       std::to_string(log.check.evidence_offset) + ")");
}

Status CutTornTail(Env& env, const CheckedLog& log) {
  if (log.check.damage != LogDamage::kTornTail) return Status::Ok();
  LogInfo("{}: the last write was interrupted: cutting it from {} to {} bytes", log.path,
          log.check.total_bytes, log.check.valid_bytes);
  CAIRN_ASSIGN_OR_RETURN(const auto file, env.Open(log.path, OpenMode::kReadWrite));
  CAIRN_RETURN_IF_ERROR(file->Truncate(log.check.valid_bytes));
  return file->Sync();
}

// The path of the MANIFEST that CURRENT names; empty when there is no database.
Result<std::string> FindManifest(Env& env, const std::string& db_dir,
                                 const std::vector<std::string>& names) {
  const std::string current = db_dir + "/CURRENT";
  Result<std::string> text = env.ReadWhole(current, kCurrentLimitBytes);
  if (!text.ok() && text.status().code() == Code::kNotFound) {
    // LevelDB makes CURRENT durable before the first log or table.
    for (const std::string& name : names) {
      if (FileNumber(name, ".log") || FileNumber(name, ".ldb") || FileNumber(name, ".sst")) {
        return Status(Code::kCorrupt, current + ": missing, but there is " + name);
      }
    }
    return std::string();
  }
  if (!text.ok() && text.status().code() == Code::kTooLarge) {
    return Status(Code::kCorrupt, current + ": is too large");
  }
  if (!text.ok()) return std::move(text).status();
  std::string_view name = *text;
  if (!name.ends_with('\n')) return Status(Code::kCorrupt, current + ": does not end its line");
  name.remove_suffix(1);
  if (!name.starts_with(kManifestPrefix) || !ParseNumber(name.substr(kManifestPrefix.size()))) {
    return Status(Code::kCorrupt, current + ": does not name a MANIFEST");
  }
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    return Status(Code::kCorrupt, current + ": names a file that is missing: " + std::string(name));
  }
  return db_dir + "/" + std::string(name);
}

// Oldest first.
Result<std::vector<CheckedLog>> CheckReplayedLogs(Env& env, const std::string& db_dir,
                                                  const std::vector<std::string>& names,
                                                  const ManifestState& manifest) {
  std::vector<std::pair<uint64_t, std::string>> replayed;
  for (const std::string& name : names) {
    const std::optional<uint64_t> number = FileNumber(name, ".log");
    if (number && manifest.Replays(*number)) replayed.emplace_back(*number, db_dir + "/" + name);
  }
  std::sort(replayed.begin(), replayed.end());
  // Its name was durable before the MANIFEST spoke of it: with the table that the older log became,
  // or with the MANIFEST's own name.
  const bool found = std::any_of(replayed.begin(), replayed.end(), [&](const auto& log) {
    return log.first == manifest.log_number();
  });
  if (manifest.log_number() != 0 && !found) {
    return Status(Code::kCorrupt, fmt::format("{}/{:06}.log: missing, but the MANIFEST names it",
                                              db_dir, manifest.log_number()));
  }
  std::vector<CheckedLog> logs;
  for (auto& [number, path] : replayed) {
    CAIRN_ASSIGN_OR_RETURN(const LogCheck check, CheckLog(env, path));
    logs.push_back({std::move(path), check});
    CAIRN_RETURN_IF_ERROR(RequireUndamaged(logs.back()));
    if (logs.size() < 2) continue;
    const CheckedLog& older = logs[logs.size() - 2];
    if (older.check.damage == LogDamage::kTornTail) {
      return DamagedAt(older.path, older.check.valid_bytes,
                       "a synced record is bad (a newer log exists)");
    }
  }
  return logs;
}

// LevelDB does the same, but at the end of its opening and only if nothing failed before. What a
// compaction left that ended for lack of space would keep the opening itself from having any.
// A table that an edit took out is left to LevelDB: when the sync of that edit failed, it may be
// gone after a power cut, and the table needed again.
Status RemoveUnknownTables(Env& env, const std::string& db_dir,
                           const std::vector<std::string>& names, const ManifestState& manifest) {
  size_t removed = 0;
  for (const std::string& name : names) {
    std::optional<uint64_t> number = FileNumber(name, ".ldb");
    if (!number) number = FileNumber(name, ".sst");
    if (!number || manifest.Knows(*number)) continue;
    CAIRN_RETURN_IF_ERROR(env.Remove(db_dir + "/" + name));
    ++removed;
  }
  if (removed == 0) return Status::Ok();
  LogInfo("{}: removed {} tables that never became part of the index", db_dir, removed);
  // Some filesystems give the space back only then.
  return env.SyncDir(db_dir);
}

}  // namespace

Status RepairLogTails(Env& env, const std::string& db_dir) {
  Result<std::vector<std::string>> names = env.List(db_dir);
  if (!names.ok()) {
    if (names.status().code() == Code::kNotFound) return Status::Ok();
    return std::move(names).status();
  }
  CAIRN_ASSIGN_OR_RETURN(const std::string manifest_path, FindManifest(env, db_dir, *names));
  if (manifest_path.empty()) return Status::Ok();

  ManifestState state;
  const auto apply = [&](uint64_t offset, std::span<const std::byte> edit) {
    if (state.Apply(edit)) return Status::Ok();
    return DamagedAt(manifest_path, offset, "a record is not a version edit");
  };
  CAIRN_ASSIGN_OR_RETURN(const LogCheck check, CheckLog(env, manifest_path, apply));
  const CheckedLog manifest{manifest_path, check};
  CAIRN_RETURN_IF_ERROR(RequireUndamaged(manifest));
  // CURRENT names a MANIFEST only when its beginning is durable.
  if (!state.complete()) {
    return DamagedAt(manifest_path, check.valid_bytes, "its first records are bad");
  }
  CAIRN_ASSIGN_OR_RETURN(const std::vector<CheckedLog> logs,
                         CheckReplayedLogs(env, db_dir, *names, state));
  CAIRN_RETURN_IF_ERROR(CutTornTail(env, manifest));
  if (!logs.empty()) CAIRN_RETURN_IF_ERROR(CutTornTail(env, logs.back()));
  return RemoveUnknownTables(env, db_dir, *names, state);
}

}  // namespace cairn
