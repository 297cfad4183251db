#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "fusefs/cairn_ioctl.h"
#include "fusefs/ops.h"

namespace cairn {
namespace {

uint64_t Number(const nlohmann::json& status, const char* name) {
  const auto found = status.find(name);
  return found != status.end() && found->is_number_integer() ? found->get<uint64_t>() : 0;
}

bool Flag(const nlohmann::json& status, const char* name) {
  const auto found = status.find(name);
  return found != status.end() && found->is_boolean() && found->get<bool>();
}

Result<cairn_ioc_status> CollectStatus(Filesystem& filesystem, InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, filesystem.GetAttributes(inode));
  CAIRN_ASSIGN_OR_RETURN(const std::string text, filesystem.StatusJson(inode));
  const nlohmann::json status = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!status.is_object()) {
    return Status(Code::kInternal, "status of inode " + std::to_string(inode.value()));
  }
  cairn_ioc_status out{};
  out.version = CAIRN_IOC_VERSION;
  if (attributes.kind == FileKind::kDirectory) out.flags |= CAIRN_STATUS_DIRECTORY;
  if (Flag(status, "encrypted")) out.flags |= CAIRN_STATUS_ENCRYPTED;
  if (Flag(status, "poisoned")) out.flags |= CAIRN_STATUS_POISONED;
  if (Flag(status, "read_only")) out.flags |= CAIRN_STATUS_READ_ONLY;
  out.inode = inode.value();
  out.size = Number(status, "size");
  out.warm_bytes = Number(status, "warm_bytes");
  out.cold_bytes = Number(status, "cold_bytes");
  out.shared_bytes = Number(status, "shared_bytes");
  const auto jobs = status.find("jobs");
  if (jobs != status.end()) out.jobs = jobs->is_array() ? jobs->size() : Number(status, "jobs");
  const auto hydrated = status.find("hydrated_percent");
  out.hydrated_percent = hydrated != status.end() && hydrated->is_number()
                             ? static_cast<uint32_t>(hydrated->get<double>())
                             : 100;
  const auto error = status.find("last_error");
  if (error != status.end() && error->is_string()) {
    const auto& message = error->get_ref<const std::string&>();
    std::memcpy(out.last_error, message.data(),
                std::min(message.size(), size_t{CAIRN_ERROR_SIZE - 1}));
  }
  return out;
}

Status AnswerStatus(const Request& request, InodeId inode, const void* in, size_t in_size) {
  __u32 version = 0;
  if (in_size < sizeof(version)) return request.AnswerError(EINVAL);
  std::memcpy(&version, in, sizeof(version));
  if (version != CAIRN_IOC_VERSION) {
    return Status(Code::kInvalid, "ioctl version " + std::to_string(version) +
                                      "; this server speaks version " +
                                      std::to_string(CAIRN_IOC_VERSION));
  }
  CAIRN_ASSIGN_OR_RETURN(const cairn_ioc_status status, CollectStatus(request.filesystem(), inode));
  fuse_reply_ioctl(request.handle(), 0, &status, sizeof(status));
  return Status::Ok();
}

}  // namespace

// Restricted ioctls: the kernel copies as many bytes in and out as the command number says, so
// that the command carries the structure's size and another size is another command.
Status Ioctl(const Request& request, InodeId inode, unsigned command, void* /*argument*/,
             fuse_file_info* /*file*/, unsigned /*flags*/, const void* in, size_t in_size,
             size_t /*out_size*/) {
  if (command == CAIRN_IOC_STATUS) return AnswerStatus(request, inode, in, in_size);
  const unsigned number = _IOC_NR(command);
  if (_IOC_TYPE(command) == CAIRN_IOC_MAGIC && number > CAIRN_IOC_NR_STATUS &&
      number <= CAIRN_IOC_NR_LAST) {
    return Status(Code::kUnsupported,
                  "ioctl " + std::to_string(number) + " is not carried out by this version");
  }
  return request.AnswerError(ENOTTY);
}

}  // namespace cairn
