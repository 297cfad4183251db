// Names: each leads from a directory to a file that exists, has its listing twin, and is the only
// one of its file.
#include <fmt/format.h>

#include "src/volume/fsck_state.h"
#include "src/warm/warm_format.h"

namespace cairn::fsck {
namespace {

using Severity = FsckSeverity;
using Repair = State::Repair;

class NameChecker {
 public:
  explicit NameChecker(State& state) : state_(state) {}

  Status Run() {
    CheckRootParent();
    CAIRN_RETURN_IF_ERROR(Walk(KeyKind::kName, &NameChecker::OnName));
    CAIRN_RETURN_IF_ERROR(Walk(KeyKind::kListing, &NameChecker::OnListing));
    return Status::Ok();
  }

 private:
  struct Name {
    InodeId parent;
    std::string_view name;
    InodeId child;
  };
  using Handler = Status (NameChecker::*)(std::string_view key, std::string_view value);

  // Changes wait for the end of the walk; there are as many as there is damage.
  Status Walk(KeyKind kind, Handler handler) {
    Status handled;
    Status walked =
        state_.store.index().ForEachRaw(kind, [&](std::string_view key, std::string_view value) {
          handled = state_.Tolerate((this->*handler)(key, value));
          return handled.ok();
        });
    CAIRN_RETURN_IF_ERROR(std::move(handled));
    CAIRN_RETURN_IF_ERROR(state_.Tolerate(std::move(walked)));
    return state_.Commit(batch_);
  }

  bool Damage(const char* code, const Name& name, std::string what) {
    return state_.Add({Severity::kDamage, code, Describe(name), std::move(what)}, Repair::kYes);
  }

  std::string Describe(const Name& name) {
    const std::string folder = state_.FindInode(name.parent) != nullptr
                                   ? state_.PathOf(name.parent)
                                   : fmt::format("inode {}", name.parent.value());
    return fmt::format("{}{}{}", folder, folder == "/" ? "" : "/", name.name);
  }

  void CheckRootParent() {
    InodeEntry* const root = state_.FindInode(kRootInode);
    if (root == nullptr) return;
    root->names = 1;  // it needs no other
    // Nor does this one, which the root does not list.
    if (InodeEntry* const snapshots = state_.FindInode(kSnapshotsInode)) snapshots->names = 1;
    if (root->record.parent == kRootInode) return;
    root->record.parent = kRootInode;
    if (state_.Add({Severity::kDamage, "wrong-parent", "/", "the root lies in another directory"},
                   Repair::kYes)) {
      batch_.PutInode(kRootInode, root->record);
    }
  }

  bool IsDirectory(InodeId id) {
    const InodeEntry* const entry = state_.FindInode(id);
    return entry != nullptr && entry->record.kind == FileKind::kDirectory;
  }

  static bool IsGoodName(std::string_view name) {
    return !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
           name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
  }

  Result<bool> LeadsTo(InodeId parent, std::string_view name, InodeId child) {
    auto found = state_.store.index().FindName(parent, name);
    if (found.ok()) return *found == child;
    if (found.status().code() == Code::kNotFound) return false;
    return std::move(found).status();
  }

  // Whether the directory that the file's own record names has a name for it, with its twin.
  Result<bool> HasProperName(const InodeEntry& file) {
    if (!IsDirectory(file.record.parent)) return false;
    CAIRN_ASSIGN_OR_RETURN(const auto listed, state_.Listing(file.record.parent, file.id));
    if (!listed) return false;
    return LeadsTo(file.record.parent, *listed, file.id);
  }

  // The listing goes along when it is this name's own.
  void Remove(const Name& name, const std::optional<std::string>& listed) {
    batch_.DeleteRaw(NameKey(name.parent, name.name));
    if (listed == name.name) batch_.DeleteRaw(ListingKey(name.parent, name.child));
  }

  Status OnName(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const IdNameKey parts, DecodeIdNameKey(key));
    CAIRN_ASSIGN_OR_RETURN(const uint64_t child, DecodeU64(value));
    const Name name{InodeId(parts.id), parts.name, InodeId(child)};
    CAIRN_ASSIGN_OR_RETURN(const auto listed, state_.Listing(name.parent, name.child));
    InodeEntry* const file = state_.FindInode(name.child);

    const char* code = nullptr;
    std::string what;
    if (file == nullptr) {
      code = "name-without-file";
      what = fmt::format("the name leads to inode {}, which does not exist", child);
    } else if (!IsDirectory(name.parent)) {
      code = "name-without-directory";
      what = fmt::format("inode {}, in which the name lies, is no directory", parts.id);
    } else if (!IsGoodName(name.name)) {
      code = "bad-name";
      what = "no file can have this name";
    } else if (listed != name.name || file->record.parent != name.parent) {
      CAIRN_ASSIGN_OR_RETURN(const bool proper, HasProperName(*file));
      if (proper || file->names > 0) {
        code = "second-name";
        what = fmt::format("inode {} has another name, {}", child, state_.PathOf(file->id));
      }
    }
    if (code != nullptr) {
      if (Damage(code, name, std::move(what))) Remove(name, listed);
      return Status::Ok();
    }
    if (listed != name.name && Damage("listing-missing", name, "the directory does not list it")) {
      batch_.PutRaw(ListingKey(name.parent, name.child), std::string(name.name));
    }
    Keep(name, *file);
    return Status::Ok();
  }

  // `name` is the one name of `file` from here on.
  void Keep(const Name& name, InodeEntry& file) {
    ++file.names;
    if (file.record.parent != name.parent) {
      const uint64_t wrong = file.record.parent.value();
      file.record.parent = name.parent;
      if (Damage("wrong-parent", name, fmt::format("its record names inode {} as parent", wrong))) {
        batch_.PutInode(file.id, file.record);
      }
    }
    if (file.orphan) {
      file.orphan = false;
      if (Damage("orphan-with-name", name, "the file is marked as deleted, but has a name")) {
        batch_.DeleteOrphan(file.id);
      }
    }
  }

  Status OnListing(std::string_view key, std::string_view value) {
    CAIRN_ASSIGN_OR_RETURN(const IdPairKey parts, DecodeListingKey(key));
    const Name name{InodeId(parts.first), value, InodeId(parts.second)};
    CAIRN_ASSIGN_OR_RETURN(const bool leads, LeadsTo(name.parent, name.name, name.child));
    InodeEntry* const file = state_.FindInode(name.child);
    // With a name in this directory, OnName has seen the listing and judged it.
    if (leads || (file != nullptr && file->names > 0 && file->record.parent == name.parent)) {
      return Status::Ok();
    }
    auto taken = state_.store.index().FindName(name.parent, name.name);
    if (!taken.ok() && taken.status().code() != Code::kNotFound) return std::move(taken).status();
    const bool may_have_name = file != nullptr && file->names == 0 && !file->orphan &&
                               IsDirectory(name.parent) && IsGoodName(name.name) && !taken.ok();
    if (!may_have_name) {
      if (Damage("stale-listing", name,
                 fmt::format("the directory lists it as inode {}, which is not what the name says",
                             parts.second))) {
        batch_.DeleteRaw(std::string(key));
      }
      return Status::Ok();
    }
    if (Damage("name-missing", name, "the directory lists it, but it cannot be looked up")) {
      batch_.PutName(name.parent, name.name, name.child);
    }
    Keep(name, *file);
    return Status::Ok();
  }

  State& state_;
  IndexBatch batch_;
};

}  // namespace

Status CheckNames(State& state) { return NameChecker(state).Run(); }

}  // namespace cairn::fsck
