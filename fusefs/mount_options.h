// MountOptions: what -o says, from the command line, /etc/fstab or mount(8).
#ifndef CAIRN_FUSEFS_MOUNT_OPTIONS_H_
#define CAIRN_FUSEFS_MOUNT_OPTIONS_H_

#include <sys/mount.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/base/result.h"
#include "src/base/status.h"

namespace cairn {

struct MountOptions {
  bool allow_other = false;
  bool read_only = false;
  // Volumes are data: no programs with set-id bits and no device nodes, whatever mount(8) adds.
  unsigned long mount_flags = MS_NOSUID | MS_NODEV;
  std::string log;                               // empty: STORE/log, or stderr with -f
  uint64_t memory_bytes = 256ull << 20;          // bound of the server's caches
  uint64_t journal_bytes = 64ull << 20;          // room for acknowledged index changes
  int threads = 0;                               // that answer requests; 0: chosen by the server
  std::chrono::milliseconds seal_after{60'000};  // idle blocks get checksums; 0: never
  bool replace_server = true;                    // start a new server when one dies
  bool core_dumps = false;                       // of the server, volume data in them
  std::chrono::seconds watchdog{30};             // a server that hangs as long is replaced; 0: none
};

// Adds one comma-separated list; `\,` and `\\` stand for themselves. The last word on an option
// wins. Options that concern mount(8) and fstab only are passed over. kInvalid names the option
// that is unknown or has a wrong value.
Status ParseMountOptions(std::string_view text, MountOptions& options);

// The list that makes a server's ParseMountOptions arrive at the same.
std::string FormatServerOptions(const MountOptions& options);

// "64M", "1G", "4096": powers of 1024. kInvalid.
Result<uint64_t> ParseSize(std::string_view text);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_MOUNT_OPTIONS_H_
