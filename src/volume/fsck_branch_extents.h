// One branch's versions against its extent records and extent files.
//
// Private to fsck. One thread.
#ifndef CAIRN_SRC_VOLUME_FSCK_BRANCH_EXTENTS_H_
#define CAIRN_SRC_VOLUME_FSCK_BRANCH_EXTENTS_H_

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/volume/fsck_state.h"

namespace cairn::fsck {

// What there is of one extent, from all three sides.
struct ExtentFacts {
  uint64_t needed_end = 0;              // up to where versions need the file; 0: not at all
  std::optional<uint64_t> record_size;  // the index's
  std::optional<FileInfo> file;
};

class BranchExtents {
 public:
  // `files` are the extent files that there are of this branch. All are borrowed.
  BranchExtents(State& state, BranchEntry& branch, std::span<const ExtentId> files)
      : state_(state), branch_(branch), files_(files) {}

  Status Check();

 private:
  using VersionSink = std::function<Status(ChunkIndex, Epoch, const VersionRecord&)>;

  // Blocks that cannot be read, as ranges of the volume.
  struct Lost {
    std::vector<std::pair<uint64_t, uint64_t>> ranges;
    uint64_t omitted = 0;
    uint64_t bytes = 0;
    void Add(uint64_t begin, uint64_t end);
    std::string Text() const;
  };

  // Walks over the versions that count: not those behind the volume's end.
  Status ForEachVersion(const VersionSink& sink);
  bool MayHide(Epoch epoch) const;
  bool IsBehindEnd(ChunkIndex chunk, Epoch epoch, const VersionRecord& record) const;
  void TakeAway(ChunkIndex chunk, Epoch epoch);
  Status CheckNeeded();
  Status CheckBehindEnd();
  Status CollectFacts();
  Status CheckEpoch();
  Status Judge(const ExtentId& id, const ExtentFacts& facts);
  Status JudgeMissing(const ExtentId& id, const ExtentFacts& facts);
  void JudgeRecord(const ExtentId& id, const ExtentFacts& facts);
  // The blocks of versions of `id` that lie behind `file_size`.
  Result<Lost> FindLost(const ExtentId& id, uint64_t file_size);
  Status ScanLeaks();
  Status ScanGroup(std::span<const ExtentId> group);

  State& state_;
  BranchEntry& branch_;
  const std::span<const ExtentId> files_;
  std::map<ExtentId, ExtentFacts> facts_;
  Epoch newest_;  // that the index speaks of
  IndexBatch batch_;
  std::vector<ExtentId> to_remove_;
};

}  // namespace cairn::fsck

#endif  // CAIRN_SRC_VOLUME_FSCK_BRANCH_EXTENTS_H_
