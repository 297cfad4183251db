// What the tests of Env have in common.
#ifndef CAIRN_TESTS_ENV_ENV_TEST_UTIL_H_
#define CAIRN_TESTS_ENV_ENV_TEST_UTIL_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "src/env/env.h"

namespace cairn {

// For use in EXPECT_EQ and ASSERT_EQ: Code::kOk for success, and readable when they differ.
inline Code CodeOf(const Status& status) { return status.code(); }
template <typename T>
Code CodeOf(const Result<T>& result) {
  return result.status().code();
}
inline void PrintTo(Code code, std::ostream* out) { *out << CodeName(code); }

inline std::unique_ptr<File> MustOpen(Env& env, const std::string& path,
                                      OpenMode mode = OpenMode::kCreate) {
  Result<std::unique_ptr<File>> file = env.Open(path, mode);
  if (!file.ok()) {
    ADD_FAILURE() << file.status().ToString();
    return nullptr;
  }
  return std::move(*file);
}

inline Status WriteText(File& file, uint64_t offset, const std::string& text) {
  return file.WriteAt(offset, std::as_bytes(std::span(text)));
}

// "" on an error, which is also reported.
inline std::string ReadText(File& file, uint64_t offset, size_t size) {
  std::string text(size, '?');
  const Result<size_t> count = file.ReadAt(offset, std::as_writable_bytes(std::span(text)));
  if (!count.ok()) {
    ADD_FAILURE() << count.status().ToString();
    return "";
  }
  text.resize(*count);
  return text;
}

// A file with these contents; nothing is synced.
inline std::unique_ptr<File> MakeFile(Env& env, const std::string& path, const std::string& text) {
  std::unique_ptr<File> file = MustOpen(env, path);
  EXPECT_EQ(CodeOf(WriteText(*file, 0, text)), Code::kOk);
  return file;
}

// The same, durable with its name in directory `parent`.
inline std::unique_ptr<File> MakeDurableFile(Env& env, const std::string& parent,
                                             const std::string& name, const std::string& text) {
  std::unique_ptr<File> file = MakeFile(env, parent + "/" + name, text);
  EXPECT_EQ(CodeOf(file->Sync()), Code::kOk);
  EXPECT_EQ(CodeOf(env.SyncDir(parent)), Code::kOk);
  return file;
}

}  // namespace cairn

#endif  // CAIRN_TESTS_ENV_ENV_TEST_UTIL_H_
