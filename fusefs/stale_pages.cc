#include "fusefs/stale_pages.h"

#include <exception>

#include "src/base/log.h"

namespace cairn {

StalePages::~StalePages() {
  Invalidator* const invalidator = edge_.invalidator();
  if (answered_ || invalidator == nullptr) return;
  try {
    invalidator->Tell({.contents = {inode_}, .attributes = {}});
  } catch (const std::exception& exception) {  // the mark stays
    LogError("inode {}: the kernel may keep old pages: {}", inode_.value(), exception.what());
  }
}

void StalePages::Answered() noexcept {
  answered_ = true;
  edge_.filesystem().ClearStalePages(inode_);
}

Status StalePages::Failed(Status why) {
  switch (why.code()) {
    case Code::kInvalid:
    case Code::kTooLarge:
    case Code::kStale:
    case Code::kNotFound:
    case Code::kIsDirectory:
    case Code::kAccess:
      Answered();  // refused before it began: whoever tries in vain need not empty the cache
      break;
    case Code::kReadOnly: {
      // Also of a volume that was poisoned meanwhile; a snapshot never changes.
      const auto attributes = edge_.filesystem().GetPlainAttributes(inode_);
      if (attributes.ok() && attributes->kind == FileKind::kSnapshot) Answered();
      break;
    }
    default:
      break;
  }
  return why;
}

}  // namespace cairn
