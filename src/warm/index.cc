#include "src/warm/index.h"

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/table.h>
#include <leveldb/write_batch.h>

#include <algorithm>

#include "src/warm/leveldb_env.h"

namespace cairn {
namespace {

// How many ids one durable counter update hands out.
constexpr uint64_t kIdReservation = 4096;
// LevelDB keeps each open table's index and filter in memory; 2 MiB tables of ours need ~30 KiB.
constexpr int kMaxOpenTables = 500;
constexpr int kBloomBitsPerKey = 10;

std::string_view ToView(const leveldb::Slice& bytes) { return {bytes.data(), bytes.size()}; }

// An exception (no memory) that passes through LevelDB leaves its mutex or its queue of writers so
// that the next call waits for ever. Here it ends the process, and the next server goes on from
// the journal.
leveldb::Status WriteOrDie(leveldb::DB& db, const leveldb::WriteOptions& options,
                           leveldb::WriteBatch& changes) noexcept {
  return db.Write(options, &changes);
}
leveldb::Status GetOrDie(leveldb::DB& db, const leveldb::ReadOptions& options,
                         const std::string& key, std::string& value) noexcept {
  return db.Get(options, key, &value);
}
void CompactOrDie(leveldb::DB& db, const leveldb::Slice& key) noexcept {
  db.CompactRange(&key, &key);
}

// The first key in the table at `path`, also when it was deleted since.
Result<std::string> FirstKey(LevelDbEnv& env, const std::string& path) {
  constexpr size_t kInternalBytes = 8;  // sequence number and type, behind each key of a table
  uint64_t size = 0;
  leveldb::RandomAccessFile* opened = nullptr;
  leveldb::Status status = env.GetFileSize(path, &size);
  if (status.ok()) status = env.NewRandomAccessFile(path, &opened);
  const std::unique_ptr<leveldb::RandomAccessFile> file(opened);
  leveldb::Table* table = nullptr;
  if (status.ok()) status = leveldb::Table::Open({}, file.get(), size, &table);
  if (!status.ok()) return env.FromLevelDb(status, "index");
  const std::unique_ptr<leveldb::Table> owned(table);
  const std::unique_ptr<leveldb::Iterator> it(table->NewIterator(leveldb::ReadOptions()));
  it->SeekToFirst();
  if (!it->status().ok()) return env.FromLevelDb(it->status(), "index");
  if (!it->Valid() || it->key().size() < kInternalBytes) {
    return Status(Code::kCorrupt, "index: " + path + ": a table without a key");
  }
  return std::string(it->key().data(), it->key().size() - kInternalBytes);
}

}  // namespace

// Members in the order that LevelDB needs them destroyed: the database first, what it uses last.
struct Index::Database {
  ~Database() { Delete(); }
  // May wait for what LevelDB is doing, but not for space.
  void Delete() {
    if (env != nullptr) env->StopWaiting();
    db.reset();
  }

  std::unique_ptr<LevelDbEnv> env;
  std::unique_ptr<leveldb::Cache> cache;
  std::unique_ptr<const leveldb::FilterPolicy> filter;
  std::unique_ptr<leveldb::DB> db;
};

Index::Index() : database_(std::make_unique<Database>()) {}
Index::~Index() = default;

Result<std::unique_ptr<Index>> Index::Open(Env& env, const std::string& dir,
                                           const IndexOptions& options) {
  std::unique_ptr<Index> index(new Index);
  Database& database = *index->database_;
  database.env = std::make_unique<LevelDbEnv>(env, options.on_no_space, options.room_to_compact);
  database.cache.reset(leveldb::NewLRUCache(options.cache_bytes));
  database.filter.reset(leveldb::NewBloomFilterPolicy(kBloomBitsPerKey));

  leveldb::Options leveldb_options;
  leveldb_options.env = database.env.get();
  leveldb_options.create_if_missing = options.create;
  leveldb_options.paranoid_checks = true;
  leveldb_options.write_buffer_size = options.write_buffer_bytes;
  leveldb_options.max_open_files = kMaxOpenTables;
  leveldb_options.block_cache = database.cache.get();
  leveldb_options.filter_policy = database.filter.get();
  leveldb::DB* db = nullptr;
  const leveldb::Status opened = leveldb::DB::Open(leveldb_options, dir, &db);
  if (!opened.ok()) return database.env->FromLevelDb(opened, "index " + dir);
  database.db.reset(db);

  CAIRN_ASSIGN_OR_RETURN(const uint64_t next_id, index->GetCounter(kNextIdCounter));
  MutexLock lock(index->id_mu_);
  index->next_id_ = std::max(next_id, kRootInode.value() + 1);
  index->reserved_ids_end_ = index->next_id_;
  return index;
}

Status Index::Close() {
  database_->Delete();
  CAIRN_RETURN_IF_ERROR(health());
  return database_->env->write_failure().WithPrefix("index");
}

Status Index::health() const {
  MutexLock lock(health_mu_);
  return health_;
}

Status Index::Commit(const IndexBatch& batch) {
  CAIRN_RETURN_IF_ERROR(health());
  if (batch.empty()) return Status::Ok();
  leveldb::WriteBatch changes;
  for (const IndexBatch::Change& change : batch.changes_) {
    if (change.value) {
      changes.Put(change.key, *change.value);
    } else {
      changes.Delete(change.key);
    }
  }
  leveldb::WriteOptions options;
  options.sync = true;
  database_->env->ChangeBegins();
  const leveldb::Status written = WriteOrDie(*database_->db, options, changes);
  database_->env->ChangeEnds();
  if (written.ok()) return Status::Ok();
  Status status = database_->env->FromLevelDb(written, "index: write");
  MutexLock lock(health_mu_);
  if (health_.ok()) health_ = status;
  return status;
}

Status Index::ReserveIds() {
  IndexBatch batch;
  batch.PutCounter(kNextIdCounter, next_id_ + kIdReservation);
  CAIRN_RETURN_IF_ERROR(Commit(batch));
  reserved_ids_end_ = next_id_ + kIdReservation;
  return Status::Ok();
}

Result<uint64_t> Index::AllocateId() {
  // The lock is held over a synced write once in kIdReservation calls: a number must not be given
  // out before the counter that protects it is durable.
  MutexLock lock(id_mu_);
  if (next_id_ == reserved_ids_end_) CAIRN_RETURN_IF_ERROR(ReserveIds());
  return next_id_++;
}

Result<std::string> Index::Get(const std::string& key, std::string_view what) {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  std::string value;
  const leveldb::Status found = GetOrDie(*database_->db, options, key, value);
  if (found.ok()) return value;
  if (found.IsNotFound()) return Status(Code::kNotFound, std::string(what));
  return database_->env->FromLevelDb(found, "index: " + std::string(what));
}

Result<InodeRecord> Index::GetInode(InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(std::string value, Get(InodeKey(inode), "file"));
  return DecodeInode(value);
}

Result<InodeId> Index::FindName(InodeId parent, std::string_view name) {
  CAIRN_ASSIGN_OR_RETURN(std::string value, Get(NameKey(parent, name), "name"));
  CAIRN_ASSIGN_OR_RETURN(uint64_t child, DecodeU64(value));
  return InodeId(child);
}

Result<std::string> Index::GetXattr(InodeId inode, std::string_view name) {
  return Get(XattrKey(inode, name), "extended attribute");
}

Result<BranchRecord> Index::GetBranch(BranchId branch) {
  CAIRN_ASSIGN_OR_RETURN(std::string value, Get(BranchKey(branch), "branch"));
  return DecodeBranch(value);
}

Result<bool> Index::Has(const std::string& key, std::string_view what) {
  auto value = Get(key, what);
  if (value.ok()) return true;
  if (value.status().code() == Code::kNotFound) return false;
  return std::move(value).status();
}

Result<bool> Index::HasOrphan(InodeId inode) { return Has(OrphanKey(inode), "orphan"); }

Result<bool> Index::HasDeadBranch(BranchId branch) {
  return Has(DeadBranchKey(branch), "dead branch");
}

Result<bool> Index::HasClean(BranchId branch) { return Has(CleanKey(branch), "clean"); }

Result<GroupRecord> Index::GetGroup(InodeId group) {
  CAIRN_ASSIGN_OR_RETURN(std::string value, Get(GroupKey(group), "snapshot"));
  return DecodeGroup(value);
}

Result<InodeId> Index::FindToken(std::string_view token) {
  CAIRN_ASSIGN_OR_RETURN(std::string value, Get(TokenKey(token), "token"));
  CAIRN_ASSIGN_OR_RETURN(const uint64_t group, DecodeU64(value));
  return InodeId(group);
}

Result<uint64_t> Index::GetCounter(std::string_view name) {
  auto value = Get(CounterKey(name), "counter");
  if (value.ok()) return DecodeU64(*value);
  if (value.status().code() == Code::kNotFound) return uint64_t{0};
  return std::move(value).status();
}

Result<std::optional<std::string>> Index::GetRequest(RequestId request) {
  auto value = Get(RequestKey(request), "request");
  if (value.ok()) return std::optional(std::move(*value));
  if (value.status().code() == Code::kNotFound) return std::optional<std::string>();
  return std::move(value).status();
}

Result<std::optional<RegionState>> Index::GetRegion(const RegionId& id) {
  auto value = Get(RegionKey(id), "region");
  if (value.ok()) {
    CAIRN_ASSIGN_OR_RETURN(const RegionState state, DecodeRegion(*value));
    return std::optional(state);
  }
  if (value.status().code() == Code::kNotFound) return std::optional<RegionState>();
  return std::move(value).status();
}

Result<ChunkSums> Index::GetSums(BranchId branch, Epoch epoch, ChunkIndex chunk) {
  auto value = Get(SumsKey(branch, epoch, chunk), "checksums");
  if (value.ok()) return DecodeSums(*value);
  if (value.status().code() == Code::kNotFound) return ChunkSums{};
  return std::move(value).status();
}

Status Index::Walk(
    const std::string& from, const std::string& prefix, bool verify,
    const std::function<Result<bool>(std::string_view key, std::string_view value)>& sink) {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  options.fill_cache = !verify;
  std::unique_ptr<leveldb::Iterator> it(database_->db->NewIterator(options));
  // LevelDB passes over a block that it cannot read: no sink gets what lies behind such a gap,
  // which it may take for empty, nor is one that has seen enough told that all is well.
  for (it->Seek(from); it->status().ok() && it->Valid() && it->key().starts_with(prefix);
       it->Next()) {
    CAIRN_ASSIGN_OR_RETURN(const bool more, sink(ToView(it->key()), ToView(it->value())));
    if (!more) break;
  }
  if (!it->status().ok()) return database_->env->FromLevelDb(it->status(), "index: walk");
  return Status::Ok();
}

std::map<std::string, Status> Index::damaged_tables() const {
  return database_->env->damaged_tables();
}

Status Index::RewriteTable(const std::string& path) {
  LevelDbEnv& env = *database_->env;
  const auto key = FirstKey(env, path);
  if (!env.FileExists(path)) return Status::Ok();  // compacted meanwhile
  if (!key.ok()) return key.status();
  // Something newer above the table, with which its level is compacted: LevelDB leaves the lowest
  // level alone when there is nothing to merge into it.
  auto value = Get(*key, "a record");
  IndexBatch batch;
  if (value.ok()) {
    batch.PutRaw(*key, std::move(*value));
  } else if (value.status().code() == Code::kNotFound) {
    batch.DeleteRaw(*key);
  } else {
    return std::move(value).status();
  }
  CAIRN_RETURN_IF_ERROR(Commit(batch));
  env.StopWaiting();
  CompactOrDie(*database_->db, *key);
  if (!env.FileExists(path)) return Status::Ok();
  // LevelDB tells of a compaction that failed when it is next given a change.
  leveldb::WriteOptions options;
  options.sync = true;
  leveldb::WriteBatch nothing;
  CAIRN_RETURN_IF_ERROR(
      env.FromLevelDb(WriteOrDie(*database_->db, options, nothing), "index: compaction"));
  return Status(Code::kIo, "index: " + path + ": was compacted, but could not be removed");
}

Status Index::ForEachXattr(
    InodeId inode, const std::function<bool(std::string_view name, std::string_view value)>& sink) {
  const std::string prefix = KeyPrefix(KeyKind::kXattr, inode.value());
  return Walk(prefix, prefix, false,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                CAIRN_ASSIGN_OR_RETURN(const IdNameKey parts, DecodeIdNameKey(key));
                return sink(parts.name, value);
              });
}

Status Index::ForEachChild(InodeId parent, InodeId after,
                           const std::function<bool(InodeId child, std::string_view name)>& sink) {
  if (after.value() == ~uint64_t{0}) return Status::Ok();
  return Walk(ListingKey(parent, after.Next()), KeyPrefix(KeyKind::kListing, parent.value()), false,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                CAIRN_ASSIGN_OR_RETURN(const IdPairKey parts, DecodeListingKey(key));
                return sink(InodeId(parts.second), value);
              });
}

Status Index::ForEachVersion(
    BranchId branch, ChunkIndex first, ChunkIndex last,
    const std::function<bool(ChunkIndex, Epoch, const VersionRecord&)>& sink) {
  // The newest possible epoch sorts first.
  return Walk(VersionKey(branch, first, Epoch(~uint64_t{0})),
              KeyPrefix(KeyKind::kVersion, branch.value()), false,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                CAIRN_ASSIGN_OR_RETURN(const VersionKeyParts parts, DecodeVersionKey(key));
                if (parts.chunk > last) return false;
                CAIRN_ASSIGN_OR_RETURN(const VersionRecord record, DecodeVersion(value));
                return sink(parts.chunk, parts.epoch, record);
              });
}

Status Index::ForEachExtent(BranchId branch,
                            const std::function<bool(const ExtentId&, uint64_t size)>& sink) {
  const std::string prefix = KeyPrefix(KeyKind::kExtent, branch.value());
  return Walk(prefix, prefix, false,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                CAIRN_ASSIGN_OR_RETURN(const ExtentId id, DecodeExtentKey(key));
                CAIRN_ASSIGN_OR_RETURN(const uint64_t size, DecodeU64(value));
                return sink(id, size);
              });
}

Status Index::ForEachRegion(const RegionId& from,
                            const std::function<bool(const RegionId&)>& sink) {
  return Walk(RegionKey(from), KeyPrefix(KeyKind::kRegion, from.branch.value()), false,
              [&](std::string_view key, std::string_view) -> Result<bool> {
                CAIRN_ASSIGN_OR_RETURN(const RegionId id, DecodeRegionKey(key));
                if (id.epoch != from.epoch) return false;
                return sink(id);
              });
}

Status Index::ForEachSums(BranchId branch, Epoch epoch, ChunkIndex first, ChunkIndex last,
                          const std::function<bool(ChunkIndex)>& sink) {
  return Walk(SumsKey(branch, epoch, first), KeyPrefix(KeyKind::kSums, branch.value()), false,
              [&](std::string_view key, std::string_view) -> Result<bool> {
                CAIRN_ASSIGN_OR_RETURN(const SumsKeyParts parts, DecodeSumsKey(key));
                if (parts.epoch != epoch || parts.chunk > last) return false;
                return sink(parts.chunk);
              });
}

Status Index::ForEachView(BranchId branch, const std::function<bool(const View&)>& sink) {
  const std::string prefix = KeyPrefix(KeyKind::kView, branch.value());
  return Walk(prefix, prefix, false,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                CAIRN_ASSIGN_OR_RETURN(View view, DecodeViewKey(key));
                CAIRN_ASSIGN_OR_RETURN(view.kind, DecodeView(value));
                return sink(view);
              });
}

Status Index::ForEachGroup(const std::function<bool(InodeId, const GroupRecord&)>& sink) {
  const std::string prefix = KeyPrefix(KeyKind::kGroup);
  return Walk(prefix, prefix, false,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
                CAIRN_ASSIGN_OR_RETURN(const GroupRecord record, DecodeGroup(value));
                return sink(InodeId(id), record);
              });
}

Status Index::ForEachClean(const std::function<bool(BranchId)>& sink) {
  const std::string prefix = KeyPrefix(KeyKind::kClean);
  return Walk(prefix, prefix, false, [&](std::string_view key, std::string_view) -> Result<bool> {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    return sink(BranchId(id));
  });
}

Status Index::ForEachOrphan(const std::function<bool(InodeId)>& sink) {
  const std::string prefix = KeyPrefix(KeyKind::kOrphan);
  return Walk(prefix, prefix, false, [&](std::string_view key, std::string_view) -> Result<bool> {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    return sink(InodeId(id));
  });
}

Status Index::ForEachDeadBranch(const std::function<bool(BranchId)>& sink) {
  const std::string prefix = KeyPrefix(KeyKind::kDeadBranch);
  return Walk(prefix, prefix, false, [&](std::string_view key, std::string_view) -> Result<bool> {
    CAIRN_ASSIGN_OR_RETURN(const uint64_t id, DecodeIdKey(key));
    return sink(BranchId(id));
  });
}

Status Index::ForEachRaw(
    KeyKind kind, const std::function<bool(std::string_view key, std::string_view value)>& sink,
    bool verify) {
  const std::string prefix = KeyPrefix(kind);
  return Walk(prefix, prefix, verify,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                return sink(key, value);
              });
}

Status Index::ForEachRaw(
    KeyKind kind, uint64_t first,
    const std::function<bool(std::string_view key, std::string_view value)>& sink) {
  const std::string prefix = KeyPrefix(kind, first);
  return Walk(prefix, prefix, false,
              [&](std::string_view key, std::string_view value) -> Result<bool> {
                return sink(key, value);
              });
}

Status Index::ForEachUnknown(const std::function<bool(std::string_view key)>& sink) {
  constexpr std::string_view known = "BCDEGIJKLMNORSTVX";
  return Walk({}, {}, false, [&](std::string_view key, std::string_view) -> Result<bool> {
    if (!key.empty() && known.find(key[0]) != std::string_view::npos) return true;
    return sink(key);
  });
}

}  // namespace cairn
