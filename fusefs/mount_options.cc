#include "fusefs/mount_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <vector>

namespace cairn {
namespace {

constexpr uint64_t kLeastMemory = 32ull << 20;
constexpr uint64_t kLeastJournal = 1ull << 20;
constexpr uint64_t kMostJournal = 1ull << 40;
constexpr int kMostThreads = 256;
constexpr int64_t kMostWatchdogSeconds = int64_t{24} * 3600;
constexpr int64_t kMostSealSeconds = int64_t{7} * 24 * 3600;

struct FlagOption {
  std::string_view name;
  unsigned long set = 0;
  unsigned long clear = 0;
};

// Those of mount(8) that mean something for volumes. `suid` and `dev` are not among them:
// mount.fuse3 adds them by itself when root mounts.
constexpr std::array kFlagOptions = {
    FlagOption{"exec", 0, MS_NOEXEC},         FlagOption{"noexec", MS_NOEXEC, 0},
    FlagOption{"atime", 0, MS_NOATIME},       FlagOption{"noatime", MS_NOATIME, 0},
    FlagOption{"diratime", 0, MS_NODIRATIME}, FlagOption{"nodiratime", MS_NODIRATIME, 0},
    FlagOption{"relatime", MS_RELATIME, 0},   FlagOption{"norelatime", 0, MS_RELATIME},
    FlagOption{"sync", MS_SYNCHRONOUS, 0},    FlagOption{"async", 0, MS_SYNCHRONOUS},
    FlagOption{"dirsync", MS_DIRSYNC, 0},
};

// For mount(8), fstab and libfuse's own parser; nothing to do here.
constexpr std::array<std::string_view, 20> kPassedOver = {"defaults",
                                                          "auto",
                                                          "noauto",
                                                          "user",
                                                          "nouser",
                                                          "users",
                                                          "owner",
                                                          "group",
                                                          "nofail",
                                                          "_netdev",
                                                          "suid",
                                                          "nosuid",
                                                          "dev",
                                                          "nodev",
                                                          "nonempty",
                                                          "big_writes",
                                                          "default_permissions",
                                                          "lazytime",
                                                          "nolazytime",
                                                          "iversion"};
constexpr std::array<std::string_view, 5> kPassedOverWithValue = {"comment", "subtype", "fsname",
                                                                  "max_read", "uhelper"};

std::vector<std::string> Split(std::string_view text) {
  std::vector<std::string> words(1);
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      words.back() += text[++i];
    } else if (text[i] == ',') {
      words.emplace_back();
    } else {
      words.back() += text[i];
    }
  }
  return words;
}

std::string Escape(std::string_view value) {
  std::string escaped;
  for (const char c : value) {
    if (c == ',' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return escaped;
}

Status BadValue(std::string_view option, std::string_view why) {
  return Status(Code::kInvalid, fmt::format("option '{}': {}", option, why));
}

Status ParseBoundedSize(std::string_view name, std::string_view value, uint64_t least,
                        uint64_t most, uint64_t& out) {
  const Result<uint64_t> size = ParseSize(value);
  if (!size.ok()) return BadValue(name, size.status().context());
  if (*size < least || *size > most) {
    return BadValue(name,
                    fmt::format("{} is not between {}M and {}M", value, least >> 20, most >> 20));
  }
  out = *size;
  return Status::Ok();
}

Status ParseThreads(std::string_view value, int& out) {
  int threads = 0;
  const auto [end, error] = std::from_chars(value.begin(), value.end(), threads);
  if (error != std::errc() || end != value.end() || threads < 1 || threads > kMostThreads) {
    return BadValue("threads", fmt::format("'{}' is not between 1 and {}", value, kMostThreads));
  }
  out = threads;
  return Status::Ok();
}

template <typename Duration>
Status ParseSeconds(std::string_view name, std::string_view value, int64_t most, Duration& out) {
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(value.begin(), value.end(), seconds);
  if (error != std::errc() || end != value.end() || seconds < 0 || seconds > most) {
    return BadValue(name, fmt::format("'{}' is not between 0 and {} seconds", value, most));
  }
  out = std::chrono::seconds(seconds);
  return Status::Ok();
}

// Sets `known` when the option is one of Cairn's that take a value.
Status ParseValued(std::string_view name, std::string_view value, MountOptions& options,
                   bool& known) {
  known = true;
  if (name == "log") {
    if (value.empty()) return BadValue(name, "needs a file");
    options.log = value;
    return Status::Ok();
  }
  if (name == "memory") {
    return ParseBoundedSize(name, value, kLeastMemory, std::numeric_limits<uint64_t>::max(),
                            options.memory_bytes);
  }
  if (name == "journal") {
    return ParseBoundedSize(name, value, kLeastJournal, kMostJournal, options.journal_bytes);
  }
  if (name == "threads") return ParseThreads(value, options.threads);
  if (name == "seal") return ParseSeconds(name, value, kMostSealSeconds, options.seal_after);
  if (name == "watchdog") return ParseSeconds(name, value, kMostWatchdogSeconds, options.watchdog);
  if (name == "cold") return BadValue(name, "this version of Cairn has no cold tier");
  if (name == "keyring") return BadValue(name, "this version of Cairn has no encryption");
  known = false;
  return Status::Ok();
}

Status ParseOne(std::string_view option, MountOptions& options) {
  if (option.empty() || option.starts_with("x-") || option.starts_with("X-")) return Status::Ok();
  if (option == "rw" || option == "ro") {
    options.read_only = option == "ro";
    return Status::Ok();
  }
  if (option == "allow_other") {
    options.allow_other = true;
    return Status::Ok();
  }
  if (option == "no_replace") {
    options.replace_server = false;
    return Status::Ok();
  }
  if (option == "core_dumps") {
    options.core_dumps = true;
    return Status::Ok();
  }
  for (const FlagOption& flag : kFlagOptions) {
    if (option == flag.name) {
      options.mount_flags = (options.mount_flags | flag.set) & ~flag.clear;
      return Status::Ok();
    }
  }
  if (std::ranges::find(kPassedOver, option) != kPassedOver.end()) return Status::Ok();

  const size_t equals = option.find('=');
  if (equals != std::string_view::npos) {
    const std::string_view name = option.substr(0, equals);
    bool known = false;
    CAIRN_RETURN_IF_ERROR(ParseValued(name, option.substr(equals + 1), options, known));
    if (known) return Status::Ok();
    if (std::ranges::find(kPassedOverWithValue, name) != kPassedOverWithValue.end()) {
      return Status::Ok();
    }
  }
  return Status(Code::kInvalid, fmt::format("unknown option '{}'", option));
}

}  // namespace

Status ParseMountOptions(std::string_view text, MountOptions& options) {
  for (const std::string& option : Split(text)) {
    CAIRN_RETURN_IF_ERROR(ParseOne(option, options));
  }
  return Status::Ok();
}

std::string FormatServerOptions(const MountOptions& options) {
  std::string text = fmt::format("{},memory={},journal={}", options.read_only ? "ro" : "rw",
                                 options.memory_bytes, options.journal_bytes);
  text += fmt::format(",seal={}",
                      std::chrono::duration_cast<std::chrono::seconds>(options.seal_after).count());
  if (options.threads > 0) text += fmt::format(",threads={}", options.threads);
  if (!options.log.empty()) text += ",log=" + Escape(options.log);
  if (options.core_dumps) text += ",core_dumps";
  return text;
}

Result<uint64_t> ParseSize(std::string_view text) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.begin(), text.end(), number);
  const std::string_view unit(end, static_cast<size_t>(text.end() - end));
  constexpr std::string_view kUnits = "KMGT";
  unsigned shift = 0;
  if (!unit.empty()) {
    const size_t index = kUnits.find(unit[0]);
    if (index == std::string_view::npos || unit.size() != 1) {
      return Status(Code::kInvalid, fmt::format("'{}' is not a size like 64M", text));
    }
    shift = 10 * (static_cast<unsigned>(index) + 1);
  }
  if (error != std::errc() || number > (std::numeric_limits<uint64_t>::max() >> shift)) {
    return Status(Code::kInvalid, fmt::format("'{}' is not a size like 64M", text));
  }
  return number << shift;
}

}  // namespace cairn
