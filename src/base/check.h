// CHECK: stops the process on a broken invariant of our own code, in every build.
//
// Bytes that come from disk, kernel, user or network are never a reason for CHECK: they get a
// Status. CHECK may be called from any thread.
#ifndef CAIRN_SRC_BASE_CHECK_H_
#define CAIRN_SRC_BASE_CHECK_H_

namespace cairn {

// Prints "file:line: CHECK failed: condition" to stderr and aborts.
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition) noexcept;

}  // namespace cairn

#define CAIRN_CHECK(condition)                              \
  do {                                                      \
    if (!(condition)) [[unlikely]] {                        \
      ::cairn::CheckFailed(__FILE__, __LINE__, #condition); \
    }                                                       \
  } while (false)

#endif  // CAIRN_SRC_BASE_CHECK_H_
