#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>

#include "fusefs/ops.h"
#include "fusefs/stale_pages.h"

namespace cairn {
namespace {

// The most of one request: copy_file_range(2) may do less than it was asked for, and a caller who
// wants to stop must not wait for more.
constexpr size_t kMaxCopy = 128u << 20;

Status MakeHole(const Request& request, Volume& volume, uint64_t offset, uint64_t length,
                bool keep_size) {
  StalePages pages(request, volume.inode());
  Status done = volume.Zero(offset, length, keep_size);
  if (!done.ok()) return pages.Failed(std::move(done));
  if (fuse_reply_err(request.handle(), 0) == 0) pages.Answered();
  return Status::Ok();
}

Status Reserve(const Request& request, Volume& volume, uint64_t offset, uint64_t length,
               bool keep_size) {
  Status done = volume.Allocate(offset, length, keep_size);
  if (done.ok()) return request.AnswerDone();
  // It may have grown as far as there was space.
  Invalidator* const invalidator = request.edge().invalidator();
  if (invalidator != nullptr) invalidator->Tell({.contents = {}, .attributes = {volume.inode()}});
  return done;
}

}  // namespace

// The kernel answers SEEK_SET, SEEK_CUR and SEEK_END itself. Any other error than ENOSYS is fine:
// that one would switch SEEK_HOLE off for the life of the mount.
Status Lseek(const Request& request, InodeId inode, off_t offset, int whence,
             fuse_file_info* /*file*/) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return request.AnswerError(EINVAL);
  if (offset < 0) return request.AnswerError(ENXIO);
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<Volume> volume,
                         request.filesystem().FindVolume(inode));
  const auto from = static_cast<uint64_t>(offset);
  Result<uint64_t> found = whence == SEEK_DATA ? volume->SeekData(from) : volume->SeekHole(from);
  if (!found.ok()) return std::move(found).status();
  request.Answer(fuse_lseek_out{.offset = *found});
  return Status::Ok();
}

Status Fallocate(const Request& request, InodeId inode, int mode, off_t offset, off_t length,
                 fuse_file_info* /*file*/) {
  if (offset < 0 || length <= 0) return request.AnswerError(EINVAL);
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<Volume> volume,
                         request.filesystem().FindVolume(inode));
  const auto begin = static_cast<uint64_t>(offset);
  const auto size = static_cast<uint64_t>(length);
  switch (mode) {
    case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
      return MakeHole(request, *volume, begin, size, /*keep_size=*/true);
    case FALLOC_FL_ZERO_RANGE:
      return MakeHole(request, *volume, begin, size, /*keep_size=*/false);
    case 0:
      return Reserve(request, *volume, begin, size, /*keep_size=*/false);
    case FALLOC_FL_KEEP_SIZE:
      return Reserve(request, *volume, begin, size, /*keep_size=*/true);
    default:
      return Status(Code::kUnsupported,
                    "fallocate: a volume's ranges can be reserved, punched or zeroed, not moved");
  }
}

Status CopyFileRange(const Request& request, InodeId source, off_t source_offset,
                     fuse_file_info* /*source_file*/, fuse_ino_t target, off_t target_offset,
                     fuse_file_info* /*target_file*/, size_t length, int flags) {
  if (flags != 0 || source_offset < 0 || target_offset < 0) return request.AnswerError(EINVAL);
  StalePages pages(request, InodeId(target));
  const auto copied = request.filesystem().CopyRange(
      source, static_cast<uint64_t>(source_offset), InodeId(target),
      static_cast<uint64_t>(target_offset), std::min(length, kMaxCopy), request.caller());
  if (!copied.ok()) return pages.Failed(copied.status());
  const fuse_write_out reply{.size = static_cast<uint32_t>(copied->bytes), .padding = 0};
  // Of what a failure has changed behind that the kernel does not know.
  if (request.Answer(reply) && !copied->failed) pages.Answered();
  return Status::Ok();
}

}  // namespace cairn
