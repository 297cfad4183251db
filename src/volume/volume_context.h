// What all volumes of a filesystem share.
#ifndef CAIRN_SRC_VOLUME_VOLUME_CONTEXT_H_
#define CAIRN_SRC_VOLUME_VOLUME_CONTEXT_H_

#include <functional>

#include "src/base/clock.h"
#include "src/base/executor.h"
#include "src/volume/branch_views.h"
#include "src/volume/chunk_map.h"
#include "src/volume/region_seal.h"
#include "src/warm/index_journal.h"
#include "src/warm/mount_table.h"
#include "src/warm/warm_store.h"

namespace cairn {

class RequestLog;

// Borrowed by each volume for its whole life.
struct VolumeContext {
  WarmStore* store = nullptr;
  IndexJournal* journal = nullptr;
  MountTable* mount_table = nullptr;
  ChunkMapBudget* budget = nullptr;
  SealMemory* seals = nullptr;
  RequestLog* requests = nullptr;
  BranchViews* views = nullptr;
  const Clock* clock = nullptr;
  Executor* executor = nullptr;
  bool read_only = false;
  // Empties the journal by making all volumes' changes durable; called by a writer that found it
  // full, with its volume's gate entered and a chunk locked. Blocks.
  std::function<void()> make_room_in_journal;
  // The volume is about to be unloaded with regions that wait to be sealed.
  std::function<void(InodeId)> note_unsealed;
  // Asks for the branch, which the index marks as dead or to be cleaned, to be reclaimed soon. Does
  // not block.
  std::function<void(BranchId)> reclaim_soon;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_VOLUME_CONTEXT_H_
