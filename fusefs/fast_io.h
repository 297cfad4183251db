// FastIo: answers READ and WRITE, which libfuse never sees: no allocation, no lock of the edge, one
// system call an answer. The data goes from the volume into the thread's reply buffer, and out of
// the thread's request buffer into the volume.
//
// One a serving thread; not thread-safe.
#ifndef CAIRN_FUSEFS_FAST_IO_H_
#define CAIRN_FUSEFS_FAST_IO_H_

#include <cstddef>
#include <span>

#include "fusefs/edge.h"
#include "fusefs/protocol.h"

namespace cairn {

class FastIo {
 public:
  // Borrows all; `reply_buffer` holds kMaxTransfer bytes.
  FastIo(Edge& edge, int fuse_fd, std::span<std::byte> reply_buffer)
      : edge_(edge), fuse_fd_(fuse_fd), reply_buffer_(reply_buffer) {}

  // `request` is a whole message whose header says READ / WRITE. Always answers.
  void Read(std::span<const std::byte> request) noexcept;
  void Write(std::span<const std::byte> request) noexcept;

 private:
  Result<size_t> DoRead(const fuse_in_header& header, const fuse_read_in& body);
  Result<size_t> DoWrite(const fuse_in_header& header, const fuse_write_in& body,
                         std::span<const std::byte> data);
  void AnswerError(const fuse_in_header& header, int error) noexcept;
  void Answer(const fuse_in_header& header, const void* body, size_t size) noexcept;

  Edge& edge_;
  const int fuse_fd_;
  const std::span<std::byte> reply_buffer_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_FAST_IO_H_
