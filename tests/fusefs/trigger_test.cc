#include "fusefs/trigger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fusefs/caller_rights.h"
#include "fusefs/ioctl_call.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(SnapshotTrigger, TakesANameAndFilters) {
  auto trigger = ParseSnapshotTrigger("monday");
  ASSERT_TRUE(trigger.ok());
  EXPECT_EQ(trigger->name, "monday");
  EXPECT_THAT(trigger->exclude_globs, IsEmpty());
  trigger = ParseSnapshotTrigger("m,exclude-role=boot,exclude=*.tmp,exclude=a=b,exclude-role=x");
  ASSERT_TRUE(trigger.ok());
  EXPECT_EQ(trigger->name, "m");
  EXPECT_THAT(trigger->exclude_globs, ElementsAre("*.tmp", "a=b"));
  EXPECT_THAT(trigger->exclude_roles, ElementsAre("boot", "x"));
}

TEST(SnapshotTrigger, RefusesWhatItWouldOnlyGuessAt) {
  using namespace std::string_view_literals;
  for (const auto value : {""sv, ",exclude=a"sv, "m,"sv, "m,exclude"sv, "m,exclude="sv,
                           "m,role=boot"sv, "m,exclude=a,,exclude=b"sv, "m\0n"sv}) {
    const auto trigger = ParseSnapshotTrigger(value);
    ASSERT_FALSE(trigger.ok()) << value;
    EXPECT_EQ(trigger.status().code(), Code::kInvalid);
    EXPECT_THAT(trigger.status().context(), HasSubstr("exclude-role=ROLE")) << value;
  }
}

TEST(CloneTrigger, TakesAPath) {
  const auto trigger = ParseCloneTrigger("to=../a,b=c");
  ASSERT_TRUE(trigger.ok());
  EXPECT_EQ(trigger->to, "../a,b=c");
  using namespace std::string_view_literals;
  for (const auto value : {""sv, "to"sv, "to="sv, "vm2"sv, "to=a\0b"sv}) {
    EXPECT_FALSE(ParseCloneTrigger(value).ok()) << value;
  }
  EXPECT_EQ(ParseCloneTrigger("to=vm2,key=k1").status().code(), Code::kUnsupported);
}

TEST(TargetPath, IsFromTheRootTheMountpointOrTheSource) {
  auto path = ParseTargetPath("vm2", "/mnt/c");
  ASSERT_TRUE(path.ok());
  EXPECT_FALSE(path->from_root);
  EXPECT_THAT(path->directories, IsEmpty());
  EXPECT_EQ(path->name, "vm2");
  path = ParseTargetPath("./a//../b/c/", "/mnt/c");
  ASSERT_TRUE(path.ok());
  EXPECT_THAT(path->directories, ElementsAre("a", "..", "b"));
  EXPECT_EQ(path->name, "c");
  path = ParseTargetPath("/vm2/x", "/mnt/c");
  ASSERT_TRUE(path.ok());
  EXPECT_TRUE(path->from_root);
  EXPECT_THAT(path->directories, ElementsAre("vm2"));
  path = ParseTargetPath("/mnt/c/vm2/x", "/mnt/c");
  ASSERT_TRUE(path.ok());
  EXPECT_TRUE(path->from_root);
  EXPECT_THAT(path->directories, ElementsAre("vm2"));
  EXPECT_EQ(path->name, "x");
  path = ParseTargetPath("/mnt/cx/y", "/mnt/c");  // only begins like it
  ASSERT_TRUE(path.ok());
  EXPECT_THAT(path->directories, ElementsAre("mnt", "cx"));
  for (const char* bad : {"/", ".", "..", "a/..", "/mnt/c/", "//"}) {
    EXPECT_FALSE(ParseTargetPath(bad, "/mnt/c").ok()) << bad;
  }
}

TEST(IoctlTexts, EndWithinTheirFields) {
  char field[4] = {'a', 'b', 'c', 'd'};
  EXPECT_FALSE(TakeIoctlText("it", field).ok());
  field[3] = '\0';
  EXPECT_EQ(*TakeIoctlText("it", field), "abc");
  PutIoctlText("longer", field);
  EXPECT_STREQ(field, "lon");
}

TEST(IoctlLists, EndWithAnEmptyText) {
  const char list[] = "a\0bc\0\0rest";
  EXPECT_THAT(*TakeIoctlList("they", list, sizeof(list)), ElementsAre("a", "bc"));
  EXPECT_THAT(*TakeIoctlList("they", list + 4, 1), IsEmpty());
  EXPECT_FALSE(TakeIoctlList("they", list, 5).ok()) << "no room for the end";
  EXPECT_FALSE(TakeIoctlList("they", list, 4).ok()) << "a text is cut off";
}

TEST(ModeAllows, AsTheKernelReadsModes) {
  Attributes file;
  file.uid = 10;
  file.gid = 20;
  const Caller owner{.uid = 10, .gid = 99};
  const Caller group{.uid = 11, .gid = 20};
  const Caller member{.uid = 11, .gid = 99, .groups = {7, 20}};
  const Caller other{.uid = 11, .gid = 99, .groups = {7}};
  const Caller root{.uid = 0, .gid = 0};
  file.mode = 0640;
  EXPECT_TRUE(ModeAllows(owner, file, 6));
  for (const Caller& each : {group, member}) {
    EXPECT_TRUE(ModeAllows(each, file, 4));
    EXPECT_FALSE(ModeAllows(each, file, 2));
    EXPECT_FALSE(ModeAllows(each, file, 6));
  }
  EXPECT_FALSE(ModeAllows(other, file, 4));
  // The first class that fits decides, even when a later one would allow more.
  file.mode = 0077;
  EXPECT_FALSE(ModeAllows(owner, file, 4));
  file.mode = 0707;
  EXPECT_FALSE(ModeAllows(member, file, 1));
  EXPECT_TRUE(ModeAllows(other, file, 7));
  file.mode = 0;
  EXPECT_TRUE(ModeAllows(root, file, 7));
}

}  // namespace
}  // namespace cairn
