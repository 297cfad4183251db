#include "tools/cairn/cairn_call.h"

#include <fcntl.h>
#include <time.h>

#include <array>
#include <cstdio>

#include "tools/cairn/mounts.h"

namespace cairn::cli {
namespace {

constexpr int64_t kNsPerSecond = 1'000'000'000;

// What a person can do about it, where the reason does not say.
std::string NextStep(const std::string& path, int error) {
  switch (error) {
    case ENOTTY:
      return "; it is not in a Cairn mount" + KnownMounts();
    case ENOTCONN:
      return "; the mount's server is dead: 'cairn unmount " + path + "', then mount it again";
    case EACCES:
    case EPERM:
      return "; ask its owner, or try as root";
    case EBUSY:
      return "; 'fuser -v' and 'losetup -l' show who uses it";
    case ETIMEDOUT:
      return "; nothing was changed: try again, or allow more time";
    case EROFS:
      return "; mount the store writable, or clone the snapshot and write to the clone";
    default:
      return "";
  }
}

std::string FormatTime(int64_t since_1970_ns, const char* format, bool utc) {
  int64_t whole = since_1970_ns / kNsPerSecond;
  if (since_1970_ns % kNsPerSecond < 0) --whole;
  const time_t seconds = whole;
  tm parts{};
  if (utc) {
    ::gmtime_r(&seconds, &parts);
  } else {
    ::localtime_r(&seconds, &parts);
  }
  std::array<char, 64> text{};
  const size_t size = ::strftime(text.data(), text.size(), format, &parts);
  return {text.data(), size};
}

}  // namespace

Outcome OpenForCall(const std::string& path, UniqueFd& fd) {
  fd = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (fd.valid()) return {};
  const int error = errno;
  const std::string next = error == ENOENT ? KnownMounts() : NextStep(path, error);
  return {error, path + ": " + ::strerror(error) + next};
}

std::string DescribeCallError(const std::string& path, int error, std::string_view reason) {
  // Without a reason the server may be of another version, or it was the kernel that said no.
  std::string text = path + ": ";
  text += reason.empty() ? std::string(::strerror(error)) : std::string(reason);
  return text + NextStep(path, error);
}

bool PutText(std::string_view text, char* field, size_t size) {
  if (text.size() >= size || text.find('\0') != std::string_view::npos) return false;
  std::memset(field, 0, size);
  std::memcpy(field, text.data(), text.size());
  return true;
}

bool PutList(const std::vector<std::string>& items, char* field, size_t size) {
  std::memset(field, 0, size);
  size_t used = 0;
  for (const std::string& item : items) {
    // Its own NUL, and the empty text that ends the list.
    if (item.empty() || item.size() + 2 > size - used) return false;
    std::memcpy(field + used, item.c_str(), item.size() + 1);
    used += item.size() + 1;
  }
  return true;
}

std::vector<std::string> TakeList(const char* field, size_t size) {
  std::vector<std::string> items;
  size_t used = 0;
  while (used < size && field[used] != '\0') {
    items.emplace_back(field + used, ::strnlen(field + used, size - used));
    used += items.back().size() + 1;
  }
  return items;
}

std::string LocalTime(int64_t since_1970_ns) {
  return FormatTime(since_1970_ns, "%Y-%m-%d %H:%M:%S", /*utc=*/false);
}

std::string UtcTime(int64_t since_1970_ns) {
  int64_t rest = since_1970_ns % kNsPerSecond;
  if (rest < 0) rest += kNsPerSecond;
  std::array<char, 16> fraction{};
  std::snprintf(fraction.data(), fraction.size(), ".%09dZ", static_cast<int>(rest));
  return FormatTime(since_1970_ns, "%Y-%m-%dT%H:%M:%S", /*utc=*/true) + fraction.data();
}

}  // namespace cairn::cli
