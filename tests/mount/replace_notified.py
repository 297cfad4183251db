"""A server that is killed while the kernel is told what changed is replaced all the same.

What the kernel does before such a notification returns may wait for the server, and no signal ends
that: a thread of the server that waited there would keep it from going, and its successor from
coming. Argument: how many kills in each test.
"""
import errno
import mmap
import os
import signal
import sys
import time

from cairn_mount import Mount, main
from checks import check, wait_until
from replacing import HANG_SECONDS, Load, kills, new_rng, run_until_killed_enough, servers

KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 15
SIZE = 32 << 20


def clones_and_snapshots_beside_busy_directories(bin_folder):
    """Creations hold the lock of the directory that clones appear in, listings that of snapshots."""
    rng = new_rng()
    with Mount(bin_folder) as mount:
        os.mkdir(mount.path("busy"))
        with open(mount.path("volume"), "wb") as file:
            file.write(b"x" * 65536)

        def trigger(what, value):
            os.setxattr(mount.path("volume"), f"user.cairn.{what}", value.encode())

        def creates(load, name):
            while not load.stop_wanted.is_set():
                with open(mount.path("busy", name), "wb"):
                    pass
                os.unlink(mount.path("busy", name))
                load.moved()

        def clones(load, name):
            number = 0
            while not load.stop_wanted.is_set():
                path = f"busy/{name}.{number}"
                trigger("clone", f"to=/{path}")
                os.unlink(mount.path(path))
                number += 1
                load.moved()

        def snapshots(load):
            number = 0
            while not load.stop_wanted.is_set():
                path = mount.path(".snapshots", str(number))
                trigger("snapshot", str(number))
                os.stat(path)
                mount.cairn("snapshot", "delete", path)
                if os.path.exists(path):
                    raise AssertionError(f"{path} is deleted and there")
                number += 1
                load.moved()

        def lists(load):
            while not load.stop_wanted.is_set():
                for name in os.listdir(mount.path(".snapshots")):
                    os.path.exists(mount.path(".snapshots", name))
                load.moved()

        with kills(mount, rng, most=KILLS, longest=0.3) as killer:
            loads = {f"creates {i}": Load(creates, f"new{i}") for i in range(3)}
            loads |= {f"clones {i}": Load(clones, f"clone{i}") for i in range(2)}
            loads |= {"snapshots": Load(snapshots), "lists": Load(lists)}
            run_until_killed_enough(killer, loads)
        mount.down()
        mount.fsck()


def writes_through_a_mapping(load, mount):
    with open(mount.path("volume"), "r+b") as file, mmap.mmap(file.fileno(), SIZE) as pages:
        while not load.stop_wanted.is_set():
            for offset in range(0, SIZE // 2, mmap.PAGESIZE):
                pages[offset] = ord("n")
            load.moved()


def reads_what_is_not_cached(load, mount):
    with open(mount.path("volume"), "rb") as file:
        while not load.stop_wanted.is_set():
            os.posix_fadvise(file.fileno(), SIZE // 2, 0, os.POSIX_FADV_DONTNEED)
            if os.pread(file.fileno(), SIZE // 2, SIZE // 2).strip(b"o"):
                raise AssertionError("bytes that nobody wrote")
            load.moved()


def rolls_back(load, mount, ok=True):
    while not load.stop_wanted.is_set():
        mount.cairn("snapshot", "rollback", mount.path(".snapshots/old"), ok=ok)
        load.moved()


def make_volume(mount):
    with open(mount.path("volume"), "wb") as file:
        file.write(b"o" * SIZE)
    os.setxattr(mount.path("volume"), "user.cairn.snapshot", b"old")


def rollbacks_of_a_volume_that_is_mapped_and_read(bin_folder):
    """Its pages are dirty, or on their way in, when the kernel is to forget them."""
    rng = new_rng()
    with Mount(bin_folder) as mount:
        make_volume(mount)
        with kills(mount, rng, most=KILLS, longest=0.6) as killer:
            run_until_killed_enough(killer, {"writes": Load(writes_through_a_mapping, mount),
                                             "reads": Load(reads_what_is_not_cached, mount),
                                             "rolls back": Load(rolls_back, mount)})
        mount.down()
        mount.fsck()


def a_mount_that_ends_in_a_rollback_lets_programs_go(bin_folder):
    """Who waits in the kernel for a server that does not come holds the connection, too."""
    rng = new_rng()
    for _ in range(max(KILLS // 3, 1)):
        with Mount(bin_folder, options="no_replace") as mount:
            make_volume(mount)
            loads = [Load(reads_what_is_not_cached, mount), Load(rolls_back, mount, False)]
            time.sleep(rng.uniform(0.1, 0.4))
            os.kill(servers(mount.parent_pid())[0], signal.SIGKILL)
            wait_until(lambda l=loads: not l[0].is_alive(), HANG_SECONDS, "the reader is let go")
            check(isinstance(loads[0].failure, OSError) and
                  loads[0].failure.errno in (errno.ENOTCONN, errno.ECONNABORTED),
                  loads[0].describe_failure())
            loads[1].stop_wanted.set()
            wait_until(lambda l=loads: not l[1].is_alive(), HANG_SECONDS, "and the command")
            mount.wait_gone()


main(clones_and_snapshots_beside_busy_directories, rollbacks_of_a_volume_that_is_mapped_and_read,
     a_mount_that_ends_in_a_rollback_lets_programs_go)
