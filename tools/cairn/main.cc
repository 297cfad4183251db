// cairn: the command line.
#include <exception>
#include <iostream>

#include "tools/cairn/command.h"

namespace cairn::cli {
namespace {

constexpr const char* kFooter =
    R"(Exit codes: 0 done, 1 failed (for fsck: the store is damaged), 2 wrong use.

Examples:
  cairnfs /var/lib/store /mnt/cairn       mount a store (made on first use)
  cairn snapshot create /mnt/cairn/vm1 --name monday
                                          all volumes of vm1 at one instant
  ls /mnt/cairn/.snapshots/monday/vm1     look at them, or mount one read-only
  cairn clone /mnt/cairn/.snapshots/monday/vm1 /mnt/cairn/vm2
                                          a writable copy of a machine, at once
  cairn snapshot rollback monday          vm1 as it was; what it was is kept
  cairn status /mnt/cairn                 what the mount holds and does
  cairn du /mnt/cairn/vm1                 what each volume really holds
  cairn unmount /mnt/cairn                unmount, and wait until all is durable
  cairn upgrade /mnt/cairn                serve with the installed cairnfs, volumes in use
  cairn fsck /var/lib/store               check the store; --repair puts right what it can
  cairn fsck --json /var/lib/store | jq .findings)";

int Main(int argc, char** argv) {
  CLI::App app(
      "Snapshots and clones of volumes; looks at Cairn mounts and takes care of their stores.",
      "cairn");
  app.set_version_flag("--version", std::string("cairn " CAIRN_VERSION));
  app.require_subcommand(1);
  app.footer(kFooter);
  int exit_code = kDone;
  RegisterSnapshot(app, exit_code);
  RegisterClone(app, exit_code);
  RegisterDiff(app, exit_code);
  RegisterStatus(app, exit_code);
  RegisterDu(app, exit_code);
  RegisterFsck(app, exit_code);
  RegisterUnmount(app, exit_code);
  RegisterRestart(app, exit_code);
  RegisterUpgrade(app, exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // Help and version come this way too, with 0.
    return app.exit(error) == 0 ? kDone : kWrongUse;
  }
  std::cout.flush();
  if (!std::cout) return Fail("cannot write the output");
  return exit_code;
}

}  // namespace
}  // namespace cairn::cli

int main(int argc, char** argv) {
  try {
    return cairn::cli::Main(argc, argv);
  } catch (const std::exception& error) {
    return cairn::cli::Fail(std::string("unexpected: ") + error.what());
  }
}
