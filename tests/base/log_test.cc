#include "src/base/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmath>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace cairn {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::SizeIs;

class LogTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "/cairn-log-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/log";
  }
  void TearDown() override {
    LogToStderr();
    SetLogLevel(LogLevel::kInfo);
    std::filesystem::remove_all(directory_);
  }
  static std::vector<std::string> Lines(const std::string& path) {
    std::ifstream in(path);
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) lines.push_back(line);
    return lines;
  }
  std::string directory_;
  std::string path_;
};

TEST_F(LogTest, BeforeAnyLogToTheLineGoesToStderr) {
  testing::internal::CaptureStderr();
  LogInfo("number {} of {}", 1, "two");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(" I "));
}

TEST_F(LogTest, ALineHasUtcTimeLevelPidAndMessage) {
  ASSERT_EQ(setenv("TZ", "Asia/Tokyo", 1), 0);
  tzset();
  LogTo(path_);
  const std::time_t before = std::time(nullptr);
  LogInfo("number {} of {}", 1, "two");
  unsetenv("TZ");
  tzset();
  const auto lines = Lines(path_);
  ASSERT_THAT(lines, SizeIs(1));
  const std::string tail = "Z I " + std::to_string(getpid()) + " number 1 of two";
  EXPECT_THAT(lines[0], MatchesRegex("....-..-..T..:..:..\\.[0-9][0-9][0-9]" + tail));
  std::tm parsed{};
  ASSERT_NE(strptime(lines[0].c_str(), "%Y-%m-%dT%H:%M:%S", &parsed), nullptr);
  // Nine hours off if it were local time.
  EXPECT_LT(std::abs(timegm(&parsed) - before), 3600);
}

TEST_F(LogTest, EveryLevelHasItsLetterAndTheThresholdHolds) {
  LogTo(path_);
  LogDebug("not shown");
  SetLogLevel(LogLevel::kDebug);
  LogDebug("d");
  LogInfo("i");
  LogWarn("w");
  LogError("e");
  SetLogLevel(LogLevel::kError);
  Log(LogLevel::kWarning, "not shown");
  LogWarn("not shown");
  const auto lines = Lines(path_);
  ASSERT_THAT(lines, SizeIs(4));
  EXPECT_THAT(lines[0], HasSubstr(" D "));
  EXPECT_THAT(lines[1], HasSubstr(" I "));
  EXPECT_THAT(lines[2], HasSubstr(" W "));
  EXPECT_THAT(lines[3], HasSubstr(" E "));
}

TEST_F(LogTest, AMessageCannotForgeALine) {
  LogTo(path_);
  Log(LogLevel::kInfo, "name\n2024-01-01T00:00:00.000Z E 1 forged\x1b[31m \xc3\xa9");
  const auto lines = Lines(path_);
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0],
              HasSubstr("name\\x0a2024-01-01T00:00:00.000Z E 1 forged\\x1b[31m \xc3\xa9"));
}

TEST_F(LogTest, BracesInAPlainMessageAreText) {
  LogTo(path_);
  Log(LogLevel::kInfo, "{} {0:x} %n");
  EXPECT_THAT(Lines(path_).at(0), HasSubstr("{} {0:x} %n"));
}

TEST_F(LogTest, LinesOfManyThreadsStayWhole) {
  LogTo(path_);
  constexpr int kThreads = 4;
  constexpr int kLines = 300;
  std::vector<std::jthread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([this, thread] {
      for (int i = 0; i < kLines; ++i) {
        LogInfo("<{}-{}>", thread, i);
        if (i % 50 == 0) LogTo(path_);
      }
    });
  }
  threads.clear();
  std::set<std::string> messages;
  for (const std::string& line : Lines(path_)) {
    ASSERT_THAT(line, MatchesRegex("[^ ]+Z I [0-9]+ <[0-9]+-[0-9]+>"));
    messages.insert(line.substr(line.find('<')));
  }
  EXPECT_THAT(messages, SizeIs(kThreads * kLines));
}

TEST_F(LogTest, ReopeningFollowsARotation) {
  LogTo(path_);
  LogInfo("old");
  std::filesystem::rename(path_, path_ + ".1");
  LogTo(path_);
  LogInfo("new");
  EXPECT_THAT(Lines(path_ + ".1"), SizeIs(1));
  EXPECT_THAT(Lines(path_), SizeIs(1));
}

TEST_F(LogTest, AFileThatCannotBeOpenedIsReportedOnStderr) {
  LogTo(path_);
  testing::internal::CaptureStderr();
  LogTo(directory_ + "/absent/log");
  LogInfo("goes on");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_THAT(text, HasSubstr("/absent/log: No such file or directory"));
  EXPECT_THAT(text, HasSubstr("goes on"));
}

TEST_F(LogTest, ALineThatCannotBeWrittenIsLostSilently) {
  LogTo("/dev/full");
  LogError("lost");
}

TEST_F(LogTest, ChildProcessesDoNotInheritTheFile) {
  LogTo(path_);
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code error;
    if (std::filesystem::read_symlink(entry.path(), error) != path_) continue;
    EXPECT_NE(fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC, 0);
    return;
  }
  FAIL() << "the log is not open";
}

struct Unprintable {
  bool really = true;
};

}  // namespace
}  // namespace cairn

template <>
struct fmt::formatter<cairn::Unprintable> : fmt::formatter<int> {
  template <typename Context>
  auto format(const cairn::Unprintable& value, Context& context) const -> decltype(context.out()) {
    if (value.really) throw std::runtime_error("no");
    return context.out();
  }
};

namespace cairn {
namespace {

TEST_F(LogTest, AFormatterThatThrowsLeavesTheFormatInTheLog) {
  LogTo(path_);
  LogInfo("value {}", Unprintable{});
  EXPECT_THAT(Lines(path_).at(0), HasSubstr("value {}"));
}

}  // namespace
}  // namespace cairn
