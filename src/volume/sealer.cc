#include "src/volume/sealer.h"

#include <algorithm>

#include "src/base/log.h"

namespace cairn {
namespace {

// What is read in the background, on average: little beside what a disk and a core can do.
constexpr uint64_t kBytesPerSecond = 256ull << 20;
constexpr uint64_t kBytesPerRound = 256ull << 20;
constexpr size_t kRegionsAtOnce = 4;
constexpr size_t kRegionsAtOnceInHaste = 32;

}  // namespace

void Sealer::NoteUnloaded(InodeId inode) {
  if (!enabled()) return;
  MutexLock lock(mu_);
  unloaded_.insert(inode);
}

bool Sealer::TakeUnloaded(InodeId& inode) {
  MutexLock lock(mu_);
  if (unloaded_.empty()) return false;
  inode = *unloaded_.begin();
  unloaded_.erase(unloaded_.begin());
  return true;
}

void Sealer::SealVolume(DiskVolume& volume, const DiskVolume::SealPass& pass,
                        uint64_t& bytes_read) {
  const auto result = volume.SealIdleRegions(pass);
  if (result.ok()) {
    bytes_read += result->bytes_read;
  } else {
    LogWarn("volume {}: its blocks get no checksums for now: {}", volume.inode().value(),
            result.status().ToString());
  }
}

std::chrono::milliseconds Sealer::Round(const std::function<bool()>& stop) {
  DiskVolume::SealPass pass;
  pass.idle_ns = std::chrono::nanoseconds(seal_after_).count();
  pass.most_regions = kRegionsAtOnce;
  pass.stop = stop;
  uint64_t bytes_read = 0;
  const auto volumes = table_.All();
  size_t first = 0;
  {
    MutexLock lock(mu_);
    first = turn_;
  }
  size_t seen = 0;
  for (; seen < volumes.size() && bytes_read < kBytesPerRound && !stop(); ++seen) {
    DiskVolume& volume = *volumes[(first + seen) % volumes.size()];
    if (volume.HasSealWork()) SealVolume(volume, pass, bytes_read);
  }
  {
    MutexLock lock(mu_);
    turn_ = first + seen;
  }
  if (bytes_read < kBytesPerRound) SealUnloaded(stop, bytes_read);
  const std::chrono::milliseconds pause(1000 * bytes_read / kBytesPerSecond);
  return std::max(kInterval, pause);
}

void Sealer::SealUnloaded(const std::function<bool()>& stop, uint64_t& bytes_read) {
  InodeId inode;
  while (bytes_read < kBytesPerRound && !stop() && TakeUnloaded(inode)) {
    // One that was removed meanwhile needs nothing.
    auto volume = table_.Find(inode);
    if (!volume.ok()) continue;
    DiskVolume::SealPass pass;
    pass.most_regions = kRegionsAtOnce;
    pass.stop = stop;
    SealVolume(**volume, pass, bytes_read);
  }
}

void Sealer::SealAll(std::chrono::milliseconds bound) {
  if (!enabled()) return;
  const auto deadline = std::chrono::steady_clock::now() + bound;
  DiskVolume::SealPass pass;
  pass.most_regions = kRegionsAtOnceInHaste;
  pass.stop = [deadline] { return std::chrono::steady_clock::now() >= deadline; };
  const auto seal_all_of = [&](DiskVolume& volume) {
    while (volume.HasSealWork() && !pass.stop()) {
      const auto result = volume.SealIdleRegions(pass);
      if (!result.ok()) LogWarn("sealing: {}", result.status().ToString());
      if (!result.ok() || result->regions == 0) return;
    }
  };
  for (const auto& volume : table_.All()) seal_all_of(*volume);
  InodeId inode;
  while (!pass.stop() && TakeUnloaded(inode)) {
    const auto volume = table_.Find(inode);
    if (volume.ok()) seal_all_of(**volume);
  }
  const auto volumes = table_.All();
  const auto left = std::count_if(volumes.begin(), volumes.end(),
                                  [](const auto& volume) { return volume->HasUnsealedRegions(); });
  if (left > 0) LogInfo("{} volumes have written blocks without checksums", left);
}

}  // namespace cairn
