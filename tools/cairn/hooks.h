// Commands that run before and after a snapshot, to bring a database or filesystem to rest.
//
// For one thread. A command runs as `/bin/sh -c COMMAND` in a process group of its own, so that
// all it started can be ended when its time is over.
#ifndef CAIRN_TOOLS_CAIRN_HOOKS_H_
#define CAIRN_TOOLS_CAIRN_HOOKS_H_

#include <signal.h>

#include <chrono>
#include <map>
#include <string>

namespace cairn::cli {

struct HookResult {
  bool ran = false;
  bool timed_out = false;
  int exit_code = 0;  // 128 + N when signal N ended it
  double seconds = 0;

  bool ok() const { return !timed_out && exit_code == 0; }
  // "exited 3", "was ended after 30 s".
  std::string Describe() const;
};

// `variables` are added to the environment. Returns when the command has ended, or was ended (first
// SIGTERM, then SIGKILL) because `limit` passed, and in any case seconds after that. Its output
// goes where ours does, but to stderr. From then on SIGCHLD is not ignored.
HookResult RunHook(const std::string& command, std::chrono::milliseconds limit,
                   const std::map<std::string, std::string>& variables);

// While it lives, the signals by which a person, a terminal or a service manager ends or stops
// programs wait: between a hook that froze something and the one that thaws it nobody may be left
// frozen. Hooks, in groups of their own, get those that are sent to them.
class SignalsWait {
 public:
  SignalsWait();
  ~SignalsWait();
  SignalsWait(const SignalsWait&) = delete;
  SignalsWait& operator=(const SignalsWait&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace cairn::cli

#endif  // CAIRN_TOOLS_CAIRN_HOOKS_H_
