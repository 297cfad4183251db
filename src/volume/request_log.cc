#include "src/volume/request_log.h"

namespace cairn {
namespace {

constexpr size_t kDeletesPerBatch = 4096;

}  // namespace

Result<std::optional<std::string>> RequestLog::FindAnswer(const Caller& caller) {
  if (!caller.resent) [[likely]] {
    return std::optional<std::string>();
  }
  CAIRN_ASSIGN_OR_RETURN(auto answer, context_.store->index().GetRequest(caller.request));
  if (answer) {
    MutexLock lock(mu_);
    entered_.insert(caller.request);
    entered_count_.store(entered_.size(), std::memory_order_release);
  }
  return answer;
}

void RequestLog::Enter(IndexBatch& batch, const Caller& caller, std::string_view answer) {
  if (caller.request == RequestId(0)) return;
  batch.PutRequest(caller.request, answer);
  MutexLock lock(mu_);
  DeleteSettled(batch);
  entered_.insert(caller.request);
  entered_count_.store(entered_.size(), std::memory_order_release);
}

void RequestLog::Settle(RequestId request) {
  // Who settles a request is the thread that entered it, or was handed it by that one, so it sees
  // the entry here.
  if (entered_count_.load(std::memory_order_acquire) == 0) return;
  MutexLock lock(mu_);
  if (entered_.erase(request) == 0) return;
  entered_count_.store(entered_.size(), std::memory_order_release);
  settled_.push_back(request);
}

void RequestLog::DeleteSettled(IndexBatch& batch) {
  for (const RequestId request : settled_) batch.DeleteRequest(request);
  settled_.clear();
}

Status RequestLog::ForgetSettled() {
  IndexBatch batch;
  {
    MutexLock lock(mu_);
    DeleteSettled(batch);
  }
  return context_.store->index().Commit(batch);
}

Status RequestLog::ForgetAll() {
  Index& index = context_.store->index();
  for (;;) {
    IndexBatch batch;
    CAIRN_RETURN_IF_ERROR(
        index.ForEachRaw(KeyKind::kRequest, [&](std::string_view key, std::string_view) {
          batch.DeleteRaw(std::string(key));
          return batch.count() < kDeletesPerBatch;
        }));
    if (batch.empty()) return Status::Ok();
    CAIRN_RETURN_IF_ERROR(index.Commit(batch));
  }
}

}  // namespace cairn
