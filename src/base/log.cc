#include "src/base/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>

#include "src/base/mutex.h"
#include "src/base/thread_annotations.h"
#include "src/base/unique_fd.h"

namespace cairn {
namespace {

constexpr const char* kPattern = "%Y-%m-%dT%H:%M:%S.%eZ %L %P %v";

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

// spdlog's own file sink is not used: it buffers, and lets child processes inherit the file.
class FdSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  // An invalid `fd` stands for whatever stderr is at the time of a line.
  explicit FdSink(UniqueFd fd) : fd_(std::move(fd)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    const int fd = fd_.valid() ? fd_.get() : STDERR_FILENO;
    const char* next = line.data();
    size_t left = line.size();
    while (left > 0) {
      const ssize_t written = ::write(fd, next, left);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) return;
      next += written;
      left -= static_cast<size_t>(written);
    }
  }
  void flush_() override {}

 private:
  const UniqueFd fd_;
};

std::shared_ptr<spdlog::logger> NewLogger(UniqueFd fd) {
  auto logger = std::make_shared<spdlog::logger>("cairn", std::make_shared<FdSink>(std::move(fd)));
  logger->set_formatter(
      std::make_unique<spdlog::pattern_formatter>(kPattern, spdlog::pattern_time_type::utc));
  logger->set_level(spdlog::level::trace);  // Log() has its own threshold
  return logger;
}

struct State {
  std::atomic<LogLevel> threshold{LogLevel::kInfo};
  Mutex mu;
  std::shared_ptr<spdlog::logger> logger CAIRN_GUARDED_BY(mu) = NewLogger(UniqueFd());
};

// The one global of the project: a log that had to be handed to every constructor would not be
// used. Never destroyed, since destructors of statics may log.
State& GetState() {
  static State& state = *new State;
  return state;
}

void Replace(UniqueFd fd) {
  std::shared_ptr<spdlog::logger> logger = NewLogger(std::move(fd));
  State& state = GetState();
  const MutexLock lock(state.mu);
  state.logger.swap(logger);
}

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

std::string Escaped(std::string_view message) {
  std::string text;
  text.reserve(message.size());
  for (const char c : message) {
    if (IsControl(c)) {
      fmt::format_to(std::back_inserter(text), "\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      text += c;
    }
  }
  return text;
}

}  // namespace

void LogTo(const std::string& path) noexcept {
  try {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
    const int open_errno = errno;
    const bool opened = fd.valid();
    Replace(std::move(fd));
    if (!opened) {
      LogError("log file {}: {}: logging to stderr", path, std::strerror(open_errno));
    }
  } catch (...) {  // out of memory: the log stays where it was
  }
}

void LogToStderr() noexcept {
  try {
    Replace(UniqueFd());
  } catch (...) {  // out of memory: the log stays where it was
  }
}

void SetLogLevel(LogLevel level) noexcept {
  try {
    GetState().threshold.store(level, std::memory_order_relaxed);
  } catch (...) {  // out of memory in the first call of all
  }
}

void Log(LogLevel level, std::string_view message) noexcept {
  try {
    State& state = GetState();
    if (level < state.threshold.load(std::memory_order_relaxed)) return;
    std::shared_ptr<spdlog::logger> logger;
    {
      const MutexLock lock(state.mu);
      logger = state.logger;
    }
    logger->log(ToSpdlog(level), Escaped(message));
  } catch (...) {  // the line is lost, which is all that a log may do about it
  }
}

void LogFormatted(LogLevel level, fmt::string_view format, fmt::format_args args) noexcept {
  try {
    if (level < GetState().threshold.load(std::memory_order_relaxed)) return;
    Log(level, fmt::vformat(format, args));
  } catch (...) {
    Log(level, std::string_view(format.data(), format.size()));
  }
}

}  // namespace cairn
