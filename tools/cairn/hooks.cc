#include "tools/cairn/hooks.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <vector>

#include "src/base/unique_fd.h"

namespace cairn::cli {
namespace {

using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kGrace{2000};  // for each of SIGTERM and SIGKILL to work
constexpr std::chrono::milliseconds kNap{5};       // between two looks, where nobody wakes us
constexpr int kNotRun = 127;

std::vector<std::string> Environment(const std::map<std::string, std::string>& variables) {
  std::vector<std::string> words;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string word = *each;
    if (!variables.contains(word.substr(0, word.find('=')))) words.push_back(word);
  }
  for (const auto& [name, value] : variables) words.push_back(name + "=" + value);
  return words;
}

std::vector<char*> Pointers(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

// 0 or errno.
int Spawn(const std::string& command, const std::map<std::string, std::string>& variables,
          pid_t& pid) {
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  // A group of its own is in the background of a terminal, which would stop it for writing or
  // asking there: it writes all the same, and gets an error for asking.
  sigset_t held;
  ::sigemptyset(&held);
  ::sigaddset(&held, SIGTTOU);
  ::sigaddset(&held, SIGTTIN);
  ::posix_spawnattr_setsigmask(&attributes, &held);
  // Our stdout holds one JSON document and nothing else.
  ::posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  std::vector<std::string> arguments = {"sh", "-c", command};
  std::vector<std::string> environment = Environment(variables);
  const int error = ::posix_spawn(&pid, "/bin/sh", &actions, &attributes,
                                  Pointers(arguments).data(), Pointers(environment).data());
  ::posix_spawn_file_actions_destroy(&actions);
  ::posix_spawnattr_destroy(&attributes);
  return error;
}

// A child that runs.
class Child {
 public:
  // Without a pidfd (a filter of system calls may forbid them) its end is seen a nap later.
  explicit Child(pid_t pid)
      : pid_(pid), pidfd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))) {}

  // Whether it ended within `limit`.
  bool AwaitEnd(std::chrono::milliseconds limit) {
    const auto deadline = SteadyClock::now() + limit;
    while (!HasEnded()) {
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          deadline - SteadyClock::now() + std::chrono::microseconds(999));
      if (left.count() <= 0) return false;
      if (!pidfd_.valid()) left = std::min(left, kNap);
      // One that is negative is passed over.
      pollfd waiting{pidfd_.get(), POLLIN, 0};
      static_cast<void>(::poll(&waiting, 1, static_cast<int>(left.count())));
    }
    return true;
  }
  void SignalGroup(int signal) { ::kill(-pid_, signal); }
  // As waitpid gives it; that of a command that failed, should nobody know. REQUIRES: it has ended.
  int TakeStatus() {
    int status = W_EXITCODE(kNotRun, 0);
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) continue;
    return status;
  }

 private:
  // Leaves it to TakeStatus, so that the number of its group stays its own.
  bool HasEnded() const {
    siginfo_t info{};
    const int error = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
    return error != 0 ? errno != EINTR : info.si_pid == pid_;
  }

  const pid_t pid_;
  const UniqueFd pidfd_;
};

}  // namespace

std::string HookResult::Describe() const {
  if (!ran) return "was not run";
  if (timed_out) {
    char text[64];
    std::snprintf(text, sizeof(text), "was ended after %.1f s (--hook-timeout)", seconds);
    return text;
  }
  return "exited " + std::to_string(exit_code);
}

HookResult RunHook(const std::string& command, std::chrono::milliseconds limit,
                   const std::map<std::string, std::string>& variables) {
  HookResult result;
  result.ran = true;
  const auto begin = SteadyClock::now();
  // Whoever started us may have had it ignored: then nobody learns how a child ended.
  ::signal(SIGCHLD, SIG_DFL);
  pid_t pid = 0;
  if (Spawn(command, variables, pid) != 0) {
    result.exit_code = kNotRun;
    return result;
  }
  Child child(pid);
  bool ended = child.AwaitEnd(limit);
  if (!ended) {
    result.timed_out = true;
    child.SignalGroup(SIGTERM);
    child.SignalGroup(SIGCONT);  // who was stopped gets it, too
    ended = child.AwaitEnd(kGrace);
    // What the shell left behind in its group has had its time, too.
    child.SignalGroup(SIGKILL);
    // One that sleeps in the kernel, say at a filesystem that it froze itself, does not end.
    if (!ended) ended = child.AwaitEnd(kGrace);
  }
  if (ended) {
    const int status = child.TakeStatus();
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  } else {
    result.exit_code = 128 + SIGKILL;
  }
  result.seconds = std::chrono::duration<double>(SteadyClock::now() - begin).count();
  return result;
}

SignalsWait::SignalsWait() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
                           SIGUSR2, SIGALRM, SIGXCPU}) {
    ::sigaddset(&set, number);
  }
  ::sigprocmask(SIG_BLOCK, &set, &before_);
}

SignalsWait::~SignalsWait() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace cairn::cli
