#include "src/warm/leveldb_env.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "src/base/blocking.h"
#include "src/base/check.h"
#include "src/base/log.h"
#include "src/warm/leveldb_files.h"

namespace cairn {
namespace {

thread_local bool on_worker = false;

class HeldLock final : public leveldb::FileLock {
 public:
  explicit HeldLock(std::unique_ptr<cairn::FileLock> lock) : lock_(std::move(lock)) {}

 private:
  const std::unique_ptr<cairn::FileLock> lock_;
};

class ProcessLogger final : public leveldb::Logger {
 public:
  void Logv(const char* format, std::va_list arguments) override {
    char line[1024];
    const int length = std::vsnprintf(line, sizeof(line), format, arguments);
    if (length <= 0) return;
    std::string_view text(line, std::min<size_t>(static_cast<size_t>(length), sizeof(line) - 1));
    while (text.ends_with('\n')) text.remove_suffix(1);
    LogDebug("leveldb: {}", text);
  }
};

std::string_view FileName(std::string_view path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

bool IsTable(std::string_view path) { return path.ends_with(".ldb") || path.ends_with(".sst"); }
bool IsLog(std::string_view path) { return path.ends_with(".log"); }
bool IsManifest(std::string_view path) { return FileName(path).starts_with("MANIFEST-"); }
bool IsCurrent(std::string_view path) { return FileName(path) == "CURRENT"; }

Code CodeOf(const leveldb::Status& status) {
  if (status.IsNotFound()) return Code::kNotFound;
  if (status.IsCorruption()) return Code::kCorrupt;
  if (status.IsNotSupportedError()) return Code::kUnsupported;
  if (status.IsInvalidArgument()) return Code::kInvalid;
  return Code::kIo;
}

}  // namespace

bool OnLevelDbWorker() { return on_worker; }

LevelDbEnv::LevelDbEnv(cairn::Env& env, OnNoSpace on_no_space, RoomToCompact room_to_compact)
    : env_(env),
      on_no_space_(std::move(on_no_space)),
      room_to_compact_(std::move(room_to_compact)) {}

LevelDbEnv::~LevelDbEnv() {
  std::thread worker;
  std::vector<std::thread> started;
  {
    MutexLock lock(mu_);
    stopping_ = true;
    work_arrived_.NotifyAll();
    worker.swap(worker_);
    started.swap(started_);
  }
  if (worker.joinable()) worker.join();
  for (std::thread& thread : started) thread.join();
}

// --- Errors ---

leveldb::Status LevelDbEnv::Report(const Status& status) {
  if (status.ok()) return leveldb::Status::OK();
  if (status.code() == Code::kNotFound) return leveldb::Status::NotFound(status.context());
  if (status.code() != Code::kExists) {
    MutexLock lock(mu_);
    std::erase_if(failures_, [&](const Status& s) { return s.context() == status.context(); });
    failures_.push_back(status);
    if (failures_.size() > kRememberedFailures) failures_.pop_front();
  }
  return status.code() == Code::kCorrupt ? leveldb::Status::Corruption(status.context())
                                         : leveldb::Status::IOError(status.context());
}

void LevelDbEnv::NoteDamagedTable(const std::string& path, const Status& damage) {
  {
    MutexLock lock(mu_);
    if (damaged_tables_.size() >= kNotedTables) return;
    if (!damaged_tables_.emplace(path, damage).second) return;
  }
  LogWarn("a table of the index cannot be read in full: {}", damage.context());
}

std::map<std::string, Status> LevelDbEnv::damaged_tables() const {
  MutexLock lock(mu_);
  return damaged_tables_;
}

Status LevelDbEnv::FromLevelDb(const leveldb::Status& status, std::string_view what) const {
  if (status.ok()) return Status::Ok();
  std::string text = status.ToString();
  if (!status.IsNotFound()) {
    MutexLock lock(mu_);
    // clang 14 does not take std::ranges::reverse_view from the headers of GCC 12.
    // NOLINTNEXTLINE(modernize-loop-convert)
    for (auto failure = failures_.rbegin(); failure != failures_.rend(); ++failure) {
      if (text.ends_with(failure->context())) return Status(*failure).WithPrefix(what);
    }
  }
  if (status.IsCorruption() && text.find('/') == std::string::npos && !LastReadPath().empty()) {
    text += " (the file last read is " + LastReadPath() + ")";
  }
  return Status(CodeOf(status), std::string(what) + ": " + text);
}

bool LevelDbEnv::HasRoomFor(const std::string& path) {
  // The MANIFEST is small, and names what was compacted: then space becomes free.
  return !on_worker || !room_to_compact_ || !IsTable(path) || room_to_compact_();
}

bool LevelDbEnv::WaitForSpace(std::chrono::steady_clock::time_point begin) {
  if (!on_worker || !room_to_compact_) return false;
  MutexLock lock(mu_);
  if (!may_wait_) return false;
  // A compaction that waits keeps the next one from making room for changes.
  const bool holds_back = changes_ > 0 && writings_ == 0;
  const auto since = std::max(begin, last_progress_);
  if (holds_back && std::chrono::steady_clock::now() - since > kMostHeldBack) return false;
  no_more_waiting_.WaitFor(mu_, kSpaceInterval);
  return true;
}

void LevelDbEnv::ChangeBegins() {
  MutexLock lock(mu_);
  if (changes_++ == 0) last_progress_ = std::chrono::steady_clock::now();
}

void LevelDbEnv::ChangeEnds() {
  MutexLock lock(mu_);
  --changes_;
  last_progress_ = std::chrono::steady_clock::now();
}

void LevelDbEnv::WritingBegins() {
  if (on_worker) return;
  MutexLock lock(mu_);
  ++writings_;
}

void LevelDbEnv::WritingEnds() {
  if (on_worker) return;
  MutexLock lock(mu_);
  --writings_;
  last_progress_ = std::chrono::steady_clock::now();
}

void LevelDbEnv::StopWaiting() {
  MutexLock lock(mu_);
  may_wait_ = false;
  no_more_waiting_.NotifyAll();
}

void LevelDbEnv::OnWritingFailed(const std::string& path, const Status& failure) {
  MutexLock lock(mu_);
  // What a compaction did not get to write is nowhere referred to, and was tried until the end.
  if (!may_wait_ && IsTable(path) && failure.code() == Code::kNoSpace) return;
  if (write_failure_.ok()) write_failure_ = failure;
  if (IsLog(path) && log_failure_.ok()) log_failure_ = failure;
}

Status LevelDbEnv::write_failure() const {
  MutexLock lock(mu_);
  return write_failure_;
}

// --- Files ---

leveldb::Status LevelDbEnv::NewSequentialFile(const std::string& path,
                                              leveldb::SequentialFile** result) {
  *result = nullptr;
  Result<std::unique_ptr<File>> file = env_.Open(path, OpenMode::kReadOnly);
  if (!file.ok()) return Report(file.status());
  *result = new LevelDbSequentialFile(*this, std::move(*file));
  return leveldb::Status::OK();
}

leveldb::Status LevelDbEnv::NewRandomAccessFile(const std::string& path,
                                                leveldb::RandomAccessFile** result) {
  *result = nullptr;
  // LevelDB reads nothing but tables this way.
  CAIRN_CHECK(IsTable(path));
  Result<std::unique_ptr<File>> file = env_.Open(path, OpenMode::kReadOnly);
  if (!file.ok() && file.status().code() == Code::kNotFound) {
    return Report(Status(Code::kCorrupt, path + ": the table is missing"));
  }
  if (!file.ok()) return Report(file.status());
  *result = new LevelDbTableFile(*this, std::move(*file));
  return leveldb::Status::OK();
}

leveldb::Status LevelDbEnv::NewWritableFile(const std::string& path,
                                            leveldb::WritableFile** result) {
  return OpenForWriting(path, false, result);
}

leveldb::Status LevelDbEnv::NewAppendableFile(const std::string& path,
                                              leveldb::WritableFile** result) {
  return OpenForWriting(path, true, result);
}

leveldb::Status LevelDbEnv::OpenForWriting(const std::string& path, bool keep_contents,
                                           leveldb::WritableFile** result) {
  *result = nullptr;
  if (IsLog(path)) {
    Status failure;
    {
      MutexLock lock(mu_);
      failure = log_failure_;
    }
    if (!failure.ok()) return Report(failure);
  }
  std::unique_ptr<File> file;
  FileInfo info;
  WritingBegins();
  Status status = WithReserve(path, [&]() -> Status {
    CAIRN_ASSIGN_OR_RETURN(file, env_.Open(path, OpenMode::kCreate));
    CAIRN_ASSIGN_OR_RETURN(info, file->Info());
    if (keep_contents || info.size == 0) return Status::Ok();
    CAIRN_RETURN_IF_ERROR(file->Truncate(0));
    info.size = 0;
    return Status::Ok();
  });
  WritingEnds();
  if (!status.ok()) return Report(status);
  *result = new LevelDbWritableFile(*this, std::move(file), info.size);
  return leveldb::Status::OK();
}

// --- Names ---

bool LevelDbEnv::FileExists(const std::string& path) {
  const Result<FileInfo> info = env_.Info(path);
  return info.ok() || info.status().code() != Code::kNotFound;
}

leveldb::Status LevelDbEnv::GetChildren(const std::string& directory,
                                        std::vector<std::string>* result) {
  result->clear();
  Result<std::vector<std::string>> names = env_.List(directory);
  if (!names.ok()) return Report(names.status());
  *result = std::move(*names);
  return leveldb::Status::OK();
}

leveldb::Status LevelDbEnv::RemoveFile(const std::string& path) {
  if (IsManifest(path)) {
    // LevelDB removes the MANIFEST to which it could not switch; CURRENT may name it all the same.
    MutexLock lock(mu_);
    if (current_uncertain_) {
      return leveldb::Status::IOError(path + ": kept, because CURRENT may name it");
    }
  }
  return Report(env_.Remove(path));
}

leveldb::Status LevelDbEnv::CreateDir(const std::string& directory) {
  Status status = WithReserve(directory, [&] { return env_.CreateDir(directory); });
  if (status.ok()) status = env_.SyncDir(ParentDirectory(directory));
  return Report(status);
}

leveldb::Status LevelDbEnv::RemoveDir(const std::string& directory) {
  return Report(env_.RemoveDir(directory));
}

leveldb::Status LevelDbEnv::GetFileSize(const std::string& path, uint64_t* size) {
  *size = 0;
  const Result<FileInfo> info = env_.Info(path);
  if (!info.ok()) return Report(info.status());
  *size = info->size;
  return leveldb::Status::OK();
}

leveldb::Status LevelDbEnv::RenameFile(const std::string& from, const std::string& to) {
  Status status = WithReserve(to, [&] { return env_.Rename(from, to); });
  if (status.ok()) {
    status = env_.SyncDir(ParentDirectory(to));
  }
  if (IsCurrent(to)) {
    MutexLock lock(mu_);
    current_uncertain_ = !status.ok();
    if (write_failure_.ok()) write_failure_ = status;
  }
  return Report(status);
}

leveldb::Status LevelDbEnv::LockFile(const std::string& path, leveldb::FileLock** lock) {
  *lock = nullptr;
  Result<std::unique_ptr<cairn::FileLock>> held = env_.Lock(path);
  if (!held.ok()) return Report(held.status());
  {
    // A database is being opened: it reads its files anew and goes on from what they hold.
    MutexLock guard(mu_);
    log_failure_ = Status::Ok();
    write_failure_ = Status::Ok();
    damaged_tables_.clear();
    current_uncertain_ = false;
    may_wait_ = true;
    // Here, since Schedule cannot tell of a failure.
    try {
      if (!worker_.joinable()) worker_ = std::thread([this] { RunScheduled(); });
    } catch (const std::system_error& error) {
      return leveldb::Status::IOError(path, std::string("no thread: ") + error.what());
    }
  }
  *lock = new HeldLock(std::move(*held));
  return leveldb::Status::OK();
}

leveldb::Status LevelDbEnv::UnlockFile(leveldb::FileLock* lock) {
  delete lock;
  return leveldb::Status::OK();
}

leveldb::Status LevelDbEnv::GetTestDirectory(std::string* path) {
  path->clear();
  return leveldb::Status::NotSupported("no test directory");
}

leveldb::Status LevelDbEnv::NewLogger(const std::string&, leveldb::Logger** result) {
  *result = new ProcessLogger;
  return leveldb::Status::OK();
}

// --- Threads and time ---

void LevelDbEnv::Schedule(void (*function)(void*), void* argument) {
  MutexLock lock(mu_);
  CAIRN_CHECK(!stopping_);
  scheduled_.emplace_back([function, argument] { function(argument); });
  if (!worker_.joinable()) worker_ = std::thread([this] { RunScheduled(); });
  work_arrived_.NotifyOne();
}

void LevelDbEnv::RunScheduled() {
  on_worker = true;
  for (;;) {
    Work work;
    {
      MutexLock lock(mu_);
      while (scheduled_.empty() && !stopping_) work_arrived_.Wait(mu_);
      if (scheduled_.empty()) return;
      work = std::move(scheduled_.front());
      scheduled_.pop_front();
    }
    work();
  }
}

void LevelDbEnv::StartThread(void (*function)(void*), void* argument) {
  MutexLock lock(mu_);
  started_.emplace_back(function, argument);
}

uint64_t LevelDbEnv::NowMicros() { return leveldb::Env::Default()->NowMicros(); }

void LevelDbEnv::SleepForMicroseconds(int micros) {
  AboutToBlock();  // LevelDB holds a writer back
  leveldb::Env::Default()->SleepForMicroseconds(micros);
}

}  // namespace cairn
