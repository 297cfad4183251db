#include "fusefs/ops.h"

#include <cerrno>
#include <exception>

namespace cairn {
namespace {

// The noexcept edge: turns Status Name(const Request&, InodeId, Args...) into what libfuse calls.
template <auto Operation>
struct Entry;

template <typename... Args, Status (*Operation)(const Request&, InodeId, Args...)>
struct Entry<Operation> {
  static void Call(fuse_req_t handle, fuse_ino_t inode, Args... args) noexcept {
    const Request request(handle);
    int error = EIO;
    try {
      const RequestId id = request.caller().request;
      const Status status = Operation(request, InodeId(inode), args...);
      if (status.ok()) {  // answered, or about to be
        if (!request.settled_elsewhere()) request.filesystem().SettleRequest(id);
        return;
      }
      error = request.edge().Refuse(InodeId(inode), status);
    } catch (const std::exception& exception) {
      error = request.edge().RefuseException(InodeId(inode), exception.what());
    } catch (...) {
      error = request.edge().RefuseException(InodeId(inode), "unknown exception");
    }
    fuse_reply_err(handle, error);
  }
};

// Only volumes and directories exist. (The target comes first: not of Entry's shape.)
void RefuseSymlink(fuse_req_t handle, const char* /*target*/, fuse_ino_t /*parent*/,
                   const char* /*name*/) noexcept {
  fuse_reply_err(handle, EPERM);
}

}  // namespace

fuse_lowlevel_ops LowLevelOps() {
  // Not here: read, write, forget and interrupt (worker.cc answers them); flush (nothing to do at
  // a close, and after the first ENOSYS the kernel does not ask again); access (the kernel checks
  // permissions itself); locks (the kernel keeps them itself).
  fuse_lowlevel_ops ops{};
  ops.lookup = Entry<&Lookup>::Call;
  ops.mknod = Entry<&Mknod>::Call;
  ops.mkdir = Entry<&Mkdir>::Call;
  ops.unlink = Entry<&Unlink>::Call;
  ops.rmdir = Entry<&Rmdir>::Call;
  ops.symlink = RefuseSymlink;
  ops.rename = Entry<&Rename>::Call;
  ops.link = Entry<&Link>::Call;
  ops.getattr = Entry<&GetAttr>::Call;
  ops.setattr = Entry<&SetAttr>::Call;
  ops.statfs = Entry<&StatFs>::Call;
  ops.opendir = Entry<&OpenDir>::Call;
  ops.readdir = Entry<&ReadDir>::Call;
  ops.readdirplus = Entry<&ReadDirPlus>::Call;
  ops.releasedir = Entry<&ReleaseDir>::Call;
  ops.fsyncdir = Entry<&FsyncDir>::Call;
  ops.create = Entry<&Create>::Call;
  ops.open = Entry<&Open>::Call;
  ops.release = Entry<&Release>::Call;
  ops.fsync = Entry<&Fsync>::Call;
  ops.lseek = Entry<&Lseek>::Call;
  ops.fallocate = Entry<&Fallocate>::Call;
  ops.copy_file_range = Entry<&CopyFileRange>::Call;
  ops.setxattr = Entry<&SetXattr>::Call;
  ops.getxattr = Entry<&GetXattr>::Call;
  ops.listxattr = Entry<&ListXattr>::Call;
  ops.removexattr = Entry<&RemoveXattr>::Call;
  ops.ioctl = Entry<&Ioctl>::Call;
  return ops;
}

}  // namespace cairn
