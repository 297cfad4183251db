#include <algorithm>
#include <utility>
#include <vector>

#include "fusefs/directory_packer.h"
#include "fusefs/ops.h"
#include "fusefs/wire.h"

namespace cairn {
namespace {

// "." and "..", as far as `offset` lies before them. Returns where the entries go on.
template <typename Add>
Result<uint64_t> AddDots(Filesystem& filesystem, InodeId directory, uint64_t offset, Add add) {
  if (offset < DirectoryOffset::kBehindDot) {
    if (!add(".", directory, DirectoryOffset::kBehindDot)) return offset;
    offset = DirectoryOffset::kBehindDot;
  }
  if (offset < DirectoryOffset::kBehindDotDot) {
    CAIRN_ASSIGN_OR_RETURN(const InodeId parent, filesystem.Parent(directory));
    if (!add("..", parent, DirectoryOffset::kBehindDotDot)) return offset;
    offset = DirectoryOffset::kBehindDotDot;
  }
  return offset;
}

void AnswerPacked(const Request& request, const DirectoryPacker& packer) {
  fuse_reply_buf(request.handle(), reinterpret_cast<const char*>(packer.packed().data()),
                 packer.size());
}

size_t Bounded(size_t size) { return std::min(size, protocol::kMaxTransfer); }

// Any single entry fits, so that an answer without entries means the end of the directory. The
// kernel asks for a page at least.
constexpr size_t kLeastBuffer = 512;
static_assert(kLeastBuffer >= sizeof(fuse_direntplus) + 256);

// Attributes are asked for when the walk is over: a walk's sink must not call back. An entry that
// goes away in between is left out; one that comes late is found by the next request or not at
// all, as POSIX has it.
Status PackPlus(const Request& request, InodeId directory,
                const std::vector<DirectoryEntry>& entries, DirectoryPacker& packer) {
  for (const DirectoryEntry& entry : entries) {
    const Result<Attributes> attributes = request.filesystem().GetAttributes(entry.inode);
    if (!attributes.ok()) {
      if (attributes.status().code() == Code::kNotFound) continue;
      // What was packed is answered; the next request meets the error again, first.
      return packer.size() > 0 ? Status::Ok() : attributes.status();
    }
    if (!packer.AddPlus(directory, entry.name, *attributes,
                        DirectoryOffset::FromCookie(entry.cookie))) {
      break;
    }
  }
  return Status::Ok();
}

}  // namespace

Status OpenDir(const Request& request, InodeId inode, fuse_file_info* /*file*/) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, request.filesystem().GetAttributes(inode));
  if (attributes.kind != FileKind::kDirectory) return request.AnswerError(ENOTDIR);
  request.Answer(fuse_open_out{.fh = inode.value(), .open_flags = 0, .padding = 0});
  return Status::Ok();
}

Status ReadDir(const Request& request, InodeId inode, size_t size, off_t offset,
               fuse_file_info* /*file*/) {
  if (size < kLeastBuffer) return request.AnswerError(EINVAL);
  std::vector<std::byte> buffer(Bounded(size));
  DirectoryPacker packer(buffer);
  CAIRN_ASSIGN_OR_RETURN(const uint64_t start,
                         AddDots(request.filesystem(), inode, static_cast<uint64_t>(offset),
                                 [&](const char* name, InodeId child, uint64_t next) {
                                   return packer.Add(name, child, FileKind::kDirectory, next);
                                 }));
  if (start >= DirectoryOffset::kBehindDotDot) {
    CAIRN_RETURN_IF_ERROR(request.filesystem().ReadDirectory(
        inode, DirectoryOffset::ToCookie(start), [&](const DirectoryEntry& entry) {
          return packer.Add(entry.name, entry.inode, entry.kind,
                            DirectoryOffset::FromCookie(entry.cookie));
        }));
  }
  AnswerPacked(request, packer);
  return Status::Ok();
}

Status ReadDirPlus(const Request& request, InodeId inode, size_t size, off_t offset,
                   fuse_file_info* /*file*/) {
  if (size < kLeastBuffer) return request.AnswerError(EINVAL);
  std::vector<std::byte> buffer(Bounded(size));
  DirectoryPacker packer(buffer);
  CAIRN_ASSIGN_OR_RETURN(const uint64_t start,
                         AddDots(request.filesystem(), inode, static_cast<uint64_t>(offset),
                                 [&](const char* name, InodeId child, uint64_t next) {
                                   return packer.AddPlusNameOnly(name, child, FileKind::kDirectory,
                                                                 next);
                                 }));
  if (start >= DirectoryOffset::kBehindDotDot) {
    // Never an empty answer while entries are left: that would mean the end. When all entries of
    // a full round went away meanwhile, the next round starts behind them.
    uint64_t cookie = DirectoryOffset::ToCookie(start);
    const size_t before = packer.size();
    const size_t most =
        buffer.size() / (sizeof(fuse_entry_out) + DirectoryPacker::kLeastEntrySize) + 1;
    bool more = true;
    while (more && packer.size() == before) {
      std::vector<DirectoryEntry> entries;
      CAIRN_RETURN_IF_ERROR(
          request.filesystem().ReadDirectory(inode, cookie, [&](const DirectoryEntry& entry) {
            entries.push_back(entry);
            return entries.size() < most;
          }));
      more = entries.size() == most;
      if (!entries.empty()) cookie = entries.back().cookie;
      CAIRN_RETURN_IF_ERROR(PackPlus(request, inode, entries, packer));
      if (before > 0) break;  // the dots are an answer
    }
  }
  AnswerPacked(request, packer);
  return Status::Ok();
}

Status ReleaseDir(const Request& request, InodeId /*inode*/, fuse_file_info* /*file*/) {
  return request.AnswerDone();
}

// Each change of names was durable when it was answered.
Status FsyncDir(const Request& request, InodeId /*inode*/, int /*data_only*/,
                fuse_file_info* /*file*/) {
  return request.AnswerDone();
}

}  // namespace cairn
