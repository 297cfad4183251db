#include "fusefs/worker.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>

#include "src/base/log.h"

namespace cairn {
namespace {

// Its handler does nothing; without SA_RESTART it ends a sleeping read(2).
constexpr int kInterruptSignal = SIGUSR1;

void InstallInterruptHandler() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  sigemptyset(&action.sa_mask);
  sigaction(kInterruptSignal, &action, nullptr);
}

}  // namespace

Result<std::unique_ptr<Worker>> Worker::Create(Edge& edge, int fuse_fd,
                                               ConcurrencyLimit::Member& member,
                                               std::span<const std::byte> init_request) {
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<RequestBuffers> buffers, RequestBuffers::Create());
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Session> session,
                         Session::Create(edge, fuse_fd, init_request));
  return std::unique_ptr<Worker>(
      new Worker(edge, fuse_fd, member, std::move(buffers), std::move(session)));
}

Worker::Worker(Edge& edge, int fuse_fd, ConcurrencyLimit::Member& member,
               std::unique_ptr<RequestBuffers> buffers, std::unique_ptr<Session> session)
    : fuse_fd_(fuse_fd),
      member_(member),
      buffers_(std::move(buffers)),
      session_(std::move(session)),
      fast_io_(edge, fuse_fd, buffers_->reply()) {}

Status Worker::Start(int ended_fd) {
  InstallInterruptHandler();
  try {
    thread_ = std::thread([this, ended_fd] {
      Run();
      ended_.store(true, std::memory_order_release);
      const uint64_t one = 1;
      if (write(ended_fd, &one, sizeof(one)) < 0) {
        LogError("a thread's end was not heard: {}", std::strerror(errno));
      }
    });
  } catch (const std::system_error& error) {
    return Status(Code::kIo, std::string("starting a thread: ") + error.what());
  }
  return Status::Ok();
}

void Worker::Interrupt() {
  stop_.store(true, std::memory_order_relaxed);
  if (thread_.joinable() && !ended()) pthread_kill(thread_.native_handle(), kInterruptSignal);
}

void Worker::Run() noexcept {
  pthread_setname_np(pthread_self(), "cairnfs-serve");
  SetBlockingListener(&member_);
  while (!stop_.load(std::memory_order_relaxed)) {
    if (!member_.BeginRead() || !ServeOne()) break;
  }
  SetBlockingListener(nullptr);
}

bool Worker::ServeOne() {
  const std::span<std::byte> buffer = buffers_->request();
  const ssize_t got = read(fuse_fd_, buffer.data(), buffer.size());
  const int error = errno;
  member_.BeginWork();
  if (got < 0) {
    // ENOENT: the program gave up before its request was handed over.
    if (error == EINTR || error == EAGAIN || error == ENOENT) return true;
    if (error != ENODEV) LogError("reading from /dev/fuse: {}", std::strerror(error));
    return false;
  }
  const std::span<std::byte> request = buffer.first(static_cast<size_t>(got));
  if (request.size() < sizeof(fuse_in_header)) {
    LogError("reading from /dev/fuse: a message of {} bytes", request.size());
    return true;
  }
  Serve(request);
  return true;
}

void Worker::Serve(std::span<std::byte> request) {
  switch (reinterpret_cast<const fuse_in_header*>(request.data())->opcode) {
    case FUSE_READ:
      fast_io_.Read(request);
      break;
    case FUSE_WRITE:
      fast_io_.Write(request);
      break;
    case FUSE_INTERRUPT:  // no request waits for long; INTERRUPT has no answer
    case FUSE_FORGET:     // nothing depends on lookup counts; FORGET has no answer
    case FUSE_BATCH_FORGET:
      break;
    default:
      // Most read or change the index, and all the others are rare.
      AboutToBlock();
      session_->Process(request);
      break;
  }
}

}  // namespace cairn
