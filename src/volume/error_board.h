// ErrorBoard: the last reason why something was refused, per file, for "user.cairn.error".
#ifndef CAIRN_SRC_VOLUME_ERROR_BOARD_H_
#define CAIRN_SRC_VOLUME_ERROR_BOARD_H_

#include <deque>
#include <string>
#include <unordered_map>

#include "src/base/mutex.h"
#include "src/base/strong_id.h"

namespace cairn {

// Thread-safe. Remembers the files of the last kLimit first refusals; in memory only.
class ErrorBoard {
 public:
  void Note(InodeId inode, std::string reason) {
    MutexLock lock(mu_);
    const auto [entry, added] = reasons_.try_emplace(inode);
    entry->second = std::move(reason);
    if (!added) return;
    order_.push_back(inode);
    if (order_.size() <= kLimit) return;
    reasons_.erase(order_.front());
    order_.pop_front();
  }
  // Empty when there is none.
  std::string Find(InodeId inode) const {
    MutexLock lock(mu_);
    const auto found = reasons_.find(inode);
    return found == reasons_.end() ? std::string() : found->second;
  }

 private:
  static constexpr size_t kLimit = 1024;
  mutable Mutex mu_;
  std::unordered_map<InodeId, std::string> reasons_ CAIRN_GUARDED_BY(mu_);
  std::deque<InodeId> order_ CAIRN_GUARDED_BY(mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_ERROR_BOARD_H_
