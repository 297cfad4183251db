// Mounting and unmounting: /dev/fuse and mount(2), or fusermount3 for users who may not.
//
// None of these calls touches the mounted filesystem itself, except Unmount, which may wait for a
// server that lives: call it in a process of its own then.
#ifndef CAIRN_FUSEFS_MOUNT_H_
#define CAIRN_FUSEFS_MOUNT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/mount_options.h"
#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {

struct MountPlace {
  std::string store;       // absolute; shown as the mount's source
  std::string mountpoint;  // absolute, without symbolic links
};

// Returns the descriptor on which the kernel's requests come. Errors name the mountpoint.
Result<UniqueFd> MountFuse(const MountPlace& place, const MountOptions& options);

// Reads the kernel's first request, whole. Waits for it.
Result<std::vector<std::byte>> ReadInit(int fuse_fd);

// The device number ("0:52") of the Cairn mount on top of `place.mountpoint`; kNotFound when there
// is none. Reads /proc/self/mountinfo only.
Result<std::string> FindMount(const MountPlace& place);

// Whether the store is mounted anywhere in this mount namespace.
bool IsStoreMounted(const std::string& store);

// kAbort: programs that use it get ENOTCONN, also when the connection's descriptor is held by
// somebody yet; kDetach without a privileged caller.
enum class UnmountMode { kIfIdle, kDetach, kAbort };
// kBusy (kIfIdle only) when programs use it.
Status Unmount(const MountPlace& place, UnmountMode mode);

// Makes everything that waits for the server of the mount that `fuse_fd` belongs to, or will, fail
// with ENOTCONN or ECONNABORTED, also when somebody holds the connection's descriptor yet. By
// fusectl where that is mounted; otherwise by a forced unmount, which needs a privileged caller and
// a mount that is in the tree with nothing on top. OK also when it was cut before. kUnsupported:
// neither can be done. `device`: what FindMount said of the mount, for kernels that do not tell a
// connection's number (6.18 does).
Status AbortConnection(int fuse_fd, const std::string& device = {});

// Whether the kernel still has the mount that `fuse_fd` belongs to.
bool IsConnected(int fuse_fd);

// Decodes the \040 escapes of mountinfo.
std::string UnescapeMountinfo(std::string_view field);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_MOUNT_H_
