// ForEachSideBySide: the same work on each of several things, several at a time where it waits.
#ifndef CAIRN_SRC_BASE_SIDE_BY_SIDE_H_
#define CAIRN_SRC_BASE_SIDE_BY_SIDE_H_

#include <chrono>
#include <cstddef>
#include <functional>

#include "src/base/executor.h"
#include "src/base/status.h"

namespace cairn {

// Calls work(0) to work(count - 1), at most `most` at a time, and returns when none runs any more:
// OK, or what the first that failed returned. After a failure no further one begins; what a call
// throws counts as one, and is thrown again. `work` is called by the calling thread and, once a
// call has slept and has taken longer than `patience`, by tasks of `executor`: calls that wait for
// nothing but a core are done sooner than other threads are woken, and those would take cores from
// whoever else needs one. Where the executor has no thread to spare, the caller does it all. Any
// thread, a task of the executor too: it waits for calls that run, never for a task that has not
// begun.
Status ForEachSideBySide(Executor& executor, size_t most, size_t count,
                         const std::function<Status(size_t)>& work,
                         std::chrono::microseconds patience = std::chrono::microseconds(200));

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_SIDE_BY_SIDE_H_
