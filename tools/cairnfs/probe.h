// cairnfs serve --probe: whether this program could take over a mount from another one. It prints
// what it would answer to the mount's INIT request, which the supervisor compares with what the
// kernel was answered; the reason goes to stderr when the store or the supervisor is beyond it.
#ifndef CAIRN_TOOLS_CAIRNFS_PROBE_H_
#define CAIRN_TOOLS_CAIRNFS_PROBE_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "src/base/result.h"
#include "tools/cairnfs/command_line.h"

namespace cairn {

// Reads the INIT request from stdin; returns the exit code.
int Probe(const ProbeCommandLine& command);

// What each answer begins with; another program says something else.
inline constexpr std::string_view kProbeAnswerStart = "cairn-init ";

// What a program that fits prints, without the newline. Errors are NegotiateInit's.
Result<std::string> ProbeAnswer(std::span<const std::byte> init_request);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_PROBE_H_
