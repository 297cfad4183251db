#include "tools/cairn/hooks.h"

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <functional>
#include <iterator>

namespace cairn::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto kLong = 60s;

// This process has no pidfds any more.
bool ForbidPidfds() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{std::size(filter), filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0 &&
         ::syscall(SYS_pidfd_open, ::getpid(), 0) < 0 && errno == ENOSYS;
}

class HooksTest : public ::testing::TestWithParam<bool> {
 protected:
  // What `act` finds in a process of its own, with pidfds or without.
  static bool Holds(const std::function<bool()>& act) {
    const pid_t pid = ::fork();
    if (pid == 0) ::_exit((GetParam() || ForbidPidfds()) && act() ? 0 : 1);
    int status = -1;
    ::waitpid(pid, &status, WUNTRACED);
    if (WIFSTOPPED(status)) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
};

TEST_P(HooksTest, TellsHowTheCommandEnded) {
  EXPECT_TRUE(Holds([] { return RunHook("exit 0", kLong, {}).ok(); }));
  EXPECT_TRUE(Holds([] { return RunHook("exit 3", kLong, {}).exit_code == 3; }));
  EXPECT_TRUE(Holds([] { return RunHook("kill -TERM $$", kLong, {}).exit_code == 128 + SIGTERM; }));
  EXPECT_TRUE(Holds([] { return RunHook("test \"$A\" = b", kLong, {{"A", "b"}}).ok(); }));
}

TEST_P(HooksTest, WaitsForACommandThatTakesItsTime) {
  EXPECT_TRUE(Holds([] {
    const HookResult result = RunHook("sleep 0.1; exit 5", kLong, {});
    return result.exit_code == 5 && result.seconds >= 0.1;
  }));
}

TEST_P(HooksTest, WaitsForItsChildrenEvenIfItsParentIgnoredThem) {
  EXPECT_TRUE(Holds([] {
    ::signal(SIGCHLD, SIG_IGN);
    const HookResult result = RunHook("exit 3", kLong, {});
    return result.exit_code == 3 && !result.timed_out;
  }));
}

TEST_P(HooksTest, EndsACommandWhoseTimeIsOver) {
  EXPECT_TRUE(Holds([] {
    const HookResult result = RunHook("sleep 60", 50ms, {});
    return result.timed_out && result.exit_code == 128 + SIGTERM && result.seconds < 30;
  }));
}

// What a terminal stops must have a chance to end well. Time enough for a shell to set its trap.
TEST_P(HooksTest, OneThatWasStoppedGetsItsSigterm) {
  EXPECT_TRUE(Holds([] {
    const HookResult result = RunHook("trap 'exit 7' TERM; kill -STOP $$; sleep 60", 2s, {});
    return result.timed_out && result.exit_code == 7;
  }));
}

TEST_P(HooksTest, EndsACommandThatDoesNotListen) {
  EXPECT_TRUE(Holds([] {
    const HookResult result = RunHook("trap '' TERM; while :; do sleep 1; done", 2s, {});
    return result.timed_out && result.exit_code == 128 + SIGKILL && result.seconds < 30;
  }));
}

TEST_P(HooksTest, EndsWhatTheCommandLeftBehind) {
  // All of them inherit the pipe's reading end.
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  ASSERT_TRUE(
      Holds([] { return RunHook("(trap '' TERM; sleep 60; :) & sleep 60", 50ms, {}).timed_out; }));
  ::close(ends[0]);
  const auto before = ::signal(SIGPIPE, SIG_IGN);
  // Nobody has the reading end any more.
  for (int tries = 0; tries < 1000 && ::write(ends[1], "x", 1) == 1; ++tries) ::usleep(10'000);
  EXPECT_EQ(::write(ends[1], "x", 1), -1);
  ::close(ends[1]);
  ::signal(SIGPIPE, before);
}

TEST_P(HooksTest, NoSignalEndsOrStopsUsBetweenTwoHooks) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
                           SIGUSR2, SIGALRM, SIGXCPU}) {
    EXPECT_TRUE(Holds([number] {
      // Until the process ends, and with it what waits.
      static const SignalsWait signals;
      ::raise(number);
      if (!RunHook("exit 0", kLong, {}).ok()) return false;
      sigset_t waiting;
      ::sigpending(&waiting);
      return ::sigismember(&waiting, number) == 1;
    })) << number;
  }
}

TEST_P(HooksTest, SignalsEndACommandAsEver) {
  EXPECT_TRUE(Holds([] {
    const SignalsWait signals;
    return RunHook("kill -USR1 $$; exit 0", kLong, {}).exit_code == 128 + SIGUSR1;
  }));
}

INSTANTIATE_TEST_SUITE_P(Pidfds, HooksTest, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "WithThem" : "WithoutThem"; });

}  // namespace
}  // namespace cairn::cli
