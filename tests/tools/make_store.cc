// Lays out an empty store in the folder that the argument names; for the tests of `cairn`.
#include <cstdio>

#include "src/warm/warm_store.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const auto env = cairn::NewPosixEnv();
  cairn::WarmStoreOptions options;
  options.create = true;
  auto store = cairn::WarmStore::Open(*env, argv[1], options);
  const cairn::Status status = store.ok() ? (*store)->Close() : store.status();
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return 1;
}
