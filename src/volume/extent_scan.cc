#include "src/volume/extent_scan.h"

#include <algorithm>
#include <limits>

namespace cairn {

Status ExtentScan::Cover(uint64_t offset, BlockMask mask) {
  CAIRN_RETURN_IF_ERROR(Leak(position_, offset));
  for (BlockRun run = NextRun(~mask, 0); run.count > 0;
       run = NextRun(~mask, run.first + run.count)) {
    const uint64_t begin = offset + run.first * kBlockSize;
    CAIRN_RETURN_IF_ERROR(Leak(begin, begin + run.count * kBlockSize));
  }
  position_ = offset + kChunkSize;
  return Status::Ok();
}

Status ExtentScan::Finish() {
  CAIRN_ASSIGN_OR_RETURN(const FileInfo info, file_->Info());
  CAIRN_RETURN_IF_ERROR(Leak(position_, info.size));
  return punch_ && leaked_bytes_ > 0 ? file_->Sync() : Status::Ok();
}

Status ExtentScan::Leak(uint64_t begin, uint64_t end) {
  while (begin < end) {
    // Most gaps lie in one large hole: the last answer holds for them too.
    if (next_data_ <= begin) {
      auto data = file_->SeekData(begin);
      if (data.ok()) {
        next_data_ = *data;
      } else if (data.status().code() == Code::kNoDevice) {
        next_data_ = std::numeric_limits<uint64_t>::max();
      } else {
        return std::move(data).status();
      }
    }
    if (next_data_ >= end) return Status::Ok();
    const uint64_t data = next_data_;
    CAIRN_ASSIGN_OR_RETURN(const uint64_t hole, file_->SeekHole(data));
    const uint64_t stop = std::min(hole, end);
    leaked_bytes_ += stop - data;
    if (punch_) CAIRN_RETURN_IF_ERROR(file_->PunchHole(data, stop - data));
    begin = stop;
  }
  return Status::Ok();
}

}  // namespace cairn
