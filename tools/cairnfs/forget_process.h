// cairnfs forget-pages: a process that has the kernel forget pages of volumes that were rolled
// back, and ends. It may have to wait for the mount's server, in a way that no signal ends; the
// server may be killed meanwhile, and has to be gone before the next one serves. (invalidator.h)
//
// While it waits it holds the connection, so that the kernel would not notice that nobody serves
// any more. There will be somebody as long as the supervisor lives; once that is gone, the process
// ends the mount.
#ifndef CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_
#define CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_

#include <span>
#include <utility>

#include "fusefs/mount.h"
#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/base/unique_fd.h"

namespace cairn {

inline constexpr char kForgetVerb[] = "forget-pages";

// Starts such processes, for a server. Thread-safe.
class PageForgetting {
 public:
  // Watches the parent of the calling process. kIo, kUnsupported: it cannot be watched.
  static Result<PageForgetting> Create(MountPlace place);

  // A PageForgetter: starts the process and waits for its end. When none can be had, it tells the
  // kernel itself, since a program must not read on what was rolled back.
  Status Forget(int fuse_fd, std::span<const InodeId> inodes) const;

 private:
  PageForgetting(MountPlace place, UniqueFd supervisor)
      : place_(std::move(place)), supervisor_(std::move(supervisor)) {}
  Result<pid_t> Start(int fuse_fd, const UniqueFd& inodes) const;

  MountPlace place_;
  UniqueFd supervisor_;
};

// The process: `cairnfs forget-pages STORE MOUNTPOINT`. Returns the exit code.
int ForgetPagesOfInput(const MountPlace& place);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_
