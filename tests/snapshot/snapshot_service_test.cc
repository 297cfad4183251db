// What SnapshotService does for who asks: members, names, rights, tokens; rollback, clones and
// differences of whole groups.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "src/volume/policy.h"
#include "tests/snapshot/snapshot_service_test_util.h"

namespace cairn {
namespace {

TEST_F(SnapshotServiceTest, FindsTheVolumesOfADirectoryAndKeepsTheirPaths) {
  const InodeId deep = MakeDirectory(vm_, "disks", kAlice);
  Make(deep, "log.img", 3, kAlice);
  SnapshotRequest request = Request("s");
  request.roots = {vm_, data_};
  request.tags["why"] = "test";
  request.description = "a text";
  const SnapshotInfo info = Create(request);
  EXPECT_EQ(Paths(info),
            (std::vector<std::string>{"vm/boot.img", "vm/data.img", "vm/disks/log.img"}));
  EXPECT_EQ(Content(".snapshots/s/vm/disks/log.img"), Stamp(3));
  auto shown = service_->Show(info.id);
  ASSERT_TRUE(shown.ok());
  EXPECT_EQ(shown->tags.at("why"), "test");
  EXPECT_EQ(shown->description, "a text");
  EXPECT_EQ(shown->uid, kAlice.uid);
  EXPECT_EQ(shown->members[1].source, data_);
  EXPECT_EQ(*service_->Find("s"), info.id);
  EXPECT_EQ(*service_->SnapshotOf(info.members[2].inode), info.id);
  EXPECT_EQ(service_->SnapshotOf(data_).status().code(), Code::kNotFound);
  EXPECT_EQ(service_->List()->size(), 1u);
}

TEST_F(SnapshotServiceTest, FiltersLeaveOutByPathByNameAndByInheritedRole) {
  const InodeId deep = MakeDirectory(vm_, "disks", kAlice);
  Make(deep, "log.img", 3, kAlice);
  SnapshotRequest request = Request("glob");
  request.exclude_globs = {"disks/*"};
  EXPECT_EQ(Create(request).member_count, 2u);
  request.name = "name";
  request.exclude_globs = {"log.*"};
  EXPECT_EQ(Create(request).member_count, 2u);
  ASSERT_TRUE(
      filesystem().SetXattr(deep, kRoleAttribute, "scratch", XattrMode::kEither, kAlice).ok());
  ASSERT_TRUE(
      filesystem().SetXattr(boot_, kRoleAttribute, "boot", XattrMode::kEither, kAlice).ok());
  request.name = "role";
  request.exclude_globs.clear();
  request.exclude_roles = {"boot", "scratch"};
  EXPECT_EQ(Paths(Create(request)), (std::vector<std::string>{"vm/data.img"}));
  request.name = "nothing";
  request.exclude_globs = {"*"};
  EXPECT_EQ(service_->Create(request, kAlice).status().code(), Code::kInvalid);
}

TEST_F(SnapshotServiceTest, ARequestThatIsRefusedMakesNothing) {
  const auto code = [&](const SnapshotRequest& request, const Caller& caller) {
    return service_->Create(request, caller).status().code();
  };
  EXPECT_EQ(code(Request("s"), kBob), Code::kAccess);
  EXPECT_EQ(code(Request("a/b"), kAlice), Code::kInvalid);
  EXPECT_EQ(code(Request(""), kAlice), Code::kInvalid);
  EXPECT_EQ(code(Request(".."), kAlice), Code::kInvalid);
  EXPECT_EQ(code(Request("a\x1b[2J"), kAlice), Code::kInvalid) << "steers a terminal";
  EXPECT_EQ(code(Request("a\x7f"), kAlice), Code::kInvalid);
  SnapshotRequest request = Request("s");
  request.description = "one\ntwo";
  EXPECT_EQ(code(request, kAlice), Code::kInvalid);
  request = Request("s");
  request.tags["key"] = "a\rb";
  EXPECT_EQ(code(request, kAlice), Code::kInvalid);
  request = Request("s");
  request.roots = {InodeId(12345)};
  EXPECT_EQ(code(request, kRoot), Code::kNotFound);
  // Somebody else's volume in one's own directory.
  Make(vm_, "foreign.img", 3, kBob);
  EXPECT_EQ(code(Request("s"), kAlice), Code::kAccess);
  ExpectNothingMade();
  Create(Request("s"), kRoot);
  EXPECT_EQ(code(Request("s"), kRoot), Code::kExists);
}

TEST_F(SnapshotServiceTest, ATokenMakesOneSnapshotHoweverOftenItIsSent) {
  SnapshotRequest request = Request("s");
  request.token = "t-1";
  const SnapshotInfo info = Create(request);
  const auto again = service_->Create(request, kAlice);
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  EXPECT_TRUE(again->existed);
  EXPECT_EQ(again->info.id, info.id);
  EXPECT_EQ(service_->List()->size(), 1u);
  EXPECT_EQ(service_->Create(request, kBob).status().code(), Code::kExists);
  ASSERT_TRUE(service_->Delete(info.id, kAlice).ok());
  EXPECT_FALSE(service_->Create(request, kAlice)->existed);
}

TEST_F(SnapshotServiceTest, IsDeletedByItsMakerOrRootAlone) {
  const SnapshotInfo info = Create(Request("s"));
  EXPECT_EQ(service_->Delete(info.id, kBob).code(), Code::kPermission);
  EXPECT_TRUE(service_->Delete(info.id, kAlice).ok());
  EXPECT_EQ(service_->Delete(info.id, kAlice).code(), Code::kNotFound);
  ExpectNothingMade();
}

TEST_F(SnapshotServiceTest, RollbackBringsTheWholeGroupBackAndKeepsWhatItOverwrites) {
  const SnapshotInfo info = Create(Request("s"));
  Fill(boot_, 5);
  Fill(data_, 6);
  EXPECT_EQ(service_->Rollback(info.id, kBob, kEnough).status().code(), Code::kAccess);
  EXPECT_EQ(Content("vm/boot.img"), Stamp(5));
  const auto open = filesystem().OpenVolume(data_, HandleId(2), false);
  ASSERT_TRUE(open.ok());
  const auto back = service_->Rollback(info.id, kAlice, kEnough);
  ASSERT_TRUE(back.ok()) << back.status().ToString();
  EXPECT_EQ(back->changed, (std::vector<InodeId>{boot_, data_}));
  EXPECT_EQ(Content("vm/boot.img"), Stamp(1));
  EXPECT_TRUE(Holds(**open, 0, kSize, 2));
  EXPECT_EQ(Content(".snapshots/" + back->before.name + "/vm/boot.img"), Stamp(5));
  EXPECT_EQ(Content(".snapshots/" + back->before.name + "/vm/data.img"), Stamp(6));
  ASSERT_EQ(WriteCode(**open, kBlockSize, 10, 7), Code::kOk);
  EXPECT_EQ(Content(".snapshots/s/vm/data.img"), Stamp(2));
  // And there again.
  const auto forth = service_->Rollback(back->before.id, kAlice, kEnough);
  ASSERT_TRUE(forth.ok()) << forth.status().ToString();
  EXPECT_EQ(Content("vm/boot.img"), Stamp(5));
  EXPECT_EQ(Content("vm/data.img"), Stamp(6));
  EXPECT_TRUE(
      Holds(*FindVolumeAt(filesystem(), ".snapshots/" + forth->before.name + "/vm/data.img"),
            kBlockSize, 10, 7));
  filesystem().ReleaseVolume(data_, HandleId(2));
}

TEST_F(SnapshotServiceTest, RollbackMakesAnewWhatWasRemovedAndLeavesOthersAlone) {
  const SnapshotInfo info = Create(Request("s"));
  ASSERT_TRUE(filesystem().Unlink(vm_, "boot.img", kAlice).ok());
  ASSERT_TRUE(filesystem().Unlink(vm_, "data.img", kAlice).ok());
  Make(vm_, "other.img", 9, kAlice);
  machine_.RunBackground();
  ASSERT_TRUE(filesystem()
                  .Rename(vm_, "other.img", kRootInode, "other.img", RenameMode::kReplace, {})
                  .ok());
  ASSERT_TRUE(filesystem().RemoveDirectory(kRootInode, "vm", {}).ok());
  EXPECT_EQ(service_->Rollback(info.id, kAlice, kEnough).status().code(), Code::kAccess);
  const auto back = service_->Rollback(info.id, kRoot, kEnough);
  ASSERT_TRUE(back.ok()) << back.status().ToString();
  EXPECT_EQ(back->before.id, InodeId(0));
  EXPECT_EQ(Content("vm/boot.img"), Stamp(1));
  EXPECT_EQ(Content("vm/data.img"), Stamp(2));
  EXPECT_EQ(Content("other.img"), Stamp(9));
  const auto directory = filesystem().Lookup(kRootInode, "vm");
  EXPECT_EQ(directory->uid, kAlice.uid);
  EXPECT_EQ(directory->mode, 0750u);
  ASSERT_TRUE(machine_.Close().ok());
  machine_.ExpectNoDamage();
}

TEST_F(SnapshotServiceTest, OneMemberAloneCanBeRolledBack) {
  const SnapshotInfo info = Create(Request("s"));
  Fill(boot_, 5);
  Fill(data_, 6);
  ASSERT_TRUE(service_->Rollback(info.members[0].inode, kAlice, kEnough).ok());
  EXPECT_EQ(Content("vm/boot.img"), Stamp(1));
  EXPECT_EQ(Content("vm/data.img"), Stamp(6));
}

TEST_F(SnapshotServiceTest, ClonesOfVolumesMembersAndGroupsAreIndependent) {
  const SnapshotInfo info = Create(Request("s"));
  Fill(data_, 6);
  const auto clone = [&](InodeId source, const std::string& name, const Caller& caller) {
    CloneRequest request;
    request.source = source;
    request.target_parent = kRootInode;
    request.target_name = name;
    return service_->Clone(request, caller);
  };
  EXPECT_EQ(clone(info.id, "vm2", kAlice).status().code(), Code::kAccess);
  ASSERT_TRUE(clone(info.id, "vm2", kRoot).ok());
  EXPECT_EQ(clone(info.id, "vm2", kRoot).status().code(), Code::kExists);
  ASSERT_TRUE(clone(vm_, "vm3", kRoot).ok());
  ASSERT_TRUE(clone(info.members[1].inode, "d1", kRoot).ok());
  ASSERT_TRUE(clone(data_, "d2", kRoot).ok());
  EXPECT_EQ(Content("vm2/vm/data.img"), Stamp(2));
  EXPECT_EQ(Content("vm3/data.img"), Stamp(6));
  EXPECT_EQ(Content("d1"), Stamp(2));
  EXPECT_EQ(Content("d2"), Stamp(6));
  Fill(*FindPath(filesystem(), "d2"), 8);
  Fill(data_, 7);
  EXPECT_EQ(Content("vm3/data.img"), Stamp(6));
  EXPECT_EQ(Content("d2"), Stamp(8));
  // Parents go, clones stay.
  ASSERT_TRUE(service_->Delete(info.id, kRoot).ok());
  ASSERT_TRUE(filesystem().Unlink(vm_, "data.img", {}).ok());
  for (int i = 0; i < 3; ++i) machine_.RunBackground();
  EXPECT_EQ(Content("vm2/vm/data.img"), Stamp(2));
  EXPECT_EQ(Content("vm3/data.img"), Stamp(6));
  ASSERT_TRUE(machine_.Close().ok());
  machine_.ExpectNoDamage();
  machine_.Mount();
  EXPECT_EQ(Content("d1"), Stamp(2));
}

TEST_F(SnapshotServiceTest, AChainOfAThousandClonesReadsRight) {
  constexpr unsigned kGenerations = 1000;
  InodeId source = data_;
  for (unsigned i = 0; i < kGenerations; ++i) {
    CloneRequest request;
    request.source = source;
    request.target_parent = kRootInode;
    request.target_name = "c" + std::to_string(i);
    const auto clone = service_->Clone(request, kRoot);
    ASSERT_TRUE(clone.ok()) << clone.status().ToString();
    source = clone->inode;
    auto volume = filesystem().FindVolume(source);
    ASSERT_EQ(WriteCode(**volume, i % 60 * kBlockSize, kBlockSize, i % 256), Code::kOk);
    if (i >= 2) {
      ASSERT_TRUE(filesystem().Unlink(kRootInode, "c" + std::to_string(i - 2), {}).ok());
    }
  }
  for (int i = 0; i < 3; ++i) machine_.RunBackground();
  const auto volume = FindVolumeAt(filesystem(), "c" + std::to_string(kGenerations - 1));
  for (unsigned i = kGenerations - 60; i < kGenerations; ++i) {
    EXPECT_TRUE(Holds(*volume, i % 60 * kBlockSize, kBlockSize, i % 256)) << i;
  }
  EXPECT_TRUE(Holds(*volume, 60 * kBlockSize, kSize - 60 * kBlockSize, 2));
}

TEST_F(SnapshotServiceTest, DiffsTellExactlyWhatWasWritten) {
  const SnapshotInfo one = Create(Request("one"));
  auto volume = filesystem().FindVolume(data_);
  ASSERT_EQ(WriteCode(**volume, 3 * kBlockSize + 5, 10, 7), Code::kOk);
  ASSERT_EQ(WriteCode(**volume, kChunkSize - kBlockSize, kBlockSize + 50, 7), Code::kOk);
  const SnapshotInfo two = Create(Request("two"));
  ASSERT_EQ(WriteCode(**volume, 5 * kChunkSize, kBlockSize, 8), Code::kOk);
  const auto ranges = [&](InodeId from, InodeId to, size_t most) {
    std::vector<std::pair<uint64_t, uint64_t>> all;
    const uint64_t size = filesystem().GetAttributes(to)->size;
    for (uint64_t offset = 0; offset < size;) {
      const auto page = service_->Diff(from, to, offset, most, kAlice);
      EXPECT_TRUE(page.ok()) << page.status().ToString();
      if (!page.ok() || page->next_offset <= offset) break;
      for (const DiffRange& range : page->ranges) all.emplace_back(range.offset, range.length);
      offset = page->next_offset;
    }
    return all;
  };
  using Ranges = std::vector<std::pair<uint64_t, uint64_t>>;
  const InodeId a = one.members[1].inode;
  const InodeId b = two.members[1].inode;
  const Ranges expected{{3 * kBlockSize, kBlockSize}, {kChunkSize - kBlockSize, kBlockSize + 100}};
  EXPECT_EQ(ranges(a, b, 100), expected);
  EXPECT_EQ(ranges(a, b, 1), expected);
  EXPECT_EQ(ranges(b, a, 1), expected);
  EXPECT_EQ(ranges(a, a, 10), Ranges{});
  const Ranges now = ranges(b, data_, 10);
  ASSERT_EQ(now.size(), 1u);
  EXPECT_EQ(now[0].first, 5 * kChunkSize);
  EXPECT_EQ(service_->Diff(a, boot_, 0, 10, kAlice).status().code(), Code::kInvalid);
  EXPECT_EQ(service_->Diff(a, b, 0, 10, kBob).status().code(), Code::kAccess);
}

TEST_F(SnapshotServiceTest, SizesTellWhatDeletionWouldGiveBack) {
  const SnapshotInfo one = Create(Request("one"));
  auto volume = filesystem().FindVolume(data_);
  ASSERT_EQ(WriteCode(**volume, 0, 3 * kBlockSize, 7), Code::kOk);
  const auto sizes = service_->Sizes(one.members[1].inode);
  ASSERT_TRUE(sizes.ok()) << sizes.status().ToString();
  EXPECT_EQ(sizes->mapped_bytes, 2 * kChunkSize);
  EXPECT_EQ(sizes->exclusive_bytes, 3 * kBlockSize);
  EXPECT_EQ(sizes->shared_bytes, 2 * kChunkSize - 3 * kBlockSize);
  EXPECT_EQ(service_->Sizes(data_)->exclusive_bytes, 3 * kBlockSize);
  Create(Request("two"));
  EXPECT_EQ(service_->Sizes(data_)->exclusive_bytes, 0u);
}

TEST_F(SnapshotServiceTest, SizesTellWhatAloneKeepsItsParents) {
  constexpr uint64_t kMapped = kChunkSize + kBlockSize;
  const auto held = [&] {
    uint64_t bytes = 0;
    for (const std::string& path : machine_.env().AllFiles()) {
      if (path.find("/extents/") != std::string::npos) {
        bytes += machine_.env().Info(path)->allocated_bytes;
      }
    }
    return bytes;
  };
  const SnapshotInfo one = Create(Request("one"));
  const auto clone_of = [&](InodeId source, const char* name) {
    CloneRequest request;
    request.source = source;
    request.target_parent = vm_;
    request.target_name = name;
    auto made = service_->Clone(request, kRoot);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return made->inode;
  };
  const auto exclusive = [&](InodeId inode) { return service_->Sizes(inode)->exclusive_bytes; };
  const InodeId child = clone_of(one.members[1].inode, "child");
  const InodeId grandchild = clone_of(child, "grandchild");
  EXPECT_EQ(exclusive(grandchild), 0u);
  ASSERT_TRUE(service_->Delete(one.id, kRoot).ok());
  ASSERT_TRUE(filesystem().Unlink(vm_, "data.img", kRoot).ok());
  machine_.RunBackground();
  EXPECT_EQ(exclusive(grandchild), 0u);
  EXPECT_EQ(exclusive(child), 0u);
  ASSERT_TRUE(filesystem().Unlink(vm_, "child", kRoot).ok());
  machine_.RunBackground();
  EXPECT_EQ(exclusive(grandchild), kMapped);
  // Blocks of a parent that its child has overwritten come back with it as well.
  auto volume = filesystem().FindVolume(grandchild);
  ASSERT_EQ(WriteCode(**volume, 0, kBlockSize, 7), Code::kOk);
  EXPECT_EQ(exclusive(grandchild), kMapped);
  ASSERT_TRUE((*volume)->Sync().ok());
  const uint64_t before = held();
  ASSERT_TRUE(filesystem().Unlink(vm_, "grandchild", kRoot).ok());
  machine_.RunBackground();
  EXPECT_EQ(before - held(), kMapped + kBlockSize);
}

TEST_F(SnapshotServiceTest, CopiesOfWholeFilesShareTheirBlocksAndOthersDoNot) {
  constexpr uint64_t kLarge = 12 * kChunkSize + 300;
  auto volume = filesystem().FindVolume(data_);
  ASSERT_EQ(WriteCode(**volume, 0, kLarge, 4), Code::kOk);
  auto made = filesystem().Create(kRootInode, "copy", 0600, kRoot);
  ASSERT_TRUE(made.ok());
  // In two pieces, as the kernel does it.
  const uint64_t piece = 8 * kChunkSize;
  ASSERT_EQ(filesystem().CopyRange(data_, 0, made->inode, 0, piece, {})->bytes, piece);
  EXPECT_EQ(filesystem().GetAttributes(made->inode)->size, piece);
  ASSERT_EQ(filesystem().CopyRange(data_, piece, made->inode, piece, piece, {})->bytes,
            kLarge - piece);
  EXPECT_EQ(Content("copy"), std::string(kLarge, '\4'));
  EXPECT_EQ(service_->Sizes(made->inode)->exclusive_bytes, 0u);
  Fill(data_, 9);
  EXPECT_EQ(Content("copy"), std::string(kLarge, '\4'));
  // What lies behind a copy's end does not show when it grows.
  auto part = filesystem().Create(kRootInode, "part", 0600, kRoot);
  ASSERT_EQ(filesystem().CopyRange(data_, 0, part->inode, 0, piece, {})->bytes, piece);
  auto part_volume = filesystem().FindVolume(part->inode);
  ASSERT_TRUE((*part_volume)->Truncate(kLarge).ok());
  EXPECT_TRUE(Holds(**part_volume, piece, kLarge - piece, 0));
  // The source has changed since the first piece: the second one is what it is now.
  auto third = filesystem().Create(kRootInode, "third", 0600, kRoot);
  ASSERT_EQ(filesystem().CopyRange(data_, 0, third->inode, 0, piece, {})->bytes, piece);
  ASSERT_EQ(WriteCode(**volume, piece, 10, 11), Code::kOk);
  ASSERT_EQ(filesystem().CopyRange(data_, piece, third->inode, piece, piece, {})->bytes,
            kLarge - piece);
  EXPECT_EQ(Content("third"), Content("vm/data.img"));
}

// Writers of rising counters: each write only after the one before it was acknowledged, on the
// first and the last volume of a group in turn. In a snapshot of all of them, what was written
// before something that is there is there, too.
TEST_F(SnapshotServiceTest, CausalWritersLeaveAPrefixInEverySnapshot) {
  constexpr size_t kVolumes = 48;
  constexpr size_t kWriters = 3;
  const InodeId group = MakeDirectory(kRootInode, "group", kRoot);
  std::vector<InodeId> inodes;
  for (size_t i = 0; i < kVolumes; ++i) {
    inodes.push_back(Make(group, "v" + std::to_string(i), 0, kRoot));
  }
  const std::shared_ptr<Volume> ends[] = {*filesystem().FindVolume(inodes.front()),
                                          *filesystem().FindVolume(inodes.back())};
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (size_t writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&, writer] {
      for (uint64_t counter = 1; !stop; ++counter) {
        const auto bytes = std::as_bytes(std::span(&counter, 1));
        EXPECT_TRUE(ends[counter % 2]->Write(writer * kBlockSize, bytes).ok());
      }
    });
  }
  const auto read = [&](InodeId member, size_t writer) {
    uint64_t counter = 0;
    auto volume = filesystem().FindVolume(member);
    EXPECT_TRUE(volume.ok());
    EXPECT_TRUE(
        (*volume)->Read(writer * kBlockSize, std::as_writable_bytes(std::span(&counter, 1))).ok());
    return counter;
  };
  for (int i = 0; i < 120; ++i) {
    SnapshotRequest request = Request("s" + std::to_string(i));
    request.roots = {group};
    const SnapshotInfo info = Create(request, kRoot);
    EXPECT_EQ(info.members.size(), kVolumes);
    std::map<InodeId, InodeId> member_of;
    for (const SnapshotMember& member : info.members) member_of[member.source] = member.inode;
    for (size_t writer = 0; writer < kWriters; ++writer) {
      const uint64_t even = read(member_of[inodes.front()], writer);
      const uint64_t odd = read(member_of[inodes.back()], writer);
      EXPECT_TRUE(even + 1 == odd || odd + 1 == even || even + odd == 0)
          << "snapshot " << i << ": " << even << " and " << odd;
    }
    if (i % 2 == 1) {
      EXPECT_TRUE(service_->Delete(info.id, kRoot).ok());
      machine_.RunBackground();
    }
  }
  stop = true;
  for (std::thread& writer : writers) writer.join();
}

}  // namespace
}  // namespace cairn
