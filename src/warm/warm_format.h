// How keys and values lie in the index. FORMAT.md is the document; a change here changes it, the
// superblock's version and the golden store in the same commit.
//
// Keys: one letter, then big-endian integers, so that LevelDB's byte order is the order we walk
// in. Values: little-endian, fixed fields first. Decoders take any bytes and answer kCorrupt for
// what is not exactly a record. Pure functions.
#ifndef CAIRN_SRC_WARM_WARM_FORMAT_H_
#define CAIRN_SRC_WARM_WARM_FORMAT_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "src/base/result.h"
#include "src/base/strong_id.h"
#include "src/warm/records.h"

namespace cairn {

// The first byte of each key.
enum class KeyKind : char {
  kBranch = 'B',      // branch -> BranchRecord
  kCounter = 'C',     // name -> u64
  kDeadBranch = 'D',  // branch -> (empty): to be reclaimed
  kExtent = 'E',  // branch, epoch, segment -> u64: this extent file exists, with at least that size
  kInode = 'I',   // inode -> InodeRecord
  kListing = 'L',  // parent, child -> name
  kName = 'N',     // parent, name -> child
  kOrphan = 'O',   // inode -> (empty): without a name, perhaps still open
  kVersion = 'V',  // branch, chunk, ~epoch -> VersionRecord
  kXattr = 'X',    // inode, name -> value
  kRegion = 'S',   // branch, epoch, region -> RegionState
  kSums = 'K',     // branch, epoch, chunk -> ChunkSums
  kGroup = 'G',    // inode of the snapshot's directory -> GroupRecord
  kClean = 'J',    // branch -> (empty): may hold versions that nobody needs any more
  kView = 'M',     // branch, epoch, who sees it -> ViewKind
  kToken = 'T',    // caller's token -> inode of the snapshot's directory
  kRequest = 'R',  // request -> its answer, for when it is sent again
  // A place kept for what is not built yet. fsck refuses stores that hold it until it knows it.
  kPack = 'P',  // cold object -> what it holds
};

// The counters: the next id to give out, and WarmStore::crash_count.
inline constexpr std::string_view kNextIdCounter = "next-id";
inline constexpr std::string_view kCrashCounter = "crashes";

inline constexpr size_t kMaxNameBytes = 255;
inline constexpr size_t kMaxTokenBytes = 255;

std::string BranchKey(BranchId branch);
std::string CleanKey(BranchId branch);
std::string CounterKey(std::string_view name);
std::string DeadBranchKey(BranchId branch);
std::string ExtentKey(const ExtentId& id);
std::string GroupKey(InodeId group);
std::string InodeKey(InodeId inode);
std::string ListingKey(InodeId parent, InodeId child);
std::string NameKey(InodeId parent, std::string_view name);
std::string OrphanKey(InodeId inode);
std::string RegionKey(const RegionId& id);
std::string RequestKey(RequestId request);
std::string SumsKey(BranchId branch, Epoch epoch, ChunkIndex chunk);
std::string TokenKey(std::string_view token);
std::string VersionKey(BranchId branch, ChunkIndex chunk, Epoch epoch);
std::string ViewKey(const View& view);
std::string XattrKey(InodeId inode, std::string_view name);

// All keys of one kind, or of one kind and first id, start with these bytes.
std::string KeyPrefix(KeyKind kind);
std::string KeyPrefix(KeyKind kind, uint64_t first);

struct VersionKeyParts {
  BranchId branch;
  ChunkIndex chunk;
  Epoch epoch;
};
Result<VersionKeyParts> DecodeVersionKey(std::string_view key);
Result<ExtentId> DecodeExtentKey(std::string_view key);
Result<RegionId> DecodeRegionKey(std::string_view key);
struct SumsKeyParts {
  BranchId branch;
  Epoch epoch;
  ChunkIndex chunk;
};
Result<SumsKeyParts> DecodeSumsKey(std::string_view key);
// All but the kind, which is the value.
Result<View> DecodeViewKey(std::string_view key);
// For keys that are a letter and one id (branch, inode, orphan, dead branch, clean, group,
// request).
Result<uint64_t> DecodeIdKey(std::string_view key);
struct IdPairKey {
  uint64_t first = 0;
  uint64_t second = 0;
};
Result<IdPairKey> DecodeListingKey(std::string_view key);
struct IdNameKey {
  uint64_t id = 0;
  std::string_view name;  // points into the key
};
// For keys that are a letter, one id and a string (name, xattr).
Result<IdNameKey> DecodeIdNameKey(std::string_view key);

std::string EncodeInode(const InodeRecord& record);
Result<InodeRecord> DecodeInode(std::string_view value);
std::string EncodeBranch(const BranchRecord& record);
Result<BranchRecord> DecodeBranch(std::string_view value);
std::string EncodeVersion(const VersionRecord& record);
Result<VersionRecord> DecodeVersion(std::string_view value);
std::string EncodeRegion(RegionState state);
Result<RegionState> DecodeRegion(std::string_view value);
std::string EncodeSums(const ChunkSums& sums);
Result<ChunkSums> DecodeSums(std::string_view value);
std::string EncodeGroup(const GroupRecord& record);
Result<GroupRecord> DecodeGroup(std::string_view value);
std::string EncodeView(ViewKind kind);
Result<ViewKind> DecodeView(std::string_view value);
std::string EncodeU64(uint64_t number);
Result<uint64_t> DecodeU64(std::string_view value);

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_WARM_FORMAT_H_
