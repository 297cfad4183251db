// Snapshot verbs that a server carried out and did not answer, sent again to the next ones.
#include <set>

#include "tests/snapshot/snapshot_service_test_util.h"

namespace cairn {
namespace {

class SnapshotResendTest : public SnapshotServiceTest {
 protected:
  // The server dies, and the next one takes over.
  void Replace() {
    service_.reset();
    machine_.LoseServer();
    machine_.Mount();
    service_ = std::make_unique<SnapshotService>(filesystem());
  }
  static Caller New(uint64_t request) { return {1001, 1001, RequestId(request), false}; }
  static Caller Again(uint64_t request) { return {1001, 1001, RequestId(request), true}; }
  std::set<InodeId> StalePages() { return Set(filesystem().InodesWithStalePages()); }
  static std::set<InodeId> Set(const std::vector<InodeId>& inodes) {
    return {inodes.begin(), inodes.end()};
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    const auto all = service_->List();
    EXPECT_TRUE(all.ok());
    for (const SnapshotInfo& info : *all) names.push_back(info.name);
    return names;
  }
};

TEST_F(SnapshotResendTest, ASnapshotIsTakenOnceAndAnsweredAsBefore) {
  SnapshotRequest request = Request("s");
  request.tags["why"] = "test";
  const auto made = service_->Create(request, New(2));
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  Fill(data_, 9);
  for (int server = 0; server < 2; ++server) {
    Replace();
    const auto again = service_->Create(request, Again(2));
    ASSERT_TRUE(again.ok()) << again.status().ToString();
    EXPECT_EQ(again->info.id, made->info.id);
    EXPECT_EQ(again->info.created_ns, made->info.created_ns);
    EXPECT_EQ(again->info.member_count, 2u);
    EXPECT_EQ(again->held, made->held);
    EXPECT_FALSE(again->existed);
    EXPECT_EQ(Paths(again->info), Paths(made->info));
    EXPECT_EQ(Content(".snapshots/s/vm/data.img"), Stamp(2));
  }
  EXPECT_EQ(service_->Create(request, New(4)).status().code(), Code::kExists);
  // Others were quicker with the next server: it is not made anew.
  ASSERT_TRUE(service_->Delete(made->info.id, New(6)).ok());
  Replace();
  const auto gone = service_->Create(request, Again(2));
  ASSERT_TRUE(gone.ok()) << gone.status().ToString();
  EXPECT_EQ(gone->info.id, made->info.id);
  EXPECT_EQ(gone->info.name, "s");
  EXPECT_EQ(gone->info.created_ns, made->info.created_ns);
  EXPECT_EQ(gone->info.member_count, 2u);
  ExpectNothingMade();
}

TEST_F(SnapshotResendTest, ADeletionIsDoneOnce) {
  ASSERT_TRUE(service_->Create(Request("s"), New(2)).ok());
  const InodeId id = *service_->Find("s");
  ASSERT_TRUE(service_->Delete(id, New(4)).ok());
  Replace();
  ASSERT_TRUE(service_->Create(Request("s"), New(6)).ok());
  const Status again = service_->Delete(id, Again(4));
  EXPECT_TRUE(again.ok()) << again.ToString();
  EXPECT_EQ(Names(), std::vector<std::string>{"s"}) << "the new one of that name stays";
  EXPECT_EQ(service_->Delete(id, Again(8)).code(), Code::kNotFound) << "this one was not done";
}

TEST_F(SnapshotResendTest, ARollbackIsDoneOnceAndKeepsOneSnapshotOfWhatItOverwrote) {
  const SnapshotInfo info = Create(Request("s"));
  Fill(data_, 9);
  ASSERT_TRUE(filesystem().Unlink(vm_, "boot.img", New(2)).ok());
  const auto done = service_->Rollback(info.id, New(4), kEnough);
  ASSERT_TRUE(done.ok()) << done.status().ToString();
  Replace();
  EXPECT_EQ(StalePages(), Set(done->changed)) << "the kernel was not told";
  Fill(data_, 7);
  const auto again = service_->Rollback(info.id, Again(4), kEnough);
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  EXPECT_EQ(again->before.id, done->before.id);
  EXPECT_EQ(again->before.name, done->before.name);
  EXPECT_EQ(again->before.member_count, 1u);
  EXPECT_EQ(again->changed, done->changed);
  EXPECT_EQ(again->changed, (std::vector<InodeId>{data_, vm_}));
  for (const InodeId inode : done->changed) filesystem().ClearStalePages(inode);
  EXPECT_EQ(StalePages(), Set(done->changed)) << "of the second answer";
  for (const InodeId inode : done->changed) filesystem().ClearStalePages(inode);
  Replace();
  EXPECT_TRUE(StalePages().empty());
  EXPECT_EQ(Names(), (std::vector<std::string>{"s", done->before.name}));
  EXPECT_EQ(Content("vm/data.img"), Stamp(7)) << "what was written since stays";
  EXPECT_EQ(Content(".snapshots/" + done->before.name + "/vm/data.img"), Stamp(9));
  // Both snapshots are gone by now; the kernel has still to forget what was rolled back.
  ASSERT_TRUE(service_->Delete(info.id, New(6)).ok());
  ASSERT_TRUE(service_->Delete(done->before.id, New(8)).ok());
  Replace();
  const auto late = service_->Rollback(info.id, Again(4), kEnough);
  ASSERT_TRUE(late.ok()) << late.status().ToString();
  EXPECT_EQ(late->before.name, done->before.name);
  EXPECT_EQ(late->before.member_count, 1u);
  EXPECT_EQ(late->changed, done->changed);
  ExpectNothingMade();
}

TEST_F(SnapshotResendTest, ACloneIsMadeOnceOfAVolumeAMemberAndAGroup) {
  const SnapshotInfo info = Create(Request("s"));
  const InodeId group = *FindPath(filesystem(), ".snapshots/s/vm");
  uint64_t number = 2;
  for (const InodeId source : {data_, info.members[1].inode, vm_, group}) {
    const CloneRequest request{source, vm_, "clone" + std::to_string(number), kEnough};
    const auto made = service_->Clone(request, New(number));
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    Replace();
    const auto again = service_->Clone(request, Again(number));
    ASSERT_TRUE(again.ok()) << again.status().ToString();
    EXPECT_EQ(again->inode, made->inode);
    EXPECT_EQ(again->volume_count, made->volume_count);
    EXPECT_EQ(again->parent, vm_);
    EXPECT_EQ(service_->Clone(request, New(number + 2)).status().code(), Code::kExists);
    ASSERT_TRUE(filesystem()
                    .Rename(vm_, request.target_name, kRootInode, request.target_name,
                            RenameMode::kNoReplace, New(number + 4))
                    .ok());
    const auto moved = service_->Clone(request, Again(number));
    ASSERT_TRUE(moved.ok()) << moved.status().ToString();
    EXPECT_EQ(filesystem().Lookup(vm_, request.target_name).status().code(), Code::kNotFound);
    number += 6;
  }
}

// The first time it became a clone; then somebody wrote to it.
TEST_F(SnapshotResendTest, ACopyThatBecameACloneIsNotCopiedOnceMore) {
  const uint64_t length = 4 * kChunkSize;
  ASSERT_EQ(WriteCode(**filesystem().FindVolume(data_), 0, length, 2), Code::kOk);
  const InodeId copy = filesystem().Create(vm_, "copy", 0640, kAlice)->inode;
  ASSERT_EQ(filesystem().CopyRange(data_, 0, copy, 0, length, New(2))->bytes, length);
  Replace();
  ASSERT_EQ(WriteCode(**filesystem().FindVolume(copy), 0, kBlockSize, 5), Code::kOk);
  ASSERT_EQ(filesystem().CopyRange(data_, 0, copy, 0, length, Again(2))->bytes, length);
  EXPECT_TRUE(Holds(**filesystem().FindVolume(copy), 0, kBlockSize, 5));
  EXPECT_TRUE(Holds(**filesystem().FindVolume(copy), kBlockSize, length - kBlockSize, 2));
}

}  // namespace
}  // namespace cairn
