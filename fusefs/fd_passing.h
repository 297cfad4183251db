// Messages over a Unix socket that may carry one file descriptor.
#ifndef CAIRN_FUSEFS_FD_PASSING_H_
#define CAIRN_FUSEFS_FD_PASSING_H_

#include <cstddef>
#include <span>

#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {

struct ReceivedMessage {
  size_t size = 0;  // 0: the other end is closed
  UniqueFd fd;      // close-on-exec; not valid when none came
};

// `fd` -1: none. kIo, also when the other side reads nothing any more: it does not wait. Does not
// raise SIGPIPE.
Status SendWithFd(int socket, std::span<const std::byte> data, int fd);
// Waits for one message. kIo; a message longer than `buffer` is one too.
Result<ReceivedMessage> ReceiveWithFd(int socket, std::span<std::byte> buffer);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_FD_PASSING_H_
