#include "src/env/memory_names.h"

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <utility>

namespace cairn {
namespace {

constexpr size_t kNameMax = 255;

// The names in `path`, which counts from the root however it begins.
std::vector<std::string> Split(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < path.size();) {
    const size_t slash = std::min(path.find('/', at), path.size());
    std::string part = path.substr(at, slash - at);
    at = slash + 1;
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(std::move(part));
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  return parts;
}

template <typename Visit>
void VisitFiles(const MemoryInode& directory, const std::string& prefix, const Visit& visit) {
  for (const auto& [name, inode] : directory.current) {
    const std::string path = prefix + "/" + name;
    if (inode->is_directory) {
      VisitFiles(*inode, path, visit);
    } else {
      visit(path, inode);
    }
  }
}

}  // namespace

MemoryNames::MemoryNames() : root_(std::make_shared<MemoryInode>(true)) {
  root_->linked = true;
  directories_.push_back(root_);
}

MemoryNames::~MemoryNames() {
  for (const std::weak_ptr<MemoryInode>& weak : directories_) {
    const Ref directory = weak.lock();
    if (directory == nullptr) continue;
    // Emptied through a local, so that no map is changed while it is being destroyed.
    const Names current = std::exchange(directory->current, {});
    const Names durable = std::exchange(directory->durable, {});
  }
}

Result<MemoryNames::Location> MemoryNames::Locate(const std::string& path) const {
  if (path.empty()) return Status::FromErrno(ENOENT, "(empty path)");
  const std::vector<std::string> parts = Split(path);
  Location location;
  location.chain.push_back(root_);
  if (parts.empty()) {
    location.target = root_;
    return location;
  }
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    const Names& names = location.parent()->current;
    const auto it = names.find(parts[i]);
    if (it == names.end()) return Status::FromErrno(ENOENT, path);
    if (!it->second->is_directory) return Status::FromErrno(ENOTDIR, path);
    location.chain.push_back(it->second);
  }
  location.name = parts.back();
  if (location.name.size() > kNameMax) return Status::FromErrno(ENAMETOOLONG, path);
  const Names& names = location.parent()->current;
  if (const auto it = names.find(location.name); it != names.end()) location.target = it->second;
  return location;
}

Result<MemoryNames::Ref> MemoryNames::Find(const std::string& path) const {
  CAIRN_ASSIGN_OR_RETURN(const Location location, Locate(path));
  if (location.target == nullptr) return Status::FromErrno(ENOENT, path);
  return location.target;
}

Result<MemoryNames::Ref> MemoryNames::FindDirectory(const std::string& path) const {
  CAIRN_ASSIGN_OR_RETURN(Ref inode, Find(path));
  if (!inode->is_directory) return Status::FromErrno(ENOTDIR, path);
  return inode;
}

Result<MemoryNames::Ref> MemoryNames::Create(const std::string& path, bool directory) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, Locate(path));
  if (location.target != nullptr) return Status::FromErrno(EEXIST, path);
  auto inode = std::make_shared<MemoryInode>(directory);
  inode->linked = true;
  if (directory) {
    std::erase_if(directories_, [](const auto& weak) { return weak.expired(); });
    directories_.push_back(inode);
  }
  Perform({.bindings = {{location.parent(), location.name, inode}},
           .removed_directory = nullptr,
           .needed_directories = {}});
  return inode;
}

Result<MemoryNames::Ref> MemoryNames::Remove(const std::string& path, bool directory) {
  CAIRN_ASSIGN_OR_RETURN(const Location location, Locate(path));
  if (location.target == nullptr) return Status::FromErrno(ENOENT, path);
  if (location.target == root_) return Status::FromErrno(EBUSY, path);
  if (directory && !location.target->is_directory) return Status::FromErrno(ENOTDIR, path);
  if (!directory && location.target->is_directory) return Status::FromErrno(EISDIR, path);
  if (!location.target->current.empty()) return Status::FromErrno(ENOTEMPTY, path);
  location.target->linked = false;
  Perform({.bindings = {{location.parent(), location.name, nullptr}},
           .removed_directory = directory ? location.target : nullptr,
           .needed_directories = {}});
  return location.target;
}

Status MemoryNames::CheckReplace(const Location& from, const Location& to,
                                 const std::string& path) {
  const bool directory = from.target->is_directory;
  if (directory && std::count(to.chain.begin(), to.chain.end(), from.target) > 0) {
    return Status::FromErrno(EINVAL, path);
  }
  if (to.target == nullptr || to.target == from.target) return Status::Ok();
  if (directory && !to.target->is_directory) return Status::FromErrno(ENOTDIR, path);
  if (!directory && to.target->is_directory) return Status::FromErrno(EISDIR, path);
  if (!to.target->current.empty()) return Status::FromErrno(ENOTEMPTY, path);
  return Status::Ok();
}

Result<MemoryNames::Ref> MemoryNames::Rename(const std::string& from_path,
                                             const std::string& to_path) {
  CAIRN_ASSIGN_OR_RETURN(const Location from, Locate(from_path));
  CAIRN_ASSIGN_OR_RETURN(const Location to, Locate(to_path));
  const std::string both = from_path + " -> " + to_path;
  if (from.target == nullptr) return Status::FromErrno(ENOENT, both);
  if (from.target == root_ || to.target == root_) return Status::FromErrno(EBUSY, both);
  CAIRN_RETURN_IF_ERROR(CheckReplace(from, to, both));
  if (from.target == to.target) return Ref();
  const bool same_directory = from.parent() == to.parent();
  if (to.target != nullptr) to.target->linked = false;
  const bool replaces_directory = to.target != nullptr && to.target->is_directory;
  Perform({.bindings = {{from.parent(), from.name, nullptr}, {to.parent(), to.name, from.target}},
           .removed_directory = replaces_directory ? to.target : nullptr,
           .needed_directories = same_directory ? std::vector<Ref>() : to.chain});
  return to.target;
}

void MemoryNames::Apply(const Operation& operation, Names MemoryInode::*state) {
  for (const Binding& binding : operation.bindings) {
    Names& names = (*binding.directory).*state;
    if (binding.target == nullptr) {
      names.erase(binding.name);
    } else {
      names[binding.name] = binding.target;
    }
  }
}

void MemoryNames::Perform(Operation operation) {
  Apply(operation, &MemoryInode::current);
  journal_.push_back(std::move(operation));
}

bool MemoryNames::Touches(const Operation& operation, const Ref& directory) {
  return std::any_of(operation.bindings.begin(), operation.bindings.end(),
                     [&](const Binding& binding) { return binding.directory == directory; });
}

bool MemoryNames::DependsOn(const Operation& later, const Operation& earlier) {
  if (later.removed_directory != nullptr && Touches(earlier, later.removed_directory)) return true;
  for (const Binding& binding : earlier.bindings) {
    for (const Binding& other : later.bindings) {
      if (binding.directory == other.directory && binding.name == other.name) return true;
    }
    const auto& needed = later.needed_directories;
    if (binding.target && std::count(needed.begin(), needed.end(), binding.target) > 0) return true;
  }
  return false;
}

void MemoryNames::Commit(std::vector<bool> chosen) {
  for (size_t i = journal_.size(); i-- > 0;) {
    for (size_t j = i + 1; j < journal_.size() && !chosen[i]; ++j) {
      chosen[i] = chosen[j] && DependsOn(journal_[j], journal_[i]);
    }
  }
  std::vector<Operation> rest;
  for (size_t i = 0; i < journal_.size(); ++i) {
    if (chosen[i]) {
      Apply(journal_[i], &MemoryInode::durable);
    } else {
      rest.push_back(std::move(journal_[i]));
    }
  }
  journal_ = std::move(rest);
}

Status MemoryNames::SyncDir(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(const Ref directory, FindDirectory(path));
  std::vector<bool> chosen(journal_.size());
  for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = Touches(journal_[i], directory);
  Commit(std::move(chosen));
  return Status::Ok();
}

std::vector<size_t> MemoryNames::Groups() const {
  std::vector<size_t> group(journal_.size());
  std::iota(group.begin(), group.end(), size_t{0});
  for (size_t later = 0; later < journal_.size(); ++later) {
    for (size_t earlier = 0; earlier < later; ++earlier) {
      const size_t from = group[earlier];
      const size_t to = group[later];
      if (from == to || !DependsOn(journal_[later], journal_[earlier])) continue;
      std::replace(group.begin(), group.begin() + static_cast<ptrdiff_t>(later) + 1, from, to);
    }
  }
  return group;
}

void MemoryNames::Settle(MemoryInode& directory) {
  directory.current = directory.durable;
  for (const auto& [name, inode] : directory.current) {
    inode->linked = true;
    if (inode->is_directory) Settle(*inode);
  }
}

void MemoryNames::PowerCut(std::mt19937_64& random) {
  const std::vector<size_t> groups = Groups();
  std::map<size_t, uint64_t> kept;  // group -> how many of its operations survive
  for (const size_t group : groups) ++kept[group];
  for (auto& [group, count] : kept) count = random() % (count + 1);
  for (size_t i = 0; i < journal_.size(); ++i) {
    uint64_t& remaining = kept[groups[i]];
    if (remaining == 0) continue;
    --remaining;
    Apply(journal_[i], &MemoryInode::durable);
  }
  journal_.clear();
  for (const auto& weak : directories_) {
    if (const Ref directory = weak.lock()) {
      for (const auto& [name, inode] : directory->current) inode->linked = false;
    }
  }
  Settle(*root_);
  for (const auto& weak : directories_) {
    const Ref directory = weak.lock();
    if (directory == nullptr || directory->linked || directory == root_) continue;
    const Names current = std::exchange(directory->current, {});
    const Names durable = std::exchange(directory->durable, {});
  }
}

Result<MemoryNames::Ref> MemoryNames::RemoveFromBoth(const std::string& path) {
  CAIRN_ASSIGN_OR_RETURN(Ref removed, Remove(path, false));
  std::vector<bool> chosen(journal_.size(), false);
  chosen.back() = true;
  Commit(std::move(chosen));
  return removed;
}

Result<MemoryNames::Ref> MemoryNames::FindDurable(const std::string& path) const {
  Ref inode = root_;
  for (const std::string& name : Split(path)) {
    const auto it = inode->durable.find(name);
    if (it == inode->durable.end()) return Status::FromErrno(ENOENT, path);
    inode = it->second;
  }
  return inode;
}

std::vector<std::pair<std::string, MemoryNames::Ref>> MemoryNames::Files() const {
  std::vector<std::pair<std::string, Ref>> files;
  VisitFiles(*root_, "",
             [&](const std::string& path, const Ref& inode) { files.emplace_back(path, inode); });
  return files;
}

}  // namespace cairn
