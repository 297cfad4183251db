"""What the tests of snapshots share: the ioctls of fusefs/cairn_ioctl.h, and filled volumes."""
import ctypes
import errno
import json
import os
import random
import struct
import time

from checks import check, check_equal, file_hash, wait_until

MAGIC = 0xC9
VERSION = 1
REASON_SIZE = 512  # the last field of each structure
# Name: number, size of the structure; fusefs_test holds the sizes still.
COMMANDS = {"create": (2, 10488), "delete": (3, 584), "rollback": (4, 856), "clone": (5, 864),
            "diff": (6, 14968), "show": (9, 6136), "members": (10, 14880)}
ALSO = 32
LIBC = ctypes.CDLL(None, use_errno=True)


def command_number(name):
    number, size = COMMANDS[name]
    return (3 << 30) | (size << 16) | (MAGIC << 8) | number


class Refused(OSError):
    """An ioctl's errno with the reason that came back in its structure."""


def call(fd, name, fields=b"", version=VERSION, flags=0):
    """Sends one; `fields` follow version and flags. Returns the structure as it came back."""
    _, size = COMMANDS[name]
    argument = ctypes.create_string_buffer(struct.pack("II", version, flags) + fields, size)
    if LIBC.ioctl(fd, ctypes.c_ulong(command_number(name)), argument) != 0:
        reason = argument.raw[-REASON_SIZE:].split(b"\0")[0].decode(errors="replace")
        raise Refused(ctypes.get_errno(), f"{name}: {reason}")
    return argument.raw


def text(value, size):
    return value.encode().ljust(size, b"\0")


def create_fields(name, also=(), filters=(), tags=(), token="", description="", hold_ms=0):
    def packed(items):
        return b"".join(item.encode() + b"\0" for item in items).ljust(4096, b"\0")
    numbers = struct.pack(f"{ALSO}Q", *also, *[0] * (ALSO - len(also)))
    return (struct.pack("II", hold_ms, len(also)) + numbers + text(name, 256) + text(token, 128) +
            text(description, 1024) + packed(filters) + packed(tags))


def clone_fields(parent, name):
    return struct.pack("Q", parent) + text(name, 256)


def with_fd(path, function, *arguments, **keywords):
    fd = os.open(path, os.O_RDONLY)
    try:
        return function(fd, *arguments, **keywords)
    finally:
        os.close(fd)


def create(path, name, **more):
    """By ioctl; returns (inode, created_ns, members, held_ns, existed)."""
    answer = with_fd(path, call, "create", create_fields(name, **more))
    inode, created, members, held, existed = struct.unpack_from("<QqQQI", answer, 9872)
    return inode, created, members, held, existed


def delete(path):
    """By ioctl. Of a member that the test itself closed just now, the server may not know yet."""
    end = time.monotonic() + 60
    while True:
        try:
            return with_fd(path, call, "delete")
        except Refused as refusal:
            if refusal.errno != errno.EBUSY or time.monotonic() > end:
                raise
        time.sleep(0.01)


def clone(source, target):
    parent = os.stat(os.path.dirname(target)).st_ino
    return with_fd(source, call, "clone", clone_fields(parent, os.path.basename(target)))


def snapshot_json(mount, *arguments):
    return json.loads(mount.cairn("snapshot", *arguments, "--json").stdout)


def place(mount, name):
    """A snapshot's path: its bare name will not do where there are other mounts."""
    return mount.path(".snapshots", name)


def names(mount):
    return sorted(os.listdir(mount.path(".snapshots")))


def make_volumes(mount, folder="vm1", volumes=("boot.img", "data.img"), size=4 << 20, seed=1):
    """A directory with filled volumes; returns its path."""
    rng = random.Random(seed)
    path = mount.path(folder)
    os.makedirs(path, exist_ok=True)
    for name in volumes:
        with open(os.path.join(path, name), "wb") as file:
            file.write(rng.randbytes(size))
    return path


def scribble(path, rng, blocks=64, size=4096):
    """Overwrites blocks at random, within the file."""
    count = os.path.getsize(path) // size
    with open(path, "r+b", buffering=0) as file:
        for _ in range(blocks):
            file.seek(rng.randrange(count) * size)
            file.write(rng.randbytes(size))


def hashes(folder):
    return {name: file_hash(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}


def check_hashes(folder, wanted, what):
    check_equal(hashes(folder), wanted, what)


def wait_for_space(mount, most, seconds=60):
    """Until the store's files hold at most so many bytes."""
    def enough():
        return mount.held_by_store() <= most
    try:
        wait_until(enough, seconds, "space comes back")
    except Exception:
        check(False, f"the store still holds {mount.held_by_store()} bytes, wanted {most}")
