// The blocks of sealed regions against their checksums: reads all data that has any.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "src/volume/block_sums.h"
#include "src/volume/fsck_state.h"
#include "src/warm/warm_format.h"

namespace cairn::fsck {
namespace {

using Severity = FsckSeverity;
using Repair = State::Repair;

class DataChecker {
 public:
  explicit DataChecker(State& state) : state_(state) {}

  Status CheckBranch(const BranchEntry& branch) {
    std::vector<RegionId> sealed;
    CAIRN_RETURN_IF_ERROR(state_.store.index().ForEachRaw(
        KeyKind::kRegion, branch.id.value(), [&](std::string_view key, std::string_view value) {
          const auto id = DecodeRegionKey(key);
          const auto region = DecodeRegion(value);
          // What cannot be decoded was reported.
          if (!id.ok() || !region.ok()) return true;
          if (*region == RegionState::kSealed) {
            sealed.push_back(*id);
          } else {
            ++state_.report.open_regions;
          }
          return true;
        }));
    for (const RegionId& id : sealed) CAIRN_RETURN_IF_ERROR(CheckRegion(id));
    return Status::Ok();
  }

 private:
  Status CheckRegion(const RegionId& id) {
    Index& index = state_.store.index();
    const ChunkIndex first = RegionStart(id.number);
    const ChunkIndex last(first.value() + kChunksPerRegion - 1);
    std::vector<std::pair<ChunkIndex, BlockMask>> held;
    CAIRN_RETURN_IF_ERROR(index.ForEachVersion(
        id.branch, first, last, [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
          if (epoch == id.epoch && version.extent != 0) held.emplace_back(chunk, version.extent);
          return true;
        }));
    if (held.empty()) return Status::Ok();
    auto file = state_.store.extents().Open({id.branch, id.epoch, SegmentOf(first)},
                                            ExtentStore::Mode::kMustExist, 0);
    // A missing file was reported already.
    if (!file.ok()) {
      return file.status().code() == Code::kCorrupt ? Status::Ok() : std::move(file).status();
    }
    for (const auto& [chunk, mask] : held) {
      CAIRN_ASSIGN_OR_RETURN(const ChunkSums sums, index.GetSums(id.branch, id.epoch, chunk));
      CheckChunk(id.branch, **file, chunk, sums, mask);
    }
    state_.Progress("data", state_.report.data_bytes >> 20, 0);
    return Status::Ok();
  }

  void CheckChunk(BranchId branch, ExtentFile& file, ChunkIndex chunk, const ChunkSums& sums,
                  BlockMask mask) {
    BlockMask damaged = 0;
    BlockMask unreadable = 0;
    for (BlockRun run = NextRun(mask, 0); run.count > 0;
         run = NextRun(mask, run.first + run.count)) {
      const uint64_t start = OffsetInSegment(ChunkStart(chunk)) + run.first * kBlockSize;
      const auto all = std::span(buffer_).first(run.count * kBlockSize);
      const bool readable = file.ReadAt(start, all).ok();
      for (uint64_t i = 0; i < run.count; ++i) {
        const BlockMask bit = BlockRange(run.first + i, 1);
        const auto bytes = all.subspan(i * kBlockSize, kBlockSize);
        if (!readable && !file.ReadAt(start + i * kBlockSize, bytes).ok()) {
          unreadable |= bit;
        } else if ((sums.mask & bit) && !MatchesSum(sums, run.first + i, bytes)) {
          damaged |= bit;
        }
      }
    }
    // One that could not be read when the region was sealed has no checksum.
    state_.report.data_bytes += static_cast<uint64_t>(std::popcount(mask & sums.mask)) * kBlockSize;
    Report("data-damaged", "hold something else than what was written", branch, file, chunk,
           damaged);
    Report("data-unreadable", "cannot be read", branch, file, chunk, unreadable);
  }

  void Report(const char* code, const char* what, BranchId branch, const ExtentFile& file,
              ChunkIndex chunk, BlockMask mask) {
    for (BlockRun run = NextRun(mask, 0); run.count > 0;
         run = NextRun(mask, run.first + run.count)) {
      const uint64_t begin = ChunkStart(chunk) + run.first * kBlockSize;
      const uint64_t length = run.count * kBlockSize;
      state_.Add(
          {Severity::kDamage, code, state_.NameOf(branch),
           fmt::format("extent file {}: {} bytes at offset {} {}; they are bytes {} to {} of "
                       "the volume",
                       file.path(), length, OffsetInSegment(begin), what, begin, begin + length),
           length},
          Repair::kNo);
    }
  }

  State& state_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kChunkSize);
};

}  // namespace

Status CheckData(State& state) {
  DataChecker checker(state);
  for (const BranchEntry& branch : state.branches) {
    if (state.IsDead(branch.id)) continue;
    CAIRN_RETURN_IF_ERROR(state.Tolerate(checker.CheckBranch(branch)));
  }
  return Status::Ok();
}

}  // namespace cairn::fsck
