// Edge: what every request on its way through the FUSE edge shares: the filesystem below, and the
// one place where a Status becomes an errno.
//
// Thread-safe. Borrows the filesystem.
#ifndef CAIRN_FUSEFS_EDGE_H_
#define CAIRN_FUSEFS_EDGE_H_

#include <string_view>

#include "fusefs/rate_limit.h"
#include "src/base/strong_id.h"
#include "src/volume/filesystem.h"

namespace cairn {

class Edge {
 public:
  explicit Edge(Filesystem& filesystem) : filesystem_(filesystem) {}

  Filesystem& filesystem() { return filesystem_; }

  // The errno that the program gets. Where a person would ask why, the reason goes to the log, at a
  // bounded rate, and is kept for "user.cairn.error" of `inode`.
  // REQUIRES: !status.ok(). Never throws.
  int Refuse(InodeId inode, const Status& status) noexcept;
  // The errno for an exception that came up from below.
  int RefuseException(InodeId inode, std::string_view what) noexcept;

 private:
  Filesystem& filesystem_;
  RateLimit failure_limit_;
  RateLimit refusal_limit_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_EDGE_H_
