#include "src/warm/leveldb_files.h"

#include <span>
#include <utility>

#include "src/base/check.h"
#include "src/base/give_way.h"
#include "src/warm/leveldb_format.h"

namespace cairn {
namespace {

std::string& LastReadPathOfThread() {
  thread_local std::string path;
  return path;
}

std::span<std::byte> Bytes(char* data, size_t length) {
  return {reinterpret_cast<std::byte*>(data), length};
}

Result<size_t> ReadAndRemember(File& file, uint64_t offset, std::span<std::byte> out) {
  LastReadPathOfThread() = file.path();
  return file.ReadAt(offset, out);
}

bool IsGoodTableBlock(std::span<const std::byte> bytes) {
  if (bytes.size() < kTableTrailerBytes) return false;
  const auto checked = bytes.first(bytes.size() - sizeof(uint32_t));
  return MaskCrc(Crc32c(checked)) == LoadLittleEndian<uint32_t>(bytes.last(sizeof(uint32_t)));
}

}  // namespace

const std::string& LastReadPath() { return LastReadPathOfThread(); }

std::string ParentDirectory(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

leveldb::Status LevelDbSequentialFile::Read(size_t length, leveldb::Slice* result, char* scratch) {
  const Result<size_t> got = ReadAndRemember(*file_, offset_, Bytes(scratch, length));
  if (!got.ok()) {
    *result = leveldb::Slice();
    return owner_.Report(got.status());
  }
  offset_ += *got;
  *result = leveldb::Slice(scratch, *got);
  return leveldb::Status::OK();
}

leveldb::Status LevelDbSequentialFile::Skip(uint64_t length) {
  offset_ += length;
  return leveldb::Status::OK();
}

leveldb::Status LevelDbTableFile::Read(uint64_t offset, size_t length, leveldb::Slice* result,
                                       char* scratch) const {
  *result = leveldb::Slice();
  const Result<size_t> got = ReadAndRemember(*file_, offset, Bytes(scratch, length));
  const auto damaged = [&](const std::string& what) {
    return Status(Code::kCorrupt,
                  file_->path() + ": offset " + std::to_string(offset) + ": " + what);
  };
  Status status;
  if (!got.ok()) {
    status = got.status();
  } else if (*got != length) {
    status = damaged("only " + std::to_string(*got) + " of " + std::to_string(length) + " bytes");
  } else {
    const TableFooter footer = CheckTableFooter(Bytes(scratch, length), offset);
    if (footer == TableFooter::kUsable)
      owner_.NoteDamagedTable(file_->path(), damaged("bad footer"));
    if (footer == TableFooter::kBad && !IsGoodTableBlock(Bytes(scratch, length))) {
      status = damaged(length == kTableFooterBytes ? "bad footer or checksum" : "wrong checksum");
    }
  }
  if (!status.ok()) {
    owner_.NoteDamagedTable(file_->path(), status);
    return owner_.Report(status);
  }
  *result = leveldb::Slice(scratch, length);
  return leveldb::Status::OK();
}

LevelDbWritableFile::~LevelDbWritableFile() {
  // LevelDB deletes a file without Close only when it no longer cares for what was not synced.
  if (file_ && failure_.ok()) (void)Close();
}

leveldb::Status LevelDbWritableFile::Append(const leveldb::Slice& data) {
  if (!failure_.ok()) return owner_.Report(failure_);
  CAIRN_CHECK(file_ != nullptr);
  if (OnLevelDbWorker()) GiveWay();  // a compaction: it appends block by block
  pending_.append(data.data(), data.size());
  if (pending_.size() - written_ < kBufferBytes) return leveldb::Status::OK();
  return Flush();
}

leveldb::Status LevelDbWritableFile::Flush() {
  if (!failure_.ok()) return owner_.Report(failure_);
  owner_.WritingBegins();
  Status status = WriteOut();
  owner_.WritingEnds();
  return status.ok() ? leveldb::Status::OK() : Fail(std::move(status));
}

leveldb::Status LevelDbWritableFile::Close() {
  leveldb::Status status = Flush();
  file_.reset();
  return status;
}

leveldb::Status LevelDbWritableFile::Sync() {
  if (!failure_.ok()) return owner_.Report(failure_);
  owner_.WritingBegins();
  Status status = WriteOut();
  if (status.ok()) status = SyncContents();
  if (status.ok() && !name_is_durable_) {
    // Once: what a directory's sync that failed dropped, the next one does not write.
    status = owner_.env().SyncDir(ParentDirectory(file_->path()));
  }
  owner_.WritingEnds();
  if (!status.ok()) return Fail(std::move(status));
  name_is_durable_ = true;
  pending_offset_ += pending_.size();
  pending_.clear();
  written_ = 0;
  all_unsynced_kept_ = true;
  return leveldb::Status::OK();
}

Status LevelDbWritableFile::WriteOut() {
  if (written_ == pending_.size()) return Status::Ok();
  CAIRN_CHECK(file_ != nullptr);
  // Written at its own offset, so that a repetition overwrites what a failed attempt left.
  CAIRN_RETURN_IF_ERROR(owner_.WithReserve(file_->path(), [&] {
    return file_->WriteAt(pending_offset_ + written_,
                          Bytes(pending_.data() + written_, pending_.size() - written_));
  }));
  written_ = pending_.size();
  if (pending_.size() > kKeptBytesMax) {
    pending_offset_ += pending_.size();
    pending_.clear();
    written_ = 0;
    all_unsynced_kept_ = false;
  }
  return Status::Ok();
}

Status LevelDbWritableFile::SyncContents() {
  if (!all_unsynced_kept_) return file_->Sync();
  bool is_first = true;
  return owner_.WithReserve(file_->path(), [&]() -> Status {
    if (!is_first) {
      CAIRN_RETURN_IF_ERROR(
          file_->WriteAt(pending_offset_, Bytes(pending_.data(), pending_.size())));
    }
    is_first = false;
    return file_->Sync();
  });
}

leveldb::Status LevelDbWritableFile::Fail(Status status) {
  failure_ = std::move(status);
  owner_.OnWritingFailed(file_->path(), failure_);
  return owner_.Report(failure_);
}

}  // namespace cairn
