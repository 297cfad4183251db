// Checks of STORE and MOUNTPOINT before anything is touched, with reasons that say what to do.
#ifndef CAIRN_TOOLS_CAIRNFS_PLACES_H_
#define CAIRN_TOOLS_CAIRNFS_PLACES_H_

#include <string>

#include "fusefs/mount.h"
#include "src/base/result.h"

namespace cairn {

// Absolute paths of both. The store may be absent, its parent not. What a dead mount of the same
// store left at the mountpoint is taken away.
Result<MountPlace> ResolvePlaces(const std::string& store, const std::string& mountpoint);

// `path`, absolute, in a directory that exists; it may be absent itself.
Result<std::string> ResolveNewPath(const std::string& path);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_PLACES_H_
