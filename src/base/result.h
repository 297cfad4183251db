// Result<T>: a value, or the Status that says why there is none.
#ifndef CAIRN_SRC_BASE_RESULT_H_
#define CAIRN_SRC_BASE_RESULT_H_

#include <optional>
#include <utility>

#include "src/base/check.h"
#include "src/base/status.h"

namespace cairn {

template <typename T>
class [[nodiscard]] Result {
 public:
  // REQUIRES: !status.ok().
  Result(Status status) : status_(std::move(status)) { CAIRN_CHECK(!status_.ok()); }  // NOLINT
  Result(T value) : value_(std::move(value)) {}                                       // NOLINT

  bool ok() const noexcept { return value_.has_value(); }
  const Status& status() const& noexcept { return status_; }
  Status status() && noexcept { return std::move(status_); }

  // REQUIRES: ok().
  T& value() & {
    CAIRN_CHECK(ok());
    return *value_;
  }
  const T& value() const& {
    CAIRN_CHECK(ok());
    return *value_;
  }
  T value() && {
    CAIRN_CHECK(ok());
    return std::move(*value_);
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  Status status_;
  std::optional<T> value_;
};

}  // namespace cairn

#define CAIRN_CONCAT_INNER(a, b) a##b
#define CAIRN_CONCAT(a, b) CAIRN_CONCAT_INNER(a, b)
// CAIRN_ASSIGN_OR_RETURN(auto x, F()): returns F()'s Status when it failed, else declares x.
#define CAIRN_ASSIGN_OR_RETURN(declaration, expression) \
  CAIRN_ASSIGN_OR_RETURN_INNER(CAIRN_CONCAT(cairn_result_, __LINE__), declaration, expression)
#define CAIRN_ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                         \
  if (!result.ok()) [[unlikely]] {                                    \
    return std::move(result).status();                                \
  }                                                                   \
  declaration = std::move(result).value()

#endif  // CAIRN_SRC_BASE_RESULT_H_
