// How the regions of a DiskVolume are sealed: in the background once nobody wrote to them for a
// while, and when the filesystem is closed.
//
//   gate closed   regions become `sealing`: whoever wrote to them is out, and the next writer to
//                 one sets it back to open
//   sync          what was written is durable, and the index knows of it
//   sum           the blocks that were touched are read
//   commit        unless a writer came: checksums and `sealed` in one batch
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <vector>

#include "src/base/give_way.h"
#include "src/base/log.h"
#include "src/volume/block_sums.h"
#include "src/volume/disk_volume.h"

namespace cairn {
namespace {

constexpr int kRegionsFoundAtOnce = 256;

// Sums blocks of one region's extent file.
class BlockSummer {
 public:
  BlockSummer(ExtentFile& file, uint64_t& bytes_read) : file_(file), bytes_read_(bytes_read) {}

  // Adds the checksums of the blocks `mask`. One that cannot be read gets none: whoever reads it
  // gets the error.
  Status Add(ChunkIndex chunk, BlockMask mask, ChunkSums& sums) {
    if (mask == 0) return Status::Ok();
    const uint64_t start = OffsetInSegment(ChunkStart(chunk));
    const auto first = static_cast<uint64_t>(std::countr_zero(mask));
    const uint64_t last = kBlocksPerChunk - static_cast<uint64_t>(std::countl_zero(mask));
    const uint64_t begin = start + first * kBlockSize;
    const uint64_t end = start + last * kBlockSize;
    CAIRN_ASSIGN_OR_RETURN(const uint64_t data, file_.SeekData(begin, end));
    if (data == end) {
      AddZeros(sums, mask);
      return Status::Ok();
    }
    const auto all = std::span(buffer_).first(end - begin);
    bytes_read_ += all.size();
    const bool readable = file_.ReadAt(begin, all).ok();
    for (BlockMask rest = mask; rest != 0; rest &= rest - 1) {
      const auto block = static_cast<uint64_t>(std::countr_zero(rest));
      const auto bytes = all.subspan((block - first) * kBlockSize, kBlockSize);
      if (readable || file_.ReadAt(start + block * kBlockSize, bytes).ok()) {
        AddSum(sums, block, bytes);
      }
    }
    return Status::Ok();
  }

 private:
  ExtentFile& file_;
  uint64_t& bytes_read_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kChunkSize);
};

}  // namespace

bool DiskVolume::HasUnsealedRegions() {
  if (read_only_ || retired_.load() || !Health().ok()) return false;
  return seals_.HasWork();
}

bool DiskVolume::HasSealWork() {
  if (read_only_ || retired_.load() || !Health().ok()) return false;
  const uint64_t chunks = ChunkCount(size());
  return seals_.HasWork() || next_region_to_find_.load() * kChunksPerRegion < chunks;
}

Result<DiskVolume::SealResult> DiskVolume::SealIdleRegions(const SealPass& pass) {
  MutexLock lock(seal_pass_mu_);
  SealResult result;
  // A full filesystem has better uses for its last blocks.
  if (read_only_ || context_.store->reserve().scarce()) return result;
  CAIRN_RETURN_IF_ERROR(FindUnsealed(result));
  const std::vector<std::shared_ptr<RegionSeal>> regions = BeginSealing(pass);
  if (regions.empty()) return result;
  Status status = context_.store->RequireFeature(kFeatureSeals);
  if (status.ok()) status = Sync();
  for (const auto& seal : regions) {
    if (status.ok() && !pass.stop()) status = SealRegion(*seal, pass, result);
    {
      // Of what was not sealed, for whatever reason.
      MutexLock seal_lock(seal->mu);
      seal->AbandonSealing();
    }
    seals_.Settle(*seal, context_.clock->NowNs());
  }
  CAIRN_RETURN_IF_ERROR(std::move(status));
  return result;
}

Status DiskVolume::FindUnsealed(SealResult& result) {
  GateEntry entry(gate_);
  if (retired_.load()) return Status::Ok();
  Index& index = context_.store->index();
  const Lineage::Level head = lineage_.head();
  const ChunkIndex last(ChunkCount(kMaxVolumeSize));
  const uint64_t end = RegionOf(last) + 1;
  for (int found = 0; found < kRegionsFoundAtOnce && next_region_to_find_.load() < end; ++found) {
    uint64_t region = end;
    std::set<Epoch> epochs;
    CAIRN_RETURN_IF_ERROR(
        index.ForEachVersion(head.branch, RegionStart(next_region_to_find_.load()), last,
                             [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
                               if (region != end && RegionOf(chunk) != region) return false;
                               if (epoch > head.epoch) return true;
                               region = RegionOf(chunk);
                               if (version.extent != 0) epochs.insert(epoch);
                               return head.epoch != Epoch(1) || epochs.empty();
                             }));
    for (const Epoch epoch : epochs) {
      CAIRN_RETURN_IF_ERROR(
          seals_.NoteUnsealed({head.branch, epoch, region}, context_.clock->NowNs()));
    }
    next_region_to_find_.store(region == end ? end : region + 1);
    ++result.regions;
  }
  return Status::Ok();
}

std::vector<std::shared_ptr<RegionSeal>> DiskVolume::BeginSealing(const SealPass& pass) {
  std::vector<std::shared_ptr<RegionSeal>> begun;
  const auto idle = seals_.TakeIdle(context_.clock->NowNs(), pass.idle_ns, pass.most_regions);
  if (idle.empty()) return begun;
  GateClosure closure(gate_);
  if (retired_.load() || !Health().ok()) return begun;
  for (const auto& seal : seals_.All()) {
    MutexLock lock(seal->mu);
    seal->DropTouched();
  }
  for (const auto& seal : idle) {
    MutexLock lock(seal->mu);
    const bool ours = seal->id.branch == lineage_.head().branch;
    const bool busy = pass.idle_ns > 0 && seal->written();
    if (!ours || busy || seal->state() != RegionSeal::State::kOpen) continue;
    seal->BeginSealing();
    begun.push_back(seal);
  }
  return begun;
}

Status DiskVolume::SealRegion(RegionSeal& seal, const SealPass& pass, SealResult& result) {
  Index& index = context_.store->index();
  const RegionId& id = seal.id;
  const ChunkIndex first = RegionStart(id.number);
  const ChunkIndex last(first.value() + kChunksPerRegion - 1);
  std::map<ChunkIndex, BlockMask> held;
  CAIRN_RETURN_IF_ERROR(index.ForEachVersion(
      id.branch, first, last, [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& version) {
        if (epoch == id.epoch && version.extent != 0) held[chunk] = version.extent;
        return true;
      }));
  // What has checksums now. That of a region which was not sealed before means nothing.
  std::set<ChunkIndex> summed;
  CAIRN_RETURN_IF_ERROR(index.ForEachSums(id.branch, id.epoch, first, last, [&](ChunkIndex chunk) {
    summed.insert(chunk);
    return true;
  }));
  // Not the volume's own object, which may go while nobody is inside the gate.
  std::shared_ptr<ExtentFile> file;
  if (!held.empty()) {
    CAIRN_ASSIGN_OR_RETURN(file,
                           context_.store->extents().Open({id.branch, id.epoch, SegmentOf(first)},
                                                          ExtentStore::Mode::kMustExist, 0));
    // Sync has done that for the current epoch's files; not for older ones.
    Status synced = file->Sync();
    if (!synced.ok()) {
      // The file's own: what a writer has written meanwhile may be lost with it, unless the volume
      // has left it.
      if (seal.state() != RegionSeal::State::kGone) Poison(synced);
      return synced;
    }
  }
  const bool tracked = seal.tracked();
  IndexBatch batch;
  std::optional<BlockSummer> summer;
  if (file) summer.emplace(*file, result.bytes_read);
  for (const auto& [chunk, mask] : held) {
    if (pass.stop() || seal.state() != RegionSeal::State::kSealing) return Status::Ok();
    GiveWay();
    const BlockMask touched = tracked ? seal.touched(chunk) : kAllBlocks;
    const bool had_sums = summed.erase(chunk) > 0;
    if (touched == 0) continue;
    ChunkSums sums;
    if (tracked && had_sums) {
      CAIRN_ASSIGN_OR_RETURN(sums, index.GetSums(id.branch, id.epoch, chunk));
      sums.mask &= mask & ~touched;
      sums.zero &= sums.mask;
    }
    CAIRN_RETURN_IF_ERROR(summer->Add(chunk, mask & touched, sums));
    if (sums.mask != 0) {
      batch.PutSums(id.branch, id.epoch, chunk, sums);
    } else if (had_sums) {
      batch.DeleteSums(id.branch, id.epoch, chunk);
    }
  }
  for (const ChunkIndex chunk : summed) batch.DeleteSums(id.branch, id.epoch, chunk);
  batch.PutRegion(id, RegionState::kSealed);
  MutexLock lock(seal.mu);
  if (seal.state() != RegionSeal::State::kSealing) return Status::Ok();
  Status committed = index.Commit(batch);
  if (!committed.ok()) {
    // It may have become durable all the same.
    seal.SetStuck();
    return committed;
  }
  seal.FinishSealing();
  ++result.regions;
  return Status::Ok();
}

}  // namespace cairn
