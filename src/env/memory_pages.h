// MemoryPages: the contents of one file of a MemoryEnv, as programs see them (current) and as a
// disk would have them (durable).
//
// Invariants: an absent page is a hole; bytes of a page behind the size are zero, in both states;
// every page in which the states differ is in dirty_. Pages are shared between the states and
// copied when written. Not thread-safe: MemoryEnv guards it with its mutex.
#ifndef CAIRN_SRC_ENV_MEMORY_PAGES_H_
#define CAIRN_SRC_ENV_MEMORY_PAGES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <span>
#include <string>

namespace cairn {

inline constexpr uint64_t kMemoryPageSize = 4096;
inline constexpr uint64_t kMemorySectorSize = 512;

class MemoryPages {
 public:
  uint64_t size() const { return current_.size; }
  uint64_t page_count() const { return current_.pages.size(); }

  size_t Read(uint64_t offset, std::span<std::byte> out) const;
  // Returns how many bytes were written: fewer than asked when that would take more than
  // `max_new_pages`.
  size_t Write(uint64_t offset, std::span<const std::byte> data, uint64_t max_new_pages);
  void Truncate(uint64_t size);
  void Punch(uint64_t offset, uint64_t length);
  // False when it would take more than `max_new_pages`, of which it then takes those within the
  // size.
  bool Allocate(uint64_t offset, uint64_t length, uint64_t max_new_pages);
  std::optional<uint64_t> SeekData(uint64_t offset) const;
  std::optional<uint64_t> SeekHole(uint64_t offset) const;
  // How many bytes of the range lie in pages that there are.
  uint64_t AllocatedIn(uint64_t offset, uint64_t length) const;

  void Sync();
  // A sync failed. As on Linux, the pages that it did not write count as clean from now on: a
  // later sync that succeeds does not bring them to the disk unless they are written again.
  void FailSync();
  // Each page that is not durable becomes its durable or its current version, and so does the
  // size. `tear_sectors`: the choice is made for each sector of a page.
  void PowerCut(std::mt19937_64& random, bool tear_sectors);

  // Both states at once.
  void FlipByte(uint64_t offset);
  void TruncateBoth(uint64_t size);
  std::string DurableBytes() const;

 private:
  using Page = std::array<std::byte, kMemoryPageSize>;
  using PageMap = std::map<uint64_t, std::shared_ptr<Page>>;
  struct State {
    PageMap pages;
    uint64_t size = 0;
  };

  static std::shared_ptr<Page> Find(const State& state, uint64_t index);
  static size_t ReadState(const State& state, uint64_t offset, std::span<std::byte> out);
  // Drops what lies behind the size.
  static void Trim(State& state);
  static Page& Mutable(State& state, uint64_t index);
  void MarkDirty(uint64_t index);
  std::shared_ptr<Page> Survivor(uint64_t index, std::mt19937_64& random, uint64_t keep_quarters,
                                 bool tear_sectors) const;

  State current_;
  State durable_;
  std::set<uint64_t> dirty_;
  std::set<uint64_t> lost_;  // the part of dirty_ that a failed sync gave up
};

}  // namespace cairn

#endif  // CAIRN_SRC_ENV_MEMORY_PAGES_H_
