#include "snapshot/request_check.h"

#include <algorithm>

namespace cairn {
namespace {

constexpr size_t kMaxTextBytes = 4096;
constexpr size_t kMaxTags = 64;

// Others' terminals and logs show these texts: nothing in them may steer a terminal.
bool HasControlCharacter(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
}

Status CheckName(std::string_view name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
                    name.find('/') == std::string_view::npos && !HasControlCharacter(name);
  return good ? Status::Ok()
              : Status(Code::kInvalid,
                       "a snapshot's name has 1 to 255 bytes, no '/' and no control character");
}

}  // namespace

Status CheckTexts(const SnapshotRequest& request) {
  CAIRN_RETURN_IF_ERROR(CheckName(request.name));
  if (request.token.size() > kMaxTokenBytes) {
    return Status(Code::kInvalid, "a request's token has at most 255 bytes");
  }
  if (request.description.size() > kMaxTextBytes || request.tags.size() > kMaxTags) {
    return Status(Code::kInvalid, "a snapshot has at most 64 tags and 4096 bytes of description");
  }
  if (HasControlCharacter(request.description)) {
    return Status(Code::kInvalid, "a description has no control characters");
  }
  for (const auto& [tag, value] : request.tags) {
    if (HasControlCharacter(tag) || HasControlCharacter(value)) {
      return Status(Code::kInvalid, "a tag has no control characters");
    }
    if (tag.empty() || tag.size() > kMaxNameBytes || value.size() > kMaxTextBytes) {
      return Status(Code::kInvalid, "a tag is KEY=VALUE, with a key of 1 to 255 bytes");
    }
  }
  return Status::Ok();
}

}  // namespace cairn
