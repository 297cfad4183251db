#include "fusefs/fast_io.h"

#include <fcntl.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <memory>

#include "fusefs/ops.h"
#include "fusefs/wire.h"
#include "src/base/log.h"
#include "src/volume/volume.h"

namespace cairn {
namespace {

// The body behind the header. REQUIRES: the message holds it.
template <typename Body>
const Body& BodyOf(std::span<const std::byte> request) {
  return *reinterpret_cast<const Body*>(request.data() + sizeof(fuse_in_header));
}

const fuse_in_header& HeaderOf(std::span<const std::byte> request) {
  return *reinterpret_cast<const fuse_in_header*>(request.data());
}

// Notes a write past the kernel's pages when it has ended, in whatever way.
class UncachedWrite {
 public:
  UncachedWrite(Volume& volume, uint64_t fh) : volume_(BypassesPages(fh) ? &volume : nullptr) {}
  ~UncachedWrite() {
    if (volume_ != nullptr) volume_->cached_pages().NoteUncachedWrite();
  }
  UncachedWrite(const UncachedWrite&) = delete;
  UncachedWrite& operator=(const UncachedWrite&) = delete;

 private:
  Volume* const volume_;
};

}  // namespace

void FastIo::Read(std::span<const std::byte> request) noexcept {
  const fuse_in_header& header = HeaderOf(request);
  if (request.size() < sizeof(fuse_in_header) + sizeof(fuse_read_in)) {
    return AnswerError(header, EINVAL);
  }
  try {
    const Result<size_t> got = DoRead(header, BodyOf<fuse_read_in>(request));
    if (got.ok()) return Answer(header, reply_buffer_.data(), *got);
    AnswerError(header, edge_.Refuse(InodeId(header.nodeid), got.status()));
  } catch (const std::exception& exception) {
    AnswerError(header, edge_.RefuseException(InodeId(header.nodeid), exception.what()));
  } catch (...) {
    AnswerError(header, edge_.RefuseException(InodeId(header.nodeid), "unknown exception"));
  }
}

void FastIo::Write(std::span<const std::byte> request) noexcept {
  const fuse_in_header& header = HeaderOf(request);
  if (request.size() < protocol::kWriteHeaderSize) return AnswerError(header, EINVAL);
  const auto& body = BodyOf<fuse_write_in>(request);
  const std::span<const std::byte> data = request.subspan(protocol::kWriteHeaderSize);
  if (data.size() != body.size) return AnswerError(header, EINVAL);
  try {
    const Result<size_t> put = DoWrite(header, body, data);
    if (put.ok()) {
      const fuse_write_out out{.size = static_cast<uint32_t>(*put), .padding = 0};
      return Answer(header, &out, sizeof(out));
    }
    AnswerError(header, edge_.Refuse(InodeId(header.nodeid), put.status()));
  } catch (const std::exception& exception) {
    AnswerError(header, edge_.RefuseException(InodeId(header.nodeid), exception.what()));
  } catch (...) {
    AnswerError(header, edge_.RefuseException(InodeId(header.nodeid), "unknown exception"));
  }
}

Result<size_t> FastIo::DoRead(const fuse_in_header& header, const fuse_read_in& body) {
  if (body.size > reply_buffer_.size()) {
    return Status(Code::kInvalid, "a read of more than max_read bytes");
  }
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<Volume> volume,
                         edge_.filesystem().FindVolume(InodeId(header.nodeid)));
  volume->cached_pages().NoteRequest(HandleOf(body.fh));
  return volume->Read(body.offset, reply_buffer_.first(body.size));
}

Result<size_t> FastIo::DoWrite(const fuse_in_header& header, const fuse_write_in& body,
                               std::span<const std::byte> data) {
  const InodeId inode(header.nodeid);
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<Volume> volume,
                         edge_.filesystem().FindVolume(inode));
  if (body.write_flags & FUSE_WRITE_KILL_SUIDGID) [[unlikely]] {
    const Caller caller{.uid = header.uid,
                        .gid = header.gid,
                        .request = protocol::IdOf(header),
                        .resent = protocol::IsResent(header)};
    CAIRN_RETURN_IF_ERROR(ClearSetIdBits(edge_.filesystem(), inode, caller));
  }
  volume->cached_pages().NoteRequest(HandleOf(body.fh));
  const UncachedWrite noted(*volume, body.fh);
  auto put = volume->Write(body.offset, data);
  // The kernel follows a cached write to a file opened with O_SYNC or O_DSYNC by an fsync, but not
  // a direct one: there, the flag is all that we get to know.
  const bool wants_sync = (body.flags & O_DSYNC) != 0;  // O_SYNC contains it
  if (wants_sync && put.ok()) CAIRN_RETURN_IF_ERROR(volume->Sync());
  return put;
}

void FastIo::AnswerError(const fuse_in_header& header, int error) noexcept {
  fuse_out_header out{.len = sizeof(out), .error = -error, .unique = header.unique};
  if (write(fuse_fd_, &out, sizeof(out)) < 0 && errno != ENOENT && errno != ENODEV) {
    LogError("answering a request: {}", std::strerror(errno));
  }
}

void FastIo::Answer(const fuse_in_header& header, const void* body, size_t size) noexcept {
  fuse_out_header out{
      .len = static_cast<uint32_t>(sizeof(out) + size), .error = 0, .unique = header.unique};
  iovec parts[2] = {{&out, sizeof(out)}, {const_cast<void*>(body), size}};
  // ENOENT: the program was interrupted and the kernel forgot the request. ENODEV: unmounted.
  if (writev(fuse_fd_, parts, 2) < 0 && errno != ENOENT && errno != ENODEV) {
    LogError("answering a request: {}", std::strerror(errno));
    AnswerError(header, EIO);
  }
}

}  // namespace cairn
