// A SnapshotService on a TestMachine, with two volumes in a directory of Alice's.
#ifndef CAIRN_TESTS_SNAPSHOT_SNAPSHOT_SERVICE_TEST_UTIL_H_
#define CAIRN_TESTS_SNAPSHOT_SNAPSHOT_SERVICE_TEST_UTIL_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "snapshot/snapshot_service.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {

inline constexpr Caller kRoot{};
inline constexpr Caller kAlice{1001, 1001, {}};
inline constexpr Caller kBob{1002, 1002, {}};

class SnapshotServiceTest : public testing::Test {
 protected:
  void SetUp() override {
    machine_.Mount();
    service_ = std::make_unique<SnapshotService>(filesystem());
    vm_ = MakeDirectory(kRootInode, "vm", kAlice);
    boot_ = Make(vm_, "boot.img", 1, kAlice);
    data_ = Make(vm_, "data.img", 2, kAlice);
  }
  Filesystem& filesystem() { return machine_.filesystem(); }

  InodeId MakeDirectory(InodeId parent, const std::string& name, const Caller& caller) {
    auto made = filesystem().MakeDirectory(parent, name, 0750, caller);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return made.ok() ? made->inode : InodeId(0);
  }
  InodeId Make(InodeId parent, const std::string& name, unsigned stamp, const Caller& caller) {
    auto made = filesystem().Create(parent, name, 0640, caller);
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    Fill(made->inode, stamp);
    return made->inode;
  }
  void Fill(InodeId inode, unsigned stamp) {
    auto volume = filesystem().FindVolume(inode);
    ASSERT_TRUE(volume.ok()) << volume.status().ToString();
    ASSERT_EQ(WriteCode(**volume, 0, kSize, stamp), Code::kOk);
  }
  std::string Content(const std::string& path) {
    const auto content = ContentOf(filesystem(), path);
    EXPECT_TRUE(content.ok()) << path << ": " << content.status().ToString();
    return content.ok() ? *content : std::string();
  }
  static std::string Stamp(char stamp) { return std::string(kSize, stamp); }
  SnapshotRequest Request(const std::string& name) {
    SnapshotRequest request;
    request.roots = {vm_};
    request.name = name;
    return request;
  }
  SnapshotInfo Create(const SnapshotRequest& request, const Caller& caller = kAlice) {
    auto created = service_->Create(request, caller);
    EXPECT_TRUE(created.ok()) << created.status().ToString();
    return created.ok() ? created->info : SnapshotInfo{};
  }
  static std::vector<std::string> Paths(const SnapshotInfo& info) {
    std::vector<std::string> paths;
    for (const SnapshotMember& member : info.members) paths.push_back(member.path);
    return paths;
  }
  void ExpectNothingMade() {
    auto all = service_->List();
    ASSERT_TRUE(all.ok());
    EXPECT_TRUE(all->empty());
  }

  static constexpr uint64_t kSize = kChunkSize + 100;
  TestMachine machine_;
  std::unique_ptr<SnapshotService> service_;
  InodeId vm_;
  InodeId boot_;
  InodeId data_;
};

}  // namespace cairn

#endif  // CAIRN_TESTS_SNAPSHOT_SNAPSHOT_SERVICE_TEST_UTIL_H_
