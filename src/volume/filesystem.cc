#include "src/volume/filesystem.h"

#include <algorithm>
#include <chrono>
#include <vector>

#include "src/base/log.h"
#include "src/volume/error_board.h"
#include "src/volume/journal_replay.h"
#include "src/volume/maintenance.h"
#include "src/volume/namespace.h"
#include "src/volume/policy.h"
#include "src/volume/request_log.h"
#include "src/volume/snapshot_ops.h"
#include "src/volume/status_json.h"
#include "src/volume/volume_table.h"

namespace cairn {
namespace {

constexpr size_t kOwnJournalBytes = 4u << 20;
constexpr size_t kOwnTableBytes = 1u << 20;
constexpr uint64_t kCopyStep = 1u << 20;
// Less is copied sooner than a clone's batch is committed.
constexpr uint64_t kLeastClone = 1u << 20;
constexpr std::chrono::milliseconds kCloneDeadline{1000};

// `given`, or else memory of one's own.
std::span<std::byte> RegionOr(std::span<std::byte> given, std::vector<uint64_t>& own,
                              size_t bytes) {
  if (!given.empty()) return given;
  own.resize(bytes / sizeof(uint64_t));
  return std::as_writable_bytes(std::span(own));
}

}  // namespace

// Members in the order in which they depend on each other.
struct Filesystem::State {
  State(Parts given_parts, const FilesystemOptions& options)
      : parts(std::move(given_parts)),
        seal_at_close(options.seal_at_close),
        budget(options.chunk_map_bytes),
        seals(options.seal_bytes),
        requests(context),
        table(context, options.idle_volumes),
        names(context, table, [this](InodeId inode) { maintenance.DestroySoon(inode); }),
        maintenance(context, table, *parts.executor,
                    {.flush_interval = options.flush_interval,
                     .seal_after = options.seal_after,
                     .clean_pause = options.clean_pause,
                     .clean_again = options.clean_again}),
        snapshots({context, table, names, [this] { return maintenance.FlushIndex(); }}) {
    context.store = parts.store.get();
    context.budget = &budget;
    context.seals = &seals;
    context.requests = &requests;
    context.views = &views;
    context.clock = parts.clock;
    context.executor = parts.executor;
    context.read_only = options.read_only;
    context.make_room_in_journal = [this] { maintenance.MakeRoomInJournal(); };
    context.note_unsealed = [this](InodeId inode) { maintenance.sealer().NoteUnloaded(inode); };
    context.reclaim_soon = [this](BranchId branch) { maintenance.ReclaimSoon(branch); };
  }

  Parts parts;
  std::vector<uint64_t> own_journal;
  std::vector<uint64_t> own_table;
  std::unique_ptr<IndexJournal> journal;
  std::unique_ptr<MountTable> mount_table;
  const std::chrono::milliseconds seal_at_close;
  ChunkMapBudget budget;
  SealMemory seals;
  BranchViews views;
  VolumeContext context;
  RequestLog requests;
  VolumeTable table;
  Namespace names;
  ErrorBoard errors;
  Maintenance maintenance;
  SnapshotOps snapshots;
};

Filesystem::Filesystem() = default;
Filesystem::~Filesystem() = default;

Result<std::unique_ptr<Filesystem>> Filesystem::Open(Parts parts,
                                                     const FilesystemOptions& options) {
  std::unique_ptr<Filesystem> filesystem(new Filesystem);
  const bool takes_over = parts.takes_over;
  filesystem->state_ = std::make_unique<State>(std::move(parts), options);
  State& state = *filesystem->state_;
  WarmStore& store = *state.context.store;
  const auto journal_region =
      RegionOr(state.parts.journal_region, state.own_journal, kOwnJournalBytes);
  CAIRN_ASSIGN_OR_RETURN(state.journal,
                         IndexJournal::Open(journal_region, store.superblock().uuid));
  state.context.journal = state.journal.get();
  const auto table_region = RegionOr(state.parts.table_region, state.own_table, kOwnTableBytes);
  CAIRN_ASSIGN_OR_RETURN(state.mount_table, MountTable::Open(table_region));
  state.context.mount_table = state.mount_table.get();
  if (!options.read_only) {
    CAIRN_RETURN_IF_ERROR(ReplayJournal(store, *state.journal, *state.mount_table));
    CAIRN_RETURN_IF_ERROR(ReplayTimes(store, *state.mount_table, state.context.clock->NowNs()));
    CAIRN_RETURN_IF_ERROR(store.NoteFeature(kFeatureRequests));
    // Requests of an earlier mount never come again, and this mount counts anew.
    if (!takes_over) CAIRN_RETURN_IF_ERROR(state.requests.ForgetAll());
  }
  CAIRN_RETURN_IF_ERROR(state.maintenance.Start(takes_over));
  return filesystem;
}

Status Filesystem::Close(bool mount_goes_on) {
  State& state = *state_;
  state.maintenance.Stop();
  Status status;
  if (!state.context.read_only) status = state.maintenance.SyncAll();
  // Programs wait while one server makes way for another, which will seal what is left.
  if (status.ok() && !mount_goes_on) SealAll(state.seal_at_close);
  for (const auto& volume : state.table.All()) {
    if (!mount_goes_on) volume->DropPrepared();
    const Status health = volume->Health();
    if (!health.ok() && health.code() != Code::kStale && status.ok()) status = health;
  }
  // A request that the kernel has not sent again yet may still come to the next server.
  if (status.ok() && !state.context.read_only) {
    status = mount_goes_on ? state.requests.ForgetSettled() : state.requests.ForgetAll();
  }
  // Also after a failure: what failed poisoned its volume, whose changes are not to be replayed.
  if (!state.context.read_only) state.journal->Clear();
  const Status closed = state.context.store->Close(status.ok());
  return status.ok() ? closed : status;
}

Result<Attributes> Filesystem::Lookup(InodeId parent, std::string_view name) {
  return state_->names.Lookup(parent, name);
}

Result<Attributes> Filesystem::Create(InodeId parent, std::string_view name, uint32_t mode,
                                      const Caller& caller) {
  return state_->names.Make(FileKind::kVolume, parent, name, mode, caller);
}

Result<Attributes> Filesystem::MakeDirectory(InodeId parent, std::string_view name, uint32_t mode,
                                             const Caller& caller) {
  return state_->names.Make(FileKind::kDirectory, parent, name, mode, caller);
}

Status Filesystem::Unlink(InodeId parent, std::string_view name, const Caller& caller) {
  return state_->names.Unlink(parent, name, caller);
}

Status Filesystem::RemoveDirectory(InodeId parent, std::string_view name, const Caller& caller) {
  return state_->names.RemoveDirectory(parent, name, caller);
}

Status Filesystem::Rename(InodeId parent, std::string_view name, InodeId new_parent,
                          std::string_view new_name, RenameMode mode, const Caller& caller) {
  return state_->names.Rename(parent, name, new_parent, new_name, mode, caller);
}

Status Filesystem::ReadDirectory(InodeId directory, uint64_t cookie,
                                 const std::function<bool(const DirectoryEntry&)>& sink) {
  return state_->names.ReadDirectory(directory, cookie, sink);
}

Result<InodeId> Filesystem::Parent(InodeId inode) { return state_->names.Parent(inode); }

Result<Attributes> Filesystem::GetAttributes(InodeId inode) {
  return state_->names.GetAttributes(inode);
}

Result<Attributes> Filesystem::GetPlainAttributes(InodeId inode) {
  return state_->names.GetPlainAttributes(inode);
}

Result<Attributes> Filesystem::SetAttributes(InodeId inode, const AttributeChange& change,
                                             const Caller&) {
  return state_->names.SetAttributes(inode, change);
}

Status Filesystem::SetXattr(InodeId inode, std::string_view name, std::string_view value,
                            XattrMode mode, const Caller& caller) {
  const auto refuse = [&](Status status) {
    state_->errors.Note(inode, status.context());
    return status;
  };
  const std::string text(name);
  switch (ClassifyXattr(name)) {
    case XattrClass::kPolicy: {
      const Status valid = ValidatePolicy(name, value);
      if (!valid.ok()) return refuse(valid);
      return state_->names.SetXattr(inode, name, value, mode, caller);
    }
    case XattrClass::kUser:
      return state_->names.SetXattr(inode, name, value, mode, caller);
    case XattrClass::kTrigger:
      return refuse(Status(Code::kUnsupported, text + ": this version cannot do that yet"));
    case XattrClass::kState:
      return refuse(Status(Code::kPermission, text + " is shown, not set"));
    case XattrClass::kUnknownCairn:
      return refuse(Status(Code::kInvalid, text + " is no attribute of Cairn's"));
    case XattrClass::kForeign:
      break;
  }
  return Status(Code::kUnsupported, text + ": only user.* attributes are kept");
}

Result<std::string> Filesystem::GetXattr(InodeId inode, std::string_view name) {
  switch (ClassifyXattr(name)) {
    case XattrClass::kPolicy:
      return state_->names.GetInheritedXattr(inode, name);
    case XattrClass::kUser:
      return state_->names.GetOwnXattr(inode, name);
    case XattrClass::kState: {
      if (name == kStatusAttribute) return StatusJson(inode);
      const std::string reason = state_->errors.Find(inode);
      if (!reason.empty()) return reason;
      break;
    }
    case XattrClass::kTrigger:
    case XattrClass::kUnknownCairn:
    case XattrClass::kForeign:
      break;
  }
  return Status(Code::kNoAttribute, std::string(name));
}

Result<std::vector<std::string>> Filesystem::ListXattr(InodeId inode) {
  return state_->names.ListXattr(inode);
}

Status Filesystem::RemoveXattr(InodeId inode, std::string_view name, const Caller& caller) {
  const XattrClass kind = ClassifyXattr(name);
  if (kind == XattrClass::kState) {
    return Status(Code::kPermission, std::string(name) + " is shown, not set");
  }
  if (kind != XattrClass::kPolicy && kind != XattrClass::kUser) {
    return Status(Code::kNoAttribute, std::string(name));
  }
  return state_->names.RemoveXattr(inode, name, caller);
}

Result<std::shared_ptr<Volume>> Filesystem::OpenVolume(InodeId inode, HandleId handle,
                                                       bool truncate) {
  CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<DiskVolume> volume, state_->table.Open(inode, handle));
  if (truncate) {
    const Status status = volume->Truncate(0);
    if (!status.ok()) {
      ReleaseVolume(inode, handle);
      return status;
    }
  }
  return std::shared_ptr<Volume>(std::move(volume));
}

Result<std::shared_ptr<Volume>> Filesystem::FindVolume(InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<DiskVolume> volume, state_->table.Find(inode));
  return std::shared_ptr<Volume>(std::move(volume));
}

void Filesystem::ReleaseVolume(InodeId inode, HandleId handle) {
  if (state_->table.Release(inode, handle)) state_->maintenance.DestroySoon(inode);
}

void Filesystem::SettleRequest(RequestId request) { state_->requests.Settle(request); }

void Filesystem::MarkStalePages(InodeId inode) { state_->mount_table->MarkStalePages(inode); }

void Filesystem::ClearStalePages(InodeId inode) noexcept {
  state_->mount_table->ClearStalePages(inode);
}

std::vector<InodeId> Filesystem::InodesWithStalePages() {
  return state_->mount_table->InodesWithStalePages();
}

Result<Filesystem::Copied> Filesystem::CopyRange(InodeId source, uint64_t source_offset,
                                                 InodeId target, uint64_t target_offset,
                                                 uint64_t length, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto answer, state_->snapshots.FindClonedRange(caller));
  if (answer) return Copied{*answer};
  CAIRN_ASSIGN_OR_RETURN(const auto from, FindVolume(source));
  CAIRN_ASSIGN_OR_RETURN(const auto to, FindVolume(target));
  if (source_offset >= from->size()) return Copied{};
  length = std::min(length, from->size() - source_offset);
  const bool overlap = source == target && source_offset < target_offset + length &&
                       target_offset < source_offset + length;
  if (overlap) return Status(Code::kInvalid, "the ranges overlap");
  uint64_t done = 0;
  if (source_offset == target_offset && length >= kLeastClone) {
    CAIRN_ASSIGN_OR_RETURN(
        done, state_->snapshots.CloneRange(source, target, {source_offset, length}, kCloneDeadline,
                                           caller));
    if (done > 0) return Copied{done};
  }
  std::vector<std::byte> buffer(std::min(length, kCopyStep));
  Status failure;
  while (done < length) {
    // Holes stay holes.
    auto data = from->SeekData(source_offset + done);
    if (!data.ok() && data.status().code() != Code::kNoDevice) {
      failure = std::move(data).status();
      break;
    }
    const uint64_t next = data.ok() ? std::min(*data - source_offset, length) : length;
    if (next > done) {
      failure = to->Zero(target_offset + done, next - done, false);
      if (!failure.ok()) break;
      done = next;
      continue;
    }
    const auto part = std::span(buffer).first(std::min<uint64_t>(buffer.size(), length - done));
    auto got = from->Read(source_offset + done, part);
    if (!got.ok()) {
      failure = std::move(got).status();
      break;
    }
    if (*got == 0) break;
    auto written = to->Write(target_offset + done, part.first(*got));
    if (!written.ok()) {
      failure = std::move(written).status();
      break;
    }
    done += *written;
    if (*written < *got) {
      failure = Status(Code::kIo, "the target took a part only");
      break;
    }
  }
  // What was copied counts: the kernel forgets the target's old pages for as many bytes. The next
  // call meets the failure again.
  if (done > 0 || failure.ok()) return Copied{done, !failure.ok()};
  return failure;
}

Status Filesystem::SyncAll() {
  if (state_->context.read_only) return Status::Ok();
  return state_->maintenance.SyncAll();
}

void Filesystem::SealAll(std::chrono::milliseconds bound) {
  if (!state_->context.read_only) state_->maintenance.sealer().SealAll(bound);
}

SnapshotOps& Filesystem::snapshots() { return state_->snapshots; }

Result<SpaceInfo> Filesystem::Space() { return state_->context.store->Space(); }

Result<std::string> Filesystem::StatusJson(InodeId inode) {
  return DescribeStatus({state_->context, state_->names, state_->table, state_->errors,
                         state_->parts.facts, state_->maintenance.reclaims_waiting()},
                        inode);
}

void Filesystem::NoteError(InodeId inode, const Status& status) {
  state_->errors.Note(inode, status.ToString());
}

}  // namespace cairn
