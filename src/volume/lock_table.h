// LockTable: locks on inode numbers, several at once, without an object for each inode.
#ifndef CAIRN_SRC_VOLUME_LOCK_TABLE_H_
#define CAIRN_SRC_VOLUME_LOCK_TABLE_H_

#include <algorithm>
#include <array>
#include <initializer_list>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/strong_id.h"

namespace cairn {

// Inodes share kStripes mutexes. Sets of locks are taken in one order, so they cannot deadlock with
// each other; a thread holds at most one set at a time.
class LockTable {
 public:
  class Held {
   public:
    Held(LockTable& table, std::initializer_list<InodeId> inodes)
        : Held(table, std::vector<InodeId>(inodes)) {}
    Held(LockTable& table, const std::vector<InodeId>& inodes) CAIRN_NO_THREAD_SAFETY_ANALYSIS {
      for (const InodeId inode : inodes) stripes_.push_back(&table.StripeOf(inode));
      std::sort(stripes_.begin(), stripes_.end());
      stripes_.erase(std::unique(stripes_.begin(), stripes_.end()), stripes_.end());
      for (Mutex* const stripe : stripes_) stripe->Lock();
    }
    ~Held() CAIRN_NO_THREAD_SAFETY_ANALYSIS {
      for (Mutex* const stripe : stripes_) stripe->Unlock();
    }
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;

   private:
    std::vector<Mutex*> stripes_;
  };

 private:
  static constexpr size_t kStripes = 256;
  Mutex& StripeOf(InodeId inode) { return stripes_[inode.value() % kStripes]; }
  std::array<Mutex, kStripes> stripes_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_LOCK_TABLE_H_
