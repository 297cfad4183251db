// How the command line talks to a mount's server: ioctls on descriptors, and what is in the way of
// them said in a sentence.
#ifndef CAIRN_TOOLS_CAIRN_CAIRN_CALL_H_
#define CAIRN_TOOLS_CAIRN_CAIRN_CALL_H_

#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/cairn_ioctl.h"
#include "src/base/unique_fd.h"

namespace cairn::cli {

// The outcome of a step: OK, or what to print. `error` is the errno, where there is one.
struct Outcome {
  int error = 0;
  std::string message;

  bool ok() const { return message.empty(); }
};

// Opens a volume or directory of a mount for asking.
Outcome OpenForCall(const std::string& path, UniqueFd& fd);

// "PATH: what the server or the operating system said; what to do next".
std::string DescribeCallError(const std::string& path, int error, std::string_view reason);

// Sends the command about the open file `path`. `argument` is one of cairn_ioc_* and gets its
// version here.
template <typename Argument>
Outcome Call(int fd, const std::string& path, unsigned long command, Argument& argument) {
  argument.version = CAIRN_IOC_VERSION;
  std::memset(argument.error, 0, sizeof(argument.error));
  int result = 0;
  do {
    result = ::ioctl(fd, command, &argument);
  } while (result < 0 && errno == EINTR);
  if (result >= 0) return {};
  const int error = errno;
  return {error,
          DescribeCallError(
              path, error,
              std::string_view(argument.error, ::strnlen(argument.error, sizeof(argument.error))))};
}

// false when it does not fit.
bool PutText(std::string_view text, char* field, size_t size);
template <size_t kSize>
bool PutText(std::string_view text, char (&field)[kSize]) {
  return PutText(text, field, kSize);
}
// A list of texts as cairn_ioctl.h has it. false when it does not fit, or an item is empty.
bool PutList(const std::vector<std::string>& items, char* field, size_t size);
std::vector<std::string> TakeList(const char* field, size_t size);
template <size_t kSize>
std::string TakeText(const char (&field)[kSize]) {
  return {field, ::strnlen(field, kSize)};
}

// "2026-05-01 13:00:07", in local time.
std::string LocalTime(int64_t since_1970_ns);
// "2026-05-01T11:00:07.123456789Z".
std::string UtcTime(int64_t since_1970_ns);

}  // namespace cairn::cli

#endif  // CAIRN_TOOLS_CAIRN_CAIRN_CALL_H_
