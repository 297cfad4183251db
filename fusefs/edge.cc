#include "fusefs/edge.h"

#include <cerrno>

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
    if (error == EIO || error == ENOSPC) {
      if (const auto held_back = log_limit_.Admit(Clock::System().NowNs())) {
        LogError("inode {}: {}{}", inode.value(), status.ToString(),
                 *held_back > 0 ? " (and " + std::to_string(*held_back) + " more)" : "");
      }
    }
    filesystem_.NoteError(inode, status);
  } catch (...) {  // out of memory: the program still gets its errno
  }
  return error;
}

int Edge::RefuseException(InodeId inode, std::string_view what) noexcept {
  if (log_limit_.Admit(Clock::System().NowNs())) {
    LogError("inode {}: request failed: {}", inode.value(), what);
  }
  return EIO;
}

}  // namespace cairn
