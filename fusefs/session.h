// Session: a libfuse low-level session over a descriptor that somebody else mounted, fed with the
// INIT request that the supervisor kept. libfuse's own reply to it goes nowhere: the supervisor
// wrote the real one.
//
// Not thread-safe: each serving thread has its own, so that libfuse's session lock is never
// contended and the request in work can be told by the session.
#ifndef CAIRN_FUSEFS_SESSION_H_
#define CAIRN_FUSEFS_SESSION_H_

#include <cstddef>
#include <memory>
#include <span>

#include "fusefs/ops.h"
#include "src/base/result.h"

namespace cairn {

class Session {
 public:
  // Works on a duplicate of `fuse_fd`. `init_request` is what RestrictInit made. kIo.
  static Result<std::unique_ptr<Session>> Create(Edge& edge, int fuse_fd,
                                                 std::span<const std::byte> init_request);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Carries one request out and answers it.
  void Process(std::span<std::byte> request);

 private:
  Session() = default;
  static ssize_t WriteAnswer(int fd, iovec* parts, int count, void* context);

  struct Context : SessionContext {
    bool initialising = true;
  };
  Context context_;
  fuse_session* session_ = nullptr;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_SESSION_H_
