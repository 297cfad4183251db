#include <sys/ioctl.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>

#include "fusefs/ioctl_call.h"

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
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, filesystem.GetPlainAttributes(inode));
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

// Of a volume, by going through its index.
Status CountSpace(const Request& request, InodeId inode, cairn_ioc_status& status) {
  if (status.flags & CAIRN_STATUS_DIRECTORY) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(const VolumeSizes sizes, request.edge().snapshots().Sizes(inode));
  status.warm_bytes = sizes.mapped_bytes;
  status.shared_bytes = sizes.shared_bytes;
  return Status::Ok();
}

Status AnswerStatus(const Request& request, InodeId inode, const void* in, size_t in_size) {
  __u32 begin[2] = {};  // version, flags
  if (in_size < sizeof(begin)) return request.AnswerError(EINVAL);
  std::memcpy(begin, in, sizeof(begin));
  CAIRN_RETURN_IF_ERROR(CheckIoctlVersion(begin[0]));
  if (begin[1] & ~CAIRN_STATUS_COUNT) return Status(Code::kInvalid, "unknown flags");
  CAIRN_ASSIGN_OR_RETURN(cairn_ioc_status status, CollectStatus(request.filesystem(), inode));
  if (begin[1] & CAIRN_STATUS_COUNT) CAIRN_RETURN_IF_ERROR(CountSpace(request, inode, status));
  fuse_reply_ioctl(request.handle(), 0, &status, sizeof(status));
  return Status::Ok();
}

}  // namespace

// Restricted ioctls: the kernel copies as many bytes in and out as the command number says, so
// that the command carries the structure's size and another size is another command.
Status Ioctl(const Request& request, InodeId inode, unsigned command, void* /*argument*/,
             fuse_file_info* /*file*/, unsigned /*flags*/, const void* in, size_t in_size,
             size_t /*out_size*/) {
  switch (command) {
    case CAIRN_IOC_STATUS:
      return AnswerStatus(request, inode, in, in_size);
    case CAIRN_IOC_SNAPSHOT_CREATE:
      return CarryOut(IoctlSnapshotCreate, request, inode, in, in_size);
    case CAIRN_IOC_SNAPSHOT_DELETE:
      return CarryOut(IoctlSnapshotDelete, request, inode, in, in_size);
    case CAIRN_IOC_SNAPSHOT_ROLLBACK:
      return CarryOut(IoctlSnapshotRollback, request, inode, in, in_size);
    case CAIRN_IOC_SNAPSHOT_SHOW:
      return CarryOut(IoctlSnapshotShow, request, inode, in, in_size);
    case CAIRN_IOC_SNAPSHOT_MEMBERS:
      return CarryOut(IoctlSnapshotMembers, request, inode, in, in_size);
    case CAIRN_IOC_CLONE:
      return CarryOut(IoctlClone, request, inode, in, in_size);
    case CAIRN_IOC_DIFF:
      return CarryOut(IoctlDiff, request, inode, in, in_size);
    default:
      break;
  }
  const unsigned number = _IOC_NR(command);
  if (_IOC_TYPE(command) == CAIRN_IOC_MAGIC &&
      (number == CAIRN_IOC_NR_PUSH || number == CAIRN_IOC_NR_PULL)) {
    return Status(Code::kUnsupported,
                  "ioctl " + std::to_string(number) + " is not carried out by this version");
  }
  return request.AnswerError(ENOTTY);
}

}  // namespace cairn
