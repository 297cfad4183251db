// A Filesystem on a store in memory, for tests that break things beneath it.
#ifndef CAIRN_TESTS_VOLUME_VOLUME_TEST_UTIL_H_
#define CAIRN_TESTS_VOLUME_VOLUME_TEST_UTIL_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "src/base/stepping_executor.h"
#include "src/env/memory_env.h"
#include "src/volume/filesystem.h"
#include "src/volume/fsck.h"
#include "src/warm/geometry.h"
#include "src/warm/index_journal.h"
#include "src/warm/mount_table.h"

namespace cairn {

inline std::vector<std::byte> Stamped(uint64_t length, unsigned stamp) {
  return std::vector<std::byte>(length, static_cast<std::byte>(stamp));
}

// A machine with one store, its disk and the memory that outlives a killed server.
class TestMachine {
 public:
  struct Settings {
    uint64_t chunk_map_bytes = 16 << 10;  // so that leaves come and go
    std::chrono::milliseconds flush_interval{0};
    std::chrono::milliseconds clean_pause{0};
    // So that the reserve for the index is small.
    uint64_t capacity = 256 << 20;
    size_t idle_volumes = 1024;
    size_t most_kept_files = ExtentStore::kMostKept;
    uint64_t seal_bytes = 1 << 20;
    size_t journal_bytes = IndexJournal::kSmallestRegion;
    std::chrono::milliseconds seal_after{60'000};
    // 0: a SteppingExecutor, which runs nothing unless RunBackground is called.
    int executor_threads = 0;
  };
  TestMachine() : TestMachine(Settings{}) {}
  explicit TestMachine(const Settings& settings)
      : settings_(settings),
        journal_(settings.journal_bytes / 8),
        table_(MountTable::kSmallestRegion / 8) {
    env_.SetCapacity(settings.capacity);
  }

  MemoryEnv& env() { return env_; }
  Filesystem& filesystem() { return *filesystem_; }
  Executor& executor() { return *executor_; }
  // The mounted filesystem's.
  WarmStore& store() { return *store_; }

  Status TryMount() {
    WarmStoreOptions store_options;
    store_options.create = true;
    store_options.takes_over = takes_over_;
    store_options.most_kept_files = settings_.most_kept_files;
    CAIRN_ASSIGN_OR_RETURN(auto store, WarmStore::Open(env_, "/store", store_options));
    if (settings_.executor_threads > 0) {
      executor_ = NewThreadExecutor(settings_.executor_threads);
    } else {
      executor_ = std::make_unique<SteppingExecutor>();
    }
    Filesystem::Parts parts;
    store_ = store.get();
    parts.store = std::move(store);
    parts.executor = executor_.get();
    parts.journal_region = std::as_writable_bytes(std::span(journal_));
    parts.table_region = std::as_writable_bytes(std::span(table_));
    parts.takes_over = takes_over_;
    FilesystemOptions options;
    options.flush_interval = settings_.flush_interval;
    options.clean_pause = settings_.clean_pause;
    options.chunk_map_bytes = settings_.chunk_map_bytes;
    options.idle_volumes = settings_.idle_volumes;
    options.seal_bytes = settings_.seal_bytes;
    options.seal_after = settings_.seal_after;
    CAIRN_ASSIGN_OR_RETURN(filesystem_, Filesystem::Open(std::move(parts), options));
    return Status::Ok();
  }
  void Mount() {
    const Status status = TryMount();
    ASSERT_TRUE(status.ok()) << status.ToString();
  }

  // The ways in which a server ends, and the mount with it or not.
  Status Close() {
    Status status = filesystem_->Close();
    Drop();
    env_.KillProcess();
    EndMount();
    return status;
  }
  Status CloseForTheNextServer() {
    Status status = filesystem_->Close(/*mount_goes_on=*/true);
    LoseServer();
    return status;
  }
  void LoseServer() {
    Drop();
    env_.KillProcess();
    takes_over_ = true;
  }
  // The server dies at its n-th operation from now that changes the disk, which happens or not;
  // what it does until LoseDyingServer comes to nothing.
  void KillAtOperation(uint64_t n, CutSide side) {
    env_.CutAtOperation(n, side);
    env_.SetHook([this](Op, const std::string&) {
      if (!env_.power_on()) return;
      journal_at_death_ = journal_;
      table_at_death_ = table_;
    });
  }
  void LoseDyingServer() {
    env_.SetHook(nullptr);
    const bool died = !env_.power_on();
    Drop();
    env_.CutAtOperation(0, CutSide::kBefore);
    if (died) {
      // In place: the regions are where the next server finds them.
      std::copy(journal_at_death_.begin(), journal_at_death_.end(), journal_.begin());
      std::copy(table_at_death_.begin(), table_at_death_.end(), table_.begin());
    }
    env_.KillProcess();
    takes_over_ = true;
  }
  void LosePower(uint64_t seed) {
    Drop();
    env_.CutAtSync(0, CutSide::kBefore);
    env_.CutAtOperation(0, CutSide::kBefore);
    env_.Restart(seed);
    EndMount();
  }

  void RunBackground() {
    auto& stepping = static_cast<SteppingExecutor&>(*executor_);
    stepping.AdvanceTime(std::chrono::milliseconds(200));
    stepping.RunAll();
  }

  void ExpectNoDamage() {
    auto report = CheckStore(env_, "/store", {});
    ASSERT_TRUE(report.ok()) << report.status().ToString();
    EXPECT_EQ(report->damage_count, 0u)
        << report->findings[0].code << " " << report->findings[0].where << ": "
        << report->findings[0].what;
  }

  std::shared_ptr<Volume> Create(const std::string& name) {
    auto made = filesystem_->Create(kRootInode, name, 0644, {});
    EXPECT_TRUE(made.ok()) << made.status().ToString();
    return made.ok() ? Find(name) : nullptr;
  }
  std::shared_ptr<Volume> Find(const std::string& name) {
    auto found = filesystem_->Lookup(kRootInode, name);
    EXPECT_TRUE(found.ok()) << found.status().ToString();
    if (!found.ok()) return nullptr;
    auto volume = filesystem_->FindVolume(found->inode);
    EXPECT_TRUE(volume.ok()) << volume.status().ToString();
    return volume.ok() ? *volume : nullptr;
  }

 private:
  void Drop() {
    filesystem_.reset();
    executor_.reset();
  }
  void EndMount() {
    std::fill(journal_.begin(), journal_.end(), 0);
    std::fill(table_.begin(), table_.end(), 0);
    takes_over_ = false;
  }

  const Settings settings_;
  MemoryEnv env_;
  std::vector<uint64_t> journal_;
  std::vector<uint64_t> table_;
  std::vector<uint64_t> journal_at_death_;
  std::vector<uint64_t> table_at_death_;
  bool takes_over_ = false;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Filesystem> filesystem_;
  WarmStore* store_ = nullptr;  // filesystem_'s
};

// What fsck may find of writes that a crash, or a sync that failed, took.
inline bool LeftByCrash(const std::string& code) {
  return code == "leaked-blocks" || code == "behind-end" || code == "extent-unrecorded";
}

// Whether `length` bytes at `offset` all are `stamp`; says which is not.
inline testing::AssertionResult Holds(Volume& volume, uint64_t offset, uint64_t length,
                                      unsigned stamp) {
  std::vector<std::byte> bytes(length);
  auto got = volume.Read(offset, bytes);
  if (!got.ok()) return testing::AssertionFailure() << got.status().ToString();
  if (*got != length) return testing::AssertionFailure() << "only " << *got << " bytes";
  const auto other = std::find_if(bytes.begin(), bytes.end(), [&](std::byte byte) {
    return byte != static_cast<std::byte>(stamp);
  });
  if (other == bytes.end()) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "byte " << offset + static_cast<uint64_t>(other - bytes.begin()) << " is "
         << std::to_integer<unsigned>(*other) << ", should be " << stamp;
}

inline Code WriteCode(Volume& volume, uint64_t offset, uint64_t length, unsigned stamp) {
  auto written = volume.Write(offset, Stamped(length, stamp));
  if (!written.ok()) return written.status().code();
  EXPECT_EQ(*written, length);
  return Code::kOk;
}

}  // namespace cairn

#endif  // CAIRN_TESTS_VOLUME_VOLUME_TEST_UTIL_H_
