// cairnfs serve: a server process, from the inherited control socket to a closed store.
#ifndef CAIRN_TOOLS_CAIRNFS_SERVE_H_
#define CAIRN_TOOLS_CAIRNFS_SERVE_H_

#include "tools/cairnfs/command_line.h"

namespace cairn {

// Returns the exit code: 0 when everything acknowledged is durable.
int Serve(const ServeCommandLine& command);

}  // namespace cairn

#endif  // CAIRN_TOOLS_CAIRNFS_SERVE_H_
