// cairnfs forget-pages: a process that has the kernel forget pages of volumes that were rolled
// back, and ends. It may have to wait for the mount's server, in a way that no signal ends; the
// server may be killed meanwhile, and has to be gone before the next one serves. (invalidator.h)
#ifndef CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_
#define CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_

#include <span>

#include "src/base/status.h"
#include "src/base/strong_id.h"

namespace cairn {

inline constexpr char kForgetVerb[] = "forget-pages";

// A PageForgetter: starts the process and waits for its end. When none can be had, it tells the
// kernel itself, since a program must not read on what was rolled back.
Status ForgetPagesInProcess(int fuse_fd, std::span<const InodeId> inodes);

// The process. Returns the exit code.
int ForgetPagesOfInput();

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_FORGET_PROCESS_H_
