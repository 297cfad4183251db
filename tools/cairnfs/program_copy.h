// ProgramCopy: the content of a program in sealed memory, so that to run it waits for no file: the
// file may be deleted, replaced, or lie on the very mount whose server makes way for it.
#ifndef CAIRN_TOOLS_CAIRNFS_PROGRAM_COPY_H_
#define CAIRN_TOOLS_CAIRNFS_PROGRAM_COPY_H_

#include <string>

#include "src/base/result.h"
#include "src/base/unique_fd.h"

namespace cairn {

// Made by the client: reading the file may wait for ever. kInvalid (no executable regular file),
// kIo, kNotFound, kPermission, kNoSpace.
Result<UniqueFd> CopyProgram(const std::string& path);

// Checked by the supervisor: whether `fd` is such a copy. kInvalid.
Status CheckProgramCopy(int fd);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_PROGRAM_COPY_H_
