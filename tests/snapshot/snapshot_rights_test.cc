// What SnapshotService refuses to who has no rights, and to whoever asks for what cannot be.
#include <gtest/gtest.h>

#include "tests/snapshot/snapshot_service_test_util.h"

namespace cairn {
namespace {

class SnapshotRightsTest : public SnapshotServiceTest {};

TEST_F(SnapshotRightsTest, RollbackDoesNotShowWhatTheCallerMightNotRead) {
  const InodeId disk = Make(kRootInode, "disk.img", 7, kRoot);
  SnapshotRequest request = Request("s");
  request.roots = {disk};
  const SnapshotInfo info = Create(request, kRoot);
  Fill(disk, 8);  // emptied of what is nobody's business, and given away
  AttributeChange change;
  change.uid = kBob.uid;
  ASSERT_TRUE(filesystem().SetAttributes(disk, change, kRoot).ok());
  for (const InodeId what : {info.id, info.members[0].inode}) {
    EXPECT_EQ(service_->Rollback(what, kBob, kEnough).status().code(), Code::kAccess);
  }
  EXPECT_EQ(*ContentOf(filesystem(), "disk.img"), std::string(kSize, 8));
  EXPECT_TRUE(service_->Rollback(info.id, kRoot, kEnough).ok());
}

// One's own volumes, and those that all may write, in a directory that lets nobody through.
TEST_F(SnapshotRightsTest, WhatACallerCannotReachIsLeftAlone) {
  const InodeId home = MakeDirectory(kRootInode, "home", kBob);
  const InodeId closed = MakeDirectory(home, "closed", kRoot);
  Make(closed, "disk.img", 3, kBob);
  const auto set_mode = [&](InodeId inode, uint32_t mode) {
    AttributeChange change;
    change.mode = mode;
    ASSERT_TRUE(filesystem().SetAttributes(inode, change, kRoot).ok());
  };
  set_mode(closed, 0755);
  SnapshotRequest request = Request("s");
  request.roots = {home};
  const SnapshotInfo info = Create(request, kBob);
  set_mode(closed, 0744);
  request.name = "t";
  EXPECT_EQ(service_->Create(request, kBob).status().code(), Code::kAccess);
  EXPECT_EQ(service_->Rollback(info.id, kBob, kEnough).status().code(), Code::kAccess);
  CloneRequest clone;
  clone.source = closed;
  clone.target_parent = home;
  clone.target_name = "copy";
  EXPECT_EQ(service_->Clone(clone, kBob).status().code(), Code::kAccess);
  ASSERT_TRUE(filesystem().Unlink(closed, "disk.img", kRoot).ok());
  set_mode(closed, 0766);
  EXPECT_EQ(service_->Rollback(info.id, kBob, kEnough).status().code(), Code::kAccess);
  set_mode(closed, 0777);
  EXPECT_TRUE(service_->Rollback(info.id, kBob, kEnough).ok());
  EXPECT_TRUE(service_->Create(request, kBob).ok());
  EXPECT_TRUE(service_->Clone(clone, kBob).ok());
}

TEST_F(SnapshotRightsTest, NamesThatACallerCannotSeeAreNotToldAndNotGuessed) {
  const InodeId home = MakeDirectory(kRootInode, "home", kBob);
  Make(home, "own.img", 1, kBob);
  const InodeId closed = MakeDirectory(home, "closed", kRoot);
  Make(closed, "payroll.img", 3, kRoot);
  SnapshotRequest request = Request("s");
  request.roots = {home};
  for (const std::vector<std::string>& globs :
       {std::vector<std::string>{}, {"home/closed/pay*"}, {"closed/pay*"}, {"payroll.img"}}) {
    request.exclude_globs = globs;
    const Status refused = service_->Create(request, kBob).status();
    EXPECT_EQ(refused.code(), Code::kAccess);
    EXPECT_EQ(refused.context().find("payroll"), std::string::npos) << refused.context();
  }
  request.exclude_globs = {"closed/*"};
  EXPECT_TRUE(service_->Create(request, kBob).ok()) << "what he cannot see is left out";
}

// Its members' own directories count, not what has their paths when the snapshot is entered.
TEST_F(SnapshotRightsTest, ADirectoryThatIsMovedMeanwhileLetsNobodyIntoTheSnapshot) {
  const InodeId home = MakeDirectory(kRootInode, "home", kBob);
  const InodeId closed = MakeDirectory(home, "closed", kRoot);
  AttributeChange change;
  change.mode = 0700;
  ASSERT_TRUE(filesystem().SetAttributes(closed, change, kRoot).ok());
  auto volume = filesystem().FindVolume(Make(closed, "disk.img", 3, kRoot));
  ASSERT_EQ(WriteCode(**volume, 0, kBlockSize, 4), Code::kOk);
  SnapshotRequest request = Request("s");
  request.roots = {home};
  bool moved = false;
  machine_.env().SetHook([&](Op op, const std::string&) {
    if (op != Op::kSync || std::exchange(moved, true)) return;
    EXPECT_TRUE(
        filesystem().Rename(home, "closed", home, "moved", RenameMode::kReplace, kBob).ok());
    EXPECT_EQ(filesystem().MakeDirectory(home, "closed", 0777, kBob).status().code(), Code::kOk);
  });
  ASSERT_TRUE(service_->Create(request, kRoot).ok());
  machine_.env().SetHook(nullptr);
  ASSERT_TRUE(moved);
  const auto shown = FindPath(filesystem(), ".snapshots/s/home/closed");
  ASSERT_TRUE(shown.ok()) << shown.status().ToString();
  const auto attributes = filesystem().GetPlainAttributes(*shown);
  EXPECT_EQ(attributes->mode, 0700u);
  EXPECT_EQ(attributes->uid, 0u);
}

TEST_F(SnapshotRightsTest, NoCloneGetsIntoASnapshotOrANameThatIsNone) {
  const SnapshotInfo info = Create(Request("s"));
  const auto code = [&](InodeId parent, const std::string& name) {
    CloneRequest request;
    request.source = data_;
    request.target_parent = parent;
    request.target_name = name;
    return service_->Clone(request, kRoot).status().code();
  };
  const InodeId folder = *FindPath(filesystem(), ".snapshots/s/vm");
  for (const InodeId parent : {kSnapshotsInode, info.id, folder}) {
    EXPECT_NE(code(parent, "x"), Code::kOk);
  }
  for (const std::string name : {"", ".", "..", "a/b", ".snapshots"}) {
    EXPECT_NE(code(kRootInode, name), Code::kOk) << name;
  }
  EXPECT_NE(code(kRootInode, std::string(256, 'n')), Code::kOk);
  EXPECT_NE(code(kRootInode, std::string("a\0b", 3)), Code::kOk);
  EXPECT_EQ(code(kRootInode, std::string(255, 'n')), Code::kOk);
  ASSERT_TRUE(machine_.Close().ok());
  machine_.ExpectNoDamage();
}

TEST_F(SnapshotRightsTest, WhatIsNestedWithoutEndIsRefused) {
  InodeId deepest = vm_;
  std::vector<InodeId> directories;
  for (int i = 0; i < 20; ++i) {
    deepest = MakeDirectory(deepest, std::string(255, 'd'), kAlice);
    directories.push_back(deepest);
  }
  Make(deepest, "disk.img", 3, kAlice);
  EXPECT_EQ(service_->Create(Request("s"), kAlice).status().code(), Code::kNameTooLong);
  // Not from there, but from the root.
  SnapshotRequest request = Request("s");
  request.roots = {directories[10]};
  EXPECT_EQ(service_->Create(request, kAlice).status().code(), Code::kNameTooLong);
  CloneRequest clone;
  clone.source = vm_;
  clone.target_parent = kRootInode;
  clone.target_name = "copy";
  EXPECT_EQ(service_->Clone(clone, kRoot).status().code(), Code::kNameTooLong);
  EXPECT_TRUE(service_->List()->empty());
}

}  // namespace
}  // namespace cairn
