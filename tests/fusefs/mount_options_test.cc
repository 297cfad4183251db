#include "fusefs/mount_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn {
namespace {

using ::testing::HasSubstr;

MountOptions Parsed(std::string_view text) {
  MountOptions options;
  const Status status = ParseMountOptions(text, options);
  EXPECT_TRUE(status.ok()) << text << ": " << status.ToString();
  return options;
}

std::string Refusal(std::string_view text) {
  MountOptions options;
  const Status status = ParseMountOptions(text, options);
  EXPECT_EQ(status.code(), Code::kInvalid) << text;
  return status.context();
}

TEST(MountOptions, Defaults) {
  const MountOptions options = Parsed("");
  EXPECT_FALSE(options.allow_other);
  EXPECT_FALSE(options.read_only);
  EXPECT_TRUE(options.replace_server);
  EXPECT_FALSE(options.core_dumps);
  EXPECT_EQ(options.watchdog, std::chrono::seconds(30));
  EXPECT_EQ(options.mount_flags, unsigned{MS_NOSUID | MS_NODEV});
  EXPECT_EQ(options.memory_bytes, 256u << 20);
  EXPECT_EQ(options.journal_bytes, 64u << 20);
  EXPECT_EQ(options.threads, 0);
  EXPECT_EQ(options.seal_after, std::chrono::seconds(60));
}

TEST(MountOptions, TakesCairnsOwn) {
  const MountOptions options = Parsed(
      "allow_other,ro,log=/var/log/x,threads=12,memory=1G,journal=2M,seal=0,"
      "no_replace,watchdog=5,core_dumps");
  EXPECT_TRUE(options.allow_other);
  EXPECT_TRUE(options.read_only);
  EXPECT_EQ(options.log, "/var/log/x");
  EXPECT_EQ(options.threads, 12);
  EXPECT_EQ(options.memory_bytes, 1u << 30);
  EXPECT_EQ(options.journal_bytes, 2u << 20);
  EXPECT_EQ(options.seal_after, std::chrono::seconds(0));
  EXPECT_FALSE(options.replace_server);
  EXPECT_EQ(options.watchdog, std::chrono::seconds(5));
  EXPECT_TRUE(options.core_dumps);
}

TEST(MountOptions, LastWordWins) {
  EXPECT_FALSE(Parsed("ro,rw").read_only);
  EXPECT_TRUE(Parsed("rw,ro").read_only);
  EXPECT_EQ(Parsed("noatime,atime").mount_flags & MS_NOATIME, 0u);
  EXPECT_NE(Parsed("atime,noatime").mount_flags & MS_NOATIME, 0u);
}

// What mount.fuse3 and systemd hand over for an fstab line.
TEST(MountOptions, PassesOverWhatIsForMount) {
  const MountOptions options = Parsed(
      "rw,suid,dev,exec,auto,noauto,user,users,nouser,_netdev,nofail,defaults,"
      "x-systemd.automount,x-gvfs-show,comment=hello,fsname=x,subtype=cairnfs,default_permissions");
  EXPECT_EQ(options.mount_flags, unsigned{MS_NOSUID | MS_NODEV}) << "set-id and devices stay off";
}

TEST(MountOptions, KeepsFlagsForTheKernel) {
  EXPECT_EQ(Parsed("noexec,nodiratime,dirsync,sync,relatime").mount_flags,
            unsigned{MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NODIRATIME | MS_DIRSYNC |
                     MS_SYNCHRONOUS | MS_RELATIME});
}

TEST(MountOptions, NamesWhatItRefuses) {
  EXPECT_THAT(Refusal("rw,alow_other"), HasSubstr("'alow_other'"));
  EXPECT_THAT(Refusal("cold=/x"), HasSubstr("cold"));
  EXPECT_THAT(Refusal("keyring=/x"), HasSubstr("keyring"));
  EXPECT_THAT(Refusal("threads=0"), HasSubstr("threads"));
  EXPECT_THAT(Refusal("threads=999"), HasSubstr("threads"));
  EXPECT_THAT(Refusal("threads=4x"), HasSubstr("threads"));
  EXPECT_THAT(Refusal("memory=1K"), HasSubstr("memory"));
  EXPECT_THAT(Refusal("memory="), HasSubstr("memory"));
  EXPECT_THAT(Refusal("journal=9999T"), HasSubstr("journal"));
  EXPECT_THAT(Refusal("seal=-1"), HasSubstr("seal"));
  EXPECT_THAT(Refusal("seal=1h"), HasSubstr("seal"));
  EXPECT_THAT(Refusal("watchdog=soon"), HasSubstr("watchdog"));
  EXPECT_THAT(Refusal("log="), HasSubstr("log"));
  EXPECT_THAT(Refusal("remount"), HasSubstr("remount"));
}

TEST(MountOptions, BackslashKeepsCommas) {
  EXPECT_EQ(Parsed(R"(log=/a\,b\\c,ro)").log, R"(/a,b\c)");
}

TEST(MountOptions, ServerArrivesAtTheSame) {
  MountOptions options = Parsed("ro,threads=3,memory=64M,journal=4M,seal=7,core_dumps");
  options.log = R"(/with,comma\and backslash)";
  const MountOptions again = Parsed(FormatServerOptions(options));
  EXPECT_EQ(again.read_only, options.read_only);
  EXPECT_EQ(again.threads, options.threads);
  EXPECT_EQ(again.memory_bytes, options.memory_bytes);
  EXPECT_EQ(again.journal_bytes, options.journal_bytes);
  EXPECT_EQ(again.seal_after, std::chrono::seconds(7));
  EXPECT_TRUE(again.core_dumps);
  EXPECT_EQ(again.log, options.log);
}

TEST(ParseSize, TakesUnitsAndRefusesTheRest) {
  EXPECT_EQ(*ParseSize("0"), 0u);
  EXPECT_EQ(*ParseSize("4096"), 4096u);
  EXPECT_EQ(*ParseSize("3K"), 3072u);
  EXPECT_EQ(*ParseSize("1T"), 1ull << 40);
  for (const char* bad :
       {"", "K", "-1", "1k", "1MB", "1 M", "18446744073709551616", "16777216T", "0x10"}) {
    EXPECT_EQ(ParseSize(bad).status().code(), Code::kInvalid) << bad;
  }
}

}  // namespace
}  // namespace cairn
