#include <fcntl.h>

#include <optional>

#include "fusefs/ops.h"
#include "fusefs/stale_pages.h"
#include "fusefs/wire.h"

namespace cairn {
namespace {

struct CreateReply {
  fuse_entry_out entry{};
  fuse_open_out open{};
};
static_assert(sizeof(CreateReply) == sizeof(fuse_entry_out) + sizeof(fuse_open_out));

// A new volume. Another one may have come to the name without the kernel, as a clone; it looks at
// no mode where it lets something be made. Without O_EXCL it then looks the name up and opens that.
Result<Attributes> MakeVolume(const Request& request, InodeId parent, const char* name, mode_t mode,
                              int open_flags) {
  Result<Attributes> created =
      request.filesystem().Create(parent, name, mode & 07777, request.caller());
  if (!created.ok() && created.status().code() == Code::kExists && !(open_flags & O_EXCL)) {
    return Status(Code::kStale, "another file has the name");
  }
  return created;
}

fuse_open_out ReplyOf(const Request& request, uint32_t open_flags, Volume& volume) {
  const HandleId handle = request.handle_id();
  if (!request.edge().direct_drops_pages()) return OpenReply(handle, PageUse::kKeep);
  if (open_flags & O_DIRECT) return OpenReply(handle, PageUse::kBypass);
  const bool drop = volume.cached_pages().DropAtOpen(handle);
  return OpenReply(handle, drop ? PageUse::kDrop : PageUse::kKeep);
}

}  // namespace

Status Create(const Request& request, InodeId parent, const char* name, mode_t mode,
              fuse_file_info* file) {
  const auto open_flags = static_cast<uint32_t>(file->flags);
  Filesystem& filesystem = request.filesystem();
  CAIRN_ASSIGN_OR_RETURN(Attributes attributes,
                         MakeVolume(request, parent, name, mode, file->flags));
  const bool truncate = (open_flags & O_TRUNC) && attributes.size > 0;
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<Volume> volume,
                         filesystem.OpenVolume(attributes.inode, request.handle_id(), truncate));
  if (truncate) attributes.size = 0;
  CreateReply reply;
  reply.entry = EntryReply(attributes, parent);
  reply.open = ReplyOf(request, open_flags, *volume);
  if (!request.Answer(reply)) filesystem.ReleaseVolume(attributes.inode, request.handle_id());
  return Status::Ok();
}

Status Open(const Request& request, InodeId inode, fuse_file_info* file) {
  const auto open_flags = static_cast<uint32_t>(file->flags);
  Filesystem& filesystem = request.filesystem();
  const bool truncate = (open_flags & O_TRUNC) != 0;
  if (truncate || (open_flags & O_ACCMODE) != O_RDONLY) {
    // Here and not at the first write: losetup and others then try again for reading.
    CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, filesystem.GetAttributes(inode));
    if (attributes.kind == FileKind::kSnapshot) {
      return Status(Code::kReadOnly, "a snapshot does not change; clone it and write to the clone");
    }
  }
  std::optional<StalePages> pages;
  if (truncate) pages.emplace(request, inode);
  const auto opened = filesystem.OpenVolume(inode, request.handle_id(), truncate);
  if (!opened.ok()) return pages ? pages->Failed(opened.status()) : opened.status();
  if (truncate && (request.body<fuse_open_in>().open_flags & FUSE_OPEN_KILL_SUIDGID)) {
    Status cleared = ClearSetIdBits(filesystem, inode, request.caller());
    if (!cleared.ok()) {
      filesystem.ReleaseVolume(inode, request.handle_id());
      return cleared;
    }
  }
  if (!request.Answer(ReplyOf(request, open_flags, **opened))) {
    filesystem.ReleaseVolume(inode, request.handle_id());
  } else if (pages) {
    pages->Answered();
  }
  return Status::Ok();
}

Status Release(const Request& request, InodeId inode, fuse_file_info* file) {
  request.filesystem().ReleaseVolume(inode, HandleOf(file->fh));
  return request.AnswerDone();
}

Status Fsync(const Request& request, InodeId inode, int /*data_only*/, fuse_file_info* /*file*/) {
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<Volume> volume,
                         request.filesystem().FindVolume(inode));
  CAIRN_RETURN_IF_ERROR(volume->Sync());
  return request.AnswerDone();
}

}  // namespace cairn
