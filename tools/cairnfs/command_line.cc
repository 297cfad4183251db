#include "tools/cairnfs/command_line.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <cstdio>
#include <cstring>

#ifndef CAIRN_VERSION
#define CAIRN_VERSION "unknown"
#endif

namespace cairn {
namespace {

constexpr int kWrongUse = 2;

constexpr const char* kOptionHelp = R"(Options for -o, separated by commas:
  ro, rw             read-only, or not
  allow_other        other users may use the mount, as file modes allow
  log=FILE           where to log; default STORE/log, or stderr with -f
  memory=SIZE        bound of the server's caches, default 256M
  threads=N          that answer requests
  watchdog=SECONDS   replace a server that hangs as long, default 30; 0: never
  no_replace         end the mount when the server dies
  core_dumps         allow them of the server; they hold volume data
  journal=SIZE       room for acknowledged index changes, default 64M
and noexec, noatime, nodiratime, sync, dirsync, and what fstab needs.

A server that dies is replaced while volumes are in use; see cairn restart and cairn upgrade.
Unmount with umount MOUNTPOINT, or fusermount3 -u MOUNTPOINT.)";

// One -o takes one list, so that "-o rw STORE MOUNTPOINT" leaves the places alone.
CLI::Option* AddListOption(CLI::App& app, std::vector<std::string>& lists) {
  return app.add_option("-o,--options", lists, "mount options (see below)")
      ->type_name("OPT,...")
      ->allow_extra_args(false);
}

// Runs the parser; afterwards the lists are in `options`.
std::optional<int> Parse(CLI::App& app, int argc, char** argv,
                         const std::vector<std::string>& lists, MountOptions& options) {
  app.failure_message([](const CLI::App* failed, const CLI::Error& error) {
    return "cairnfs: wrong usage: " + std::string(error.what()) + "; see " + failed->get_name() +
           " --help\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUse;
  }
  for (const std::string& list : lists) {
    const Status status = ParseMountOptions(list, options);
    if (!status.ok()) {
      std::fprintf(stderr, "cairnfs: %s; see cairnfs --help\n", status.context().c_str());
      return kWrongUse;
    }
  }
  return std::nullopt;
}

}  // namespace

ParsedCommandLine ParseCommandLine(int argc, char** argv) {
  CommandLine command;
  std::vector<std::string> lists;
  CLI::App app("Mounts the Cairn store STORE at MOUNTPOINT; creates the store on first use.",
               "cairnfs");
  app.set_version_flag("-V,--version", CAIRN_VERSION);
  app.add_flag("-f,--foreground", command.foreground, "stay in the foreground");
  app.add_flag("-d,--debug", command.debug, "log more; implies -f");
  AddListOption(app, lists);
  app.add_option("STORE", command.store, "directory of the store")->required();
  app.add_option("MOUNTPOINT", command.mountpoint, "directory to mount at")->required();
  app.footer(kOptionHelp);
  if (const auto exit_code = Parse(app, argc, argv, lists, command.options)) {
    return {.value = std::nullopt, .exit_code = *exit_code};
  }
  command.foreground = command.foreground || command.debug;
  return {.value = std::move(command), .exit_code = 0};
}

ParsedServeCommandLine ParseProbeCommandLine(int argc, char** argv) {
  ProbeCommandLine command;
  bool probe = false;
  std::vector<std::string> lists;
  MountOptions unused;
  CLI::App app("Whether this program can take over the store from another.", "cairnfs serve");
  app.add_flag("--probe", probe)->required();
  app.add_option("--control-version", command.control_version)->required();
  app.add_option("STORE", command.store)->required();
  if (const auto exit_code = Parse(app, argc - 1, argv + 1, lists, unused)) {
    return {.value = std::nullopt, .probe = std::nullopt, .exit_code = *exit_code};
  }
  return {.value = std::nullopt, .probe = std::move(command), .exit_code = 0};
}

ParsedServeCommandLine ParseServeCommandLine(int argc, char** argv) {
  if (argc > 2 && std::strcmp(argv[2], "--probe") == 0) return ParseProbeCommandLine(argc, argv);
  ServeCommandLine command;
  std::vector<std::string> lists;
  CLI::App app("Started by cairnfs itself: answers the requests of one mount.", "cairnfs serve");
  app.add_option("--control-fd", command.control_fd)->required();
  app.add_option("--memory-fd", command.memory_fd)->required();
  app.add_option("--lock-fd", command.lock_fd);
  app.add_option("--generation", command.generation)->required();
  app.add_option("--restarts", command.restarts);
  app.add_option("--upgrades", command.upgrades);
  app.add_flag("--foreground", command.foreground);
  app.add_flag("--debug", command.debug);
  AddListOption(app, lists);
  app.add_option("STORE", command.store)->required();
  app.add_option("MOUNTPOINT", command.mountpoint)->required();
  if (const auto exit_code = Parse(app, argc - 1, argv + 1, lists, command.options)) {
    return {.value = std::nullopt, .probe = std::nullopt, .exit_code = *exit_code};
  }
  return {.value = std::move(command), .probe = std::nullopt, .exit_code = 0};
}

std::vector<std::string> FormatServeCommandLine(const ServeCommandLine& command) {
  std::vector<std::string> words = {"cairnfs",
                                    "serve",
                                    "--control-fd=" + std::to_string(command.control_fd),
                                    "--memory-fd=" + std::to_string(command.memory_fd),
                                    "--lock-fd=" + std::to_string(command.lock_fd),
                                    "--generation=" + std::to_string(command.generation),
                                    "--restarts=" + std::to_string(command.restarts),
                                    "--upgrades=" + std::to_string(command.upgrades)};
  if (command.foreground) words.emplace_back("--foreground");
  if (command.debug) words.emplace_back("--debug");
  words.insert(words.end(), {"-o", FormatServerOptions(command.options), "--", command.store,
                             command.mountpoint});
  return words;
}

std::vector<std::string> FormatProbeCommandLine(const ProbeCommandLine& command) {
  return {"cairnfs", "serve",
          "--probe", "--control-version=" + std::to_string(command.control_version),
          "--",      command.store};
}

}  // namespace cairn
