// What the texts of a request for a snapshot may be. A pure function.
#ifndef CAIRN_SNAPSHOT_REQUEST_CHECK_H_
#define CAIRN_SNAPSHOT_REQUEST_CHECK_H_

#include "snapshot/snapshot_service.h"

namespace cairn {

// Name, token, description and tags. kInvalid.
Status CheckTexts(const SnapshotRequest& request);

}  // namespace cairn

#endif  // CAIRN_SNAPSHOT_REQUEST_CHECK_H_
