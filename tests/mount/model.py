#!/usr/bin/env python3
"""Random operations on a real mount against a model in memory, with kills and remounts.

argv: BIN [SEED [SECONDS]]. The seed is printed; the same seed gives the same operations, and
SECONDS (default 60) says how long to go on.

The model knows each file by sectors of 512 bytes: a byte that fills the sector, 0 for zeros. After
a kill what was fsynced is there; every other sector holds its old or one of its newer contents.
"""
import contextlib
import errno
import mmap
import os
import random
import sys
import time

import cairn_mount
from checks import check, check_equal, run

SECTOR = 512
BLOCK = 4096
LARGEST = 3 << 20
NAMES = ["disk0", "disk1", "disk2", "disk3"]


class Image:
    """What a file holds now, and what else it may hold after a kill."""

    def __init__(self):
        self.size = 0  # multiples of SECTOR
        self.now = {}  # sector -> byte
        self.before = {}  # sector -> set of bytes since the last fsync
        self.sizes = set()

    def change(self, offset, length, value):
        for sector in range(offset // SECTOR, (offset + length) // SECTOR):
            self.before.setdefault(sector, set()).add(self.now.get(sector, 0))
            self.now[sector] = value

    def resize(self, size):
        self.sizes.add(self.size)
        self.size = size

    def write(self, offset, length, value):
        self.change(offset, length, value)
        if offset + length > self.size:
            self.resize(offset + length)

    def punch(self, offset, length):
        end = min(offset + length, self.size)
        if offset < end:
            self.change(offset, end - offset, 0)

    def truncate(self, size):
        if size < self.size:
            self.change(size, self.size - size, 0)
        self.resize(size)

    def fsync(self):
        self.before.clear()
        self.sizes.clear()

    def verify(self, content, where, killed):
        """Compares; after a kill also takes over which of the possible contents it is."""
        if killed:
            check(len(content) == self.size or len(content) in self.sizes,
                  f"{where}: {len(content)} bytes, wanted {self.size} or of {sorted(self.sizes)}")
        else:
            check_equal(len(content), self.size, f"{where}: size")
        for sector in range(len(content) // SECTOR):
            part = content[sector * SECTOR:(sector + 1) * SECTOR]
            value = part[0]
            allowed = {self.now.get(sector, 0)}
            if killed:
                allowed |= self.before.get(sector, set())
            check(value in allowed and part == bytes([value]) * SECTOR,
                  f"{where}: sector {sector} begins {part[:8].hex()}, wanted all {allowed}")
            if killed:
                self.now[sector] = value
        if killed:
            kept = len(content) // SECTOR
            self.now = {sector: value for sector, value in self.now.items() if sector < kept}
            self.size = len(content)
            self.fsync()


class Run:
    def __init__(self, mount, rng):
        self.mount, self.rng = mount, rng
        self.images = {}
        self.stamp = 0
        self.done = {}

    def step(self):
        choices = [(self.write, 40), (self.write_direct, 20), (self.punch, 8), (self.truncate, 6),
                   (self.fsync, 10), (self.read, 8), (self.rename, 4), (self.unlink, 3),
                   (self.kill, 1.5), (self.remount, 1)]
        operation = self.rng.choices(*zip(*choices))[0]
        self.done[operation.__name__] = self.done.get(operation.__name__, 0) + 1
        operation()

    @contextlib.contextmanager
    def opened(self, flags=0):
        """A file and its model, made when it is not there."""
        name = self.rng.choice(NAMES)
        if name not in self.images:
            self.images[name] = Image()
            flags |= os.O_CREAT
        fd = os.open(self.mount.path(name), os.O_RDWR | flags, 0o600)
        try:
            yield fd, self.images[name]
        finally:
            os.close(fd)

    def place(self, unit, longest):
        length = unit * self.rng.randint(1, longest // unit)
        return self.rng.randrange((LARGEST - length) // unit) * unit, length

    def write_stamped(self, fd, image, offset, length):
        self.stamp = self.stamp % 255 + 1
        with mmap.mmap(-1, length) as buffer:  # O_DIRECT wants aligned memory
            buffer[:] = bytes([self.stamp]) * length
            check_equal(os.pwritev(fd, [buffer], offset), length, "bytes written")
        image.write(offset, length, self.stamp)

    def write(self):
        with self.opened() as (fd, image):
            unit = self.rng.choice([SECTOR, BLOCK])
            self.write_stamped(fd, image, *self.place(unit, self.rng.choice([BLOCK, 600 << 10])))

    def write_direct(self):
        with self.opened(os.O_DIRECT) as (fd, image):
            unit = self.rng.choice([SECTOR, BLOCK])
            self.write_stamped(fd, image, *self.place(unit, self.rng.choice([BLOCK, 100 << 10])))

    def punch(self):
        with self.opened() as (fd, image):
            offset, length = self.place(SECTOR, 1 << 20)
            run("fallocate", "--punch-hole", "--offset", offset, "--length", length,
                f"/proc/self/fd/{fd}", pass_fds=[fd])
            image.punch(offset, length)

    def truncate(self):
        with self.opened() as (fd, image):
            size = self.rng.choice([0, self.place(SECTOR, SECTOR)[0], LARGEST])
            os.ftruncate(fd, size)
            image.truncate(size)

    def fsync(self):
        with self.opened() as (fd, image):
            os.fsync(fd)
            image.fsync()

    def read(self):
        with self.opened() as (fd, image):
            image.verify(os.pread(fd, LARGEST + 1, 0), "read back", False)

    def rename(self):
        source, target = self.rng.sample(NAMES, 2)
        if source in self.images:
            os.rename(self.mount.path(source), self.mount.path(target))
            self.images[target] = self.images.pop(source)

    def unlink(self):
        name = self.rng.choice(NAMES)
        try:
            os.unlink(self.mount.path(name))
        except OSError as error:
            check(name not in self.images and error.errno == errno.ENOENT, f"unlink: {error}")
        else:
            check(self.images.pop(name, None) is not None, f"{name} was not there, yet unlinked")

    def kill(self):
        self.mount.kill()
        self.mount.fsck()
        self.mount.up()
        self.verify_all(True)

    def remount(self):
        self.mount.down()
        for image in self.images.values():
            image.fsync()
        self.mount.fsck()
        self.mount.up()
        self.verify_all(False)

    def verify_all(self, killed):
        found = sorted(os.listdir(self.mount.mountpoint))
        check_equal(found, sorted(self.images), "names")
        for name, image in self.images.items():
            with open(self.mount.path(name), "rb") as file:
                image.verify(file.read(), name, killed)


def random_operations(bin_folder, seed, seconds):
    with cairn_mount.Mount(bin_folder) as mount:
        state = Run(mount, random.Random(seed))
        end = time.monotonic() + seconds
        steps = 0
        try:
            while time.monotonic() < end:
                steps += 1
                state.step()
            state.kill()
            state.remount()
        except Exception:
            print(f"seed {seed}: step {steps}", flush=True)
            raise
    print(f"{steps} operations: {state.done}")


if __name__ == "__main__":
    SECONDS = float(sys.argv.pop(3)) if len(sys.argv) > 3 else 60
    SEED = int(sys.argv.pop(2)) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    print(f"seed {SEED}", flush=True)

    def model(bin_folder):
        random_operations(bin_folder, SEED, SECONDS)

    cairn_mount.main(model)
