// Log: the process's log, one line a call: UTC time with milliseconds, level letter, pid, message.
//
//   2024-05-01T12:00:00.123Z W 4711 volume 12: 3 records skipped
//
// Usable from any thread at any time, before the first LogTo (then to stderr) and during exit.
// Nothing here throws or fails: a line that cannot be written is lost. Each line is one write(2)
// to a descriptor in append mode, so it is out before the call returns, whatever its level, and
// lines of several processes do not mix. Control characters in a message are written as \xNN, so
// a name that a user chose cannot forge a line. Not to be called between fork and exec.
#ifndef CAIRN_SRC_BASE_LOG_H_
#define CAIRN_SRC_BASE_LOG_H_

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <utility>

namespace cairn {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Appends to file `path` from here on; creates it with mode 0640. If it cannot be opened, says so
// on stderr and goes on there. Calling it again with the same path reopens the file, after a
// rotation.
void LogTo(const std::string& path) noexcept;
void LogToStderr() noexcept;
// Lines below `level` are dropped; kInfo at the start.
void SetLogLevel(LogLevel level) noexcept;

void Log(LogLevel level, std::string_view message) noexcept;
// The format is checked at compile time by the helpers below.
void LogFormatted(LogLevel level, fmt::string_view format, fmt::format_args args) noexcept;

template <typename... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) noexcept {
  LogFormatted(LogLevel::kDebug, format, fmt::make_format_args(args...));
}

template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) noexcept {
  LogFormatted(LogLevel::kInfo, format, fmt::make_format_args(args...));
}

template <typename... Args>
void LogWarn(fmt::format_string<Args...> format, Args&&... args) noexcept {
  LogFormatted(LogLevel::kWarning, format, fmt::make_format_args(args...));
}

template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) noexcept {
  LogFormatted(LogLevel::kError, format, fmt::make_format_args(args...));
}

}  // namespace cairn

#endif  // CAIRN_SRC_BASE_LOG_H_
