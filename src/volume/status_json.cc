#include "src/volume/status_json.h"

#include <nlohmann/json.hpp>
#include <vector>

namespace cairn {
namespace {

struct Sums {
  uint64_t volumes = 0;
  uint64_t directories = 0;
  uint64_t size = 0;
  uint64_t warm_bytes = 0;
};

Status Add(Namespace& names, const Attributes& attributes, Sums& sums) {
  std::vector<InodeId> directories;
  if (attributes.kind != FileKind::kDirectory) {
    sums = {1, 0, attributes.size, attributes.allocated_bytes};
    return Status::Ok();
  }
  directories.push_back(attributes.inode);
  while (!directories.empty()) {
    const InodeId directory = directories.back();
    directories.pop_back();
    std::vector<InodeId> volumes;
    Status listed = names.ReadDirectory(directory, 0, [&](const DirectoryEntry& entry) {
      (entry.kind == FileKind::kDirectory ? directories : volumes).push_back(entry.inode);
      return true;
    });
    // A directory that was removed while we walk has nothing to add.
    if (!listed.ok() && listed.code() != Code::kNotFound) return listed;
    ++sums.directories;
    for (const InodeId inode : volumes) {
      auto volume = names.GetAttributes(inode);
      if (!volume.ok()) continue;
      ++sums.volumes;
      sums.size += volume->size;
      sums.warm_bytes += volume->allocated_bytes;
    }
  }
  return Status::Ok();
}

nlohmann::json DescribeMount(const StatusSources& sources) {
  WarmStore& store = *sources.context.store;
  nlohmann::json mount;
  mount["store"] = store.dir();
  mount["uuid"] = store.superblock().UuidText();
  mount["format"] = store.superblock().version;
  mount["read_only"] = sources.context.read_only;
  mount["journal_fill_percent"] = sources.context.journal->FillPercent();
  mount["chunk_map_bytes"] = sources.context.budget->used_bytes();
  mount["space_scarce"] = store.reserve().scarce();
  const Status health = store.index().health();
  mount["index"] = health.ok() ? "ok" : health.ToString();
  const auto space = store.Space();
  if (space.ok()) {
    mount["total_bytes"] = space->total_bytes;
    mount["available_bytes"] = space->available_bytes;
  }
  for (const auto& [name, number] : sources.facts) mount[name] = number;
  return mount;
}

}  // namespace

Result<std::string> DescribeStatus(const StatusSources& sources, InodeId inode) {
  CAIRN_ASSIGN_OR_RETURN(const Attributes attributes, sources.names.GetAttributes(inode));
  Sums sums;
  CAIRN_RETURN_IF_ERROR(Add(sources.names, attributes, sums));
  const bool is_volume = attributes.kind != FileKind::kDirectory;
  nlohmann::json json;
  json["kind"] = is_volume ? "volume" : "directory";
  json["inode"] = inode.value();
  json["size"] = sums.size;
  json["warm_bytes"] = sums.warm_bytes;
  json["cold_bytes"] = 0;
  json["shared_bytes"] = nullptr;  // not counted here: that takes a walk of the index
  json["encrypted"] = false;
  json["hydrated_percent"] = 100;
  json["jobs"] = nlohmann::json::array();
  if (inode == kRootInode && sources.branches_to_clean > 0) {
    json["jobs"].push_back({{"kind", "clean-up"}, {"branches", sources.branches_to_clean}});
  }
  const std::string last_error = sources.errors.Find(inode);
  if (last_error.empty()) {
    json["last_error"] = nullptr;
  } else {
    json["last_error"] = last_error;
  }
  if (is_volume) {
    const auto volume = sources.table.FindLoaded(inode);
    const Status health = volume ? volume->Health() : Status::Ok();
    json["poisoned"] = !health.ok();
  } else {
    json["volumes"] = sums.volumes;
    json["directories"] = sums.directories;
  }
  if (inode == kRootInode) json["mount"] = DescribeMount(sources);
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace cairn
