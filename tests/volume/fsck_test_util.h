// A small store in memory, built record by record so that a test can leave any of them out.
#ifndef CAIRN_TESTS_VOLUME_FSCK_TEST_UTIL_H_
#define CAIRN_TESTS_VOLUME_FSCK_TEST_UTIL_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/env/memory_env.h"
#include "src/volume/fsck.h"
#include "src/warm/warm_store.h"

namespace cairn {

class FsckTest : public ::testing::Test {
 protected:
  static constexpr const char* kDir = "/store";

  void SetUp() override { Open(true); }

  void Open(bool create = false) {
    WarmStoreOptions options;
    options.create = create;
    auto opened = WarmStore::Open(env_, kDir, options);
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    store_ = std::move(*opened);
  }
  void Close() {
    if (store_ == nullptr) return;
    const Status closed = store_->Close();
    EXPECT_TRUE(closed.ok()) << closed.ToString();
    store_.reset();
  }

  void Change(const std::function<void(IndexBatch&)>& fill) {
    IndexBatch batch;
    fill(batch);
    const Status status = store_->index().Commit(batch);
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  uint64_t NewId() { return *store_->index().AllocateId(); }

  InodeId MakeDirectory(InodeId parent, const std::string& name) {
    const InodeId id(NewId());
    InodeRecord record;
    record.kind = FileKind::kDirectory;
    record.mode = 0755;
    record.parent = parent;
    Change([&](IndexBatch& batch) {
      batch.PutInode(id, record);
      batch.PutName(parent, name, id);
    });
    return id;
  }

  struct Made {
    InodeId inode;
    BranchId branch;
  };
  Made MakeVolume(InodeId parent, const std::string& name, uint64_t size) {
    const Made made{InodeId(NewId()), BranchId(NewId())};
    InodeRecord record;
    record.mode = 0644;
    record.size = size;
    record.parent = parent;
    record.branch = made.branch;
    BranchRecord branch;
    branch.inode = made.inode;
    Change([&](IndexBatch& batch) {
      batch.PutInode(made.inode, record);
      batch.PutName(parent, name, made.inode);
      batch.PutBranch(made.branch, branch);
    });
    return made;
  }

  // Blocks of data with their version and extent record.
  void Write(BranchId branch, uint64_t chunk, BlockMask mask, Epoch epoch = Epoch(1)) {
    const ChunkIndex index(chunk);
    const ExtentId id{branch, epoch, SegmentOf(index)};
    WriteData(id, chunk, mask);
    const uint64_t end = OffsetInSegment(ChunkStart(index)) + kChunkSize;
    uint64_t size = end;
    ASSERT_TRUE(store_->index()
                    .ForEachExtent(branch,
                                   [&](const ExtentId& other, uint64_t known) {
                                     if (other == id) size = std::max(known, end);
                                     return true;
                                   })
                    .ok());
    VersionRecord version;
    version.extent = mask;
    Change([&](IndexBatch& batch) {
      batch.PutVersion(branch, index, epoch, version);
      batch.PutExtent(id, size);
    });
  }

  // Only the bytes.
  void WriteData(const ExtentId& id, uint64_t chunk, BlockMask mask) {
    auto file = store_->extents().Open(id, ExtentStore::Mode::kCreate, 0);
    ASSERT_TRUE(file.ok());
    const uint64_t start = OffsetInSegment(ChunkStart(ChunkIndex(chunk)));
    ASSERT_TRUE((*file)->EnsureSize(start + kChunkSize).ok());
    const std::string block(kBlockSize, 'x');
    for (uint64_t i = 0; i < kBlocksPerChunk; ++i) {
      if ((mask >> i & 1) == 0) continue;
      ASSERT_TRUE((*file)->WriteAt(start + i * kBlockSize, std::as_bytes(std::span(block))).ok());
    }
    ASSERT_TRUE((*file)->Sync().ok());
  }

  std::string PathOf(const ExtentId& id) { return store_->extents().PathOf(id); }
  uint64_t HeldBy(const ExtentId& id) { return store_->extents().Info(id)->allocated_bytes; }

  // Closes the store for the check and opens it again.
  FsckReport Check(bool repair = false) {
    Close();
    FsckOptions options;
    options.repair = repair;
    auto report = CheckStore(env_, kDir, options);
    EXPECT_TRUE(report.ok()) << report.status().ToString();
    Open();
    return report.ok() ? *report : FsckReport();
  }

  static std::vector<std::string> Codes(const FsckReport& report) {
    std::vector<std::string> codes;
    for (const FsckFinding& finding : report.findings) codes.push_back(finding.code);
    return codes;
  }
  static std::string Text(const FsckReport& report) {
    std::string text;
    for (const FsckFinding& finding : report.findings) {
      text += std::string(FsckSeverityName(finding.severity)) + " " + finding.code + ": " +
              finding.where + ": " + finding.what + "\n";
    }
    return text;
  }

  void ExpectClean() {
    const FsckReport report = Check();
    EXPECT_TRUE(report.findings.empty()) << Text(report);
    EXPECT_TRUE(report.sound());
  }
  // The check finds exactly these; without repair nothing changes; after repair all is well.
  void ExpectRepairable(const std::vector<std::string>& codes, FsckSeverity severity) {
    for (const bool repair : {false, false, true}) {
      const FsckReport report = Check(repair);
      EXPECT_THAT(Codes(report), ::testing::UnorderedElementsAreArray(codes)) << Text(report);
      for (const FsckFinding& finding : report.findings) {
        EXPECT_EQ(finding.severity, severity) << finding.code;
        EXPECT_EQ(finding.repaired, repair) << finding.code;
      }
      EXPECT_EQ(report.sound(), repair || severity != FsckSeverity::kDamage);
    }
    ExpectClean();
  }
  void ExpectDamageRepairable(const std::vector<std::string>& codes) {
    ExpectRepairable(codes, FsckSeverity::kDamage);
  }
  void ExpectLeakRepairable(const std::vector<std::string>& codes) {
    ExpectRepairable(codes, FsckSeverity::kLeak);
  }
  // Repair leaves these as they are.
  void ExpectNotRepairable(const std::vector<std::string>& codes) {
    for (const bool repair : {false, true, false}) {
      const FsckReport report = Check(repair);
      EXPECT_THAT(Codes(report), ::testing::UnorderedElementsAreArray(codes)) << Text(report);
      EXPECT_FALSE(report.sound());
      EXPECT_EQ(report.unrepaired_damage_count, codes.size());
    }
  }

  MemoryEnv env_;
  std::unique_ptr<WarmStore> store_;
};

}  // namespace cairn

#endif  // CAIRN_TESTS_VOLUME_FSCK_TEST_UTIL_H_
