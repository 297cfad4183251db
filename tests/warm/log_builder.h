// LogBuilder: writes LevelDB's log format, and so says a second time what it is.
#ifndef CAIRN_TESTS_WARM_LOG_BUILDER_H_
#define CAIRN_TESTS_WARM_LOG_BUILDER_H_

#include <algorithm>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/crc32c.h"
#include "src/env/env.h"

namespace cairn::testing {

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline std::string RandomText(std::mt19937_64& random, size_t length) {
  std::string text(length, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

// Replaces the file's contents, and makes them durable.
inline Status WriteFile(Env& env, const std::string& path, std::string_view contents) {
  CAIRN_ASSIGN_OR_RETURN(const auto file, env.Open(path, OpenMode::kCreate));
  CAIRN_RETURN_IF_ERROR(file->Truncate(0));
  CAIRN_RETURN_IF_ERROR(file->WriteAt(0, AsBytes(contents)));
  return file->Sync();
}

class LogBuilder {
 public:
  void Add(std::string_view record) {
    bool first = true;
    do {
      const size_t room = kBlock - bytes_.size() % kBlock;
      if (room < 7) bytes_.append(room, '\0');
      const size_t payload_room = kBlock - bytes_.size() % kBlock - 7;
      const std::string_view part = record.substr(0, payload_room);
      record.remove_prefix(part.size());
      const bool last = record.empty();
      AddFragment(first ? (last ? 1 : 2) : (last ? 4 : 3), part);
      first = false;
    } while (!record.empty());
    ends_.push_back(bytes_.size());
  }

  const std::string& bytes() const { return bytes_; }
  // Where each record ends.
  const std::vector<uint64_t>& ends() const { return ends_; }
  // The end of the last record that ends at or before `size`.
  uint64_t EndBefore(uint64_t size) const {
    const auto after = std::upper_bound(ends_.begin(), ends_.end(), size);
    return after == ends_.begin() ? 0 : *(after - 1);
  }

 private:
  static constexpr size_t kBlock = 32768;

  void AddFragment(int type, std::string_view payload) {
    const std::string checked = std::string(1, static_cast<char>(type)) + std::string(payload);
    const uint32_t crc = Crc32c(AsBytes(checked));
    const uint32_t masked = ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
    for (int shift = 0; shift < 32; shift += 8) bytes_ += static_cast<char>(masked >> shift);
    bytes_ += static_cast<char>(payload.size());
    bytes_ += static_cast<char>(payload.size() >> 8);
    bytes_ += checked;
  }

  std::string bytes_;
  std::vector<uint64_t> ends_;
};

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_WARM_LOG_BUILDER_H_
