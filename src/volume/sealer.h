// Sealer: gives checksums to what had no write for a while, on all volumes.
#ifndef CAIRN_SRC_VOLUME_SEALER_H_
#define CAIRN_SRC_VOLUME_SEALER_H_

#include <chrono>
#include <functional>
#include <set>

#include "src/base/mutex.h"
#include "src/volume/volume_table.h"

namespace cairn {

// Thread-safe. Borrows the table.
class Sealer {
 public:
  static constexpr std::chrono::milliseconds kInterval{1000};

  // `seal_after` 0: does nothing.
  Sealer(VolumeTable& table, std::chrono::milliseconds seal_after)
      : table_(table), seal_after_(seal_after) {}

  bool enabled() const { return seal_after_.count() > 0; }
  // One round over the volumes, as much as should be done at a time; returns when the next one is
  // due. `stop` is asked now and then whether to leave off.
  std::chrono::milliseconds Round(const std::function<bool()>& stop);
  // Everything that can be sealed within `bound`.
  void SealAll(std::chrono::milliseconds bound);
  // A volume was unloaded with regions that wait to be sealed.
  void NoteUnloaded(InodeId inode);

 private:
  void SealVolume(DiskVolume& volume, const DiskVolume::SealPass& pass, uint64_t& bytes_read);
  // Loads volumes that were unloaded too early.
  void SealUnloaded(const std::function<bool()>& stop, uint64_t& bytes_read);
  bool TakeUnloaded(InodeId& inode);

  VolumeTable& table_;
  const std::chrono::milliseconds seal_after_;

  Mutex mu_;
  std::set<InodeId> unloaded_ CAIRN_GUARDED_BY(mu_);
  // The volume with which the next round begins, so that each has its turn.
  size_t turn_ CAIRN_GUARDED_BY(mu_) = 0;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_SEALER_H_
