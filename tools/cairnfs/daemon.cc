#include "tools/cairnfs/daemon.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <string>

namespace cairn {
namespace {

constexpr char kReady = 'R';
constexpr char kFailed = 'F';

}  // namespace

void StartReport::Ready() { Tell(kReady, {}); }

void StartReport::Fail(std::string_view reason) { Tell(kFailed, reason); }

void StartReport::Tell(char verdict, std::string_view text) {
  if (done_) return;
  done_ = true;
  if (!in_background_) {
    if (verdict == kFailed) {
      std::fprintf(stderr, "cairnfs: %.*s\n", static_cast<int>(text.size()), text.data());
    }
    return;
  }
  const std::string message = verdict + std::string(text);
  // A parent that is gone cannot be told; there is nobody else.
  [[maybe_unused]] const ssize_t written = write(pipe_.get(), message.data(), message.size());
  pipe_.Reset();
}

Result<Daemon> StartDaemon() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return Status::FromErrno(errno, "pipe");
  UniqueFd read_end(ends[0]);
  UniqueFd write_end(ends[1]);
  const pid_t child = fork();
  if (child < 0) return Status::FromErrno(errno, "fork");
  if (child > 0) return Daemon{.child = child, .pipe = std::move(read_end)};
  setsid();
  if (chdir("/") != 0) return Status::FromErrno(errno, "/");
  return Daemon{.child = 0, .pipe = std::move(write_end)};
}

Status AwaitStart(const Daemon& daemon) {
  std::string verdict;
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(daemon.pipe.get(), buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    verdict.append(buffer, static_cast<size_t>(got));
  }
  if (!verdict.empty() && verdict[0] == kReady) return Status::Ok();
  if (verdict.size() > 1) return Status(Code::kIo, verdict.substr(1));
  return Status(Code::kIo, "the background process ended without a word");
}

void LetGoOfTerminal(const std::string& log_path) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.valid()) {
    dup2(null.get(), STDIN_FILENO);
    dup2(null.get(), STDOUT_FILENO);
    dup2(null.get(), STDERR_FILENO);
  }
  if (log_path.empty()) return;
  const UniqueFd log(open(log_path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
  if (log.valid()) dup2(log.get(), STDERR_FILENO);
}

}  // namespace cairn
