#include "src/warm/log_check.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "src/warm/leveldb_format.h"

namespace cairn {
namespace {

// Feeds on the blocks of one log in order.
class LogScan {
 public:
  LogScan(uint64_t total_bytes, const LogRecordSink& sink)
      : total_bytes_(total_bytes), sink_(sink) {
    result_.total_bytes = total_bytes;
  }

  Status Block(std::span<const std::byte> block) {
    size_t position = 0;
    if (!bad_) {
      CAIRN_ASSIGN_OR_RETURN(position, ReadRecords(block));
    }
    if (bad_) FindLaterAppend(block, position);
    block_offset_ += block.size();
    return Status::Ok();
  }

  // Nothing that comes can change the verdict.
  bool decided() const { return result_.damage == LogDamage::kDamaged; }

  LogCheck Finish() && {
    if (result_.damage == LogDamage::kNone && result_.valid_bytes != total_bytes_) {
      result_.damage = LogDamage::kTornTail;
    }
    return result_;
  }

 private:
  // Reads good fragments up to the end of the block or the first bad place; returns where it
  // stopped. A rest too short for a header ends the block, whatever is in it, as for LevelDB.
  Result<size_t> ReadRecords(std::span<const std::byte> block) {
    size_t position = 0;
    while (position + kLogHeaderBytes <= block.size()) {
      const std::optional<LogFragment> fragment = ParseFragment(block, position);
      if (!fragment || Continues(fragment->type) != in_record_) {
        bad_ = true;
        break;
      }
      position = fragment->end;
      CAIRN_RETURN_IF_ERROR(Take(*fragment));
    }
    return position;
  }

  static bool Continues(FragmentType type) {
    return type == FragmentType::kMiddle || type == FragmentType::kLast;
  }

  Status Take(const LogFragment& fragment) {
    if (!in_record_) {
      record_offset_ = block_offset_ + fragment.end - fragment.payload.size() - kLogHeaderBytes;
    }
    if (sink_) record_.insert(record_.end(), fragment.payload.begin(), fragment.payload.end());
    in_record_ = fragment.type == FragmentType::kFirst || fragment.type == FragmentType::kMiddle;
    if (in_record_) return Status::Ok();
    result_.valid_bytes = block_offset_ + fragment.end;
    if (!sink_) return Status::Ok();
    Status status = sink_(record_offset_, record_);
    record_.clear();
    return status;
  }

  // Looks for what the append that left the bad place cannot have written. Its own beginning is
  // the bad place or lies before it, so any good full or first fragment from there on began a
  // later record. Its own last fragment ends the file, unless another append came after it.
  void FindLaterAppend(std::span<const std::byte> block, size_t position) {
    while (position + kLogHeaderBytes <= block.size()) {
      const std::optional<LogFragment> fragment = ParseFragment(block, position);
      if (!fragment) {
        ++position;
        continue;
      }
      const bool begins_record = !Continues(fragment->type);
      const bool ends_early =
          fragment->type == FragmentType::kLast && block_offset_ + fragment->end != total_bytes_;
      if (begins_record || ends_early) {
        result_.damage = LogDamage::kDamaged;
        result_.evidence_offset = block_offset_ + (begins_record ? position : fragment->end);
        return;
      }
      // The payload of a good fragment is data, whatever it looks like.
      position = fragment->end;
    }
  }

  const uint64_t total_bytes_;
  const LogRecordSink& sink_;
  LogCheck result_;
  uint64_t block_offset_ = 0;
  uint64_t record_offset_ = 0;
  bool in_record_ = false;  // behind a first or middle fragment
  bool bad_ = false;        // a bad place was met
  std::vector<std::byte> record_;
};

}  // namespace

Result<LogCheck> CheckLog(Env& env, const std::string& path, const LogRecordSink& sink) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, env.Open(path, OpenMode::kReadOnly));
  CAIRN_ASSIGN_OR_RETURN(const FileInfo info, file->Info());
  LogScan scan(info.size, sink);
  std::vector<std::byte> buffer(kLogBlockBytes);
  for (uint64_t offset = 0; offset < info.size && !scan.decided(); offset += kLogBlockBytes) {
    const size_t length = std::min<uint64_t>(kLogBlockBytes, info.size - offset);
    const std::span<std::byte> block(buffer.data(), length);
    CAIRN_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(offset, block));
    if (got != length) return Status(Code::kIo, path + ": became shorter while it was checked");
    CAIRN_RETURN_IF_ERROR(scan.Block(block));
  }
  return std::move(scan).Finish();
}

}  // namespace cairn
