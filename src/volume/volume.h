// Volume: one virtual disk, loaded for I/O.
//
// Obtained from Filesystem; thread-safe: reads and writes run side by side, truncation and
// zeroing close the volume's gate for their time. Offsets and lengths are bytes of any alignment.
// Errors: kIo, kCorrupt (naming the file), kNoSpace, kReadOnly (read-only mount, or poisoned by a
// failed sync until the next mount), kTooLarge (beyond kMaxVolumeSize), kInvalid.
#ifndef CAIRN_SRC_VOLUME_VOLUME_H_
#define CAIRN_SRC_VOLUME_VOLUME_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/volume/cached_pages.h"

namespace cairn {

class Volume {
 public:
  virtual ~Volume() = default;

  virtual InodeId inode() const = 0;
  virtual uint64_t size() const = 0;

  // Fills `out`; fewer bytes only at the volume's end.
  virtual Result<size_t> Read(uint64_t offset, std::span<std::byte> out) = 0;
  // Writes all of `data`, growing the volume where needed. Returns fewer bytes than asked when an
  // error struck behind the first ones. When it returns, the data is in the kernel's page cache
  // and its index change in the journal: it survives a server that is replaced, not the loss of
  // the journal's memory as well, nor of power.
  virtual Result<size_t> Write(uint64_t offset, std::span<const std::byte> data) = 0;
  // Everything acknowledged before the call is durable when it returns OK. An error poisons the
  // volume: what was not yet durable may never be.
  virtual Status Sync() = 0;
  // Makes a range read as zeros and gives its space back. The part behind the end is ignored,
  // or extends the volume when `keep_size` is false.
  virtual Status Zero(uint64_t offset, uint64_t length, bool keep_size) = 0;
  // Reserves space for a range, so that writing there cannot fail for want of it.
  virtual Status Allocate(uint64_t offset, uint64_t length, bool keep_size) = 0;
  virtual Status Truncate(uint64_t size) = 0;
  // As lseek(2): kNoDevice when `offset` is at or behind the end, or no data follows.
  virtual Result<uint64_t> SeekData(uint64_t offset) = 0;
  virtual Result<uint64_t> SeekHole(uint64_t offset) = 0;

  CachedPages& cached_pages() { return cached_pages_; }

 private:
  CachedPages cached_pages_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_VOLUME_H_
