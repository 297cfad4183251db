// TbbExecutor: tasks run in a TBB task arena of their own.
#include "src/base/check.h"
#include "src/base/executor.h"

#if defined(CAIRN_NO_TBB)

namespace cairn {

std::unique_ptr<Executor> NewTbbExecutor(int /*thread_count*/) {
  constexpr bool kThisBuildHasTbb = false;
  CAIRN_CHECK(kThisBuildHasTbb);
  return nullptr;
}

}  // namespace cairn

#else

#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <utility>

#include "src/base/mutex.h"
#include "src/base/task_queue.h"
#include "src/base/thread_annotations.h"
#include "src/base/timer_thread.h"

namespace cairn {
namespace {

// TBB has one pool of workers in a process, by default one fewer than there are cores: too few
// for tasks that block on I/O. Where several controls are alive the smallest counts, so every
// executor asks for the same number; what limits an executor is its arena.
constexpr int kMaxWorkers = 128;

class TbbExecutor final : public Executor {
 public:
  // No arena slot is reserved for threads that wait in the arena, since none ever does: with the
  // default of 1 an arena of concurrency 1 would have no slot for a worker.
  explicit TbbExecutor(int thread_count)
      : parallelism_(tbb::global_control::max_allowed_parallelism, kMaxWorkers + 1),
        arena_(thread_count, /*reserved_for_masters=*/0) {
    CAIRN_CHECK(thread_count >= 1 && thread_count <= kMaxWorkers);
  }

  ~TbbExecutor() override {
    timer_.Stop();
    queue_.Shut();
    const MutexLock lock(mu_);
    while (enqueued_ > 0) none_enqueued_.Wait(mu_);
  }

  TbbExecutor(const TbbExecutor&) = delete;
  TbbExecutor& operator=(const TbbExecutor&) = delete;

  void Post(Task task) override {
    if (!queue_.Push(std::move(task))) return;
    {
      const MutexLock lock(mu_);
      ++enqueued_;
    }
    // TBB can neither drop nor order what is enqueued, so the arena gets only the turn to run
    // the oldest task of the queue, which finds nothing after the queue was shut.
    arena_.enqueue([this] {
      queue_.RunOne();
      const MutexLock lock(mu_);
      if (--enqueued_ == 0) none_enqueued_.NotifyAll();
    });
  }

  void PostAfter(std::chrono::milliseconds delay, Task task) override {
    timer_.RunAfter(delay, [this, task = std::move(task)]() mutable { Post(std::move(task)); });
  }

  void Drain() override {
    timer_.WaitForDue();
    queue_.WaitIdle();
  }

 private:
  const tbb::global_control parallelism_;
  tbb::task_arena arena_;
  TaskQueue queue_;
  TimerThread timer_;

  Mutex mu_;
  CondVar none_enqueued_;
  size_t enqueued_ CAIRN_GUARDED_BY(mu_) = 0;  // turns that the arena still has to finish
};

}  // namespace

std::unique_ptr<Executor> NewTbbExecutor(int thread_count) {
  return std::make_unique<TbbExecutor>(thread_count);
}

}  // namespace cairn

#endif  // CAIRN_NO_TBB
