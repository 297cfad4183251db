#include "src/warm/index.h"

namespace cairn {

void IndexBatch::PutRaw(std::string key, std::string value) {
  changes_.push_back({std::move(key), std::move(value)});
}
void IndexBatch::DeleteRaw(std::string key) { changes_.push_back({std::move(key), std::nullopt}); }

void IndexBatch::PutCounter(std::string_view name, uint64_t number) {
  PutRaw(CounterKey(name), EncodeU64(number));
}

void IndexBatch::PutInode(InodeId inode, const InodeRecord& record) {
  PutRaw(InodeKey(inode), EncodeInode(record));
}
void IndexBatch::DeleteInode(InodeId inode) { DeleteRaw(InodeKey(inode)); }

void IndexBatch::PutName(InodeId parent, std::string_view name, InodeId child) {
  PutRaw(NameKey(parent, name), EncodeU64(child.value()));
  PutRaw(ListingKey(parent, child), std::string(name));
}
void IndexBatch::DeleteName(InodeId parent, std::string_view name, InodeId child) {
  DeleteRaw(NameKey(parent, name));
  DeleteRaw(ListingKey(parent, child));
}

void IndexBatch::PutXattr(InodeId inode, std::string_view name, std::string_view value) {
  PutRaw(XattrKey(inode, name), std::string(value));
}
void IndexBatch::DeleteXattr(InodeId inode, std::string_view name) {
  DeleteRaw(XattrKey(inode, name));
}

void IndexBatch::PutBranch(BranchId branch, const BranchRecord& record) {
  PutRaw(BranchKey(branch), EncodeBranch(record));
}
void IndexBatch::DeleteBranch(BranchId branch) { DeleteRaw(BranchKey(branch)); }

void IndexBatch::PutVersion(BranchId branch, ChunkIndex chunk, Epoch epoch,
                            const VersionRecord& record) {
  PutRaw(VersionKey(branch, chunk, epoch), EncodeVersion(record));
}
void IndexBatch::DeleteVersion(BranchId branch, ChunkIndex chunk, Epoch epoch) {
  DeleteRaw(VersionKey(branch, chunk, epoch));
}

void IndexBatch::PutExtent(const ExtentId& id, uint64_t size) {
  PutRaw(ExtentKey(id), EncodeU64(size));
}
void IndexBatch::DeleteExtent(const ExtentId& id) { DeleteRaw(ExtentKey(id)); }
void IndexBatch::PutRegion(const RegionId& id, RegionState state) {
  PutRaw(RegionKey(id), EncodeRegion(state));
}
void IndexBatch::DeleteRegion(const RegionId& id) { DeleteRaw(RegionKey(id)); }
void IndexBatch::PutSums(BranchId branch, Epoch epoch, ChunkIndex chunk, const ChunkSums& sums) {
  PutRaw(SumsKey(branch, epoch, chunk), EncodeSums(sums));
}
void IndexBatch::DeleteSums(BranchId branch, Epoch epoch, ChunkIndex chunk) {
  DeleteRaw(SumsKey(branch, epoch, chunk));
}
void IndexBatch::PutOrphan(InodeId inode) { PutRaw(OrphanKey(inode), {}); }
void IndexBatch::DeleteOrphan(InodeId inode) { DeleteRaw(OrphanKey(inode)); }
void IndexBatch::PutDeadBranch(BranchId branch) { PutRaw(DeadBranchKey(branch), {}); }
void IndexBatch::PutRequest(RequestId request, std::string_view answer) {
  PutRaw(RequestKey(request), std::string(answer));
}
void IndexBatch::DeleteRequest(RequestId request) { DeleteRaw(RequestKey(request)); }
void IndexBatch::DeleteDeadBranch(BranchId branch) { DeleteRaw(DeadBranchKey(branch)); }

void IndexBatch::PutGroup(InodeId group, const GroupRecord& record) {
  PutRaw(GroupKey(group), EncodeGroup(record));
}
void IndexBatch::DeleteGroup(InodeId group) { DeleteRaw(GroupKey(group)); }
void IndexBatch::PutToken(std::string_view token, InodeId group) {
  PutRaw(TokenKey(token), EncodeU64(group.value()));
}
void IndexBatch::DeleteToken(std::string_view token) { DeleteRaw(TokenKey(token)); }
void IndexBatch::PutView(const View& view) { PutRaw(ViewKey(view), EncodeView(view.kind)); }
void IndexBatch::DeleteView(const View& view) { DeleteRaw(ViewKey(view)); }
void IndexBatch::PutClean(BranchId branch) { PutRaw(CleanKey(branch), {}); }
void IndexBatch::DeleteClean(BranchId branch) { DeleteRaw(CleanKey(branch)); }

}  // namespace cairn
