// Gate: many pass at once (shared); who closes it waits until all are out and keeps new ones out.
//
// A volume's I/O passes its gate; truncation, a punched hole or a snapshot's cut closes it.
// Unlike a pthread read-write lock it cannot starve the closer, and passing an open gate is two
// atomic additions. Thread-safe. Not recursive: a thread inside must not enter or close again.
#ifndef CAIRN_SRC_BASE_GATE_H_
#define CAIRN_SRC_BASE_GATE_H_

#include <atomic>
#include <chrono>
#include <cstdint>

#include "src/base/mutex.h"
#include "src/base/thread_annotations.h"

namespace cairn {

// Whether this thread has closed a gate, and others may wait for it.
bool HoldsClosedGate();

class CAIRN_CAPABILITY("gate") Gate {
 public:
  Gate() = default;
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  void Enter() CAIRN_ACQUIRE_SHARED() {
    const uint32_t before = state_.fetch_add(1, std::memory_order_acquire);
    if (before & kClosed) [[unlikely]] {
      EnterSlow();
    }
  }
  void Leave() CAIRN_RELEASE_SHARED() {
    const uint32_t before = state_.fetch_sub(1, std::memory_order_release);
    if (before == (kClosed | 1)) [[unlikely]] {
      state_.notify_all();
    }
  }
  // Returns with nobody inside. Closers queue up behind each other.
  void Close() CAIRN_ACQUIRE();
  void Open() CAIRN_RELEASE();

  // The same in two steps, to close several gates at once for as short as can be: first all begin,
  // then all wait. Each returns false when `deadline` passed; the gate is then open, as far as the
  // caller is concerned. REQUIRES: several gates are closed in one order by all.
  using Deadline = std::chrono::steady_clock::time_point;
  bool BeginClose(Deadline deadline) CAIRN_TRY_ACQUIRE(true);
  bool AwaitEmpty(Deadline deadline) CAIRN_REQUIRES(this);

 private:
  static constexpr uint32_t kClosed = 1u << 31;
  void EnterSlow() CAIRN_NO_THREAD_SAFETY_ANALYSIS;

  Mutex closer_;
  std::atomic<uint32_t> state_{0};  // kClosed | number inside (or about to step back out)
};

class CAIRN_SCOPED_CAPABILITY GateEntry {
 public:
  explicit GateEntry(Gate& gate) CAIRN_ACQUIRE_SHARED(gate) : gate_(gate) { gate_.Enter(); }
  ~GateEntry() CAIRN_RELEASE_GENERIC() { gate_.Leave(); }
  GateEntry(const GateEntry&) = delete;
  GateEntry& operator=(const GateEntry&) = delete;

 private:
  Gate& gate_;
};

class CAIRN_SCOPED_CAPABILITY GateClosure {
 public:
  explicit GateClosure(Gate& gate) CAIRN_ACQUIRE(gate) : gate_(gate) { gate_.Close(); }
  ~GateClosure() CAIRN_RELEASE() { gate_.Open(); }
  GateClosure(const GateClosure&) = delete;
  GateClosure& operator=(const GateClosure&) = delete;

 private:
  Gate& gate_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_GATE_H_
