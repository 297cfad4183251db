#include "fusefs/control_channel.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "fusefs/fd_passing.h"

namespace cairn {
namespace {

// The longest payload is an INIT request, about 100 bytes; reasons are sentences.
constexpr size_t kMaxPayload = size_t{16} * 1024;

}  // namespace

Result<std::pair<ControlChannel, ControlChannel>> ControlChannel::CreatePair() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return Status::FromErrno(errno, "socketpair");
  }
  return std::pair(ControlChannel(UniqueFd(ends[0])), ControlChannel(UniqueFd(ends[1])));
}

Status ControlChannel::SendText(ControlKind kind, std::string_view text) {
  return Send(kind, std::as_bytes(std::span(text.substr(0, kMaxPayload))), -1);
}

Status ControlChannel::Send(ControlKind kind, std::span<const std::byte> payload, int fd) {
  if (payload.size() > kMaxPayload) return Status(Code::kInvalid, "control message too long");
  std::vector<std::byte> message(sizeof(kind) + payload.size());
  std::memcpy(message.data(), &kind, sizeof(kind));
  std::copy(payload.begin(), payload.end(), message.begin() + sizeof(kind));
  return SendWithFd(socket_.get(), message, fd);
}

Result<ControlMessage> ControlChannel::Receive() {
  std::vector<std::byte> buffer(sizeof(ControlKind) + kMaxPayload);
  Result<ReceivedMessage> received = ReceiveWithFd(socket_.get(), buffer);
  // A peer that died with unread messages shows as a reset, once; then comes what it said last.
  if (received.status().sys_errno() == ECONNRESET) {
    received = ReceiveWithFd(socket_.get(), buffer);
  }
  ControlMessage message;
  if (!received.ok()) {
    if (received.status().sys_errno() == ECONNRESET) return message;
    return std::move(received).status();
  }
  if (received->size == 0) return message;
  if (received->size < sizeof(ControlKind)) return Status(Code::kInvalid, "control message");
  std::memcpy(&message.kind, buffer.data(), sizeof(ControlKind));
  if (message.kind < ControlKind::kOpened || message.kind > ControlKind::kEnding) {
    return Status(Code::kInvalid, "control message of an unknown kind");
  }
  buffer.resize(received->size);
  message.payload.assign(buffer.begin() + sizeof(ControlKind), buffer.end());
  message.fd = std::move(received->fd);
  return message;
}

}  // namespace cairn
