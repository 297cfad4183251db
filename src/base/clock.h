// Clock: wall time, injectable.
#ifndef CAIRN_SRC_BASE_CLOCK_H_
#define CAIRN_SRC_BASE_CLOCK_H_

#include <cstdint>

namespace cairn {

// Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since 1970-01-01 UTC; resolution of a scheduler tick is enough.
  virtual int64_t NowNs() const = 0;

  // CLOCK_REALTIME_COARSE; lives for ever.
  static const Clock& System();
};

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_CLOCK_H_
