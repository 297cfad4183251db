// Fixed-width integers to and from bytes. Pure functions.
#ifndef CAIRN_SRC_WARM_BYTES_H_
#define CAIRN_SRC_WARM_BYTES_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace cairn {

static_assert(std::endian::native == std::endian::little, "on-disk integers are little-endian");

template <typename T>
void AppendLittle(std::string& out, T number) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &number, sizeof(T));
  out.append(bytes, sizeof(T));
}

inline void AppendBig64(std::string& out, uint64_t number) {
  AppendLittle(out, __builtin_bswap64(number));
}

// Reads fields off the front of a string; once a read ran past the end, ok() is false for ever
// and every further read gives 0.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T Little() {
    T number{};
    if (rest_.size() < sizeof(T)) {
      ok_ = false;
      rest_ = {};
      return number;
    }
    std::memcpy(&number, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return number;
  }
  uint64_t Big64() { return __builtin_bswap64(Little<uint64_t>()); }

  // The next `length` bytes; empty when there are not so many.
  std::string_view Bytes(size_t length) {
    if (rest_.size() < length) {
      ok_ = false;
      rest_ = {};
      return {};
    }
    const std::string_view bytes = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return bytes;
  }

  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && rest_.empty(); }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_BYTES_H_
