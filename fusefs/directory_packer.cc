#include "fusefs/directory_packer.h"

#include <cstring>

#include "fusefs/wire.h"

namespace cairn {

bool DirectoryPacker::Put(const fuse_entry_out* entry, std::string_view name, InodeId inode,
                          FileKind kind, uint64_t next_offset) {
  const size_t entry_size = entry != nullptr ? sizeof(*entry) : 0;
  const size_t end = entry_size + FUSE_NAME_OFFSET + name.size();
  const size_t record_size = FUSE_REC_ALIGN(end);
  if (record_size > buffer_.size() - used_) return false;

  fuse_dirent head{};
  head.ino = inode.value();
  head.off = next_offset;
  head.namelen = static_cast<uint32_t>(name.size());
  head.type = FileTypeBits(kind) >> 12;

  std::byte* const record = buffer_.data() + used_;
  if (entry != nullptr) std::memcpy(record, entry, entry_size);
  std::memcpy(record + entry_size, &head, FUSE_NAME_OFFSET);
  std::memcpy(record + entry_size + FUSE_NAME_OFFSET, name.data(), name.size());
  std::memset(record + end, 0, record_size - end);
  used_ += record_size;
  return true;
}

bool DirectoryPacker::Add(std::string_view name, InodeId inode, FileKind kind,
                          uint64_t next_offset) {
  return Put(nullptr, name, inode, kind, next_offset);
}

bool DirectoryPacker::AddPlus(InodeId directory, std::string_view name,
                              const Attributes& attributes, uint64_t next_offset) {
  const fuse_entry_out entry = EntryReply(attributes, directory);
  return Put(&entry, name, attributes.inode, attributes.kind, next_offset);
}

bool DirectoryPacker::AddPlusNameOnly(std::string_view name, InodeId inode, FileKind kind,
                                      uint64_t next_offset) {
  const fuse_entry_out entry{};
  return Put(&entry, name, inode, kind, next_offset);
}

}  // namespace cairn
