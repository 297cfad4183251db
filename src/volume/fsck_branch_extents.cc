#include "src/volume/fsck_branch_extents.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "src/volume/branch_cleaner.h"
#include "src/volume/extent_scan.h"

namespace cairn::fsck {
namespace {

using Severity = FsckSeverity;
using Repair = State::Repair;

constexpr size_t kMaxRanges = 64;
constexpr size_t kDeleteBatch = 4096;
// How many extent files are open at a time: one pass over the versions serves them all.
constexpr size_t kScanGroup = 64;
constexpr ChunkIndex kLastChunk(~uint64_t{0});

uint64_t ChunkEndInSegment(ChunkIndex chunk) {
  return OffsetInSegment(ChunkStart(chunk)) + kChunkSize;
}

}  // namespace

void BranchExtents::Lost::Add(uint64_t begin, uint64_t end) {
  bytes += end - begin;
  if (!ranges.empty() && ranges.back().second == begin) {
    ranges.back().second = end;
  } else if (ranges.size() < kMaxRanges) {
    ranges.emplace_back(begin, end);
  } else {
    ++omitted;
  }
}

std::string BranchExtents::Lost::Text() const {
  std::string text;
  for (const auto& [begin, end] : ranges) {
    text += fmt::format("{}{}-{}", text.empty() ? "" : ", ", begin, end - 1);
  }
  if (omitted > 0) text += fmt::format(" and {} more pieces", omitted);
  return text;
}

Status BranchExtents::Check() {
  CAIRN_RETURN_IF_ERROR(CheckBehindEnd());
  CAIRN_RETURN_IF_ERROR(CollectFacts());
  CAIRN_RETURN_IF_ERROR(CheckEpoch());
  CAIRN_RETURN_IF_ERROR(CheckNeeded());
  for (const auto& [id, facts] : facts_) CAIRN_RETURN_IF_ERROR(Judge(id, facts));
  CAIRN_RETURN_IF_ERROR(state_.Commit(batch_));
  // Files go after the records that spoke of them.
  for (const ExtentId& id : to_remove_) {
    CAIRN_RETURN_IF_ERROR(state_.store.extents().Remove(id));
  }
  return branch_.shared ? Status::Ok() : ScanLeaks();
}

// Whether something may lie beneath a version of this epoch that would come to light without it.
bool BranchExtents::MayHide(Epoch epoch) const {
  return epoch > Epoch(1) || branch_.record.parent != BranchId(0);
}

// Versions that a snapshot or a clone may see stay, whatever the volume's size is now; so does what
// hides them from the volume.
bool BranchExtents::IsBehindEnd(ChunkIndex chunk, Epoch epoch, const VersionRecord& record) const {
  if (record.extent == 0 && MayHide(epoch)) return false;
  return branch_.volume != nullptr && !branch_.shared &&
         chunk.value() >= ChunkCount(branch_.volume->record.size) && epoch > branch_.newest_view;
}

Status BranchExtents::ForEachVersion(const VersionSink& sink) {
  Status status;
  CAIRN_RETURN_IF_ERROR(state_.Tolerate(state_.store.index().ForEachVersion(
      branch_.id, ChunkIndex(0), kLastChunk,
      [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& record) {
        if (!IsBehindEnd(chunk, epoch, record)) status = sink(chunk, epoch, record);
        return status.ok();
      })));
  return status;
}

// The volume shows zeros there when it grows, as before.
void BranchExtents::TakeAway(ChunkIndex chunk, Epoch epoch) {
  if (!MayHide(epoch)) return batch_.DeleteVersion(branch_.id, chunk, epoch);
  VersionRecord zeros;
  zeros.zero = kAllBlocks;
  batch_.PutVersion(branch_.id, chunk, epoch, zeros);
}

// In pieces, since a truncation that was cut short may leave millions.
Status BranchExtents::CheckBehindEnd() {
  if (branch_.volume == nullptr || branch_.shared) return Status::Ok();
  uint64_t count = 0;
  ChunkIndex from(ChunkCount(branch_.volume->record.size));
  for (bool more = true; more;) {
    more = false;
    CAIRN_RETURN_IF_ERROR(state_.Tolerate(state_.store.index().ForEachVersion(
        branch_.id, from, kLastChunk,
        [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& record) {
          if (!IsBehindEnd(chunk, epoch, record)) return true;
          // Whole chunks at a time, so that the next piece can begin at a chunk.
          if (state_.repairing() && batch_.count() >= kDeleteBatch && chunk != from) {
            from = chunk;
            more = true;
            return false;
          }
          from = chunk;
          ++count;
          if (state_.repairing()) TakeAway(chunk, epoch);
          return true;
        })));
    CAIRN_RETURN_IF_ERROR(state_.Commit(batch_));
  }
  if (count > 0) {
    state_.Add({Severity::kLeak, "behind-end", state_.NameOf(branch_.id),
                fmt::format("{} version records lie behind the volume's end", count)},
               Repair::kYes);
  }
  return Status::Ok();
}

// Blocks that no view shows, and that nobody is about to give back.
Status BranchExtents::CheckNeeded() {
  if (branch_.to_be_cleaned || branch_.shared || !state_.index_readable) return Status::Ok();
  std::vector<Epoch> views = branch_.views;
  if (branch_.volume != nullptr) views.push_back(branch_.record.epoch);
  // Nobody knows whose data it is: it is kept.
  if (views.empty()) return Status::Ok();
  std::sort(views.begin(), views.end());
  uint64_t bytes = 0;
  ChunkIndex current;
  std::vector<std::pair<Epoch, VersionRecord>> versions;
  const auto judge = [&] {
    const std::vector<BlockMask> needed = NeededBlocks(versions, views);
    for (size_t i = 0; i < versions.size(); ++i) {
      const BlockMask unneeded = versions[i].second.extent & ~needed[i];
      bytes += static_cast<uint64_t>(std::popcount(unneeded)) * kBlockSize;
    }
    versions.clear();
  };
  CAIRN_RETURN_IF_ERROR(
      ForEachVersion([&](ChunkIndex chunk, Epoch epoch, const VersionRecord& record) {
        if (chunk != current) judge();
        current = chunk;
        versions.emplace_back(epoch, record);
        return Status::Ok();
      }));
  judge();
  if (bytes == 0) return Status::Ok();
  if (state_.Add({Severity::kLeak, "unneeded-blocks", state_.NameOf(branch_.id),
                  fmt::format("{} bytes of branch {} that no volume, snapshot or clone shows",
                              bytes, branch_.id.value()),
                  bytes},
                 Repair::kYes)) {
    batch_.PutClean(branch_.id);
  }
  return Status::Ok();
}

Status BranchExtents::CollectFacts() {
  CAIRN_RETURN_IF_ERROR(
      ForEachVersion([&](ChunkIndex chunk, Epoch epoch, const VersionRecord& record) {
        newest_ = std::max(newest_, epoch);
        if (record.extent == 0) return Status::Ok();
        uint64_t& end = facts_[{branch_.id, epoch, SegmentOf(chunk)}].needed_end;
        end = std::max(end, ChunkEndInSegment(chunk));
        return Status::Ok();
      }));
  CAIRN_RETURN_IF_ERROR(state_.Tolerate(
      state_.store.index().ForEachExtent(branch_.id, [&](const ExtentId& id, uint64_t size) {
        newest_ = std::max(newest_, id.epoch);
        facts_[id].record_size = size;
        return true;
      })));
  for (const ExtentId& id : files_) facts_[id];
  for (auto& [id, facts] : facts_) {
    auto info = state_.store.extents().Info(id);
    if (info.ok()) {
      facts.file = *info;
    } else if (info.status().code() != Code::kNotFound) {
      return std::move(info).status();
    }
  }
  return Status::Ok();
}

Status BranchExtents::CheckEpoch() {
  if (newest_ <= branch_.record.epoch) return Status::Ok();
  const uint64_t wrong = branch_.record.epoch.value();
  branch_.record.epoch = newest_;
  if (state_.Add({Severity::kDamage, "epoch-behind", state_.NameOf(branch_.id),
                  fmt::format("its branch {} is at epoch {}, but has records of epoch {}",
                              branch_.id.value(), wrong, newest_.value())},
                 Repair::kYes)) {
    batch_.PutBranch(branch_.id, branch_.record);
  }
  return Status::Ok();
}

Status BranchExtents::Judge(const ExtentId& id, const ExtentFacts& facts) {
  const uint64_t claimed = std::max(facts.needed_end, facts.record_size.value_or(0));
  if (!facts.file || facts.file->size < claimed) return JudgeMissing(id, facts);
  if (facts.needed_end > 0) {
    JudgeRecord(id, facts);
    return Status::Ok();
  }
  if (!facts.record_size) {
    // Made ahead for a cut that did not come, or not written to since: a volume may use it yet.
    const bool empty = facts.file->allocated_bytes == 0;
    if (empty && branch_.volume != nullptr && id.epoch >= branch_.record.epoch) return Status::Ok();
    if (state_.Add({empty ? Severity::kNote : Severity::kLeak, "extent-unrecorded",
                    state_.store.extents().PathOf(id),
                    "an extent file that the index does not know", facts.file->allocated_bytes},
                   branch_.shared ? Repair::kNo : Repair::kYes)) {
      to_remove_.push_back(id);
    }
  }
  return Status::Ok();
}

// The file is long enough; the record has to say so.
void BranchExtents::JudgeRecord(const ExtentId& id, const ExtentFacts& facts) {
  if (facts.record_size.value_or(0) >= facts.needed_end) return;
  const std::string path = state_.store.extents().PathOf(id);
  const bool repair = facts.record_size
                          ? state_.Add({Severity::kDamage, "extent-record-short", path,
                                        fmt::format("its record says {} bytes, versions need {}",
                                                    *facts.record_size, facts.needed_end)},
                                       Repair::kYes)
                          : state_.Add({Severity::kDamage, "extent-record-missing", path,
                                        fmt::format("it has no record, but versions of {} need it",
                                                    state_.NameOf(branch_.id))},
                                       Repair::kYes);
  if (repair) batch_.PutExtent(id, facts.needed_end);
}

Status BranchExtents::JudgeMissing(const ExtentId& id, const ExtentFacts& facts) {
  const uint64_t file_size = facts.file ? facts.file->size : 0;
  CAIRN_ASSIGN_OR_RETURN(const Lost lost, FindLost(id, file_size));
  const char* const code = facts.file ? "extent-short" : "extent-missing";
  std::string what =
      facts.file ? fmt::format("the extent file ends at {}, the index knows of {} bytes", file_size,
                               std::max(facts.needed_end, facts.record_size.value_or(0)))
                 : std::string("the extent file does not exist");
  what += lost.bytes > 0 ? fmt::format("; {} cannot be read at bytes {}", state_.NameOf(branch_.id),
                                       lost.Text())
                         : std::string("; no data is concerned");
  // Where data is gone, the record stays: it is what turns reading into an error.
  const bool harmless = lost.bytes == 0 && facts.needed_end <= file_size && !branch_.shared;
  const bool repair = state_.Add(
      {Severity::kDamage, code, state_.store.extents().PathOf(id), std::move(what), lost.bytes},
      harmless ? Repair::kYes : Repair::kNo);
  if (!repair) return Status::Ok();
  if (facts.file) {
    batch_.PutExtent(id, file_size);
  } else {
    batch_.DeleteExtent(id);
  }
  return Status::Ok();
}

Result<BranchExtents::Lost> BranchExtents::FindLost(const ExtentId& id, uint64_t file_size) {
  Lost lost;
  CAIRN_RETURN_IF_ERROR(
      ForEachVersion([&](ChunkIndex chunk, Epoch epoch, const VersionRecord& record) {
        if (epoch != id.epoch || SegmentOf(chunk) != id.segment) return Status::Ok();
        if (ChunkEndInSegment(chunk) <= file_size) return Status::Ok();
        for (BlockRun run = NextRun(record.extent, 0); run.count > 0;
             run = NextRun(record.extent, run.first + run.count)) {
          for (uint64_t block = run.first; block < run.first + run.count; ++block) {
            const uint64_t begin = ChunkStart(chunk) + block * kBlockSize;
            if (OffsetInSegment(begin) + kBlockSize > file_size) {
              lost.Add(begin, begin + kBlockSize);
            }
          }
        }
        return Status::Ok();
      }));
  return lost;
}

Status BranchExtents::ScanLeaks() {
  std::vector<ExtentId> known;
  for (const auto& [id, facts] : facts_) {
    if (facts.file && (facts.record_size || facts.needed_end > 0)) known.push_back(id);
  }
  for (size_t begin = 0; begin < known.size(); begin += kScanGroup) {
    const size_t count = std::min(kScanGroup, known.size() - begin);
    CAIRN_RETURN_IF_ERROR(ScanGroup(std::span(known).subspan(begin, count)));
  }
  return Status::Ok();
}

Status BranchExtents::ScanGroup(std::span<const ExtentId> group) {
  std::map<ExtentId, ExtentScan> scans;
  for (const ExtentId& id : group) {
    CAIRN_ASSIGN_OR_RETURN(
        auto file,
        state_.store.env().Open(state_.store.extents().PathOf(id),
                                state_.repairing() ? OpenMode::kReadWrite : OpenMode::kReadOnly));
    scans.try_emplace(id, std::move(file), state_.repairing());
  }
  CAIRN_RETURN_IF_ERROR(
      ForEachVersion([&](ChunkIndex chunk, Epoch epoch, const VersionRecord& record) {
        if (record.extent == 0) return Status::Ok();
        const auto scan = scans.find({branch_.id, epoch, SegmentOf(chunk)});
        if (scan == scans.end()) return Status::Ok();
        return scan->second.Cover(OffsetInSegment(ChunkStart(chunk)), record.extent);
      }));
  for (auto& [id, scan] : scans) {
    CAIRN_RETURN_IF_ERROR(scan.Finish());
    if (scan.leaked_bytes() == 0) continue;
    state_.Add({Severity::kLeak, "leaked-blocks", scan.path(),
                fmt::format("{} bytes that no version of {} speaks of", scan.leaked_bytes(),
                            state_.NameOf(branch_.id)),
                scan.leaked_bytes()},
               Repair::kYes);
  }
  return Status::Ok();
}

}  // namespace cairn::fsck
