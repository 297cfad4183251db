// Looking around in the tree: what lies below a directory, where something lies, who may do what.
//
// Private to the module. Any thread; the tree may change meanwhile, which is for the caller to
// mind.
#ifndef CAIRN_SNAPSHOT_MEMBERS_H_
#define CAIRN_SNAPSHOT_MEMBERS_H_

#include <string>
#include <vector>

#include "src/base/result.h"
#include "src/volume/filesystem.h"

namespace cairn {

// Bytes. Directories can be nested deeper than a path from the root may be long, without an end.
inline constexpr size_t kLongestPath = 4096;

struct Found {
  std::string path;  // below where the search began; "" for that itself
  Attributes attributes;
  bool reachable = true;  // every directory above it, from where the search began, lets one through
  std::string closed = {};  // the path of the topmost that does not; "" is where the search began
};

// `top` and, if it is a directory, all that lies below it; directories before what is in them.
// `.snapshots` is not entered unless it is `top`. `reachable` is the caller's. kNameTooLong:
// something lies deeper than kLongestPath.
Result<std::vector<Found>> FindBelow(Filesystem& filesystem, InodeId top,
                                     const Caller& caller = {});
// Below `top`, which is above `inode`; "" for `top` itself. kNotFound: no name leads there.
Result<std::string> PathBelow(Filesystem& filesystem, InodeId top, InodeId inode);
// The directory's entry at a path, as Lookup.
Result<Attributes> LookupPath(Filesystem& filesystem, InodeId top, const std::string& path);

// kAccess when a directory above it does not let the caller through.
Status CheckWay(Filesystem& filesystem, InodeId inode, const Caller& caller);
bool MaySearch(const Attributes& directory, const Caller& caller);
bool MayRead(const Attributes& attributes, const Caller& caller);
bool MayWrite(const Attributes& attributes, const Caller& caller);

}  // namespace cairn

#endif  // CAIRN_SNAPSHOT_MEMBERS_H_
