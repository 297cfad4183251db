#include "fusefs/caller_rights.h"

#include <algorithm>
#include <string>

namespace cairn {
namespace {

constexpr int kMaxGroups = 65536;  // NGROUPS_MAX
constexpr uint32_t kSearch = 1;

}  // namespace

Caller CallerWithGroups(const Request& request) {
  Caller caller = request.caller();
  if (caller.uid == 0) return caller;  // needs none
  std::vector<gid_t> groups(64);
  int count = fuse_req_getgroups(request.handle(), static_cast<int>(groups.size()), groups.data());
  if (count > static_cast<int>(groups.size())) {
    groups.resize(static_cast<size_t>(std::min(count, kMaxGroups)));
    count = fuse_req_getgroups(request.handle(), static_cast<int>(groups.size()), groups.data());
  }
  if (count > 0) {
    groups.resize(std::min(groups.size(), static_cast<size_t>(count)));
    caller.groups.assign(groups.begin(), groups.end());
  }
  return caller;
}

bool ModeAllows(const Caller& caller, const Attributes& file, uint32_t wanted) {
  if (caller.uid == 0) return true;
  uint32_t granted = file.mode;
  if (caller.uid == file.uid) {
    granted >>= 6;
  } else if (caller.gid == file.gid || std::find(caller.groups.begin(), caller.groups.end(),
                                                 file.gid) != caller.groups.end()) {
    granted >>= 3;
  }
  return (granted & wanted) == wanted;
}

Status CheckReach(Filesystem& filesystem, const Caller& caller, InodeId inode) {
  Status hidden(Code::kAccess, "a directory above does not let you through");
  // Which numbers there are is not for everybody either.
  const auto answer = [&](const Status& status) {
    const bool unknown = status.code() == Code::kNotFound && caller.uid != 0;
    return unknown ? hidden : status;
  };
  while (inode != kRootInode) {
    const auto parent = filesystem.Parent(inode);
    if (!parent.ok()) return answer(parent.status());
    inode = *parent;
    const auto directory = filesystem.GetPlainAttributes(inode);
    if (!directory.ok()) return answer(directory.status());
    if (!ModeAllows(caller, *directory, kSearch)) return hidden;
  }
  return Status::Ok();
}

}  // namespace cairn
