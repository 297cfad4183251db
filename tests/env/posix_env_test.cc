// What only the implementation over system calls can get wrong.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "src/base/unique_fd.h"
#include "src/env/env.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

class PosixEnvTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = (std::filesystem::temp_directory_path() / "cairn-env-XXXXXX").string();
    ASSERT_NE(::mkdtemp(root_.data()), nullptr);
  }
  void TearDown() override {
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  std::string Path(const std::string& name) const { return root_ + "/" + name; }
  static mode_t ModeOf(const std::string& path) {
    struct stat st {};
    EXPECT_EQ(::stat(path.c_str(), &st), 0);
    return st.st_mode & 07777;
  }
  // The descriptors of this process that refer to `path`.
  static std::vector<int> DescriptorsOf(const std::string& path) {
    std::vector<int> found;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      if (std::filesystem::read_symlink(entry.path(), error) == path) {
        found.push_back(std::stoi(entry.path().filename()));
      }
    }
    return found;
  }

  std::unique_ptr<Env> env_ = NewPosixEnv();
  std::string root_;
};

TEST_F(PosixEnvTest, WhatItCreatesIsPrivate) {
  MustOpen(*env_, Path("file"));
  ASSERT_EQ(CodeOf(env_->CreateDir(Path("dir"))), Code::kOk);
  ASSERT_EQ(CodeOf(env_->Lock(Path("lock"))), Code::kOk);
  EXPECT_EQ(ModeOf(Path("file")) & 0077, 0u);
  EXPECT_EQ(ModeOf(Path("file")), 0600u);
  EXPECT_EQ(ModeOf(Path("dir")), 0700u);
  EXPECT_EQ(ModeOf(Path("lock")), 0600u);
}

TEST_F(PosixEnvTest, DescriptorsAreNotInheritedAndDoNotLeak) {
  {
    const auto file = MustOpen(*env_, Path("file"));
    const auto lock = env_->Lock(Path("lock"));
    for (const char* name : {"file", "lock"}) {
      const std::vector<int> fds = DescriptorsOf(Path(name));
      ASSERT_EQ(fds.size(), 1u) << name;
      EXPECT_EQ(::fcntl(fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC) << name;
    }
    EXPECT_EQ(CodeOf(env_->Lock(Path("lock"))), Code::kBusy);
    EXPECT_EQ(DescriptorsOf(Path("lock")).size(), 1u);
  }
  EXPECT_EQ(CodeOf(env_->SyncDir(root_)), Code::kOk);
  EXPECT_EQ(CodeOf(env_->List(root_)), Code::kOk);
  EXPECT_EQ(CodeOf(env_->Open(root_, OpenMode::kReadOnly)), Code::kIsDirectory);
  for (const std::string& path : {Path("file"), Path("lock"), root_}) {
    EXPECT_TRUE(DescriptorsOf(path).empty()) << path;
  }
}

TEST_F(PosixEnvTest, ReadingDoesNotTouchTheAccessTime) {
  const std::string path = Path("file");
  MakeFile(*env_, path, "data");
  // Older than the last change, so that every mount but one with `noatime` would renew it.
  const timespec times[] = {{1, 0}, {0, UTIME_OMIT}};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  ASSERT_EQ(ReadText(*MustOpen(*env_, path), 0, 4), "data");
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_atim.tv_sec, 1);
}

TEST_F(PosixEnvTest, FilesOfATmpfsHaveNoDevice) {
  struct statfs info {};
  ASSERT_EQ(::statfs(root_.c_str(), &info), 0);
  EXPECT_EQ(MustOpen(*env_, Path("file"))->has_device(), info.f_type != TMPFS_MAGIC);
  if (::statfs("/dev/shm", &info) != 0 || info.f_type != TMPFS_MAGIC) {
    GTEST_SKIP() << "/dev/shm is no tmpfs";
  }
  std::string folder = "/dev/shm/cairn-env-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  EXPECT_FALSE(MustOpen(*env_, folder + "/file")->has_device());
  std::filesystem::remove_all(folder);
}

// Which knows no FIEMAP, and calls pages that were reserved and not written holes.
TEST_F(PosixEnvTest, WhatIsReservedOnATmpfsCountsAsAllocated) {
  struct statfs info {};
  if (::statfs("/dev/shm", &info) != 0 || info.f_type != TMPFS_MAGIC) {
    GTEST_SKIP() << "/dev/shm is no tmpfs";
  }
  std::string folder = "/dev/shm/cairn-env-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const auto file = MustOpen(*env_, folder + "/file");
  EXPECT_EQ(CodeOf(file->Truncate(256 << 10)), Code::kOk);
  EXPECT_EQ(CodeOf(WriteText(*file, 100 << 10, "data")), Code::kOk);
  EXPECT_EQ(CodeOf(file->Allocate(64 << 10, 64 << 10)), Code::kOk);
  EXPECT_EQ(*file->AllocatedIn(0, 256 << 10), 64u << 10);
  EXPECT_EQ(*file->AllocatedIn(64 << 10, 64 << 10), 64u << 10);
  EXPECT_EQ(ReadText(*file, 100 << 10, 5), std::string("data\0", 5));
  std::filesystem::remove_all(folder);
}

TEST_F(PosixEnvTest, OpensWhatAnotherUserOwns) {
  const std::string path = Path("file");
  MustOpen(*env_, path);
  ASSERT_EQ(::chmod(path.c_str(), 0666), 0);
  ASSERT_EQ(::chmod(root_.c_str(), 0755), 0);
  bool is_another = false;
  Code read_only = Code::kInternal;
  Code read_write = Code::kInternal;
  // Of this thread alone; root's capabilities for files go with it.
  std::thread([&] {
    ::setfsuid(65534);
    const UniqueFd owners_only(::open(path.c_str(), O_RDONLY | O_NOATIME | O_CLOEXEC));
    is_another = !owners_only.valid() && errno == EPERM;
    read_only = CodeOf(env_->Open(path, OpenMode::kReadOnly));
    read_write = CodeOf(env_->Open(path, OpenMode::kReadWrite));
  }).join();
  if (!is_another) GTEST_SKIP() << "only root can become another user";
  EXPECT_EQ(read_only, Code::kOk);
  EXPECT_EQ(read_write, Code::kOk);
}

TEST_F(PosixEnvTest, OpensRegularFilesOnly) {
  EXPECT_EQ(CodeOf(env_->Open("/dev/null", OpenMode::kReadOnly)), Code::kInvalid);
}

TEST_F(PosixEnvTest, LockDiesWithItsProcess) {
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const UniqueFd read_end(ready[0]);
  UniqueFd write_end(ready[1]);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Only system calls between fork and exit: the parent may have had threads.
    const int fd = ::open(Path("lock").c_str(), O_RDWR | O_CREAT, 0600);
    const bool locked = fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0;
    const char answer = locked ? 'y' : 'n';
    if (::write(write_end.get(), &answer, 1) != 1) ::_exit(1);
    ::pause();
    ::_exit(0);
  }
  char answer = 0;
  EXPECT_EQ(::read(read_end.get(), &answer, 1), 1);
  EXPECT_EQ(answer, 'y');
  EXPECT_EQ(CodeOf(env_->Lock(Path("lock"))), Code::kBusy);
  EXPECT_EQ(::kill(child, SIGKILL), 0);
  int exit_status = 0;
  EXPECT_EQ(::waitpid(child, &exit_status, 0), child);
  EXPECT_EQ(CodeOf(env_->Lock(Path("lock"))), Code::kOk);
}

}  // namespace
}  // namespace cairn
