// The two command lines of cairnfs: what a person, mount(8) or systemd calls, and what the
// supervisor calls itself with for a server.
#ifndef CAIRN_TOOLS_CAIRNFS_COMMAND_LINE_H_
#define CAIRN_TOOLS_CAIRNFS_COMMAND_LINE_H_

#include <optional>
#include <string>
#include <vector>

#include "fusefs/mount_options.h"

namespace cairn {

struct CommandLine {
  bool foreground = false;
  bool debug = false;
  MountOptions options;
  std::string store;       // as given
  std::string mountpoint;  // as given
};

// Without a value: the process is to exit with `exit_code`; messages were printed.
struct ParsedCommandLine {
  std::optional<CommandLine> value;
  int exit_code = 0;
};
ParsedCommandLine ParseCommandLine(int argc, char** argv);

// cairnfs serve: descriptors are inherited, paths absolute but for the mountpoint, which only
// shows people (and `ps`) whose server this is.
struct ServeCommandLine {
  int control_fd = -1;
  int memory_fd = -1;       // shared_memory.h
  int lock_fd = -1;         // of the store; -1: this server has to take it
  uint64_t generation = 1;  // 1: the first server of the mount
  uint64_t restarts = 0;    // how many servers died before this one
  uint64_t upgrades = 0;
  bool foreground = false;
  bool debug = false;
  MountOptions options;
  std::string store;
  std::string mountpoint;
};
// cairnfs serve --probe: whether this program could serve the store in the place of another.
struct ProbeCommandLine {
  int control_version = 0;
  std::string store;
};
struct ParsedServeCommandLine {
  std::optional<ServeCommandLine> value;
  std::optional<ProbeCommandLine> probe;  // instead
  int exit_code = 0;
};
// `argv[1]` is "serve".
ParsedServeCommandLine ParseServeCommandLine(int argc, char** argv);
std::vector<std::string> FormatServeCommandLine(const ServeCommandLine& command);
std::vector<std::string> FormatProbeCommandLine(const ProbeCommandLine& command);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_COMMAND_LINE_H_
