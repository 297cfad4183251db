// Snapshots of the volumes of a TestMachine, by SnapshotOps alone.
#ifndef CAIRN_TESTS_VOLUME_SNAPSHOT_TEST_UTIL_H_
#define CAIRN_TESTS_VOLUME_SNAPSHOT_TEST_UTIL_H_

#include <string>
#include <vector>

#include "src/volume/snapshot_ops.h"
#include "tests/volume/volume_test_util.h"

namespace cairn {

constexpr std::chrono::seconds kEnough{30};

inline Result<SnapshotOps::NewGroup> GroupOf(Filesystem& filesystem, const std::string& name,
                                             const std::vector<std::string>& volumes) {
  SnapshotOps::NewGroup group;
  group.record.name = name;
  group.deadline = kEnough;
  for (const std::string& volume : volumes) {
    CAIRN_ASSIGN_OR_RETURN(const Attributes found, filesystem.Lookup(kRootInode, volume));
    group.members.push_back({found.inode, volume});
  }
  return group;
}

inline Result<SnapshotOps::Created> TrySnapshot(Filesystem& filesystem, const std::string& name,
                                                const std::vector<std::string>& volumes) {
  CAIRN_ASSIGN_OR_RETURN(const auto group, GroupOf(filesystem, name, volumes));
  return filesystem.snapshots().Create(group);
}

// The inode of a path below .snapshots, or of a live one.
inline Result<InodeId> FindPath(Filesystem& filesystem, const std::string& path) {
  InodeId inode = kRootInode;
  for (size_t begin = 0; begin < path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    CAIRN_ASSIGN_OR_RETURN(const Attributes found,
                           filesystem.Lookup(inode, path.substr(begin, end - begin)));
    inode = found.inode;
    begin = end + 1;
  }
  return inode;
}

inline std::shared_ptr<Volume> FindVolumeAt(Filesystem& filesystem, const std::string& path) {
  const auto inode = FindPath(filesystem, path);
  EXPECT_TRUE(inode.ok()) << path << ": " << inode.status().ToString();
  if (!inode.ok()) return nullptr;
  auto volume = filesystem.FindVolume(*inode);
  EXPECT_TRUE(volume.ok()) << path << ": " << volume.status().ToString();
  return volume.ok() ? *volume : nullptr;
}

inline Result<std::string> ContentOf(Filesystem& filesystem, const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const InodeId inode, FindPath(filesystem, path));
  CAIRN_ASSIGN_OR_RETURN(const auto volume, filesystem.FindVolume(inode));
  std::string content(volume->size(), '\0');
  CAIRN_ASSIGN_OR_RETURN(const size_t got,
                         volume->Read(0, std::as_writable_bytes(std::span(content))));
  if (got != content.size()) return Status(Code::kInternal, path + ": a short read");
  return content;
}

inline Status DeleteSnapshot(Filesystem& filesystem, const std::string& name) {
  CAIRN_ASSIGN_OR_RETURN(const InodeId id, FindPath(filesystem, ".snapshots/" + name));
  return filesystem.snapshots().Delete(id, {});
}

}  // namespace cairn

#endif  // CAIRN_TESTS_VOLUME_SNAPSHOT_TEST_UTIL_H_
