// GroupCut: ends the current epoch of several volumes at one instant.
//
//   Load          volumes loaded and synced, and the files made that their next epochs will
//                 write to first: what is left for later is little, to us and to the writers
//   Close         all gates, within a deadline: nobody is inside, new I/O waits
//   Cut           each volume moves to its next epoch; nothing is read, written or synced
//   Open          I/O goes on
//   MakeDurable   what the cut shows is durable
//
// What a step that failed leaves behind means nothing to anyone: an epoch that ended for nothing is
// part of its volume like any other. While the object lives, what was cut is not given back.
#ifndef CAIRN_SRC_VOLUME_GROUP_CUT_H_
#define CAIRN_SRC_VOLUME_GROUP_CUT_H_

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "src/volume/volume_context.h"
#include "src/volume/volume_table.h"

namespace cairn {

// One thread. Borrows both.
class GroupCut {
 public:
  GroupCut(VolumeContext& context, VolumeTable& table) : context_(context), table_(table) {}
  // Opens the gates if they are closed, and removes files that were made ahead for nothing. Without
  // Keep, what the epochs that ended leave behind is
  // looked for from here on.
  ~GroupCut();
  GroupCut(const GroupCut&) = delete;
  GroupCut& operator=(const GroupCut&) = delete;

  // kNotFound, kStale, kReadOnly (one takes no writes), kIo.
  Status Load(const std::vector<InodeId>& volumes);
  // kDeadline: I/O inside a volume did not end; all gates are open.
  Status Close(std::chrono::milliseconds deadline);
  // REQUIRES: closed.
  Status Cut();
  void Open();
  // kStale: a volume was removed meanwhile.
  Status MakeDurable();

  // A record of the index now says what the cut was for.
  void Keep() { kept_ = true; }

  const std::map<InodeId, std::shared_ptr<DiskVolume>>& volumes() const { return volumes_; }
  const DiskVolume::CutState& StateOf(InodeId volume) const { return states_.at(volume); }
  int64_t cut_ns() const { return cut_ns_; }
  // How long the gates were closed.
  std::chrono::nanoseconds held() const { return held_; }

 private:
  // Syncs that run side by side share the journal commits of the filesystem below.
  static constexpr size_t kMostAtOnce = 4;
  Status ForEachVolume(const std::function<Status(DiskVolume&)>& work);
  Status MarkBranches();

  VolumeContext& context_;
  VolumeTable& table_;
  std::map<InodeId, std::shared_ptr<DiskVolume>> volumes_;  // by inode: the order of closing
  std::map<InodeId, DiskVolume::CutState> states_;
  bool closed_ = false;
  bool kept_ = false;
  int64_t cut_ns_ = 0;
  std::chrono::steady_clock::time_point closed_at_;
  std::chrono::nanoseconds held_{0};
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_GROUP_CUT_H_
