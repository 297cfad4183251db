// ExtentScan: how much of an extent file no version speaks of, in one pass over both.
//
// For fsck and the cleaner. One thread.
#ifndef CAIRN_SRC_VOLUME_EXTENT_SCAN_H_
#define CAIRN_SRC_VOLUME_EXTENT_SCAN_H_

#include <cstdint>
#include <memory>

#include "src/base/result.h"
#include "src/env/env.h"
#include "src/warm/geometry.h"

namespace cairn {

class ExtentScan {
 public:
  // With `punch`, what is found is given back to the filesystem. The file is open for writing then.
  ExtentScan(std::unique_ptr<File> file, bool punch) : file_(std::move(file)), punch_(punch) {}

  // The versions own the blocks of `mask` in the chunk at `offset` of the file. REQUIRES: offsets
  // grow from call to call.
  Status Cover(uint64_t offset, BlockMask mask);
  // No version follows. Makes the punching durable.
  Status Finish();

  const std::string& path() const { return file_->path(); }
  uint64_t leaked_bytes() const { return leaked_bytes_; }

 private:
  // Nobody owns [begin, end).
  Status Leak(uint64_t begin, uint64_t end);

  const std::unique_ptr<File> file_;
  const bool punch_;
  uint64_t position_ = 0;   // up to here all is judged
  uint64_t next_data_ = 0;  // there is no data in [position_, next_data_)
  uint64_t leaked_bytes_ = 0;
};

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_EXTENT_SCAN_H_
