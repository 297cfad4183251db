// Random operations on a Filesystem in memory against a plain model, with crashes: the power goes
// at a random sync or operation and keeps any subset of what was not synced, or the server alone
// dies and its successor finds the journal. After each crash, what was synced is there, every
// other block holds an old or a newer content, names are as they were before or after the
// operation that was cut short, and fsck finds no damage. Blocks get checksums in between, which no
// write, cut or crash may turn against good data; bytes that are flipped on the disk are an error.
// A server that dies may leave an operation unanswered, which is then sent again to a later one: it
// is done once and answered as it was. Programs hold volumes open meanwhile, which live until the
// last release, and no longer.
// Snapshots are taken, read, rolled back to, cloned and deleted in between: each shows for ever
// what it did when it was taken, is there whole or not at all, and leaves no space behind.
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
#include <set>

#include "src/base/stepping_executor.h"
#include "src/env/memory_env.h"
#include "src/volume/filesystem.h"
#include "src/volume/fsck.h"
#include "src/volume/snapshot_ops.h"
#include "src/warm/index_journal.h"
#include "src/warm/mount_table.h"
#include "tests/volume/snapshot_test_util.h"
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
  explicit Machine(uint64_t seed)
      : random_(seed), journal_(kJournalBytes / 8), table_(MountTable::kSmallestRegion / 8) {
    // Some seeds have no memory to know which blocks of an open region were touched.
    if (Below(3) == 0) seal_bytes_ = 0;
  }

  uint64_t Below(uint64_t limit) { return random_() % limit; }

  void Start() {
    WarmStoreOptions store_options;
    store_options.create = true;
    store_options.takes_over = takes_over_;
    auto store = WarmStore::Open(env_, "/store", store_options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    executor_ = std::make_unique<SteppingExecutor>();
    Filesystem::Parts parts;
    parts.store = std::move(*store);
    parts.executor = executor_.get();
    parts.clock = &clock_;
    parts.journal_region = std::as_writable_bytes(std::span(journal_));
    parts.table_region = std::as_writable_bytes(std::span(table_));
    parts.takes_over = takes_over_;
    FilesystemOptions options;
    options.flush_interval = std::chrono::milliseconds(0);
    options.chunk_map_bytes = 16 << 10;  // so that leaves come and go
    options.seal_after = std::chrono::seconds(3);
    options.seal_bytes = seal_bytes_;
    options.clean_pause = std::chrono::milliseconds(0);
    auto filesystem = Filesystem::Open(std::move(parts), options);
    ASSERT_TRUE(filesystem.ok()) << filesystem.status().ToString();
    filesystem_ = std::move(*filesystem);
  }

  // One random operation. False when the power went.
  bool Step() {
    const uint64_t dice = Below(135);
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
    } else if (dice < 101) {
      done = TakeSnapshot();
    } else if (dice < 105) {
      done = RemoveSnapshot();
    } else if (dice < 108) {
      done = RollBack();
    } else if (dice < 111) {
      done = Clone();
    } else if (dice < 113) {
      done = ReadSnapshot();
    } else if (dice < 116) {
      Trace("seal", "");
      filesystem_->SealAll(kLongEnough);
      done = true;
    } else if (dice < 120) {
      done = AddAttribute();
    } else if (dice < 124) {
      done = OpenHandle();
    } else if (dice < 128) {
      done = ReleaseHandle();
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
    // What clones share with a branch that is not loaded, or has no volume, need not be sealed.
    if (branched_) return;
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
    crashed_ = true;
    filesystem_.reset();
    executor_.reset();
    env_.CutAtSync(0, CutSide::kBefore);
    env_.CutAtOperation(0, CutSide::kBefore);
    Trace("-- power lost", "");
    env_.Restart(random_());
    EndMount();
  }

  // The server dies and is replaced: nothing acknowledged may be lost. It is not durable, though.
  void LoseServer() {
    crashed_ = true;
    filesystem_.reset();
    executor_.reset();
    Trace("-- server killed", "");
    env_.KillProcess();
    takes_over_ = true;
  }

  void CloseCleanly() {
    Trace("-- close", "");
    const Status closed = filesystem_->Close();
    ASSERT_TRUE(closed.ok()) << closed.ToString();
    filesystem_.reset();
    executor_.reset();
    EndMount();
    for (auto& [name, volume] : names_) volume->Sync();
  }

  // What the last server did and did not answer is sent to this one, and perhaps to the next one
  // as well. Other operations may have come first.
  void SendAgain() {
    if (!unanswered_) return;
    Trace("sent again", unanswered_->name, unanswered_->caller.request.value());
    Caller caller = unanswered_->caller;
    caller.resent = true;
    const Result<InodeId> answer = unanswered_->carry_out(caller);
    ASSERT_TRUE(answer.ok()) << unanswered_->name << ": " << answer.status().ToString();
    EXPECT_EQ(*answer, unanswered_->answer) << unanswered_->name;
    ++answered_again_;
    if (Below(2)) Settle(caller);
    CompareNames();
  }
  uint64_t answered_again() const { return answered_again_; }

  // The request is on its way to a program, with no server in between.
  void ForgetUnanswered() { unanswered_.reset(); }

  void CheckHandles() {
    for (const OpenFile& file : open_files_) {
      auto volume = filesystem_->FindVolume(file.inode);
      ASSERT_TRUE(volume.ok()) << "held open, but " << volume.status().ToString();
      CompareWith(*file.model, "a held volume", **volume, 0, kLargestVolume * 2);
    }
  }

  // All that is to be given back in the background is; then nothing is left that nobody needs.
  void SettleAndCheckLeaks() {
    for (int i = 0; i < 4; ++i) {
      executor_->AdvanceTime(std::chrono::minutes(10));
      while (executor_->RunOne()) {
      }
    }
    CloseCleanly();
    auto report = CheckStore(env_, "/store", {});
    ASSERT_TRUE(report.ok()) << report.status().ToString();
    for (const FsckFinding& finding : report->findings) {
      // What a crash left of writes that nobody was promised does not count.
      const bool counts =
          finding.severity != FsckSeverity::kNote && !(crashed_ && LeftByCrash(finding.code));
      EXPECT_FALSE(counts) << finding.code << " " << finding.where << ": " << finding.what;
    }
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
    EXPECT_TRUE(!takes_over_ || SameNames(found, names_)) << "a change of names got lost";
    if (!SameNames(found, names_)) names_ = *names_before_;
    if (names_before_ && maybe_rolled_back_) AdoptRollback();
    names_before_.reset();
    maybe_rolled_back_ = false;
    AdoptSnapshots();
    for (const auto& [name, inode] : found) {
      auto volume = filesystem_->FindVolume(inode);
      ASSERT_TRUE(volume.ok()) << volume.status().ToString();
      if (takes_over_) {
        // One that is not read is synced, later, without having been looked at.
        if (Below(2)) Compare(name, **volume, 0, kLargestVolume * 2);
        continue;
      }
      std::vector<std::byte> actual((*volume)->size());
      auto got = (*volume)->Read(0, actual);
      ASSERT_TRUE(got.ok()) << got.status().ToString();
      ASSERT_EQ(*got, actual.size());
      EXPECT_EQ(names_[name]->Recover(actual), "") << "volume " << name;
    }
  }

 private:
  struct OpenFile {
    HandleId handle;
    InodeId inode;
    std::shared_ptr<VolumeModel> model;
  };
  // An operation that was carried out, in case that its answer is lost.
  struct Unanswered {
    std::string name;
    Caller caller;
    std::function<Result<InodeId>(const Caller&)> carry_out;
    InodeId answer;
  };

  void EndMount() {
    std::fill(journal_.begin(), journal_.end(), 0);
    std::fill(table_.begin(), table_.end(), 0);
    takes_over_ = false;
    open_files_.clear();
    unanswered_.reset();
  }

  // Each request is a new one; one in two comes marked as if a server had read it before, and died
  // before it did anything.
  Caller NewCaller() { return {0, 0, RequestId(2 * ++requests_), Below(2) == 1}; }

  void Settle(const Caller& caller) { filesystem_->SettleRequest(caller.request); }

  // Carries an operation on names out, and remembers it until it is answered.
  Result<InodeId> Do(std::string name, std::function<Result<InodeId>(const Caller&)> carry_out) {
    const Caller caller = NewCaller();
    if (unanswered_) Settle(unanswered_->caller);
    unanswered_.reset();
    Result<InodeId> answer = carry_out(caller);
    if (!answer.ok()) {
      Settle(caller);
    } else {
      unanswered_ = Unanswered{std::move(name), caller, std::move(carry_out), *answer};
    }
    return answer;
  }

  bool IsNamed(const std::shared_ptr<VolumeModel>& model) {
    return std::any_of(names_.begin(), names_.end(),
                       [&](const auto& entry) { return entry.second == model; });
  }

  bool OpenHandle() {
    if (open_files_.size() >= 6) return true;
    std::string name;
    const auto volume = AnyVolume(name);
    if (!volume) return names_.empty();
    const HandleId handle(2 * ++requests_);
    Trace("open", name, handle.value());
    for (uint64_t times = 1 + Below(2); times > 0; --times) {
      const auto opened = filesystem_->OpenVolume(volume->inode(), handle, false);
      if (!opened.ok()) return Failed(opened.status());
    }
    open_files_.push_back({handle, volume->inode(), names_[name]});
    return true;
  }

  bool ReleaseHandle() {
    if (open_files_.empty()) return true;
    const uint64_t which = Below(open_files_.size());
    const OpenFile file = open_files_[which];
    open_files_.erase(open_files_.begin() + static_cast<ptrdiff_t>(which));
    Trace("release", "", file.handle.value());
    for (uint64_t times = 1 + Below(2); times > 0; --times) {
      filesystem_->ReleaseVolume(file.inode, file.handle);
    }
    if (IsNamed(file.model)) return true;
    const bool held = std::any_of(open_files_.begin(), open_files_.end(),
                                  [&](const auto& other) { return other.inode == file.inode; });
    while (executor_->RunOne()) {
    }
    if (!env_.power_on()) return false;
    EXPECT_EQ(filesystem_->FindVolume(file.inode).ok(), held)
        << "a volume without a name lives as long as it is held";
    return true;
  }

  void CompareNames() {
    std::map<std::string, InodeId> found;
    const Status listed =
        filesystem_->ReadDirectory(kRootInode, 0, [&](const DirectoryEntry& entry) {
          found[entry.name] = entry.inode;
          return true;
        });
    ASSERT_TRUE(listed.ok()) << listed.ToString();
    EXPECT_TRUE(SameNames(found, names_)) << "an operation that was done once changed names again";
  }

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

  using Contents = std::map<std::string, std::string>;  // by name of the volume

  static std::string BytesOf(const VolumeModel& model) {
    const auto bytes = model.Read(0, model.size());
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  std::vector<std::string> SomeNames() {
    std::vector<std::string> some;
    for (const auto& [name, model] : names_) {
      if (Below(3) != 0) some.push_back(name);
    }
    return some;
  }

  bool TakeSnapshot() {
    const std::vector<std::string> volumes = SomeNames();
    if (volumes.empty()) return true;
    const std::string name = "s" + std::to_string(counter_++);
    Trace("snapshot", name, volumes.size());
    Contents contents;
    for (const std::string& volume : volumes) contents[volume] = BytesOf(*names_[volume]);
    maybe_snapshots_[name] = contents;
    const auto group = GroupOf(*filesystem_, name, volumes);
    if (!group.ok()) return Failed(group.status());
    const auto made = Do("snapshot " + name, [this, group = *group](const Caller& caller) mutable {
      group.caller = caller;
      const auto created = filesystem_->snapshots().Create(group);
      return created.ok() ? Result<InodeId>(created->id) : Result<InodeId>(created.status());
    });
    if (!made.ok()) return Failed(made.status());
    maybe_snapshots_.erase(name);
    snapshots_[name] = std::move(contents);
    // What a snapshot shows is durable, and so is what its volumes were then.
    for (const std::string& volume : volumes) names_[volume]->Sync();
    return true;
  }

  std::string AnySnapshot() {
    if (snapshots_.empty()) return "";
    auto entry = snapshots_.begin();
    std::advance(entry, static_cast<ptrdiff_t>(Below(snapshots_.size())));
    return entry->first;
  }

  bool RemoveSnapshot() {
    const std::string name = AnySnapshot();
    if (name.empty()) return true;
    Trace("delete-snapshot", name);
    maybe_snapshots_[name] = snapshots_[name];
    snapshots_.erase(name);
    const auto id = FindPath(*filesystem_, ".snapshots/" + name);
    if (!id.ok()) return Failed(id.status());
    const auto deleted =
        Do("delete-snapshot " + name, [this, id = *id](const Caller& caller) -> Result<InodeId> {
          CAIRN_RETURN_IF_ERROR(filesystem_->snapshots().Delete(id, caller));
          return id;
        });
    if (!deleted.ok()) return Failed(deleted.status());
    maybe_snapshots_.erase(name);
    return true;
  }

  void CompareSnapshot(const std::string& name, const Contents& contents) {
    for (const auto& [volume, content] : contents) {
      const auto actual = ContentOf(*filesystem_, ".snapshots/" + name + "/" + volume);
      if (!actual.ok()) return (void)Failed(actual.status());
      EXPECT_TRUE(*actual == content) << "snapshot " << name << " of " << volume;
    }
  }

  bool ReadSnapshot() {
    const std::string name = AnySnapshot();
    if (name.empty()) return true;
    Trace("read-snapshot", name);
    CompareSnapshot(name, snapshots_[name]);
    return true;
  }

  // A volume that shows the same as `content`.
  static std::shared_ptr<VolumeModel> ModelOf(const std::string& content) {
    auto model = std::make_shared<VolumeModel>();
    if (!content.empty()) model->Write(0, std::as_bytes(std::span(content)));
    model->Sync();
    return model;
  }

  bool RollBack() {
    const std::string name = AnySnapshot();
    if (name.empty()) return true;
    SnapshotOps::NewRollback rollback;
    rollback.before.name = "s" + std::to_string(counter_++);
    rollback.deadline = kLongEnough;
    Trace("rollback", name + " " + rollback.before.name);
    Contents before;
    Names after = names_;
    for (const auto& [volume, content] : snapshots_[name]) {
      const auto member = FindPath(*filesystem_, ".snapshots/" + name + "/" + volume);
      if (!member.ok()) return Failed(member.status());
      const auto live = FindPath(*filesystem_, volume);
      if (!live.ok() && live.status().code() != Code::kNotFound) return Failed(live.status());
      rollback.items.push_back({*member, live.ok() ? *live : InodeId(0), volume});
      if (live.ok()) before[volume] = BytesOf(*names_[volume]);
      after[volume] = ModelOf(content);
    }
    if (!before.empty()) maybe_snapshots_[rollback.before.name] = before;
    names_before_ = names_;
    names_ = after;
    maybe_rolled_back_ = true;
    branched_ = true;
    const auto done = Do("rollback " + name, [this, rollback](const Caller& caller) mutable {
      rollback.caller = caller;
      const auto rolled = filesystem_->snapshots().Rollback(rollback);
      return rolled.ok() ? Result<InodeId>(rolled->before) : Result<InodeId>(rolled.status());
    });
    if (!done.ok()) return Failed(done.status());
    // Who holds one open sees its new content.
    for (OpenFile& file : open_files_) {
      for (const auto& [volume, model] : *names_before_) {
        if (file.model == model && names_.contains(volume)) file.model = names_[volume];
      }
    }
    maybe_rolled_back_ = false;
    if (!before.empty()) snapshots_[rollback.before.name] = before;
    maybe_snapshots_.erase(rollback.before.name);
    return NamesAreDurable();
  }

  // Of a rollback that the power cut short: all of its volumes are as after it, or none. What tells
  // is the snapshot of what was overwritten; without one, the names tell.
  void AdoptRollback() {
    bool done = false;
    bool known = false;
    for (const auto& [name, contents] : maybe_snapshots_) {
      known = true;
      done = filesystem_->Lookup(kSnapshotsInode, name).ok();
    }
    if (known && !done) names_ = *names_before_;
  }

  // A snapshot whose making or deletion was cut short is there whole or not at all.
  void AdoptSnapshots() {
    std::set<std::string> found;
    ASSERT_TRUE(filesystem_
                    ->ReadDirectory(kSnapshotsInode, 0,
                                    [&](const DirectoryEntry& entry) {
                                      found.insert(entry.name);
                                      return true;
                                    })
                    .ok());
    for (const auto& [name, contents] : maybe_snapshots_) {
      if (found.contains(name)) snapshots_[name] = contents;
    }
    maybe_snapshots_.clear();
    for (const std::string& name : found) EXPECT_TRUE(snapshots_.contains(name)) << name;
    for (const auto& [name, contents] : snapshots_) {
      ASSERT_TRUE(found.contains(name)) << "snapshot " << name << " is gone";
      CompareSnapshot(name, contents);
    }
  }

  bool Clone() {
    SnapshotOps::NewClone clone;
    clone.parent = kRootInode;
    clone.name = AnyName();
    clone.deadline = kLongEnough;
    if (names_.contains(clone.name)) return true;
    std::string source;
    std::string content;
    if (Below(2) && !snapshots_.empty()) {
      source = AnySnapshot();
      const auto& [volume, bytes] = *snapshots_[source].begin();
      content = bytes;
      source = ".snapshots/" + source + "/" + volume;
    } else if (!names_.empty()) {
      source = names_.begin()->first;
      content = BytesOf(*names_[source]);
    } else {
      return true;
    }
    Trace("clone", source + " " + clone.name);
    const auto inode = FindPath(*filesystem_, source);
    if (!inode.ok()) return Failed(inode.status());
    clone.files.push_back({*inode, ""});
    names_before_ = names_;
    names_[clone.name] = ModelOf(content);
    branched_ = true;
    const auto made = Do("clone " + clone.name, [this, clone](const Caller& caller) mutable {
      clone.caller = caller;
      return filesystem_->snapshots().Clone(clone);
    });
    if (!made.ok()) return Failed(made.status());
    return NamesAreDurable();
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
    CompareWith(*names_[name], name, volume, offset, length);
  }

  void CompareWith(VolumeModel& model, const std::string& name, Volume& volume, uint64_t offset,
                   uint64_t length) {
    std::vector<std::byte> out(length);
    auto got = volume.Read(offset, out);
    if (!got.ok()) return (void)Failed(got.status());
    out.resize(*got);
    const std::vector<std::byte> expected = model.Read(offset, length);
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
    const auto made = Do("create", [this, name](const Caller& caller) -> Result<InodeId> {
      CAIRN_ASSIGN_OR_RETURN(const Attributes attributes,
                             filesystem_->Create(kRootInode, name, 0644, caller));
      return attributes.inode;
    });
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
    const auto removed = Do("unlink", [this, name](const Caller& caller) -> Result<InodeId> {
      CAIRN_RETURN_IF_ERROR(filesystem_->Unlink(kRootInode, name, caller));
      return InodeId(0);
    });
    if (names_.erase(name) == 0) {
      return removed.status().code() == Code::kNotFound || Failed(removed.status());
    }
    return removed.ok() ? NamesAreDurable() : Failed(removed.status());
  }

  bool RenameName() {
    const std::string from = AnyName();
    const std::string to = AnyName();
    names_before_ = names_;
    Trace("rename", from + " " + to);
    const auto moved = Do("rename", [this, from, to](const Caller& caller) -> Result<InodeId> {
      CAIRN_RETURN_IF_ERROR(
          filesystem_->Rename(kRootInode, from, kRootInode, to, RenameMode::kReplace, caller));
      return InodeId(0);
    });
    if (!names_.contains(from)) {
      return moved.status().code() == Code::kNotFound || Failed(moved.status());
    }
    auto volume = names_[from];
    names_.erase(from);
    names_[to] = volume;
    // Onto itself: nothing is done, and it may be asked for again when the name is gone.
    if (from == to) unanswered_.reset();
    return moved.ok() ? NamesAreDurable() : Failed(moved.status());
  }

  // An attribute that must be new each time: done twice, it would be there already.
  bool AddAttribute() {
    std::string name;
    const auto volume = AnyVolume(name);
    if (!volume) return names_.empty();
    const std::string attribute = "user.a" + std::to_string(requests_);
    Trace("setxattr", name);
    const auto added =
        Do("setxattr", [this, inode = volume->inode(), attribute](const Caller& caller) {
          const Status status =
              filesystem_->SetXattr(inode, attribute, "value", XattrMode::kCreate, caller);
          return status.ok() ? Result<InodeId>(inode) : Result<InodeId>(status);
        });
    if (!added.ok()) return Failed(added.status());
    if (Below(2)) return true;
    const auto removed =
        Do("removexattr", [this, inode = volume->inode(), attribute](const Caller& caller) {
          const Status status = filesystem_->RemoveXattr(inode, attribute, caller);
          return status.ok() ? Result<InodeId>(inode) : Result<InodeId>(status);
        });
    return removed.ok() || Failed(removed.status());
  }

  std::mt19937_64 random_;
  StepClock clock_;
  uint64_t seal_bytes_ = 1 << 20;
  uint64_t refusals_ = 0;
  MemoryEnv env_;
  std::vector<uint64_t> journal_;
  std::vector<uint64_t> table_;
  bool takes_over_ = false;
  bool crashed_ = false;
  uint64_t requests_ = 0;
  uint64_t answered_again_ = 0;
  std::vector<OpenFile> open_files_;
  std::optional<Unanswered> unanswered_;
  std::unique_ptr<SteppingExecutor> executor_;
  std::unique_ptr<Filesystem> filesystem_;
  Names names_;
  std::optional<Names> names_before_;
  std::map<std::string, Contents> snapshots_;
  // Whose making or deletion has not returned.
  std::map<std::string, Contents> maybe_snapshots_;
  bool maybe_rolled_back_ = false;
  bool branched_ = false;  // a volume has had a branch with a parent
  uint64_t counter_ = 0;
};

struct Seen {
  uint64_t refusals = 0;        // reads of flipped bytes
  uint64_t answered_again = 0;  // requests that were done before
};

// Adds to `seen`.
void RunSeed(uint64_t seed, Seen& seen) {
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
    ASSERT_NO_FATAL_FAILURE(machine.CheckHandles());
    ASSERT_NO_FATAL_FAILURE(machine.SendAgain());
    if (machine.Below(2)) machine.ForgetUnanswered();
  }
  ASSERT_NO_FATAL_FAILURE(machine.SettleAndCheckLeaks());
  seen.refusals += machine.refusals();
  seen.answered_again += machine.answered_again();
}

TEST(ModelTest, RandomOperationsAndCrashes) {
  Seen seen;
  if (const char* seed = std::getenv("CAIRN_SEED")) {
    return RunSeed(std::strtoull(seed, nullptr, 0), seen);
  }
  const char* rounds = std::getenv("CAIRN_ROUNDS");
  const uint64_t count = rounds ? std::strtoull(rounds, nullptr, 0) : 60;
  const uint64_t base = std::random_device{}();
  std::printf("seeds %llu to %llu\n", static_cast<unsigned long long>(base),
              static_cast<unsigned long long>(base + count - 1));
  for (uint64_t seed = base; seed < base + count && !HasFailure(); ++seed) RunSeed(seed, seen);
  if (count >= 10) {
    EXPECT_GT(seen.refusals, 0u) << "no flipped byte was ever seen";
    EXPECT_GT(seen.answered_again, 0u) << "no request was ever sent again";
  }
}

}  // namespace
}  // namespace cairn
