#include "snapshot/request_check.h"

namespace cairn {
namespace {

constexpr size_t kMaxTextBytes = 4096;
constexpr size_t kMaxTags = 64;

Status CheckName(std::string_view name) {
  const bool good = !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
                    name.find('/') == std::string_view::npos &&
                    name.find('\0') == std::string_view::npos;
  return good ? Status::Ok()
              : Status(Code::kInvalid, "a snapshot's name has 1 to 255 bytes and no '/'");
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
  for (const auto& [tag, value] : request.tags) {
    if (tag.empty() || tag.size() > kMaxNameBytes || value.size() > kMaxTextBytes) {
      return Status(Code::kInvalid, "a tag is KEY=VALUE, with a key of 1 to 255 bytes");
    }
  }
  return Status::Ok();
}

}  // namespace cairn
