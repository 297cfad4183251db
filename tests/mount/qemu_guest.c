/*
 * The only program of the guest that replace_qemu.py boots: its /init. Writes and verifies a
 * pattern on each disk with O_DIRECT until a line comes over the console, then prints what it left
 * there.
 *
 * Several processes write, each to blocks of its own, all of them in each pass in another order. A
 * block holds (block, pass) over and over, so that a stale, foreign or torn block shows.
 *
 * Output: "ready", then "moved N" each second, then "left DISK FIRST BLOCKS PASS" for each process
 * and "end", or "bad ...". The machine is switched off afterwards.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCK = 4096, DISKS = 2, WRITERS = 2, BLOCKS = 1024 };

struct shared {
  volatile int stop;
  volatile uint64_t moved[DISKS * WRITERS];
  volatile uint64_t pass[DISKS * WRITERS];
};

static void load_module(const char* name) {
  char path[100];
  snprintf(path, sizeof(path), "/%s.ko", name);
  const int fd = open(path, O_RDONLY);
  if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) != 0) {
    printf("bad module %s: %s\n", name, strerror(errno));
  }
  close(fd);
}

// The initramfs has a list of them, in the order in which they need each other.
static void load_modules(void) {
  FILE* const list = fopen("/modules", "r");
  char name[64];
  if (list == NULL) printf("bad list of modules: %s\n", strerror(errno));
  while (list != NULL && fscanf(list, "%63s", name) == 1) load_module(name);
  if (list != NULL) fclose(list);
}

static void fill(uint64_t* buffer, uint64_t block, uint64_t pass) {
  for (int i = 0; i < BLOCK / 8; i += 2) {
    buffer[i] = block;
    buffer[i + 1] = pass;
  }
}

static void verify(int fd, uint64_t block, uint64_t pass, uint64_t* found, uint64_t* wanted) {
  const ssize_t got = pread(fd, found, BLOCK, (off_t)(block * BLOCK));
  if (got != BLOCK) {
    printf("bad read of block %llu: %zd %s\n", (unsigned long long)block, got, strerror(errno));
    _exit(1);
  }
  fill(wanted, block, pass);
  if (pass == 0) memset(wanted, 0, BLOCK);
  if (memcmp(found, wanted, BLOCK) != 0) {
    printf("bad block %llu: begins %llu %llu, wanted pass %llu\n", (unsigned long long)block,
           (unsigned long long)found[0], (unsigned long long)found[1], (unsigned long long)pass);
    _exit(1);
  }
}

static void write_passes(const char* disk, uint64_t first, struct shared* shared, int number) {
  const int fd = open(disk, O_RDWR | O_DIRECT);
  uint64_t* buffer = aligned_alloc(BLOCK, 3 * BLOCK);
  if (fd < 0 || buffer == NULL) {
    printf("bad open of %s: %s\n", disk, strerror(errno));
    _exit(1);
  }
  uint64_t pass = 0;
  while (!shared->stop) {
    // 1103 and 1024 have no common divisor: each block once.
    for (uint64_t i = 0; i < BLOCKS; ++i) {
      const uint64_t block = first + (i * 1103 + pass * 7) % BLOCKS;
      verify(fd, block, pass, buffer, buffer + 512);
      fill(buffer + 1024, block, pass + 1);
      if (pwrite(fd, buffer + 1024, BLOCK, (off_t)(block * BLOCK)) != BLOCK) {
        printf("bad write of block %llu: %s\n", (unsigned long long)block, strerror(errno));
        _exit(1);
      }
      ++shared->moved[number];
    }
    ++pass;
    if (fsync(fd) != 0) {
      printf("bad fsync: %s\n", strerror(errno));
      _exit(1);
    }
  }
  for (uint64_t i = 0; i < BLOCKS; ++i) {
    verify(fd, first + i, pass, buffer, buffer + 512);
    ++shared->moved[number];
  }
  shared->pass[number] = pass;
  _exit(0);
}

static void tell_moved(const struct shared* shared) {
  uint64_t moved = 0;
  for (int number = 0; number < DISKS * WRITERS; ++number) moved += shared->moved[number];
  printf("moved %llu\n", (unsigned long long)moved);
}

static int run(void) {
  struct shared* shared =
      mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  static const char* const kDisks[DISKS] = {"/dev/vda", "/dev/vdb"};
  for (int number = 0; number < DISKS * WRITERS; ++number) {
    const uint64_t first = (uint64_t)(number / DISKS) * BLOCKS;
    if (fork() == 0) write_passes(kDisks[number % DISKS], first, shared, number);
  }
  printf("ready\n");
  struct pollfd console = {STDIN_FILENO, POLLIN, 0};
  while (poll(&console, 1, 1000) == 0) tell_moved(shared);
  shared->stop = 1;
  for (int left = DISKS * WRITERS, status = 0; left > 0;) {
    const pid_t ended = waitpid(-1, &status, WNOHANG);
    if (ended < 0 || (ended > 0 && status != 0)) return 1;
    if (ended > 0) {
      --left;
    } else {
      sleep(1);
      tell_moved(shared);
    }
  }
  for (int number = 0; number < DISKS * WRITERS; ++number) {
    printf("left %d %d %d %llu\n", number % DISKS, number / DISKS * BLOCKS, BLOCKS,
           (unsigned long long)shared->pass[number]);
  }
  printf("end\n");
  return 0;
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
  load_modules();
  if (run() != 0) printf("bad end of a writer\n");
  sync();
  reboot(RB_POWER_OFF);
  return 1;
}
