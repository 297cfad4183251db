// Edge: what every request on its way through the FUSE edge shares: what lies below, the way to
// tell the kernel what changed, and the one place where a Status becomes an errno.
//
// Thread-safe. Borrows all.
#ifndef CAIRN_FUSEFS_EDGE_H_
#define CAIRN_FUSEFS_EDGE_H_

#include <string>
#include <string_view>
#include <utility>

#include "fusefs/rate_limit.h"
#include "snapshot/snapshot_service.h"
#include "src/base/strong_id.h"
#include "src/volume/filesystem.h"

namespace cairn {

class Invalidator;

class Edge {
 public:
  // `mountpoint` is where programs see the filesystem.
  Edge(Filesystem& filesystem, SnapshotService& snapshots, std::string mountpoint)
      : filesystem_(filesystem), snapshots_(snapshots), mountpoint_(std::move(mountpoint)) {}

  Filesystem& filesystem() { return filesystem_; }
  SnapshotService& snapshots() { return snapshots_; }
  const std::string& mountpoint() const { return mountpoint_; }

  // The server's, as long as it lives. REQUIRES: set while no request is in work.
  Invalidator* invalidator() { return invalidator_; }
  void UseInvalidator(Invalidator* invalidator) { invalidator_ = invalidator; }

  // Whether the kernel drops the pages of a file that it has where FOPEN_DIRECT_IO writes. Before
  // Linux 6.6 it does not: others, and buffered opens later, would go on to see what was there.
  bool direct_drops_pages() const { return direct_drops_pages_; }
  // From the INIT reply. REQUIRES: as for UseInvalidator.
  void UseProtocol(uint32_t minor) { direct_drops_pages_ = minor >= kMinorOfLinux66; }

  // The errno that the program gets. Where a person would ask why, the reason goes to the log, at a
  // bounded rate, and is kept for "user.cairn.error" of `inode`.
  // REQUIRES: !status.ok(). Never throws.
  int Refuse(InodeId inode, const Status& status) noexcept;
  // The errno for an exception that came up from below.
  int RefuseException(InodeId inode, std::string_view what) noexcept;

 private:
  static constexpr uint32_t kMinorOfLinux66 = 39;

  Filesystem& filesystem_;
  SnapshotService& snapshots_;
  const std::string mountpoint_;
  Invalidator* invalidator_ = nullptr;
  bool direct_drops_pages_ = false;
  RateLimit failure_limit_;
  RateLimit refusal_limit_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_EDGE_H_
