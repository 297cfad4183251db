/*
 * The ioctl interface of Cairn, for C and C++ programs. Installed as <cairn/ioctl.h>.
 *
 * Call ioctl(2) on a descriptor of a volume or directory in a Cairn mount (one opened for reading
 * is enough to ask). Every argument is one flat structure without pointers whose first field is
 * the version that the caller was built against; its size is part of the command number.
 *
 * Errors: EINVAL (another version), ENOTTY (no such command, or not a Cairn file), EOPNOTSUPP (a
 * command that this server does not carry out).
 */
#ifndef CAIRN_IOCTL_H
#define CAIRN_IOCTL_H

#include <linux/ioctl.h>
#include <linux/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CAIRN_IOC_VERSION 1u
#define CAIRN_IOC_MAGIC 0xC9

/* Command numbers. Those without a structure below are kept for later versions: EOPNOTSUPP. */
#define CAIRN_IOC_NR_STATUS 1
#define CAIRN_IOC_NR_SNAPSHOT_CREATE 2
#define CAIRN_IOC_NR_SNAPSHOT_DELETE 3
#define CAIRN_IOC_NR_SNAPSHOT_ROLLBACK 4
#define CAIRN_IOC_NR_CLONE 5
#define CAIRN_IOC_NR_DIFF 6
#define CAIRN_IOC_NR_PUSH 7
#define CAIRN_IOC_NR_PULL 8
#define CAIRN_IOC_NR_LAST CAIRN_IOC_NR_PULL

/* cairn_ioc_status.flags */
#define CAIRN_STATUS_DIRECTORY (1u << 0) /* figures are sums over what lies below */
#define CAIRN_STATUS_ENCRYPTED (1u << 1)
#define CAIRN_STATUS_POISONED (1u << 2) /* read-only until the next mount: a sync failed */
#define CAIRN_STATUS_READ_ONLY (1u << 3)

#define CAIRN_ERROR_SIZE 256

struct cairn_ioc_status {
  __u32 version; /* in: CAIRN_IOC_VERSION */
  __u32 flags;   /* out, as all below: CAIRN_STATUS_* */
  __aligned_u64 inode;
  __aligned_u64 size;                /* bytes, as stat shows */
  __aligned_u64 warm_bytes;          /* held in the warm tier */
  __aligned_u64 cold_bytes;          /* held in the cold tier only */
  __aligned_u64 shared_bytes;        /* of those, shared with snapshots or clones */
  __aligned_u64 jobs;                /* background jobs that are not done */
  __u32 hydrated_percent;            /* 100 when nothing is left to transform */
  __u32 reserved_word;               /* 0 */
  __aligned_u64 reserved[24];        /* 0 */
  char last_error[CAIRN_ERROR_SIZE]; /* NUL-terminated; empty when none */
};

#define CAIRN_IOC_STATUS _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_STATUS, struct cairn_ioc_status)

#ifdef __cplusplus
}
#endif

#endif /* CAIRN_IOCTL_H */
