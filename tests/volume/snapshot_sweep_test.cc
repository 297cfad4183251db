// Each request about snapshots with each of its operations failing once, and with the power going
// or the server dying at each: all of it happened or nothing did, everybody else goes on, and
// nothing stays behind.
#include <gtest/gtest.h>

#include <functional>
#include <future>

#include "src/volume/disk_volume.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {
namespace {

constexpr uint64_t kSize = kChunkSize + 5 * kBlockSize;
constexpr TestMachine::Settings kSmallDisk{.capacity = 32 << 20};

// Of what `s0` holds, stamps 1 and 2: the volumes have grown since.
constexpr uint64_t kOldSize = kSize - 3 * kBlockSize;
uint64_t SizeOf(unsigned stamp) { return stamp <= 2 ? kOldSize : kSize; }

std::string Filled(char stamp) { return std::string(SizeOf(static_cast<unsigned>(stamp)), stamp); }

// Two volumes that were snapshotted as `s0` and written to since.
class Scene {
 public:
  Scene() : machine_(kSmallDisk) {}

  // `dirty`: what was written since is neither synced nor in the index.
  void Prepare(bool dirty = false) {
    dirty_ = dirty;
    machine_.Mount();
    for (const char* name : {"a", "b"}) machine_.Create(name);
    Fill("a", 1);
    Fill("b", 2);
    ASSERT_TRUE(TrySnapshot(machine_.filesystem(), "s0", {"a", "b"}).ok());
    if (!dirty) Fill("a", 3);
    if (!dirty) Fill("b", 4);
    ASSERT_TRUE(machine_.Close().ok());
    machine_.Mount();
    // So that nothing but the request itself is counted.
    machine_.RunBackground();
    if (!dirty) return;
    ASSERT_EQ(WriteCode(*machine_.Find("a"), 0, kSize, 3), Code::kOk);
    ASSERT_EQ(WriteCode(*machine_.Find("b"), 0, kSize, 4), Code::kOk);
  }
  void Close() { lost_writes_ = !machine_.Close().ok(); }
  void LoseServer() {
    lost_writes_ = true;
    machine_.LoseServer();
  }
  void LosePower(uint64_t seed) {
    lost_writes_ = true;
    MayLoseWhatNobodySynced();
    machine_.LosePower(seed);
  }
  void MayLoseWhatNobodySynced() { may_lose_ = dirty_; }
  TestMachine& machine() { return machine_; }
  MemoryEnv& env() { return machine_.env(); }
  Filesystem& filesystem() { return machine_.filesystem(); }

  // The server dies in a request, which then is sent to the next one again.
  void LoseDyingServer() {
    machine_.LoseDyingServer();
    lost_writes_ = true;
    caller_.resent = true;
    machine_.Mount();
  }

  Status Snapshot() {
    CAIRN_ASSIGN_OR_RETURN(const auto done, filesystem().snapshots().FindCreated(caller_));
    if (done) return Status::Ok();
    CAIRN_ASSIGN_OR_RETURN(auto group, GroupOf(filesystem(), "new", {"a", "b"}));
    group.caller = caller_;
    return filesystem().snapshots().Create(group).status();
  }
  Status Delete() {
    CAIRN_ASSIGN_OR_RETURN(const bool done, filesystem().snapshots().WasDeleted(caller_));
    if (done) return Status::Ok();
    CAIRN_ASSIGN_OR_RETURN(const InodeId id, FindPath(filesystem(), ".snapshots/s0"));
    return filesystem().snapshots().Delete(id, caller_);
  }
  Status RollBack() {
    SnapshotOps::NewRollback rollback;
    rollback.before.name = "before";
    rollback.caller = caller_;
    rollback.deadline = kEnough;
    for (const std::string name : {"a", "b"}) {
      CAIRN_ASSIGN_OR_RETURN(const InodeId member, FindPath(filesystem(), ".snapshots/s0/" + name));
      CAIRN_ASSIGN_OR_RETURN(const InodeId live, FindPath(filesystem(), name));
      rollback.items.push_back({member, live, name});
    }
    return filesystem().snapshots().Rollback(rollback).status();
  }
  Status Clone() {
    CAIRN_ASSIGN_OR_RETURN(const auto done, filesystem().snapshots().FindCloned(caller_));
    if (done) return Status::Ok();
    SnapshotOps::NewClone clone;
    clone.caller = caller_;
    clone.parent = kRootInode;
    clone.name = "copy";
    clone.deadline = kEnough;
    CAIRN_ASSIGN_OR_RETURN(const InodeId top, FindPath(filesystem(), ".snapshots/s0"));
    clone.directories.push_back({top, ""});
    for (const std::string name : {"a", "b"}) {
      CAIRN_ASSIGN_OR_RETURN(const InodeId live, FindPath(filesystem(), name));
      clone.files.push_back({live, name});
    }
    return filesystem().snapshots().Clone(clone).status();
  }
  Status CopyRange() {
    CAIRN_ASSIGN_OR_RETURN(const InodeId from, FindPath(filesystem(), ".snapshots/s0/a"));
    CAIRN_ASSIGN_OR_RETURN(const InodeId to, FindPath(filesystem(), "empty"));
    CAIRN_ASSIGN_OR_RETURN(const uint64_t done, filesystem().snapshots().CloneRange(
                                                    from, to, {0, kOldSize}, kEnough, caller_));
    return done == kOldSize ? Status::Ok() : Status(Code::kAgain, "not cloned");
  }

  void Fill(const std::string& name, unsigned stamp) {
    const auto volume = machine_.Find(name);
    ASSERT_EQ(WriteCode(*volume, 0, SizeOf(stamp), stamp), Code::kOk);
    ASSERT_TRUE(volume->Sync().ok());
  }
  bool Exists(const std::string& path) { return FindPath(filesystem(), path).ok(); }
  void Expect(const std::string& path, char stamp) {
    const auto content = ContentOf(filesystem(), path);
    ASSERT_TRUE(content.ok()) << path << ": " << content.status().ToString();
    EXPECT_TRUE(*content == Filled(stamp)) << path;
  }
  // The same of a volume; blocks that nobody has synced may be lost.
  void ExpectLive(const std::string& name, char stamp, char before) {
    if (!may_lose_) return Expect(name, stamp);
    const auto content = ContentOf(filesystem(), name);
    ASSERT_TRUE(content.ok()) << name << ": " << content.status().ToString();
    ASSERT_TRUE(content->size() == Filled(stamp).size() || content->size() == Filled(before).size())
        << name << ": " << content->size();
    for (uint64_t at = 0; at < content->size(); at += kBlockSize) {
      const std::string block = content->substr(at, kBlockSize);
      const char was = at < kOldSize ? before : '\0';
      EXPECT_TRUE(block == std::string(kBlockSize, stamp) || block == std::string(kBlockSize, was))
          << name << " at " << at;
    }
  }
  // A directory with both volumes, or nothing of it.
  void ExpectWhole(const std::string& directory, char a, char b) {
    if (!Exists(directory)) return;
    Expect(directory + "/a", a);
    Expect(directory + "/b", b);
  }

  // Whatever happened: all or nothing of each request.
  void CheckAll() {
    ExpectWhole(".snapshots/new", 3, 4);
    ExpectWhole(".snapshots/s0", 1, 2);
    ExpectWhole("copy", 3, 4);
    const bool rolled_back = Exists(".snapshots/before");
    ExpectWhole(".snapshots/before", 3, 4);
    ExpectLive("a", rolled_back ? 1 : 3, 1);
    ExpectLive("b", rolled_back ? 2 : 4, 2);
    if (Exists("empty")) {
      const auto content = ContentOf(filesystem(), "empty");
      ASSERT_TRUE(content.ok()) << content.status().ToString();
      EXPECT_TRUE(content->empty() || *content == Filled(1));
    }
  }
  // Who is not poisoned takes writes.
  void CheckWriters() {
    for (const char* name : {"a", "b"}) {
      const auto volume = machine_.Find(name);
      std::vector<std::byte> same(10);
      ASSERT_TRUE(volume->Read(0, same).ok());
      const auto written = volume->Write(0, same);
      // After a write of the index that failed, it takes no other until the next mount.
      const bool index_failed =
          written.status().context().find("index: write") != std::string::npos;
      EXPECT_TRUE(written.ok() || written.status().code() == Code::kReadOnly || index_failed)
          << written.status().ToString();
    }
  }
  // After an ending: nothing is damaged, and once all was cleaned up nothing stays behind.
  void CheckEnding(const std::function<void()>& check = [] {}) {
    machine_.ExpectNoDamage();
    // What a failed sync poisoned stays so as long as the mount, whichever server serves it.
    Status closed(Code::kIo, "not closed yet");
    for (int mounts = 0; mounts < 2 && !closed.ok(); ++mounts) {
      ASSERT_NO_FATAL_FAILURE(machine_.Mount());
      ASSERT_NO_FATAL_FAILURE(CheckAll());
      check();
      auto& stepping = static_cast<SteppingExecutor&>(machine_.executor());
      for (int i = 0; i < 3; ++i) {
        stepping.AdvanceTime(std::chrono::minutes(10));
        machine_.RunBackground();
      }
      ASSERT_NO_FATAL_FAILURE(CheckAll());
      closed = machine_.Close();
    }
    ASSERT_TRUE(closed.ok()) << closed.ToString();
    auto report = CheckStore(machine_.env(), "/store", {});
    ASSERT_TRUE(report.ok());
    for (const FsckFinding& finding : report->findings) {
      const bool counts =
          finding.severity != FsckSeverity::kNote && !(lost_writes_ && LeftByCrash(finding.code));
      EXPECT_FALSE(counts) << finding.code << " " << finding.where << ": " << finding.what;
    }
  }

 private:
  TestMachine machine_;
  Caller caller_{.request = RequestId(2)};
  bool dirty_ = false;
  bool may_lose_ = false;
  bool lost_writes_ = false;
};

struct Request {
  const char* name;
  Status (Scene::*run)();
  const char* makes;   // is there once it happened
  const char* takes;   // is there until then
  bool dirty = false;  // Scene::Prepare
};

class SnapshotSweepTest : public testing::TestWithParam<Request> {
 protected:
  static void Prepare(Scene& scene) {
    ASSERT_NO_FATAL_FAILURE(scene.Prepare(GetParam().dirty));
    if (std::string_view(GetParam().name) == "CopyRange") scene.machine().Create("empty");
  }
  static bool IsRollBack() { return std::string_view(GetParam().name).starts_with("RollBack"); }
  static bool Happened(Scene& scene) {
    const auto [name, run, makes, takes, dirty] = GetParam();
    if (std::string_view(name) == "CopyRange") {
      const auto content = ContentOf(scene.filesystem(), makes);
      return content.ok() && !content->empty();
    }
    return makes != nullptr ? scene.Exists(makes) : !scene.Exists(takes);
  }
  static uint64_t Count(const std::function<uint64_t(MemoryEnv&)>& count) {
    Scene scene;
    Prepare(scene);
    const uint64_t before = count(scene.env());
    const Status status = (scene.*GetParam().run)();
    EXPECT_TRUE(status.ok()) << status.ToString();
    scene.machine().RunBackground();
    const uint64_t after = count(scene.env());
    scene.CheckAll();
    EXPECT_TRUE(Happened(scene));
    return after - before;
  }
};

TEST_P(SnapshotSweepTest, EachOperationFailsOnce) {
  const uint64_t count = Count([](MemoryEnv& env) { return env.operation_count(); });
  for (uint64_t n = 1; n <= count; ++n) {
    for (const int ending : {0, 1, 2}) {
      SCOPED_TRACE("operation " + std::to_string(n) + " of " + std::to_string(count) +
                   " fails, ending " + std::to_string(ending));
      Scene scene;
      Prepare(scene);
      Fault fault;
      fault.nth = n;
      fault.error = n % 2 == 0 ? EIO : ENOSPC;
      scene.env().AddFault(fault);
      const Status status = (scene.*GetParam().run)();
      // Else it waits for the clean-up, and would hit the look.
      if (scene.env().fired_fault_count() > 0) {
        EXPECT_EQ(Happened(scene), status.ok()) << status.ToString();
      }
      if (status.ok()) {
        EXPECT_EQ(!scene.filesystem().InodesWithStalePages().empty(), IsRollBack());
      }
      scene.machine().RunBackground();
      scene.env().ClearFaults();
      ASSERT_NO_FATAL_FAILURE(scene.CheckAll());
      ASSERT_NO_FATAL_FAILURE(scene.CheckWriters());
      // When a sync of theirs was what failed.
      if (!status.ok()) scene.MayLoseWhatNobodySynced();
      if (ending == 0) {
        scene.LoseServer();
      } else if (ending == 1) {
        scene.LosePower(n);
      } else {
        scene.Close();
      }
      ASSERT_NO_FATAL_FAILURE(scene.CheckEnding());
      if (HasFailure()) return;
    }
  }
}

TEST_P(SnapshotSweepTest, ThePowerGoesAtEachOperation) {
  const uint64_t count = Count([](MemoryEnv& env) { return env.operation_count(); });
  for (uint64_t n = 1; n <= count; ++n) {
    for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
      SCOPED_TRACE("operation " + std::to_string(n) + " of " + std::to_string(count));
      Scene scene;
      Prepare(scene);
      scene.env().CutAtOperation(n, side);
      const Status status = (scene.*GetParam().run)();
      scene.machine().RunBackground();
      scene.LosePower(n);
      const auto happened = [&] { EXPECT_TRUE(!status.ok() || Happened(scene)) << "and is lost"; };
      ASSERT_NO_FATAL_FAILURE(scene.CheckEnding(happened));
      if (HasFailure()) return;
    }
  }
}

TEST_P(SnapshotSweepTest, TheServerDiesAtEachOperationAndTheNextOneIsAskedAgain) {
  const uint64_t count = Count([](MemoryEnv& env) { return env.mutation_count(); });
  for (uint64_t n = 1; n <= count; ++n) {
    for (const CutSide side : {CutSide::kBefore, CutSide::kAfter}) {
      SCOPED_TRACE("operation " + std::to_string(n) + " of " + std::to_string(count));
      Scene scene;
      Prepare(scene);
      scene.machine().KillAtOperation(n, side);
      const Status status = (scene.*GetParam().run)();
      scene.machine().RunBackground();
      EXPECT_FALSE(scene.env().power_on());
      ASSERT_NO_FATAL_FAILURE(scene.LoseDyingServer());
      EXPECT_TRUE(!status.ok() || Happened(scene)) << "and is lost";
      if (IsRollBack() && Happened(scene)) {
        EXPECT_FALSE(scene.filesystem().InodesWithStalePages().empty())
            << "nobody tells the kernel";
      }
      ASSERT_NO_FATAL_FAILURE(scene.CheckAll());
      const Status again = (scene.*GetParam().run)();
      EXPECT_TRUE(again.ok()) << again.ToString();
      EXPECT_TRUE(Happened(scene));
      ASSERT_NO_FATAL_FAILURE(scene.CheckAll());
      ASSERT_NO_FATAL_FAILURE(scene.CheckWriters());
      scene.Close();
      ASSERT_NO_FATAL_FAILURE(scene.CheckEnding([&] { EXPECT_TRUE(Happened(scene)); }));
      if (HasFailure()) return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, SnapshotSweepTest,
    testing::Values(Request{"Snapshot", &Scene::Snapshot, ".snapshots/new", nullptr},
                    Request{"Delete", &Scene::Delete, nullptr, ".snapshots/s0"},
                    Request{"RollBack", &Scene::RollBack, ".snapshots/before", nullptr},
                    Request{"Clone", &Scene::Clone, "copy", nullptr},
                    Request{"CopyRange", &Scene::CopyRange, "empty", nullptr},
                    Request{"SnapshotOfDirty", &Scene::Snapshot, ".snapshots/new", nullptr, true},
                    Request{"RollBackOfDirty", &Scene::RollBack, ".snapshots/before", nullptr,
                            true},
                    Request{"CloneOfDirty", &Scene::Clone, "copy", nullptr, true}),
    [](const auto& request) { return std::string(request.param.name); });

TEST(SnapshotDeadlineTest, IoThatDoesNotEndFailsTheRequestAndEverybodyGoesOn) {
  Scene scene;
  scene.Prepare();
  const auto a = scene.machine().Find("a");
  const auto b = scene.machine().Find("b");
  auto& stuck = dynamic_cast<DiskVolume&>(*b);
  stuck.gate().Enter();
  SnapshotOps::NewGroup group;
  group.record.name = "late";
  group.deadline = std::chrono::milliseconds(30);
  group.members = {{a->inode(), "a"}, {b->inode(), "b"}};
  const auto made = scene.filesystem().snapshots().Create(group);
  EXPECT_EQ(made.status().code(), Code::kDeadline) << made.status().ToString();
  EXPECT_FALSE(scene.Exists(".snapshots/late"));
  EXPECT_EQ(WriteCode(*a, 0, kBlockSize, 3), Code::kOk);
  EXPECT_EQ(WriteCode(*b, 0, kBlockSize, 4), Code::kOk);
  stuck.gate().Leave();
  EXPECT_TRUE(b->Truncate(kSize).ok());
  group.deadline = kEnough;
  EXPECT_TRUE(scene.filesystem().snapshots().Create(group).ok());
  scene.CheckAll();
}

// What others have written would else be synced while the volumes' writers wait.
TEST(SnapshotDeadlineTest, ARollbackHoldsNobodyForWhatOthersHaveWritten) {
  Scene scene;
  scene.Prepare();
  const auto a = scene.machine().Find("a");
  const auto other = scene.machine().Create("other");
  std::string file;
  scene.env().SetHook([&](Op op, const std::string& path) {
    if (op == Op::kWrite && path.find("/extents/") != std::string::npos) file = path;
  });
  ASSERT_EQ(WriteCode(*other, 0, kBlockSize, 9), Code::kOk);
  ASSERT_FALSE(file.empty());
  std::future<Code> writer;
  scene.env().SetHook([&](Op op, const std::string& path) {
    if (op != Op::kSync || path != file || writer.valid()) return;
    writer = std::async(std::launch::async, [&] { return WriteCode(*a, 0, kBlockSize, 3); });
    EXPECT_EQ(writer.wait_for(kEnough), std::future_status::ready)
        << "the writer waits for a sync of another volume";
  });
  EXPECT_TRUE(scene.RollBack().ok());
  scene.env().SetHook(nullptr);
  ASSERT_TRUE(writer.valid());
  EXPECT_EQ(writer.get(), Code::kOk);
  scene.CheckAll();
}

}  // namespace
}  // namespace cairn
