#include <sys/xattr.h>

#include <string>
#include <string_view>

#include "fusefs/ops.h"

namespace cairn {
namespace {

// Only "user." attributes exist. The kernel and tools ask for the others all the time: an answer
// without a search, and never ENOSYS, which would switch attributes off for the whole mount.
bool IsUserAttribute(std::string_view name) { return name.starts_with("user."); }

// getxattr(2) and listxattr(2) ask for the size first, with a buffer of 0 bytes.
Status AnswerValue(const Request& request, std::string_view value, size_t buffer_size) {
  if (buffer_size == 0) {
    request.Answer(fuse_getxattr_out{.size = static_cast<uint32_t>(value.size()), .padding = 0});
    return Status::Ok();
  }
  if (value.size() > buffer_size) return request.AnswerError(ERANGE);
  fuse_reply_buf(request.handle(), value.data(), value.size());
  return Status::Ok();
}

}  // namespace

Status SetXattr(const Request& request, InodeId inode, const char* name, const char* value,
                size_t size, int flags) {
  if (!IsUserAttribute(name)) return request.AnswerError(EOPNOTSUPP);
  XattrMode mode = XattrMode::kEither;
  if (flags == XATTR_CREATE) {
    mode = XattrMode::kCreate;
  } else if (flags == XATTR_REPLACE) {
    mode = XattrMode::kReplace;
  } else if (flags != 0) {
    return request.AnswerError(EINVAL);
  }
  if (IsTrigger(name)) {
    if (mode == XattrMode::kReplace) return request.AnswerError(ENODATA);  // it is never there
    return PullTrigger(request, inode, name, std::string_view(value, size));
  }
  CAIRN_RETURN_IF_ERROR(request.filesystem().SetXattr(inode, name, std::string_view(value, size),
                                                      mode, request.caller()));
  return request.AnswerDone();
}

Status GetXattr(const Request& request, InodeId inode, const char* name, size_t size) {
  if (!IsUserAttribute(name)) return request.AnswerError(ENODATA);
  CAIRN_ASSIGN_OR_RETURN(const std::string value, request.filesystem().GetXattr(inode, name));
  return AnswerValue(request, value, size);
}

Status ListXattr(const Request& request, InodeId inode, size_t size) {
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                         request.filesystem().ListXattr(inode));
  std::string list;
  for (const std::string& name : names) {
    list += name;
    list += '\0';
  }
  return AnswerValue(request, list, size);
}

Status RemoveXattr(const Request& request, InodeId inode, const char* name) {
  if (!IsUserAttribute(name)) return request.AnswerError(EOPNOTSUPP);
  CAIRN_RETURN_IF_ERROR(request.filesystem().RemoveXattr(inode, name, request.caller()));
  return request.AnswerDone();
}

}  // namespace cairn
