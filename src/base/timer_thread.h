// TimerThread: one thread that calls back when a delay has passed.
//
// Callbacks run on that thread one after the other, so they must be short, which in practice
// means: post a task to an executor. They must not throw. Thread-safe. Time is the monotonic
// clock's.
#ifndef CAIRN_SRC_BASE_TIMER_THREAD_H_
#define CAIRN_SRC_BASE_TIMER_THREAD_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/thread_annotations.h"

namespace cairn {

class TimerThread {
 public:
  using Callback = std::function<void()>;

  TimerThread();
  ~TimerThread();
  TimerThread(const TimerThread&) = delete;
  TimerThread& operator=(const TimerThread&) = delete;

  // Calls `callback` once, not before `delay` has passed, in order of deadline and, for equal
  // deadlines, of the calls. Drops it after Stop(). A negative delay is none; one above a century
  // is a century. More than kMaxQueuedTasks waiting callbacks stop the process.
  void RunAfter(std::chrono::milliseconds delay, Callback callback);
  // Returns when every callback whose deadline had passed at the time of the call has returned,
  // or after Stop(). Not for use by a callback.
  void WaitForDue();
  // Lets a callback that runs finish, drops all others and joins the thread. May be repeated, but
  // not at the same time, and not by a callback. The destructor does it too.
  void Stop();

 private:
  using TimePoint = std::chrono::steady_clock::time_point;
  struct Entry {
    TimePoint deadline;
    uint64_t sequence;
    Callback callback;
  };
  // Turns the standard library's greatest-first heap into an earliest-first one.
  static bool RunsAfter(const Entry& a, const Entry& b);
  void Loop() noexcept;

  Mutex mu_;
  CondVar changed_;        // heap_ has a new first entry, or stopping_
  CondVar callback_done_;  // or stopping_
  std::vector<Entry> heap_ CAIRN_GUARDED_BY(mu_);
  uint64_t next_sequence_ CAIRN_GUARDED_BY(mu_) = 0;
  bool in_callback_ CAIRN_GUARDED_BY(mu_) = false;
  bool stopping_ CAIRN_GUARDED_BY(mu_) = false;

  std::thread thread_;  // last: it uses the members above from its first instruction
};

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_TIMER_THREAD_H_
