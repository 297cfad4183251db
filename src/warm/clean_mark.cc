#include "src/warm/clean_mark.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "src/base/crc32c.h"

namespace cairn {
namespace {

constexpr std::string_view kHeader = "cairn clean 1\n";
constexpr size_t kMarkLimit = 1u << 20;
constexpr uint64_t kReadStep = 1u << 20;

// Tables have checksums of their own and are never changed in place.
bool IsCovered(const std::string& name) {
  return name == "CURRENT" || name.starts_with("MANIFEST-") || name.ends_with(".log");
}

Result<uint32_t> CrcOfFile(Env& env, const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(auto file, env.Open(path, OpenMode::kReadOnly));
  std::vector<std::byte> buffer(kReadStep);
  uint32_t crc = 0;
  for (uint64_t offset = 0;; offset += buffer.size()) {
    CAIRN_ASSIGN_OR_RETURN(const size_t got, file->ReadAt(offset, buffer));
    crc = Crc32c(std::span(buffer).first(got), crc);
    if (got < buffer.size()) return crc;
  }
}

// One line a file: "NAME SIZE CRC\n"; the last line is "end CRC-OF-ALL-BEFORE\n".
Result<std::string> Describe(Env& env, const std::string& index_dir) {
  std::string text(kHeader);
  CAIRN_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(index_dir));
  for (const std::string& name : names) {
    if (!IsCovered(name)) continue;
    const std::string path = index_dir + "/" + name;
    CAIRN_ASSIGN_OR_RETURN(const FileInfo info, env.Info(path));
    CAIRN_ASSIGN_OR_RETURN(const uint32_t crc, CrcOfFile(env, path));
    text += fmt::format("{} {} {:08x}\n", name, info.size, crc);
  }
  text += fmt::format("end {:08x}\n", Crc32c(std::as_bytes(std::span(text))));
  return text;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) break;
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// The mark must end in a checksum of itself.
bool IsIntact(const std::string& mark) {
  const size_t end_line = mark.rfind("end ");
  if (!mark.starts_with(kHeader) || end_line == std::string::npos) return false;
  const std::string_view body = std::string_view(mark).substr(0, end_line);
  return mark.substr(end_line) ==
         fmt::format("end {:08x}\n", Crc32c(std::as_bytes(std::span(body))));
}

}  // namespace

Status WriteCleanMark(Env& env, const std::string& index_dir, const std::string& mark_path) {
  // LevelDB does not sync its removals: a log that is gone now could be back after a power cut.
  CAIRN_RETURN_IF_ERROR(env.SyncDir(index_dir));
  CAIRN_ASSIGN_OR_RETURN(const std::string mark, Describe(env, index_dir));
  return env.WriteWholeDurably(mark_path, mark);
}

Result<bool> CheckCleanMark(Env& env, const std::string& index_dir, const std::string& mark_path) {
  auto mark = env.ReadWhole(mark_path, kMarkLimit);
  if (!mark.ok()) {
    if (mark.status().code() == Code::kNotFound) return false;
    return std::move(mark).status();
  }
  if (!IsIntact(*mark)) {
    return Status(Code::kCorrupt, mark_path + ": the mark of the clean close is damaged");
  }
  CAIRN_ASSIGN_OR_RETURN(const std::string now, Describe(env, index_dir));
  if (now == *mark) return true;
  const std::vector<std::string> were = Lines(*mark);
  const std::vector<std::string> are = Lines(now);
  for (const std::string& line : were) {
    if (std::find(are.begin(), are.end(), line) != are.end()) continue;
    const std::string name = line.substr(0, line.find(' '));
    if (name == "end") continue;
    return Status(Code::kCorrupt, index_dir + "/" + name +
                                      " is not what it was when the store was closed: damaged");
  }
  return Status(Code::kCorrupt, index_dir + " holds log files that were not there at its close");
}

Result<bool> CheckAndRemoveCleanMark(Env& env, const std::string& index_dir,
                                     const std::string& mark_path) {
  CAIRN_ASSIGN_OR_RETURN(const bool clean, CheckCleanMark(env, index_dir, mark_path));
  if (!clean) return false;
  CAIRN_RETURN_IF_ERROR(env.Remove(mark_path));
  const std::string dir = mark_path.substr(0, mark_path.rfind('/'));
  CAIRN_RETURN_IF_ERROR(env.SyncDir(dir));
  return true;
}

}  // namespace cairn
