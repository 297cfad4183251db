// ControlSocket: how `cairn restart` and `cairn upgrade` reach the supervisor: a socket
// STORE/control for root and the owner of the mount. One message asks, one answers, and the
// connection ends:
//
//   restart                        the same program anew
//   upgrade PATH + fd              the program in the descriptor (program_copy.h) instead; the
//                                  supervisor opens no path, which could make it wait
//   answer: "ok JSON" or "failed REASON"
//
// Used by the supervisor's thread.
#ifndef CAIRN_TOOLS_CAIRNFS_CONTROL_SOCKET_H_
#define CAIRN_TOOLS_CAIRNFS_CONTROL_SOCKET_H_

#include <string>
#include <string_view>

#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {

struct ControlRequest {
  UniqueFd client;
  std::string verb;
  std::string path;  // of upgrade: where the program came from, for people
  UniqueFd fd;       // whatever came with the message
};

class ControlSocket {
 public:
  ControlSocket() = default;
  // Takes the place of one that an earlier mount left. REQUIRES: the caller holds the store's lock.
  static Result<ControlSocket> Create(const std::string& store);

  int fd() const { return socket_.get(); }
  // A connection's message. kPermission, kInvalid, kIo: there is nothing to be done.
  Result<ControlRequest> Accept();
  void Close();

 private:
  UniqueFd socket_;
  std::string path_;
};

// The client's side: sends `request`, and `fd` unless it is -1, to the supervisor of the store, and
// waits for the answer. kNotFound when there is none, kPermission.
Result<std::string> AskSupervisor(const std::string& store, std::string_view request, int fd);

// In the answer's place when the client is gone: nothing.
void AnswerClient(const UniqueFd& client, std::string_view answer);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_CONTROL_SOCKET_H_
