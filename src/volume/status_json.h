// The JSON behind "user.cairn.status".
#ifndef CAIRN_SRC_VOLUME_STATUS_JSON_H_
#define CAIRN_SRC_VOLUME_STATUS_JSON_H_

#include <map>
#include <string>

#include "src/volume/error_board.h"
#include "src/volume/namespace.h"
#include "src/volume/volume_context.h"
#include "src/volume/volume_table.h"

namespace cairn {

struct StatusSources {
  VolumeContext& context;
  Namespace& names;
  VolumeTable& table;
  const ErrorBoard& errors;
  const std::map<std::string, uint64_t>& facts;  // of the mount
  uint64_t branches_to_clean = 0;                // Maintenance::reclaims_waiting
};

// Sizes are bytes. A directory's are sums over the volumes below it; the root adds the mount's.
Result<std::string> DescribeStatus(const StatusSources& sources, InodeId inode);

}  // namespace cairn

#endif  // CAIRN_SRC_VOLUME_STATUS_JSON_H_
