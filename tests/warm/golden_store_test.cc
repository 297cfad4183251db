// A store of format 1 as it was written when the format was fixed: every later program that says it
// reads format 1 must open it and find in it what is checked here.
//
// The store is golden/store-1.tar.gz. It is made anew only together with a new format version, by
//   CAIRN_MAKE_GOLDEN=tests/warm/golden/store-1.tar.gz golden_store_test
//   --gtest_filter=GoldenStore.IsMadeWhenAskedFor
// with a path that counts from the working directory. The older one then stays beside it for as
// long as its version can be opened. golden/store-1-seals.tar.gz is the same with the feature bit
// of seals and their records, made with CAIRN_MAKE_GOLDEN_SEALS and
// GoldenStore.WithSealsIsMadeWhenAskedFor. golden/store-1-requests.tar.gz, with the feature bit and
// records of requests as a crash leaves them, is made with CAIRN_MAKE_GOLDEN_REQUESTS and
// GoldenStore.WithRequestsIsMadeWhenAskedFor; golden/store-1-snapshots.tar.gz likewise
// with those of snapshots and clones, CAIRN_MAKE_GOLDEN_SNAPSHOTS and
// GoldenStore.WithSnapshotsIsMadeWhenAskedFor.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "src/warm/warm_format.h"
#include "src/warm/warm_store.h"
#include "tests/env/env_test_util.h"

namespace cairn {
namespace {

namespace fs = std::filesystem;

constexpr InodeId kVolume{2};
constexpr InodeId kFolder{3};
constexpr InodeId kOrphan{4};
constexpr BranchId kBranch{5};
constexpr BranchId kDead{6};
constexpr InodeId kTop{20};
constexpr InodeId kMember{21};
constexpr BranchId kClone{22};
constexpr uint64_t kVolumeSize = 3 * kChunkSize + 5;
const ExtentId kExtent{kBranch, Epoch(1), SegmentIndex(0)};

std::string BlockText(uint64_t block) {
  std::string text = "block " + std::to_string(block) + ";";
  text.resize(kBlockSize, static_cast<char>('a' + block % 26));
  return text;
}

class GoldenStore : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "cairn-golden-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    temporary_ = name;
    dir_ = name + "/store";
  }
  void TearDown() override {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
  }
  std::unique_ptr<WarmStore> Open(bool create) {
    WarmStoreOptions options;
    options.create = create;
    auto store = WarmStore::Open(*env_, dir_, options);
    EXPECT_TRUE(store.ok()) << store.status().ToString();
    return store.ok() ? std::move(*store) : nullptr;
  }
  void Make();
  void MakeSeals();
  void CheckSeals(WarmStore& store);
  void MakeRequests();
  void CheckRequests(WarmStore& store);
  void MakeSnapshots();
  void CheckSnapshots(WarmStore& store);
  // Writes the store to the file that the variable names, if it does.
  void PackIfAskedFor(const char* variable);
  void Unpack(const char* name);
  void Check(WarmStore& store);
  void CheckVersionsAndBlocks(WarmStore& store);

  std::unique_ptr<Env> env_ = NewPosixEnv();
  std::string temporary_;
  std::string dir_;
};

void GoldenStore::Make() {
  auto store = Open(true);
  ASSERT_NE(store, nullptr);
  for (uint64_t id = 2; id <= 6; ++id) ASSERT_EQ(*store->index().AllocateId(), id);
  auto extent = *store->extents().Open(kExtent, ExtentStore::Mode::kCreate, 0);
  ASSERT_TRUE(extent->EnsureSize(3 * kChunkSize).ok());
  for (const uint64_t block : {0, 1, 63, 64, 130}) {
    const std::string text = BlockText(block);
    ASSERT_TRUE(extent->WriteAt(block * kBlockSize, std::as_bytes(std::span(text))).ok());
  }
  ASSERT_TRUE(extent->Sync().ok());

  InodeRecord volume;
  volume.mode = 0640;
  volume.uid = 1000;
  volume.gid = 100;
  volume.size = kVolumeSize;
  volume.atime_ns = -1;
  volume.mtime_ns = 1600000000123456789;
  volume.ctime_ns = 1700000000987654321;
  volume.parent = kFolder;
  volume.branch = kBranch;
  InodeRecord folder;
  folder.kind = FileKind::kDirectory;
  folder.mode = 01777;
  folder.parent = kRootInode;
  InodeRecord orphan;
  orphan.parent = kRootInode;
  IndexBatch batch;
  batch.PutInode(kVolume, volume);
  batch.PutInode(kFolder, folder);
  batch.PutInode(kOrphan, orphan);
  batch.PutOrphan(kOrphan);
  batch.PutName(kRootInode, "folder", kFolder);
  batch.PutName(kFolder, "d\xc3\xa4sk.img", kVolume);
  batch.PutXattr(kVolume, "user.note", std::string("a\0b", 3));
  BranchRecord branch;
  branch.inode = kVolume;
  branch.trimmed_crash = 1;
  batch.PutBranch(kBranch, branch);
  batch.PutDeadBranch(kDead);
  batch.PutExtent(kExtent, 3 * kChunkSize);
  VersionRecord whole;
  whole.extent = kAllBlocks;
  batch.PutVersion(kBranch, ChunkIndex(0), Epoch(1), whole);
  ASSERT_TRUE(store->index().Commit(batch).ok());
  ASSERT_TRUE(store->Close().ok());
  store.reset();

  // A second life: the first one's records are in a table now, these are in a log.
  store = Open(false);
  ASSERT_NE(store, nullptr);
  batch.Clear();
  VersionRecord parts;
  parts.extent = 1;
  parts.zero = 0xf0;
  batch.PutVersion(kBranch, ChunkIndex(1), Epoch(1), parts);
  VersionRecord cold = parts;
  cold.extent = 4;
  cold.tombstones = {{3, "a place"}, {kAllBlocks << 63, ""}};
  batch.PutVersion(kBranch, ChunkIndex(2), Epoch(1), cold);
  batch.PutVersion(kBranch, ChunkIndex(2), Epoch(0x100), parts);
  ASSERT_TRUE(store->index().Commit(batch).ok());
  ASSERT_TRUE(store->Close().ok());
  store.reset();
  // It holds nothing, and would be the largest file.
  ASSERT_TRUE(env_->Remove(dir_ + "/reserve").ok());
}

void GoldenStore::MakeSeals() {
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(store->RequireFeature(kFeatureSeals).ok());
  IndexBatch batch;
  batch.PutRegion({kBranch, Epoch(1), 0}, RegionState::kSealed);
  batch.PutRegion({kBranch, Epoch(0x100), 0x1234}, RegionState::kOpen);
  ChunkSums sums;
  sums.mask = 0b10111;
  sums.zero = 0b00100;
  sums.crc[0] = 0x01020304;
  sums.crc[1] = 0xfffefdfc;
  sums.crc[4] = 0x80000001;
  batch.PutSums(kBranch, Epoch(1), ChunkIndex(0), sums);
  sums = {};
  sums.mask = sums.zero = kAllBlocks;
  batch.PutSums(kBranch, Epoch(1), ChunkIndex(0x101), sums);
  ASSERT_TRUE(store->index().Commit(batch).ok());
  ASSERT_TRUE(store->Close().ok());
  store.reset();
  ASSERT_TRUE(env_->Remove(dir_ + "/reserve").ok());
}

void GoldenStore::CheckSeals(WarmStore& store) {
  EXPECT_EQ(store.superblock().incompatible_features, 1u);
  Index& index = store.index();
  EXPECT_EQ(*index.GetRegion({kBranch, Epoch(1), 0}), RegionState::kSealed);
  EXPECT_EQ(*index.GetRegion({kBranch, Epoch(0x100), 0x1234}), RegionState::kOpen);
  EXPECT_EQ(*index.GetRegion({kBranch, Epoch(1), 1}), std::nullopt);
  const ChunkSums sums = *index.GetSums(kBranch, Epoch(1), ChunkIndex(0));
  EXPECT_EQ(sums.mask, 0b10111u);
  EXPECT_EQ(sums.zero, 0b00100u);
  EXPECT_EQ(sums.crc[0], 0x01020304u);
  EXPECT_EQ(sums.crc[1], 0xfffefdfcu);
  EXPECT_EQ(sums.crc[4], 0x80000001u);
  EXPECT_EQ(index.GetSums(kBranch, Epoch(1), ChunkIndex(0x101))->zero, kAllBlocks);
  EXPECT_EQ(index.GetSums(kBranch, Epoch(1), ChunkIndex(1))->mask, 0u);
  std::vector<uint64_t> chunks;
  ASSERT_TRUE(index
                  .ForEachSums(kBranch, Epoch(1), ChunkIndex(0), ChunkIndex(0x101),
                               [&](ChunkIndex chunk) {
                                 chunks.push_back(chunk.value());
                                 return true;
                               })
                  .ok());
  EXPECT_EQ(chunks, (std::vector<uint64_t>{0, 0x101}));
}

void GoldenStore::MakeRequests() {
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(store->NoteFeature(kFeatureRequests).ok());
  IndexBatch batch;
  batch.PutRequest(RequestId(0x1234567890), "");
  batch.PutRequest(RequestId((1ull << 62) - 2),
                   EncodeU64(kVolume.value()) + EncodeInode(*store->index().GetInode(kVolume)));
  ASSERT_TRUE(store->index().Commit(batch).ok());
  ASSERT_TRUE(store->Close().ok());
  store.reset();
  ASSERT_TRUE(env_->Remove(dir_ + "/reserve").ok());
}

void GoldenStore::MakeSnapshots() {
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(store->RequireFeature(kFeatureSnapshots).ok());
  IndexBatch batch;
  InodeRecord top;
  top.kind = FileKind::kDirectory;
  top.mode = 0755;
  top.parent = kSnapshotsInode;
  batch.PutInode(kTop, top);
  batch.PutName(kSnapshotsInode, "nightly", kTop);
  top.parent = kRootInode;
  batch.PutInode(kSnapshotsInode, top);
  InodeRecord member;
  member.kind = FileKind::kSnapshot;
  member.mode = 0440;
  member.size = 12345;
  member.parent = kTop;
  member.branch = kBranch;
  member.epoch = Epoch(0x203);
  batch.PutInode(kMember, member);
  batch.PutName(kTop, "data.img", kMember);
  batch.PutView({kBranch, Epoch(0x203), kMember.value(), ViewKind::kSnapshot});
  BranchRecord clone;
  clone.parent = kBranch;
  clone.parent_epoch = Epoch(0x102);
  clone.epoch = Epoch(7);
  clone.inode = InodeId(23);
  clone.parent_end = 3 * kBlockSize;
  batch.PutBranch(kClone, clone);
  batch.PutView({kBranch, Epoch(0x102), kClone.value(), ViewKind::kClone});
  GroupRecord group;
  group.name = "nightly";
  group.created_ns = 1700000000123456789;
  group.uid = 1000;
  group.gid = 100;
  group.member_count = 1;
  group.token = "token-1";
  group.description = "a\nb";
  group.tags = {{"k", "v"}, {"l", ""}};
  batch.PutGroup(kTop, group);
  batch.PutToken("token-1", kTop);
  batch.PutClean(kBranch);
  ASSERT_TRUE(store->index().Commit(batch).ok());
  ASSERT_TRUE(store->Close().ok());
  store.reset();
  ASSERT_TRUE(env_->Remove(dir_ + "/reserve").ok());
}

void GoldenStore::CheckRequests(WarmStore& store) {
  EXPECT_EQ(store.superblock().compatible_features, 1u);
  Index& index = store.index();
  EXPECT_EQ(*index.GetRequest(RequestId(0x1234567890)), std::string());
  const auto made = *index.GetRequest(RequestId((1ull << 62) - 2));
  ASSERT_TRUE(made.has_value());
  ASSERT_EQ(made->size(), 8u + 61u);
  EXPECT_EQ(*DecodeU64(std::string_view(*made).substr(0, 8)), kVolume.value());
  EXPECT_EQ(DecodeInode(std::string_view(*made).substr(8))->size, kVolumeSize);
  EXPECT_EQ(*index.GetRequest(RequestId(2)), std::nullopt);
}

void GoldenStore::CheckSnapshots(WarmStore& store) {
  EXPECT_EQ(store.superblock().incompatible_features, 2u);
  Index& index = store.index();
  EXPECT_EQ(*index.FindName(kSnapshotsInode, "nightly"), kTop);
  EXPECT_EQ(index.GetInode(InodeId(uint64_t{1} << 62))->parent, kRootInode);
  const auto member = index.GetInode(kMember);
  ASSERT_TRUE(member.ok()) << member.status().ToString();
  EXPECT_EQ(member->kind, FileKind::kSnapshot);
  EXPECT_EQ(member->branch, kBranch);
  EXPECT_EQ(member->epoch, Epoch(0x203));
  EXPECT_EQ(member->size, 12345u);
  const auto clone = index.GetBranch(kClone);
  ASSERT_TRUE(clone.ok());
  EXPECT_EQ(clone->parent, kBranch);
  EXPECT_EQ(clone->parent_epoch, Epoch(0x102));
  EXPECT_EQ(clone->epoch, Epoch(7));
  EXPECT_EQ(clone->parent_end, 3 * kBlockSize);
  std::vector<std::pair<uint64_t, ViewKind>> views;
  ASSERT_TRUE(index
                  .ForEachView(kBranch,
                               [&](const View& view) {
                                 views.emplace_back(view.viewer, view.kind);
                                 return true;
                               })
                  .ok());
  // By epoch.
  EXPECT_EQ(views,
            (std::vector<std::pair<uint64_t, ViewKind>>{{kClone.value(), ViewKind::kClone},
                                                        {kMember.value(), ViewKind::kSnapshot}}));
  const auto group = index.GetGroup(kTop);
  ASSERT_TRUE(group.ok()) << group.status().ToString();
  EXPECT_EQ(group->name, "nightly");
  EXPECT_EQ(group->created_ns, 1700000000123456789);
  EXPECT_EQ(group->uid, 1000u);
  EXPECT_EQ(group->gid, 100u);
  EXPECT_EQ(group->member_count, 1u);
  EXPECT_EQ(group->description, "a\nb");
  EXPECT_EQ(group->tags, (std::map<std::string, std::string>{{"k", "v"}, {"l", ""}}));
  EXPECT_EQ(*index.FindToken("token-1"), kTop);
  EXPECT_TRUE(*index.HasClean(kBranch));
}

void GoldenStore::PackIfAskedFor(const char* variable) {
  const char* const path = std::getenv(variable);
  if (path == nullptr) return;
  const std::string pack = "tar -C '" + temporary_ +
                           "' --sparse --sort=name --owner=0 --group=0 -cf - store | gzip -9n > '" +
                           path + "'";
  ASSERT_EQ(std::system(pack.c_str()), 0);
}

void GoldenStore::Unpack(const char* name) {
  const std::string unpack = "tar -C '" + temporary_ + "' -xzf '" CAIRN_GOLDEN_DIR "/" + name + "'";
  ASSERT_EQ(std::system(unpack.c_str()), 0);
}

void GoldenStore::CheckVersionsAndBlocks(WarmStore& store) {
  std::map<std::pair<uint64_t, uint64_t>, VersionRecord> versions;
  ASSERT_TRUE(store.index()
                  .ForEachVersion(kBranch, ChunkIndex(0), ChunkIndex(99),
                                  [&](ChunkIndex chunk, Epoch epoch, const VersionRecord& record) {
                                    versions[{chunk.value(), epoch.value()}] = record;
                                    return true;
                                  })
                  .ok());
  ASSERT_EQ(versions.size(), 4u);
  EXPECT_EQ((versions[{0, 1}].extent), kAllBlocks);
  EXPECT_EQ((versions[{1, 1}].extent), 1u);
  EXPECT_EQ((versions[{1, 1}].zero), 0xf0u);
  EXPECT_EQ((versions[{2, 0x100}].extent), 1u);
  const VersionRecord& cold = versions[{2, 1}];
  EXPECT_EQ(cold.extent, 4u);
  EXPECT_EQ(cold.zero, 0xf0u);
  ASSERT_EQ(cold.tombstones.size(), 2u);
  EXPECT_EQ(cold.tombstones[0].mask, 3u);
  EXPECT_EQ(cold.tombstones[0].location, "a place");
  EXPECT_EQ(cold.tombstones[1].mask, 1ull << 63);

  uint64_t size = 0;
  ASSERT_TRUE(store.index()
                  .ForEachExtent(kBranch,
                                 [&](const ExtentId& id, uint64_t known) {
                                   EXPECT_EQ(id, kExtent);
                                   size = known;
                                   return true;
                                 })
                  .ok());
  ASSERT_EQ(size, 3 * kChunkSize);
  auto extent = store.extents().Open(kExtent, ExtentStore::Mode::kMustExist, size);
  ASSERT_TRUE(extent.ok()) << extent.status().ToString();
  for (const uint64_t block : {0, 1, 2, 63, 64, 130, 191}) {
    const bool written = block != 2 && block != 191;
    std::string text(kBlockSize, '?');
    ASSERT_TRUE(
        (*extent)->ReadAt(block * kBlockSize, std::as_writable_bytes(std::span(text))).ok());
    EXPECT_EQ(text, written ? BlockText(block) : std::string(kBlockSize, '\0')) << block;
  }
}

void GoldenStore::Check(WarmStore& store) {
  EXPECT_EQ(store.superblock().version, 1u);
  EXPECT_FALSE(store.superblock().formatting);
  EXPECT_GT(store.superblock().created_ns, 1'600'000'000'000'000'000);
  EXPECT_EQ(store.crash_count(), 1u);
  Index& index = store.index();
  EXPECT_EQ(index.GetInode(kRootInode)->mode, 0755u);
  EXPECT_EQ(*index.FindName(kRootInode, "folder"), kFolder);
  EXPECT_EQ(*index.FindName(kFolder, "d\xc3\xa4sk.img"), kVolume);
  const auto volume = index.GetInode(kVolume);
  ASSERT_TRUE(volume.ok()) << volume.status().ToString();
  EXPECT_EQ(volume->kind, FileKind::kVolume);
  EXPECT_EQ(volume->mode, 0640u);
  EXPECT_EQ(volume->uid, 1000u);
  EXPECT_EQ(volume->gid, 100u);
  EXPECT_EQ(volume->size, kVolumeSize);
  EXPECT_EQ(volume->atime_ns, -1);
  EXPECT_EQ(volume->mtime_ns, 1600000000123456789);
  EXPECT_EQ(volume->ctime_ns, 1700000000987654321);
  EXPECT_EQ(volume->parent, kFolder);
  EXPECT_EQ(volume->branch, kBranch);
  EXPECT_EQ(index.GetInode(kFolder)->mode, 01777u);
  EXPECT_EQ(index.GetInode(kFolder)->kind, FileKind::kDirectory);
  EXPECT_TRUE(*index.HasOrphan(kOrphan));
  EXPECT_EQ(*index.GetXattr(kVolume, "user.note"), std::string("a\0b", 3));
  const auto branch = index.GetBranch(kBranch);
  ASSERT_TRUE(branch.ok());
  EXPECT_EQ(branch->inode, kVolume);
  EXPECT_EQ(branch->epoch, Epoch(1));
  EXPECT_EQ(branch->parent, BranchId(0));
  EXPECT_EQ(branch->trimmed_crash, 1u);
  std::vector<BranchId> dead;
  ASSERT_TRUE(index.ForEachDeadBranch([&](BranchId id) { return dead.push_back(id), true; }).ok());
  EXPECT_EQ(dead, std::vector<BranchId>{kDead});
  std::string listing;
  ASSERT_TRUE(index
                  .ForEachChild(kFolder, InodeId(0),
                                [&](InodeId, std::string_view name) {
                                  listing += name;
                                  return true;
                                })
                  .ok());
  EXPECT_EQ(listing, "d\xc3\xa4sk.img");
  ASSERT_TRUE(index
                  .ForEachUnknown([](std::string_view key) {
                    ADD_FAILURE() << key;
                    return true;
                  })
                  .ok());
  CheckVersionsAndBlocks(store);
}

TEST_F(GoldenStore, IsMadeWhenAskedFor) {
  ASSERT_NO_FATAL_FAILURE(Make());
  ASSERT_NO_FATAL_FAILURE(PackIfAskedFor("CAIRN_MAKE_GOLDEN"));
  // The maker itself makes what the checks expect.
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  Check(*store);
}

TEST_F(GoldenStore, WithSealsIsMadeWhenAskedFor) {
  ASSERT_NO_FATAL_FAILURE(Make());
  ASSERT_NO_FATAL_FAILURE(MakeSeals());
  ASSERT_NO_FATAL_FAILURE(PackIfAskedFor("CAIRN_MAKE_GOLDEN_SEALS"));
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  Check(*store);
  CheckSeals(*store);
}

TEST_F(GoldenStore, Format1WithSealsOpensAndHoldsWhatItHeld) {
  ASSERT_NO_FATAL_FAILURE(Unpack("store-1-seals.tar.gz"));
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  EXPECT_TRUE(store->was_clean());
  Check(*store);
  CheckSeals(*store);
}

TEST_F(GoldenStore, WithRequestsIsMadeWhenAskedFor) {
  ASSERT_NO_FATAL_FAILURE(Make());
  ASSERT_NO_FATAL_FAILURE(MakeRequests());
  ASSERT_NO_FATAL_FAILURE(PackIfAskedFor("CAIRN_MAKE_GOLDEN_REQUESTS"));
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  Check(*store);
  CheckRequests(*store);
}

TEST_F(GoldenStore, Format1WithRequestsOpensAndHoldsWhatItHeld) {
  ASSERT_NO_FATAL_FAILURE(Unpack("store-1-requests.tar.gz"));
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  EXPECT_TRUE(store->was_clean());
  Check(*store);
  CheckRequests(*store);
}

TEST_F(GoldenStore, WithSnapshotsIsMadeWhenAskedFor) {
  ASSERT_NO_FATAL_FAILURE(Make());
  ASSERT_NO_FATAL_FAILURE(MakeSnapshots());
  ASSERT_NO_FATAL_FAILURE(PackIfAskedFor("CAIRN_MAKE_GOLDEN_SNAPSHOTS"));
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  Check(*store);
  CheckSnapshots(*store);
}

TEST_F(GoldenStore, Format1WithSnapshotsOpensAndHoldsWhatItHeld) {
  ASSERT_NO_FATAL_FAILURE(Unpack("store-1-snapshots.tar.gz"));
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  EXPECT_TRUE(store->was_clean());
  Check(*store);
  CheckSnapshots(*store);
}

TEST_F(GoldenStore, Format1OpensAndHoldsWhatItHeld) {
  ASSERT_NO_FATAL_FAILURE(Unpack("store-1.tar.gz"));
  {
    auto store = Open(false);
    ASSERT_NE(store, nullptr);
    EXPECT_TRUE(store->was_clean());
    Check(*store);
    if (HasFatalFailure()) return;
    // No number of the old store is given out again, and it takes new records.
    EXPECT_GT(*store->index().AllocateId(), kDead.value());
    IndexBatch batch;
    batch.PutCounter("written-now", 7);
    ASSERT_TRUE(store->index().Commit(batch).ok());
    ASSERT_TRUE(store->Close().ok());
  }
  auto store = Open(false);
  ASSERT_NE(store, nullptr);
  Check(*store);
  EXPECT_EQ(*store->index().GetCounter("written-now"), 7u);
}

}  // namespace
}  // namespace cairn
