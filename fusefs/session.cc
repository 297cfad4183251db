#include "fusefs/session.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <cerrno>
#include <vector>

#include "src/base/unique_fd.h"

namespace cairn {
namespace {

ssize_t RefuseRead(int /*fd*/, void* /*buffer*/, size_t /*size*/, void* /*context*/) {
  errno = EINVAL;  // requests are read by the worker
  return -1;
}

}  // namespace

Result<std::unique_ptr<Session>> Session::Create(Edge& edge, int fuse_fd,
                                                 std::span<const std::byte> init_request) {
  std::unique_ptr<Session> session(new Session());
  session->context_.edge = &edge;

  char program[] = "cairnfs";
  char* arguments[] = {program, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  const fuse_lowlevel_ops ops = LowLevelOps();
  session->session_ =
      fuse_session_new(&args, &ops, sizeof(ops), static_cast<SessionContext*>(&session->context_));
  fuse_opt_free_args(&args);
  if (session->session_ == nullptr) return Status(Code::kIo, "libfuse gave no session");

  UniqueFd duplicate(fcntl(fuse_fd, F_DUPFD_CLOEXEC, 0));
  if (!duplicate.valid()) return Status::FromErrno(errno, "/dev/fuse");
  const fuse_custom_io io{
      .writev = WriteAnswer, .read = RefuseRead, .splice_receive = nullptr, .splice_send = nullptr};
  if (fuse_session_custom_io(session->session_, &io, duplicate.get()) != 0) {
    return Status(Code::kIo, "libfuse did not take the descriptor");
  }
  duplicate.Release();  // libfuse closes it

  std::vector<std::byte> init(init_request.begin(), init_request.end());
  session->Process(init);
  session->context_.initialising = false;
  if (fuse_session_exited(session->session_)) {
    return Status(Code::kIo, "libfuse did not take the INIT request");
  }
  return session;
}

Session::~Session() {
  if (session_ != nullptr) fuse_session_destroy(session_);
}

void Session::Process(std::span<std::byte> request) {
  context_.header = reinterpret_cast<const fuse_in_header*>(request.data());
  const fuse_buf buffer{.size = request.size(),
                        .flags = static_cast<fuse_buf_flags>(0),
                        .mem = request.data(),
                        .fd = -1,
                        .pos = 0};
  fuse_session_process_buf(session_, &buffer);
}

ssize_t Session::WriteAnswer(int fd, iovec* parts, int count, void* context) {
  if (static_cast<Context*>(static_cast<SessionContext*>(context))->initialising) {
    ssize_t size = 0;
    for (int i = 0; i < count; ++i) size += static_cast<ssize_t>(parts[i].iov_len);
    return size;
  }
  return writev(fd, parts, count);
}

}  // namespace cairn
