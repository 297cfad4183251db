// cairn snapshot prune: deletes what a retention rule does not keep.
#include <fnmatch.h>
#include <time.h>

#include <iostream>
#include <map>

#include "snapshot/prune.h"
#include "tools/cairn/snapshot_place.h"
#include "tools/cairn/snapshot_verbs.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string path;
  std::string match = "*";
  std::string tag;
  KeepRules keep;
  bool dry_run = false;
  bool json = false;
};

int64_t UtcOffsetSeconds(int64_t since_1970_ns) {
  const time_t then = since_1970_ns / 1'000'000'000;
  tm parts{};
  ::localtime_r(&then, &parts);
  return parts.tm_gmtoff;
}

bool IsCandidate(const SnapshotEntry& entry, const Options& options) {
  if (::fnmatch(options.match.c_str(), entry.name.c_str(), 0) != 0) return false;
  if (options.tag.empty()) return true;
  return std::find(entry.tags.begin(), entry.tags.end(), options.tag) != entry.tags.end();
}

int Run(const Options& options) {
  const KeepRules& keep = options.keep;
  if (keep.last + keep.hourly + keep.daily + keep.weekly + keep.monthly == 0) {
    Fail(
        "give at least one --keep-... above 0; 'cairn snapshot delete' deletes all that it is "
        "told to");
    return kWrongUse;
  }
  MountEntry mount;
  const auto wanted = options.path.empty() ? std::nullopt : std::optional(options.path);
  if (Outcome found = FindMount(wanted, mount); !found.ok()) return Fail(found.message);
  std::vector<SnapshotEntry> entries;
  if (Outcome read = ReadSnapshots(mount, /*count=*/false, entries); !read.ok()) {
    return Fail(read.message + "; nothing was deleted");
  }
  std::erase_if(entries, [&](const SnapshotEntry& each) { return !IsCandidate(each, options); });
  std::vector<PruneCandidate> candidates;
  std::map<uint64_t, const SnapshotEntry*> by_id;
  for (const SnapshotEntry& entry : entries) {
    candidates.push_back({entry.id, entry.created_ns, UtcOffsetSeconds(entry.created_ns)});
    by_id[entry.id] = &entry;
  }
  int result = kDone;
  Json list = Json::array();
  for (const PruneDecision& decision : PlanPrune(candidates, keep)) {
    const SnapshotEntry& entry = *by_id.at(decision.id);
    bool deleted = false;
    if (!decision.keep && !options.dry_run) {
      const Outcome outcome = DeleteSnapshot(entry.path, entry.id);
      deleted = outcome.ok();
      if (!deleted) result = Fail(outcome.message);
    }
    const char* const verdict = decision.keep     ? "keep"
                                : options.dry_run ? "would delete"
                                : deleted         ? "deleted"
                                                  : "not deleted";
    list.push_back({{"name", entry.name},
                    {"created", UtcTime(entry.created_ns)},
                    {"keep", decision.keep},
                    {"deleted", deleted},
                    {"reason", decision.reason}});
    if (!options.json) {
      std::cout << verdict << "  " << entry.name << "  " << LocalTime(entry.created_ns) << "  ("
                << decision.reason << ")\n";
    }
  }
  if (options.json) {
    PrintJson(
        Json{{"mountpoint", mount.mountpoint}, {"dry_run", options.dry_run}, {"snapshots", list}});
  }
  return result;
}

}  // namespace

void RegisterSnapshotPrune(CLI::App& parent, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb = parent.add_subcommand(
      "prune", "Delete snapshots, but keep the newest of so many hours, days, weeks, months");
  verb->add_option("PATH", options->path, "a path in the mount");
  verb->add_option("--keep-last", options->keep.last, "so many of the newest");
  verb->add_option("--keep-hourly", options->keep.hourly, "the newest of each of so many hours");
  verb->add_option("--keep-daily", options->keep.daily, "... days");
  verb->add_option("--keep-weekly", options->keep.weekly, "... weeks, which begin on Monday");
  verb->add_option("--keep-monthly", options->keep.monthly, "... months");
  verb->add_option("--match", options->match, "look only at names that fit this GLOB")
      ->capture_default_str();
  verb->add_option("--tag", options->tag, "look only at those with this tag KEY=VALUE");
  verb->add_flag("--dry-run", options->dry_run, "say what would be deleted, and delete nothing");
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
