// cairn fsck: checks a store that is not mounted.
#include "src/volume/fsck.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>

#include "tools/cairn/command.h"
#include "tools/cairn/mounts.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::chrono::milliseconds kProgressInterval{200};

struct Options {
  std::string store;
  bool repair = false;
  bool check_data = false;
  bool json = false;
};

// One line on the terminal that is written over; nothing where nobody watches.
class ProgressLine {
 public:
  ProgressLine() : wanted_(::isatty(STDERR_FILENO) != 0) {}
  ~ProgressLine() {
    if (shown_) std::cerr << "\r\033[K" << std::flush;
  }

  void Show(std::string_view part, uint64_t done, uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (!wanted_ || now - last_ < kProgressInterval) return;
    last_ = now;
    shown_ = true;
    std::cerr << "\r\033[Kchecking " << part << ": " << done;
    if (total > 0) std::cerr << " of " << total << " (" << done * 100 / total << " %)";
    std::cerr << std::flush;
  }

 private:
  const bool wanted_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

std::string StateWord(const FsckReport& report) {
  if (!report.sound()) return "damaged";
  if (report.damage_count > 0) return "repaired";
  return report.leak_count > 0 ? "leaks" : "clean";
}

void PrintReportJson(const FsckReport& report, const Options& options) {
  Json document;
  document["store"] = options.store;
  document["uuid"] = report.uuid;
  document["state"] = StateWord(report);
  document["sound"] = report.sound();
  document["was_closed"] = report.was_clean;
  document["repair"] = options.repair;
  document["damage"] = report.damage_count;
  document["unrepaired_damage"] = report.unrepaired_damage_count;
  document["leaks"] = report.leak_count;
  document["leaked_bytes"] = report.leaked_bytes;
  document["notes"] = report.note_count;
  document["checked"] = {{"volumes", report.volumes},
                         {"directories", report.directories},
                         {"branches", report.branches},
                         {"versions", report.versions},
                         {"extent_files", report.extent_files}};
  if (options.check_data) {
    document["checked"]["data_bytes"] = report.data_bytes;
    document["checked"]["open_regions"] = report.open_regions;
  }
  document["findings"] = Json::array();
  for (const FsckFinding& finding : report.findings) {
    document["findings"].push_back({{"severity", FsckSeverityName(finding.severity)},
                                    {"code", finding.code},
                                    {"where", finding.where},
                                    {"what", finding.what},
                                    {"bytes", finding.bytes},
                                    {"repaired", finding.repaired}});
  }
  document["findings_omitted"] = report.omitted;
  PrintJson(document);
}

void PrintReport(const FsckReport& report, const Options& options) {
  for (const FsckFinding& finding : report.findings) {
    std::cout << FsckSeverityName(finding.severity) << ' ' << finding.code << ": "
              << Printable(finding.where) << ": " << Printable(finding.what)
              << (finding.repaired ? " [repaired]" : "") << '\n';
  }
  if (report.omitted > 0) std::cout << "... and " << report.omitted << " more findings\n";
  std::cout << options.store << ": " << StateWord(report) << ": " << report.volumes << " volumes, "
            << report.directories << " directories, " << report.versions << " chunk versions, "
            << report.extent_files << " extent files; " << report.damage_count << " damaged ("
            << report.unrepaired_damage_count << " not repaired), " << report.leak_count
            << " leaks (" << HumanBytes(report.leaked_bytes) << "), " << report.note_count
            << " notes\n";
  if (options.check_data) {
    std::cout << "compared " << HumanBytes(report.data_bytes) << " with checksums; "
              << report.open_regions << " regions have none to trust until the next mount\n";
  }
}

// What to do next, where something is to be done.
int Conclude(const FsckReport& report, const Options& options) {
  if (report.sound()) {
    if (report.leak_count > 0 && !options.repair && !options.json) {
      std::cout << "A crash leaves such leaks; 'cairn fsck --repair " << options.store
                << "' gives the space back.\n";
    }
    return kDone;
  }
  if (!options.repair && !report.uuid.empty()) {
    return Fail("the store is damaged; make a copy of it, then try 'cairn fsck --repair " +
                options.store + "'");
  }
  return Fail(options.store +
              ": damage remains that cannot be put right without guessing; restore what is named "
              "above from a copy");
}

int Run(const Options& options) {
  ProgressLine progress;
  FsckOptions fsck_options;
  fsck_options.repair = options.repair;
  fsck_options.check_data = options.check_data;
  fsck_options.holder = "being checked by cairn fsck, process " + std::to_string(::getpid());
  // A server that was killed or unmounted a moment ago may still be going.
  const std::vector<MountEntry> mounts = ReadMounts();
  const bool mounted = std::any_of(mounts.begin(), mounts.end(), [&](const MountEntry& mount) {
    return mount.is_cairn() && mount.source == AbsolutePath(options.store);
  });
  fsck_options.lock_wait = std::chrono::seconds(mounted ? 1 : 60);
  fsck_options.progress = [&](std::string_view part, uint64_t done, uint64_t total) {
    progress.Show(part, done, total);
  };
  const std::unique_ptr<Env> env = NewPosixEnv();
  auto report = CheckStore(*env, options.store, fsck_options);
  if (!report.ok()) {
    const Status& status = report.status();
    std::string next;
    if (status.code() == Code::kBusy) next = "; unmount it first ('cairn unmount MOUNTPOINT')";
    if (status.code() == Code::kNotFound || status.code() == Code::kInvalid) {
      next = "; give the directory that cairnfs was started with";
    }
    return Fail(status.context() + next);
  }
  if (options.json) {
    PrintReportJson(*report, options);
  } else {
    PrintReport(*report, options);
  }
  return Conclude(*report, options);
}

}  // namespace

void RegisterFsck(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb = app.add_subcommand(
      "fsck", "Check a store that is not mounted: 0 when it is sound, 1 when it is damaged");
  verb->add_option("STORE", options->store, "the store's directory")->required();
  verb->add_flag("--repair", options->repair, "put right what needs no guessing, and free leaks");
  verb->add_flag("--check-data", options->check_data,
                 "also read all data that has checksums, and name what is damaged");
  AddJsonFlag(*verb, options->json);
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
