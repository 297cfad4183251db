// The superblock and the mark of a clean close: intact, damaged, and of another program.
#include "src/warm/superblock.h"

#include <gtest/gtest.h>

#include "src/env/memory_env.h"
#include "src/warm/clean_mark.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

const std::string kPath = "/superblock";

Superblock Sample() {
  Superblock superblock = NewSuperblock(-1234567890123456789);
  superblock.compatible_features = 0x8000000000000001;
  superblock.formatting = true;
  return superblock;
}

TEST(Superblock, RoundTrips) {
  for (const bool formatting : {false, true}) {
    Superblock superblock = Sample();
    superblock.formatting = formatting;
    const std::string bytes = EncodeSuperblock(superblock);
    ASSERT_EQ(bytes.size(), 4096u);
    const auto back = DecodeSuperblock(bytes, kPath);
    ASSERT_TRUE(back.ok()) << back.status().ToString();
    EXPECT_EQ(back->version, kFormatVersion);
    EXPECT_EQ(back->compatible_features, superblock.compatible_features);
    EXPECT_EQ(back->read_only_features, 0u);
    EXPECT_EQ(back->incompatible_features, 0u);
    EXPECT_EQ(back->uuid, superblock.uuid);
    EXPECT_EQ(back->created_ns, superblock.created_ns);
    EXPECT_EQ(back->formatting, formatting);
  }
}

TEST(Superblock, FieldsLieWhereTheFormatSays) {
  Superblock superblock = Sample();
  const std::string bytes = EncodeSuperblock(superblock);
  EXPECT_EQ(bytes.substr(0, 27), std::string("Cairn store superblock\n\1\0\0\0", 27));
  EXPECT_EQ(bytes.substr(27, 8), std::string("\1\0\0\0\0\0\0\x80", 8));
  EXPECT_EQ(bytes.substr(51, 16), std::string(superblock.uuid.begin(), superblock.uuid.end()));
  EXPECT_EQ(bytes[75], 1);
  EXPECT_EQ(bytes.substr(76, 4016), std::string(4016, '\0'));
}

TEST(Superblock, EachFlippedByteIsCorrupt) {
  const std::string bytes = EncodeSuperblock(Sample());
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const char flip : {'\1', '\x80', '\xff'}) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      ASSERT_EQ(CodeOf(DecodeSuperblock(damaged, kPath)), Code::kCorrupt) << at;
    }
  }
}

TEST(Superblock, AnyOtherLengthIsCorruptAndNamesTheFile) {
  const std::string bytes = EncodeSuperblock(Sample());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto result = DecodeSuperblock(std::string_view(bytes).substr(0, size), kPath);
    ASSERT_EQ(CodeOf(result), Code::kCorrupt) << size;
    ASSERT_NE(result.status().context().find(kPath), std::string::npos);
  }
  EXPECT_EQ(CodeOf(DecodeSuperblock(bytes + '\0', kPath)), Code::kCorrupt);
}

TEST(Superblock, OtherVersionsAndUnknownIncompatibleFeaturesAreUnsupported) {
  for (const uint32_t version : {0u, kFormatVersion + 1, ~0u}) {
    Superblock superblock = Sample();
    superblock.version = version;
    EXPECT_EQ(CodeOf(DecodeSuperblock(EncodeSuperblock(superblock), kPath)), Code::kUnsupported);
  }
  for (int bit = 0; bit < 64; ++bit) {
    Superblock superblock = Sample();
    superblock.incompatible_features = uint64_t{1} << bit;
    const bool known = (superblock.incompatible_features & kKnownIncompatibleFeatures) != 0;
    EXPECT_EQ(CodeOf(DecodeSuperblock(EncodeSuperblock(superblock), kPath)),
              known ? Code::kOk : Code::kUnsupported);
  }
}

TEST(Superblock, ReadsFromAFile) {
  MemoryEnv env;
  EXPECT_EQ(CodeOf(ReadSuperblock(env, kPath)), Code::kNotFound);
  const std::string bytes = EncodeSuperblock(Sample());
  ASSERT_TRUE(env.WriteWholeDurably(kPath, bytes).ok());
  EXPECT_TRUE(ReadSuperblock(env, kPath).ok());
  ASSERT_TRUE(env.WriteWholeDurably(kPath, bytes + bytes + bytes).ok());
  EXPECT_FALSE(ReadSuperblock(env, kPath).ok());
}

TEST(Superblock, NewOnesDiffer) {
  const std::string text = NewSuperblock(0).UuidText();
  EXPECT_NE(text, NewSuperblock(0).UuidText());
  EXPECT_EQ(text.size(), 36u);
  EXPECT_EQ(text[14], '4');
}

class CleanMark : public ::testing::Test {
 protected:
  static constexpr const char* kMark = "/s/clean";

  void SetUp() override {
    ASSERT_TRUE(env_.CreateDir("/s").ok());
    ASSERT_TRUE(env_.CreateDir("/s/index").ok());
    ASSERT_TRUE(env_.SyncDir("/").ok());
    ASSERT_TRUE(env_.SyncDir("/s").ok());
    MakeDurableFile(env_, "/s/index", "CURRENT", "MANIFEST-000004\n");
    MakeDurableFile(env_, "/s/index", "MANIFEST-000004", std::string(3000, 'm'));
    MakeDurableFile(env_, "/s/index", "000005.log", std::string(70000, 'l'));
    MakeDurableFile(env_, "/s/index", "000003.ldb", "a table");
    ASSERT_TRUE(WriteCleanMark(env_, "/s/index", kMark).ok());
  }

  // Checked, and the mark must then still be there.
  Status Check() {
    auto result = CheckAndRemoveCleanMark(env_, "/s/index", kMark);
    EXPECT_TRUE(result.ok() || env_.Exists(kMark));
    return std::move(result).status();
  }

  MemoryEnv env_;
};

TEST_F(CleanMark, IsSeenOnceAndNeverAgain) {
  const auto looked = CheckCleanMark(env_, "/s/index", kMark);
  ASSERT_TRUE(looked.ok());
  EXPECT_TRUE(*looked);
  const auto first = CheckAndRemoveCleanMark(env_, "/s/index", kMark);
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(*first);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    env_.PowerCut(seed);
    const auto again = CheckAndRemoveCleanMark(env_, "/s/index", kMark);
    ASSERT_TRUE(again.ok());
    EXPECT_FALSE(*again);
  }
}

TEST_F(CleanMark, SurvivesAPowerCut) {
  env_.PowerCut(7);
  EXPECT_TRUE(Check().ok());
}

TEST_F(CleanMark, EachFlippedByteOfACoveredFileIsCorruptAndNamed) {
  for (const std::string name : {"CURRENT", "MANIFEST-000004", "000005.log"}) {
    const std::string path = "/s/index/" + name;
    const uint64_t size = env_.Info(path)->size;
    for (uint64_t at = 0; at<size; at += size> 5000 ? 997 : 1) {
      ASSERT_TRUE(env_.FlipByte(path, at).ok());
      const Status status = Check();
      ASSERT_EQ(status.code(), Code::kCorrupt) << path << " " << at;
      ASSERT_NE(status.context().find(path), std::string::npos) << status.ToString();
      ASSERT_TRUE(env_.FlipByte(path, at).ok());
    }
  }
  EXPECT_TRUE(Check().ok());
}

TEST_F(CleanMark, ShorterAbsentAndAdditionalFilesAreCorrupt) {
  ASSERT_TRUE(env_.TruncateBehindBack("/s/index/000005.log", 69999).ok());
  const Status shorter = Check();
  EXPECT_EQ(shorter.code(), Code::kCorrupt);
  EXPECT_NE(shorter.context().find("000005.log"), std::string::npos);
  ASSERT_TRUE(env_.RemoveBehindBack("/s/index/000005.log").ok());
  const Status absent = Check();
  EXPECT_EQ(absent.code(), Code::kCorrupt);
  EXPECT_NE(absent.context().find("000005.log"), std::string::npos);
  MakeDurableFile(env_, "/s/index", "000005.log", std::string(70000, 'l'));
  MakeDurableFile(env_, "/s/index", "000006.log", "");
  EXPECT_EQ(Check().code(), Code::kCorrupt);
  ASSERT_TRUE(env_.RemoveBehindBack("/s/index/000006.log").ok());
  EXPECT_TRUE(Check().ok());
}

TEST_F(CleanMark, TablesAreNotCovered) {
  ASSERT_TRUE(env_.FlipByte("/s/index/000003.ldb", 0).ok());
  EXPECT_TRUE(Check().ok());
}

TEST_F(CleanMark, DamageToTheMarkIsCorrupt) {
  const std::string mark = *env_.ReadWhole(kMark, 1 << 20);
  for (uint64_t at = 0; at < mark.size(); ++at) {
    ASSERT_TRUE(env_.FlipByte(kMark, at).ok());
    ASSERT_EQ(Check().code(), Code::kCorrupt) << at;
    ASSERT_TRUE(env_.FlipByte(kMark, at).ok());
  }
  for (uint64_t size = 0; size < mark.size(); ++size) {
    ASSERT_TRUE(env_.WriteWholeDurably(kMark, mark.substr(0, size)).ok());
    ASSERT_EQ(Check().code(), Code::kCorrupt) << size;
  }
  ASSERT_TRUE(env_.WriteWholeDurably(kMark, mark + "x").ok());
  EXPECT_EQ(Check().code(), Code::kCorrupt);
}

}  // namespace
}  // namespace cairn
