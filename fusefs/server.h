// Server: all serving threads of one server process on one mount.
//
// Used by one thread. Between the first Start and the end of Stop the filesystem serves.
#ifndef CAIRN_FUSEFS_SERVER_H_
#define CAIRN_FUSEFS_SERVER_H_

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "fusefs/concurrency_limit.h"
#include "fusefs/edge.h"
#include "fusefs/invalidator.h"
#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {

class Worker;

struct ServerOptions {
  int thread_count = 0;  // 0: DefaultThreadCount()
  // This server takes a dead one's place: have the kernel send again what that one had read and
  // not answered. Programs would hang for ever without it.
  bool resend = false;
  PageForgetter forget_pages = ForgetPages;
};

// Enough that slow requests, fsyncs foremost, do not hold up the rest. How many of the threads run
// at once is the ConcurrencyLimit's business.
int DefaultThreadCount();

class Server {
 public:
  // Allocates buffers and sessions, without reading a request. Takes the descriptor of the mount;
  // `init_request` is the message that the supervisor kept. kInvalid, kIo, kNoSpace, kUnsupported.
  static Result<std::unique_ptr<Server>> Create(Edge& edge, UniqueFd fuse_fd,
                                                std::span<const std::byte> init_request,
                                                const ServerOptions& options);
  // Stops.
  ~Server();

  Status Start();
  // Readable when a thread has ended, which without Stop means that the mount is gone.
  int ended_fd() const { return ended_fd_.get(); }
  // Whether requests get on: since the last call a worker finished one, or one waits for the next,
  // or any thread of the process waits for a device, however slow. Called by one thread.
  bool GetsOn();
  // Each thread answers the request it has in work, then all end. What is not read stays queued.
  void Stop();

 private:
  Server(Edge& edge, UniqueFd fuse_fd, const ServerOptions& options, int thread_count);
  Status SendResend();

  Edge& edge_;
  const UniqueFd fuse_fd_;
  const bool resend_;
  Invalidator invalidator_;
  UniqueFd ended_fd_;
  ConcurrencyLimit limit_;
  std::vector<std::unique_ptr<Worker>> workers_;
  size_t started_ = 0;
  std::vector<uint64_t> progress_seen_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_SERVER_H_
