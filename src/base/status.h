// Status: the outcome of an operation that can fail, without a value.
//
// A Status is a code, a sentence that names what was touched (a path, a key) and, where the
// operating system said no, its errno. It is a value type without shared state: any thread may
// copy or move its own. OK costs one null pointer.
#ifndef CAIRN_SRC_BASE_STATUS_H_
#define CAIRN_SRC_BASE_STATUS_H_

#include <memory>
#include <string>
#include <string_view>

namespace cairn {

// What went wrong, in the terms of a caller who must decide what to do. kNotFound (absent),
// kCorrupt (damaged) and kForged (well-formed but not authentic) are never mixed up.
enum class Code : unsigned char {
  kOk = 0,
  kNotFound,      // ENOENT: the name or object does not exist
  kExists,        // EEXIST: the name is taken
  kInvalid,       // EINVAL: a value that this operation does not take
  kNoSpace,       // ENOSPC: the store is full
  kIo,            // EIO: the operating system failed an I/O
  kCorrupt,       // EIO: stored bytes are damaged
  kForged,        // EIO: stored bytes are not authentic
  kReadOnly,      // EROFS: snapshot, read-only mount or poisoned volume
  kBusy,          // EBUSY: in use
  kPermission,    // EPERM: never allowed here
  kAccess,        // EACCES: not allowed to this caller
  kNotEmpty,      // ENOTEMPTY
  kNotDirectory,  // ENOTDIR
  kIsDirectory,   // EISDIR
  kNameTooLong,   // ENAMETOOLONG
  kTooLarge,      // EFBIG: beyond the largest volume
  kUnsupported,   // EOPNOTSUPP
  kNoAttribute,   // ENODATA: no such extended attribute
  kRange,         // ERANGE: the caller's buffer is too small
  kNoDevice,      // ENXIO: no data or hole after this offset
  kStale,         // ESTALE: the object went away
  kMoved,         // EREMOTE: data lies in the cold tier and recall=refuse
  kAgain,         // EAGAIN: recall was started, ask again
  kNoKey,         // ENOKEY
  kDeadline,      // ETIMEDOUT
  kLoop,          // ELOOP: a directory would become its own ancestor
  kInternal,      // EIO: a state that should not be reachable, found without stopping the process
};

// The word for `code` in messages, e.g. "not found".
std::string_view CodeName(Code code) noexcept;

class [[nodiscard]] Status {
 public:
  Status() noexcept = default;  // OK
  Status(Code code, std::string context) : Status(code, std::move(context), 0) {}
  // `sys_errno` is kept as it came, so that an edge can pass it on where it fits better than the
  // code's own errno.
  Status(Code code, std::string context, int sys_errno);

  Status(const Status& other);
  Status& operator=(const Status& other);
  Status(Status&&) noexcept = default;
  Status& operator=(Status&&) noexcept = default;
  ~Status() = default;

  static Status Ok() noexcept { return {}; }
  // Maps an errno to the nearest code (ENOENT -> kNotFound, ENOSPC and EDQUOT -> kNoSpace, all
  // that is not listed -> kIo).
  static Status FromErrno(int sys_errno, std::string_view context);

  bool ok() const noexcept { return rep_ == nullptr; }
  Code code() const noexcept { return rep_ ? rep_->code : Code::kOk; }
  int sys_errno() const noexcept { return rep_ ? rep_->sys_errno : 0; }
  // Empty for OK.
  const std::string& context() const noexcept;
  // "no space: STORE/extents/...: write: No space left on device".
  std::string ToString() const;
  // The errno that a program on the mount sees: one exhaustive switch over the codes.
  int ToErrno() const noexcept;
  // Puts "`prefix`: " before the context; no effect on OK.
  Status WithPrefix(std::string_view prefix) &&;

 private:
  struct Rep {
    Code code;
    int sys_errno;
    std::string context;
  };
  std::unique_ptr<Rep> rep_;
};

}  // namespace cairn

// Returns from the enclosing function when `expression` is not OK.
#define CAIRN_RETURN_IF_ERROR(expression)                                               \
  do {                                                                                  \
    if (::cairn::Status cairn_status = (expression); !cairn_status.ok()) [[unlikely]] { \
      return cairn_status;                                                              \
    }                                                                                   \
  } while (false)

#endif  // CAIRN_SRC_BASE_STATUS_H_
