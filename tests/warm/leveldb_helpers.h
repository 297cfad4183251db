// Opening, writing and reading a LevelDB that runs on a LevelDbEnv.
#ifndef CAIRN_TESTS_WARM_LEVELDB_HELPERS_H_
#define CAIRN_TESTS_WARM_LEVELDB_HELPERS_H_

#include <gtest/gtest.h>
#include <leveldb/db.h>

#include <map>
#include <memory>
#include <string>

#include "src/base/result.h"
#include "src/warm/leveldb_env.h"

namespace cairn::testing {

using Model = std::map<std::string, std::string>;

inline leveldb::Options DbOptions(LevelDbEnv& env) {
  leveldb::Options options;
  options.env = &env;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.write_buffer_size = 64 * 1024;
  options.compression = leveldb::kNoCompression;
  return options;
}

inline Result<std::unique_ptr<leveldb::DB>> OpenDb(LevelDbEnv& env, const std::string& dir) {
  leveldb::DB* db = nullptr;
  const leveldb::Status status = leveldb::DB::Open(DbOptions(env), dir, &db);
  if (!status.ok()) return env.FromLevelDb(status, "open");
  return std::unique_ptr<leveldb::DB>(db);
}

inline leveldb::Status PutSynced(leveldb::DB& db, const std::string& key,
                                 const std::string& value) {
  leveldb::WriteOptions options;
  options.sync = true;
  return db.Put(options, key, value);
}

inline Model ReadAll(leveldb::DB& db) {
  Model model;
  const std::unique_ptr<leveldb::Iterator> it(db.NewIterator(leveldb::ReadOptions()));
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    model.emplace(it->key().ToString(), it->value().ToString());
  }
  EXPECT_TRUE(it->status().ok()) << it->status().ToString();
  return model;
}

}  // namespace cairn::testing

#endif  // CAIRN_TESTS_WARM_LEVELDB_HELPERS_H_
