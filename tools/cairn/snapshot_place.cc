#include "tools/cairn/snapshot_place.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace cairn::cli {
namespace {

Outcome Problem(int error, std::string message) { return {error, std::move(message)}; }

std::string SnapshotRoot(const MountEntry& mount) {
  return (mount.mountpoint == "/" ? "" : mount.mountpoint) + "/" + kSnapshotFolder;
}

std::string WorkingDirectory() {
  char path[4096];
  return ::getcwd(path, sizeof(path)) == nullptr ? "" : path;
}

bool IsDirectory(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

// "a, b, c and 7 more", to help who misspelt a name.
std::string NamesHere(const MountEntry& mount) {
  constexpr size_t kShown = 8;
  std::vector<std::string> names;
  if (!ListSnapshotNames(mount, names).ok()) return "";
  if (names.empty()) return " (there is none; 'cairn snapshot create PATH --name NAME' makes one)";
  std::string text = " (there are: ";
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i) text += (i ? ", " : "") + names[i];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return text + ")";
}

Outcome SnapshotOfName(const MountEntry& mount, const std::string& name, std::string& path) {
  path = SnapshotRoot(mount) + "/" + name;
  if (name.empty() || name == "." || name == ".." || !IsDirectory(path)) {
    return Problem(ENOENT, "no snapshot '" + name + "' in " + mount.mountpoint + NamesHere(mount));
  }
  return {};
}

}  // namespace

Outcome FindMount(const std::optional<std::string>& path, MountEntry& mount) {
  if (path) {
    const auto found = MountContaining(AbsolutePath(*path));
    if (!found || !found->is_cairn()) {
      return Problem(ENOTTY, *path + " is not in a Cairn mount" + KnownMounts());
    }
    mount = *found;
    return {};
  }
  if (const auto here = MountContaining(WorkingDirectory()); here && here->is_cairn()) {
    mount = *here;
    return {};
  }
  std::vector<MountEntry> mounts = ReadMounts();
  std::erase_if(mounts, [](const MountEntry& each) { return !each.is_cairn(); });
  if (mounts.size() == 1) {
    mount = mounts.front();
    return {};
  }
  return Problem(ENOENT, "which mount? Give a path in it" + KnownMounts());
}

Outcome FindSnapshot(const std::string& word, std::string& path) {
  MountEntry mount;
  if (word.find('/') == std::string::npos) {
    if (Outcome found = FindMount(std::nullopt, mount); !found.ok()) return found;
    return SnapshotOfName(mount, word, path);
  }
  const std::string absolute = AbsolutePath(word);
  if (Outcome found = FindMount(absolute, mount); !found.ok()) return found;
  const std::string root = SnapshotRoot(mount) + "/";
  if (!absolute.starts_with(root) || absolute.find('/', root.size()) != std::string::npos) {
    return Problem(EINVAL, word + " is no snapshot; give a name, or " + root + "NAME");
  }
  return SnapshotOfName(mount, absolute.substr(root.size()), path);
}

Outcome FindSource(const std::string& word, std::string& path) {
  struct stat st {};
  path = AbsolutePath(word);
  if (::lstat(path.c_str(), &st) == 0) return {};
  const int error = errno;
  if (word.find('/') == std::string::npos && FindSnapshot(word, path).ok()) return {};
  return Problem(error, word + ": " + ::strerror(error) + KnownMounts());
}

Outcome ListDirectory(const std::string& path, std::vector<std::string>& names) {
  DIR* const folder = ::opendir(path.c_str());
  if (folder == nullptr) return Problem(errno, path + ": " + ::strerror(errno));
  errno = 0;
  while (const dirent* entry = ::readdir(folder)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  const int error = errno;
  ::closedir(folder);
  if (error != 0) return Problem(error, path + ": " + ::strerror(error));
  std::sort(names.begin(), names.end());
  return {};
}

Outcome ListSnapshotNames(const MountEntry& mount, std::vector<std::string>& names) {
  Outcome listed = ListDirectory(SnapshotRoot(mount), names);
  return listed.error == ENOENT ? Outcome{} : listed;  // none was made yet
}

}  // namespace cairn::cli
