// RateLimit: lets a few log lines a second through and counts the rest. Thread-safe, never waits.
#ifndef CAIRN_FUSEFS_RATE_LIMIT_H_
#define CAIRN_FUSEFS_RATE_LIMIT_H_

#include <atomic>
#include <cstdint>
#include <optional>

namespace cairn {

class RateLimit {
 public:
  static constexpr uint32_t kPerSecond = 5;

  // Nothing when this line is one too many for its second; else how many were held back since the
  // last line that was let through. `now_ns` is any clock's.
  std::optional<uint64_t> Admit(int64_t now_ns) noexcept {
    const int64_t second = now_ns / 1'000'000'000;
    int64_t current = second_.load(std::memory_order_relaxed);
    if (current != second &&
        second_.compare_exchange_strong(current, second, std::memory_order_relaxed)) {
      admitted_.store(0, std::memory_order_relaxed);
    }
    if (admitted_.fetch_add(1, std::memory_order_relaxed) >= kPerSecond) {
      held_back_.fetch_add(1, std::memory_order_relaxed);
      return std::nullopt;
    }
    return held_back_.exchange(0, std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> second_{-1};
  std::atomic<uint32_t> admitted_{0};
  std::atomic<uint64_t> held_back_{0};
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_RATE_LIMIT_H_
