// Who sent a request, for requests whose rights the kernel did not check. It checks modes before
// ordinary calls (default_permissions), but an ioctl may be sent through any descriptor, and a
// trigger acts on more than the file that it is set on.
//
// Free functions, any thread.
#ifndef CAIRN_FUSEFS_CALLER_RIGHTS_H_
#define CAIRN_FUSEFS_CALLER_RIGHTS_H_

#include "fusefs/ops.h"
#include "src/volume/filesystem.h"

namespace cairn {

// With the supplementary groups, which a FUSE request does not carry: those that /proc tells of the
// calling thread, which cannot end before we answer. None when it is not to be seen from here (a
// PID namespace beside or above ours): such a caller has fewer rights, never more.
Caller CallerWithGroups(const Request& request);

// kAccess when a directory above `inode` does not let the caller through: for files that the caller
// names by number, without having come there by a path. The superuser passes; capabilities are not
// looked at.
Status CheckReach(Filesystem& filesystem, const Caller& caller, InodeId inode);

// Whether the mode gives the caller all of `wanted`: a sum of 4 (read), 2 (write) and 1 (search).
bool ModeAllows(const Caller& caller, const Attributes& file, uint32_t wanted);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_CALLER_RIGHTS_H_
