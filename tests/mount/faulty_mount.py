"""A mount whose processes meet faults that the test switches on and off."""
import contextlib
import json
import os
import subprocess

import cairn_mount
from checks import check, check_equal, run, wait_until

# Preloaded into cairnfs. Files in $CAIRN_FAULTS switch the faults on:
#   slow          to make anything durable takes longer each time
#   no_fork       there are no processes to be had
#   die_opening   a server is killed before it opens the store
#   slow_umount   the unmounting waits
#   no_eventfd    a server that runs a copied program fails once it has opened the store
#   wait_replying a server makes a folder, and does not reply until
#   die_replying  it is killed
#   hold_spawns   no process is started to forget pages
#   hold_reads    large reads of the store's files are not begun
#   hold_resent   a server that had the kernel send requests again does not read them
#   hold_punches  to punch a hole into one of the store's files takes as long as this is on
#   fail_punches  the same is reported as failed
#   hold_answers  answers with as many bytes as the file says are not given
FAULTS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_on(const char* name) {
  char path[4096];
  snprintf(path, sizeof(path), "%s/%s", getenv("CAIRN_FAULTS"), name);
  return access(path, F_OK) == 0;
}
static unsigned long number_in(const char* name) {
  char path[4096];
  snprintf(path, sizeof(path), "%s/%s", getenv("CAIRN_FAULTS"), name);
  FILE* const file = fopen(path, "re");
  if (file == NULL) return 0;
  unsigned long number = 0;
  if (fscanf(file, "%lu", &number) != 1) number = 0;
  fclose(file);
  return number;
}
static int is_copied(void) {
  char path[4096] = "";
  return readlink("/proc/self/exe", path, sizeof(path) - 1) > 0 && strstr(path, "memfd:") != NULL;
}
static void die(void) { kill(getpid(), SIGKILL); }

int fdatasync(int fd) {
  if (is_on("slow")) usleep(400000);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int fsync(int fd) {
  if (is_on("slow")) usleep(400000);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
pid_t fork(void) {
  errno = EAGAIN;
  return is_on("no_fork") ? -1 : ((pid_t (*)(void))dlsym(RTLD_NEXT, "fork"))();
}
int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const words[], char* const variables[]) {
  if (is_on("hold_spawns")) fprintf(stderr, "holds a spawn\n");
  while (is_on("hold_spawns")) usleep(1000);
  return ((int (*)(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                   char* const[], char* const[]))dlsym(RTLD_NEXT, "posix_spawn"))(
      pid, path, actions, attributes, words, variables);
}
ssize_t pread64(int fd, void* bytes, size_t size, off_t offset) {
  if (size >= 65536 && is_on("hold_reads")) fprintf(stderr, "holds a read\n");
  while (size >= 65536 && is_on("hold_reads")) usleep(1000);
  return ((ssize_t (*)(int, void*, size_t, off_t))dlsym(RTLD_NEXT, "pread64"))(fd, bytes, size,
                                                                               offset);
}
ssize_t preadv64v2(int fd, const struct iovec* parts, int count, off_t offset, int flags) {
  if (count == 1 && parts[0].iov_len >= 65536 && is_on("hold_reads")) {
    errno = EAGAIN;  // as if the pages were not there: the next call is the one that is held
    return -1;
  }
  return ((ssize_t (*)(int, const struct iovec*, int, off_t, int))dlsym(RTLD_NEXT, "preadv64v2"))(
      fd, parts, count, offset, flags);
}
int fallocate64(int fd, int mode, off_t offset, off_t length) {
  const int done = ((int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate64"))(
      fd, mode, offset, length);
  if (!(mode & FALLOC_FL_PUNCH_HOLE)) return done;
  if (is_on("hold_punches")) fprintf(stderr, "holds a punch\n");
  while (is_on("hold_punches")) usleep(1000);
  if (!is_on("fail_punches")) return done;
  errno = EIO;
  return -1;
}
ssize_t write(int fd, const void* bytes, size_t size) {
  const ssize_t done =
      ((ssize_t (*)(int, const void*, size_t))dlsym(RTLD_NEXT, "write"))(fd, bytes, size);
  struct fuse_out_header header;
  if (size != sizeof(header)) return done;
  memcpy(&header, bytes, sizeof(header));
  // FUSE_NOTIFY_RESEND
  if (header.len != size || header.unique != 0 || header.error != 7) return done;
  if (is_on("hold_resent")) fprintf(stderr, "holds what is sent again\n");
  while (is_on("hold_resent")) usleep(1000);
  return done;
}
int umount2(const char* path, int flags) {
  while (is_on("slow_umount")) usleep(10000);
  return ((int (*)(const char*, int))dlsym(RTLD_NEXT, "umount2"))(path, flags);
}
int eventfd(unsigned value, int flags) {
  errno = EMFILE;
  if (is_on("no_eventfd") && is_copied()) return -1;
  return ((int (*)(unsigned, int))dlsym(RTLD_NEXT, "eventfd"))(value, flags);
}
ssize_t writev(int fd, const struct iovec* parts, int count) {
  // A header of 16 bytes and an entry of 128, which begins with the node's id: 0 is no node.
  unsigned long node = 0;
  struct fuse_out_header header = {0};
  if (count == 2 && parts[0].iov_len == sizeof(header)) {
    memcpy(&header, parts[0].iov_base, sizeof(header));
  }
  const unsigned long held = header.unique != 0 && header.error == 0 ? number_in("hold_answers") : 0;
  if (held != 0 && parts[1].iov_len == held) {
    fprintf(stderr, "holds an answer\n");
    while (is_on("hold_answers")) usleep(1000);
  }
  if (count == 2 && parts[0].iov_len == 16 && parts[1].iov_len == 128) {
    memcpy(&node, parts[1].iov_base, sizeof(node));
  }
  if (node != 0 && is_on("wait_replying")) {
    fprintf(stderr, "waits before it replies\n");
    while (!is_on("die_replying")) usleep(10000);
    die();
  }
  return ((ssize_t (*)(int, const struct iovec*, int))dlsym(RTLD_NEXT, "writev"))(fd, parts, count);
}
__attribute__((constructor)) static void start(int argc, char** argv) {
  if (argc > 2 && strcmp(argv[1], "serve") == 0 && strcmp(argv[2], "--probe") != 0 &&
      is_on("die_opening")) {
    usleep(60000);  // long enough not to look like a short life
    die();
  }
}
"""

CONTENT = bytes(range(256)) * 4096 * 2


class FaultyMount:
    """cairnfs in the foreground, with faults that can be switched on."""

    def __init__(self, mount, options="rw", environment=None):
        self.mount = mount
        self.faults = os.path.join(mount.folder, "faults")
        os.makedirs(self.faults, exist_ok=True)
        library = os.path.join(mount.folder, "faults.so")
        with open(library + ".c", "w", encoding="utf-8") as file:
            file.write(FAULTS)
        run("cc", "-shared", "-fPIC", "-O1", "-o", library, library + ".c", "-ldl")
        with open(mount.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [mount.cairnfs, "-f", "-o", options, mount.store, mount.mountpoint],
                stdout=log, stderr=log,
                env={**os.environ, **(environment or {}), "LD_PRELOAD": library,
                     "CAIRN_FAULTS": self.faults})
        wait_until(lambda: cairn_mount.is_mounted(mount.mountpoint),
                   cairn_mount.START_SECONDS, "the mount")
        self.facts()  # Answered once a server serves.

    def facts(self):
        return json.loads(os.getxattr(self.mount.mountpoint, "user.cairn.status"))["mount"]

    def on(self, name, number=""):
        path = os.path.join(self.faults, name)
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(str(number))
        os.rename(path + ".new", path)

    def off(self, name):
        os.unlink(os.path.join(self.faults, name))

    def log_says(self, text, count=1):
        wait_until(lambda: self.mount.read_log().count(text) >= count, 60, f"'{text}' in the log")

    def ends_with(self, exit_code):
        check_equal(self.process.wait(cairn_mount.STOP_SECONDS), exit_code, "exit code of cairnfs")


@contextlib.contextmanager
def faulty(bin_folder, options="rw", environment=None):
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        faulty_mount = FaultyMount(mount, options, environment)
        try:
            yield faulty_mount
        finally:
            if faulty_mount.process.poll() is None:
                cairn_mount.lazy_unmount(mount.mountpoint)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    faulty_mount.process.wait(20)
            if faulty_mount.process.poll() is None:
                faulty_mount.process.kill()
                faulty_mount.process.wait(20)


def check_content(mount):
    mount.fsck()
    mount.up()
    with open(mount.path("disk"), "rb") as file:
        check(file.read() == CONTENT, "what was acknowledged is lost")
    mount.down()
