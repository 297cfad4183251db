#include "tools/cairnfs/probe.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <vector>

#include "fusefs/control_channel.h"
#include "fusefs/init_reply.h"
#include "src/env/env.h"
#include "src/warm/superblock.h"

namespace cairn {
namespace {

constexpr size_t kLongestInit = size_t{64} * 1024;

Result<std::string> Answer(const ProbeCommandLine& command) {
  if (command.control_version != kControlVersion) {
    return Status(Code::kUnsupported,
                  fmt::format("it works with supervisors of version {}, this mount's has version "
                              "{}: unmount and mount again to use it",
                              kControlVersion, command.control_version));
  }
  const auto env = NewPosixEnv();
  CAIRN_RETURN_IF_ERROR(ReadSuperblock(*env, command.store + "/superblock").status());
  std::vector<std::byte> init(kLongestInit);
  const ssize_t got = read(STDIN_FILENO, init.data(), init.size());
  if (got < 0) return Status::FromErrno(errno, "reading the INIT request");
  init.resize(static_cast<size_t>(got));
  return ProbeAnswer(init);
}

}  // namespace

Result<std::string> ProbeAnswer(std::span<const std::byte> init_request) {
  CAIRN_ASSIGN_OR_RETURN(const InitReply reply, NegotiateInit(init_request));
  std::string answer(kProbeAnswerStart);
  for (const std::byte byte : std::as_bytes(std::span(&reply, 1))) {
    answer += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
  }
  return answer;
}

int Probe(const ProbeCommandLine& command) {
  const Result<std::string> answer = Answer(command);
  if (!answer.ok()) {
    std::fprintf(stderr, "%s\n", answer.status().context().c_str());
    return 1;
  }
  std::printf("%s\n", answer->c_str());
  return 0;
}

}  // namespace cairn
