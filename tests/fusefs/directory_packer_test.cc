#include "fusefs/directory_packer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>
#include <string>
#include <vector>

namespace cairn {
namespace {

struct Unpacked {
  std::string name;
  uint64_t inode = 0;
  uint64_t offset = 0;
  uint32_t type = 0;
  fuse_entry_out entry{};
};

// What the kernel does with an answer.
std::vector<Unpacked> Unpack(std::span<const std::byte> packed, bool plus) {
  std::vector<Unpacked> entries;
  while (!packed.empty()) {
    Unpacked one;
    size_t at = 0;
    if (plus) {
      std::memcpy(&one.entry, packed.data(), sizeof(one.entry));
      at = sizeof(one.entry);
    }
    fuse_dirent head{};
    std::memcpy(&head, packed.data() + at, FUSE_NAME_OFFSET);
    one.inode = head.ino;
    one.offset = head.off;
    one.type = head.type;
    one.name.assign(reinterpret_cast<const char*>(packed.data()) + at + FUSE_NAME_OFFSET,
                    head.namelen);
    entries.push_back(one);
    packed = packed.subspan(FUSE_REC_ALIGN(at + FUSE_NAME_OFFSET + head.namelen));
  }
  return entries;
}

Attributes Volume(uint64_t inode) {
  Attributes attributes;
  attributes.inode = InodeId(inode);
  attributes.mode = 0600;
  return attributes;
}

TEST(DirectoryPacker, EntriesComeOutAsTheyWentIn) {
  std::vector<std::byte> buffer(4096, std::byte{0xAA});
  DirectoryPacker packer(buffer);
  const std::vector<std::string> names = {"a", "12345678", "x.img", std::string(255, 'n')};
  for (size_t i = 0; i < names.size(); ++i) {
    ASSERT_TRUE(packer.Add(names[i], InodeId(10 + i), FileKind::kVolume, 100 + i));
  }
  ASSERT_TRUE(packer.Add("dir", InodeId(20), FileKind::kDirectory, 200));
  const std::vector<Unpacked> entries = Unpack(packer.packed(), false);
  ASSERT_EQ(entries.size(), 5u);
  for (size_t i = 0; i < names.size(); ++i) {
    EXPECT_EQ(entries[i].name, names[i]);
    EXPECT_EQ(entries[i].inode, 10 + i);
    EXPECT_EQ(entries[i].offset, 100 + i);
    EXPECT_EQ(entries[i].type, unsigned{S_IFREG >> 12});
  }
  EXPECT_EQ(entries[4].type, unsigned{S_IFDIR >> 12});
}

TEST(DirectoryPacker, PaddingHoldsNothingOld) {
  std::vector<std::byte> buffer(64, std::byte{0xAA});
  DirectoryPacker packer(buffer);
  ASSERT_TRUE(packer.Add("a", InodeId(1), FileKind::kVolume, 1));
  for (size_t i = FUSE_NAME_OFFSET + 1; i < packer.size(); ++i) {
    EXPECT_EQ(packer.packed()[i], std::byte{0}) << i;
  }
}

TEST(DirectoryPacker, FillsToTheLastByteAndNoFurther) {
  const size_t record = FUSE_REC_ALIGN(FUSE_NAME_OFFSET + 8);
  std::vector<std::byte> buffer(2 * record);
  DirectoryPacker exact(buffer);
  EXPECT_TRUE(exact.Add("12345678", InodeId(1), FileKind::kVolume, 1));
  EXPECT_TRUE(exact.Add("12345678", InodeId(2), FileKind::kVolume, 2));
  EXPECT_EQ(exact.size(), buffer.size());
  EXPECT_FALSE(exact.Add("x", InodeId(3), FileKind::kVolume, 3));
  EXPECT_EQ(Unpack(exact.packed(), false).size(), 2u);

  const std::span<std::byte> whole(buffer);
  DirectoryPacker short_by_one(whole.first(2 * record - 1));
  EXPECT_TRUE(short_by_one.Add("12345678", InodeId(1), FileKind::kVolume, 1));
  EXPECT_FALSE(short_by_one.Add("12345678", InodeId(2), FileKind::kVolume, 2));
  EXPECT_EQ(short_by_one.size(), record);

  // The name fits, its padding does not.
  DirectoryPacker unpadded(whole.first(record - 1));
  EXPECT_FALSE(unpadded.Add("1234567", InodeId(1), FileKind::kVolume, 1));
}

TEST(DirectoryPacker, PlusCarriesAttributesButNotForDots) {
  std::vector<std::byte> buffer(4096);
  DirectoryPacker packer(buffer);
  ASSERT_TRUE(packer.AddPlusNameOnly(".", InodeId(1), FileKind::kDirectory, 1));
  ASSERT_TRUE(packer.AddPlus(kRootInode, "v.img", Volume(7), 9));
  const std::vector<Unpacked> entries = Unpack(packer.packed(), true);
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].name, ".");
  EXPECT_EQ(entries[0].inode, 1u);
  EXPECT_EQ(entries[0].entry.nodeid, 0u) << "the kernel must not count a lookup of it";
  EXPECT_EQ(entries[1].name, "v.img");
  EXPECT_EQ(entries[1].inode, 7u);
  EXPECT_EQ(entries[1].entry.nodeid, 7u);
  EXPECT_EQ(entries[1].entry.attr.mode, unsigned{S_IFREG | 0600});
}

TEST(DirectoryOffset, LeavesRoomForTheDots) {
  EXPECT_EQ(DirectoryOffset::FromCookie(0), DirectoryOffset::kBehindDotDot);
  for (const uint64_t cookie : {1ull, 2ull, 1ull << 62}) {
    EXPECT_GT(DirectoryOffset::FromCookie(cookie), DirectoryOffset::kBehindDotDot);
    EXPECT_EQ(DirectoryOffset::ToCookie(DirectoryOffset::FromCookie(cookie)), cookie);
  }
}

}  // namespace
}  // namespace cairn
