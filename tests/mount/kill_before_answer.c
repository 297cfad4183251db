/*
 * Preloaded into cairnfs: kills the server at one exact place, after it carried a request out and
 * before the program is answered.
 *
 * The file that CAIRN_TEST_KILL names says where: "answer OPCODE" before the answer to the next
 * FUSE request of that kind, "notify OPCODE" before the kernel is told of what such a request
 * changed. The file goes with the kill, so that the next server lives.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic unsigned long long wanted_unique; /* 0: none */
static atomic_int at_notification;

static int wanted(unsigned* opcode, char place[8]) {
  const char* const path = getenv("CAIRN_TEST_KILL");
  FILE* const file = path == NULL ? NULL : fopen(path, "re");
  if (file == NULL) return 0;
  const int fields = fscanf(file, "%7s %u", place, opcode);
  fclose(file);
  return fields == 2;
}

ssize_t read(int fd, void* buffer, size_t size) {
  static ssize_t (*real)(int, void*, size_t);
  if (real == NULL) real = (ssize_t(*)(int, void*, size_t))dlsym(RTLD_NEXT, "read");
  const ssize_t got = real(fd, buffer, size);
  struct fuse_in_header header;
  if (got < (ssize_t)sizeof(header) || size < 1u << 16) return got;
  memcpy(&header, buffer, sizeof(header));
  unsigned opcode = 0;
  char place[8] = "";
  if (header.len != (unsigned)got || !wanted(&opcode, place) || opcode != header.opcode) return got;
  atomic_store(&at_notification, strcmp(place, "notify") == 0);
  atomic_store(&wanted_unique, header.unique);
  return got;
}

ssize_t writev(int fd, const struct iovec* parts, int count) {
  static ssize_t (*real)(int, const struct iovec*, int);
  if (real == NULL) real = (ssize_t(*)(int, const struct iovec*, int))dlsym(RTLD_NEXT, "writev");
  struct fuse_out_header header;
  const unsigned long long unique = atomic_load(&wanted_unique);
  if (unique != 0 && count > 0 && parts[0].iov_len >= sizeof(header)) {
    memcpy(&header, parts[0].iov_base, sizeof(header));
    const int here = atomic_load(&at_notification) ? header.unique == 0 && header.error > 0
                                                   : header.unique == unique && header.error == 0;
    if (here) {
      unlink(getenv("CAIRN_TEST_KILL"));
      kill(getpid(), SIGKILL);
    }
  }
  return real(fd, parts, count);
}
