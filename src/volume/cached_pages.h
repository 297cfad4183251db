// CachedPages: whether the pages that the kernel has of a volume may show what was there before.
//
// Who writes past them (O_DIRECT) has the kernel drop those of the range first; who reads beside
// the write brings the old content in again. So the next open that uses them has all of them
// dropped, and so do others until that has happened, which a request by such a handle shows: an
// open that is answered has not yet dropped anything. At first true of any volume, since nobody
// knows what programs did under an earlier server.
//
// Thread-safe; never waits. On every read and write.
#ifndef CAIRN_SRC_VOLUME_CACHED_PAGES_H_
#define CAIRN_SRC_VOLUME_CACHED_PAGES_H_

#include <atomic>
#include <cstdint>

#include "src/base/strong_id.h"

namespace cairn {

class CachedPages {
 public:
  // Something was written past them, and shows to who reads from here on.
  void NoteUncachedWrite() {
    // Not only where it is another state: what was written has to come before what who opens finds
    // here, and a mere look at the state could come before that.
    state_.exchange(kStale);
  }
  // Whether `handle`, which is being opened, has to have them dropped.
  bool DropAtOpen(HandleId handle) {
    uint64_t seen = state_.load();
    while (seen != kGood) {
      if (state_.compare_exchange_weak(seen, handle.value())) return true;
    }
    return false;
  }
  // A request to read or write by `handle`: its open has ended.
  void NoteRequest(HandleId handle) {
    uint64_t seen = handle.value();
    if (state_.load(std::memory_order_relaxed) != seen) [[likely]] {
      return;
    }
    state_.compare_exchange_strong(seen, kGood);
  }

 private:
  static constexpr uint64_t kGood = 0;
  static constexpr uint64_t kStale = 1;
  // Else the handle whose open drops them. No handle has one of these numbers.
  std::atomic<uint64_t> state_{kStale};
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_CACHED_PAGES_H_
