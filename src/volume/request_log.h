// RequestLog: which requests were carried out and perhaps never answered.
//
// When a server dies, the kernel sends its successor what it had read and not answered, and some
// of that was done already. An operation that would give another answer when it is done twice
// commits a record of its request in the same batch as its effect; a request that is sent again is
// answered from that record. Every operation of that kind has the same three lines:
//
//   CAIRN_ASSIGN_OR_RETURN(const auto answer, requests.FindAnswer(caller));
//   if (answer) return ...;                   // rebuilt from what Enter was given
//   requests.Enter(batch, caller, answer);    // last thing before the batch is committed
//
// Thread-safe.
#ifndef CAIRN_SRC_VOLUME_REQUEST_LOG_H_
#define CAIRN_SRC_VOLUME_REQUEST_LOG_H_

#include <atomic>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/volume/attributes.h"
#include "src/volume/volume_context.h"
#include "src/warm/index.h"

namespace cairn {

class RequestLog {
 public:
  // Borrows `context`; its store may come later than this object.
  explicit RequestLog(VolumeContext& context) : context_(context) {}

  // The answer that was entered when the request was carried out before; none when it was not.
  // Costs nothing for a request that is new. kIo, kCorrupt.
  Result<std::optional<std::string>> FindAnswer(const Caller& caller);
  // Puts the record into the batch that carries the request out.
  void Enter(IndexBatch& batch, const Caller& caller, std::string_view answer = {});

  // The request was answered and will not come again: a later Enter takes its record away.
  void Settle(RequestId request);
  // Takes away the records of settled requests, or of all, when no request can come again.
  Status ForgetSettled();
  Status ForgetAll();

 private:
  void DeleteSettled(IndexBatch& batch) CAIRN_REQUIRES(mu_);

  VolumeContext& context_;
  // The size of entered_, to be read without the lock.
  std::atomic<size_t> entered_count_{0};
  Mutex mu_;
  // In work, or not settled for another reason; at most one for each thread that serves,
  // and those whose answers wait for another thread.
  std::unordered_set<RequestId> entered_ CAIRN_GUARDED_BY(mu_);
  std::vector<RequestId> settled_ CAIRN_GUARDED_BY(mu_);
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_REQUEST_LOG_H_
