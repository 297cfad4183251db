// Tells a server that hangs from one whose disk is slow.
#ifndef CAIRN_FUSEFS_DEVICE_WAIT_H_
#define CAIRN_FUSEFS_DEVICE_WAIT_H_

namespace cairn {

// Whether a thread of this process waits for a device, as far as the kernel says (state D). Any
// thread counts: those that serve wait for others, an Executor's and LevelDB's, that sync.
bool AnyThreadWaitsForDevice();

}  // namespace cairn

#endif  // CAIRN_FUSEFS_DEVICE_WAIT_H_
