// fsck: names, their listing twins, the tree, and /lost+found.
#include "src/warm/warm_format.h"
#include "tests/volume/fsck_test_util.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

class FsckNamesTest : public FsckTest {
 protected:
  void SetUp() override {
    FsckTest::SetUp();
    folder_ = MakeDirectory(kRootInode, "vm1");
    other_ = MakeDirectory(kRootInode, "vm2");
    volume_ = MakeVolume(folder_, "data.img", kChunkSize);
  }

  void ExpectAt(InodeId parent, const std::string& name, InodeId child) {
    auto found = store_->index().FindName(parent, name);
    ASSERT_TRUE(found.ok()) << name;
    EXPECT_EQ(*found, child);
    auto inode = store_->index().GetInode(child);
    ASSERT_TRUE(inode.ok());
    EXPECT_EQ(inode->parent, parent);
  }
  void ExpectInLostAndFound(InodeId child) {
    auto lost = store_->index().FindName(kRootInode, "lost+found");
    ASSERT_TRUE(lost.ok());
    ExpectAt(*lost, "inode-" + std::to_string(child.value()), child);
  }
  void SetParent(InodeId inode, InodeId parent) {
    auto record = store_->index().GetInode(inode);
    record->parent = parent;
    Change([&](IndexBatch& batch) { batch.PutInode(inode, *record); });
  }

  InodeId folder_;
  InodeId other_;
  Made volume_;
};

TEST_F(FsckNamesTest, AMissingListingIsRebuilt) {
  Change([&](IndexBatch& batch) { batch.DeleteRaw(ListingKey(folder_, volume_.inode)); });
  ExpectDamageRepairable({"listing-missing"});
  ExpectAt(folder_, "data.img", volume_.inode);
}

TEST_F(FsckNamesTest, AMissingNameIsRebuilt) {
  Change([&](IndexBatch& batch) { batch.DeleteRaw(NameKey(folder_, "data.img")); });
  ExpectDamageRepairable({"name-missing"});
  ExpectAt(folder_, "data.img", volume_.inode);
}

TEST_F(FsckNamesTest, AListingWithAnotherNameFollowsTheName) {
  Change([&](IndexBatch& batch) { batch.PutRaw(ListingKey(folder_, volume_.inode), "wrong"); });
  ExpectDamageRepairable({"listing-missing"});
  ExpectAt(folder_, "data.img", volume_.inode);
}

TEST_F(FsckNamesTest, AListingOfNoFileIsRemoved) {
  Change([&](IndexBatch& batch) { batch.PutRaw(ListingKey(folder_, InodeId(60)), "ghost"); });
  ExpectDamageRepairable({"stale-listing"});
}

TEST_F(FsckNamesTest, AListingInASecondDirectoryIsRemoved) {
  Change([&](IndexBatch& batch) { batch.PutRaw(ListingKey(other_, volume_.inode), "data.img"); });
  ExpectDamageRepairable({"stale-listing"});
  ExpectAt(folder_, "data.img", volume_.inode);
}

TEST_F(FsckNamesTest, AListingWhoseNameLeadsElsewhereIsRemoved) {
  const Made lost = MakeVolume(folder_, "lost.img", kChunkSize);
  Change([&](IndexBatch& batch) {
    batch.DeleteName(folder_, "lost.img", lost.inode);
    batch.PutRaw(ListingKey(folder_, lost.inode), "data.img");
  });
  ExpectDamageRepairable({"stale-listing", "nameless"});
  ExpectAt(folder_, "data.img", volume_.inode);
  ExpectInLostAndFound(lost.inode);
}

TEST_F(FsckNamesTest, ANameOfNoFileIsRemoved) {
  Change([&](IndexBatch& batch) { batch.PutName(folder_, "ghost", InodeId(60)); });
  ExpectDamageRepairable({"name-without-file"});
  EXPECT_EQ(store_->index().FindName(folder_, "ghost").status().code(), Code::kNotFound);
}

TEST_F(FsckNamesTest, ANameInNoDirectoryIsRemovedAndItsFileKept) {
  for (const InodeId parent : {InodeId(60), volume_.inode}) {
    const std::string name = "stray-" + std::to_string(parent.value());
    const Made stray = MakeVolume(parent, name, kChunkSize);
    ExpectDamageRepairable({"name-without-directory", "nameless"});
    ExpectInLostAndFound(stray.inode);
  }
}

TEST_F(FsckNamesTest, ImpossibleNamesGiveWayToOnesInLostAndFound) {
  for (const std::string& name : {std::string("a/b"), std::string("."), std::string(".."),
                                  std::string(256, 'n'), std::string("a\0b", 3)}) {
    const Made bad = MakeVolume(folder_, name, kChunkSize);
    ExpectDamageRepairable({"bad-name", "nameless"});
    ExpectInLostAndFound(bad.inode);
  }
}

TEST_F(FsckNamesTest, OfTwoNamesTheProperOneStays) {
  // Before and behind the proper one in the order of the walk.
  for (const InodeId parent : {kRootInode, other_}) {
    Change([&](IndexBatch& batch) { batch.PutName(parent, "second", volume_.inode); });
    ExpectDamageRepairable({"second-name"});
    ExpectAt(folder_, "data.img", volume_.inode);
    EXPECT_FALSE(store_->index().FindName(parent, "second").ok());
  }
}

TEST_F(FsckNamesTest, OfTwoNamesInOneDirectoryTheListedOneStays) {
  for (const char* name : {"aaa", "zzz"}) {
    Change([&](IndexBatch& batch) {
      batch.PutRaw(NameKey(folder_, name), EncodeU64(volume_.inode.value()));
    });
    ExpectDamageRepairable({"second-name"});
    ExpectAt(folder_, "data.img", volume_.inode);
    EXPECT_FALSE(store_->index().FindName(folder_, name).ok());
  }
}

TEST_F(FsckNamesTest, ARecordWithAnotherParentFollowsTheOnlyName) {
  SetParent(volume_.inode, other_);
  ExpectDamageRepairable({"wrong-parent"});
  ExpectAt(folder_, "data.img", volume_.inode);
}

TEST_F(FsckNamesTest, TheRootIsItsOwnParent) {
  SetParent(kRootInode, folder_);
  ExpectDamageRepairable({"wrong-parent"});
}

TEST_F(FsckNamesTest, AFileWithANameIsNotDeleted) {
  Change([&](IndexBatch& batch) { batch.PutOrphan(volume_.inode); });
  ExpectDamageRepairable({"orphan-with-name"});
  ExpectAt(folder_, "data.img", volume_.inode);
  EXPECT_FALSE(*store_->index().HasOrphan(volume_.inode));
}

TEST_F(FsckNamesTest, NamelessFilesGoToLostAndFoundWithWhatIsBelowThem) {
  Write(volume_.branch, 0, kAllBlocks);
  Change([&](IndexBatch& batch) { batch.DeleteName(kRootInode, "vm1", folder_); });
  const Made second = MakeVolume(other_, "b", kChunkSize);
  Change([&](IndexBatch& batch) { batch.DeleteName(other_, "b", second.inode); });
  ExpectDamageRepairable({"nameless", "nameless"});
  ExpectInLostAndFound(folder_);
  ExpectInLostAndFound(second.inode);
  ExpectAt(folder_, "data.img", volume_.inode);
  // The next repair uses the same folder, and no id is given out twice.
  const Made third = MakeVolume(other_, "c", kChunkSize);
  Change([&](IndexBatch& batch) { batch.DeleteName(other_, "c", third.inode); });
  ExpectDamageRepairable({"nameless"});
  ExpectInLostAndFound(third.inode);
  EXPECT_NE(third.inode, *store_->index().FindName(kRootInode, "lost+found"));
}

TEST_F(FsckNamesTest, AVolumeNamedLostAndFoundIsNotTouched) {
  const Made taken = MakeVolume(kRootInode, "lost+found", kChunkSize);
  Change([&](IndexBatch& batch) { batch.DeleteName(folder_, "data.img", volume_.inode); });
  ExpectDamageRepairable({"nameless"});
  ExpectAt(kRootInode, "lost+found", taken.inode);
  auto lost = store_->index().FindName(kRootInode, "lost+found.1");
  ASSERT_TRUE(lost.ok());
  ExpectAt(*lost, "inode-" + std::to_string(volume_.inode.value()), volume_.inode);
}

TEST_F(FsckNamesTest, CirclesOfDirectoriesAreOpened) {
  const InodeId inner = MakeDirectory(folder_, "inner");
  const InodeId innermost = MakeDirectory(inner, "innermost");
  Change([&](IndexBatch& batch) {
    batch.DeleteName(kRootInode, "vm1", folder_);
    batch.PutName(innermost, "vm1", folder_);
  });
  SetParent(folder_, innermost);
  ExpectDamageRepairable({"directory-circle"});
  ExpectInLostAndFound(folder_);
  ExpectAt(folder_, "inner", inner);
  ExpectAt(inner, "innermost", innermost);
}

TEST_F(FsckNamesTest, ADirectoryInItselfIsTakenOut) {
  Change([&](IndexBatch& batch) {
    batch.DeleteName(kRootInode, "vm1", folder_);
    batch.PutName(folder_, "vm1", folder_);
  });
  SetParent(folder_, folder_);
  ExpectDamageRepairable({"directory-circle"});
  ExpectInLostAndFound(folder_);
}

TEST_F(FsckNamesTest, FindingsNameThePath) {
  Change([&](IndexBatch& batch) { batch.DeleteRaw(ListingKey(folder_, volume_.inode)); });
  EXPECT_THAT(Text(Check()), HasSubstr("/vm1/data.img"));
}

}  // namespace
}  // namespace cairn
