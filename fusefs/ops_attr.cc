#include <sys/stat.h>
#include <time.h>

#include <optional>

#include "fusefs/ops.h"
#include "fusefs/stale_pages.h"
#include "fusefs/wire.h"

namespace cairn {
namespace {

// The fine clock, as the kernel's own filesystems use for an explicit "now".
int64_t NowNs() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

int64_t ToNs(const timespec& time) { return time.tv_sec * 1'000'000'000 + time.tv_nsec; }

// What a write by somebody who may not keep set-id bits leaves of `mode`: set-group-id without
// group execution is an old mark for locking and stays.
uint32_t WithoutSetIdBits(uint32_t mode) {
  mode &= ~static_cast<uint32_t>(S_ISUID);
  if (mode & S_IXGRP) mode &= ~static_cast<uint32_t>(S_ISGID);
  return mode;
}

AttributeChange ToChange(const struct stat& wanted, int to_set) {
  AttributeChange change;
  if (to_set & FUSE_SET_ATTR_MODE) change.mode = wanted.st_mode & 07777;
  if (to_set & FUSE_SET_ATTR_UID) change.uid = wanted.st_uid;
  if (to_set & FUSE_SET_ATTR_GID) change.gid = wanted.st_gid;
  if (to_set & FUSE_SET_ATTR_SIZE) change.size = static_cast<uint64_t>(wanted.st_size);
  if (to_set & FUSE_SET_ATTR_ATIME_NOW) {
    change.atime_ns = NowNs();
  } else if (to_set & FUSE_SET_ATTR_ATIME) {
    change.atime_ns = ToNs(wanted.st_atim);
  }
  if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
    change.mtime_ns = NowNs();
  } else if (to_set & FUSE_SET_ATTR_MTIME) {
    change.mtime_ns = ToNs(wanted.st_mtim);
  }
  return change;
}

}  // namespace

Status GetAttr(const Request& request, InodeId inode, fuse_file_info* /*file*/) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, request.filesystem().GetAttributes(inode));
  request.Answer(AttributeReply(attributes));
  return Status::Ok();
}

Status SetAttr(const Request& request, InodeId inode, struct stat* wanted, int to_set,
               fuse_file_info* /*file*/) {
  AttributeChange change = ToChange(*wanted, to_set);
  // libfuse masks this bit out of `to_set`.
  const bool kill_set_id = (request.body<fuse_setattr_in>().valid & FATTR_KILL_SUIDGID) != 0;
  if (kill_set_id && !change.mode) {
    CAIRN_ASSIGN_OR_RETURN(const Attributes now, request.filesystem().GetAttributes(inode));
    const uint32_t mode = WithoutSetIdBits(now.mode);
    if (now.kind == FileKind::kVolume && mode != now.mode) change.mode = mode;
  }
  std::optional<StalePages> pages;
  if (change.size) pages.emplace(request, inode);
  const auto attributes = request.filesystem().SetAttributes(inode, change, request.caller());
  if (!attributes.ok()) {
    return pages ? pages->Failed(attributes.status()) : attributes.status();
  }
  if (request.Answer(AttributeReply(*attributes)) && pages) pages->Answered();
  return Status::Ok();
}

Status StatFs(const Request& request, InodeId /*inode*/) {
  CAIRN_ASSIGN_OR_RETURN(const SpaceInfo space, request.filesystem().Space());
  request.Answer(SpaceReply(space));
  return Status::Ok();
}

Status ClearSetIdBits(Filesystem& filesystem, InodeId inode, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes now, filesystem.GetAttributes(inode));
  const uint32_t mode = WithoutSetIdBits(now.mode);
  if (mode == now.mode) return Status::Ok();
  AttributeChange change;
  change.mode = mode;
  return filesystem.SetAttributes(inode, change, caller).status();
}

}  // namespace cairn
