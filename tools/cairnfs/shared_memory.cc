#include "tools/cairnfs/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace cairn {
namespace {

constexpr uint64_t kPageSize = 4096;
// A million handles. Pages come as they are used, so that few handles cost nothing.
constexpr uint64_t kTableBytes = 24ull << 20;

uint64_t TableOffset(uint64_t journal_bytes) {
  return (journal_bytes + kPageSize - 1) / kPageSize * kPageSize;
}

}  // namespace

Result<UniqueFd> SharedMemory::Create(uint64_t journal_bytes) {
  UniqueFd memory(memfd_create("cairn-journal", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const auto size = static_cast<off_t>(TableOffset(journal_bytes) + kTableBytes);
  if (!memory.valid() || ftruncate(memory.get(), size) != 0) {
    return Status::FromErrno(errno, "memory for the index journal");
  }
  // A server cannot take the memory away under its successor.
  fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  return memory;
}

Result<std::unique_ptr<SharedMemory>> SharedMemory::Map(int memfd, uint64_t journal_bytes) {
  struct stat info {};
  if (fstat(memfd, &info) != 0) return Status::FromErrno(errno, "shared memory");
  const uint64_t size = TableOffset(journal_bytes) + kTableBytes;
  if (static_cast<uint64_t>(info.st_size) != size) {
    return Status(Code::kInvalid, "the supervisor's memory has another size");
  }
  // Not populated: its pages come as they are needed, and stay for the next server.
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  if (memory == MAP_FAILED) return Status::FromErrno(errno, "shared memory");
  return std::unique_ptr<SharedMemory>(
      new SharedMemory({static_cast<std::byte*>(memory), size}, TableOffset(journal_bytes)));
}

SharedMemory::~SharedMemory() { munmap(whole_.data(), whole_.size()); }

}  // namespace cairn
