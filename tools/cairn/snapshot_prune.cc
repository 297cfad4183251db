// cairn snapshot prune: deletes what a retention rule does not keep.
#include <fnmatch.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <map>

#include "snapshot/prune.h"
#include "tools/cairn/snapshot_place.h"
#include "tools/cairn/snapshot_verbs.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

// The tag of what a rollback overwrote and kept.
constexpr const char* kRollbackTag = "rollback-to=";

struct Options {
  std::string path;
  std::string match = "*";
  std::string tag;
  KeepRules keep;
  bool all_owners = false;
  bool rollbacks = false;
  bool dry_run = false;
  bool json = false;
};

int64_t UtcOffsetSeconds(int64_t since_1970_ns) {
  const time_t then = since_1970_ns / 1'000'000'000;
  tm parts{};
  ::localtime_r(&then, &parts);
  return parts.tm_gmtoff;
}

int64_t NowNs() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}

bool IsCandidate(const SnapshotEntry& entry, const Options& options) {
  // Names and tags are chosen by whoever may take a snapshot. A stranger's would take the place of
  // the caller's, which would then be deleted.
  if (!options.all_owners && entry.uid != ::geteuid()) return false;
  // What a rollback kept shows the state of a moment that nobody chose, and is newer than what was
  // rolled back to.
  const bool by_rollback =
      std::any_of(entry.tags.begin(), entry.tags.end(),
                  [](const std::string& tag) { return tag.starts_with(kRollbackTag); });
  if (by_rollback != options.rollbacks) return false;
  if (::fnmatch(options.match.c_str(), entry.name.c_str(), 0) != 0) return false;
  if (options.tag.empty()) return true;
  return std::find(entry.tags.begin(), entry.tags.end(), options.tag) != entry.tags.end();
}

// The names on the way from the mount to the path: none for its mountpoint.
Outcome FindPlace(const std::string& word, const MountEntry& mount,
                  std::vector<std::string>& place) {
  const std::string path = AbsolutePath(word);
  for (size_t at = mount.mountpoint == "/" ? 0 : mount.mountpoint.size(); at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    if (end > at) place.push_back(path.substr(at, end - at));
    at = end + 1;
  }
  if (place.empty() || place.front() != kSnapshotFolder) return {};
  return {EINVAL, word + " is a snapshot's; give the mountpoint, or what snapshots were taken of"};
}

// Whether all members lie in the place: each directory on the way then has one entry alone.
Outcome LiesBelow(const SnapshotEntry& entry, const std::vector<std::string>& place, bool& below) {
  below = false;
  std::string path = entry.path;
  for (const std::string& name : place) {
    std::vector<std::string> names;
    Outcome listed = ListDirectory(path, names);
    // It went away, or a volume is where the place has a directory.
    if (listed.error == ENOENT || listed.error == ENOTDIR) return {};
    if (!listed.ok()) return listed;
    if (names != std::vector{name}) return {};
    path += "/" + name;
  }
  below = true;
  return {};
}

// Leaves those in `entries` that the rules are for. One that cannot be looked at is left out: then
// it takes no place, so that not more is deleted but less.
int Select(const Options& options, const std::vector<std::string>& place,
           std::vector<SnapshotEntry>& entries) {
  int result = kDone;
  std::erase_if(entries, [&](const SnapshotEntry& entry) {
    if (!IsCandidate(entry, options)) return true;
    bool below = false;
    const Outcome looked = LiesBelow(entry, place, below);
    if (!looked.ok()) result = Fail(looked.message + "; " + entry.name + " is left out");
    return !below;
  });
  return result;
}

// Each owner's apart: nobody's snapshots take the place of another's.
std::vector<PruneDecision> PlanForEachOwner(const std::vector<SnapshotEntry>& entries,
                                            const KeepRules& keep) {
  std::map<uint32_t, std::vector<PruneCandidate>> by_owner;
  for (const SnapshotEntry& entry : entries) {
    by_owner[entry.uid].push_back({entry.id, entry.created_ns, UtcOffsetSeconds(entry.created_ns)});
  }
  const int64_t now = NowNs();
  std::vector<PruneDecision> all;
  for (auto& [uid, candidates] : by_owner) {
    for (PruneDecision& each : PlanPrune(std::move(candidates), keep, now)) {
      all.push_back(std::move(each));
    }
  }
  return all;
}

struct Carried {
  const char* verdict = "keep";
  bool deleted = false;
  int result = kDone;
};

Carried CarryOut(const PruneDecision& decision, const SnapshotEntry& entry, bool dry_run) {
  if (decision.keep) return {};
  if (dry_run) return {.verdict = "would delete"};
  const Outcome outcome = DeleteSnapshot(entry.path, entry.id);
  if (outcome.ok()) return {.verdict = "deleted", .deleted = true};
  // Somebody was quicker, such as another prune.
  if (outcome.error == ENOENT) return {.verdict = "gone already"};
  return {.verdict = "not deleted", .result = Fail(outcome.message)};
}

void WarnOfTheFuture(size_t count) {
  if (count == 0) return;
  std::cerr << "cairn: " << count << (count == 1 ? " snapshot is" : " snapshots are")
            << " dated later than now, and kept beside what the rules keep; if the clock is right "
            << "now, delete what is not wanted by 'cairn snapshot delete'\n";
}

int Run(const Options& options) {
  if (!options.keep.any()) {
    Fail(
        "give at least one --keep-... above 0; 'cairn snapshot delete' deletes all that it is "
        "told to");
    return kWrongUse;
  }
  MountEntry mount;
  std::vector<std::string> place;
  const auto wanted = options.path.empty() ? std::nullopt : std::optional(options.path);
  if (Outcome found = FindMount(wanted, mount); !found.ok()) return Fail(found.message);
  if (wanted) {
    if (Outcome found = FindPlace(*wanted, mount, place); !found.ok()) return Fail(found.message);
  }
  std::vector<SnapshotEntry> entries;
  if (Outcome read = ReadSnapshots(mount, /*count=*/false, entries); !read.ok()) {
    return Fail(read.message + "; nothing was deleted");
  }
  int result = Select(options, place, entries);
  std::map<uint64_t, const SnapshotEntry*> by_id;
  for (const SnapshotEntry& entry : entries) by_id[entry.id] = &entry;
  size_t of_the_future = 0;
  Json list = Json::array();
  for (const PruneDecision& decision : PlanForEachOwner(entries, options.keep)) {
    const SnapshotEntry& entry = *by_id.at(decision.id);
    of_the_future += decision.later_than_now ? 1 : 0;
    const Carried carried = CarryOut(decision, entry, options.dry_run);
    result = std::max(result, carried.result);
    list.push_back({{"name", entry.name},
                    {"created", UtcTime(entry.created_ns)},
                    {"uid", entry.uid},
                    {"keep", decision.keep},
                    {"deleted", carried.deleted},
                    {"reason", decision.reason}});
    if (options.json) continue;
    std::cout << carried.verdict << "  " << Printable(entry.name) << "  "
              << LocalTime(entry.created_ns);
    if (options.all_owners) std::cout << "  owner " << entry.uid;
    std::cout << "  (" << decision.reason << ")\n";
  }
  WarnOfTheFuture(of_the_future);
  if (options.json) {
    PrintJson(
        Json{{"mountpoint", mount.mountpoint}, {"dry_run", options.dry_run}, {"snapshots", list}});
  } else if (entries.empty()) {
    std::cout << "no snapshot" << (options.all_owners ? "" : " of yours")
              << Printable(place.empty() ? " in " + mount.mountpoint : " of " + options.path)
              << " fits: nothing to do\n";
  }
  return result;
}

std::string CheckTag(const std::string& tag) {
  const size_t equals = tag.find('=');
  return equals == std::string::npos || equals == 0 ? "give KEY=VALUE, not '" + tag + "'" : "";
}

}  // namespace

void RegisterSnapshotPrune(CLI::App& parent, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb = parent.add_subcommand(
      "prune", "Delete snapshots, but keep the newest of so many hours, days, weeks, months");
  verb->add_option("PATH", options->path,
                   "look only at snapshots all of whose volumes lie at or below it; the "
                   "mountpoint: at all");
  verb->add_option("--keep-last", options->keep.last, "so many of the newest");
  verb->add_option("--keep-hourly", options->keep.hourly, "the newest of each of so many hours");
  verb->add_option("--keep-daily", options->keep.daily, "... days");
  verb->add_option("--keep-weekly", options->keep.weekly, "... weeks, which begin on Monday");
  verb->add_option("--keep-monthly", options->keep.monthly, "... months");
  verb->add_option("--match", options->match, "look only at names that fit this GLOB")
      ->capture_default_str();
  verb->add_option("--tag", options->tag, "look only at those with this tag KEY=VALUE")
      ->check(CheckTag);
  verb->add_flag("--all-owners", options->all_owners,
                 "look at everybody's snapshots, not only at yours; the rules hold for each "
                 "owner's apart");
  verb->add_flag("--rollbacks", options->rollbacks,
                 "look at what rollbacks kept (NAME.before-TIME), and at nothing else");
  verb->add_flag("--dry-run", options->dry_run, "say what would be deleted, and delete nothing");
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
