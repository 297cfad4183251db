#include "src/warm/warm_format.h"

#include "src/warm/bytes.h"

namespace cairn {
namespace {

// The parts of a version record: a letter each, a mask, and for tombstones a location.
constexpr uint8_t kWholeExtent = 1;
constexpr uint8_t kExtentPart = 2;
constexpr uint8_t kZeroPart = 3;
constexpr uint8_t kTombstonePart = 4;

Status BadRecord(std::string_view what) {
  return Status(Code::kCorrupt, "index: a " + std::string(what) + " that cannot be decoded");
}

std::string IdKey(KeyKind kind, uint64_t id) { return KeyPrefix(kind, id); }

}  // namespace

std::string KeyPrefix(KeyKind kind) { return std::string(1, static_cast<char>(kind)); }

std::string KeyPrefix(KeyKind kind, uint64_t first) {
  std::string key;
  key.reserve(25);
  key.push_back(static_cast<char>(kind));
  AppendBig64(key, first);
  return key;
}

std::string BranchKey(BranchId branch) { return IdKey(KeyKind::kBranch, branch.value()); }
std::string CleanKey(BranchId branch) { return IdKey(KeyKind::kClean, branch.value()); }
std::string DeadBranchKey(BranchId branch) { return IdKey(KeyKind::kDeadBranch, branch.value()); }
std::string GroupKey(InodeId group) { return IdKey(KeyKind::kGroup, group.value()); }
std::string InodeKey(InodeId inode) { return IdKey(KeyKind::kInode, inode.value()); }
std::string OrphanKey(InodeId inode) { return IdKey(KeyKind::kOrphan, inode.value()); }

std::string RequestKey(RequestId request) { return IdKey(KeyKind::kRequest, request.value()); }

std::string CounterKey(std::string_view name) {
  std::string key = KeyPrefix(KeyKind::kCounter);
  key += name;
  return key;
}

std::string ExtentKey(const ExtentId& id) {
  std::string key = IdKey(KeyKind::kExtent, id.branch.value());
  AppendBig64(key, id.epoch.value());
  AppendBig64(key, id.segment.value());
  return key;
}

std::string ListingKey(InodeId parent, InodeId child) {
  std::string key = IdKey(KeyKind::kListing, parent.value());
  AppendBig64(key, child.value());
  return key;
}

std::string NameKey(InodeId parent, std::string_view name) {
  std::string key = IdKey(KeyKind::kName, parent.value());
  key += name;
  return key;
}

std::string RegionKey(const RegionId& id) {
  std::string key = IdKey(KeyKind::kRegion, id.branch.value());
  AppendBig64(key, id.epoch.value());
  AppendBig64(key, id.number);
  return key;
}

std::string SumsKey(BranchId branch, Epoch epoch, ChunkIndex chunk) {
  std::string key = IdKey(KeyKind::kSums, branch.value());
  AppendBig64(key, epoch.value());
  AppendBig64(key, chunk.value());
  return key;
}

std::string TokenKey(std::string_view token) {
  std::string key = KeyPrefix(KeyKind::kToken);
  key += token;
  return key;
}

std::string ViewKey(const View& view) {
  std::string key = IdKey(KeyKind::kView, view.branch.value());
  AppendBig64(key, view.epoch.value());
  AppendBig64(key, view.viewer);
  return key;
}

std::string VersionKey(BranchId branch, ChunkIndex chunk, Epoch epoch) {
  std::string key = IdKey(KeyKind::kVersion, branch.value());
  AppendBig64(key, chunk.value());
  // Inverted, so that a chunk's newest version comes first.
  AppendBig64(key, ~epoch.value());
  return key;
}

std::string XattrKey(InodeId inode, std::string_view name) {
  std::string key = IdKey(KeyKind::kXattr, inode.value());
  key += name;
  return key;
}

Result<VersionKeyParts> DecodeVersionKey(std::string_view key) {
  ByteReader reader(key);
  reader.Little<char>();
  VersionKeyParts parts;
  parts.branch = BranchId(reader.Big64());
  parts.chunk = ChunkIndex(reader.Big64());
  parts.epoch = Epoch(~reader.Big64());
  if (!reader.at_end()) return BadRecord("version key");
  return parts;
}

Result<ExtentId> DecodeExtentKey(std::string_view key) {
  ByteReader reader(key);
  reader.Little<char>();
  ExtentId id;
  id.branch = BranchId(reader.Big64());
  id.epoch = Epoch(reader.Big64());
  id.segment = SegmentIndex(reader.Big64());
  if (!reader.at_end()) return BadRecord("extent key");
  return id;
}

Result<RegionId> DecodeRegionKey(std::string_view key) {
  ByteReader reader(key);
  reader.Little<char>();
  RegionId id;
  id.branch = BranchId(reader.Big64());
  id.epoch = Epoch(reader.Big64());
  id.number = reader.Big64();
  if (!reader.at_end()) return BadRecord("region key");
  return id;
}

Result<SumsKeyParts> DecodeSumsKey(std::string_view key) {
  ByteReader reader(key);
  reader.Little<char>();
  SumsKeyParts parts;
  parts.branch = BranchId(reader.Big64());
  parts.epoch = Epoch(reader.Big64());
  parts.chunk = ChunkIndex(reader.Big64());
  if (!reader.at_end()) return BadRecord("checksum key");
  return parts;
}

Result<View> DecodeViewKey(std::string_view key) {
  ByteReader reader(key);
  reader.Little<char>();
  View view;
  view.branch = BranchId(reader.Big64());
  view.epoch = Epoch(reader.Big64());
  view.viewer = reader.Big64();
  if (!reader.at_end()) return BadRecord("view key");
  return view;
}

Result<uint64_t> DecodeIdKey(std::string_view key) {
  ByteReader reader(key);
  reader.Little<char>();
  const uint64_t id = reader.Big64();
  if (!reader.at_end()) return BadRecord("key");
  return id;
}

Result<IdPairKey> DecodeListingKey(std::string_view key) {
  ByteReader reader(key);
  reader.Little<char>();
  IdPairKey parts;
  parts.first = reader.Big64();
  parts.second = reader.Big64();
  if (!reader.at_end()) return BadRecord("listing key");
  return parts;
}

Result<IdNameKey> DecodeIdNameKey(std::string_view key) {
  ByteReader reader(key);
  reader.Little<char>();
  IdNameKey parts;
  parts.id = reader.Big64();
  parts.name = reader.rest();
  if (!reader.ok() || parts.name.empty()) return BadRecord("name key");
  return parts;
}

std::string EncodeInode(const InodeRecord& record) {
  std::string value;
  AppendLittle(value, static_cast<uint8_t>(record.kind));
  AppendLittle(value, record.mode);
  AppendLittle(value, record.uid);
  AppendLittle(value, record.gid);
  AppendLittle(value, record.size);
  AppendLittle(value, record.atime_ns);
  AppendLittle(value, record.mtime_ns);
  AppendLittle(value, record.ctime_ns);
  AppendLittle(value, record.parent.value());
  AppendLittle(value, record.branch.value());
  if (record.kind == FileKind::kSnapshot) AppendLittle(value, record.epoch.value());
  return value;
}

Result<InodeRecord> DecodeInode(std::string_view value) {
  ByteReader reader(value);
  InodeRecord record;
  const auto kind = reader.Little<uint8_t>();
  record.mode = reader.Little<uint32_t>();
  record.uid = reader.Little<uint32_t>();
  record.gid = reader.Little<uint32_t>();
  record.size = reader.Little<uint64_t>();
  record.atime_ns = reader.Little<int64_t>();
  record.mtime_ns = reader.Little<int64_t>();
  record.ctime_ns = reader.Little<int64_t>();
  record.parent = InodeId(reader.Little<uint64_t>());
  record.branch = BranchId(reader.Little<uint64_t>());
  const bool is_snapshot = kind == static_cast<uint8_t>(FileKind::kSnapshot);
  if (is_snapshot) record.epoch = Epoch(reader.Little<uint64_t>());
  const bool known_kind = kind == static_cast<uint8_t>(FileKind::kVolume) ||
                          kind == static_cast<uint8_t>(FileKind::kDirectory) ||
                          (is_snapshot && record.epoch != Epoch(0));
  if (!reader.at_end() || !known_kind || record.mode > 07777 || record.size > kMaxVolumeSize) {
    return BadRecord("file record");
  }
  record.kind = static_cast<FileKind>(kind);
  return record;
}

std::string EncodeBranch(const BranchRecord& record) {
  std::string value;
  AppendLittle(value, record.parent.value());
  AppendLittle(value, record.parent_epoch.value());
  AppendLittle(value, record.epoch.value());
  AppendLittle(value, record.inode.value());
  AppendLittle(value, record.trimmed_crash);
  if (record.parent != BranchId(0)) AppendLittle(value, record.parent_end);
  return value;
}

Result<BranchRecord> DecodeBranch(std::string_view value) {
  ByteReader reader(value);
  BranchRecord record;
  record.parent = BranchId(reader.Little<uint64_t>());
  record.parent_epoch = Epoch(reader.Little<uint64_t>());
  record.epoch = Epoch(reader.Little<uint64_t>());
  record.inode = InodeId(reader.Little<uint64_t>());
  record.trimmed_crash = reader.Little<uint64_t>();
  if (record.parent != BranchId(0)) record.parent_end = reader.Little<uint64_t>();
  if (!reader.at_end() || record.epoch == Epoch(0) || record.parent_end > kMaxVolumeSize ||
      record.parent_end % kBlockSize != 0) {
    return BadRecord("branch record");
  }
  return record;
}

std::string EncodeVersion(const VersionRecord& record) {
  std::string value;
  // By far most chunks lie whole in their extent file: one byte says so.
  if (record.extent == kAllBlocks) {
    AppendLittle(value, kWholeExtent);
    return value;
  }
  if (record.extent != 0) {
    AppendLittle(value, kExtentPart);
    AppendLittle(value, record.extent);
  }
  if (record.zero != 0) {
    AppendLittle(value, kZeroPart);
    AppendLittle(value, record.zero);
  }
  for (const VersionRecord::Tombstone& tombstone : record.tombstones) {
    AppendLittle(value, kTombstonePart);
    AppendLittle(value, tombstone.mask);
    AppendLittle(value, static_cast<uint16_t>(tombstone.location.size()));
    value += tombstone.location;
  }
  return value;
}

Result<VersionRecord> DecodeVersion(std::string_view value) {
  VersionRecord record;
  if (value.size() == 1 && static_cast<uint8_t>(value[0]) == kWholeExtent) {
    record.extent = kAllBlocks;
    return record;
  }
  ByteReader reader(value);
  BlockMask seen = 0;
  while (reader.ok() && !reader.at_end()) {
    const auto part = reader.Little<uint8_t>();
    const auto mask = reader.Little<uint64_t>();
    if (mask == 0 || (mask & seen) != 0) return BadRecord("version record");
    seen |= mask;
    if (part == kExtentPart && record.extent == 0) {
      record.extent = mask;
    } else if (part == kZeroPart && record.zero == 0) {
      record.zero = mask;
    } else if (part == kTombstonePart) {
      const auto length = reader.Little<uint16_t>();
      record.tombstones.push_back({mask, std::string(reader.Bytes(length))});
    } else {
      return BadRecord("version record");
    }
  }
  if (!reader.ok() || seen == 0) return BadRecord("version record");
  return record;
}

std::string EncodeRegion(RegionState state) {
  std::string value;
  AppendLittle(value, static_cast<uint8_t>(state));
  return value;
}

Result<RegionState> DecodeRegion(std::string_view value) {
  ByteReader reader(value);
  const auto state = static_cast<RegionState>(reader.Little<uint8_t>());
  const bool known = state == RegionState::kSealed || state == RegionState::kOpen;
  if (!reader.at_end() || !known) return BadRecord("region record");
  return state;
}

std::string EncodeSums(const ChunkSums& sums) {
  std::string value;
  AppendLittle(value, sums.mask);
  AppendLittle(value, sums.zero);
  for (BlockMask rest = sums.mask & ~sums.zero; rest != 0; rest &= rest - 1) {
    AppendLittle(value, sums.crc[static_cast<size_t>(std::countr_zero(rest))]);
  }
  return value;
}

Result<ChunkSums> DecodeSums(std::string_view value) {
  ByteReader reader(value);
  ChunkSums sums;
  sums.mask = reader.Little<uint64_t>();
  sums.zero = reader.Little<uint64_t>();
  if (!reader.ok() || sums.mask == 0 || (sums.zero & ~sums.mask) != 0) {
    return BadRecord("checksum record");
  }
  for (BlockMask rest = sums.mask & ~sums.zero; rest != 0; rest &= rest - 1) {
    sums.crc[static_cast<size_t>(std::countr_zero(rest))] = reader.Little<uint32_t>();
  }
  if (!reader.at_end()) return BadRecord("checksum record");
  return sums;
}

namespace {

void AppendText(std::string& value, std::string_view text) {
  AppendLittle(value, static_cast<uint32_t>(text.size()));
  value += text;
}

std::string ReadText(ByteReader& reader) {
  const auto length = reader.Little<uint32_t>();
  return std::string(reader.Bytes(length));
}

}  // namespace

std::string EncodeGroup(const GroupRecord& record) {
  std::string value;
  AppendLittle(value, record.created_ns);
  AppendLittle(value, record.uid);
  AppendLittle(value, record.gid);
  AppendLittle(value, record.member_count);
  AppendText(value, record.name);
  AppendText(value, record.token);
  AppendText(value, record.description);
  AppendLittle(value, static_cast<uint32_t>(record.tags.size()));
  for (const auto& [tag, text] : record.tags) {
    AppendText(value, tag);
    AppendText(value, text);
  }
  return value;
}

Result<GroupRecord> DecodeGroup(std::string_view value) {
  ByteReader reader(value);
  GroupRecord record;
  record.created_ns = reader.Little<int64_t>();
  record.uid = reader.Little<uint32_t>();
  record.gid = reader.Little<uint32_t>();
  record.member_count = reader.Little<uint64_t>();
  record.name = ReadText(reader);
  record.token = ReadText(reader);
  record.description = ReadText(reader);
  const auto tags = reader.Little<uint32_t>();
  for (uint32_t i = 0; i < tags && reader.ok(); ++i) {
    std::string tag = ReadText(reader);
    record.tags[std::move(tag)] = ReadText(reader);
  }
  const bool good_name = !record.name.empty() && record.name.size() <= kMaxNameBytes;
  if (!reader.at_end() || record.tags.size() != tags || !good_name) {
    return BadRecord("snapshot record");
  }
  return record;
}

std::string EncodeView(ViewKind kind) {
  std::string value;
  AppendLittle(value, static_cast<uint8_t>(kind));
  return value;
}

Result<ViewKind> DecodeView(std::string_view value) {
  ByteReader reader(value);
  const auto kind = static_cast<ViewKind>(reader.Little<uint8_t>());
  const bool known = kind == ViewKind::kSnapshot || kind == ViewKind::kClone;
  if (!reader.at_end() || !known) return BadRecord("view record");
  return kind;
}

std::string EncodeU64(uint64_t number) {
  std::string value;
  AppendLittle(value, number);
  return value;
}

Result<uint64_t> DecodeU64(std::string_view value) {
  ByteReader reader(value);
  const auto number = reader.Little<uint64_t>();
  if (!reader.at_end()) return BadRecord("number");
  return number;
}

}  // namespace cairn
