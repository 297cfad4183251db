// What systemd is told about a service of Type=notify: sd_notify(3)'s datagrams, by hand. Nothing
// happens in a process that systemd did not start so.
#ifndef CAIRN_TOOLS_CAIRNFS_SYSTEMD_H_
#define CAIRN_TOOLS_CAIRNFS_SYSTEMD_H_

#include <chrono>
#include <string>
#include <string_view>

namespace cairn {

class Systemd {
 public:
  // Takes what concerns this process out of the environment: a server must not find it.
  Systemd();

  // "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=..."
  void Tell(std::string_view state) const;
  // How often "WATCHDOG=1" is expected; 0: it is not.
  std::chrono::microseconds watchdog() const { return watchdog_; }

 private:
  std::string socket_;
  std::chrono::microseconds watchdog_{0};
};

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_SYSTEMD_H_
