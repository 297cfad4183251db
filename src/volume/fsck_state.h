// What the parts of fsck share: the store, the report, and the files and branches of the index.
//
// Private to fsck*.cc. One thread. The parts run in the order in which they are declared here; each
// relies on what the ones before it found or put right.
#ifndef CAIRN_SRC_VOLUME_FSCK_STATE_H_
#define CAIRN_SRC_VOLUME_FSCK_STATE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/volume/fsck.h"
#include "src/warm/records.h"
#include "src/warm/warm_store.h"

namespace cairn::fsck {

struct InodeEntry {
  InodeId id;
  InodeRecord record;
  uint32_t names = 0;  // that lead here and stay
  bool orphan = false;
};

struct BranchEntry {
  BranchId id;
  BranchRecord record;
  const InodeEntry* volume = nullptr;  // whose head it is
  // More than one volume names it. What seems to be nobody's by the size of one may be another's.
  bool shared = false;
  // Snapshots and clones that need it; versions up to the newest of these may be theirs.
  std::vector<Epoch> views;
  Epoch newest_view;
  bool to_be_cleaned = false;  // what nobody needs of it goes in the background
};

struct GroupEntry {
  InodeId id;
  GroupRecord record;
};

class State {
 public:
  State(WarmStore& opened, const FsckOptions& chosen, FsckReport& result)
      : store(opened), options(chosen), report(result) {}

  // Enters a finding. Returns whether its repair is to be made: asked for by the user, possible
  // in this state of the index, and offered here.
  enum class Repair { kNo, kYes };
  bool Add(FsckFinding finding, Repair offered);

  // Whether repairs are made at all.
  bool repairing() const { return options.repair && index_readable; }
  // OK for a kCorrupt that CheckRecords has reported already.
  Status Tolerate(Status status) const;

  // Commits the changes of `batch` when there are so many that they should not wait; or always.
  // Not to be called from within a walk over the index.
  Status CommitIfLarge(IndexBatch& batch);
  Status Commit(IndexBatch& batch);
  void Progress(std::string_view part, uint64_t done, uint64_t total) const;

  InodeEntry* FindInode(InodeId id);
  BranchEntry* FindBranch(BranchId id);
  bool IsDead(BranchId id) const;
  // Whether anything in the index knows this branch: such a one's data is not given away even when
  // its own record is gone.
  bool IsReferenced(BranchId id) const;
  // The name under which `parent` lists `child`.
  Result<std::optional<std::string>> Listing(InodeId parent, InodeId child);
  // "/vm1/data.img", as far as names lead.
  std::string PathOf(InodeId id);
  // For messages: the volume whose head the branch is, else "branch N".
  std::string NameOf(BranchId id);

  WarmStore& store;
  const FsckOptions& options;
  FsckReport& report;
  // False when records could not be read. Nothing is repaired then: what seems to be in nobody's
  // use may be used by what could not be read.
  bool index_readable = true;
  // The first failure to write a table anew. The index may then take no more changes, and not be
  // closed without an error, which tells nothing that is not in the report.
  Status rewriting;
  std::vector<InodeEntry> inodes;          // by id
  std::vector<BranchEntry> branches;       // by id
  std::vector<BranchId> dead;              // by id
  std::vector<BranchId> marked;            // to be cleaned, by id
  std::vector<View> views;                 // by branch and epoch
  std::vector<GroupEntry> groups;          // by id
  std::vector<BranchId> referenced;        // by id
  std::vector<BranchId> version_branches;  // those with version records, by id
  std::vector<BranchId> extent_branches;   // those with extent records, by id
  std::vector<BranchId> seal_branches;     // those with checksum or region records, in no order
  std::optional<uint64_t> next_id;         // the counter
  uint64_t largest_id = 0;                 // of all inodes and branches
};

// fsck_records.cc: reads every record of the index, fills the tables.
Status CheckRecords(State& state);
// The id counter. Before CheckNames, which may need an id.
Status CheckCounter(State& state);
// Puts `state.next_id` into the batch. The index's own AllocateId must not be used beside it.
void AddCounter(const State& state, IndexBatch& batch);
// fsck_names.cc: names, listings, the tree, lost+found.
Status CheckNames(State& state);
// fsck_tree.cc: files that the root does not lead to get a name in /lost+found.
Status CheckTree(State& state);
// fsck_branches.cc: extended attributes and orphans of no file; branches and whose they are.
Status CheckAttributes(State& state);
Status CheckBranches(State& state);
// fsck_snapshots.cc: snapshots, their members and tokens, and who needs which branch. Before
// CheckBranches.
Status CheckSnapshots(State& state);
// fsck_extents.cc: versions against extent records against extent files.
Status CheckExtents(State& state);

// fsck_data.cc: blocks against their checksums. Reads all data that has any.
Status CheckData(State& state);

// fsck_records.cc: tables of the index that are damaged where no record is. The last one, since
// nothing else can be changed any more when one of them cannot be written anew.
void CheckTables(State& state);

// A key as people can read it: its letter and its ids, or its bytes in hexadecimal.
std::string KeyText(std::string_view key);

}  // namespace cairn::fsck

#endif  // CAIRN_SRC_VOLUME_FSCK_STATE_H_
