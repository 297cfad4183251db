#include <linux/fs.h>
#include <sys/stat.h>

#include "fusefs/ops.h"
#include "fusefs/wire.h"

namespace cairn {
namespace {

constexpr mode_t kPermissionBits = 07777;

Status AnswerEntry(const Request& request, const Attributes& attributes, InodeId parent) {
  request.Answer(EntryReply(attributes, parent));
  return Status::Ok();
}

}  // namespace

Status Lookup(const Request& request, InodeId parent, const char* name) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, request.filesystem().Lookup(parent, name));
  return AnswerEntry(request, attributes, parent);
}

Status Mknod(const Request& request, InodeId parent, const char* name, mode_t mode,
             dev_t /*device*/) {
  if (!S_ISREG(mode)) return request.AnswerError(EPERM);
  CAIRN_ASSIGN_OR_RETURN(
      const Attributes attributes,
      request.filesystem().Create(parent, name, mode & kPermissionBits, request.caller()));
  return AnswerEntry(request, attributes, parent);
}

Status Mkdir(const Request& request, InodeId parent, const char* name, mode_t mode) {
  CAIRN_ASSIGN_OR_RETURN(
      const Attributes attributes,
      request.filesystem().MakeDirectory(parent, name, mode & kPermissionBits, request.caller()));
  return AnswerEntry(request, attributes, parent);
}

Status Unlink(const Request& request, InodeId parent, const char* name) {
  CAIRN_RETURN_IF_ERROR(request.filesystem().Unlink(parent, name, request.caller()));
  return request.AnswerDone();
}

Status Rmdir(const Request& request, InodeId parent, const char* name) {
  CAIRN_RETURN_IF_ERROR(request.filesystem().RemoveDirectory(parent, name, request.caller()));
  return request.AnswerDone();
}

Status Rename(const Request& request, InodeId parent, const char* name, fuse_ino_t new_parent,
              const char* new_name, unsigned flags) {
  RenameMode mode = RenameMode::kReplace;
  switch (flags) {
    case 0:
      break;
    case RENAME_NOREPLACE:
      mode = RenameMode::kNoReplace;
      break;
    case RENAME_EXCHANGE:
      mode = RenameMode::kExchange;
      break;
    default:
      return request.AnswerError(EINVAL);  // RENAME_WHITEOUT, and what comes
  }
  CAIRN_RETURN_IF_ERROR(request.filesystem().Rename(parent, name, InodeId(new_parent), new_name,
                                                    mode, request.caller()));
  return request.AnswerDone();
}

// A volume has one place: who wants another volume with the same content clones it.
Status Link(const Request& request, InodeId /*inode*/, fuse_ino_t /*new_parent*/,
            const char* /*new_name*/) {
  return request.AnswerError(EPERM);
}

}  // namespace cairn
