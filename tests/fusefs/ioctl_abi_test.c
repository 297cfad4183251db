/* The ioctl header compiles alone, as C, and its structures stay as they were published. */
#include <stddef.h>

#include "fusefs/cairn_ioctl.h"

#define FROZEN(condition) _Static_assert(condition, #condition)

FROZEN(CAIRN_IOC_VERSION == 1);
FROZEN(sizeof(struct cairn_ioc_status) == 512);
FROZEN(offsetof(struct cairn_ioc_status, version) == 0);
FROZEN(offsetof(struct cairn_ioc_status, flags) == 4);
FROZEN(offsetof(struct cairn_ioc_status, inode) == 8);
FROZEN(offsetof(struct cairn_ioc_status, size) == 16);
FROZEN(offsetof(struct cairn_ioc_status, warm_bytes) == 24);
FROZEN(offsetof(struct cairn_ioc_status, cold_bytes) == 32);
FROZEN(offsetof(struct cairn_ioc_status, shared_bytes) == 40);
FROZEN(offsetof(struct cairn_ioc_status, jobs) == 48);
FROZEN(offsetof(struct cairn_ioc_status, hydrated_percent) == 56);
FROZEN(offsetof(struct cairn_ioc_status, last_error) == 256);

/* Direction read-write, 512 bytes, magic 0xC9, number 1. */
FROZEN(CAIRN_IOC_STATUS == 0xC200C901u);
FROZEN(CAIRN_IOC_NR_LAST == 10);

/* Every one begins with its version, and none has holes that a compiler could fill otherwise. */
#define BEGINS(type, size)                     \
  FROZEN(offsetof(struct type, version) == 0); \
  FROZEN(offsetof(struct type, flags) == 4);   \
  FROZEN(sizeof(struct type) == (size));       \
  FROZEN(sizeof(struct type) < (1u << _IOC_SIZEBITS))

BEGINS(cairn_ioc_snapshot_create, 10488);
FROZEN(offsetof(struct cairn_ioc_snapshot_create, also) == 16);
FROZEN(offsetof(struct cairn_ioc_snapshot_create, name) == 272);
FROZEN(offsetof(struct cairn_ioc_snapshot_create, tags) == 5776);
FROZEN(offsetof(struct cairn_ioc_snapshot_create, inode) == 9872);
FROZEN(offsetof(struct cairn_ioc_snapshot_create, error) == 9976);
BEGINS(cairn_ioc_snapshot_delete, 584);
BEGINS(cairn_ioc_snapshot_rollback, 856);
FROZEN(offsetof(struct cairn_ioc_snapshot_rollback, kept_name) == 24);
BEGINS(cairn_ioc_clone, 864);
FROZEN(offsetof(struct cairn_ioc_clone, name) == 16);
BEGINS(cairn_ioc_diff, 14968);
FROZEN(offsetof(struct cairn_ioc_diff, extents) == 56);
BEGINS(cairn_ioc_snapshot_show, 6136);
FROZEN(offsetof(struct cairn_ioc_snapshot_show, name) == 120);
BEGINS(cairn_ioc_snapshot_members, 14880);
FROZEN(offsetof(struct cairn_ioc_snapshot_members, members) == 32);
FROZEN(sizeof(struct cairn_ioc_member) == 48 && sizeof(struct cairn_ioc_extent) == 24);

/* For the C++ half of the test: what a C program sees. */
unsigned CairnStatusCommandInC(void) { return CAIRN_IOC_STATUS; }
