// LevelDbEnv: sends all of LevelDB's file I/O through an Env, and its errors back.
//
// It adds what LevelDB lacks and the store relies on:
// - A synced file has a durable name: the first Sync of a file and every rename sync the directory
//   too. LevelDB itself does this for the MANIFEST only.
// - After a write or sync that failed, the file takes no more, and when it was a log, no new log is
//   begun until the database is opened again. LevelDB would go on at a wrong offset.
// - When space runs out, OnNoSpace may free a reserve; the operation is then repeated.
// - A compaction whose write finds no space waits for some. Were it to fail, LevelDB would take no
//   more changes until it is opened again, also none that free space.
// - Damage to a table names the table: what is read from it is checked here, because LevelDB's
//   messages often name no file, and may reach the user on another thread. A table that is gone
//   is damage too, not "not found", which LevelDB would take for the absence of the key. What
//   LevelDB does without when it cannot read it, e.g. a filter, it tells nobody: see
//   damaged_tables.
// - A CURRENT that cannot be looked at counts as present: LevelDB would otherwise begin a
//   new database in the place of the old one.
//
// Thread-safe. Background work runs on one thread of this object, so that nothing of LevelDB
// outlives it; the destructor joins it.
#ifndef CAIRN_SRC_WARM_LEVELDB_ENV_H_
#define CAIRN_SRC_WARM_LEVELDB_ENV_H_

#include <leveldb/env.h>
#include <leveldb/status.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
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
  // Called without locks, on any thread, when a write, sync or creation of a file, or a rename, got
  // kNoSpace, to make space. It is repeated once more than this returns true: whoever takes what
  // was made meanwhile, all is tried. Must not call LevelDB. May be empty.
  using OnNoSpace = std::function<bool(const std::string& path)>;

  // Asked on LevelDB's own thread before it writes a table; false: not yet. Must not call LevelDB.
  // Empty: what LevelDB does there waits for nothing.
  using RoomToCompact = std::function<bool()>;

  // Borrows `env`.
  explicit LevelDbEnv(cairn::Env& env, OnNoSpace on_no_space = nullptr,
                      RoomToCompact room_to_compact = nullptr);
  // REQUIRES: all databases that use this are deleted.
  ~LevelDbEnv() override;

  // What LevelDB's `status` means, with "`what`: " before the context. A failure that came through
  // this Env comes back with the code and errno it had (kNoSpace, kBusy, ...). Else NotFound is
  // kNotFound, Corruption kCorrupt, NotSupported kUnsupported, InvalidArgument kInvalid and the
  // rest kIo. A Corruption that names no file gets the name of the file that the calling thread
  // read last.
  Status FromLevelDb(const leveldb::Status& status, std::string_view what) const;

  // Around each change of a database. When one does not come to its end because LevelDB's own work
  // waits for space, that work fails after kMostHeldBack, and so does the change.
  void ChangeBegins();
  void ChangeEnds();
  // LevelDB's own work waits for space no more. To be called before a database is deleted, which
  // waits for that work; until the next one is opened.
  void StopWaiting();

  // The first write, sync or rename to CURRENT that failed since a database was last opened: what
  // its files hold now may be other than what they hold after a power cut.
  Status write_failure() const;

  // The first read of each table that failed or found damage since a database was last opened, by
  // path; of kNotedTables tables at most. Some may be gone since.
  std::map<std::string, Status> damaged_tables() const;

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
  // For damaged_tables; the first time for each table a line in the log, too.
  void NoteDamagedTable(const std::string& path, const Status& damage);
  // Around the writing of a file: a change that is at that is not held back, however slow the disk
  // is. Does nothing on LevelDB's own thread.
  void WritingBegins();
  void WritingEnds();
  // The file takes no more writes because of `failure`.
  void OnWritingFailed(const std::string& path, const Status& failure);
  // Runs `operation` on the file `path` until it fails for something else than space, or none can
  // be made; on LevelDB's own thread until there is space, and not before it may write a table.
  template <typename Operation>
  Status WithReserve(const std::string& path, const Operation& operation) {
    const auto begin = std::chrono::steady_clock::now();
    for (;;) {
      while (!HasRoomFor(path)) {
        if (!WaitForSpace(begin)) return Status(Code::kNoSpace, path + ": no room to compact");
      }
      Status status = operation();
      for (bool again = on_no_space_ != nullptr; again && status.code() == Code::kNoSpace;) {
        again = on_no_space_(path);
        status = operation();
      }
      if (status.code() != Code::kNoSpace || !WaitForSpace(begin)) return status;
    }
  }

 private:
  using Work = std::function<void()>;

  // More than LevelDB has open errors at a time.
  static constexpr size_t kRememberedFailures = 16;
  static constexpr size_t kNotedTables = 1000;
  static constexpr std::chrono::milliseconds kSpaceInterval{100};  // from look to look
  static constexpr std::chrono::seconds kMostHeldBack{5};

  leveldb::Status OpenForWriting(const std::string& path, bool keep_contents,
                                 leveldb::WritableFile** result);
  void RunScheduled();
  // Whether this thread may write to the file; see RoomToCompact.
  bool HasRoomFor(const std::string& path);
  // Since `begin`. False when there is nothing to wait for, or no more time.
  bool WaitForSpace(std::chrono::steady_clock::time_point begin);

  cairn::Env& env_;
  const OnNoSpace on_no_space_;
  const RoomToCompact room_to_compact_;

  // Leaf lock: nothing is called while it is held.
  mutable Mutex mu_;
  CondVar work_arrived_;
  std::deque<Status> failures_ CAIRN_GUARDED_BY(mu_);  // newest last, contexts distinct
  Status log_failure_ CAIRN_GUARDED_BY(mu_);           // of a log since the last LockFile
  Status write_failure_ CAIRN_GUARDED_BY(mu_);         // of any file since then
  std::map<std::string, Status> damaged_tables_ CAIRN_GUARDED_BY(mu_);  // since then
  // A rename of CURRENT failed, and nobody knows which MANIFEST it names after a power cut.
  bool current_uncertain_ CAIRN_GUARDED_BY(mu_) = false;
  std::deque<Work> scheduled_ CAIRN_GUARDED_BY(mu_);
  bool stopping_ CAIRN_GUARDED_BY(mu_) = false;
  CondVar no_more_waiting_;
  bool may_wait_ CAIRN_GUARDED_BY(mu_) = true;
  // That have begun and not ended.
  int changes_ CAIRN_GUARDED_BY(mu_) = 0;
  int writings_ CAIRN_GUARDED_BY(mu_) = 0;
  // When one of them last ended, or a change began while there was none.
  std::chrono::steady_clock::time_point last_progress_ CAIRN_GUARDED_BY(mu_);
  std::thread worker_ CAIRN_GUARDED_BY(mu_);                // runs RunScheduled once needed
  std::vector<std::thread> started_ CAIRN_GUARDED_BY(mu_);  // by StartThread
};

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_LEVELDB_ENV_H_
