// cairn status: what a mount says of itself, or of one of its files.
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <iostream>

#include "tools/cairn/command.h"
#include "tools/cairn/mounts.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kStatusAttribute = "user.cairn.status";
// The document may grow between asking for its size and reading it.
constexpr size_t kSpareBytes = 4096;
constexpr int kTries = 8;

struct Options {
  std::string path;
  bool json = false;
};

// The attribute, or errno.
int ReadStatus(const std::string& path, std::string& value) {
  for (int i = 0; i < kTries; ++i) {
    const ssize_t size = ::getxattr(path.c_str(), kStatusAttribute, nullptr, 0);
    if (size < 0) return errno;
    value.resize(static_cast<size_t>(size) + kSpareBytes);
    const ssize_t got = ::getxattr(path.c_str(), kStatusAttribute, value.data(), value.size());
    if (got >= 0) {
      value.resize(static_cast<size_t>(got));
      return 0;
    }
    if (errno != ERANGE) return errno;
  }
  return ERANGE;
}

bool IsByteCount(const std::string& key) { return key == "size" || key.ends_with("_bytes"); }

std::string Text(const std::string& key, const Json& value) {
  if (value.is_string()) return Printable(value.get<std::string>());
  if (IsByteCount(key) && value.is_number_unsigned()) return HumanBytes(value.get<uint64_t>());
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_null()) return "-";
  return value.dump();
}

void PrintForPeople(const Json& object, const std::string& indent) {
  size_t width = 0;
  for (const auto& [key, value] : object.items()) width = std::max(width, key.size());
  for (const auto& [key, value] : object.items()) {
    std::string label = key;
    std::replace(label.begin(), label.end(), '_', ' ');
    std::cout << indent << label;
    if (value.is_object() && !value.empty()) {
      std::cout << '\n';
      PrintForPeople(value, indent + "  ");
    } else {
      std::cout << std::string(width - key.size() + 2, ' ') << Text(key, value) << '\n';
    }
  }
}

// The kernel may answer stat for a dead server, so it shows at either call.
int FailWith(int error, const Options& options, const std::string& next) {
  if (error == ENOTCONN) {
    return Fail(options.path + ": the mount's server is dead; clear it with 'cairn unmount " +
                options.path + "' and mount the store again");
  }
  return Fail(options.path + ": " + ::strerror(error) + next);
}

int Run(const Options& options) {
  const std::string path = AbsolutePath(options.path);
  struct stat st {};
  if (::stat(path.c_str(), &st) != 0) return FailWith(errno, options, KnownMounts());
  const auto mount = MountContaining(path);
  if (!mount || !mount->is_cairn()) {
    return Fail(options.path + " is not in a Cairn mount" + KnownMounts());
  }
  std::string value;
  if (const int error = ReadStatus(path, value); error != 0) {
    return FailWith(error, options,
                    std::string(": ") + kStatusAttribute + " cannot be read; see the mount's log");
  }
  const Json document = Json::parse(value, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    return Fail(options.path +
                ": the mount answered what is no JSON object: use the cairn "
                "program that came with its cairnfs");
  }
  if (options.json) {
    PrintJson(document);
  } else {
    std::cout << Printable(path) << " (store " << Printable(mount->source) << ")\n";
    PrintForPeople(document, "  ");
  }
  return kDone;
}

}  // namespace

void RegisterStatus(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb = app.add_subcommand(
      "status", "Show what a mount (or a volume or directory in it) holds and does");
  verb->add_option("MOUNTPOINT", options->path, "the mount, or a path in it")->required();
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
