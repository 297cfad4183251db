// MemoryNames: the directory tree of a MemoryEnv, as programs see it (current) and as a disk
// would have it (durable), and the name operations between the two.
//
// The operations that are not durable form a journal. An operation depends on an earlier one when
// both touch the same name, when it removes a directory in which the other worked, or when it
// moves something into a directory that the other made or moved. SyncDir makes the directory's
// operations durable and all that these depend on. A power cut treats operations
// that depend on each other, directly or not, as a group, and keeps of each group some of its
// first operations: none, all, or any number between. So a renamed file is found under its old or
// under its new name, never under both or under none, while unrelated names fare independently.
//
// Not thread-safe: MemoryEnv guards it with its mutex.
#ifndef CAIRN_SRC_ENV_MEMORY_NAMES_H_
#define CAIRN_SRC_ENV_MEMORY_NAMES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "src/base/result.h"
#include "src/base/status.h"
#include "src/env/memory_pages.h"

namespace cairn {

// A file or a directory. Outlives its name for as long as a handle, the durable state or the
// journal refers to it.
struct MemoryInode {
  using Ref = std::shared_ptr<MemoryInode>;

  explicit MemoryInode(bool directory) : is_directory(directory) {}

  const bool is_directory;
  // Of a directory.
  std::map<std::string, Ref> current;
  std::map<std::string, Ref> durable;
  // Of a file.
  MemoryPages pages;
  uint64_t handle_count = 0;
  bool linked = false;  // has a name in the current state
  bool locked = false;
};

class MemoryNames {
 public:
  MemoryNames();
  ~MemoryNames();
  MemoryNames(const MemoryNames&) = delete;
  MemoryNames& operator=(const MemoryNames&) = delete;

  Result<MemoryInode::Ref> Find(const std::string& path) const;
  Result<MemoryInode::Ref> FindDirectory(const std::string& path) const;
  // kExists when there is something of that name.
  Result<MemoryInode::Ref> Create(const std::string& path, bool directory);
  // Both return what lost its name; Rename null when `to` was free.
  Result<MemoryInode::Ref> Remove(const std::string& path, bool directory);
  Result<MemoryInode::Ref> Rename(const std::string& from, const std::string& to);

  Status SyncDir(const std::string& path);
  // All directories at once.
  void SyncAll() { Commit(std::vector<bool>(journal_.size(), true)); }
  // Makes the surviving state both the current and the durable one. Contents are left alone.
  void PowerCut(std::mt19937_64& random);

  // Removes the name from both states. Returns what lost it.
  Result<MemoryInode::Ref> RemoveFromBoth(const std::string& path);
  // In the durable state. kNotFound when a power cut could lose the name.
  Result<MemoryInode::Ref> FindDurable(const std::string& path) const;
  // The files of the current state by path, in the order of their names.
  std::vector<std::pair<std::string, MemoryInode::Ref>> Files() const;

 private:
  using Ref = MemoryInode::Ref;
  using Names = std::map<std::string, Ref>;

  // What a name refers to after the operation; null: nothing.
  struct Binding {
    Ref directory;
    std::string name;
    Ref target;
  };
  struct Operation {
    std::vector<Binding> bindings;        // take effect together
    Ref removed_directory;                // may be null
    std::vector<Ref> needed_directories;  // without them, what was moved would be unreachable
  };
  // A path, taken apart: the directory's chain from the root and the last name.
  struct Location {
    std::vector<Ref> chain;  // root first, the parent last
    std::string name;
    Ref target;  // null: absent

    const Ref& parent() const { return chain.back(); }
  };

  Result<Location> Locate(const std::string& path) const;
  static Status CheckReplace(const Location& from, const Location& to, const std::string& path);
  static bool DependsOn(const Operation& later, const Operation& earlier);
  static bool Touches(const Operation& operation, const Ref& directory);
  static void Apply(const Operation& operation, Names MemoryInode::*state);
  // Does the operation in the current state and notes it in the journal.
  void Perform(Operation operation);
  // Makes the `chosen` operations of the journal durable, and those that they depend on.
  void Commit(std::vector<bool> chosen);
  // The group of each operation in the journal, named by the index of one of its members.
  std::vector<size_t> Groups() const;
  // Makes the durable names below `directory` the current ones too.
  static void Settle(MemoryInode& directory);

  Ref root_;
  std::vector<Operation> journal_;
  // All that were made: the two states may refer to each other's directories in a circle, which
  // must be broken by hand.
  std::vector<std::weak_ptr<MemoryInode>> directories_;
};

}  // namespace cairn

#endif  // CAIRN_SRC_ENV_MEMORY_NAMES_H_
