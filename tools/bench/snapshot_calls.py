"""What the snapshot jobs do to their targets: Cairn's ioctls, a btrfs to compare with, writers."""
import contextlib
import ctypes
import json
import os
import random
import struct
import subprocess
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
REASON_SIZE = 512
# Number and size of the structures in fusefs/cairn_ioctl.h.
COMMANDS = {"create": (2, 10488), "delete": (3, 584), "clone": (5, 864)}
BLOCK = 4096


def call(path, name, fields=b""):
    number, size = COMMANDS[name]
    argument = ctypes.create_string_buffer(struct.pack("II", 1, 0) + fields, size)
    fd = os.open(path, os.O_RDONLY)
    try:
        command = (3 << 30) | (size << 16) | (0xC9 << 8) | number
        if LIBC.ioctl(fd, ctypes.c_ulong(command), argument) != 0:
            reason = argument.raw[-REASON_SIZE:].split(b"\0")[0].decode(errors="replace")
            raise OSError(ctypes.get_errno(), f"{name} of {path}: {reason}")
    finally:
        os.close(fd)
    return argument.raw


def snapshot(path, name):
    """Takes one; returns the seconds that I/O was held back."""
    fields = struct.pack("II32Q", 0, 0, *[0] * 32) + name.encode().ljust(256, b"\0")
    return struct.unpack_from("<Q", call(path, "create", fields), 9896)[0] / 1e9


def delete(cairn, name):
    call(os.path.join(cairn.root(), ".snapshots", name), "delete")


def clone(source, target):
    parent = os.stat(os.path.dirname(target)).st_ino
    name = os.path.basename(target).encode()
    call(source, "clone", struct.pack("Q", parent) + name.ljust(256, b"\0"))


def held_bytes(folder):
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(where, name)).st_blocks * 512
    return total


def aligned_block():
    """A page of its own, as O_DIRECT wants it."""
    import mmap  # pylint: disable=import-outside-toplevel
    page = mmap.mmap(-1, BLOCK)
    page[:] = os.urandom(BLOCK)
    return page


def timed_write(path, offset=0):
    """Seconds from the open to the end of one 4 KiB write."""
    page = aligned_block()
    begin = time.perf_counter()
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    os.pwritev(fd, [page], offset)
    seconds = time.perf_counter() - begin
    os.close(fd)
    return seconds


# Runs apart, so that what the measuring process does meanwhile does not stop it.
WRITER = r"""
import gc, json, mmap, os, random, sys, time
paths, size, end = sys.argv[3:], int(sys.argv[1]), time.perf_counter() + float(sys.argv[2])
rng = random.Random(os.getpid())
page = mmap.mmap(-1, 4096)
page[:] = os.urandom(4096)
fds = [os.open(path, os.O_RDWR | os.O_DIRECT) for path in paths]
blocks = size // 4096
taken = []
gc.disable()  # a pass over all that was taken is a pause of the writers' own
clock, pwritev, pick, place = time.perf_counter, os.pwritev, rng.choice, rng.randrange
print("ready", flush=True)
now = clock()
while now < end:
    fd, offset = pick(fds), place(blocks) * 4096
    begin = clock()
    pwritev(fd, [page], offset)
    now = clock()
    taken.append((now - begin, begin))
taken.sort()
print(json.dumps({"writes": len(taken), "p50": taken[len(taken) // 2][0],
                  "p999": taken[len(taken) * 999 // 1000][0], "max": taken[-1][0],
                  "slowest": taken[-5000:]}))
"""


class Writers:
    """Processes with one 4 KiB O_DIRECT write in flight each, at random over `paths`."""

    def __init__(self, paths, size, seconds, count=2):
        self.processes = []
        for number in range(count):
            mine = paths[number::count] or paths
            self.processes.append(subprocess.Popen(
                ["python3", "-c", WRITER, str(size), str(seconds), *mine], stdout=subprocess.PIPE,
                text=True))
        for process in self.processes:
            process.stdout.readline()

    def result(self):
        """Their latencies in seconds: the worst of the processes each; and the slowest writes."""
        each = [json.loads(process.communicate()[0]) for process in self.processes]
        return {"writes": sum(one["writes"] for one in each),
                "slowest": [tuple(write) for one in each for write in one["slowest"]],
                **{key: max(one[key] for one in each) for key in ("p50", "p999", "max")}}


def worst_within(slowest, begin, end):
    """The longest of the writes that overlap a stretch of time; 0 when none is among them."""
    return max((took for took, start in slowest if start < end and start + took > begin),
               default=0.0)


class Repeater(threading.Thread):
    """Calls a function again and again with a pause, until stopped.

    Keeps what it returned, and from when to when each call ran (by the clock of the writers).
    """

    def __init__(self, function, pause):
        super().__init__(daemon=True)
        self.function, self.pause = function, pause
        self.stopping = threading.Event()
        self.results = []
        self.failure = None

    def run(self):
        number = 0
        try:
            while not self.stopping.wait(self.pause):
                begin = time.perf_counter()
                result = self.function(number)
                self.results.append((result, begin, time.perf_counter()))
                number += 1
        except OSError as error:
            self.failure = error

    def finish(self):
        self.stopping.set()
        self.join()
        if self.failure:
            raise self.failure
        return self.results


def fragment(path, size, pieces, seed=1):
    """`pieces` blocks written in random order, with gaps between them."""
    rng = random.Random(seed)
    step = size // pieces // BLOCK * BLOCK
    order = list(range(pieces))
    rng.shuffle(order)
    data = os.urandom(BLOCK)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, size)
    for number in order:
        os.pwrite(fd, data, number * step)
    os.fsync(fd)
    os.close(fd)


class Btrfs:
    """A btrfs on a loop device over a file of `folder`, mounted below it."""

    def __init__(self, folder, size_gib):
        self.image = os.path.join(folder, "btrfs.image")
        self.mountpoint = os.path.join(folder, "btrfs")
        self.device = None
        os.makedirs(self.mountpoint)
        with open(self.image, "wb") as file:
            file.truncate(size_gib << 30)
        try:
            self.device = run("losetup", "--find", "--show", "--direct-io=on", self.image).strip()
            run("mkfs.btrfs", "-q", self.device)
            run("mount", self.device, self.mountpoint)
        except Exception:
            self.close()
            raise

    def path(self, name):
        return os.path.join(self.mountpoint, name)

    def close(self):
        for command in (["umount", self.mountpoint], ["losetup", "--detach", self.device or ""]):
            subprocess.run(command, capture_output=True, check=False)
        with contextlib.suppress(OSError):
            os.unlink(self.image)


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
