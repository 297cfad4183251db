// MountSession: what belongs to a mount for as long as it lives, whichever server process serves
// it. The supervisor owns it; a new server gets all it needs out of here.
#ifndef CAIRN_TOOLS_CAIRNFS_MOUNT_SESSION_H_
#define CAIRN_TOOLS_CAIRNFS_MOUNT_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "fusefs/mount.h"
#include "fusefs/mount_options.h"
#include "src/base/unique_fd.h"

namespace cairn {

struct MountSession {
  MountPlace place;
  std::string mountpoint_as_given;
  MountOptions options;
  bool foreground = false;
  bool debug = false;

  UniqueFd memory;  // shared_memory.h; outlives servers, dies with the machine
  UniqueFd binary;  // what a server runs, also when its name is another's now
  UniqueFd lock;    // once the first server has it: keeps others out of the store
  UniqueFd fuse;    // once mounted
  std::vector<std::byte> init_request;  // once mounted: the kernel's first message
  std::string device;                   // once mounted: "0:52", to know the mount again
  uint64_t generation = 0;              // of the server that runs; the first is 1
  uint64_t restarts = 0;                // servers that died and were replaced
  uint64_t upgrades = 0;                // servers that made way for another program
};

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_MOUNT_SESSION_H_
