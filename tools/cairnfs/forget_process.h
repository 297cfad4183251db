// cairnfs forget-pages: a process that has the kernel forget pages of volumes that were rolled
// back, and ends. It may have to wait for the mount's server, in a way that no signal ends; the
// server may be killed meanwhile, and has to be gone before the next one serves. (invalidator.h)
//
// While it waits it holds the connection, so that the kernel would not notice that nobody serves
// any more. There will be somebody as long as the supervisor lives; once that is gone, the process
// cuts the connection.
#ifndef CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_
#define CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_

#include <sys/types.h>

#include <span>

#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/base/unique_fd.h"

namespace cairn {

inline constexpr char kForgetVerb[] = "forget-pages";

// Starts such processes, for a server. Thread-safe.
class PageForgetting {
 public:
  // The parent of this process is the supervisor.
  PageForgetting();

  // A PageForgetter: starts the process and waits for its end. When none can be had, it tells the
  // kernel itself, since a program must not read on what was rolled back.
  Status Forget(int fuse_fd, std::span<const InodeId> inodes) const;

 private:
  Result<pid_t> Start(int fuse_fd, const UniqueFd& inodes) const;

  UniqueFd supervisor_;  // a pidfd; invalid when none could be had: nobody watches then
};

// The process. Returns the exit code.
int ForgetPagesOfInput();

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_
