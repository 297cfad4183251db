// Brings what the index journal still holds from a dead server into the index.
#ifndef CAIRN_SRC_VOLUME_JOURNAL_REPLAY_H_
#define CAIRN_SRC_VOLUME_JOURNAL_REPLAY_H_

#include "src/base/status.h"
#include "src/warm/index_journal.h"
#include "src/warm/mount_table.h"
#include "src/warm/warm_store.h"

namespace cairn {

// The bytes that the entries speak of are synced first (those of grown files by WarmStore::Open,
// which syncs all that a dead process left), then the records are committed, then the journal is
// cleared; a crash anywhere in between leaves the journal as it was, or the power gone
// and with it the journal. A volume with a file that cannot be synced is marked as poisoned in the
// table, and what the entries speak of is lost for it alone. kCorrupt: the journal is damaged; the
// index stays at its last durable state. REQUIRES: no volume is loaded.
Status ReplayJournal(WarmStore& store, IndexJournal& journal, MountTable& table);

// Volumes that were written to since their times were: nobody knows when exactly any more, but
// programs may have seen the times, and they must not go back. They become `now_ns`.
Status ReplayTimes(WarmStore& store, MountTable& table, int64_t now_ns);

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_JOURNAL_REPLAY_H_
