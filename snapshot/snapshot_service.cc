#include "snapshot/snapshot_service.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <ctime>
#include <optional>
#include <set>

#include "snapshot/members.h"
#include "snapshot/request_check.h"
#include "snapshot/rollback_target.h"
#include "src/base/mutex.h"
#include "src/volume/policy.h"
#include "src/volume/snapshot_ops.h"

namespace cairn {
namespace {

SnapshotInfo ToInfo(InodeId id, const GroupRecord& record) {
  SnapshotInfo info;
  info.id = id;
  info.name = record.name;
  info.created_ns = record.created_ns;
  info.description = record.description;
  info.tags = record.tags;
  info.uid = record.uid;
  info.gid = record.gid;
  info.member_count = record.member_count;
  return info;
}

std::string FileName(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// Names of what lies in a directory that does not let the caller through are not for the caller.
Status HiddenFrom(const std::string& top, const Found& found) {
  const std::string path =
      top.empty() || found.closed.empty() ? top + found.closed : top + "/" + found.closed;
  return Status(Code::kAccess, fmt::format("'{}' does not let you through", path));
}

}  // namespace

class SnapshotService::Impl {
 public:
  explicit Impl(Filesystem& filesystem) : filesystem_(filesystem) {}

  Result<CreateResult> Create(const SnapshotRequest& request, const Caller& caller);
  Result<std::optional<CreateResult>> FindCreated(const SnapshotRequest& request,
                                                  const Caller& caller);
  Result<std::vector<SnapshotInfo>> List();
  Result<SnapshotInfo> Show(InodeId id);
  Result<InodeId> SnapshotOf(InodeId inode);
  Status Delete(InodeId id, const Caller& caller);
  Result<RollbackResult> Rollback(InodeId what, const Caller& caller,
                                  std::chrono::milliseconds deadline);
  Result<CloneResult> Clone(const CloneRequest& request, const Caller& caller);
  Result<std::optional<CloneResult>> FindCloned(const Caller& caller);
  Status CheckReadable(InodeId inode, const Caller& caller);
  SnapshotOps& ops() { return filesystem_.snapshots(); }

 private:
  // While a request with a name or token runs, others with the same have to wait or to fail.
  class Running {
   public:
    Running(Impl& impl, const std::string& name, const std::string& token);
    ~Running();
    bool name_busy() const { return name_busy_; }

   private:
    Impl& impl_;
    const std::string name_;
    const std::string token_;
    bool name_busy_ = false;
  };

  // What is done is answered without an error: what can no longer be read of the snapshot, since
  // somebody has deleted it for example, is as `known`.
  SnapshotInfo ShowOr(const SnapshotInfo& known);
  CreateResult Describe(const SnapshotOps::Created& created, const SnapshotRequest& request,
                        const Caller& caller);
  RollbackResult Describe(SnapshotOps::RolledBack done);
  Result<std::optional<CreateResult>> FindByToken(const SnapshotRequest& request,
                                                  const Caller& caller);
  Result<std::vector<SnapshotOps::Member>> FindMembers(const SnapshotRequest& request,
                                                       const Caller& caller);
  Result<bool> IsExcluded(const SnapshotRequest& request, const Found& found);
  Result<std::string> FreeNameBefore(const std::string& name);

  Filesystem& filesystem_;
  Mutex running_mu_;
  CondVar ended_;
  std::set<std::string> names_ CAIRN_GUARDED_BY(running_mu_);
  std::set<std::string> tokens_ CAIRN_GUARDED_BY(running_mu_);
};

SnapshotService::Impl::Running::Running(Impl& impl, const std::string& name,
                                        const std::string& token)
    : impl_(impl), name_(name), token_(token) {
  MutexLock lock(impl_.running_mu_);
  while (!token_.empty() && impl_.tokens_.contains(token_)) impl_.ended_.Wait(impl_.running_mu_);
  if (!token_.empty()) impl_.tokens_.insert(token_);
  name_busy_ = !impl_.names_.insert(name_).second;
}

SnapshotService::Impl::Running::~Running() {
  MutexLock lock(impl_.running_mu_);
  if (!token_.empty()) impl_.tokens_.erase(token_);
  if (!name_busy_) impl_.names_.erase(name_);
  impl_.ended_.NotifyAll();
}

Result<bool> SnapshotService::Impl::IsExcluded(const SnapshotRequest& request, const Found& found) {
  if (!found.reachable) {
    // By the directory alone: which names fit is not the caller's to find out.
    const std::string path = found.closed + "/-";
    return std::any_of(
        request.exclude_globs.begin(), request.exclude_globs.end(),
        [&](const std::string& glob) { return fnmatch(glob.c_str(), path.c_str(), 0) == 0; });
  }
  for (const std::string& glob : request.exclude_globs) {
    if (fnmatch(glob.c_str(), found.path.c_str(), 0) == 0 ||
        fnmatch(glob.c_str(), FileName(found.path).c_str(), 0) == 0) {
      return true;
    }
  }
  if (request.exclude_roles.empty()) return false;
  const auto role = filesystem_.GetXattr(found.attributes.inode, kRoleAttribute);
  if (!role.ok()) {
    if (role.status().code() == Code::kNoAttribute) return false;
    return role.status();
  }
  return std::find(request.exclude_roles.begin(), request.exclude_roles.end(), *role) !=
         request.exclude_roles.end();
}

Result<std::vector<SnapshotOps::Member>> SnapshotService::Impl::FindMembers(
    const SnapshotRequest& request, const Caller& caller) {
  std::vector<SnapshotOps::Member> members;
  std::set<InodeId> seen;
  for (const InodeId root : std::set<InodeId>(request.roots.begin(), request.roots.end())) {
    auto top = PathBelow(filesystem_, kRootInode, root);
    if (!top.ok()) return std::move(top).status();
    // Before all that lies below it is looked for.
    CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, filesystem_.GetPlainAttributes(root));
    if (!MayWrite(attributes, caller)) {
      return Status(Code::kAccess, fmt::format("'{}': you may not write it", *top));
    }
    CAIRN_ASSIGN_OR_RETURN(std::vector<Found> all, FindBelow(filesystem_, root, caller));
    for (Found& found : all) {
      if (found.attributes.kind == FileKind::kDirectory) continue;
      if (found.attributes.kind == FileKind::kSnapshot) {
        return Status(Code::kInvalid, "a snapshot is taken of volumes, not of snapshots");
      }
      // A volume that was named itself goes by its own name.
      std::string path = *top;
      if (found.path.empty()) {
        found.path = FileName(*top);
      } else {
        path = path.empty() ? found.path : path + "/" + found.path;
      }
      if (path.size() > kLongestPath) {
        return Status(Code::kNameTooLong, "a volume is nested too deeply: '" + path + "'");
      }
      CAIRN_ASSIGN_OR_RETURN(const bool excluded, IsExcluded(request, found));
      if (excluded || !seen.insert(found.attributes.inode).second) continue;
      if (!found.reachable) return HiddenFrom(*top, found);
      if (!MayWrite(found.attributes, caller)) {
        return Status(Code::kAccess, fmt::format("'{}': you may not write it", path));
      }
      members.push_back({found.attributes.inode, std::move(path)});
    }
  }
  if (members.empty()) {
    return Status(Code::kInvalid, "there is no volume, or the filters leave none");
  }
  std::sort(members.begin(), members.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return members;
}

Result<std::optional<CreateResult>> SnapshotService::Impl::FindByToken(
    const SnapshotRequest& request, const Caller& caller) {
  using Maybe = std::optional<CreateResult>;
  if (request.token.empty()) return Maybe();
  const auto id = ops().FindToken(request.token);
  if (id.status().code() == Code::kNotFound) return Maybe();
  if (!id.ok()) return id.status();
  CreateResult result;
  CAIRN_ASSIGN_OR_RETURN(result.info, Show(*id));
  if (caller.uid != 0 && caller.uid != result.info.uid) {
    return Status(Code::kExists, "somebody else's request had this token");
  }
  result.existed = true;
  return Maybe(std::move(result));
}

SnapshotInfo SnapshotService::Impl::ShowOr(const SnapshotInfo& known) {
  const auto shown = Show(known.id);
  return shown.ok() ? *shown : known;
}

CreateResult SnapshotService::Impl::Describe(const SnapshotOps::Created& created,
                                             const SnapshotRequest& request, const Caller& caller) {
  SnapshotInfo known;
  known.id = created.id;
  known.name = request.name;
  known.created_ns = created.created_ns;
  known.description = request.description;
  known.tags = request.tags;
  known.uid = caller.uid;
  known.gid = caller.gid;
  known.member_count = created.member_count;
  return {ShowOr(known), /*existed=*/false, created.held};
}

Result<std::optional<CreateResult>> SnapshotService::Impl::FindCreated(
    const SnapshotRequest& request, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto created, ops().FindCreated(caller));
  if (!created) return std::optional<CreateResult>();
  return std::optional(Describe(*created, request, caller));
}

Result<CreateResult> SnapshotService::Impl::Create(const SnapshotRequest& request,
                                                   const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(auto answer, FindCreated(request, caller));
  if (answer) return std::move(*answer);
  CAIRN_RETURN_IF_ERROR(CheckTexts(request));
  const Running running(*this, request.name, request.token);
  CAIRN_ASSIGN_OR_RETURN(auto existing, FindByToken(request, caller));
  if (existing) return std::move(*existing);
  if (running.name_busy()) {
    return Status(Code::kBusy, "a request for a snapshot named '" + request.name + "' is running");
  }
  const auto taken = filesystem_.Lookup(kSnapshotsInode, request.name);
  if (taken.ok()) return Status(Code::kExists, "there is a snapshot named '" + request.name + "'");
  SnapshotOps::NewGroup group;
  group.record.name = request.name;
  group.record.uid = caller.uid;
  group.record.gid = caller.gid;
  group.record.token = request.token;
  group.record.description = request.description;
  group.record.tags = request.tags;
  group.deadline = request.deadline;
  group.caller = caller;
  CAIRN_ASSIGN_OR_RETURN(group.members, FindMembers(request, caller));
  CAIRN_ASSIGN_OR_RETURN(const SnapshotOps::Created created, ops().Create(group));
  return Describe(created, request, caller);
}

Result<std::vector<SnapshotInfo>> SnapshotService::Impl::List() {
  std::vector<SnapshotInfo> all;
  CAIRN_RETURN_IF_ERROR(ops().ForEach([&](InodeId id, const GroupRecord& record) {
    all.push_back(ToInfo(id, record));
    return true;
  }));
  std::sort(all.begin(), all.end(), [](const SnapshotInfo& a, const SnapshotInfo& b) {
    return a.created_ns != b.created_ns ? a.created_ns < b.created_ns : a.id < b.id;
  });
  return all;
}

Result<SnapshotInfo> SnapshotService::Impl::Show(InodeId id) {
  CAIRN_ASSIGN_OR_RETURN(const GroupRecord record, ops().Get(id));
  SnapshotInfo info = ToInfo(id, record);
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Found> all, FindBelow(filesystem_, id));
  for (const Found& found : all) {
    if (found.attributes.kind == FileKind::kDirectory) continue;
    CAIRN_ASSIGN_OR_RETURN(const InodeId source, ops().VolumeOf(found.attributes.inode));
    info.members.push_back({found.path, found.attributes.inode, source, found.attributes.size});
  }
  std::sort(info.members.begin(), info.members.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  return info;
}

Result<InodeId> SnapshotService::Impl::SnapshotOf(InodeId inode) {
  while (inode != kRootInode) {
    CAIRN_ASSIGN_OR_RETURN(const InodeId parent, filesystem_.Parent(inode));
    if (parent == kSnapshotsInode) return inode;
    inode = parent;
  }
  return Status(Code::kNotFound, "it does not lie in a snapshot");
}

Status SnapshotService::Impl::Delete(InodeId id, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const bool done, ops().WasDeleted(caller));
  if (done) return Status::Ok();
  CAIRN_ASSIGN_OR_RETURN(const GroupRecord record, ops().Get(id));
  if (caller.uid != 0 && caller.uid != record.uid) {
    return Status(Code::kPermission,
                  "snapshot '" + record.name + "' may be deleted by who made it, or root");
  }
  return ops().Delete(id, caller);
}

Result<std::string> SnapshotService::Impl::FreeNameBefore(const std::string& name) {
  const std::time_t now = std::time(nullptr);
  const std::string suffix = fmt::format(".before-{:%Y%m%dT%H%M%SZ}", fmt::gmtime(now));
  for (int i = 1;; ++i) {
    const std::string end = i == 1 ? suffix : fmt::format("{}-{}", suffix, i);
    std::string free = name.substr(0, kMaxNameBytes - end.size()) + end;
    const auto taken = filesystem_.Lookup(kSnapshotsInode, free);
    if (taken.status().code() == Code::kNotFound) return free;
    if (!taken.ok()) return taken.status();
  }
}

RollbackResult SnapshotService::Impl::Describe(SnapshotOps::RolledBack done) {
  RollbackResult result;
  result.changed = std::move(done.changed);
  if (done.before == InodeId(0)) return result;
  SnapshotInfo known;
  known.id = done.before;
  known.name = std::move(done.before_name);
  known.member_count = done.overwritten;
  result.before = ShowOr(known);
  return result;
}

Result<RollbackResult> SnapshotService::Impl::Rollback(InodeId what, const Caller& caller,
                                                       std::chrono::milliseconds deadline) {
  CAIRN_ASSIGN_OR_RETURN(auto answer, ops().FindRolledBack(caller));
  if (answer) return Describe(std::move(*answer));
  CAIRN_ASSIGN_OR_RETURN(const InodeId group, SnapshotOf(what));
  CAIRN_ASSIGN_OR_RETURN(const GroupRecord record, ops().Get(group));
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Found> all, FindBelow(filesystem_, what, caller));
  SnapshotOps::NewRollback rollback;
  std::set<std::string> paths;
  for (const Found& found : all) {
    if (found.attributes.kind == FileKind::kDirectory) continue;
    // Its modes are those of then: a volume may have been given to the caller since, without what
    // it held.
    if (!found.reachable) return HiddenFrom(record.name, found);
    if (!MayRead(found.attributes, caller)) {
      return Status(Code::kAccess,
                    fmt::format("'{}' in the snapshot: you may not read it", found.path));
    }
    CAIRN_ASSIGN_OR_RETURN(auto item,
                           RollbackTarget(filesystem_, group, found.attributes.inode, caller));
    if (!paths.insert(item.path).second) {
      return Status(Code::kExists,
                    fmt::format("two members of the snapshot would go to '{}'", item.path));
    }
    rollback.items.push_back(std::move(item));
  }
  if (rollback.items.empty()) return Status(Code::kInvalid, "there is no volume in it");
  CAIRN_ASSIGN_OR_RETURN(rollback.before.name, FreeNameBefore(record.name));
  rollback.before.uid = caller.uid;
  rollback.before.gid = caller.gid;
  rollback.before.description = "what the rollback to " + record.name + " overwrote";
  rollback.before.tags["rollback-to"] = record.name;
  rollback.deadline = deadline;
  rollback.caller = caller;
  CAIRN_ASSIGN_OR_RETURN(SnapshotOps::RolledBack done, ops().Rollback(rollback));
  return Describe(std::move(done));
}

Status SnapshotService::Impl::CheckReadable(InodeId inode, const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, filesystem_.GetPlainAttributes(inode));
  if (MayRead(attributes, caller)) return Status::Ok();
  return Status(Code::kAccess, "you may not read it");
}

Result<std::optional<CloneResult>> SnapshotService::Impl::FindCloned(const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(const auto cloned, ops().FindCloned(caller));
  if (!cloned) return std::optional<CloneResult>();
  return std::optional(CloneResult{cloned->inode, cloned->parent, cloned->volume_count});
}

Result<CloneResult> SnapshotService::Impl::Clone(const CloneRequest& request,
                                                 const Caller& caller) {
  CAIRN_ASSIGN_OR_RETURN(auto answer, FindCloned(caller));
  if (answer) return *answer;
  if (request.source == kRootInode || request.source == kSnapshotsInode) {
    return Status(Code::kInvalid, "clone a volume, a snapshot, or a directory below the root");
  }
  CAIRN_ASSIGN_OR_RETURN(const Attributes parent,
                         filesystem_.GetPlainAttributes(request.target_parent));
  if (parent.kind != FileKind::kDirectory) return Status(Code::kNotDirectory, "the target's place");
  if (!MayWrite(parent, caller)) {
    return Status(Code::kAccess, "you may not write the directory of the target");
  }
  SnapshotOps::NewClone clone;
  clone.parent = request.target_parent;
  clone.name = request.target_name;
  clone.deadline = request.deadline;
  clone.caller = caller;
  if (caller.uid != 0) clone.owner = SnapshotOps::Owner{caller.uid, caller.gid};
  const auto taken = filesystem_.Lookup(request.target_parent, request.target_name);
  if (taken.ok()) return Status(Code::kExists, request.target_name);
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Found> all,
                         FindBelow(filesystem_, request.source, caller));
  for (const Found& found : all) {
    if (!found.reachable) return HiddenFrom("", found);
    if (!MayRead(found.attributes, caller)) {
      return Status(Code::kAccess, fmt::format("'{}': you may not read it", found.path));
    }
    const bool is_directory = found.attributes.kind == FileKind::kDirectory;
    (is_directory ? clone.directories : clone.files)
        .push_back({found.attributes.inode, found.path});
  }
  if (clone.files.empty()) return Status(Code::kInvalid, "there is no volume in it");
  CloneResult result;
  CAIRN_ASSIGN_OR_RETURN(result.inode, ops().Clone(clone));
  result.parent = request.target_parent;
  result.volume_count = clone.files.size();
  return result;
}

SnapshotService::SnapshotService(Filesystem& filesystem)
    : impl_(std::make_unique<Impl>(filesystem)) {}
SnapshotService::~SnapshotService() = default;

Result<CreateResult> SnapshotService::Create(const SnapshotRequest& request, const Caller& caller) {
  return impl_->Create(request, caller);
}

Result<std::optional<CreateResult>> SnapshotService::FindCreated(const SnapshotRequest& request,
                                                                 const Caller& caller) {
  return impl_->FindCreated(request, caller);
}

Result<std::vector<SnapshotInfo>> SnapshotService::List() { return impl_->List(); }

Result<SnapshotInfo> SnapshotService::Show(InodeId id) { return impl_->Show(id); }

Result<InodeId> SnapshotService::Find(std::string_view name) {
  std::optional<InodeId> found;
  CAIRN_RETURN_IF_ERROR(impl_->ops().ForEach([&](InodeId id, const GroupRecord& record) {
    if (record.name == name) found = id;
    return !found;
  }));
  if (found) return *found;
  return Status(Code::kNotFound, "there is no snapshot named '" + std::string(name) + "'");
}

Result<InodeId> SnapshotService::SnapshotOf(InodeId inode) { return impl_->SnapshotOf(inode); }

Status SnapshotService::Delete(InodeId id, const Caller& caller) {
  return impl_->Delete(id, caller);
}

Result<RollbackResult> SnapshotService::Rollback(InodeId what, const Caller& caller,
                                                 std::chrono::milliseconds deadline) {
  return impl_->Rollback(what, caller, deadline);
}

Result<CloneResult> SnapshotService::Clone(const CloneRequest& request, const Caller& caller) {
  return impl_->Clone(request, caller);
}

Result<std::optional<CloneResult>> SnapshotService::FindCloned(const Caller& caller) {
  return impl_->FindCloned(caller);
}

Result<DiffPage> SnapshotService::Diff(InodeId from, InodeId to, uint64_t offset, size_t most,
                                       const Caller& caller) {
  CAIRN_RETURN_IF_ERROR(impl_->CheckReadable(from, caller));
  CAIRN_RETURN_IF_ERROR(impl_->CheckReadable(to, caller));
  return impl_->ops().Diff(from, to, offset, std::max<size_t>(most, 1));
}

Result<VolumeSizes> SnapshotService::Sizes(InodeId inode) { return impl_->ops().Sizes(inode); }

}  // namespace cairn
