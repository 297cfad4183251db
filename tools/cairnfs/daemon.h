// Going into the background, with the result reported to whoever waits in the foreground.
#ifndef CAIRN_TOOLS_CAIRNFS_DAEMON_H_
#define CAIRN_TOOLS_CAIRNFS_DAEMON_H_

#include <sys/types.h>

#include <string>
#include <string_view>

#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {

// How the start ended. Ready or Fail is called once; later calls do nothing.
class StartReport {
 public:
  // Prints failures on stderr; for the foreground.
  StartReport() = default;
  // Tells the process that holds the other end of this pipe.
  explicit StartReport(UniqueFd pipe) : pipe_(std::move(pipe)), in_background_(true) {}

  bool in_background() const { return in_background_; }
  void Ready();
  void Fail(std::string_view reason);

 private:
  void Tell(char verdict, std::string_view text);

  UniqueFd pipe_;
  bool in_background_ = false;
  bool done_ = false;
};

struct Daemon {
  pid_t child = 0;  // 0: this is the child, a session of its own, which goes on
  UniqueFd pipe;    // the child's end for its StartReport, or the parent's
};
// Forks. REQUIRES: one thread.
Result<Daemon> StartDaemon();

// In the parent: waits for the verdict. OK: ready.
Status AwaitStart(const Daemon& daemon);

// Points stdin and stdout at /dev/null, stderr too or at `log_path` when there is one, so that
// whoever reads the command's output sees its end.
void LetGoOfTerminal(const std::string& log_path);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_DAEMON_H_
