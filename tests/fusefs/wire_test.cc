#include "fusefs/wire.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "fusefs/rate_limit.h"

namespace cairn {
namespace {

Attributes SomeVolume() {
  Attributes attributes;
  attributes.inode = InodeId(4711);
  attributes.kind = FileKind::kVolume;
  attributes.mode = 0640;
  attributes.uid = 1;
  attributes.gid = 2;
  attributes.size = (64ull << 40) - 1;
  attributes.allocated_bytes = 4097;
  attributes.atime_ns = 1'500'000'000'123'456'789;
  attributes.mtime_ns = -1;
  attributes.ctime_ns = -1'000'000'000;
  return attributes;
}

TEST(Wire, AttributesOfAVolume) {
  const fuse_attr wire = ToWire(SomeVolume());
  EXPECT_EQ(wire.ino, 4711u);
  EXPECT_EQ(wire.mode, unsigned{S_IFREG | 0640});
  EXPECT_EQ(wire.nlink, 1u);
  EXPECT_EQ(wire.uid, 1u);
  EXPECT_EQ(wire.gid, 2u);
  EXPECT_EQ(wire.size, (64ull << 40) - 1);
  EXPECT_EQ(wire.blocks, 9u) << "a begun sector counts";
  EXPECT_EQ(wire.blksize, 4096u);
  EXPECT_EQ(wire.atime, 1'500'000'000u);
  EXPECT_EQ(wire.atimensec, 123'456'789u);
}

TEST(Wire, TimesBefore1970) {
  const fuse_attr wire = ToWire(SomeVolume());
  EXPECT_EQ(static_cast<int64_t>(wire.mtime), -1);
  EXPECT_EQ(wire.mtimensec, 999'999'999u);
  EXPECT_EQ(static_cast<int64_t>(wire.ctime), -1);
  EXPECT_EQ(wire.ctimensec, 0u);
}

TEST(Wire, ADirectoryAndStrayModeBits) {
  Attributes attributes = SomeVolume();
  attributes.kind = FileKind::kDirectory;
  attributes.link_count = 5;
  attributes.mode = S_IFREG | 01777;
  const fuse_attr wire = ToWire(attributes);
  EXPECT_EQ(wire.mode, unsigned{S_IFDIR | 01777});
  EXPECT_EQ(wire.nlink, 5u);
}

TEST(Wire, EntriesNameTheInode) {
  const fuse_entry_out entry = EntryReply(SomeVolume(), InodeId(5));
  EXPECT_EQ(entry.nodeid, 4711u);
  EXPECT_EQ(entry.attr.ino, 4711u);
  EXPECT_EQ(entry.generation, 0u);
  EXPECT_EQ(entry.entry_valid, kEntrySeconds);
  EXPECT_EQ(AttributeReply(SomeVolume()).attr_valid, kAttributeSeconds);
}

TEST(Wire, NamesOfSnapshotsAreAskedForEachTime) {
  EXPECT_EQ(EntryReply(SomeVolume(), kSnapshotsInode).entry_valid, 0u);
  EXPECT_EQ(EntryReply(SomeVolume(), kRootInode).entry_valid, kEntrySeconds);
}

TEST(Wire, OpenSaysWhatBecomesOfPages) {
  const fuse_open_out direct = OpenReply(HandleId(8), PageUse::kBypass);
  EXPECT_EQ(HandleOf(direct.fh), HandleId(8));
  EXPECT_TRUE(BypassesPages(direct.fh));
  EXPECT_EQ(HandleOf(OpenReply(HandleId(8), PageUse::kDrop).fh), HandleId(8));
  EXPECT_FALSE(BypassesPages(OpenReply(HandleId(8), PageUse::kKeep).fh));
  EXPECT_EQ(direct.open_flags, unsigned{FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES});
  EXPECT_EQ(OpenReply(HandleId(8), PageUse::kKeep).open_flags, unsigned{FOPEN_KEEP_CACHE});
  EXPECT_EQ(OpenReply(HandleId(8), PageUse::kDrop).open_flags, 0u);
}

TEST(Wire, Space) {
  const fuse_statfs_out reply = SpaceReply({.total_bytes = 10 * 4096 + 1,
                                            .free_bytes = 5 * 4096,
                                            .available_bytes = 4 * 4096,
                                            .files_total = 7,
                                            .files_free = 6});
  EXPECT_EQ(reply.st.blocks, 10u);
  EXPECT_EQ(reply.st.bfree, 5u);
  EXPECT_EQ(reply.st.bavail, 4u);
  EXPECT_EQ(reply.st.files, 7u);
  EXPECT_EQ(reply.st.ffree, 6u);
  EXPECT_EQ(reply.st.bsize, 4096u);
  EXPECT_EQ(reply.st.frsize, 4096u);
  EXPECT_EQ(reply.st.namelen, 255u);
}

TEST(RateLimit, LetsAFewThroughAndCountsTheRest) {
  RateLimit limit;
  constexpr int64_t kSecond = 1'000'000'000;
  for (uint32_t i = 0; i < RateLimit::kPerSecond; ++i) EXPECT_EQ(limit.Admit(kSecond), 0u);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(limit.Admit(kSecond + i), std::nullopt);
  EXPECT_EQ(limit.Admit(2 * kSecond), 7u);
  EXPECT_EQ(limit.Admit(2 * kSecond), 0u);
}

}  // namespace
}  // namespace cairn
