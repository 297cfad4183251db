#include "fusefs/server.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "fusefs/device_wait.h"
#include "fusefs/init_reply.h"
#include "fusefs/worker.h"
#include "src/base/log.h"

namespace cairn {
namespace {

constexpr int kLeastThreads = 8;
constexpr int kMostThreads = 64;
constexpr int kThreadsPerCore = 4;
constexpr std::chrono::milliseconds kInterruptInterval{5};

// One more than cores: a request that comes alone then finds a thread that reads, though the one
// before it has not come back from its answer.
int MostRunning() { return static_cast<int>(std::thread::hardware_concurrency()) + 1; }

}  // namespace

int DefaultThreadCount() {
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores * kThreadsPerCore, kLeastThreads, kMostThreads);
}

Result<std::unique_ptr<Server>> Server::Create(Edge& edge, UniqueFd fuse_fd,
                                               std::span<const std::byte> init_request,
                                               const ServerOptions& options) {
  CAIRN_ASSIGN_OR_RETURN(const InitReply reply, NegotiateInit(init_request));
  if (options.resend && !(reply.flags() & protocol::kHasResend)) {
    return Status(Code::kUnsupported,
                  "the kernel cannot send requests again (Linux 6.9 can): mount anew");
  }
  const std::vector<std::byte> restricted = RestrictInit(init_request, reply);
  const int count = options.thread_count > 0 ? options.thread_count : DefaultThreadCount();
  std::unique_ptr<Server> server(new Server(edge, std::move(fuse_fd), options, count));
  edge.UseProtocol(reply.body.minor);
  server->ended_fd_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
  if (!server->ended_fd_.valid()) return Status::FromErrno(errno, "eventfd");

  bool all_locked = true;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    CAIRN_ASSIGN_OR_RETURN(
        std::unique_ptr<Worker> worker,
        Worker::Create(edge, server->fuse_fd_.get(), server->limit_.member(i), restricted));
    all_locked = all_locked && worker->buffers_locked();
    server->workers_.push_back(std::move(worker));
  }
  if (!all_locked) LogWarn("request buffers cannot be locked into memory (RLIMIT_MEMLOCK)");
  return server;
}

Server::Server(Edge& edge, UniqueFd fuse_fd, const ServerOptions& options, int thread_count)
    : edge_(edge),
      fuse_fd_(std::move(fuse_fd)),
      resend_(options.resend),
      invalidator_(fuse_fd_.get(), options.forget_pages,
                   [&edge](InodeId inode) { edge.filesystem().ClearStalePages(inode); }),
      limit_(MostRunning(), thread_count) {
  edge_.UseInvalidator(&invalidator_);
}

Server::~Server() {
  Stop();
  edge_.UseInvalidator(nullptr);
}

Status Server::Start() {
  CAIRN_RETURN_IF_ERROR(invalidator_.Start());
  CAIRN_RETURN_IF_ERROR(limit_.Start());
  // What earlier servers changed, and perhaps nobody waits for any more. Before a request of this
  // server's adds marks of its own.
  std::vector<InodeId> stale = edge_.filesystem().InodesWithStalePages();
  if (resend_) CAIRN_RETURN_IF_ERROR(SendResend());
  for (const std::unique_ptr<Worker>& worker : workers_) {
    CAIRN_RETURN_IF_ERROR(worker->Start(ended_fd_.get()));
    ++started_;
  }
  invalidator_.Tell({.contents = std::move(stale), .attributes = {}});
  return Status::Ok();
}

Status Server::SendResend() {
  fuse_out_header notification{
      .len = sizeof(notification), .error = protocol::kNotifyResend, .unique = 0};
  if (write(fuse_fd_.get(), &notification, sizeof(notification)) < 0) {
    return Status::FromErrno(errno, "asking the kernel to send requests again");
  }
  return Status::Ok();
}

bool Server::GetsOn() {
  bool gets_on = false;
  progress_seen_.resize(workers_.size());
  for (size_t i = 0; i < started_; ++i) {
    // One that is parked takes nothing up before another one waits or ends.
    const ConcurrencyLimit::Member& member = limit_.member(i);
    const uint64_t progress = member.progress();
    const bool in_work = progress % 2 == 1;
    const bool got_on = progress != std::exchange(progress_seen_[i], progress);
    gets_on |= got_on || (!in_work && !member.parked());
  }
  return gets_on || AnyThreadWaitsForDevice();
}

void Server::Stop() {
  // First: what it tells the kernel may need the workers.
  invalidator_.Stop();
  limit_.Stop();
  const auto all_ended = [this] {
    return std::all_of(workers_.begin(), workers_.begin() + static_cast<std::ptrdiff_t>(started_),
                       [](const auto& worker) { return worker->ended(); });
  };
  while (!all_ended()) {
    for (size_t i = 0; i < started_; ++i) workers_[i]->Interrupt();
    std::this_thread::sleep_for(kInterruptInterval);
  }
  for (size_t i = 0; i < started_; ++i) workers_[i]->Join();
  started_ = 0;
}

}  // namespace cairn
