// Random operations on a Filesystem in memory against a plain model, with crashes: the power goes
// at a random sync or operation and keeps any subset of what was not synced, or the server alone
// dies and its successor finds the journal. After each crash, what was synced is there, every
// other block holds an old or a newer content, names are as they were before or after the
// operation that was cut short, and fsck finds no damage. Blocks get checksums in between, which no
// write, cut or crash may turn against good data; bytes that are flipped on the disk are an error.
//
// CAIRN_SEED=N runs one seed; CAIRN_ROUNDS=N runs that many; CAIRN_TRACE=1 prints each operation
// and compares all contents after it.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include "src/base/stepping_executor.h"
#include "src/env/memory_env.h"
#include "src/volume/filesystem.h"
#include "src/volume/fsck.h"
#include "src/warm/index_journal.h"
#include "tests/volume/volume_model.h"

namespace cairn {
namespace {

constexpr uint64_t kLargestVolume = 5 * kChunkSize / 2;
constexpr size_t kJournalBytes = IndexJournal::kSmallestRegion;
constexpr int kNames = 4;
constexpr std::chrono::seconds kLongEnough{60};

template <typename... Numbers>
void Trace(const char* operation, const std::string& name, Numbers... numbers) {
  static const bool enabled = std::getenv("CAIRN_TRACE") != nullptr;
  if (!enabled) return;
  std::printf("%s %s", operation, name.c_str());
  (std::printf(" %llu", static_cast<unsigned long long>(numbers)), ...);
  std::printf("\n");
}

// Goes on with each step, so that a seed runs the same each time.
class StepClock final : public Clock {
 public:
  int64_t NowNs() const override { return now_ns_; }
  void Advance() { now_ns_ += 1'000'000'000; }

 private:
  int64_t now_ns_ = 1'000'000'000'000'000'000;
};

class Machine {
 public:
  explicit Machine(uint64_t seed) : random_(seed), journal_(kJournalBytes / 8) {
    // Some seeds have no memory to know which blocks of an open region were touched.
    if (Below(3) == 0) seal_bytes_ = 0;
  }

  uint64_t Below(uint64_t limit) { return random_() % limit; }

  void Start() {
    WarmStoreOptions store_options;
    store_options.create = true;
    auto store = WarmStore::Open(env_, "/store", store_options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    executor_ = std::make_unique<SteppingExecutor>();
    Filesystem::Parts parts;
    parts.store = std::move(*store);
    parts.executor = executor_.get();
    parts.clock = &clock_;
    parts.journal_region = std::as_writable_bytes(std::span(journal_));
    FilesystemOptions options;
    options.flush_interval = std::chrono::milliseconds(0);
    options.chunk_map_bytes = 16 << 10;  // so that leaves come and go
    options.seal_after = std::chrono::seconds(3);
    options.seal_bytes = seal_bytes_;
    auto filesystem = Filesystem::Open(std::move(parts), options);
    ASSERT_TRUE(filesystem.ok()) << filesystem.status().ToString();
    filesystem_ = std::move(*filesystem);
  }

  // One random operation. False when the power went.
  bool Step() {
    const uint64_t dice = Below(105);
    clock_.Advance();
    bool done = false;
    if (dice < 45) {
      done = Write();
    } else if (dice < 52) {
      done = Zero();
    } else if (dice < 58) {
      done = Truncate();
    } else if (dice < 68) {
      done = Sync();
    } else if (dice < 74) {
      done = CreateName();
    } else if (dice < 79) {
      done = RemoveName();
    } else if (dice < 84) {
      done = RenameName();
    } else if (dice < 94) {
      done = Read();
    } else if (dice < 97) {
      Trace("seal", "");
      filesystem_->SealAll(kLongEnough);
      done = true;
    } else {
      Trace("background", "");
      executor_->AdvanceTime(std::chrono::milliseconds(Below(2) ? 200 : 1200));
      while (executor_->RunOne()) {
      }
      done = true;
    }
    if (std::getenv("CAIRN_TRACE") != nullptr && env_.power_on()) CompareAll();
    return done || env_.power_on();
  }

  void PlanPowerCut() {
    const CutSide side = Below(2) ? CutSide::kBefore : CutSide::kAfter;
    if (Below(2)) {
      env_.CutAtSync(1 + Below(30), side);
    } else {
      env_.CutAtOperation(1 + Below(150), side);
    }
  }

  // Flips a byte of blocks that have checksums, and back: no read gives it out, and blocks beside
  // it stay as they are. REQUIRES: no power cut is planned.
  void FlipAndCheck() {
    filesystem_->SealAll(kLongEnough);
    const auto folders = env_.List("/store/extents");
    ASSERT_TRUE(folders.ok());
    for (const std::string& folder : *folders) {
      const std::string path = "/store/extents/" + folder;
      const auto names = env_.List(path);
      ASSERT_TRUE(names.ok());
      for (const std::string& name : *names) FlipIn(path + "/" + name);
    }
  }

  // How many reads of a flipped block were refused.
  uint64_t refusals() const { return refusals_; }

  void LosePower() {
    filesystem_.reset();
    executor_.reset();
    env_.CutAtSync(0, CutSide::kBefore);
    env_.CutAtOperation(0, CutSide::kBefore);
    Trace("-- power lost", "");
    env_.Restart(random_());
    std::fill(journal_.begin(), journal_.end(), 0);
  }

  // The server dies and is replaced: nothing acknowledged may be lost, so from here on the model
  // allows nothing but the present.
  void LoseServer() {
    filesystem_.reset();
    executor_.reset();
    Trace("-- server killed", "");
    env_.KillProcess();
    for (auto& [name, volume] : names_) volume->Sync();
  }

  void CloseCleanly() {
    Trace("-- close", "");
    const Status closed = filesystem_->Close();
    ASSERT_TRUE(closed.ok()) << closed.ToString();
    filesystem_.reset();
    executor_.reset();
    std::fill(journal_.begin(), journal_.end(), 0);
    for (auto& [name, volume] : names_) volume->Sync();
  }

  void CheckFsck() {
    auto report = CheckStore(env_, "/store", {});
    ASSERT_TRUE(report.ok()) << report.status().ToString();
    EXPECT_EQ(report->damage_count, 0u)
        << report->findings[0].code << " " << report->findings[0].where << ": "
        << report->findings[0].what;
  }

  // All names and contents are as the model allows; the model then is as they are.
  void CheckAndAdopt() {
    std::map<std::string, InodeId> found;
    const Status listed =
        filesystem_->ReadDirectory(kRootInode, 0, [&](const DirectoryEntry& entry) {
          found[entry.name] = entry.inode;
          return true;
        });
    ASSERT_TRUE(listed.ok()) << listed.ToString();
    ASSERT_TRUE(SameNames(found, names_) || (names_before_ && SameNames(found, *names_before_)))
        << "the names are neither those before nor those after the last operation";
    if (!SameNames(found, names_)) names_ = *names_before_;
    names_before_.reset();
    for (const auto& [name, inode] : found) {
      auto volume = filesystem_->FindVolume(inode);
      ASSERT_TRUE(volume.ok()) << volume.status().ToString();
      std::vector<std::byte> actual((*volume)->size());
      auto got = (*volume)->Read(0, actual);
      ASSERT_TRUE(got.ok()) << got.status().ToString();
      ASSERT_EQ(*got, actual.size());
      EXPECT_EQ(names_[name]->Recover(actual), "") << "volume " << name;
    }
  }

 private:
  using Names = std::map<std::string, std::shared_ptr<VolumeModel>>;

  static bool SameNames(const std::map<std::string, InodeId>& found, const Names& names) {
    if (found.size() != names.size()) return false;
    auto name = names.begin();
    for (const auto& [found_name, inode] : found) {
      if (found_name != (name++)->first) return false;
    }
    return true;
  }

  std::string AnyName() { return "v" + std::to_string(Below(kNames)); }

  // A volume that exists, with its name; null when there is none.
  std::shared_ptr<Volume> AnyVolume(std::string& name) {
    if (names_.empty()) return nullptr;
    auto entry = names_.begin();
    std::advance(entry, static_cast<ptrdiff_t>(Below(names_.size())));
    name = entry->first;
    auto attributes = filesystem_->Lookup(kRootInode, name);
    if (!attributes.ok()) return Failed(attributes.status()), nullptr;
    auto volume = filesystem_->FindVolume(attributes->inode);
    if (!volume.ok()) return Failed(volume.status()), nullptr;
    return *volume;
  }

  // Failures are the power's; any other one fails the test.
  bool Failed(const Status& status) {
    EXPECT_FALSE(env_.power_on()) << status.ToString();
    return false;
  }

  bool Write() {
    std::string name;
    const auto volume = AnyVolume(name);
    if (!volume) return names_.empty();
    uint64_t offset = Below(kLargestVolume);
    uint64_t length = 1 + Below(Below(8) == 0 ? kChunkSize : 3 * kBlockSize);
    if (Below(2)) {
      offset = offset / kBlockSize * kBlockSize;
      length = RoundUpToBlock(length);
    }
    std::vector<std::byte> data(length);
    for (uint64_t i = 0; i < length; ++i) {
      data[i] = static_cast<std::byte>(counter_ * 31 + (i / 512) * 7 + 1);
    }
    ++counter_;
    Trace("write", name, offset, length, offset / kBlockSize, (offset + length - 1) / kBlockSize);
    names_[name]->Write(offset, data);  // also when it fails: any part may be there
    auto written = volume->Write(offset, data);
    if (!written.ok()) return Failed(written.status());
    EXPECT_TRUE(*written == length || !env_.power_on());
    return *written == length;
  }

  bool Zero() {
    std::string name;
    const auto volume = AnyVolume(name);
    if (!volume) return names_.empty();
    const uint64_t offset = Below(kLargestVolume);
    const uint64_t length = 1 + Below(kLargestVolume);
    Trace("zero", name, offset, length, offset / kBlockSize, (offset + length - 1) / kBlockSize);
    names_[name]->Zero(offset, length);
    const Status status = volume->Zero(offset, length, true);
    return status.ok() || Failed(status);
  }

  bool Truncate() {
    std::string name;
    const auto volume = AnyVolume(name);
    if (!volume) return names_.empty();
    uint64_t size = Below(4) == 0 ? 0 : Below(kLargestVolume);
    // As disks are: whole chunks, which leave nothing to trim behind the end.
    if (Below(2)) size = RoundUpToChunk(size);
    Trace("truncate", name, size, size / kBlockSize);
    names_[name]->Truncate(size);
    const Status status = volume->Truncate(size);
    return status.ok() || Failed(status);
  }

  bool Sync() {
    std::string name;
    const auto volume = AnyVolume(name);
    if (!volume) return names_.empty();
    Trace("sync", name);
    const Status status = volume->Sync();
    if (!status.ok()) return Failed(status);
    names_[name]->Sync();
    return true;
  }

  bool Read() {
    std::string name;
    const auto volume = AnyVolume(name);
    if (!volume) return names_.empty();
    const uint64_t offset = Below(kLargestVolume);
    Compare(name, *volume, offset, 1 + Below(kChunkSize));
    return true;
  }

  void FlipIn(const std::string& path) {
    auto file = env_.Open(path, OpenMode::kReadWrite);
    ASSERT_TRUE(file.ok());
    const uint64_t offset = Below(kLargestVolume);
    std::array<std::byte, 1> byte;
    auto got = (*file)->ReadAt(offset, byte);
    ASSERT_TRUE(got.ok());
    if (*got == 0) return;
    Trace("flip", path, offset, offset / kBlockSize);
    const std::array<std::byte, 1> flipped{byte[0] ^ std::byte{1}};
    ASSERT_TRUE((*file)->WriteAt(offset, flipped).ok());
    for (const auto& [name, model] : names_) {
      auto attributes = filesystem_->Lookup(kRootInode, name);
      ASSERT_TRUE(attributes.ok());
      auto volume = filesystem_->FindVolume(attributes->inode);
      ASSERT_TRUE(volume.ok());
      const uint64_t step = Below(2) ? kBlockSize : 512;
      const uint64_t first = offset / kBlockSize * kBlockSize;
      for (uint64_t at = first < kBlockSize ? 0 : first - kBlockSize; at < first + 2 * kBlockSize;
           at += step) {
        std::vector<std::byte> out(step);
        const auto read = (*volume)->Read(at, out);
        if (!read.ok()) {
          EXPECT_EQ(read.status().code(), Code::kCorrupt) << read.status().ToString();
          EXPECT_EQ(at / kBlockSize, offset / kBlockSize) << "a block that nobody flipped";
          ++refusals_;
          continue;
        }
        out.resize(*read);
        EXPECT_EQ(out, model->Read(at, step)) << name << " differs at " << at;
      }
    }
    ASSERT_TRUE((*file)->WriteAt(offset, byte).ok());
    ASSERT_TRUE((*file)->Sync().ok());
  }

  bool NamesAreDurable() {
    names_before_.reset();
    return true;
  }

  void CompareAll() {
    for (const auto& [name, model] : names_) {
      auto attributes = filesystem_->Lookup(kRootInode, name);
      ASSERT_TRUE(attributes.ok()) << attributes.status().ToString();
      auto volume = filesystem_->FindVolume(attributes->inode);
      ASSERT_TRUE(volume.ok()) << volume.status().ToString();
      Compare(name, **volume, 0, kLargestVolume * 2);
    }
  }

  void Compare(const std::string& name, Volume& volume, uint64_t offset, uint64_t length) {
    std::vector<std::byte> out(length);
    auto got = volume.Read(offset, out);
    if (!got.ok()) return (void)Failed(got.status());
    out.resize(*got);
    const std::vector<std::byte> expected = names_[name]->Read(offset, length);
    EXPECT_EQ(out.size(), expected.size()) << name;
    const auto [differs, unused] =
        std::mismatch(out.begin(), out.end(), expected.begin(), expected.end());
    EXPECT_TRUE(differs == out.end())
        << name << " differs at " << offset + static_cast<uint64_t>(differs - out.begin());
  }

  bool CreateName() {
    const std::string name = AnyName();
    names_before_ = names_;
    Trace("create", name);
    auto made = filesystem_->Create(kRootInode, name, 0644, {});
    if (names_.contains(name)) {
      EXPECT_TRUE(!made.ok());
      return made.status().code() == Code::kExists || Failed(made.status());
    }
    names_[name] = std::make_shared<VolumeModel>();
    return made.ok() ? NamesAreDurable() : Failed(made.status());
  }

  bool RemoveName() {
    const std::string name = AnyName();
    names_before_ = names_;
    Trace("unlink", name);
    const Status status = filesystem_->Unlink(kRootInode, name, {});
    if (names_.erase(name) == 0) {
      return status.code() == Code::kNotFound || Failed(status);
    }
    return status.ok() ? NamesAreDurable() : Failed(status);
  }

  bool RenameName() {
    const std::string from = AnyName();
    const std::string to = AnyName();
    names_before_ = names_;
    Trace("rename", from + " " + to);
    const Status status =
        filesystem_->Rename(kRootInode, from, kRootInode, to, RenameMode::kReplace, {});
    if (!names_.contains(from)) return status.code() == Code::kNotFound || Failed(status);
    auto volume = names_[from];
    names_.erase(from);
    names_[to] = volume;
    return status.ok() ? NamesAreDurable() : Failed(status);
  }

  std::mt19937_64 random_;
  StepClock clock_;
  uint64_t seal_bytes_ = 1 << 20;
  uint64_t refusals_ = 0;
  MemoryEnv env_;
  std::vector<uint64_t> journal_;
  std::unique_ptr<SteppingExecutor> executor_;
  std::unique_ptr<Filesystem> filesystem_;
  Names names_;
  std::optional<Names> names_before_;
  uint64_t counter_ = 0;
};

// Adds to `refusals` how many reads of flipped bytes were refused.
void RunSeed(uint64_t seed, uint64_t& refusals) {
  SCOPED_TRACE("CAIRN_SEED=" + std::to_string(seed));
  Machine machine(seed);
  machine.Start();
  for (int life = 0; life < 12 && !testing::Test::HasFailure(); ++life) {
    const bool cut = machine.Below(3) != 0;
    if (cut) machine.PlanPowerCut();
    bool alive = true;
    for (int step = 0; step < 60 && alive && !testing::Test::HasFailure(); ++step) {
      alive = machine.Step();
    }
    if (testing::Test::HasFailure()) return;
    if (!cut && machine.Below(2)) {
      ASSERT_NO_FATAL_FAILURE(machine.FlipAndCheck());
    }
    if (cut) {
      machine.LosePower();
      ASSERT_NO_FATAL_FAILURE(machine.CheckFsck());
    } else if (machine.Below(3) == 0) {
      ASSERT_NO_FATAL_FAILURE(machine.CloseCleanly());
      ASSERT_NO_FATAL_FAILURE(machine.CheckFsck());
    } else {
      machine.LoseServer();
    }
    ASSERT_NO_FATAL_FAILURE(machine.Start());
    ASSERT_NO_FATAL_FAILURE(machine.CheckAndAdopt());
  }
  refusals += machine.refusals();
}

TEST(ModelTest, RandomOperationsAndCrashes) {
  uint64_t refusals = 0;
  if (const char* seed = std::getenv("CAIRN_SEED")) {
    return RunSeed(std::strtoull(seed, nullptr, 0), refusals);
  }
  const char* rounds = std::getenv("CAIRN_ROUNDS");
  const uint64_t count = rounds ? std::strtoull(rounds, nullptr, 0) : 60;
  const uint64_t base = std::random_device{}();
  std::printf("seeds %llu to %llu\n", static_cast<unsigned long long>(base),
              static_cast<unsigned long long>(base + count - 1));
  for (uint64_t seed = base; seed < base + count && !HasFailure(); ++seed) RunSeed(seed, refusals);
  if (count >= 10) {
    EXPECT_GT(refusals, 0u) << "no flipped byte was ever seen";
  }
}

}  // namespace
}  // namespace cairn
