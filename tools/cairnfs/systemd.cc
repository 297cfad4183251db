#include "tools/cairnfs/systemd.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "src/base/unique_fd.h"

namespace cairn {
namespace {

std::string TakeVariable(const char* name) {
  const char* const value = getenv(name);
  std::string text = value == nullptr ? "" : value;
  unsetenv(name);
  return text;
}

}  // namespace

Systemd::Systemd() : socket_(TakeVariable("NOTIFY_SOCKET")) {
  const std::string microseconds = TakeVariable("WATCHDOG_USEC");
  const std::string pid = TakeVariable("WATCHDOG_PID");
  if (!pid.empty() && pid != std::to_string(getpid())) return;
  int64_t number = 0;
  const char* const end = microseconds.data() + microseconds.size();
  if (std::from_chars(microseconds.data(), end, number).ptr == end && number > 0) {
    watchdog_ = std::chrono::microseconds(number);
  }
}

void Systemd::Tell(std::string_view state) const {
  sockaddr_un address{};
  if (socket_.empty() || socket_.size() >= sizeof(address.sun_path)) return;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, socket_.data(), socket_.size());
  // An abstract name is written with an @.
  if (socket_[0] == '@') address.sun_path[0] = '\0';
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + socket_.size());
  // There is nobody to be told of a failure.
  [[maybe_unused]] const ssize_t sent =
      sendto(socket.get(), state.data(), state.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<const sockaddr*>(&address), size);
}

}  // namespace cairn
