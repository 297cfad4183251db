// The open files that LevelDbEnv hands to LevelDB. Internal to LevelDbEnv.
//
// Each borrows its LevelDbEnv. As LevelDB asks: one thread at a time for sequential and writable
// files, any threads for random-access files.
#ifndef CAIRN_SRC_WARM_LEVELDB_FILES_H_
#define CAIRN_SRC_WARM_LEVELDB_FILES_H_

#include <leveldb/env.h>
#include <leveldb/status.h>

#include <cstdint>
#include <memory>
#include <string>

#include "src/base/status.h"
#include "src/env/env.h"
#include "src/warm/leveldb_env.h"

namespace cairn {

// The path of the file that the calling thread last read through one of the classes below; empty
// when there is none.
const std::string& LastReadPath();

// The directory that holds `path`.
std::string ParentDirectory(const std::string& path);

class LevelDbSequentialFile final : public leveldb::SequentialFile {
 public:
  LevelDbSequentialFile(LevelDbEnv& owner, std::unique_ptr<File> file)
      : owner_(owner), file_(std::move(file)) {}
  leveldb::Status Read(size_t length, leveldb::Slice* result, char* scratch) override;
  leveldb::Status Skip(uint64_t length) override;

 private:
  LevelDbEnv& owner_;
  const std::unique_ptr<File> file_;
  uint64_t offset_ = 0;
};

// A table. LevelDB reads whole blocks and the footer of one, never less: every read is checked
// here, and gives Corruption with path and offset when it is short or its checksum is wrong. What
// is wrong is noted, also of a footer that serves all the same.
class LevelDbTableFile final : public leveldb::RandomAccessFile {
 public:
  LevelDbTableFile(LevelDbEnv& owner, std::unique_ptr<File> file)
      : owner_(owner), file_(std::move(file)) {}
  leveldb::Status Read(uint64_t offset, size_t length, leveldb::Slice* result,
                       char* scratch) const override;

 private:
  LevelDbEnv& owner_;
  const std::unique_ptr<File> file_;
};

// Keeps what was appended since the last Sync, so that it can be written again: after a sync that
// failed, the system may have dropped the pages and would report the next sync as good.
class LevelDbWritableFile final : public leveldb::WritableFile {
 public:
  // Appends at `offset`, the size of the file.
  LevelDbWritableFile(LevelDbEnv& owner, std::unique_ptr<File> file, uint64_t offset)
      : owner_(owner), file_(std::move(file)), pending_offset_(offset) {}
  // Writes what is buffered.
  ~LevelDbWritableFile() override;

  leveldb::Status Append(const leveldb::Slice& data) override;
  leveldb::Status Close() override;
  leveldb::Status Flush() override;
  // Makes the contents durable, then the name.
  leveldb::Status Sync() override;

 private:
  static constexpr size_t kBufferBytes = size_t{64} * 1024;
  // Beyond this a failed sync is final. LevelDB's logs and tables are synced well before.
  static constexpr size_t kKeptBytesMax = size_t{8} * 1024 * 1024;

  Status WriteOut();
  Status SyncContents();
  // The end of this file: it takes no more.
  leveldb::Status Fail(Status status);

  LevelDbEnv& owner_;
  std::unique_ptr<File> file_;  // null once closed
  bool name_is_durable_ = false;
  Status failure_;  // the first one; all later calls return it
  // Bytes from pending_offset_ on, of which the first written_ are in the file.
  std::string pending_;
  size_t written_ = 0;
  uint64_t pending_offset_;
  bool all_unsynced_kept_ = true;  // pending_ begins where the last Sync ended
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_LEVELDB_FILES_H_
