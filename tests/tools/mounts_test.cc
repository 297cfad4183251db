#include "tools/cairn/mounts.h"

#include <gtest/gtest.h>

namespace cairn::cli {
namespace {

TEST(Mounts, ParsesTheKernelsTable) {
  const auto mounts = ParseMountInfo(
      "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
      "40 22 0:50 / /mnt/a\\040b rw shared:7 master:3 - fuse.cairnfs /var/lib/the\\134store rw\n"
      "41 22 0:51 / /mnt/c rw - fuse.other src rw\n");
  ASSERT_EQ(mounts.size(), 3u);
  EXPECT_EQ(mounts[0].mountpoint, "/");
  EXPECT_FALSE(mounts[0].is_cairn());
  EXPECT_EQ(mounts[1].mountpoint, "/mnt/a b");
  EXPECT_EQ(mounts[1].source, "/var/lib/the\\store");
  EXPECT_TRUE(mounts[1].is_cairn());
  EXPECT_FALSE(mounts[2].is_cairn());
}

TEST(Mounts, PassesOverWhatIsNoLineOfTheTable) {
  EXPECT_TRUE(ParseMountInfo("").empty());
  EXPECT_TRUE(ParseMountInfo("\n\n-\n- - -\n1 2 3 4 5 6 - fuse\n1 2 3 - a b c\n").empty());
  EXPECT_EQ(ParseMountInfo("1 2 3 4 5\\04 6 - a b c").front().mountpoint, "5\\04");
}

TEST(Mounts, TheRootIsAMountAndContainsEverything) {
  EXPECT_TRUE(MountAt("/").has_value());
  EXPECT_TRUE(MountContaining("/no/such/place").has_value());
  EXPECT_FALSE(MountAt("/no/such/place").has_value());
}

TEST(Mounts, AbsolutePaths) {
  EXPECT_EQ(AbsolutePath("/"), "/");
  EXPECT_EQ(AbsolutePath("//"), "/");
  EXPECT_EQ(AbsolutePath("/proc/"), "/proc");
  EXPECT_EQ(AbsolutePath("/proc/../no-such-name"), "/no-such-name");
  EXPECT_EQ(AbsolutePath("/no-such-name/"), "/no-such-name");
}

}  // namespace
}  // namespace cairn::cli
