#!/usr/bin/env python3
"""The supervisor dies under load, or its servers die at once again and again: the mount ends, what
was fsynced is there, and a new mount at the same place works."""
import contextlib
import mmap
import os
import random
import signal
import subprocess
import time

import cairn_mount
import kill9
import replacing
from checks import check, check_equal, check_error, error_of, wait_until

ROUNDS = 4
GONE = ("ENOTCONN", "ECONNABORTED")
MOST_SERVERS = 500  # a mount whose servers cannot live has to end long before


def expect_gone(mount, fd):
    """Programs are told, with open descriptors as well as by name.

    fd: opened with O_DIRECT; the kernel may still answer a cached read from its pages.
    """
    pages = mmap.mmap(-1, 4096)
    for what, call in (("stat", lambda: os.stat(mount.path("disk0"))),
                       ("list", lambda: os.listdir(mount.mountpoint)),
                       ("mkdir", lambda: os.mkdir(mount.path("new"))),
                       ("read", lambda: os.preadv(fd, [pages], 0)),
                       ("write", lambda: os.pwritev(fd, [pages], 0)),
                       ("fsync", lambda: os.fsync(fd))):
        check_error(GONE, f"{what} after the supervisor's death", call)


def supervisor_killed_under_load(bin_folder):
    rng = replacing.new_rng()
    states = [kill9.State() for _ in range(kill9.WRITERS)]
    with cairn_mount.Mount(bin_folder) as mount:
        for writer in range(kill9.WRITERS):
            with open(mount.path(f"disk{writer}"), "wb") as file:
                file.truncate(kill9.SLOTS * kill9.STRIDE)
        for number in range(ROUNDS):
            fd = os.open(mount.path("disk0"), os.O_RDWR | os.O_DIRECT)
            writers = [kill9.Writer(mount.path(f"disk{i}"), i, states[i],
                                    random.Random(rng.random())) for i in range(kill9.WRITERS)]
            for writer in writers:
                writer.start()
            time.sleep(rng.uniform(0.3, 1.5))
            # Each second round a server died just before, so that one is about to take over.
            supervisor = mount.parent_pid()
            if number % 2:
                os.kill(replacing.servers(supervisor)[0], signal.SIGKILL)
                time.sleep(rng.uniform(0, 0.02))
            os.kill(supervisor, signal.SIGKILL)
            for writer in writers:
                writer.join(replacing.HANG_SECONDS)
                check(not writer.is_alive(), f"round {number}: a writer hangs")
            mount.wait_gone()
            expect_gone(mount, fd)
            with contextlib.suppress(OSError):  # The flush at close finds the mount dead.
                os.close(fd)
            mount.fsck()
            mount.up()
            kill9.verify(mount, states, f"round {number}")
        mount.down()
        mount.fsck()
    print(f"  {sum(sum(state.synced) for state in states)} fsynced records, none lost")


@contextlib.contextmanager
def foreground(mount):
    """cairnfs -f: its exit code and its last words can be seen."""
    with open(mount.log, "ab") as log:
        process = subprocess.Popen([mount.cairnfs, "-f", mount.store, mount.mountpoint],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    with cairn_mount.undo(process.kill):
        wait_until(lambda: cairn_mount.is_mounted(mount.mountpoint) and
                   error_of(os.listdir, mount.mountpoint) is None,
                   cairn_mount.START_SECONDS, "cairnfs -f mounts")
        yield process


def expect_end(mount, process, fd):
    check(process.wait(cairn_mount.STOP_SECONDS) == 1,
          f"cairnfs exited {process.returncode}, wanted 1")
    wait_until(lambda: not mount.pids(), cairn_mount.STOP_SECONDS, "no process is left")
    check(not cairn_mount.is_mounted(mount.mountpoint), "the dead mount is still there")
    check_error(GONE, "a write through an old descriptor", os.pwrite, fd, b"x", 0)
    with contextlib.suppress(OSError):
        os.close(fd)


def write_synced(mount):
    fd = os.open(mount.path("disk"), os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, b"fsynced" * 1000, 0)
    os.fsync(fd)
    return fd


def check_there(mount):
    mount.fsck()
    mount.up()
    with open(mount.path("disk"), "rb") as file:
        check_equal(file.read(), b"fsynced" * 1000, "content")
    mount.down()
    mount.fsck()


def servers_that_die_at_once_end_the_mount(bin_folder):
    """Each server is killed as soon as it is there."""
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        with foreground(mount) as process:
            fd = write_synced(mount)
            killed = set()
            served = 1
            end = time.monotonic() + 240
            while process.poll() is None:
                # One that served because this loop had no processor begins the count anew.
                if (now := mount.read_log().count(" serving ")) > served:
                    served = now
                    killed.clear()
                    end = time.monotonic() + 240
                for pid in replacing.servers(process.pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        killed.add(pid)
                check(len(killed) < MOST_SERVERS and time.monotonic() < end,
                      f"after {len(killed)} servers the supervisor goes on")
            print(f"  {len(killed)} servers")
            expect_end(mount, process, fd)
        text = mount.read_log()
        check("giving up" in text or "in a row" in text, f"the log gives no reason: {text[-500:]}")
        check_there(mount)


def server_that_cannot_open_the_store_ends_the_mount(bin_folder):
    """The index is damaged while no server lives: the next one says so, and that is the end."""
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        with foreground(mount) as process:
            fd = write_synced(mount)
            os.kill(process.pid, signal.SIGSTOP)  # No successor before the damage is done.
            with cairn_mount.undo(os.kill, process.pid, signal.SIGCONT):
                for pid in replacing.servers(process.pid):
                    os.kill(pid, signal.SIGKILL)
                index = os.path.join(mount.store, "index")
                current = os.path.join(index, "CURRENT")
                os.rename(current, current + ".kept")
                with open(current, "w", encoding="ascii") as file:
                    file.write("MANIFEST-000000\n")
            expect_end(mount, process, fd)
        check("index" in mount.read_log(), f"the log names no file: {mount.read_log()[-500:]}")
        os.rename(current + ".kept", current)
        check_there(mount)


if __name__ == "__main__":
    cairn_mount.main(supervisor_killed_under_load, servers_that_die_at_once_end_the_mount,
                     server_that_cannot_open_the_store_ends_the_mount)
