#include "fusefs/request_buffers.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdint>

#include "fusefs/protocol.h"

namespace cairn {
namespace {

// | page: headers end at its end | 1 MiB of WRITE data | 1 MiB of READ data |
//
// The data is one huge page where the kernel has one, since a new server waits until all is faulted
// in, and a dead one until all is given back.
constexpr size_t kPageSize = 4096;
constexpr size_t kDataSize = 2 * protocol::kMaxTransfer;
constexpr size_t kHugePageSize = size_t{2} << 20;
static_assert(kDataSize % kHugePageSize == 0);
constexpr size_t kSize = kPageSize + kDataSize;
// Wherever the kernel puts that, a page followed by a boundary of huge pages lies within.
constexpr size_t kMapSize = kSize + kHugePageSize;
constexpr size_t kRequestOffset = kPageSize - protocol::kWriteHeaderSize;
constexpr size_t kRequestSize = protocol::kWriteHeaderSize + protocol::kMaxTransfer;
static_assert(kRequestOffset % alignof(fuse_in_header) == 0);

}  // namespace

Result<std::unique_ptr<RequestBuffers>> RequestBuffers::Create() {
  void* const map =
      mmap(nullptr, kMapSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return Status::FromErrno(errno, "memory for request buffers");
  // The rest of the map is never touched, and so takes no memory.
  const size_t used = (reinterpret_cast<uintptr_t>(map) + kPageSize) % kHugePageSize;
  std::byte* const memory = static_cast<std::byte*>(map) + (kHugePageSize - used) % kHugePageSize;
  madvise(memory + kPageSize, kDataSize, MADV_HUGEPAGE);
  // A fork (there is none) must not turn the pages into copies-on-write.
  madvise(memory, kSize, MADV_DONTFORK);
  const bool locked = mlock(memory, kSize) == 0;
  // To lock is to fault in; and so is to write, which the compiler must not leave out.
  if (!locked) {
    for (size_t at = 0; at < kSize; at += kPageSize) {
      *static_cast<volatile std::byte*>(memory + at) = std::byte{0};
    }
  }
  // What is a huge page stays one. What is not must not be made one later: its pages are not there
  // for that moment.
  madvise(memory + kPageSize, kDataSize, MADV_NOHUGEPAGE);
  return std::unique_ptr<RequestBuffers>(new RequestBuffers(map, memory, locked));
}

RequestBuffers::RequestBuffers(void* map, std::byte* memory, bool locked)
    : map_(map),
      locked_(locked),
      request_(memory + kRequestOffset, kRequestSize),
      reply_(memory + kPageSize + protocol::kMaxTransfer, protocol::kMaxTransfer) {}

RequestBuffers::~RequestBuffers() { munmap(map_, kMapSize); }

}  // namespace cairn
