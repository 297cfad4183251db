// One fixed script of operations, over and over: each of its I/Os fails once, and the power goes
// at each of its sync points. Nothing may crash or hang, each operation succeeds or says that it
// did not, the store stays sound, and what was fsynced is there afterwards.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/volume/volume_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kSector = 512;

// What a volume may hold, sector by sector, when some operations fail: each sector holds 512 times
// the same byte. After a failed operation it holds the old or the new one.
class SectorModel {
 public:
  void Write(uint64_t offset, uint64_t length, unsigned stamp, bool ok) {
    SetRange(offset, length, stamp, ok);
    Reserve(offset, length, ok);
  }
  // Changes no content, and the size as a write does.
  void Reserve(uint64_t offset, uint64_t length, bool ok) {
    const uint64_t end = offset + length;
    std::set<uint64_t> grown = ok ? std::set<uint64_t>{} : sizes_.now;
    for (const uint64_t size : sizes_.now) grown.insert(std::max(size, end));
    sizes_.now = grown;
    sizes_.durable.merge(grown);
    // What failed may have been carried out in part, up to any chunk of it.
    for (uint64_t at = RoundUpToBlock(offset + 1); !ok && at < end; at += kBlockSize) {
      if (at > *sizes_.durable.begin()) sizes_.Set(at, false);
    }
  }
  void Zero(uint64_t offset, uint64_t length, bool ok) { SetRange(offset, length, 0, ok); }
  void Truncate(uint64_t size, bool ok) {
    for (auto& [sector, value] : sectors_) {
      if (sector * kSector >= size) value.Set(0, ok);
    }
    sizes_.Set(size, ok);
  }
  void Sync(bool ok) {
    if (!ok) return;
    for (auto& [sector, value] : sectors_) value.durable = value.now;
    sizes_.durable = sizes_.now;
  }

  // Compares; `crashed`: acknowledged changes that were not fsynced may be missing.
  void Check(Volume& volume, bool crashed) const {
    const auto& sizes = crashed ? sizes_.durable : sizes_.now;
    ASSERT_TRUE(sizes.contains(volume.size())) << "the size is " << volume.size();
    std::vector<std::byte> bytes(volume.size());
    auto got = volume.Read(0, bytes);
    ASSERT_TRUE(got.ok()) << got.status().ToString();
    ASSERT_EQ(*got, bytes.size());
    static const Value zero;
    for (uint64_t at = 0; at < bytes.size(); at += kSector) {
      const auto known = sectors_.find(at / kSector);
      const Value& value = known == sectors_.end() ? zero : known->second;
      const auto stamp = std::to_integer<unsigned>(bytes[at]);
      const auto& allowed = crashed ? value.durable : value.now;
      ASSERT_TRUE(allowed.contains(stamp))
          << "sector " << at / kSector << " (block " << at / kBlockSize << ") holds " << stamp
          << ", should hold " << testing::PrintToString(allowed);
      for (uint64_t i = at; i < std::min<uint64_t>(at + kSector, bytes.size()); ++i) {
        ASSERT_EQ(bytes[i], bytes[at]) << "sector " << at / kSector << " is torn";
      }
    }
  }

 private:
  struct Value {
    std::set<uint64_t> now{0};      // what a read may show
    std::set<uint64_t> durable{0};  // what may be there after a power cut
    void Set(uint64_t value, bool ok) {
      if (ok) now.clear();
      now.insert(value);
      durable.insert(value);
    }
  };

  void SetRange(uint64_t offset, uint64_t length, uint64_t stamp, bool ok) {
    for (uint64_t at = offset; at < offset + length; at += kSector) {
      sectors_[at / kSector].Set(stamp, ok);
    }
  }

  std::map<uint64_t, Value> sectors_;
  Value sizes_;
};

// The script, and what it leads one to expect.
class Script {
 public:
  explicit Script(TestMachine& machine) : machine_(machine) {}

  // A store with something in it, freshly mounted.
  void Prepare() {
    machine_.Mount();
    Create("a");
    Write("a", 0, 3 * kBlockSize);
    Write("a", kChunkSize + 5 * kBlockSize, 20 * kBlockSize);
    Write("a", 3 * kChunkSize, kBlockSize);
    Create("b");
    Write("b", 10 * kBlockSize, 4 * kBlockSize);
    ASSERT_TRUE(machine_.Close().ok());
    for (auto& [inode, model] : volumes_) model.Sync(true);
    machine_.Mount();
  }

  void Run() {
    Write("a", 2 * kBlockSize + 512, kBlockSize);
    Sync("a");
    Create("c");
    Write("c", 512, 3 * kBlockSize);
    Write("c", 8 * kBlockSize, kSector);
    Sync("c");
    Write("a", 2 * kChunkSize + 9 * kBlockSize, kBlockSize + 1024);
    Write("a", 2 * kChunkSize - kBlockSize, 2 * kBlockSize);
    Zero("a", kBlockSize - 512, 5 * kBlockSize);
    Zero("a", kChunkSize, kChunkSize / 2);
    Sync("a");
    Background();
    Truncate("a", kChunkSize + 8 * kBlockSize + 512);
    Write("a", 3 * kChunkSize + kBlockSize, kBlockSize);
    Truncate("a", 4 * kChunkSize);
    Sync("a");
    Reserve("a", 3 * kChunkSize - 10 * kBlockSize, kChunkSize + 20 * kBlockSize + 512);
    Write("a", 4 * kChunkSize + 5 * kBlockSize, kBlockSize);
    Truncate("b", 0);
    Write("b", 11 * kBlockSize, kBlockSize);
    Sync("b");
    Rename("c", "d");
    Write("d", 5 * kBlockSize, kBlockSize);
    Reserve("d", 4 * kBlockSize, 8 * kBlockSize);
    Rename("d", "b");
    Sync("b");
    Create("e");
    Write("e", 0, 5 * kBlockSize);
    Unlink("e");
    Background();
    Write("a", 5 * kChunkSize, 2 * kBlockSize);
    all_synced_ = machine_.filesystem().SyncAll().ok();
    for (auto& [inode, model] : volumes_) model.Sync(all_synced_ && TakesWrites(inode));
    Write("b", 30 * kBlockSize, kBlockSize);
  }

  bool all_synced() const { return all_synced_; }
  bool any_poisoned() const { return !poisoned_.empty(); }

  void NotePoisoned() {
    for (const auto& [inode, model] : volumes_) {
      if (!TakesWrites(inode)) poisoned_.insert(inode);
    }
  }

  void CheckAll(bool crashed) {
    std::map<std::string, uint64_t> found;
    const Status listed =
        machine_.filesystem().ReadDirectory(kRootInode, 0, [&](const DirectoryEntry& entry) {
          found[entry.name] = entry.inode.value();
          return true;
        });
    ASSERT_TRUE(listed.ok()) << listed.ToString();
    for (const auto& [name, allowed] : names_) {
      const uint64_t inode = found.contains(name) ? found[name] : kNone;
      ASSERT_TRUE(allowed.contains(inode) || (inode != kNone && allowed.contains(kUnknown)))
          << name << " is inode " << inode << ", not " << testing::PrintToString(allowed);
    }
    for (const auto& [name, inode] : found) {
      ASSERT_TRUE(names_.contains(name)) << name;
      const auto model = volumes_.find(inode);
      if (model == volumes_.end()) continue;
      SCOPED_TRACE("volume " + name);
      auto volume = machine_.filesystem().FindVolume(InodeId(inode));
      ASSERT_TRUE(volume.ok()) << volume.status().ToString();
      model->second.Check(**volume, crashed || poisoned_.contains(inode));
    }
  }

 private:
  static constexpr uint64_t kNone = 0;
  static constexpr uint64_t kUnknown = ~0ull;  // some inode that a failed creation left

  bool TakesWrites(uint64_t inode) {
    auto volume = machine_.filesystem().FindVolume(InodeId(inode));
    return volume.ok() && (*volume)->Write(0, {}).ok();
  }
  // The inode that a name certainly has, and its volume; an operation on others is left out.
  std::optional<uint64_t> Certain(const std::string& name) {
    const auto found = names_.find(name);
    if (found == names_.end() || found->second.size() != 1) return {};
    const auto& inodes = found->second;
    if (*inodes.begin() == kNone || *inodes.begin() == kUnknown) return {};
    return *inodes.begin();
  }
  void Do(const std::string& name, const std::function<bool(Volume& volume)>& operation,
          const std::function<void(SectorModel& model, bool ok)>& expect) {
    const auto inode = Certain(name);
    if (!inode) return;
    auto volume = machine_.filesystem().FindVolume(InodeId(*inode));
    expect(volumes_[*inode], volume.ok() && operation(**volume));
  }

  void Write(const std::string& name, uint64_t offset, uint64_t length) {
    const unsigned stamp = ++stamp_;
    Do(
        name,
        [&](Volume& volume) {
          auto written = volume.Write(offset, Stamped(length, stamp));
          return written.ok() && *written == length;
        },
        [&](SectorModel& model, bool ok) { model.Write(offset, length, stamp, ok); });
  }
  void Zero(const std::string& name, uint64_t offset, uint64_t length) {
    Do(
        name, [&](Volume& volume) { return volume.Zero(offset, length, true).ok(); },
        [&](SectorModel& model, bool ok) { model.Zero(offset, length, ok); });
  }
  void Reserve(const std::string& name, uint64_t offset, uint64_t length) {
    Do(
        name, [&](Volume& volume) { return volume.Allocate(offset, length, false).ok(); },
        [&](SectorModel& model, bool ok) { model.Reserve(offset, length, ok); });
  }
  void Truncate(const std::string& name, uint64_t size) {
    Do(
        name, [&](Volume& volume) { return volume.Truncate(size).ok(); },
        [&](SectorModel& model, bool ok) { model.Truncate(size, ok); });
  }
  void Sync(const std::string& name) {
    Do(
        name, [](Volume& volume) { return volume.Sync().ok(); },
        [](SectorModel& model, bool ok) { model.Sync(ok); });
  }
  void Create(const std::string& name) {
    auto made = machine_.filesystem().Create(kRootInode, name, 0644, {});
    if (made.ok()) {
      names_[name] = {made->inode.value()};
      volumes_[made->inode.value()];
    } else {
      names_[name] = {kNone, kUnknown};
    }
  }
  void Rename(const std::string& from, const std::string& to) {
    if (!Certain(from)) return;
    const uint64_t inode = *Certain(from);
    const Status status =
        machine_.filesystem().Rename(kRootInode, from, kRootInode, to, RenameMode::kReplace, {});
    if (status.ok()) {
      names_[from] = {kNone};
      names_[to] = {inode};
    } else {
      if (!names_.contains(to)) names_[to] = {kNone};
      names_[from].insert(kNone);
      names_[to].insert(inode);
    }
  }
  void Unlink(const std::string& name) {
    if (!Certain(name)) return;
    if (machine_.filesystem().Unlink(kRootInode, name, {}).ok()) {
      names_[name] = {kNone};
    } else {
      names_[name].insert(kNone);
    }
  }
  void Background() { machine_.RunBackground(); }

  TestMachine& machine_;
  std::map<std::string, std::set<uint64_t>> names_;
  std::map<uint64_t, SectorModel> volumes_;
  std::set<uint64_t> poisoned_;
  unsigned stamp_ = 0;
  bool all_synced_ = false;
};

constexpr TestMachine::Settings kSmallDisk{.capacity = 32 << 20};

class VolumeSweepTest : public testing::Test {
 protected:
  // How many operations the script takes when nothing fails.
  uint64_t Count(const std::function<uint64_t(MemoryEnv&)>& count) {
    TestMachine machine(kSmallDisk);
    Script script(machine);
    script.Prepare();
    const uint64_t before = count(machine.env());
    script.Run();
    EXPECT_TRUE(script.all_synced());
    const uint64_t after = count(machine.env());
    script.CheckAll(false);
    return after - before;
  }

  // What the store looks like after an ending, and after one more life.
  // `poisoned`: a volume is still, since the mount went on.
  void CheckEnding(TestMachine& machine, Script& script, bool crashed, bool poisoned = false) {
    machine.ExpectNoDamage();
    ASSERT_NO_FATAL_FAILURE(machine.Mount());
    ASSERT_NO_FATAL_FAILURE(script.CheckAll(crashed));
    const Status closed = machine.Close();
    EXPECT_TRUE(closed.ok() || (poisoned && closed.code() == Code::kReadOnly)) << closed.ToString();
    machine.ExpectNoDamage();
  }
};

TEST_F(VolumeSweepTest, EachOperationFailsOnce) {
  const uint64_t count = Count([](MemoryEnv& env) { return env.operation_count(); });
  ASSERT_GT(count, 50u);
  for (uint64_t n = 1; n <= count + 1 && !HasFailure(); ++n) {
    for (const int ending : {0, 1, 2}) {
      SCOPED_TRACE("operation " + std::to_string(n) + " of " + std::to_string(count) +
                   " fails, ending " + std::to_string(ending));
      TestMachine machine(kSmallDisk);
      Script script(machine);
      script.Prepare();
      Fault fault;
      fault.nth = n;
      fault.error = n % 2 == 0 ? EIO : ENOSPC;
      fault.written_bytes = n % 3 * 3 * kSector;
      machine.env().AddFault(fault);
      script.Run();
      machine.env().ClearFaults();
      script.NotePoisoned();
      ASSERT_NO_FATAL_FAILURE(script.CheckAll(false));
      bool crashed = false;
      if (ending == 0) {
        machine.LoseServer();
      } else if (ending == 1) {
        machine.LosePower(n);
        crashed = true;
      } else {
        crashed = !machine.Close().ok();
      }
      CheckEnding(machine, script, crashed, ending == 0 && script.any_poisoned());
      if (HasFailure()) return;
    }
  }
}

TEST_F(VolumeSweepTest, PowerCutAtEachSyncPoint) {
  const uint64_t count = Count([](MemoryEnv& env) { return env.sync_count(); });
  ASSERT_GT(count, 10u);
  for (uint64_t n = 1; n <= count; ++n) {
    for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
      for (uint64_t seed = 0; seed < 4; ++seed) {
        SCOPED_TRACE("sync point " + std::to_string(n) + " of " + std::to_string(count) +
                     (side == CutSide::kBefore ? ", before, seed " : ", after, seed ") +
                     std::to_string(seed));
        TestMachine machine(kSmallDisk);
        Script script(machine);
        script.Prepare();
        machine.env().CutAtSync(n, side);
        script.Run();
        machine.LosePower(seed);
        CheckEnding(machine, script, true);
        if (HasFailure()) return;
      }
    }
  }
}

}  // namespace
}  // namespace cairn
