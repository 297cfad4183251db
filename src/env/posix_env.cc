// Env over Linux system calls.
#include <dirent.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <new>
#include <span>
#include <utility>

#include "src/base/blocking.h"
#include "src/base/unique_fd.h"
#include "src/env/env.h"

namespace cairn {
namespace {

constexpr mode_t kFileMode = 0600;
constexpr mode_t kDirMode = 0700;
constexpr uint64_t kMaxOffset = std::numeric_limits<off_t>::max();
// Punching up to the end of the last block, not to the last byte, gives that block back too.
constexpr uint64_t kBlockSize = 4096;

Status Failed(int sys_errno, const std::string& path, const char* call) {
  return Status::FromErrno(sys_errno, path + ": " + call);
}

// Calls again for as long as a signal interrupts.
template <typename Call>
auto Retry(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

FileInfo ToFileInfo(const struct stat& st) {
  return FileInfo{.size = static_cast<uint64_t>(st.st_size),
                  .allocated_bytes = static_cast<uint64_t>(st.st_blocks) * 512,
                  .is_directory = S_ISDIR(st.st_mode)};
}

// Whether a read waits for a device: whether preadv2(RWF_NOWAIT) says so is the filesystem's
// affair.
enum class ReadWaits { kFilesystemTells, kPerhaps, kNever };

class PosixFile final : public File {
 public:
  PosixFile(std::string path, UniqueFd fd)
      : path_(std::move(path)), fd_(std::move(fd)), in_memory_(LiesInMemory(fd_.get())) {}

  const std::string& path() const override { return path_; }
  bool has_device() const override { return !in_memory_; }

  Result<size_t> ReadAt(uint64_t offset, std::span<std::byte> out) override {
    if (offset > kMaxOffset) return size_t{0};
    const size_t wanted = std::min<uint64_t>(out.size(), kMaxOffset - offset);
    size_t done = ReadWithoutBlocking(offset, out.first(wanted));
    while (done < wanted) {
      const ssize_t n =
          ::pread(fd_.get(), out.data() + done, wanted - done, static_cast<off_t>(offset + done));
      if (n == 0) break;
      if (n > 0) {
        done += static_cast<size_t>(n);
      } else if (errno != EINTR) {
        return Failed(errno, path_, "pread");
      }
    }
    return done;
  }

  Status WriteAt(uint64_t offset, std::span<const std::byte> data) override {
    if (offset > kMaxOffset || data.size() > kMaxOffset - offset) {
      return Failed(EFBIG, path_, "pwrite");
    }
    // Of a block that is not in memory and is written in part, the rest is read first.
    if ((offset | data.size()) % kBlockSize != 0) AboutToBlock();
    size_t done = 0;
    while (done < data.size()) {
      const ssize_t n = ::pwrite(fd_.get(), data.data() + done, data.size() - done,
                                 static_cast<off_t>(offset + done));
      if (n > 0) {
        done += static_cast<size_t>(n);
      } else if (n == 0) {
        return Failed(EIO, path_, "pwrite: nothing written");
      } else if (errno != EINTR) {
        return Failed(errno, path_, "pwrite");
      }
    }
    return Status::Ok();
  }

  Status Truncate(uint64_t size) override {
    if (size > kMaxOffset) return Failed(EFBIG, path_, "ftruncate");
    AboutToBlock();
    return Check(Retry([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(size)); }),
                 "ftruncate");
  }

  Status PunchHole(uint64_t offset, uint64_t length) override {
    CAIRN_ASSIGN_OR_RETURN(const FileInfo info, Info());
    if (offset >= info.size || length == 0) return Status::Ok();
    AboutToBlock();
    const bool to_end = length >= info.size - offset;
    const uint64_t clipped = to_end ? info.size - offset : length;
    const uint64_t tail = (kBlockSize - info.size % kBlockSize) % kBlockSize;
    const uint64_t punched = to_end && tail <= kMaxOffset - info.size ? clipped + tail : clipped;
    const int result = Retry([&] {
      return ::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         static_cast<off_t>(offset), static_cast<off_t>(punched));
    });
    if (result < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) return Zero(offset, clipped);
    return Check(result, "fallocate(PUNCH_HOLE)");
  }

  Status Allocate(uint64_t offset, uint64_t length) override {
    if (length == 0) return Status::Ok();
    if (offset > kMaxOffset || length > kMaxOffset - offset) {
      return Failed(EFBIG, path_, "fallocate");
    }
    AboutToBlock();
    const auto reserve = [&] {
      return Retry([&] {
        return ::fallocate(fd_.get(), 0, static_cast<off_t>(offset), static_cast<off_t>(length));
      });
    };
    int result = reserve();
    // A tmpfs, which knows no FIEMAP, calls pages that were reserved once holes. When they are
    // reserved again it fills them with zeros, and they are data from then on.
    if (result == 0 && in_memory_) result = reserve();
    return Check(result, "fallocate");
  }

  Status StartWriteback(uint64_t offset, uint64_t length) override {
    if (length == 0 || offset > kMaxOffset || length > kMaxOffset - offset) return Status::Ok();
    AboutToBlock();
    const int result = ::sync_file_range(fd_.get(), static_cast<off_t>(offset),
                                         static_cast<off_t>(length), SYNC_FILE_RANGE_WRITE);
    if (result == 0 || LeavesItToSync(errno)) return Status::Ok();
    return Failed(errno, path_, "sync_file_range");
  }

  // fdatasync also makes the size and the block map durable: all that reading back needs.
  Status Sync() override {
    AboutToBlock();
    return Check(Retry([&] { return ::fdatasync(fd_.get()); }), "fdatasync");
  }

  Result<FileInfo> Info() override {
    struct stat st {};
    if (::fstat(fd_.get(), &st) != 0) return Failed(errno, path_, "fstat");
    return ToFileInfo(st);
  }

  Result<uint64_t> SeekData(uint64_t offset) override {
    return Seek(offset, SEEK_DATA, "lseek(SEEK_DATA)");
  }

  Result<uint64_t> SeekHole(uint64_t offset) override {
    return Seek(offset, SEEK_HOLE, "lseek(SEEK_HOLE)");
  }

  // Not by SEEK_HOLE, for which blocks that are reserved and not written are holes. Nor is anything
  // written out first: pages whose place is still to be found have their space set aside.
  Result<uint64_t> AllocatedIn(uint64_t offset, uint64_t length) override {
    if (offset > kMaxOffset || length > kMaxOffset - offset) {
      return Failed(EFBIG, path_, "ioctl(FIEMAP)");
    }
    AboutToBlock();
    const uint64_t end = offset + length;
    uint64_t bytes = 0;
    // The extents stand in the open array at the end of the question.
    alignas(fiemap) std::byte memory[sizeof(fiemap) + kExtentsPerQuery * sizeof(fiemap_extent)];
    for (uint64_t at = offset; at < end;) {
      auto* const query = new (memory) fiemap{};
      query->fm_start = at;
      query->fm_length = end - at;
      query->fm_extent_count = kExtentsPerQuery;
      if (Retry([&] { return ::ioctl(fd_.get(), FS_IOC_FIEMAP, query); }) != 0) {
        if (errno == EOPNOTSUPP || errno == ENOTTY) return DataIn(offset, end);
        return Failed(errno, path_, "ioctl(FIEMAP)");
      }
      const std::span found(query->fm_extents, query->fm_mapped_extents);
      const uint64_t from = at;
      for (const fiemap_extent& extent : found) {
        const uint64_t begin = std::max<uint64_t>(extent.fe_logical, at);
        const uint64_t stop = std::min<uint64_t>(extent.fe_logical + extent.fe_length, end);
        if (begin >= stop) continue;
        bytes += stop - begin;
        at = stop;
      }
      if (found.size() < kExtentsPerQuery || at == from) break;
    }
    return bytes;
  }

 private:
  static constexpr uint32_t kExtentsPerQuery = 64;

  // For a thread that is to know: reads what the page cache holds, and when that is not all says
  // so. Returns how many bytes it read; why not more, the next pread finds out.
  size_t ReadWithoutBlocking(uint64_t offset, std::span<std::byte> out) {
    if (!HasBlockingListener()) return 0;
    const ReadWaits waits = read_waits_.load(std::memory_order_relaxed);
    if (waits == ReadWaits::kNever) return 0;
    ssize_t n = -1;
    if (waits == ReadWaits::kFilesystemTells) {
      const iovec part{out.data(), out.size()};
      n = ::preadv2(fd_.get(), &part, 1, static_cast<off_t>(offset), RWF_NOWAIT);
      if (n < 0 && errno == EOPNOTSUPP) {
        read_waits_.store(in_memory_ ? ReadWaits::kNever : ReadWaits::kPerhaps,
                          std::memory_order_relaxed);
      }
    }
    const size_t done = n < 0 ? 0 : static_cast<size_t>(n);
    if (done < out.size()) AboutToBlock();
    return done;
  }

  static bool LiesInMemory(int fd) {
    struct statfs info {};
    return ::fstatfs(fd, &info) == 0 && info.f_type == TMPFS_MAGIC;
  }

  // Errors of a call that began nothing: it cannot, may not, or has no memory for it now. Others
  // come from the writing itself. ext4 then drops pages for which it finds no place, and tells
  // nobody else.
  static bool LeavesItToSync(int error) {
    static constexpr int kErrors[] = {ENOSYS, EINVAL, EPERM,  EACCES, EOPNOTSUPP,
                                      ESPIPE, ENOMEM, EAGAIN, EINTR};
    return std::ranges::find(kErrors, error) != std::end(kErrors);
  }

  Status Check(int result, const char* call) const {
    return result == 0 ? Status::Ok() : Failed(errno, path_, call);
  }

  // Moves the descriptor's position, which pread and pwrite do not look at.
  Result<uint64_t> Seek(uint64_t offset, int whence, const char* call) const {
    if (offset > kMaxOffset) return Failed(ENXIO, path_, call);
    const off_t found = ::lseek(fd_.get(), static_cast<off_t>(offset), whence);
    if (found < 0) return Failed(errno, path_, call);
    return static_cast<uint64_t>(found);
  }

  // What is left of AllocatedIn on a filesystem without FIEMAP: the data in [at, end).
  Result<uint64_t> DataIn(uint64_t at, uint64_t end) {
    uint64_t bytes = 0;
    while (at < end) {
      const Result<uint64_t> data = SeekData(at);
      if (!data.ok() && data.status().code() == Code::kNoDevice) break;
      CAIRN_RETURN_IF_ERROR(data.status());
      if (*data >= end) break;
      CAIRN_ASSIGN_OR_RETURN(const uint64_t hole, SeekHole(*data));
      at = std::min(hole, end);
      bytes += at - *data;
    }
    return bytes;
  }

  // What is left of PunchHole on a filesystem that has none: the range's data becomes zeros, its
  // holes stay holes. REQUIRES: the range ends within the file.
  Status Zero(uint64_t offset, uint64_t length) {
    static constexpr std::array<std::byte, 65536> kZeros{};
    const uint64_t end = offset + length;
    for (uint64_t at = offset; at < end;) {
      const Result<uint64_t> data = SeekData(at);
      if (!data.ok() && data.status().code() == Code::kNoDevice) break;
      CAIRN_RETURN_IF_ERROR(data.status());
      if (*data >= end) break;
      CAIRN_ASSIGN_OR_RETURN(const uint64_t hole, SeekHole(*data));
      const uint64_t stop = std::min(hole, end);
      for (at = *data; at < stop;) {
        const size_t count = std::min<uint64_t>(kZeros.size(), stop - at);
        CAIRN_RETURN_IF_ERROR(WriteAt(at, std::span(kZeros).first(count)));
        at += count;
      }
    }
    return Status::Ok();
  }

  const std::string path_;
  const UniqueFd fd_;
  const bool in_memory_;
  std::atomic<ReadWaits> read_waits_{ReadWaits::kFilesystemTells};
};

// The lock belongs to the open file description: closing the descriptor releases it.
class PosixFileLock final : public FileLock {
 public:
  explicit PosixFileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  int fd() const override { return fd_.get(); }

 private:
  const UniqueFd fd_;
};

int OpenFlags(OpenMode mode) {
  switch (mode) {
    case OpenMode::kReadOnly:
      return O_RDONLY | O_CLOEXEC;
    case OpenMode::kReadWrite:
      return O_RDWR | O_CLOEXEC;
    case OpenMode::kCreate:
      return O_RDWR | O_CREAT | O_CLOEXEC;
    case OpenMode::kCreateNew:
      return O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
  }
  return O_RDONLY | O_CLOEXEC;
}

class PosixEnv final : public Env {
 public:
  Result<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    UniqueFd fd(Retry([&] { return ::open(path.c_str(), OpenFlags(mode), kFileMode); }));
    if (!fd.valid()) return Failed(errno, path, "open");
    // Linux opens a directory for reading without complaint; a File is a regular file.
    struct stat st {};
    if (::fstat(fd.get(), &st) != 0) return Failed(errno, path, "fstat");
    if (S_ISDIR(st.st_mode)) return Failed(EISDIR, path, "open");
    if (!S_ISREG(st.st_mode)) return Failed(EINVAL, path, "open: not a regular file");
    // Nobody asks when a store's file was read last: to keep that costs each read a look at the
    // inode, and the first one after a write a change of it. Only an owner may do without.
    static_cast<void>(::fcntl(fd.get(), F_SETFL, O_NOATIME));
    return std::unique_ptr<File>(std::make_unique<PosixFile>(path, std::move(fd)));
  }

  Status Remove(const std::string& path) override {
    return Check(::unlink(path.c_str()), path, "unlink");
  }

  Status RemoveDir(const std::string& path) override {
    return Check(::rmdir(path.c_str()), path, "rmdir");
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) == 0) return Status::Ok();
    return Failed(errno, from + " -> " + to, "rename");
  }

  Status CreateDir(const std::string& path) override {
    return Check(::mkdir(path.c_str(), kDirMode), path, "mkdir");
  }

  Status SyncDir(const std::string& path) override {
    const UniqueFd fd(
        Retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (!fd.valid()) return Failed(errno, path, "open(O_DIRECTORY)");
    AboutToBlock();
    return Check(Retry([&] { return ::fsync(fd.get()); }), path, "fsync");
  }

  Status SyncFilesystem(const std::string& path) override {
    const UniqueFd fd(
        Retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (!fd.valid()) return Failed(errno, path, "open(O_DIRECTORY)");
    AboutToBlock();
    return Check(Retry([&] { return ::syncfs(fd.get()); }), path, "syncfs");
  }

  Result<std::vector<std::string>> List(const std::string& path) override {
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), &::closedir);
    if (!dir) return Failed(errno, path, "opendir");
    std::vector<std::string> names;
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(dir.get());  // safe: no other thread has this stream
      if (entry == nullptr) break;
      const std::string_view name = entry->d_name;
      if (name != "." && name != "..") names.emplace_back(name);
    }
    if (errno != 0) return Failed(errno, path, "readdir");
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<FileInfo> Info(const std::string& path) override {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) return Failed(errno, path, "stat");
    return ToFileInfo(st);
  }

  Result<SpaceInfo> Space(const std::string& path) override {
    struct statvfs vfs {};
    if (Retry([&] { return ::statvfs(path.c_str(), &vfs); }) != 0) {
      return Failed(errno, path, "statvfs");
    }
    const uint64_t usable = ::geteuid() == 0 ? vfs.f_bfree : vfs.f_bavail;
    return SpaceInfo{.total_bytes = uint64_t{vfs.f_blocks} * vfs.f_frsize,
                     .free_bytes = uint64_t{vfs.f_bfree} * vfs.f_frsize,
                     .available_bytes = uint64_t{vfs.f_bavail} * vfs.f_frsize,
                     .usable_bytes = usable * vfs.f_frsize,
                     .files_total = vfs.f_files,
                     .files_free = vfs.f_ffree};
  }

  Result<std::unique_ptr<FileLock>> Lock(const std::string& path) override {
    UniqueFd fd(
        Retry([&] { return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kFileMode); }));
    if (!fd.valid()) return Failed(errno, path, "open");
    if (Retry([&] { return ::flock(fd.get(), LOCK_EX | LOCK_NB); }) != 0) {
      if (errno == EWOULDBLOCK) return Status(Code::kBusy, path + ": flock: locked", EWOULDBLOCK);
      return Failed(errno, path, "flock");
    }
    return std::unique_ptr<FileLock>(std::make_unique<PosixFileLock>(std::move(fd)));
  }

 private:
  static Status Check(int result, const std::string& path, const char* call) {
    return result == 0 ? Status::Ok() : Failed(errno, path, call);
  }
};

}  // namespace

std::unique_ptr<FileLock> AdoptFileLock(UniqueFd fd) {
  return std::make_unique<PosixFileLock>(std::move(fd));
}

std::unique_ptr<Env> NewPosixEnv() { return std::make_unique<PosixEnv>(); }

}  // namespace cairn
