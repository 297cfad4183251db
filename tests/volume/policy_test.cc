#include "src/volume/policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "src/volume/policy_values.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

void ExpectTaken(std::string_view name, const std::vector<std::string>& values) {
  for (const std::string& value : values) {
    EXPECT_TRUE(ValidatePolicy(name, value).ok())
        << name << "=" << value << ": " << ValidatePolicy(name, value).ToString();
  }
}

void ExpectRefused(std::string_view name, const std::vector<std::string>& values) {
  for (const std::string& value : values) {
    const Status status = ValidatePolicy(name, value);
    EXPECT_EQ(status.code(), Code::kInvalid) << name << "=" << value;
    EXPECT_THAT(status.context(), HasSubstr(std::string(name))) << value;
  }
}

const std::vector<std::string> kNoWords = {
    "",    "two words",         "a/b", "a,b", "a=b", "\xc3\xa4", std::string("a\0b", 3),
    "a\n", std::string(65, 'a')};

TEST(Policy, RoleIsAWord) {
  ExpectTaken("user.cairn.role", {"boot", "data", "A-z_0.9", "-", "0", std::string(64, 'a')});
  ExpectRefused("user.cairn.role", kNoWords);
}

TEST(Policy, EncryptIsAKeyId) {
  ExpectTaken("user.cairn.encrypt", {"k1", "team-a.2024", std::string(64, 'k')});
  ExpectRefused("user.cairn.encrypt", kNoWords);
}

TEST(Policy, Tiering) {
  ExpectTaken(
      "user.cairn.tiering",
      {"none", "pin", "manual", "age=30d", "idle=7d", "warm-max=10G", "warm-max=0", "hits=3/7d",
       "snapshots", "age=30d,idle=7d,warm-max=10G,hits=3/7d,snapshots", "snapshots,age=0s"});
  ExpectRefused("user.cairn.tiering", {"",
                                       "nonsense",
                                       "None",
                                       "none,pin",
                                       "pin,age=30d",
                                       "age",
                                       "age=",
                                       "age=30",
                                       "age=-1d",
                                       "age=30d,",
                                       ",age=30d",
                                       "age=30d,,idle=7d",
                                       "age=30d,age=7d",
                                       "snapshots=1",
                                       "snapshots=",
                                       "snapshots,snapshots",
                                       "age =30d",
                                       " age=30d",
                                       "warm-max=10X",
                                       "hits=3",
                                       "hits=0/7d",
                                       "hits=3/0d",
                                       "hits=3/7",
                                       "Age=30d"});
}

TEST(Policy, ForwardingAndRecallAreOneWordOfAList) {
  ExpectTaken("user.cairn.forwarding", {"direct", "replicated", "indirect"});
  ExpectRefused("user.cairn.forwarding", {"", "Direct", "direct ", "direct,indirect", "promote"});
  ExpectTaken("user.cairn.recall", {"promote", "read-through", "refuse", "async"});
  ExpectRefused("user.cairn.recall", {"", "readthrough", "async\n", "direct", "refuse,async"});
}

TEST(Policy, Cold) {
  ExpectTaken("user.cairn.cold",
              {"compression=zstd:1", "compression=zstd:19", "compression=none", "store=main",
               "pack=16M", "window=22:00-06:00", "rate=50M", "retention=365d",
               "compression=zstd:3,store=a,pack=16M,window=22:00-06:00,rate=50M,retention=365d"});
  ExpectRefused(
      "user.cairn.cold",
      {"", "none", "compression", "compression=", "compression=zstd", "compression=zstd:0",
       "compression=zstd:20", "compression=zstd:3x", "compression=lz4", "store=", "store=a/b",
       "pack=0", "pack=big", "rate=0", "window=22-6", "window=22:00-22:00", "retention=1y",
       "pack=16M,pack=16M", "age=30d"});
}

TEST(Policy, MessagesNameTheValidValues) {
  const auto message = [](std::string_view name, std::string_view value) {
    return ValidatePolicy(name, value).context();
  };
  EXPECT_THAT(message("user.cairn.tiering", "nonsense"), HasSubstr("'nonsense'"));
  EXPECT_THAT(message("user.cairn.tiering", "nonsense"), HasSubstr("none, pin, manual"));
  EXPECT_THAT(message("user.cairn.tiering", "age=3"), HasSubstr("age: '3' is not a duration"));
  EXPECT_THAT(message("user.cairn.forwarding", "x"), HasSubstr("direct, replicated, indirect"));
  EXPECT_THAT(message("user.cairn.recall", "x"), HasSubstr("promote, read-through, refuse, async"));
  EXPECT_THAT(message("user.cairn.cold", "compression=x"), HasSubstr("zstd:1 to zstd:19 or none"));
  EXPECT_THAT(message("user.cairn.cold", "x"), HasSubstr("retention=365d"));
  EXPECT_THAT(message("user.cairn.role", ""), HasSubstr("A-Z a-z 0-9"));
}

TEST(Policy, ANameThatIsNoPolicyIsRefused) {
  for (const char* name : {"user.cairn.rol", "user.cairn.status", "user.cairn.push", "user.role"}) {
    const Status status = ValidatePolicy(name, "data");
    EXPECT_EQ(status.code(), Code::kInvalid) << name;
    EXPECT_THAT(status.context(), HasSubstr("user.cairn.tiering")) << name;
  }
}

TEST(Policy, Classes) {
  const std::vector<std::pair<const char*, XattrClass>> names = {
      {"user.cairn.role", XattrClass::kPolicy},
      {"user.cairn.tiering", XattrClass::kPolicy},
      {"user.cairn.forwarding", XattrClass::kPolicy},
      {"user.cairn.recall", XattrClass::kPolicy},
      {"user.cairn.cold", XattrClass::kPolicy},
      {"user.cairn.encrypt", XattrClass::kPolicy},
      {"user.cairn.snapshot", XattrClass::kTrigger},
      {"user.cairn.clone", XattrClass::kTrigger},
      {"user.cairn.push", XattrClass::kTrigger},
      {"user.cairn.pull", XattrClass::kTrigger},
      {"user.cairn.status", XattrClass::kState},
      {"user.cairn.error", XattrClass::kState},
      {"user.cairn.", XattrClass::kUnknownCairn},
      {"user.cairn.Role", XattrClass::kUnknownCairn},
      {"user.cairn.role2", XattrClass::kUnknownCairn},
      {"user.cairn", XattrClass::kUser},
      {"user.cairnfs.role", XattrClass::kUser},
      {"user.comment", XattrClass::kUser},
      {"user.", XattrClass::kForeign},
      {"user", XattrClass::kForeign},
      {"", XattrClass::kForeign},
      {"USER.comment", XattrClass::kForeign},
      {"security.selinux", XattrClass::kForeign},
      {"system.posix_acl_access", XattrClass::kForeign},
      {"trusted.cairn.role", XattrClass::kForeign}};
  for (const auto& [name, expected] : names) EXPECT_EQ(ClassifyXattr(name), expected) << name;
  for (const std::string_view name : PolicyAttributes()) {
    EXPECT_EQ(ClassifyXattr(name), XattrClass::kPolicy) << name;
  }
  EXPECT_EQ(PolicyAttributes().size(), 6u);
}

TEST(PolicyValues, Durations) {
  EXPECT_EQ(ParseDuration("30d")->count(), 30 * 86400);
  EXPECT_EQ(ParseDuration("12h")->count(), 12 * 3600);
  EXPECT_EQ(ParseDuration("90m")->count(), 90 * 60);
  EXPECT_EQ(ParseDuration("10s")->count(), 10);
  EXPECT_EQ(ParseDuration("0s")->count(), 0);
  for (const char* bad : {"", "d", "10", "10D", "10ms", "1.5h", "-1d", "+1d", " 1d", "1d ", "1d2h",
                          "0x1d", "999999999999999999999d", "213503982334602d"}) {
    EXPECT_EQ(ParseDuration(bad).status().code(), Code::kInvalid) << bad;
  }
}

TEST(PolicyValues, ByteCounts) {
  EXPECT_EQ(*ParseByteCount("0"), 0u);
  EXPECT_EQ(*ParseByteCount("4096"), 4096u);
  EXPECT_EQ(*ParseByteCount("4K"), 4096u);
  EXPECT_EQ(*ParseByteCount("16M"), 16ull << 20);
  EXPECT_EQ(*ParseByteCount("10G"), 10ull << 30);
  EXPECT_EQ(*ParseByteCount("2T"), 2ull << 40);
  EXPECT_EQ(*ParseByteCount("9223372036854775807"), 9223372036854775807ull);
  for (const char* bad :
       {"", "K", "4k", "4KB", "4KiB", "1.5G", "-1", "+1", " 1", "1 ", "1 K", "9223372036854775808",
        "9007199254740992K", "8388608T", "99999999999999999999999"}) {
    EXPECT_EQ(ParseByteCount(bad).status().code(), Code::kInvalid) << bad;
  }
  EXPECT_EQ(*ParseByteCount("8388607T"), 8388607ull << 40);
}

TEST(PolicyValues, Rates) {
  EXPECT_EQ(*ParseRate("50M"), 50ull << 20);
  EXPECT_EQ(*ParseRate("50M/s"), 50ull << 20);
  for (const char* bad : {"", "0", "0M", "/s", "50M/h", "50M/s/s"}) {
    EXPECT_EQ(ParseRate(bad).status().code(), Code::kInvalid) << bad;
  }
}

TEST(PolicyValues, DayWindows) {
  const auto night = ParseDayWindow("22:00-06:30");
  ASSERT_TRUE(night.ok());
  EXPECT_EQ(night->begin_minute, 22 * 60);
  EXPECT_EQ(night->end_minute, 6 * 60 + 30);
  EXPECT_TRUE(ParseDayWindow("00:00-23:59").ok());
  for (const char* bad :
       {"", "22:00", "22:00-", "-06:00", "24:00-06:00", "22:60-06:00", "22:00-06:000", "2:00-06:00",
        "22.00-06.00", "22:00-22:00", "22:00 06:00", "+1:00-06:00"}) {
    EXPECT_EQ(ParseDayWindow(bad).status().code(), Code::kInvalid) << bad;
  }
}

TEST(PolicyValues, HitRates) {
  const auto rate = ParseHitRate("3/7d");
  ASSERT_TRUE(rate.ok());
  EXPECT_EQ(rate->hits, 3u);
  EXPECT_EQ(rate->period.count(), 7 * 86400);
  for (const char* bad : {"", "3", "/7d", "3/", "0/7d", "3/0s", "3/7", "3/7d/1", "-3/7d", "x/7d"}) {
    EXPECT_EQ(ParseHitRate(bad).status().code(), Code::kInvalid) << bad;
  }
}

TEST(PolicyValues, CompressionAndEveryLevel) {
  EXPECT_EQ(*ParseCompression("none"), 0);
  for (int level = 1; level <= 19; ++level) {
    EXPECT_EQ(*ParseCompression("zstd:" + std::to_string(level)), level);
  }
  for (const char* bad : {"", "zstd", "zstd:", "zstd:0", "zstd:20", "zstd:-1", "ZSTD:3", "gzip"}) {
    EXPECT_EQ(ParseCompression(bad).status().code(), Code::kInvalid) << bad;
  }
}

TEST(PolicyValues, ListsKeepEmptyPartsAndTellNoValueFromAnEmptyOne) {
  const auto items = SplitList("a=1,b,,c=,d=x=y");
  ASSERT_EQ(items.size(), 5u);
  EXPECT_EQ(items[0].name, "a");
  EXPECT_EQ(items[0].value, "1");
  EXPECT_TRUE(items[0].has_value);
  EXPECT_EQ(items[1].name, "b");
  EXPECT_FALSE(items[1].has_value);
  EXPECT_EQ(items[2].name, "");
  EXPECT_TRUE(items[3].has_value);
  EXPECT_EQ(items[3].value, "");
  EXPECT_EQ(items[4].value, "x=y");
  EXPECT_EQ(SplitList("").size(), 1u);
}

}  // namespace
}  // namespace cairn
