// ControlChannel: what supervisor and server tell each other, over a socket pair that keeps
// messages whole. The order for a new server:
//
//   server      kOpened + fd       the store is open; the descriptor is its lock
//   supervisor  kAttach + fd       the mount's descriptor and its INIT request
//   server      kServing           requests are being answered
//   server      kUnmountWanted     somebody asked the server to end (SIGTERM)
//   supervisor  kStop              end now: answer what is in work, make all durable
//   supervisor  kDrain             the same, but another server takes over
//   supervisor  kPing              are you well?
//   server      kAlive             yes: requests are getting on
//   server      kEnding            no more answers: what is acknowledged is made durable now
//   server      kFailed + reason   instead of kOpened or kServing, or at the end; it exits
//
// The end of the socket is the death of the other side. Used by one thread on each side.
#ifndef CAIRN_FUSEFS_CONTROL_CHANNEL_H_
#define CAIRN_FUSEFS_CONTROL_CHANNEL_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {

// Changes with the messages, with the command line of `cairnfs serve`, and with what the memory
// that servers share means.
inline constexpr int kControlVersion = 2;

enum class ControlKind : uint32_t {
  kClosed = 0,  // never sent: the other side is gone
  kOpened = 1,
  kAttach = 2,
  kServing = 3,
  kUnmountWanted = 4,
  kStop = 5,
  kFailed = 6,
  kDrain = 7,
  kPing = 8,
  kAlive = 9,
  kEnding = 10,
};

struct ControlMessage {
  ControlKind kind = ControlKind::kClosed;
  std::vector<std::byte> payload;
  UniqueFd fd;

  std::string_view text() const {
    return {reinterpret_cast<const char*>(payload.data()), payload.size()};
  }
};

class ControlChannel {
 public:
  ControlChannel() = default;
  explicit ControlChannel(UniqueFd socket) : socket_(std::move(socket)) {}
  // Both ends, close-on-exec.
  static Result<std::pair<ControlChannel, ControlChannel>> CreatePair();

  // Readable when there is a message, or the other side is gone. -1 without a socket.
  int fd() const { return socket_.get(); }
  bool valid() const { return socket_.valid(); }
  void Close() { socket_.Reset(); }

  // Longer texts are cut. kIo.
  Status Send(ControlKind kind) { return Send(kind, {}, -1); }
  Status SendText(ControlKind kind, std::string_view text);
  Status Send(ControlKind kind, std::span<const std::byte> payload, int fd);
  // Waits. kIo, kInvalid (not a message of ours).
  Result<ControlMessage> Receive();

 private:
  UniqueFd socket_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_CONTROL_CHANNEL_H_
