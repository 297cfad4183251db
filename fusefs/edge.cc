#include "fusefs/edge.h"

#include <cerrno>
#include <string>

#include "src/base/clock.h"
#include "src/base/log.h"

namespace cairn {
namespace {

// Refusals that a person asks about, because the call looked right.
bool WantsReason(int error) {
  switch (error) {
    case EINVAL:
    case EIO:
    case ENOSPC:
    case EROFS:
    case EOPNOTSUPP:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

}  // namespace

int Edge::Refuse(InodeId inode, const Status& status) noexcept {
  const int error = status.ToErrno();
  if (!WantsReason(error)) return error;
  try {
    // Apart, so that a program that keeps asking for nonsense cannot hide damage.
    const bool failed = error == EIO || error == ENOSPC;
    RateLimit& limit = failed ? failure_limit_ : refusal_limit_;
    if (const auto held_back = limit.Admit(Clock::System().NowNs())) {
      const std::string more =
          *held_back > 0 ? " (and " + std::to_string(*held_back) + " more)" : std::string();
      if (failed) {
        LogError("inode {}: {}{}", inode.value(), status.ToString(), more);
      } else {
        LogWarn("inode {}: refused: {}{}", inode.value(), status.ToString(), more);
      }
    }
    filesystem_.NoteError(inode, status);
  } catch (...) {  // out of memory: the program still gets its errno
  }
  return error;
}

int Edge::RefuseException(InodeId inode, std::string_view what) noexcept {
  if (failure_limit_.Admit(Clock::System().NowNs())) {
    LogError("inode {}: request failed: {}", inode.value(), what);
  }
  return EIO;
}

}  // namespace cairn
