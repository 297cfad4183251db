// SharedMemory: what outlives a mount's servers, in one memfd of the supervisor: the index journal
// (src/warm/index_journal.h), and behind it the table of handles (src/warm/mount_table.h).
#ifndef CAIRN_TOOLS_CAIRNFS_SHARED_MEMORY_H_
#define CAIRN_TOOLS_CAIRNFS_SHARED_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {

class SharedMemory {
 public:
  // The supervisor's part. kIo.
  static Result<UniqueFd> Create(uint64_t journal_bytes);
  // A server's part. kIo, kInvalid (not the memory that Create made).
  static Result<std::unique_ptr<SharedMemory>> Map(int memfd, uint64_t journal_bytes);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  std::span<std::byte> journal() const { return whole_.first(table_offset_); }
  std::span<std::byte> table() const { return whole_.subspan(table_offset_); }

 private:
  SharedMemory(std::span<std::byte> whole, size_t table_offset)
      : whole_(whole), table_offset_(table_offset) {}

  const std::span<std::byte> whole_;
  const size_t table_offset_;
};

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_SHARED_MEMORY_H_
