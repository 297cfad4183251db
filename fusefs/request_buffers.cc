#include "fusefs/request_buffers.h"

#include <sys/mman.h>

#include <cerrno>

#include "fusefs/protocol.h"

namespace cairn {
namespace {

// | page: headers end at its end | 1 MiB of WRITE data | 1 MiB of READ data |
constexpr size_t kPageSize = 4096;
constexpr size_t kMapSize = kPageSize + 2 * protocol::kMaxTransfer;
constexpr size_t kRequestOffset = kPageSize - protocol::kWriteHeaderSize;
constexpr size_t kRequestSize = protocol::kWriteHeaderSize + protocol::kMaxTransfer;
static_assert(kRequestOffset % alignof(fuse_in_header) == 0);

}  // namespace

Result<std::unique_ptr<RequestBuffers>> RequestBuffers::Create() {
  void* const memory = mmap(nullptr, kMapSize, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return Status::FromErrno(errno, "memory for request buffers");
  // A fork (there is none) must not turn the pages into copies-on-write.
  madvise(memory, kMapSize, MADV_DONTFORK);
  const bool locked = mlock(memory, kMapSize) == 0;
  return std::unique_ptr<RequestBuffers>(
      new RequestBuffers(static_cast<std::byte*>(memory), locked));
}

RequestBuffers::RequestBuffers(std::byte* memory, bool locked)
    : memory_(memory),
      locked_(locked),
      request_(memory + kRequestOffset, kRequestSize),
      reply_(memory + kPageSize + protocol::kMaxTransfer, protocol::kMaxTransfer) {}

RequestBuffers::~RequestBuffers() { munmap(memory_, kMapSize); }

}  // namespace cairn
