// What the records of requests hold of the answers of snapshot verbs (FORMAT.md, records `R`).
//
// No more than cannot be found any more when the request comes again: others may have deleted since
// what it made.
#include "src/volume/request_log.h"
#include "src/volume/snapshot_ops.h"
#include "src/warm/bytes.h"

namespace cairn {
namespace {

Status Damaged() { return Status(Code::kCorrupt, "the record of a request has a wrong length"); }

}  // namespace

std::string SnapshotOps::Encode(const Created& created) {
  std::string answer;
  AppendLittle(answer, created.id.value());
  AppendLittle(answer, created.created_ns);
  AppendLittle(answer, created.member_count);
  AppendLittle(answer, static_cast<int64_t>(created.held.count()));
  return answer;
}

Result<std::optional<SnapshotOps::Created>> SnapshotOps::FindCreated(const Caller& caller) {
  using Maybe = std::optional<Created>;
  CAIRN_ASSIGN_OR_RETURN(const auto answer, parts_.context.requests->FindAnswer(caller));
  if (!answer) return Maybe();
  ByteReader reader(*answer);
  Created created;
  created.id = InodeId(reader.Little<uint64_t>());
  created.created_ns = reader.Little<int64_t>();
  created.member_count = reader.Little<uint64_t>();
  created.held = std::chrono::nanoseconds(reader.Little<int64_t>());
  if (!reader.at_end()) return Damaged();
  return Maybe(created);
}

Result<bool> SnapshotOps::WasDeleted(const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, parts_.context.requests->FindAnswer(caller));
  return answer.has_value();
}

std::string SnapshotOps::Encode(const Cloned& cloned) {
  std::string answer;
  AppendLittle(answer, cloned.inode.value());
  AppendLittle(answer, cloned.parent.value());
  AppendLittle(answer, cloned.volume_count);
  return answer;
}

Result<std::optional<SnapshotOps::Cloned>> SnapshotOps::FindCloned(const Caller& caller) {
  using Maybe = std::optional<Cloned>;
  CAIRN_ASSIGN_OR_RETURN(const auto answer, parts_.context.requests->FindAnswer(caller));
  if (!answer) return Maybe();
  ByteReader reader(*answer);
  Cloned cloned;
  cloned.inode = InodeId(reader.Little<uint64_t>());
  cloned.parent = InodeId(reader.Little<uint64_t>());
  cloned.volume_count = reader.Little<uint64_t>();
  if (!reader.at_end()) return Damaged();
  return Maybe(cloned);
}

Result<std::optional<uint64_t>> SnapshotOps::FindClonedRange(const Caller& caller) {
  using Maybe = std::optional<uint64_t>;
  CAIRN_ASSIGN_OR_RETURN(const auto answer, parts_.context.requests->FindAnswer(caller));
  if (!answer) return Maybe();
  CAIRN_ASSIGN_OR_RETURN(const uint64_t length, DecodeU64(*answer));
  return Maybe(length);
}

std::string SnapshotOps::Encode(const RolledBack& done) {
  std::string answer;
  AppendLittle(answer, done.before.value());
  AppendLittle(answer, done.overwritten);
  AppendLittle(answer, static_cast<uint32_t>(done.before_name.size()));
  answer += done.before_name;
  for (const InodeId inode : done.changed) AppendLittle(answer, inode.value());
  return answer;
}

Result<std::optional<SnapshotOps::RolledBack>> SnapshotOps::FindRolledBack(const Caller& caller) {
  using Maybe = std::optional<RolledBack>;
  CAIRN_ASSIGN_OR_RETURN(const auto answer, parts_.context.requests->FindAnswer(caller));
  if (!answer) return Maybe();
  ByteReader reader(*answer);
  RolledBack done;
  done.before = InodeId(reader.Little<uint64_t>());
  done.overwritten = reader.Little<uint64_t>();
  done.before_name = reader.Bytes(reader.Little<uint32_t>());
  while (reader.ok() && !reader.at_end()) {
    done.changed.push_back(InodeId(reader.Little<uint64_t>()));
  }
  if (!reader.ok()) return Damaged();
  MarkStalePages(done);
  return Maybe(std::move(done));
}

}  // namespace cairn
