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

Status StalePages::Failed(Status why) noexcept {
  switch (why.code()) {
    case Code::kIo:
    case Code::kNoSpace:
    case Code::kCorrupt:
      break;
    default:  // refused: whoever tries in vain need not empty the cache
      Answered();
  }
  return why;
}

}  // namespace cairn
