// RequestBuffers: the memory of one serving thread: what it reads requests into and what it
// answers READ from. Allocated and faulted in before the thread reads its first request: a server
// that is killed while the kernel copies into a page that is not there would fail that request
// with EIO, instead of leaving it to the next server.
#ifndef CAIRN_FUSEFS_REQUEST_BUFFERS_H_
#define CAIRN_FUSEFS_REQUEST_BUFFERS_H_

#include <cstddef>
#include <memory>
#include <span>

#include "src/base/result.h"

namespace cairn {

class RequestBuffers {
 public:
  // kNoSpace, kIo: no memory. Memory that may not be locked is used as it is; `locked` tells.
  static Result<std::unique_ptr<RequestBuffers>> Create();
  ~RequestBuffers();
  RequestBuffers(const RequestBuffers&) = delete;
  RequestBuffers& operator=(const RequestBuffers&) = delete;

  // Room for any request. The data of a WRITE begins on a page, and so copies page by page.
  std::span<std::byte> request() { return request_; }
  // Page-aligned, kMaxTransfer bytes.
  std::span<std::byte> reply() { return reply_; }
  bool locked() const { return locked_; }

 private:
  RequestBuffers(void* map, std::byte* memory, bool locked);

  void* const map_;
  const bool locked_;
  const std::span<std::byte> request_;
  const std::span<std::byte> reply_;
};

}  // namespace cairn

#endif  // CAIRN_FUSEFS_REQUEST_BUFFERS_H_
