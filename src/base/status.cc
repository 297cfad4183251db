#include "src/base/status.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "src/base/check.h"

namespace cairn {

std::string_view CodeName(Code code) noexcept {
  // clang-format off
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kNotFound: return "not found";
    case Code::kExists: return "exists already";
    case Code::kInvalid: return "invalid";
    case Code::kNoSpace: return "no space";
    case Code::kIo: return "I/O error";
    case Code::kCorrupt: return "damaged";
    case Code::kForged: return "not authentic";
    case Code::kReadOnly: return "read-only";
    case Code::kBusy: return "in use";
    case Code::kPermission: return "not permitted";
    case Code::kAccess: return "access denied";
    case Code::kNotEmpty: return "directory not empty";
    case Code::kNotDirectory: return "not a directory";
    case Code::kIsDirectory: return "is a directory";
    case Code::kNameTooLong: return "name too long";
    case Code::kTooLarge: return "too large";
    case Code::kUnsupported: return "not supported";
    case Code::kNoAttribute: return "no such attribute";
    case Code::kRange: return "buffer too small";
    case Code::kNoDevice: return "no such offset";
    case Code::kStale: return "stale";
    case Code::kMoved: return "moved to the cold tier";
    case Code::kAgain: return "try again";
    case Code::kNoKey: return "no key";
    case Code::kDeadline: return "deadline passed";
    case Code::kLoop: return "directory loop";
    case Code::kInternal: return "internal error";
  }
  // clang-format on
  return "unknown";
}

Status::Status(Code code, std::string context, int sys_errno) {
  CAIRN_CHECK(code != Code::kOk);
  rep_ = std::make_unique<Rep>(Rep{code, sys_errno, std::move(context)});
}

Status::Status(const Status& other)
    : rep_(other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr) {}

Status& Status::operator=(const Status& other) {
  if (this != &other) rep_ = other.rep_ ? std::make_unique<Rep>(*other.rep_) : nullptr;
  return *this;
}

Status Status::FromErrno(int sys_errno, std::string_view context) {
  Code code = Code::kIo;
  // clang-format off
  switch (sys_errno) {
    case ENOENT: code = Code::kNotFound; break;
    case EEXIST: code = Code::kExists; break;
    case EINVAL: code = Code::kInvalid; break;
    case ENOSPC:
    case EDQUOT: code = Code::kNoSpace; break;
    case EROFS: code = Code::kReadOnly; break;
    case EBUSY: code = Code::kBusy; break;
    case EPERM: code = Code::kPermission; break;
    case EACCES: code = Code::kAccess; break;
    case ENOTEMPTY: code = Code::kNotEmpty; break;
    case ENOTDIR: code = Code::kNotDirectory; break;
    case EISDIR: code = Code::kIsDirectory; break;
    case ENAMETOOLONG: code = Code::kNameTooLong; break;
    case EFBIG: code = Code::kTooLarge; break;
    case EOPNOTSUPP: code = Code::kUnsupported; break;
    case ENODATA: code = Code::kNoAttribute; break;
    case ERANGE: code = Code::kRange; break;
    case ENXIO: code = Code::kNoDevice; break;
    case ESTALE: code = Code::kStale; break;
    default: break;
  }
  // clang-format on
  std::string text(context);
  text += ": ";
  text += std::strerror(sys_errno);
  return Status(code, std::move(text), sys_errno);
}

const std::string& Status::context() const noexcept {
  static const std::string empty;
  return rep_ ? rep_->context : empty;
}

std::string Status::ToString() const {
  if (ok()) return "ok";
  std::string text(CodeName(code()));
  if (!rep_->context.empty()) {
    text += ": ";
    text += rep_->context;
  }
  return text;
}

int Status::ToErrno() const noexcept {
  // clang-format off
  switch (code()) {
    case Code::kOk: return 0;
    case Code::kNotFound: return ENOENT;
    case Code::kExists: return EEXIST;
    case Code::kInvalid: return EINVAL;
    case Code::kNoSpace: return ENOSPC;
    case Code::kIo: return EIO;
    case Code::kCorrupt: return EIO;
    case Code::kForged: return EIO;
    case Code::kReadOnly: return EROFS;
    case Code::kBusy: return EBUSY;
    case Code::kPermission: return EPERM;
    case Code::kAccess: return EACCES;
    case Code::kNotEmpty: return ENOTEMPTY;
    case Code::kNotDirectory: return ENOTDIR;
    case Code::kIsDirectory: return EISDIR;
    case Code::kNameTooLong: return ENAMETOOLONG;
    case Code::kTooLarge: return EFBIG;
    case Code::kUnsupported: return EOPNOTSUPP;
    case Code::kNoAttribute: return ENODATA;
    case Code::kRange: return ERANGE;
    case Code::kNoDevice: return ENXIO;
    case Code::kStale: return ESTALE;
    case Code::kMoved: return EREMOTE;
    case Code::kAgain: return EAGAIN;
    case Code::kNoKey: return ENOKEY;
    case Code::kDeadline: return ETIMEDOUT;
    case Code::kLoop: return ELOOP;
    case Code::kInternal: return EIO;
  }
  // clang-format on
  return EIO;
}

Status Status::WithPrefix(std::string_view prefix) && {
  if (rep_) rep_->context = std::string(prefix) + ": " + rep_->context;
  return std::move(*this);
}

}  // namespace cairn
