// PosixEnv when system calls are interrupted, fall short, fail, or are missing. The linker sends
// those calls of the module that are named in CMakeLists.txt through the functions below.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <string>

#include "src/base/blocking.h"
#include "src/env/env.h"
#include "tests/env/env_test_util.h"

namespace {

// What becomes of one call: an errno, or else at most `limit` bytes of I/O.
struct Outcome {
  int error = 0;
  size_t limit = ~size_t{0};
};

// The outcomes of the calls to come; afterwards they go through.
std::deque<Outcome> g_script;
size_t g_call_count = 0;

Outcome NextOutcome() {
  ++g_call_count;
  if (g_script.empty()) return {};
  const Outcome outcome = g_script.front();
  g_script.pop_front();
  errno = outcome.error;
  return outcome;
}

}  // namespace

extern "C" {

ssize_t __real_pread64(int fd, void* out, size_t count, off_t offset);
ssize_t __real_pwrite64(int fd, const void* data, size_t count, off_t offset);
int __real_fallocate64(int fd, int mode, off_t offset, off_t length);
int __real_fdatasync(int fd);

ssize_t __wrap_pread64(int fd, void* out, size_t count, off_t offset) {
  const Outcome outcome = NextOutcome();
  if (outcome.error != 0) return -1;
  return __real_pread64(fd, out, std::min(count, outcome.limit), offset);
}

ssize_t __wrap_preadv64v2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  EXPECT_EQ(count, 1);
  EXPECT_EQ(flags, RWF_NOWAIT);
  const Outcome outcome = NextOutcome();
  if (outcome.error != 0) return -1;
  return __real_pread64(fd, parts->iov_base, std::min(parts->iov_len, outcome.limit), offset);
}

ssize_t __wrap_pwrite64(int fd, const void* data, size_t count, off_t offset) {
  const Outcome outcome = NextOutcome();
  if (outcome.error != 0) return -1;
  return outcome.limit == 0 ? 0 : __real_pwrite64(fd, data, std::min(count, outcome.limit), offset);
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length) {
  return NextOutcome().error != 0 ? -1 : __real_fallocate64(fd, mode, offset, length);
}

int __wrap_fdatasync(int fd) { return NextOutcome().error != 0 ? -1 : __real_fdatasync(fd); }

}  // extern "C"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class PosixSyscallTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = (std::filesystem::temp_directory_path() / "cairn-env-XXXXXX").string();
    ASSERT_NE(::mkdtemp(root_.data()), nullptr);
    file_ = MakeFile(*env_, root_ + "/file", "0123456789");
    g_script.clear();
    g_call_count = 0;
  }
  void TearDown() override {
    g_script.clear();
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  std::unique_ptr<Env> env_ = NewPosixEnv();
  std::string root_;
  std::unique_ptr<File> file_;
};

TEST_F(PosixSyscallTest, GoodCaseIsOneCall) {
  EXPECT_EQ(ReadText(*file_, 2, 8), "23456789");
  EXPECT_EQ(g_call_count, 1u);
  EXPECT_EQ(CodeOf(WriteText(*file_, 2, "abc")), Code::kOk);
  EXPECT_EQ(g_call_count, 2u);
}

TEST_F(PosixSyscallTest, ReadsGoOnAfterInterruptionsAndShortReads) {
  g_script = {{.error = EINTR}, {.limit = 3}, {.error = EINTR}, {.limit = 1}};
  EXPECT_EQ(ReadText(*file_, 1, 100), "123456789");
  EXPECT_TRUE(g_script.empty());
}

class CountingListener final : public BlockingListener {
 public:
  CountingListener() { SetBlockingListener(this); }
  ~CountingListener() override { SetBlockingListener(nullptr); }
  void OnAboutToBlock() noexcept override { ++count_; }
  int count() const { return count_; }

 private:
  int count_ = 0;
};

TEST_F(PosixSyscallTest, WhoListensIsToldOfReadsThatWait) {
  const CountingListener listener;
  EXPECT_EQ(ReadText(*file_, 1, 8), "12345678");
  EXPECT_EQ(listener.count(), 0) << "all was there";
  EXPECT_EQ(g_call_count, 1u);
  g_script = {{.error = EAGAIN}};
  EXPECT_EQ(ReadText(*file_, 1, 8), "12345678");
  EXPECT_EQ(listener.count(), 1) << "nothing was there";
  g_script = {{.limit = 3}};
  EXPECT_EQ(ReadText(*file_, 1, 8), "12345678");
  EXPECT_EQ(listener.count(), 2) << "a part was there";
  g_script = {{.error = EAGAIN}, {.error = EIO}};
  std::byte byte{};
  EXPECT_EQ(CodeOf(file_->ReadAt(0, {&byte, 1})), Code::kIo);
}

TEST_F(PosixSyscallTest, AFilesystemThatCannotTellIsAskedOnce) {
  const CountingListener listener;
  g_script = {{.error = EOPNOTSUPP}};
  EXPECT_EQ(ReadText(*file_, 1, 8), "12345678");
  g_call_count = 0;
  EXPECT_EQ(ReadText(*file_, 1, 8), "12345678");
  EXPECT_EQ(g_call_count, 1u);
  struct statfs info {};
  ASSERT_EQ(::statfs(root_.c_str(), &info), 0);
  const bool never_waits = info.f_type == TMPFS_MAGIC;
  EXPECT_EQ(listener.count(), never_waits ? 1 : 2);
}

TEST_F(PosixSyscallTest, WhoListensIsToldOfWritesOfPartsOfBlocks) {
  const CountingListener listener;
  EXPECT_EQ(CodeOf(WriteText(*file_, 0, std::string(8192, 'x'))), Code::kOk);
  EXPECT_EQ(listener.count(), 0);
  EXPECT_EQ(CodeOf(WriteText(*file_, 512, std::string(4096, 'x'))), Code::kOk);
  EXPECT_EQ(listener.count(), 1);
}

TEST_F(PosixSyscallTest, WhoListensIsToldOfSyncs) {
  const CountingListener listener;
  EXPECT_EQ(CodeOf(file_->Sync()), Code::kOk);
  EXPECT_EQ(listener.count(), 1);
}

TEST_F(PosixSyscallTest, WritesGoOnAfterInterruptionsAndShortWrites) {
  g_script = {{.error = EINTR}, {.limit = 3}, {.error = EINTR}, {.limit = 1}};
  EXPECT_EQ(CodeOf(WriteText(*file_, 8, "abcdefgh")), Code::kOk);
  EXPECT_TRUE(g_script.empty());
  EXPECT_EQ(ReadText(*file_, 0, 100), "01234567abcdefgh");
}

TEST_F(PosixSyscallTest, FailedReadsAndWritesNamePathAndCall) {
  std::byte byte{};
  g_script = {{.error = EIO}};
  const Status read = file_->ReadAt(0, {&byte, 1}).status();
  EXPECT_EQ(CodeOf(read), Code::kIo);
  EXPECT_THAT(read.context(), HasSubstr(file_->path() + ": pread"));
  g_script = {{.limit = 2}, {.error = ENOSPC}};
  const Status write = WriteText(*file_, 0, "abcd");
  EXPECT_EQ(CodeOf(write), Code::kNoSpace);
  EXPECT_THAT(write.context(), HasSubstr(file_->path() + ": pwrite"));
  EXPECT_EQ(ReadText(*file_, 0, 4), "ab23");
  // A device that takes nothing and says nothing must not hold the caller for ever.
  g_script = {{.limit = 0}};
  EXPECT_EQ(CodeOf(WriteText(*file_, 0, "abcd")), Code::kIo);
}

TEST_F(PosixSyscallTest, SyncReportsItsErrorAndGoesOnAfterInterruptions) {
  g_script = {{.error = EINTR}, {.error = EINTR}};
  EXPECT_EQ(CodeOf(file_->Sync()), Code::kOk);
  EXPECT_EQ(g_call_count, 3u);
  g_script = {{.error = EIO}};
  EXPECT_EQ(CodeOf(file_->Sync()), Code::kIo);
  g_script = {{.error = EDQUOT}};
  EXPECT_EQ(CodeOf(file_->Sync()), Code::kNoSpace);
}

TEST_F(PosixSyscallTest, AllocateTellsFullFromUnsupported) {
  g_script = {{.error = EINTR}, {.error = ENOSPC}, {.error = EOPNOTSUPP}};
  EXPECT_EQ(CodeOf(file_->Allocate(0, 4096)), Code::kNoSpace);
  EXPECT_EQ(CodeOf(file_->Allocate(0, 4096)), Code::kUnsupported);
}

TEST_F(PosixSyscallTest, PunchWithoutSupportWritesZeros) {
  const uint64_t far = uint64_t{1} << 40;
  const std::string data(200'000, 'x');
  ASSERT_EQ(CodeOf(WriteText(*file_, 0, data)), Code::kOk);
  ASSERT_EQ(CodeOf(WriteText(*file_, far, data)), Code::kOk);
  g_call_count = 0;
  g_script = {{.error = EOPNOTSUPP}};
  ASSERT_EQ(CodeOf(file_->PunchHole(100, far + 50'000)), Code::kOk);
  // The hole between the two pieces of data was not filled.
  EXPECT_LE(g_call_count, 10u);
  EXPECT_LE(file_->Info()->allocated_bytes, 1u << 20);
  EXPECT_EQ(file_->Info()->size, far + data.size());
  EXPECT_EQ(ReadText(*file_, 0, data.size()),
            std::string(100, 'x') + std::string(data.size() - 100, '\0'));
  EXPECT_EQ(ReadText(*file_, far, data.size()),
            std::string(50'100, '\0') + std::string(data.size() - 50'100, 'x'));
  // A range that ends behind the file does not extend it.
  g_script = {{.error = EOPNOTSUPP}};
  ASSERT_EQ(CodeOf(file_->PunchHole(far + 60'000, far)), Code::kOk);
  EXPECT_EQ(file_->Info()->size, far + data.size());
  EXPECT_EQ(ReadText(*file_, far + 59'999, 2), std::string("x\0", 2));
  g_script = {{.error = EOPNOTSUPP}, {.error = ENOSPC}};
  EXPECT_EQ(CodeOf(file_->PunchHole(0, 10)), Code::kNoSpace);
}

TEST_F(PosixSyscallTest, OtherPunchErrorsAreReported) {
  g_script = {{.error = EINTR}, {.error = EIO}};
  EXPECT_EQ(CodeOf(file_->PunchHole(0, 10)), Code::kIo);
  EXPECT_EQ(ReadText(*file_, 0, 10), "0123456789");
}

}  // namespace
}  // namespace cairn
