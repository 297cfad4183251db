// Brings what programs wrote through mmap(2) from the kernel to the mount's server.
#ifndef CAIRN_TOOLS_CAIRN_MEMBER_SYNC_H_
#define CAIRN_TOOLS_CAIRN_MEMBER_SYNC_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::cli {

struct MemberSync {
  uint64_t volumes = 0;
  double seconds = 0;
  // "PATH: why": volumes whose mapped pages may still be in the kernel.
  std::vector<std::string> failures;
};

// fsyncs `paths`, volumes and directories with all volumes below them. Goes on after a failure.
MemberSync SyncMembers(const std::vector<std::string>& paths);

// One line to stderr for each, with what may come of it.
void WarnOfFailures(const std::vector<std::string>& failures, std::string_view consequence);

// Looks at the volumes among them, so that the kernel learns of a size that has changed without it:
// it would append where it believes the end to be.
void LookAtMembers(const std::vector<std::string>& paths);

}  // namespace cairn::cli

#endif  // CAIRN_TOOLS_CAIRN_MEMBER_SYNC_H_
