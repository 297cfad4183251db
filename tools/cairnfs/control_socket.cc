#include "tools/cairnfs/control_socket.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "fusefs/fd_passing.h"

namespace cairn {
namespace {

constexpr const char* kName = "/control";
// A client sends right after it has connected. The supervisor does not wait for another kind.
constexpr int kClientWaitMs = 200;
constexpr size_t kLongestMessage = 8192;

UniqueFd NewSocket() { return UniqueFd(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)); }

// Through a descriptor of the store, since its path may be longer than an address.
sockaddr_un AddressIn(const UniqueFd& store) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = "/proc/self/fd/" + std::to_string(store.get()) + kName;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof(address.sun_path) - 1));
  return address;
}

const sockaddr* Generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

UniqueFd OpenDirectory(const std::string& path) {
  return UniqueFd(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

Result<ControlSocket> ControlSocket::Create(const std::string& store) {
  ControlSocket control;
  control.path_ = store + kName;
  const UniqueFd directory = OpenDirectory(store);
  if (!directory.valid()) return Status::FromErrno(errno, store);
  unlink(control.path_.c_str());
  control.socket_ = NewSocket();
  const sockaddr_un address = AddressIn(directory);
  const mode_t mask = umask(0177);
  const int bound = bind(control.socket_.get(), Generic(address), sizeof(address));
  const int error = errno;
  umask(mask);
  if (bound != 0) return Status::FromErrno(error, control.path_);
  if (listen(control.socket_.get(), 8) != 0) return Status::FromErrno(errno, control.path_);
  return control;
}

Result<ControlRequest> ControlSocket::Accept() {
  ControlRequest request;
  request.client = UniqueFd(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!request.client.valid()) return Status::FromErrno(errno, path_);
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(request.client.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return Status::FromErrno(errno, path_);
  }
  if (peer.uid != 0 && peer.uid != geteuid()) {
    AnswerClient(request.client, "failed only root and who mounted may do that");
    return Status(Code::kPermission, path_ + ": a client of another user");
  }
  pollfd waiting{request.client.get(), POLLIN, 0};
  std::array<char, kLongestMessage> buffer;
  if (poll(&waiting, 1, kClientWaitMs) <= 0) {
    return Status(Code::kInvalid, path_ + ": a client without a word");
  }
  CAIRN_ASSIGN_OR_RETURN(
      ReceivedMessage received,
      ReceiveWithFd(request.client.get(), std::as_writable_bytes(std::span(buffer))));
  request.fd = std::move(received.fd);
  const std::string_view message(buffer.data(), received.size);
  const size_t space = message.find(' ');
  request.verb = message.substr(0, space);
  if (space != std::string_view::npos) request.path = message.substr(space + 1);
  return request;
}

void ControlSocket::Close() {
  if (!socket_.valid()) return;
  socket_.Reset();
  unlink(path_.c_str());
}

Result<std::string> AskSupervisor(const std::string& store, std::string_view request, int fd) {
  const UniqueFd directory = OpenDirectory(store);
  if (!directory.valid()) return Status::FromErrno(errno, store);
  const UniqueFd socket = NewSocket();
  const sockaddr_un address = AddressIn(directory);
  if (connect(socket.get(), Generic(address), sizeof(address)) != 0) {
    return Status::FromErrno(errno, store + kName);
  }
  CAIRN_RETURN_IF_ERROR(SendWithFd(socket.get(), std::as_bytes(std::span(request)), fd));
  std::array<char, kLongestMessage> buffer;
  const ssize_t got = recv(socket.get(), buffer.data(), buffer.size(), 0);
  if (got < 0) return Status::FromErrno(errno, store + kName);
  if (got == 0) return Status(Code::kIo, "the supervisor ended without an answer");
  return std::string(buffer.data(), static_cast<size_t>(got));
}

void AnswerClient(const UniqueFd& client, std::string_view answer) {
  [[maybe_unused]] const ssize_t sent =
      send(client.get(), answer.data(), std::min(answer.size(), kLongestMessage),
           MSG_NOSIGNAL | MSG_DONTWAIT);
}

}  // namespace cairn
