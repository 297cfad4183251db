// How an ioctl is carried out: takes the caller's structure, checks its version, lets a handler
// work on it, and sends it back, with the reason in it when the handler failed.
#ifndef CAIRN_FUSEFS_IOCTL_CALL_H_
#define CAIRN_FUSEFS_IOCTL_CALL_H_

#include <algorithm>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "fusefs/cairn_ioctl.h"
#include "fusefs/invalidator.h"
#include "fusefs/ops.h"

namespace cairn {

// A handler works on the caller's structure in place. What it puts into `changed` is told to the
// kernel before the caller gets its answer.
template <typename Argument>
using IoctlHandler = Status (*)(const Request& request, InodeId inode, Argument& argument,
                                Invalidation& changed);

// OK, or kInvalid: the caller was built against another version of cairn_ioctl.h.
Status CheckIoctlVersion(uint32_t version);

// OK, or kInvalid: a field that may mean something one day is not 0.
template <typename Argument>
Status CheckReserved(const Argument& argument) {
  bool is_set = false;
  if constexpr (requires { argument.reserved; }) {
    for (const auto word : argument.reserved) is_set |= word != 0;
  }
  if constexpr (requires { argument.reserved_word; }) is_set |= argument.reserved_word != 0;
  if (!is_set) return Status::Ok();
  return Status(Code::kInvalid, "reserved fields must be 0");
}

// Sends `argument` back with `result`, 0 or -errno: after what `changed` holds has reached the
// kernel.
void AnswerIoctl(const Request& request, int result, const void* argument, size_t size,
                 Invalidation changed);

template <typename Argument>
Status CarryOut(IoctlHandler<Argument> handler, const Request& request, InodeId inode,
                const void* in, size_t in_size) {
  if (in_size != sizeof(Argument)) return request.AnswerError(EINVAL);
  const auto argument = std::make_unique<Argument>();
  std::memcpy(argument.get(), in, sizeof(Argument));
  Invalidation changed;
  Status status = CheckIoctlVersion(argument->version);
  if (status.ok()) status = CheckReserved(*argument);
  if (status.ok()) status = handler(request, inode, *argument, changed);
  std::memset(argument->error, 0, sizeof(argument->error));
  int result = 0;
  if (!status.ok()) {
    result = -request.edge().Refuse(inode, status);
    // Whatever the reason, as for attributes; but those who may not do it need not show there.
    if (status.code() != Code::kAccess && status.code() != Code::kPermission) {
      request.filesystem().NoteError(inode, status);
    }
    const std::string& reason = status.context();
    std::memcpy(argument->error, reason.data(),
                std::min(reason.size(), sizeof(argument->error) - 1));
  }
  AnswerIoctl(request, result, argument.get(), sizeof(Argument), std::move(changed));
  return Status::Ok();
}

// A text that the caller has to end with a NUL inside its field.
Result<std::string> TakeIoctlText(std::string_view what, const char* field, size_t size);
template <size_t kSize>
Result<std::string> TakeIoctlText(std::string_view what, const char (&field)[kSize]) {
  return TakeIoctlText(what, field, kSize);
}
// A list of texts that ends with an empty one inside the field.
Result<std::vector<std::string>> TakeIoctlList(std::string_view what, const char* field,
                                               size_t size);
// What does not fit is cut off.
void PutIoctlText(std::string_view text, char* field, size_t size);
template <size_t kSize>
void PutIoctlText(std::string_view text, char (&field)[kSize]) {
  PutIoctlText(text, field, kSize);
}

// ops_snapshot.cc
Status IoctlSnapshotCreate(const Request& request, InodeId inode,
                           cairn_ioc_snapshot_create& argument, Invalidation& changed);
Status IoctlSnapshotDelete(const Request& request, InodeId inode,
                           cairn_ioc_snapshot_delete& argument, Invalidation& changed);
Status IoctlSnapshotRollback(const Request& request, InodeId inode,
                             cairn_ioc_snapshot_rollback& argument, Invalidation& changed);
// ops_snapshot_show.cc
Status IoctlSnapshotShow(const Request& request, InodeId inode, cairn_ioc_snapshot_show& argument,
                         Invalidation& changed);
Status IoctlSnapshotMembers(const Request& request, InodeId inode,
                            cairn_ioc_snapshot_members& argument, Invalidation& changed);
// ops_clone.cc
Status IoctlClone(const Request& request, InodeId inode, cairn_ioc_clone& argument,
                  Invalidation& changed);
Status IoctlDiff(const Request& request, InodeId inode, cairn_ioc_diff& argument,
                 Invalidation& changed);
// Checks that the caller may come to where the clone is to be, and makes it. `find_parent` says
// where that is, unless the request was carried out before.
Result<CloneResult> MakeClone(const Request& request, CloneRequest wanted,
                              const std::function<Result<InodeId>()>& find_parent,
                              Invalidation& changed);

}  // namespace cairn

#endif  // CAIRN_FUSEFS_IOCTL_CALL_H_
