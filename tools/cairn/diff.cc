// cairn diff: which parts of a volume changed.
#include <sys/stat.h>

#include <iostream>
#include <memory>

#include "tools/cairn/command.h"
#include "tools/cairn/snapshot_place.h"

namespace cairn::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string from;
  std::string to;
  bool json = false;
};

struct Difference {
  uint64_t size = 0;
  uint64_t other_size = 0;
  uint64_t bytes = 0;
  std::vector<cairn_ioc_extent> extents;
};

Outcome Compare(const std::string& from, const std::string& to, Difference& difference) {
  UniqueFd fd;
  if (Outcome opened = OpenForCall(from, fd); !opened.ok()) return opened;
  struct stat st {};
  if (::stat(to.c_str(), &st) != 0) return {errno, to + ": " + ::strerror(errno)};
  const auto page = std::make_unique<cairn_ioc_diff>();
  uint64_t offset = 0;
  do {
    *page = {};
    page->other = st.st_ino;
    page->offset = offset;
    if (Outcome got = Call(fd.get(), from, CAIRN_IOC_DIFF, *page); !got.ok()) return got;
    difference.size = page->size;
    difference.other_size = page->other_size;
    for (uint32_t i = 0; i < std::min<uint32_t>(page->count, CAIRN_DIFF_EXTENTS); ++i) {
      const cairn_ioc_extent& extent = page->extents[i];
      difference.bytes += extent.length;
      auto& all = difference.extents;
      // A page may end within an extent.
      if (!all.empty() && all.back().kind == extent.kind &&
          all.back().offset + all.back().length == extent.offset) {
        all.back().length += extent.length;
      } else {
        all.push_back(extent);
      }
    }
    if (page->next_offset != 0 && page->next_offset <= offset) {
      return {EIO, from + ": the mount's server gives the same part twice"};
    }
    offset = page->next_offset;
  } while (offset != 0);
  return {};
}

const char* KindName(uint32_t kind) { return kind == CAIRN_DIFF_ZERO ? "zero" : "data"; }

int Run(const Options& options) {
  MountEntry from_mount;
  MountEntry to_mount;
  for (const auto& [path, mount] :
       {std::pair(&options.from, &from_mount), std::pair(&options.to, &to_mount)}) {
    if (Outcome found = FindMount(*path, *mount); !found.ok()) return Fail(found.message);
  }
  if (from_mount.mountpoint != to_mount.mountpoint) {
    return Fail(options.to + " is in another mount than " + options.from +
                "; only what has a common history can be compared");
  }
  Difference difference;
  const Outcome compared =
      Compare(AbsolutePath(options.from), AbsolutePath(options.to), difference);
  if (!compared.ok()) return Fail(compared.message);
  if (options.json) {
    Json document;
    document["from"] = AbsolutePath(options.from);
    document["to"] = AbsolutePath(options.to);
    document["from_size"] = difference.size;
    document["to_size"] = difference.other_size;
    document["changed_bytes"] = difference.bytes;
    document["extents"] = Json::array();
    for (const cairn_ioc_extent& extent : difference.extents) {
      document["extents"].push_back({{"offset", static_cast<uint64_t>(extent.offset)},
                                     {"length", static_cast<uint64_t>(extent.length)},
                                     {"kind", KindName(extent.kind)}});
    }
    PrintJson(document);
    return kDone;
  }
  for (const cairn_ioc_extent& extent : difference.extents) {
    std::cout << extent.offset << ' ' << extent.length << ' ' << KindName(extent.kind) << '\n';
  }
  std::cout << HumanBytes(difference.bytes) << " in " << difference.extents.size()
            << " extents (offset, length, kind) may differ; sizes: " << difference.size
            << " bytes, then " << difference.other_size << '\n';
  return kDone;
}

}  // namespace

void RegisterDiff(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* const verb = app.add_subcommand(
      "diff", "List the extents in which B differs from A, without reading data");
  verb->add_option("A", options->from, "the older one: a volume's member of a snapshot")
      ->required();
  verb->add_option("B", options->to, "the newer one: another snapshot's member, or the volume")
      ->required();
  AddJsonFlag(*verb, options->json);
  verb->footer(
      "What is written to a volume while it is compared may be in the list or not: for a backup\n"
      "compare two snapshots.");
  verb->callback([options, &exit_code] { exit_code = Run(*options); });
}

}  // namespace cairn::cli
