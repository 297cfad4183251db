// Env: the one door to the operating system's files. Everything the store keeps, LevelDB's own
// files included, goes through it, so that tests can fail, shorten, reorder or lose any I/O.
//
// Implementations: NewPosixEnv() (production) and MemoryEnv (src/env/memory_env.h: a filesystem
// in memory with faults and power cuts). All methods of Env and File are thread-safe unless said
// otherwise. Every error's context names the path. Durability follows POSIX at its harshest:
// file contents and sizes are durable after File::Sync, names after Env::SyncDir of their
// directory; of what is not synced a power cut keeps any subset of pages and names.
#ifndef CAIRN_SRC_ENV_ENV_H_
#define CAIRN_SRC_ENV_ENV_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/result.h"
#include "src/base/status.h"
#include "src/base/unique_fd.h"

namespace cairn {

struct FileInfo {
  uint64_t size = 0;             // bytes
  uint64_t allocated_bytes = 0;  // what the file holds on its filesystem (st_blocks * 512)
  bool is_directory = false;
};

struct SpaceInfo {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;
  uint64_t available_bytes = 0;  // to others than root
  uint64_t usable_bytes = 0;     // to this process
  uint64_t files_total = 0;
  uint64_t files_free = 0;
};

enum class OpenMode {
  kReadOnly,   // must exist
  kReadWrite,  // must exist
  kCreate,     // read-write; created empty when absent, else kept as it is
  kCreateNew,  // read-write; kExists when present
};

// An open regular file. Closed on destruction; closing does not sync.
class File {
 public:
  virtual ~File() = default;

  virtual const std::string& path() const = 0;
  // Whether the bytes go to a device at some time. Where not, StartWriteback is for nothing.
  virtual bool has_device() const = 0;
  // Reads until `out` is full or the file ends; returns how many bytes.
  virtual Result<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) = 0;
  // Writes all of `data`, extending the file where needed. After an error any prefix may be
  // there. kNoSpace when the filesystem is full.
  virtual Status WriteAt(uint64_t offset, std::span<const std::byte> data) = 0;
  // Sets the size; new space reads as zeros and takes no blocks.
  virtual Status Truncate(uint64_t size) = 0;
  // Makes [offset, offset+length) read as zeros and gives its whole blocks back; the size stays.
  virtual Status PunchHole(uint64_t offset, uint64_t length) = 0;
  // Reserves blocks for [offset, offset+length), extending the size. kNoSpace, when a part
  // may be reserved, or kUnsupported.
  virtual Status Allocate(uint64_t offset, uint64_t length) = 0;
  // Begins to write [offset, offset+length) to the device, so that a Sync that follows has less to
  // do. Nothing is durable by it. A failure counts as one of a Sync: the next one may know nothing
  // of it, and what was to be written may be lost.
  virtual Status StartWriteback(uint64_t offset, uint64_t length) = 0;
  // Returns when all that was written, punched or truncated before the call is durable.
  virtual Status Sync() = 0;
  virtual Result<FileInfo> Info() = 0;
  // The first offset >= `offset` that holds data / that lies in a hole (the end of the file is a
  // hole). kNoDevice when there is none, i.e. `offset` is at or behind the last.
  virtual Result<uint64_t> SeekData(uint64_t offset) = 0;
  virtual Result<uint64_t> SeekHole(uint64_t offset) = 0;
  // How many bytes of [offset, offset+length), which lies within the file, have their blocks,
  // written or reserved, so that to write them takes no space (but on filesystems that copy what is
  // written over). What is reserved may be a hole for SeekHole. Where the filesystem does not tell,
  // it does not count.
  virtual Result<uint64_t> AllocatedIn(uint64_t offset, uint64_t length) = 0;
};

// An exclusive lock between processes on a path; released on destruction or when the process dies.
class FileLock {
 public:
  virtual ~FileLock() = default;
  // Who has a copy of this descriptor shares the lock, which is free when the last copy is closed.
  // -1 where there is none.
  virtual int fd() const { return -1; }
};

class Env {
 public:
  virtual ~Env() = default;

  virtual Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) = 0;
  // Removes a file. kNotFound when absent.
  virtual Status Remove(const std::string& path) = 0;
  virtual Status RemoveDir(const std::string& path) = 0;
  // Atomically replaces `to`.
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  // Mode 0700. kExists when there is a file or directory of that name.
  virtual Status CreateDir(const std::string& path) = 0;
  // Makes the creations, removals and renames in directory `path` durable.
  virtual Status SyncDir(const std::string& path) = 0;
  // Makes everything durable that any process ever wrote to the filesystem that holds `path`,
  // names and contents; also what a process that died left unsynced.
  virtual Status SyncFilesystem(const std::string& path) = 0;
  // Names in `path` without "." and "..", sorted.
  virtual Result<std::vector<std::string>> List(const std::string& path) = 0;
  // kNotFound when absent.
  virtual Result<FileInfo> Info(const std::string& path) = 0;
  virtual Result<SpaceInfo> Space(const std::string& path) = 0;
  // Creates the file when absent. kBusy when another holder has the lock.
  virtual Result<std::unique_ptr<FileLock>> Lock(const std::string& path) = 0;

  // Conveniences on top of the above.
  bool Exists(const std::string& path) { return Info(path).ok(); }
  Result<std::string> ReadWhole(const std::string& path, size_t limit_bytes);
  // Durably replaces `path` by `contents`: temporary file, sync, rename, sync of the directory.
  Status WriteWholeDurably(const std::string& path, const std::string& contents);
};

std::unique_ptr<Env> NewPosixEnv();
// The lock that a copy of FileLock::fd stands for.
std::unique_ptr<FileLock> AdoptFileLock(UniqueFd fd);

}  // namespace cairn

#endif  // CAIRN_SRC_ENV_ENV_H_
