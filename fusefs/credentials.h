// Who sent a request, and whether file modes let them do something. The kernel checks modes for
// ordinary calls (default_permissions); for ioctls, whose descriptor may be one for reading, and
// for what a trigger does beside the file it is set on, the edge does it with these.
//
// Free functions, any thread.
#ifndef CAIRN_FUSEFS_CREDENTIALS_H_
#define CAIRN_FUSEFS_CREDENTIALS_H_

#include <cstdint>
#include <vector>

#include "src/base/status.h"
#include "src/volume/attributes.h"

namespace cairn {

class Filesystem;
class Request;

struct Credentials {
  uint32_t uid = 0;
  uint32_t gid = 0;
  // Supplementary groups, which a FUSE request does not carry: the kernel's own list of the process,
  // which waits for our answer and so is still there. Empty when it cannot be seen from here (a
  // process of a PID namespace that ours does not contain): such a caller has the rights of
  // owner, group and others only.
  std::vector<uint32_t> groups;
};

Credentials CredentialsOf(const Request& request);

inline constexpr uint32_t kMayRead = 4;
inline constexpr uint32_t kMayWrite = 2;
inline constexpr uint32_t kMaySearch = 1;  // a directory

// Whether `wanted`, a sum of the above, is among the rights that the mode gives. The superuser has
// all of them; capabilities are not looked at.
bool ModeAllows(const Credentials& who, const Attributes& file, uint32_t wanted);

// OK or kAccess for a file that the caller has a descriptor of.
Status CheckAccess(Filesystem& filesystem, const Credentials& who, InodeId inode, uint32_t wanted);
// The same for a file that the caller only gave the number of: every directory above it must let
// the caller through, too.
Status CheckReach(Filesystem& filesystem, const Credentials& who, InodeId inode, uint32_t wanted);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_CREDENTIALS_H_
