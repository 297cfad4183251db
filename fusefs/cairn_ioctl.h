/*
 * The ioctl interface of Cairn, for C and C++ programs. Installed as <cairn/ioctl.h>.
 *
 * Call ioctl(2) on a descriptor of a volume or directory in a Cairn mount. Every argument is one
 * flat structure without pointers whose first field is the version that the caller was built
 * against; its size is part of the command number. Fields that are not mentioned must be 0.
 *
 * A descriptor opened for reading is enough to send each of them. What a command then may do is
 * decided by the rights of the process that sends it, at that moment, as file modes give them:
 * the descriptor gives none. STATUS and SNAPSHOT_SHOW only describe, and ask for no more than to
 * have it; SNAPSHOT_MEMBERS leaves out what its caller cannot reach.
 *
 * Texts are NUL-terminated. A "list" is one text behind the other, each with its NUL, and ends
 * with an empty one; the array must have room for that.
 *
 * Errors: EINVAL (another version, a value that is not taken), ENOTTY (no such command, or not a
 * Cairn file), EOPNOTSUPP (a command that this server does not carry out), EACCES and EPERM
 * (rights), and what each command adds. Structures with a field `error` come back after a failure
 * too: it then says why in a sentence.
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
#define CAIRN_IOC_NR_SNAPSHOT_SHOW 9
#define CAIRN_IOC_NR_SNAPSHOT_MEMBERS 10
#define CAIRN_IOC_NR_LAST CAIRN_IOC_NR_SNAPSHOT_MEMBERS

/* cairn_ioc_status.flags */
#define CAIRN_STATUS_DIRECTORY (1u << 0) /* figures are sums over what lies below */
#define CAIRN_STATUS_ENCRYPTED (1u << 1)
#define CAIRN_STATUS_POISONED (1u << 2) /* read-only until the next mount: a sync failed */
#define CAIRN_STATUS_READ_ONLY (1u << 3)
/* in: find shared_bytes and warm_bytes of a volume out by going through its index, which takes
 * time; of a directory they are not counted */
#define CAIRN_STATUS_COUNT (1u << 31)

#define CAIRN_ERROR_SIZE 256
#define CAIRN_REASON_SIZE 512
#define CAIRN_NAME_SIZE 256 /* a name of up to 255 bytes */
#define CAIRN_TOKEN_SIZE 128
#define CAIRN_DESCRIPTION_SIZE 1024
#define CAIRN_LIST_SIZE 4096
#define CAIRN_ALSO_COUNT 32

struct cairn_ioc_status {
  __u32 version; /* in: CAIRN_IOC_VERSION */
  __u32 flags;   /* in: CAIRN_STATUS_COUNT or 0; out, as all below: the others */
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

/*
 * Takes a snapshot of the volume, or of all volumes below the directory, that the descriptor is
 * of, at one instant, all or nothing. It covers what write(2) has acknowledged; pages that a
 * program dirtied through mmap(2) are still in the kernel: fsync the members first.
 * The caller must be allowed to write the volume or directory.
 * EEXIST: the name is taken. EINVAL: the filters leave nothing; the name is none. ETIMEDOUT:
 * I/O could not be held in time. After an error there is no snapshot; only if the index could not
 * be written (EIO, ENOSPC), the next mount may show it, whole.
 */
struct cairn_ioc_snapshot_create {
  __u32 version;    /* in, as all up to `tags`: CAIRN_IOC_VERSION */
  __u32 flags;      /* 0 */
  __u32 hold_ms;    /* how long I/O may be held back at most; 0: the server's choice */
  __u32 also_count; /* of `also` */
  __aligned_u64 also[CAIRN_ALSO_COUNT]; /* inode numbers of more volumes or directories */
  char name[CAIRN_NAME_SIZE];
  char token[CAIRN_TOKEN_SIZE]; /* if not empty: a later request with it gets the same snapshot */
  char description[CAIRN_DESCRIPTION_SIZE];
  char filters[CAIRN_LIST_SIZE]; /* list of "exclude=GLOB" and "exclude-role=ROLE" */
  char tags[CAIRN_LIST_SIZE];    /* list of "KEY=VALUE" */
  __aligned_u64 inode;           /* out, as all below: of the snapshot's directory */
  __aligned_s64 created_ns;      /* the instant, since 1970 UTC */
  __aligned_u64 members;
  __aligned_u64 held_ns; /* how long I/O was held back */
  __u32 existed;         /* 1: an earlier request with this token made it */
  __u32 reserved_word;
  __aligned_u64 reserved[8];
  char error[CAIRN_REASON_SIZE];
};

/*
 * Deletes the snapshot whose directory (MOUNTPOINT/.snapshots/NAME) the descriptor is of. Its space
 * comes back in the background. EBUSY: a member is open, or was until a moment ago: close(2)
 * returns before the server hears of it.
 */
struct cairn_ioc_snapshot_delete {
  __u32 version; /* in */
  __u32 flags;   /* in: 0 */
  __aligned_u64 reserved[8];
  char error[CAIRN_REASON_SIZE]; /* out */
};

/*
 * Gives all members of a snapshot (descriptor of its directory), or one (descriptor of the member),
 * the content that it holds, at once, and keeps what they held as another snapshot. The caller must
 * be allowed to read each of the members and to write each of the volumes. Open files see the new
 * content; but where they append (O_APPEND) the kernel learns by the next stat of the volume, as
 * `cairn snapshot rollback` makes one.
 */
struct cairn_ioc_snapshot_rollback {
  __u32 version;            /* in */
  __u32 flags;              /* in: 0 */
  __aligned_u64 members;    /* out, as all below: how many volumes were rolled back */
  __aligned_u64 kept_inode; /* of the directory of the snapshot that keeps the old state */
  char kept_name[CAIRN_NAME_SIZE];
  __aligned_u64 reserved[8];
  char error[CAIRN_REASON_SIZE];
};

/*
 * Makes a writable clone of what the descriptor is of: a volume, a member of a snapshot, a
 * directory with all below it, or a snapshot. The caller must be allowed to read the source and to
 * write the directory that gets the clone. EEXIST: the name is taken.
 */
struct cairn_ioc_clone {
  __u32 version;        /* in, as all up to `name` */
  __u32 flags;          /* 0 */
  __aligned_u64 parent; /* inode number of the directory that gets the clone */
  char name[CAIRN_NAME_SIZE];
  __aligned_u64 inode;   /* out, as all below: of the clone */
  __aligned_u64 volumes; /* how many were cloned */
  __aligned_u64 reserved[8];
  char error[CAIRN_REASON_SIZE];
};

#define CAIRN_DIFF_DATA 1u /* may hold other bytes in the two */
#define CAIRN_DIFF_ZERO 2u /* reads as zeros in the one that `other` names */

struct cairn_ioc_extent {
  __aligned_u64 offset; /* bytes */
  __aligned_u64 length;
  __u32 kind; /* CAIRN_DIFF_* */
  __u32 reserved_word;
};

#define CAIRN_DIFF_EXTENTS 600

/*
 * Which extents may differ between the snapshot member or volume that the descriptor is of and
 * `other`, from the index alone. Ask with offset 0, then with next_offset as long as that is not 0.
 * The caller must be allowed to read both. EINVAL: they have no common history.
 */
struct cairn_ioc_diff {
  __u32 version;             /* in */
  __u32 flags;               /* in: 0 */
  __aligned_u64 other;       /* in: inode number of the other one */
  __aligned_u64 offset;      /* in: where to begin, bytes */
  __aligned_u64 next_offset; /* out, as all below: where the next page begins; 0: that was all */
  __aligned_u64 size;        /* of the one that the descriptor is of */
  __aligned_u64 other_size;
  __u32 count; /* of `extents` */
  __u32 reserved_word;
  struct cairn_ioc_extent extents[CAIRN_DIFF_EXTENTS]; /* in order, apart from each other */
  char error[CAIRN_REASON_SIZE];
};

/* What is known of the snapshot whose directory (or a member) the descriptor is of. */
struct cairn_ioc_snapshot_show {
  __u32 version;       /* in */
  __u32 flags;         /* in: 0 */
  __aligned_u64 inode; /* out, as all below: of its directory */
  __aligned_s64 created_ns;
  __aligned_u64 members;
  __aligned_u64 size; /* of all members, bytes */
  __u32 uid;          /* who asked for it, and may delete it */
  __u32 gid;
  __aligned_u64 reserved[9];
  char name[CAIRN_NAME_SIZE];
  char token[CAIRN_TOKEN_SIZE]; /* empty: it is its sender's */
  char description[CAIRN_DESCRIPTION_SIZE];
  char tags[CAIRN_LIST_SIZE]; /* list of "KEY=VALUE" */
  char error[CAIRN_REASON_SIZE];
};

struct cairn_ioc_member {
  __aligned_u64 inode;           /* of the member */
  __aligned_u64 volume;          /* of the volume that it was taken of */
  __aligned_u64 size;            /* bytes, as all below */
  __aligned_u64 exclusive_bytes; /* that deleting the member alone would give back */
  __aligned_u64 shared_bytes;    /* that its volume, clones or other snapshots need as well */
  __u32 path_offset;             /* of its path in `paths`, as it was below the mount's root */
  __u32 flags;                   /* 0 */
};

#define CAIRN_MEMBER_COUNT 128
#define CAIRN_MEMBER_PATHS 8192

/* in: find exclusive_bytes and shared_bytes out, which takes time; else both are 0 */
#define CAIRN_MEMBERS_COUNT 1u

/*
 * The members of a snapshot, by path, but those below a directory that does not let the caller
 * through. Ask with cookie 0, then with next_cookie as long as that is
 * not 0.
 */
struct cairn_ioc_snapshot_members {
  __u32 version;             /* in */
  __u32 flags;               /* in: CAIRN_MEMBERS_* */
  __aligned_u64 cookie;      /* in */
  __aligned_u64 next_cookie; /* out, as all below */
  __u32 count;               /* of `members` */
  __u32 reserved_word;
  struct cairn_ioc_member members[CAIRN_MEMBER_COUNT];
  char paths[CAIRN_MEMBER_PATHS]; /* texts */
  char error[CAIRN_REASON_SIZE];
};

#define CAIRN_IOC_STATUS _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_STATUS, struct cairn_ioc_status)
#define CAIRN_IOC_SNAPSHOT_CREATE \
  _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_SNAPSHOT_CREATE, struct cairn_ioc_snapshot_create)
#define CAIRN_IOC_SNAPSHOT_DELETE \
  _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_SNAPSHOT_DELETE, struct cairn_ioc_snapshot_delete)
#define CAIRN_IOC_SNAPSHOT_ROLLBACK \
  _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_SNAPSHOT_ROLLBACK, struct cairn_ioc_snapshot_rollback)
#define CAIRN_IOC_CLONE _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_CLONE, struct cairn_ioc_clone)
#define CAIRN_IOC_DIFF _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_DIFF, struct cairn_ioc_diff)
#define CAIRN_IOC_SNAPSHOT_SHOW \
  _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_SNAPSHOT_SHOW, struct cairn_ioc_snapshot_show)
#define CAIRN_IOC_SNAPSHOT_MEMBERS \
  _IOWR(CAIRN_IOC_MAGIC, CAIRN_IOC_NR_SNAPSHOT_MEMBERS, struct cairn_ioc_snapshot_members)

#ifdef __cplusplus
}
#endif

#endif /* CAIRN_IOCTL_H */
