// What a server finds of the requests, handles and failures of those before it.
#include <gtest/gtest.h>

#include "src/warm/warm_format.h"
#include "tests/volume/snapshot_test_util.h"

namespace cairn {
namespace {

class ReplacementTest : public testing::Test {
 protected:
  void SetUp() override { machine_.Mount(); }
  Filesystem& filesystem() { return machine_.filesystem(); }
  // The server dies, and the next one takes over.
  void Replace() {
    machine_.LoseServer();
    machine_.Mount();
  }
  static Caller New(uint64_t request) { return {0, 0, RequestId(request), false}; }
  static Caller Again(uint64_t request) { return {0, 0, RequestId(request), true}; }
  Code LookupCode(const std::string& name) {
    return filesystem().Lookup(kRootInode, name).status().code();
  }
  uint64_t CountRecords() {
    machine_.LoseServer();
    auto store = WarmStore::Open(machine_.env(), "/store", {});
    EXPECT_TRUE(store.ok());
    uint64_t count = 0;
    const Status walked =
        (*store)->index().ForEachRaw(KeyKind::kRequest, [&](std::string_view, std::string_view) {
          ++count;
          return true;
        });
    EXPECT_TRUE(walked.ok());
    (*store).reset();
    machine_.env().KillProcess();
    machine_.Mount();
    return count;
  }

  TestMachine machine_;
};

TEST_F(ReplacementTest, ACreateThatIsSentAgainAnswersWithWhatItMade) {
  const auto made = filesystem().Create(kRootInode, "v", 0640, {5, 6, RequestId(2), false});
  ASSERT_TRUE(made.ok());
  Replace();
  const auto again = filesystem().Create(kRootInode, "v", 0640, {5, 6, RequestId(2), true});
  ASSERT_TRUE(again.ok()) << again.status().ToString();
  EXPECT_EQ(again->inode, made->inode);
  EXPECT_EQ(again->mode, made->mode);
  EXPECT_EQ(again->uid, 5u);
  EXPECT_EQ(again->gid, 6u);
  EXPECT_EQ(again->ctime_ns, made->ctime_ns);
  EXPECT_EQ(filesystem().Create(kRootInode, "v", 0640, New(4)).status().code(), Code::kExists);
}

TEST_F(ReplacementTest, EachOperationIsDoneOnceHoweverOftenItIsSent) {
  ASSERT_TRUE(filesystem().MakeDirectory(kRootInode, "d", 0755, New(2)).ok());
  ASSERT_TRUE(filesystem().Create(kRootInode, "v", 0644, New(4)).ok());
  ASSERT_TRUE(filesystem().Create(kRootInode, "w", 0644, New(6)).ok());
  const InodeId v = machine_.Find("v")->inode();
  const auto exchange = [&](const Caller& caller) {
    return filesystem().Rename(kRootInode, "v", kRootInode, "w", RenameMode::kExchange, caller);
  };
  const auto set = [&](const Caller& caller) {
    return filesystem().SetXattr(v, "user.a", "1", XattrMode::kCreate, caller);
  };
  const auto unset = [&](const Caller& caller) {
    return filesystem().RemoveXattr(v, "user.a", caller);
  };
  const auto remove = [&](const Caller& caller) {
    return filesystem().Unlink(kRootInode, "v", caller);
  };
  const auto remove_directory = [&](const Caller& caller) {
    return filesystem().RemoveDirectory(kRootInode, "d", caller);
  };
  ASSERT_TRUE(exchange(New(8)).ok());
  ASSERT_TRUE(set(New(10)).ok());
  ASSERT_TRUE(unset(New(12)).ok());
  ASSERT_TRUE(remove(New(14)).ok());
  ASSERT_TRUE(remove_directory(New(16)).ok());
  for (int server = 0; server < 3; ++server) {
    Replace();
    EXPECT_TRUE(filesystem().MakeDirectory(kRootInode, "d", 0755, Again(2)).ok());
    EXPECT_TRUE(exchange(Again(8)).ok());
    EXPECT_TRUE(set(Again(10)).ok());
    EXPECT_TRUE(unset(Again(12)).ok());
    EXPECT_TRUE(remove(Again(14)).ok());
    EXPECT_TRUE(remove_directory(Again(16)).ok());
    EXPECT_EQ(LookupCode("d"), Code::kNotFound);
    EXPECT_EQ(LookupCode("v"), Code::kNotFound);
    ASSERT_TRUE(filesystem().Lookup(kRootInode, "w").ok());
    EXPECT_EQ(filesystem().Lookup(kRootInode, "w")->inode, v);
    EXPECT_EQ(filesystem().GetXattr(v, "user.a").status().code(), Code::kNoAttribute);
  }
}

// Another program was quicker with the next server: its effect stays, and both are answered.
TEST_F(ReplacementTest, ARequestThatWasOvertakenIsNotDoneAgain) {
  ASSERT_TRUE(filesystem().Create(kRootInode, "v", 0644, New(2)).ok());
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "v", New(4)).ok());
  Replace();
  const auto second = filesystem().Create(kRootInode, "v", 0644, New(6));
  ASSERT_TRUE(second.ok());
  EXPECT_TRUE(filesystem().Unlink(kRootInode, "v", Again(4)).ok());
  ASSERT_TRUE(filesystem().Lookup(kRootInode, "v").ok());
  EXPECT_EQ(filesystem().Lookup(kRootInode, "v")->inode, second->inode);
}

TEST_F(ReplacementTest, ARequestThatWasNotDoneIsDoneWhenItIsSentAgain) {
  Replace();
  EXPECT_TRUE(filesystem().Create(kRootInode, "v", 0644, Again(2)).ok());
  EXPECT_EQ(filesystem().Create(kRootInode, "v", 0644, Again(4)).status().code(), Code::kExists);
  // It failed under the last server and left nothing; now it works.
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "v", New(6)).ok());
  EXPECT_TRUE(filesystem().Create(kRootInode, "v", 0644, Again(4)).ok());
}

TEST_F(ReplacementTest, RecordsGoWhenTheirRequestsWereAnswered) {
  for (uint64_t i = 1; i <= 100; ++i) {
    ASSERT_TRUE(filesystem().Create(kRootInode, std::to_string(i), 0644, New(2 * i)).ok());
    filesystem().SettleRequest(RequestId(2 * i));
  }
  EXPECT_EQ(CountRecords(), 1u) << "the last one has nobody behind it that would take it away";
  ASSERT_TRUE(filesystem().Create(kRootInode, "100", 0644, Again(200)).ok());
  filesystem().SettleRequest(RequestId(200));
  ASSERT_TRUE(filesystem().Create(kRootInode, "x", 0644, New(202)).ok());
  EXPECT_EQ(CountRecords(), 1u) << "that of an earlier server goes, too";
}

TEST_F(ReplacementTest, TheFirstServerOfAMountForgetsThoseOfEarlierMounts) {
  ASSERT_TRUE(filesystem().Create(kRootInode, "v", 0644, New(2)).ok());
  machine_.LosePower(1);
  machine_.Mount();
  EXPECT_EQ(CountRecords(), 0u);
  EXPECT_TRUE(filesystem().Create(kRootInode, "w", 0644, Again(2)).ok());
  ASSERT_TRUE(machine_.Close().ok());
  machine_.Mount();
  EXPECT_EQ(CountRecords(), 0u);
}

// A request that the kernel has not sent again yet must find its answer behind an orderly restart.
TEST_F(ReplacementTest, AnOrderlyRestartKeepsWhatWasNotSentAgainYet) {
  ASSERT_TRUE(filesystem().Create(kRootInode, "v", 0644, New(2)).ok());
  ASSERT_TRUE(filesystem().Create(kRootInode, "w", 0644, New(4)).ok());
  filesystem().SettleRequest(RequestId(4));
  ASSERT_TRUE(machine_.CloseForTheNextServer().ok());
  machine_.ExpectNoDamage();
  machine_.Mount();
  EXPECT_TRUE(filesystem().Create(kRootInode, "v", 0644, Again(2)).ok());
  EXPECT_EQ(CountRecords(), 1u);
}

TEST_F(ReplacementTest, ALaterServerFreesAnUnlinkedVolumeAtItsLastReleaseAndNotBefore) {
  const InodeId inode = machine_.Create("v")->inode();
  ASSERT_EQ(WriteCode(*machine_.Find("v"), 0, kChunkSize, 7), Code::kOk);
  ASSERT_TRUE(filesystem().OpenVolume(inode, HandleId(10), false).ok());
  ASSERT_TRUE(filesystem().OpenVolume(inode, HandleId(12), false).ok());
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "v", New(2)).ok());
  for (const uint64_t handle : {10, 12}) {
    Replace();
    machine_.RunBackground();
    ASSERT_TRUE(filesystem().GetAttributes(inode).ok());
    EXPECT_EQ(filesystem().GetAttributes(inode)->link_count, 0u);
    if (handle == 12) {
      const auto held = filesystem().FindVolume(inode);
      ASSERT_TRUE(held.ok()) << held.status().ToString();
      EXPECT_TRUE(Holds(**held, 0, kChunkSize, 7));
    }
    filesystem().ReleaseVolume(inode, HandleId(handle));
    filesystem().ReleaseVolume(inode, HandleId(handle));
    machine_.RunBackground();
    EXPECT_EQ(filesystem().GetAttributes(inode).ok(), handle == 10);
  }
}

TEST_F(ReplacementTest, AVolumeThatWasReleasedButNotFreedIsFreedByTheNextServer) {
  const InodeId inode = machine_.Create("v")->inode();
  ASSERT_TRUE(filesystem().OpenVolume(inode, HandleId(10), false).ok());
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "v", New(2)).ok());
  filesystem().ReleaseVolume(inode, HandleId(10));
  Replace();
  machine_.RunBackground();
  EXPECT_EQ(filesystem().GetAttributes(inode).status().code(), Code::kNotFound);
}

// The kernel remembers names for a while, and the next server frees what was released in the
// background.
TEST_F(ReplacementTest, AVolumeThatIsOpenedBeforeTheNextServerFreesItStays) {
  const InodeId inode = machine_.Create("v")->inode();
  ASSERT_EQ(WriteCode(*machine_.Find("v"), 0, kChunkSize, 7), Code::kOk);
  ASSERT_TRUE(filesystem().OpenVolume(inode, HandleId(10), false).ok());
  ASSERT_TRUE(filesystem().Unlink(kRootInode, "v", New(2)).ok());
  filesystem().ReleaseVolume(inode, HandleId(10));
  Replace();
  const auto opened = filesystem().OpenVolume(inode, HandleId(12), false);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  machine_.RunBackground();
  EXPECT_TRUE(Holds(**opened, 0, kChunkSize, 7));
  filesystem().ReleaseVolume(inode, HandleId(12));
  machine_.RunBackground();
  EXPECT_EQ(filesystem().GetAttributes(inode).status().code(), Code::kNotFound);
}

TEST_F(ReplacementTest, TimesDoNotGoBack) {
  const InodeId inode = machine_.Create("v")->inode();
  for (int server = 0; server < 3; ++server) {
    ASSERT_EQ(WriteCode(*machine_.Find("v"), 0, kBlockSize, 7), Code::kOk);
    ASSERT_TRUE(machine_.Find("v")->Sync().ok());
    ASSERT_EQ(WriteCode(*machine_.Find("v"), 0, kBlockSize, 8), Code::kOk);
    const auto before = filesystem().GetAttributes(inode);
    ASSERT_TRUE(before.ok());
    Replace();
    const auto after = filesystem().GetAttributes(inode);
    ASSERT_TRUE(after.ok());
    EXPECT_GE(after->mtime_ns, before->mtime_ns);
    EXPECT_GE(after->ctime_ns, before->ctime_ns);
  }
}

TEST_F(ReplacementTest, ATimeThatWasSetAfterTheLastWriteStays) {
  const InodeId inode = machine_.Create("v")->inode();
  ASSERT_EQ(WriteCode(*machine_.Find("v"), 0, kBlockSize, 7), Code::kOk);
  AttributeChange change;
  change.mtime_ns = 1'000'000'000;
  ASSERT_TRUE(filesystem().SetAttributes(inode, change, New(2)).ok());
  Replace();
  EXPECT_EQ(filesystem().GetAttributes(inode)->mtime_ns, 1'000'000'000);
}

// The kernel tells of a failed sync once. What it lost must not pass for durable at the next one.
TEST_F(ReplacementTest, AFailedSyncOfWhatServersBeforeWroteIsRememberedByAllThatFollow) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, kChunkSize, 7), Code::kOk);
  Replace();
  machine_.env().AddFault({.ops = Op::kSyncDir, .path_contains = "/store"});
  machine_.RunBackground();
  EXPECT_FALSE(machine_.CloseForTheNextServer().ok());
  EXPECT_FALSE(machine_.env().Exists("/store/clean"));
  machine_.Mount();
  machine_.RunBackground();
  EXPECT_FALSE(machine_.Close().ok());
  EXPECT_FALSE(machine_.env().Exists("/store/clean"));
}

// The last server wrote it, the new one has not touched it, and the host was not synced since.
TEST_F(ReplacementTest, ASyncCoversWhatServersBeforeLeftInAnyFile) {
  ASSERT_TRUE(machine_.Create("v")->Truncate(3 * kSegmentSize).ok());
  const auto write_all = [&](unsigned stamp) {
    const auto volume = machine_.Find("v");
    for (const uint64_t segment : {0, 1, 2}) {
      ASSERT_EQ(WriteCode(*volume, segment * kSegmentSize, kBlockSize, stamp), Code::kOk);
    }
  };
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const unsigned stamp = static_cast<unsigned>(seed);
    write_all(200);
    ASSERT_TRUE(machine_.Find("v")->Sync().ok());
    write_all(stamp);
    Replace();
    ASSERT_TRUE(machine_.Find("v")->Sync().ok());
    machine_.LosePower(seed);
    machine_.ExpectNoDamage();
    machine_.Mount();
    const auto volume = machine_.Find("v");
    for (const uint64_t segment : {0, 1, 2}) {
      EXPECT_TRUE(Holds(*volume, segment * kSegmentSize, kBlockSize, stamp)) << seed;
    }
  }
}

TEST_F(ReplacementTest, ACloseCoversWhatServersBeforeLeftUnsynced) {
  ASSERT_NE(machine_.Create("v"), nullptr);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const unsigned stamp = static_cast<unsigned>(seed);
    ASSERT_EQ(WriteCode(*machine_.Find("v"), 0, kChunkSize, 200), Code::kOk);
    ASSERT_TRUE(machine_.Find("v")->Sync().ok());
    ASSERT_EQ(WriteCode(*machine_.Find("v"), 0, kChunkSize, stamp), Code::kOk);
    Replace();
    ASSERT_TRUE(filesystem().Close().ok());
    machine_.LosePower(seed);
    machine_.Mount();
    EXPECT_TRUE(Holds(*machine_.Find("v"), 0, kChunkSize, stamp)) << seed;
  }
}

// What a living server does when a sync fails, the next one does, too: one volume's affair.
TEST_F(ReplacementTest, AFileThatCannotBeSyncedPoisonsItsVolumeAndNoOther) {
  ASSERT_EQ(WriteCode(*machine_.Create("broken"), 0, 2 * kBlockSize, 1), Code::kOk);
  ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"broken"}).ok());
  ASSERT_EQ(WriteCode(*machine_.Find("broken"), 0, 3 * kBlockSize, 4), Code::kOk);
  const std::string broken = "/3-2-0";  // branch 3, its second epoch
  ASSERT_EQ(WriteCode(*machine_.Create("whole"), 0, 2 * kBlockSize, 2), Code::kOk);
  machine_.env().AddFault({.ops = {Op::kSync}, .path_contains = broken});
  // This one does not get to the end, either. After it, a sync would succeed.
  machine_.LoseServer();
  machine_.env().SetHook([&, armed = std::make_shared<bool>()](Op, const std::string&) {
    if (*armed || machine_.env().fired_fault_count() == 0) return;
    *armed = true;
    machine_.env().AddFault({.ops = {Op::kWrite}, .path_contains = "/index/"});
  });
  EXPECT_FALSE(machine_.TryMount().ok());
  machine_.env().SetHook(nullptr);
  EXPECT_EQ(machine_.env().fired_fault_count(), 2u);
  machine_.env().ClearFaults();
  Replace();
  EXPECT_EQ(WriteCode(*machine_.Find("broken"), 0, kBlockSize, 3), Code::kReadOnly);
  EXPECT_EQ(machine_.Find("broken")->Sync().code(), Code::kReadOnly);
  EXPECT_EQ(machine_.Find("whole")->size(), 2 * kBlockSize);
  EXPECT_TRUE(Holds(*machine_.Find("whole"), 0, 2 * kBlockSize, 2));
  EXPECT_TRUE(machine_.Find("whole")->Sync().ok());
  machine_.LosePower(1);
  machine_.ExpectNoDamage();
  machine_.Mount();
  EXPECT_TRUE(Holds(*machine_.Find("whole"), 0, 2 * kBlockSize, 2));
  EXPECT_EQ(machine_.Find("broken")->size(), 2 * kBlockSize);
  EXPECT_TRUE(Holds(*machine_.Find("broken"), 0, 2 * kBlockSize, 1))
      << "the index knows of the lost";
  EXPECT_EQ(WriteCode(*machine_.Find("broken"), 0, kBlockSize, 3), Code::kOk);
}

TEST_F(ReplacementTest, AFileThatAVolumeHasLeftIsNothingToIt) {
  auto v = machine_.Create("v");
  ASSERT_EQ(WriteCode(*v, 0, 4 * kBlockSize, 1), Code::kOk);
  ASSERT_TRUE(TrySnapshot(filesystem(), "s", {"v"}).ok());
  ASSERT_EQ(WriteCode(*v, 0, 4 * kBlockSize, 2), Code::kOk);
  const std::string left = "/3-2-0";  // branch 3, its second epoch
  ASSERT_TRUE(v->Truncate(0).ok());
  ASSERT_EQ(WriteCode(*v, 0, 2 * kBlockSize, 3), Code::kOk);
  v.reset();
  machine_.env().AddFault({.ops = {Op::kSync}, .path_contains = left});
  machine_.LoseServer();
  machine_.Mount();
  ASSERT_EQ(machine_.env().fired_fault_count(), 1u);
  machine_.env().ClearFaults();
  EXPECT_TRUE(Holds(*machine_.Find("v"), 0, 2 * kBlockSize, 3));
  EXPECT_EQ(machine_.Find("v")->size(), 2 * kBlockSize);
  EXPECT_EQ(WriteCode(*machine_.Find("v"), 0, kBlockSize, 4), Code::kOk);
  EXPECT_TRUE(machine_.Find("v")->Sync().ok());
  EXPECT_EQ(*ContentOf(filesystem(), ".snapshots/s/v"), std::string(4 * kBlockSize, 1));
}

// Data may be lost that no sync has reported to the program yet: the next server must not tell it
// that all is well.
TEST_F(ReplacementTest, AVolumeThatAFailedSyncPoisonedTakesNoWritesFromTheNextServerEither) {
  ASSERT_EQ(WriteCode(*machine_.Create("v"), 0, kBlockSize, 1), Code::kOk);
  machine_.env().AddFault({.ops = {Op::kSync}, .path_contains = "/extents/"});
  EXPECT_FALSE(machine_.Find("v")->Sync().ok());
  machine_.env().ClearFaults();
  for (int server = 0; server < 2; ++server) {
    Replace();
    const auto again = machine_.Find("v");
    ASSERT_NE(again, nullptr);
    EXPECT_EQ(again->Sync().code(), Code::kReadOnly);
    EXPECT_EQ(WriteCode(*again, 0, kBlockSize, 2), Code::kReadOnly);
  }
  machine_.LosePower(1);
  machine_.Mount();
  EXPECT_EQ(WriteCode(*machine_.Find("v"), 0, kBlockSize, 2), Code::kOk);
}

}  // namespace
}  // namespace cairn
