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
FROZEN(CAIRN_IOC_NR_LAST == 8);

/* For the C++ half of the test: what a C program sees. */
unsigned CairnStatusCommandInC(void) { return CAIRN_IOC_STATUS; }
