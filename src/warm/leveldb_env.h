// LevelDbEnv: sends all of LevelDB's file I/O through an Env, and its errors back.
//
// It adds what LevelDB lacks and the store relies on:
// - A synced file has a durable name: the first Sync of a file and every rename sync the directory
//   too. LevelDB itself does this for the MANIFEST only.
// - After a write or sync that failed, the file takes no more, and when it was a log, no new log is
//   begun until the database is opened again. LevelDB would go on at a wrong offset.
// - When space runs out, OnNoSpace may free a reserve; the operation is then repeated.
// - Damage to a table names the table: what is read from it is checked here, because LevelDB's
//   messages often name no file, and may reach the user on another thread. A table that is gone
//   is damage too, not "not found", which LevelDB would take for the absence of the key.
// - A CURRENT that cannot be looked at counts as present: LevelDB would otherwise begin a
//   new database in the place of the old one.
//
// Thread-safe. Background work runs on one thread of this object, so that nothing of LevelDB
// outlives it; the destructor joins it.
#ifndef CAIRN_SRC_WARM_LEVELDB_ENV_H_
#define CAIRN_SRC_WARM_LEVELDB_ENV_H_

#include <leveldb/env.h>
#include <leveldb/status.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "src/base/mutex.h"
#include "src/base/status.h"
#include "src/base/thread_annotations.h"
#include "src/env/env.h"

namespace cairn {

// Whether this thread is one on which LevelDB compacts.
bool OnLevelDbWorker();

class LevelDbEnv final : public leveldb::Env {
 public:
  // Called without locks, on any thread, when a write, sync, file creation or rename of LevelDB got
  // kNoSpace. True: there is space now, do it once more. Must not call LevelDB. May be empty.
  using OnNoSpace = std::function<bool()>;

  // Borrows `env`.
  explicit LevelDbEnv(cairn::Env& env, OnNoSpace on_no_space = nullptr);
  // REQUIRES: all databases that use this are deleted.
  ~LevelDbEnv() override;

  // What LevelDB's `status` means, with "`what`: " before the context. A failure that came through
  // this Env comes back with the code and errno it had (kNoSpace, kBusy, ...). Else NotFound is
  // kNotFound, Corruption kCorrupt, NotSupported kUnsupported, InvalidArgument kInvalid and the
  // rest kIo. A Corruption that names no file gets the name of the file that the calling thread
  // read last.
  Status FromLevelDb(const leveldb::Status& status, std::string_view what) const;

  // The first write, sync or rename to CURRENT that failed since a database was last opened: what
  // its files hold now may be other than what they hold after a power cut.
  Status write_failure() const;

  // leveldb::Env. Failures other than "absent" and "exists" are remembered for FromLevelDb.
  leveldb::Status NewSequentialFile(const std::string& path,
                                    leveldb::SequentialFile** result) override;
  leveldb::Status NewRandomAccessFile(const std::string& path,
                                      leveldb::RandomAccessFile** result) override;
  leveldb::Status NewWritableFile(const std::string& path, leveldb::WritableFile** result) override;
  leveldb::Status NewAppendableFile(const std::string& path,
                                    leveldb::WritableFile** result) override;
  bool FileExists(const std::string& path) override;
  leveldb::Status GetChildren(const std::string& directory,
                              std::vector<std::string>* result) override;
  leveldb::Status RemoveFile(const std::string& path) override;
  leveldb::Status CreateDir(const std::string& directory) override;
  leveldb::Status RemoveDir(const std::string& directory) override;
  leveldb::Status GetFileSize(const std::string& path, uint64_t* size) override;
  leveldb::Status RenameFile(const std::string& from, const std::string& to) override;
  leveldb::Status LockFile(const std::string& path, leveldb::FileLock** lock) override;
  leveldb::Status UnlockFile(leveldb::FileLock* lock) override;
  void Schedule(void (*function)(void*), void* argument) override;
  void StartThread(void (*function)(void*), void* argument) override;
  leveldb::Status GetTestDirectory(std::string* path) override;
  // Writes to the log of the process, not to a file in the store.
  leveldb::Status NewLogger(const std::string& path, leveldb::Logger** result) override;
  uint64_t NowMicros() override;
  void SleepForMicroseconds(int micros) override;

  // For the files made here (leveldb_files.h).
  cairn::Env& env() { return env_; }
  // `status` for LevelDB; remembers a failure.
  leveldb::Status Report(const Status& status);
  // Asks OnNoSpace if `status` is kNoSpace. True: repeat the operation.
  bool FreedSpaceAfter(const Status& status);
  // The file takes no more writes because of `failure`.
  void OnWritingFailed(const std::string& path, const Status& failure);
  // Runs `operation`, and once more when it fails for space and space was made.
  template <typename Operation>
  Status WithReserve(const Operation& operation) {
    Status status = operation();
    return FreedSpaceAfter(status) ? operation() : std::move(status);
  }

 private:
  using Work = std::function<void()>;

  // More than LevelDB has open errors at a time.
  static constexpr size_t kRememberedFailures = 16;

  leveldb::Status OpenForWriting(const std::string& path, bool keep_contents,
                                 leveldb::WritableFile** result);
  void RunScheduled();

  cairn::Env& env_;
  const OnNoSpace on_no_space_;

  // Leaf lock: nothing is called while it is held.
  mutable Mutex mu_;
  CondVar work_arrived_;
  std::deque<Status> failures_ CAIRN_GUARDED_BY(mu_);  // newest last, contexts distinct
  Status log_failure_ CAIRN_GUARDED_BY(mu_);           // of a log since the last LockFile
  Status write_failure_ CAIRN_GUARDED_BY(mu_);         // of any file since then
  // A rename of CURRENT failed, and nobody knows which MANIFEST it names after a power cut.
  bool current_uncertain_ CAIRN_GUARDED_BY(mu_) = false;
  std::deque<Work> scheduled_ CAIRN_GUARDED_BY(mu_);
  bool stopping_ CAIRN_GUARDED_BY(mu_) = false;
  std::thread worker_ CAIRN_GUARDED_BY(mu_);                // runs RunScheduled once needed
  std::vector<std::thread> started_ CAIRN_GUARDED_BY(mu_);  // by StartThread
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_LEVELDB_ENV_H_
