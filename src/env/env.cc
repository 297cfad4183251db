#include "src/env/env.h"

#include <cerrno>
#include <utility>

namespace cairn {
namespace {

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status WriteSynced(Env& env, const std::string& path, const std::string& contents) {
  // A temporary file that a crash left behind is taken over: hence kCreate and Truncate.
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, env.Open(path, OpenMode::kCreate));
  CAIRN_RETURN_IF_ERROR(file->Truncate(0));
  CAIRN_RETURN_IF_ERROR(file->WriteAt(0, std::as_bytes(std::span(contents))));
  return file->Sync();
}

}  // namespace

Result<std::string> Env::ReadWhole(const std::string& path, size_t limit_bytes) {
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, Open(path, OpenMode::kReadOnly));
  CAIRN_ASSIGN_OR_RETURN(const FileInfo info, file->Info());
  if (info.size > limit_bytes) {
    return Status(Code::kTooLarge, path + ": " + std::to_string(info.size) + " bytes, at most " +
                                       std::to_string(limit_bytes) + " expected");
  }
  std::string contents(info.size, '\0');
  CAIRN_ASSIGN_OR_RETURN(const size_t count,
                         file->ReadAt(0, std::as_writable_bytes(std::span(contents))));
  contents.resize(count);
  return contents;
}

Status Env::WriteWholeDurably(const std::string& path, const std::string& contents) {
  const std::string temporary = path + ".tmp";
  Status status = WriteSynced(*this, temporary, contents);
  if (status.ok()) status = Rename(temporary, path);
  if (!status.ok()) {
    // Best effort: the first error is the one to report, and the next call takes a left-over over.
    static_cast<void>(Remove(temporary));
    return status;
  }
  return SyncDir(ParentOf(path));
}

}  // namespace cairn
