#include "src/base/side_by_side.h"

#include <sys/resource.h>

#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "src/base/give_way.h"
#include "src/base/mutex.h"

namespace cairn {
namespace {

// Shared with the tasks: one may begin only after the call is over, and finds nothing to do then.
class Calls {
 public:
  Calls(size_t count, const std::function<Status(size_t)>& work) : count_(count), work_(work) {}

  bool RunOne() {
    const auto number = Begin();
    if (!number) return false;
    Status status;
    std::exception_ptr thrown;
    try {
      status = work_(*number);
    } catch (...) {
      thrown = std::current_exception();
    }
    End(std::move(status), std::move(thrown));
    return true;
  }
  Status Wait() {
    MutexLock lock(mu_);
    while (running_ > 0) none_runs_.Wait(mu_);
    if (thrown_) std::rethrow_exception(thrown_);
    return failure_;
  }

 private:
  std::optional<size_t> Begin() {
    MutexLock lock(mu_);
    if (next_ >= count_) return std::nullopt;
    ++running_;
    return next_++;
  }
  void End(Status status, std::exception_ptr thrown) {
    MutexLock lock(mu_);
    if (thrown) {
      thrown_ = std::move(thrown);
      next_ = count_;
    }
    if (!status.ok() && failure_.ok()) {
      failure_ = std::move(status);
      next_ = count_;
    }
    if (--running_ == 0) none_runs_.NotifyAll();
  }

  const size_t count_;
  // The caller's: good while a call runs, hence after each Begin that gave one out.
  const std::function<Status(size_t)>& work_;

  Mutex mu_;
  CondVar none_runs_;
  size_t next_ CAIRN_GUARDED_BY(mu_) = 0;
  size_t running_ CAIRN_GUARDED_BY(mu_) = 0;
  Status failure_ CAIRN_GUARDED_BY(mu_);
  std::exception_ptr thrown_ CAIRN_GUARDED_BY(mu_);
};

// How often this thread has had to wait for something other than a core.
long Sleeps() {
  rusage usage{};
  return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw - TimesGivenWay() : 0;
}

}  // namespace

Status ForEachSideBySide(Executor& executor, size_t most, size_t count,
                         const std::function<Status(size_t)>& work,
                         std::chrono::microseconds patience) {
  using Clock = std::chrono::steady_clock;
  const auto calls = std::make_shared<Calls>(count, work);
  size_t helpers = 0;
  long sleeps = Sleeps();
  for (Clock::time_point began = Clock::now(); calls->RunOne();) {
    const Clock::time_point ended = Clock::now();
    const long sleeps_before = std::exchange(sleeps, Sleeps());
    if (ended - began > patience && sleeps != sleeps_before && helpers + 1 < most) {
      ++helpers;
      try {
        executor.Post([calls] {
          while (calls->RunOne()) {
          }
        });
      } catch (const std::bad_alloc&) {
        // One helper fewer: what runs must be waited for before anything leaves here.
      }
    }
    began = ended;
  }
  return calls->Wait();
}

}  // namespace cairn
