// The mark of a clean close: what LevelDB's log files held when the last process closed them.
//
// After a crash the end of a log may be torn, which looks like damage to its last record. After a
// clean close nothing may be torn, and the mark's checksums tell the two apart.
#ifndef CAIRN_SRC_WARM_CLEAN_MARK_H_
#define CAIRN_SRC_WARM_CLEAN_MARK_H_

#include <string>

#include "src/base/result.h"
#include "src/env/env.h"

namespace cairn {

// Durably writes `mark_path` for the LevelDB in `index_dir`. REQUIRES: it is closed.
Status WriteCleanMark(Env& env, const std::string& index_dir, const std::string& mark_path);

// False when there is no mark. When there is one: checks the files against it, then durably
// removes it and returns true. kCorrupt names the file that is not what it was.
Result<bool> CheckAndRemoveCleanMark(Env& env, const std::string& index_dir,
                                     const std::string& mark_path);
// The same without removing the mark, for readers that change nothing.
Result<bool> CheckCleanMark(Env& env, const std::string& index_dir, const std::string& mark_path);

}  // namespace cairn

#endif  // CAIRN_SRC_WARM_CLEAN_MARK_H_
