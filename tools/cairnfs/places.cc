#include "tools/cairnfs/places.h"

#include <sys/stat.h>
#include <sys/statfs.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string_view>

namespace cairn {
namespace {

Result<std::string> RealPath(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) return Status::FromErrno(errno, path);
  return std::string(real.get());
}

// `path`, made absolute without looking at what its last name stands for.
Result<std::string> ResolveLastName(const std::string& path) {
  std::string_view rest(path);
  while (rest.size() > 1 && rest.ends_with('/')) rest.remove_suffix(1);
  const size_t slash = rest.rfind('/');
  const std::string parent =
      slash == std::string_view::npos ? "." : std::string(rest.substr(0, slash + 1));
  CAIRN_ASSIGN_OR_RETURN(std::string resolved, RealPath(parent));
  if (!resolved.ends_with('/')) resolved += '/';
  resolved += slash == std::string_view::npos ? rest : rest.substr(slash + 1);
  return resolved;
}

bool IsInside(std::string_view path, std::string_view directory) {
  if (!path.starts_with(directory)) return false;
  return path.size() == directory.size() || directory.ends_with('/') ||
         path[directory.size()] == '/';
}

// A mount whose server and supervisor died answers nothing but ENOTCONN. (stat(2) may still be
// answered from the kernel's cache.)
bool IsDeadMount(const std::string& path) {
  struct statfs space {};
  return statfs(path.c_str(), &space) != 0 && errno == ENOTCONN;
}

Result<std::string> ResolveMountpoint(const std::string& mountpoint, const std::string& store) {
  if (IsDeadMount(mountpoint)) {
    CAIRN_ASSIGN_OR_RETURN(const std::string path, ResolveLastName(mountpoint));
    const MountPlace dead{.store = store, .mountpoint = path};
    // What is left of an earlier mount of this very store holds nothing any more.
    if (FindMount(dead).ok()) CAIRN_RETURN_IF_ERROR(Unmount(dead, UnmountMode::kDetach));
    if (IsDeadMount(mountpoint)) {
      return Status(Code::kBusy, "mountpoint " + mountpoint +
                                     ": a mount whose server is gone is still there: run umount " +
                                     mountpoint + " first");
    }
  }
  struct stat info {};
  if (stat(mountpoint.c_str(), &info) != 0) {
    return Status::FromErrno(errno, "mountpoint " + mountpoint);
  }
  if (!S_ISDIR(info.st_mode)) {
    return Status(Code::kNotDirectory, "mountpoint " + mountpoint + ": Not a directory");
  }
  return RealPath(mountpoint);
}

Result<std::string> ResolveStore(const std::string& store) {
  Result<std::string> path = ResolveNewPath(store);
  if (!path.ok()) return std::move(path).status().WithPrefix("store " + store);
  std::string resolved = std::move(path).value();
  struct stat info {};
  if (stat(resolved.c_str(), &info) == 0) {
    if (!S_ISDIR(info.st_mode)) {
      return Status(Code::kNotDirectory, "store " + store + ": Not a directory");
    }
  } else if (errno != ENOENT) {
    return Status::FromErrno(errno, "store " + store);
  }
  return resolved;
}

}  // namespace

Result<std::string> ResolveNewPath(const std::string& path) {
  Result<std::string> whole = RealPath(path);
  if (whole.ok() || whole.status().sys_errno() != ENOENT) return whole;
  return ResolveLastName(path);
}

Result<MountPlace> ResolvePlaces(const std::string& store, const std::string& mountpoint) {
  MountPlace place;
  CAIRN_ASSIGN_OR_RETURN(place.store, ResolveStore(store));
  CAIRN_ASSIGN_OR_RETURN(place.mountpoint, ResolveMountpoint(mountpoint, place.store));
  // The server would wait for itself, or the mount would show up inside its own store.
  if (IsInside(place.store, place.mountpoint) || IsInside(place.mountpoint, place.store)) {
    return Status(Code::kInvalid, "store " + store + " and mountpoint " + mountpoint +
                                      " must not lie inside each other");
  }
  return place;
}

}  // namespace cairn
