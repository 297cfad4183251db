#include "fusefs/mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "fusefs/fusermount.h"
#include "fusefs/protocol.h"

namespace cairn {
namespace {

constexpr const char* kType = "fuse.cairnfs";

unsigned long MountFlags(const MountOptions& options) {
  return options.read_only ? options.mount_flags | MS_RDONLY : options.mount_flags;
}

std::string MountData(int fuse_fd, mode_t root_mode, const MountOptions& options) {
  return fmt::format("fd={},rootmode={:o},user_id={},group_id={},default_permissions{},max_read={}",
                     fuse_fd, root_mode & S_IFMT, geteuid(), getegid(),
                     options.allow_other ? ",allow_other" : "", protocol::kMaxTransfer);
}

std::vector<std::string> SplitFields(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> fields;
  for (std::string field; stream >> field;) fields.push_back(field);
  return fields;
}

struct MountEntry {
  std::string device;
  std::string mountpoint;
  std::string type;
  std::string source;
};

// The mounts of this mount namespace, oldest first.
std::vector<MountEntry> ReadMountinfo() {
  std::vector<MountEntry> entries;
  std::ifstream mountinfo("/proc/self/mountinfo");
  for (std::string line; std::getline(mountinfo, line);) {
    // id parent major:minor root mountpoint options [optional ...] - type source options
    const std::vector<std::string> fields = SplitFields(line);
    size_t dash = 6;
    while (dash < fields.size() && fields[dash] != "-") ++dash;
    if (dash + 2 >= fields.size()) continue;
    entries.push_back({.device = fields[2],
                       .mountpoint = UnescapeMountinfo(fields[4]),
                       .type = fields[dash + 1],
                       .source = UnescapeMountinfo(fields[dash + 2])});
  }
  return entries;
}

// What fusectl names the connection by: the minor number of its mount's device. Linux tells it of
// an open /dev/fuse; empty where it does not.
std::string ConnectionNumber(int fuse_fd) {
  constexpr std::string_view kName = "fuse_connection:\t";
  std::ifstream facts(fmt::format("/proc/self/fdinfo/{}", fuse_fd));
  for (std::string line; std::getline(facts, line);) {
    if (line.starts_with(kName)) return line.substr(kName.size());
  }
  return {};
}

// Whether the path of `entry` leads to another mount, on top of it or of a folder above.
bool IsCovered(const std::vector<MountEntry>& entries, size_t entry) {
  const std::string path = entries[entry].mountpoint + "/";
  return std::any_of(entries.begin() + static_cast<ptrdiff_t>(entry) + 1, entries.end(),
                     [&](const MountEntry& later) {
                       return later.mountpoint == "/" || path.starts_with(later.mountpoint + "/");
                     });
}

}  // namespace

Result<UniqueFd> MountFuse(const MountPlace& place, const MountOptions& options) {
  struct stat root {};
  if (stat(place.mountpoint.c_str(), &root) != 0) {
    return Status::FromErrno(errno, place.mountpoint);
  }
  UniqueFd fuse_fd(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse_fd.valid()) {
    return Status::FromErrno(errno, "/dev/fuse (is the kernel's fuse module loaded?)");
  }
  const std::string data = MountData(fuse_fd.get(), root.st_mode, options);
  if (mount(place.store.c_str(), place.mountpoint.c_str(), kType, MountFlags(options),
            data.c_str()) == 0) {
    return fuse_fd;
  }
  if (errno != EPERM) return Status::FromErrno(errno, "mounting at " + place.mountpoint);
  fuse_fd.Reset();
  return MountWithFusermount(place, options);
}

Result<std::vector<std::byte>> ReadInit(int fuse_fd) {
  std::vector<std::byte> request(size_t{FUSE_MIN_READ_BUFFER});
  for (;;) {
    const ssize_t got = read(fuse_fd, request.data(), request.size());
    if (got >= 0) {
      request.resize(static_cast<size_t>(got));
      return request;
    }
    if (errno != EINTR && errno != EAGAIN && errno != ENOENT) {
      return Status::FromErrno(errno, "reading the first request from /dev/fuse");
    }
  }
}

Result<std::string> FindMount(const MountPlace& place) {
  std::string device;
  for (const MountEntry& entry : ReadMountinfo()) {
    if (entry.mountpoint != place.mountpoint) continue;
    // The last one is on top.
    const bool ours = entry.type == kType && entry.source == place.store;
    device = ours ? entry.device : std::string();
  }
  if (device.empty()) return Status(Code::kNotFound, "no Cairn mount at " + place.mountpoint);
  return device;
}

bool IsStoreMounted(const std::string& store) {
  const std::vector<MountEntry> entries = ReadMountinfo();
  return std::any_of(entries.begin(), entries.end(), [&](const MountEntry& entry) {
    return entry.type == kType && entry.source == store;
  });
}

Status Unmount(const MountPlace& place, UnmountMode mode) {
  int flags = UMOUNT_NOFOLLOW;
  if (mode != UnmountMode::kIfIdle) flags |= MNT_DETACH;
  if (mode == UnmountMode::kAbort) flags |= MNT_FORCE;
  if (umount2(place.mountpoint.c_str(), flags) == 0) return Status::Ok();
  if (errno == EPERM) return UnmountWithFusermount(place, mode != UnmountMode::kIfIdle);
  return Status::FromErrno(errno, "unmounting " + place.mountpoint);
}

Status AbortConnection(int fuse_fd, const std::string& device) {
  std::string number = ConnectionNumber(fuse_fd);
  if (number.empty()) number = device.substr(device.find(':') + 1);
  const UniqueFd abort(
      open(fmt::format("/sys/fs/fuse/connections/{}/abort", number).c_str(), O_WRONLY | O_CLOEXEC));
  // Numbers are used again. As long as the connection lives, what has its number is its own, and
  // an open `abort` stays so.
  if (!IsConnected(fuse_fd)) return Status::Ok();
  if (abort.valid() && write(abort.get(), "1", 1) == 1) return Status::Ok();
  const std::vector<MountEntry> entries = ReadMountinfo();
  for (size_t i = 0; i < entries.size(); ++i) {
    if (entries[i].device != "0:" + number || IsCovered(entries, i)) continue;
    umount2(entries[i].mountpoint.c_str(), UMOUNT_NOFOLLOW | MNT_DETACH | MNT_FORCE);
    if (!IsConnected(fuse_fd)) return Status::Ok();
  }
  return Status(Code::kUnsupported, "no way to cut the connection " + number);
}

bool IsConnected(int fuse_fd) {
  pollfd state{.fd = fuse_fd, .events = 0, .revents = 0};
  int polled = -1;
  while ((polled = poll(&state, 1, 0)) < 0 && errno == EINTR) continue;
  return polled >= 0 && (state.revents & POLLERR) == 0;
}

std::string UnescapeMountinfo(std::string_view field) {
  const auto is_octal = [&](size_t at) { return field[at] >= '0' && field[at] <= '7'; };
  std::string text;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size() && is_octal(i + 1) && is_octal(i + 2) &&
        is_octal(i + 3)) {
      const int code = (field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + (field[i + 3] - '0');
      text += static_cast<char>(code);
      i += 3;
    } else {
      text += field[i];
    }
  }
  return text;
}

}  // namespace cairn
