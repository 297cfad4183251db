// The operations that go through libfuse's low-level interface, one family a file.
//
// Each is a function Status Name(const Request&, InodeId, ...) with libfuse's other arguments. It
// either answers the request and returns OK, or returns why not and leaves the answer to the
// caller (ops.cc), which is also where exceptions end.
#ifndef CAIRN_FUSEFS_OPS_H_
#define CAIRN_FUSEFS_OPS_H_

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fusefs/edge.h"
#include "fusefs/protocol.h"
#include "src/base/status.h"
#include "src/base/strong_id.h"
#include "src/volume/attributes.h"

namespace cairn {

// The userdata of a libfuse session. Each serving thread has a session of its own, so that the
// header of the request in work is simply the thread's.
struct SessionContext {
  Edge* edge = nullptr;
  const fuse_in_header* header = nullptr;  // of the request in work, behind it its body
};

// One request in work.
class Request {
 public:
  explicit Request(fuse_req_t handle)
      : handle_(handle), context_(*static_cast<const SessionContext*>(fuse_req_userdata(handle))) {}

  fuse_req_t handle() const { return handle_; }
  Edge& edge() const { return *context_.edge; }
  Filesystem& filesystem() const { return context_.edge->filesystem(); }
  Caller caller() const {
    return {.uid = context_.header->uid,
            .gid = context_.header->gid,
            .request = protocol::IdOf(*context_.header),
            .resent = protocol::IsResent(*context_.header)};
  }
  // Of the file that this request opens.
  HandleId handle_id() const { return HandleId(protocol::IdOf(*context_.header).value()); }
  // What the answer has to carry.
  uint64_t unique() const { return context_.header->unique; }
  // The body of the request as the kernel sent it, for what libfuse does not pass on.
  template <typename Body>
  const Body& body() const {
    return *reinterpret_cast<const Body*>(context_.header + 1);
  }

  // Answers with a structure of the protocol. false when the kernel no longer wants the answer
  // (the program was interrupted): then no release will follow an open.
  template <typename Reply>
  bool Answer(const Reply& reply) const {
    return fuse_reply_buf(handle_, reinterpret_cast<const char*>(&reply), sizeof(reply)) == 0;
  }
  // The answer comes from another thread: until then the request may be sent again.
  void SettleElsewhere() const { settled_elsewhere_ = true; }
  bool settled_elsewhere() const { return settled_elsewhere_; }
  Status AnswerDone() const { return AnswerError(0); }
  // For errors that need no reason, and those that Status has no code for.
  Status AnswerError(int error) const {
    fuse_reply_err(handle_, error);
    return Status::Ok();
  }

 private:
  const fuse_req_t handle_;
  const SessionContext& context_;
  mutable bool settled_elsewhere_ = false;
};

// ops_names.cc
Status Lookup(const Request& request, InodeId parent, const char* name);
Status Mknod(const Request& request, InodeId parent, const char* name, mode_t mode, dev_t device);
Status Mkdir(const Request& request, InodeId parent, const char* name, mode_t mode);
Status Unlink(const Request& request, InodeId parent, const char* name);
Status Rmdir(const Request& request, InodeId parent, const char* name);
Status Rename(const Request& request, InodeId parent, const char* name, fuse_ino_t new_parent,
              const char* new_name, unsigned flags);
Status Link(const Request& request, InodeId inode, fuse_ino_t new_parent, const char* new_name);

// ops_attr.cc
Status GetAttr(const Request& request, InodeId inode, fuse_file_info* file);
Status SetAttr(const Request& request, InodeId inode, struct stat* wanted, int to_set,
               fuse_file_info* file);
Status StatFs(const Request& request, InodeId inode);
// Clears the set-id bits of a volume that somebody without CAP_FSETID wrote to, as the kernel asks
// for; called by the I/O path too.
Status ClearSetIdBits(Filesystem& filesystem, InodeId inode, const Caller& caller);

// ops_dir.cc
Status OpenDir(const Request& request, InodeId inode, fuse_file_info* file);
Status ReadDir(const Request& request, InodeId inode, size_t size, off_t offset,
               fuse_file_info* file);
Status ReadDirPlus(const Request& request, InodeId inode, size_t size, off_t offset,
                   fuse_file_info* file);
Status ReleaseDir(const Request& request, InodeId inode, fuse_file_info* file);
Status FsyncDir(const Request& request, InodeId inode, int data_only, fuse_file_info* file);

// ops_file.cc
Status Create(const Request& request, InodeId parent, const char* name, mode_t mode,
              fuse_file_info* file);
Status Open(const Request& request, InodeId inode, fuse_file_info* file);
Status Release(const Request& request, InodeId inode, fuse_file_info* file);
Status Fsync(const Request& request, InodeId inode, int data_only, fuse_file_info* file);

// ops_space.cc
Status Lseek(const Request& request, InodeId inode, off_t offset, int whence, fuse_file_info* file);
Status Fallocate(const Request& request, InodeId inode, int mode, off_t offset, off_t length,
                 fuse_file_info* file);
Status CopyFileRange(const Request& request, InodeId source, off_t source_offset,
                     fuse_file_info* source_file, fuse_ino_t target, off_t target_offset,
                     fuse_file_info* target_file, size_t length, int flags);

// ops_xattr.cc
Status SetXattr(const Request& request, InodeId inode, const char* name, const char* value,
                size_t size, int flags);
Status GetXattr(const Request& request, InodeId inode, const char* name, size_t size);
Status ListXattr(const Request& request, InodeId inode, size_t size);
Status RemoveXattr(const Request& request, InodeId inode, const char* name);

// ops_trigger.cc: attributes that start something when they are set.
bool IsTrigger(std::string_view name);
// REQUIRES: IsTrigger(name). Answers when it succeeds.
Status PullTrigger(const Request& request, InodeId inode, std::string_view name,
                   std::string_view value);

// ops_ioctl.cc
Status Ioctl(const Request& request, InodeId inode, unsigned command, void* argument,
             fuse_file_info* file, unsigned flags, const void* in, size_t in_size, size_t out_size);

// ops.cc: all of the above, as libfuse takes them.
fuse_lowlevel_ops LowLevelOps();

}  // namespace cairn

#endif  // CAIRN_FUSEFS_OPS_H_
