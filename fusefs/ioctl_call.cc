#include "fusefs/ioctl_call.h"

#include <utility>

namespace cairn {

Status CheckIoctlVersion(uint32_t version) {
  if (version == CAIRN_IOC_VERSION) return Status::Ok();
  return Status(Code::kInvalid, "ioctl version " + std::to_string(version) +
                                    "; this server speaks version " +
                                    std::to_string(CAIRN_IOC_VERSION));
}

void AnswerIoctl(const Request& request, int result, const void* argument, size_t size,
                 Invalidation changed) {
  Invalidator* const invalidator = request.edge().invalidator();
  if (changed.empty() || invalidator == nullptr) {
    fuse_reply_ioctl(request.handle(), result, argument, size);
    return;
  }
  const fuse_ioctl_out out{.result = result, .flags = 0, .in_iovs = 0, .out_iovs = 0};
  std::vector<std::byte> body(sizeof(out) + size);
  std::memcpy(body.data(), &out, sizeof(out));
  std::memcpy(body.data() + sizeof(out), argument, size);
  const uint64_t unique = request.unique();
  fuse_reply_none(request.handle());  // libfuse lets go of it; the answer comes from elsewhere
  request.SettleElsewhere();
  invalidator->TellAndAnswer(std::move(changed), unique, std::move(body),
                             [&filesystem = request.filesystem(), id = request.caller().request] {
                               filesystem.SettleRequest(id);
                             });
}

Result<std::string> TakeIoctlText(std::string_view what, const char* field, size_t size) {
  const size_t length = strnlen(field, size);
  if (length < size) return std::string(field, length);
  return Status(Code::kInvalid, std::string(what) + " has no end");
}

Result<std::vector<std::string>> TakeIoctlList(std::string_view what, const char* field,
                                               size_t size) {
  std::vector<std::string> items;
  size_t used = 0;
  while (used < size && field[used] != '\0') {
    CAIRN_ASSIGN_OR_RETURN(std::string item, TakeIoctlText(what, field + used, size - used));
    used += item.size() + 1;
    items.push_back(std::move(item));
  }
  if (used >= size) return Status(Code::kInvalid, std::string(what) + " have no end");
  return items;
}

void PutIoctlText(std::string_view text, char* field, size_t size) {
  std::memset(field, 0, size);
  std::memcpy(field, text.data(), std::min(text.size(), size - 1));
}

}  // namespace cairn
