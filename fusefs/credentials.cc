#include "fusefs/credentials.h"

#include <algorithm>
#include <string>

#include "fusefs/ops.h"
#include "src/volume/filesystem.h"

namespace cairn {
namespace {

constexpr int kMaxGroups = 65536;  // NGROUPS_MAX

Status Refuse(InodeId inode, uint32_t wanted) {
  std::string what = "inode " + std::to_string(inode.value()) + ": you may not";
  if (wanted & kMayRead) what += " read";
  if (wanted & kMayWrite) what += (wanted & kMayRead) ? " and write" : " write";
  if (!(wanted & (kMayRead | kMayWrite))) what += " enter";
  return Status(Code::kAccess, what + " it; file modes decide");
}

}  // namespace

Credentials CredentialsOf(const Request& request) {
  const Caller caller = request.caller();
  Credentials who{.uid = caller.uid, .gid = caller.gid, .groups = {}};
  if (caller.uid == 0) return who;  // needs none
  std::vector<gid_t> groups(32);
  int count = fuse_req_getgroups(request.handle(), static_cast<int>(groups.size()), groups.data());
  if (count > static_cast<int>(groups.size())) {
    groups.resize(static_cast<size_t>(std::min(count, kMaxGroups)));
    count = fuse_req_getgroups(request.handle(), static_cast<int>(groups.size()), groups.data());
  }
  if (count > 0) {
    groups.resize(std::min(groups.size(), static_cast<size_t>(count)));
    who.groups.assign(groups.begin(), groups.end());
  }
  return who;
}

bool ModeAllows(const Credentials& who, const Attributes& file, uint32_t wanted) {
  if (who.uid == 0) return true;
  uint32_t granted = file.mode;
  if (who.uid == file.uid) {
    granted >>= 6;
  } else if (who.gid == file.gid ||
             std::find(who.groups.begin(), who.groups.end(), file.gid) != who.groups.end()) {
    granted >>= 3;
  }
  return (granted & wanted) == wanted;
}

Status CheckAccess(Filesystem& filesystem, const Credentials& who, InodeId inode, uint32_t wanted) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, filesystem.GetAttributes(inode));
  return ModeAllows(who, attributes, wanted) ? Status::Ok() : Refuse(inode, wanted);
}

Status CheckReach(Filesystem& filesystem, const Credentials& who, InodeId inode, uint32_t wanted) {
  CAIRN_RETURN_IF_ERROR(CheckAccess(filesystem, who, inode, wanted));
  while (inode != kRootInode) {
    CAIRN_ASSIGN_OR_RETURN(inode, filesystem.Parent(inode));
    CAIRN_RETURN_IF_ERROR(CheckAccess(filesystem, who, inode, kMaySearch));
  }
  return Status::Ok();
}

}  // namespace cairn
