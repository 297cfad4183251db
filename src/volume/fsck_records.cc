// Reads every record of the index with its checksums, and fills the tables that the other parts
// look things up in.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "src/volume/fsck_state.h"
#include "src/warm/warm_format.h"

namespace cairn::fsck {
namespace {

using Severity = FsckSeverity;
using Repair = State::Repair;

class RecordReader {
 public:
  explicit RecordReader(State& state) : state_(state) {}

  Status ReadAll() {
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kInode, &RecordReader::OnInode));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kBranch, &RecordReader::OnBranch));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kDeadBranch, &RecordReader::OnDeadBranch));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kCounter, &RecordReader::OnCounter));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kOrphan, &RecordReader::OnOrphan));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kName, &RecordReader::OnName));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kListing, &RecordReader::OnListing));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kXattr, &RecordReader::OnXattr));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kExtent, &RecordReader::OnExtent));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kVersion, &RecordReader::OnVersion));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kRegion, &RecordReader::OnRegion));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kSums, &RecordReader::OnSums));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kRequest, &RecordReader::OnRequest));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kGroup, &RecordReader::OnGroup));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kToken, &RecordReader::OnToken));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kView, &RecordReader::OnView));
    CAIRN_RETURN_IF_ERROR(Read(KeyKind::kClean, &RecordReader::OnClean));
    CAIRN_RETURN_IF_ERROR(ReadUnknown());
    CollectReferenced();
    return Status::Ok();
  }

 private:
  using Handler = Status (RecordReader::*)(std::string_view key, std::string_view value);

  // A kind's records, each by `handler`, whose error is the finding that it cannot be decoded.
  Status Read(KeyKind kind, Handler handler) {
    state_.Progress("records", read_, 0);
    Status walked = state_.store.index().ForEachRaw(
        kind,
        [&](std::string_view key, std::string_view value) {
          if (++read_ % 65536 == 0) state_.Progress("records", read_, 0);
          Status status = (this->*handler)(key, value);
          if (!status.ok()) Unreadable("record", KeyText(key), status.context());
          return true;
        },
        /*verify=*/true);
    return ReportWalk(std::move(walked));
  }

  Status ReadUnknown() {
    return ReportWalk(state_.store.index().ForEachUnknown([&](std::string_view key) {
      Unreadable("unknown-record", KeyText(key),
                 "a kind of record that this program does not know: use a newer one");
      return true;
    }));
  }

  Status ReportWalk(Status walked) {
    if (walked.code() != Code::kCorrupt) return walked;
    Unreadable("index", state_.store.dir() + "/index", walked.context());
    return Status::Ok();
  }

  void Unreadable(std::string code, std::string where, std::string what) {
    state_.index_readable = false;
    state_.Add({Severity::kDamage, std::move(code), std::move(where), std::move(what)},
               Repair::kNo);
  }

  Status OnInode(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    // `.snapshots` has a number of its own.
    if (InodeId(id) != kSnapshotsInode) NoteId(id);
    CAIRN_ASSIGN_OR_RETURN(const InodeRecord record, DecodeInode(value));
    state_.inodes.push_back({InodeId(id), record});
    if (record.kind == FileKind::kDirectory) ++state_.report.directories;
    if (record.kind == FileKind::kVolume) ++state_.report.volumes;
    return Status::Ok();
  }

  Status OnBranch(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    NoteId(id);
    CAIRN_ASSIGN_OR_RETURN(const BranchRecord record, DecodeBranch(value));
    BranchEntry entry;
    entry.id = BranchId(id);
    entry.record = record;
    state_.branches.push_back(entry);
    ++state_.report.branches;
    return Status::Ok();
  }

  Status OnDeadBranch(std::string_view key, std::string_view) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    NoteId(id);
    state_.dead.push_back(BranchId(id));
    return Status::Ok();
  }

  Status OnCounter(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t number, DecodeU64(value));
    if (key == CounterKey(kNextIdCounter)) state_.next_id = number;
    return Status::Ok();
  }

  Status OnOrphan(std::string_view key, std::string_view) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    NoteId(id);
    if (InodeEntry* const entry = state_.FindInode(InodeId(id))) entry->orphan = true;
    return Status::Ok();
  }

  Status OnName(std::string_view key, std::string_view value) {
    CAIRN_RETURN_IF_ERROR(StatusOf(DecodeIdNameKey(key)));
    return StatusOf(DecodeU64(value));
  }
  Status OnListing(std::string_view key, std::string_view) {
    return StatusOf(DecodeListingKey(key));
  }
  Status OnXattr(std::string_view key, std::string_view) { return StatusOf(DecodeIdNameKey(key)); }

  Status OnExtent(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const ExtentId id, DecodeExtentKey(key));
    NoteBranch(state_.extent_branches, id.branch);
    if (id.epoch == Epoch(0) || id.segment.value() >= kMaxVolumeSize / kSegmentSize) {
      return Status(Code::kCorrupt, "an extent that no volume can have");
    }
    return StatusOf(DecodeU64(value));
  }

  Status OnVersion(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const VersionKeyParts parts, DecodeVersionKey(key));
    NoteBranch(state_.version_branches, parts.branch);
    ++state_.report.versions;
    if (parts.epoch == Epoch(0) || parts.chunk.value() >= kMaxVolumeSize / kChunkSize) {
      return Status(Code::kCorrupt, "a version of a chunk that no volume can have");
    }
    CAIRN_ASSIGN_OR_RETURN(const VersionRecord record, DecodeVersion(value));
    if (!record.tombstones.empty()) {
      return Status(Code::kCorrupt, "blocks in the cold tier, which this program does not know");
    }
    return Status::Ok();
  }

  Status OnRegion(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const RegionId id, DecodeRegionKey(key));
    NoteBranch(state_.seal_branches, id.branch);
    constexpr uint64_t kRegions = kMaxVolumeSize / kChunkSize / kChunksPerRegion;
    if (id.epoch == Epoch(0) || id.number >= kRegions) {
      return Status(Code::kCorrupt, "a region that no volume can have");
    }
    return StatusOf(DecodeRegion(value));
  }

  Status OnSums(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const SumsKeyParts parts, DecodeSumsKey(key));
    NoteBranch(state_.seal_branches, parts.branch);
    if (parts.epoch == Epoch(0) || parts.chunk.value() >= kMaxVolumeSize / kChunkSize) {
      return Status(Code::kCorrupt, "checksums of a chunk that no volume can have");
    }
    return StatusOf(DecodeSums(value));
  }

  // What a mount leaves that ended without its last server; the next one takes it away.
  Status OnRequest(std::string_view key, std::string_view) { return StatusOf(DecodeIdKey(key)); }
  Status OnGroup(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    NoteId(id);
    CAIRN_ASSIGN_OR_RETURN(const GroupRecord record, DecodeGroup(value));
    state_.groups.push_back({InodeId(id), record});
    ++state_.report.snapshots;
    return Status::Ok();
  }
  Status OnToken(std::string_view, std::string_view value) { return StatusOf(DecodeU64(value)); }
  Status OnView(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(View view, DecodeViewKey(key));
    CAIRN_ASSIGN_OR_RETURN(view.kind, DecodeView(value));
    state_.views.push_back(view);
    NoteId(view.branch.value());
    NoteId(view.viewer);
    return Status::Ok();
  }
  Status OnClean(std::string_view key, std::string_view) {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    NoteId(id);
    state_.marked.push_back(BranchId(id));
    return Status::Ok();
  }

  template <typename T>
  static Status StatusOf(Result<T> result) {
    return result.ok() ? Status::Ok() : std::move(result).status();
  }

  void NoteId(uint64_t id) { state_.largest_id = std::max(state_.largest_id, id); }

  // Records come by branch, so each is new once.
  void NoteBranch(std::vector<BranchId>& branches, BranchId id) {
    if (!branches.empty() && branches.back() == id) return;
    branches.push_back(id);
    NoteId(id.value());
  }

  void CollectReferenced() {
    std::vector<BranchId>& all = state_.referenced;
    for (const BranchEntry& branch : state_.branches) {
      all.push_back(branch.id);
      all.push_back(branch.record.parent);
    }
    for (const InodeEntry& inode : state_.inodes) all.push_back(inode.record.branch);
    for (const View& view : state_.views) all.push_back(view.branch);
    all.insert(all.end(), state_.marked.begin(), state_.marked.end());
    all.insert(all.end(), state_.dead.begin(), state_.dead.end());
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
  }

  State& state_;
  uint64_t read_ = 0;
};

}  // namespace

Status CheckRecords(State& state) {
  CAIRN_RETURN_IF_ERROR(RecordReader(state).ReadAll());
  const InodeEntry* const root = state.FindInode(kRootInode);
  if (root == nullptr || root->record.kind != FileKind::kDirectory) {
    // Without a root every name would look lost.
    state.index_readable = false;
    state.Add({Severity::kDamage, "root", "/", "the root is not a directory"}, Repair::kNo);
  }
  return Status::Ok();
}

void CheckTables(State& state) {
  const std::string where = state.store.dir() + "/index";
  std::map<std::string, Status> damaged = state.store.index().damaged_tables();
  // Before the first one is written anew, which may take others away.
  std::erase_if(damaged, [&](const auto& table) {
    const auto& [path, damage] = table;
    if (state.store.env().Info(path).status().code() != Code::kNotFound) return false;
    state.Add({Severity::kNote, "index-table", where,
               damage.context() + ": its records were written anew meanwhile"},
              Repair::kNo);
    return true;
  });
  for (const auto& [path, damage] : damaged) {
    FsckFinding finding{Severity::kDamage, "index-table", where, damage.context()};
    if (state.index_readable) finding.what += ": its records can all be read";
    if (state.repairing() && state.rewriting.ok()) {
      state.rewriting = state.store.index().RewriteTable(path);
    }
    if (!state.rewriting.ok()) {
      finding.what += ", but not be written anew: " + state.rewriting.context();
    }
    state.Add(std::move(finding), state.rewriting.ok() ? Repair::kYes : Repair::kNo);
  }
}

Status CheckCounter(State& state) {
  const uint64_t next = state.next_id.value_or(kRootInode.value() + 1);
  if (next > state.largest_id) {
    state.next_id = next;
    return Status::Ok();
  }
  state.next_id = state.largest_id + 1;
  const bool repair =
      state.Add({Severity::kDamage, "id-counter", "index",
                 fmt::format("the next id is {}, but {} is in use", next, state.largest_id)},
                Repair::kYes);
  if (!repair) return Status::Ok();
  IndexBatch batch;
  AddCounter(state, batch);
  return state.Commit(batch);
}

void AddCounter(const State& state, IndexBatch& batch) {
  batch.PutRaw(CounterKey(kNextIdCounter), EncodeU64(*state.next_id));
}

}  // namespace cairn::fsck
