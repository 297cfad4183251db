#include "tools/cairn/mounts.h"

#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <sstream>

namespace cairn::cli {
namespace {

bool IsOctal(char c) { return c >= '0' && c <= '7'; }

// The kernel writes blanks, tabs, newlines and backslashes as \ooo.
std::string Unescape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && IsOctal(text[i + 1]) && IsOctal(text[i + 2]) &&
        IsOctal(text[i + 3])) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                               (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&::free)> real(::realpath(path.c_str(), nullptr), &::free);
  return real ? std::string(real.get()) : std::string();
}

bool Contains(const std::string& folder, const std::string& path) {
  if (folder == "/") return true;
  return path.starts_with(folder) && (path.size() == folder.size() || path[folder.size()] == '/');
}

}  // namespace

std::vector<MountEntry> ParseMountInfo(std::string_view text) {
  std::vector<MountEntry> mounts;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string> fields;
    for (std::string word; words >> word;) fields.push_back(word);
    // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    if (dash - fields.begin() < 6 || fields.end() - dash < 3) continue;
    mounts.push_back({Unescape(fields[4]), dash[1], Unescape(dash[2])});
  }
  return mounts;
}

std::vector<MountEntry> ReadMounts() {
  std::ifstream file("/proc/self/mountinfo");
  std::ostringstream text;
  text << file.rdbuf();
  return ParseMountInfo(text.str());
}

std::optional<MountEntry> MountAt(const std::string& path) {
  std::optional<MountEntry> found;
  for (MountEntry& mount : ReadMounts()) {
    if (mount.mountpoint == path) found = std::move(mount);
  }
  return found;
}

std::optional<MountEntry> MountContaining(const std::string& path) {
  std::optional<MountEntry> found;
  for (MountEntry& mount : ReadMounts()) {
    if (!Contains(mount.mountpoint, path)) continue;
    if (!found || mount.mountpoint.size() >= found->mountpoint.size()) found = std::move(mount);
  }
  return found;
}

std::string AbsolutePath(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  const size_t slash = trimmed.rfind('/');
  const std::string last = slash == std::string::npos ? trimmed : trimmed.substr(slash + 1);
  const std::string folder = slash == std::string::npos ? "." : trimmed.substr(0, slash + 1);
  std::string real = RealPath(trimmed);
  if (real.empty() && !last.empty() && last != "." && last != "..") {
    real = RealPath(folder);
    if (!real.empty()) real += (real == "/" ? "" : "/") + last;
  }
  return real.empty() ? path : real;
}

std::string KnownMounts() {
  std::string list;
  for (const MountEntry& mount : ReadMounts()) {
    if (mount.is_cairn()) list += (list.empty() ? "" : ", ") + mount.mountpoint;
  }
  if (list.empty()) return " (there is no Cairn mount here)";
  return " (Cairn mounts here: " + list + ")";
}

}  // namespace cairn::cli
