// MemoryFile: an open file of a MemoryEnv, whose mutex guards all that is behind it.
#ifndef CAIRN_SRC_ENV_MEMORY_FILE_H_
#define CAIRN_SRC_ENV_MEMORY_FILE_H_

#include <string>

#include "src/env/memory_env.h"

namespace cairn {

class MemoryFile final : public File {
 public:
  // Borrows `env`. `life` is the life of the Env in which the file was opened.
  MemoryFile(MemoryEnv& env, std::string path, MemoryInode::Ref inode, bool writable,
             uint64_t life);
  ~MemoryFile() override;

  const std::string& path() const override { return path_; }
  bool has_device() const override { return env_.files_have_device_; }
  Result<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) override;
  Status WriteAt(uint64_t offset, std::span<const std::byte> data) override;
  Status Truncate(uint64_t size) override;
  Status PunchHole(uint64_t offset, uint64_t length) override;
  Status Allocate(uint64_t offset, uint64_t length) override;
  Status StartWriteback(uint64_t offset, uint64_t length) override;
  Status Sync() override;
  Result<FileInfo> Info() override;
  Result<uint64_t> SeekData(uint64_t offset) override;
  Result<uint64_t> SeekHole(uint64_t offset) override;
  Result<uint64_t> AllocatedIn(uint64_t offset, uint64_t length) override;

 private:
  // Admits an operation or says why not; see FaultPlan::Begin.
  FaultPlan::Admission Begin(Op op) CAIRN_REQUIRES(env_.mu_);
  Status Failed(int sys_errno, const char* call) const;
  // Whether a change may end at offset + length.
  Status CheckChange(uint64_t offset, uint64_t length, const char* call) const;
  // Keeps the Env's count of pages right: call with the file's count from before the change.
  void CountPages(uint64_t before) CAIRN_REQUIRES(env_.mu_);

  MemoryEnv& env_;
  const std::string path_;
  const MemoryInode::Ref inode_;
  const bool writable_;
  const uint64_t life_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_ENV_MEMORY_FILE_H_
