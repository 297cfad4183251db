#include "src/volume/branch_cleaner.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "src/base/log.h"
#include "src/volume/extent_scan.h"

namespace cairn {
namespace {

constexpr size_t kVersionsPerPiece = 4096;
constexpr size_t kDeletesPerBatch = 4096;
// Pieces that are remembered before they are punched; some ten MiB.
constexpr size_t kMostFreed = 1u << 18;
constexpr size_t kPunchesAtATime = 64;
// How many files are compared with the records in one walk.
constexpr size_t kFilesPerWalk = 64;
constexpr ChunkIndex kLastChunk(ChunkCount(kMaxVolumeSize));

bool IsEmpty(const VersionRecord& version) {
  return version.extent == 0 && version.zero == 0 && version.tombstones.empty();
}

}  // namespace

std::vector<BlockMask> NeededBlocks(const std::vector<std::pair<Epoch, VersionRecord>>& versions,
                                    const std::vector<Epoch>& views) {
  std::vector<BlockMask> needed;
  needed.reserve(versions.size());
  // The blocks that some view which sees this version has not found in a newer one.
  BlockMask open = 0;
  auto view = views.rbegin();
  for (const auto& [epoch, version] : versions) {
    // Views between this version and the one before find nothing newer.
    for (; view != views.rend() && *view >= epoch; ++view) open = kAllBlocks;
    BlockMask all = version.extent | version.zero;
    for (const auto& tombstone : version.tombstones) all |= tombstone.mask;
    needed.push_back(all & open);
    open &= ~all;
  }
  return needed;
}

Result<BranchCleaner::Outcome> BranchCleaner::Run(BranchId branch,
                                                  const BranchViews::Needs& needs) {
  branch_ = branch;
  needs_ = needs;
  if (needs_.views.empty()) return Outcome::kNoViews;
  ChunkIndex next;
  for (bool done = false; !done;) {
    if (options_.stop()) return Outcome::kChanged;
    CAIRN_ASSIGN_OR_RETURN(done, CleanPiece(next));
  }
  // Files that hold nothing any more go as a whole, which is much less work than to punch them.
  CAIRN_RETURN_IF_ERROR(RemoveEmptyFiles());
  CAIRN_RETURN_IF_ERROR(PunchFreed());
  if (options_.thorough) CAIRN_RETURN_IF_ERROR(CompareFiles());
  for (const auto& volume : table_.All()) {
    if (volume->DependsOn(branch_)) volume->ForgetAllocatedBytes(branch_);
  }
  return options_.stop() ? Outcome::kChanged : Finish();
}

void BranchCleaner::Pause() {
  if (options_.pause.count() > 0) std::this_thread::sleep_for(options_.pause);
}

Result<bool> BranchCleaner::CleanPiece(ChunkIndex& next) {
  IndexBatch batch;
  Versions versions;
  ChunkIndex current = next;
  size_t seen = 0;
  bool done = true;
  CAIRN_RETURN_IF_ERROR(index().ForEachVersion(
      branch_, next, kLastChunk, [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
        if (chunk != current) {
          Judge(current, versions, batch);
          versions.clear();
          current = chunk;
          if (seen >= kVersionsPerPiece) {
            done = false;
            return false;
          }
        }
        ++seen;
        // Those of later epochs are not taken to cover anything: a view in between may be new.
        if (epoch <= needs_.newest) versions.emplace_back(epoch, version);
        return true;
      }));
  next = current;
  if (done) Judge(current, versions, batch);
  if (batch.empty()) return done;
  CAIRN_RETURN_IF_ERROR(index().Commit(batch));
  CAIRN_RETURN_IF_ERROR(LetReadersOut({}));
  if (freed_.size() >= kMostFreed) CAIRN_RETURN_IF_ERROR(PunchFreed());
  Pause();
  return done;
}

void BranchCleaner::Judge(ChunkIndex chunk, const Versions& versions, IndexBatch& batch) {
  const std::vector<BlockMask> needed = NeededBlocks(versions, needs_.views);
  for (size_t i = 0; i < versions.size(); ++i) {
    const auto& [epoch, version] = versions[i];
    const ExtentId file{branch_, epoch, SegmentOf(chunk)};
    // The current epoch's are its writer's.
    if (epoch > needs_.last_ended) {
      kept_.insert(file);
      continue;
    }
    VersionRecord left = version;
    left.extent &= needed[i];
    left.zero &= needed[i];
    std::erase_if(left.tombstones,
                  [&](const auto& tombstone) { return (tombstone.mask & needed[i]) == 0; });
    if (left.extent != 0) kept_.insert(file);
    const bool same = left.extent == version.extent && left.zero == version.zero &&
                      left.tombstones.size() == version.tombstones.size();
    if (same) continue;
    if (IsEmpty(left)) {
      batch.DeleteVersion(branch_, chunk, epoch);
      batch.DeleteSums(branch_, epoch, chunk);
    } else {
      batch.PutVersion(branch_, chunk, epoch, left);
    }
    const BlockMask gone = version.extent & ~left.extent;
    for (BlockRun run = NextRun(gone, 0); run.count > 0;
         run = NextRun(gone, run.first + run.count)) {
      const uint64_t offset = OffsetInSegment(ChunkStart(chunk)) + run.first * kBlockSize;
      freed_.push_back({file, offset, run.count * kBlockSize});
    }
  }
}

Status BranchCleaner::LetReadersOut(const std::vector<Epoch>& removed) {
  for (const auto& volume : table_.All()) {
    if (volume->DependsOn(branch_)) volume->LetReadersOut(branch_, removed);
  }
  return Status::Ok();
}

Status BranchCleaner::PunchFreed() {
  const std::vector<Freed> freed = std::exchange(freed_, {});
  std::map<ExtentId, std::shared_ptr<ExtentFile>> files;
  size_t punched = 0;
  for (const Freed& piece : freed) {
    if (++punched % kPunchesAtATime == 0) {
      // What is left is found by comparing the files with the records.
      if (options_.stop()) return Status::Ok();
      Pause();
    }
    auto& file = files[piece.file];
    if (!file) {
      auto opened = context_.store->extents().Open(piece.file, ExtentStore::Mode::kMustExist, 0);
      // What is missing holds nothing; that it is damage is for who reads it to say.
      if (opened.status().code() == Code::kCorrupt) continue;
      if (!opened.ok()) return std::move(opened).status();
      file = std::move(*opened);
    }
    CAIRN_RETURN_IF_ERROR(file->PunchHole(piece.offset, piece.length));
    punched_.insert(piece.file);
  }
  return Status::Ok();
}

// Of ended epochs. The files that no record speaks of are among them when the pass is thorough, and
// when the branch has lost its volume, which may have written to a new one and never synced it.
Status BranchCleaner::RemoveEmptyFiles() {
  std::vector<ExtentId> empty;
  const auto consider = [&](const ExtentId& id) {
    const bool ended =
        id.epoch <= needs_.last_ended || (!needs_.has_head && id.epoch > needs_.views.back());
    if (ended && !kept_.contains(id)) empty.push_back(id);
  };
  CAIRN_RETURN_IF_ERROR(index().ForEachExtent(branch_, [&](const ExtentId& id, uint64_t) {
    consider(id);
    return true;
  }));
  if (options_.thorough || !needs_.has_head) {
    CAIRN_ASSIGN_OR_RETURN(const auto files, context_.store->extents().FilesOf(branch_));
    for (const ExtentId& id : files) consider(id);
  }
  if (empty.empty()) return Status::Ok();
  std::sort(empty.begin(), empty.end());
  empty.erase(std::unique(empty.begin(), empty.end()), empty.end());
  // An epoch is gone when all of its files are.
  std::set<Epoch> gone;
  for (const ExtentId& id : empty) gone.insert(id.epoch);
  for (const ExtentId& id : kept_) gone.erase(id.epoch);
  const std::vector<Epoch> removed(gone.begin(), gone.end());
  // First, so that no sealer enters checksums of them again.
  CAIRN_RETURN_IF_ERROR(LetReadersOut(removed));
  IndexBatch batch;
  for (const ExtentId& id : empty) {
    CAIRN_RETURN_IF_ERROR(DropSums(id));
    batch.DeleteExtent(id);
  }
  CAIRN_RETURN_IF_ERROR(index().Commit(batch));
  // Once more, for who has read the records meanwhile.
  CAIRN_RETURN_IF_ERROR(LetReadersOut(removed));
  for (const ExtentId& id : empty) punched_.erase(id);
  std::erase_if(freed_, [&](const Freed& piece) {
    return std::binary_search(empty.begin(), empty.end(), piece.file);
  });
  return context_.store->extents().RemoveFiles(branch_, empty);
}

Status BranchCleaner::DropSums(const ExtentId& file) {
  const ChunkIndex first(file.segment.value() * (kSegmentSize / kChunkSize));
  const ChunkIndex last(first.value() + kSegmentSize / kChunkSize - 1);
  for (bool more = true; more;) {
    IndexBatch batch;
    CAIRN_RETURN_IF_ERROR(
        index().ForEachSums(branch_, file.epoch, first, last, [&](ChunkIndex chunk) {
          batch.DeleteSums(branch_, file.epoch, chunk);
          return batch.count() < kDeletesPerBatch;
        }));
    more = batch.count() >= kDeletesPerBatch;
    CAIRN_RETURN_IF_ERROR(index().Commit(batch));
  }
  IndexBatch batch;
  CAIRN_RETURN_IF_ERROR(
      index().ForEachRegion({branch_, file.epoch, RegionOf(first)}, [&](const RegionId& id) {
        if (id.number > RegionOf(last)) return false;
        batch.DeleteRegion(id);
        return true;
      }));
  return index().Commit(batch);
}

// An earlier pass may have been cut short between the records and the bytes.
Status BranchCleaner::CompareFiles() {
  std::vector<ExtentId> files;
  CAIRN_RETURN_IF_ERROR(index().ForEachExtent(branch_, [&](const ExtentId& id, uint64_t) {
    if (id.epoch <= needs_.last_ended) files.push_back(id);
    return true;
  }));
  for (size_t begin = 0; begin < files.size() && !options_.stop(); begin += kFilesPerWalk) {
    std::map<ExtentId, ExtentScan> scans;
    for (size_t i = begin; i < std::min(files.size(), begin + kFilesPerWalk); ++i) {
      auto file = context_.store->env().Open(context_.store->extents().PathOf(files[i]),
                                             OpenMode::kReadWrite);
      if (file.status().code() == Code::kNotFound) continue;
      if (!file.ok()) return std::move(file).status();
      scans.try_emplace(files[i], std::move(*file), true);
    }
    Status covered;
    CAIRN_RETURN_IF_ERROR(index().ForEachVersion(
        branch_, ChunkIndex(0), kLastChunk,
        [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
          if (version.extent == 0) return true;
          const auto scan = scans.find({branch_, epoch, SegmentOf(chunk)});
          if (scan == scans.end()) return true;
          covered = scan->second.Cover(OffsetInSegment(ChunkStart(chunk)), version.extent);
          return covered.ok();
        }));
    CAIRN_RETURN_IF_ERROR(covered);
    for (auto& [id, scan] : scans) CAIRN_RETURN_IF_ERROR(scan.Finish());
    Pause();
  }
  return Status::Ok();
}

Result<BranchCleaner::Outcome> BranchCleaner::Finish() {
  // Once the mark is gone nobody looks for bytes that come back.
  for (const ExtentId& id : punched_) {
    CAIRN_ASSIGN_OR_RETURN(const auto file,
                           context_.store->extents().Open(id, ExtentStore::Mode::kMustExist, 0));
    CAIRN_RETURN_IF_ERROR(file->Sync());
  }
  // What only the volume itself sees of ended epochs is needed until it is overwritten, and no mark
  // is made then.
  Epoch newest_other;
  for (const Epoch view : needs_.views) {
    if (view <= needs_.last_ended) newest_other = view;
  }
  const bool unsettled = std::any_of(kept_.begin(), kept_.end(), [&](const ExtentId& id) {
    return id.epoch > newest_other && id.epoch <= needs_.last_ended;
  });
  if (unsettled) return Outcome::kUnsettled;
  CAIRN_ASSIGN_OR_RETURN(const bool same, context_.views->ClearMark(index(), branch_, needs_));
  return same ? Outcome::kClean : Outcome::kChanged;
}

}  // namespace cairn
