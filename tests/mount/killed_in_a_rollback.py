#!/usr/bin/env python3
"""The supervisor, or all processes of a mount, die while the kernel is told what a rollback changed:
whoever uses the mount gets an error and does not wait for ever, and the store is whole."""
import contextlib
import os
import signal
import threading

import cairn_mount
import replacing
from checks import check, error_of, run, wait_until
from faulty_mount import CONTENT, check_content, faulty

FUSECTL = "/sys/fs/fuse/connections"


def roll_back_until_the_kernel_is_told(test):
    """A rollback that stands still before a process is started that has the kernel forget pages;
    and a program that is reading one of those in.

    Returns what runs, and the reader's errors.
    """
    path = test.mount.path("disk")
    with open(path, "wb") as file:
        file.write(CONTENT)
    os.setxattr(path, "user.cairn.snapshot", b"old")
    test.on("hold_spawns")
    command = threading.Thread(target=test.mount.cairn, daemon=True, kwargs={"ok": False}, args=(
        "snapshot", "rollback", test.mount.path(".snapshots/old")))
    command.start()
    test.log_says("holds a spawn")
    test.on("hold_reads")
    errors = []

    def read():
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        errors.append(error_of(os.pread, fd, 1 << 20, 0))
        with contextlib.suppress(OSError):
            os.close(fd)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    test.log_says("holds a read")
    return {"reader": reader, "command": command}, errors


def start_forgetting(test, server):
    """Lets the process start; returns its id once it waits in a way that no signal ends."""
    found = []

    def waits():
        found[:] = [pid for pid in replacing.children(server)
                    if "forget-pages" in cairn_mount.arguments_of(pid) and state_of(pid) == "D"]
        return found
    test.off("hold_spawns")
    wait_until(waits, 60, "a process that waits for the server")
    return found[0]


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def expect_release(programs, errors):
    for name, thread in programs.items():
        thread.join(60)
        check(not thread.is_alive(), f"the {name} hangs")
    check(errors and errors[0] in ("ENOTCONN", "ECONNABORTED"), f"the reader got {errors}")


def kill_and_reap(test, *others):
    for pid in (test.process.pid, *others):
        os.kill(pid, signal.SIGKILL)
    test.process.wait(60)


@contextlib.contextmanager
def fusectl(wanted):
    """The kernel's own files of FUSE connections, mounted for the block or not."""
    was = cairn_mount.is_mounted(FUSECTL)

    def have(mounted):
        if mounted and not cairn_mount.is_mounted(FUSECTL):
            run("mount", "-t", "fusectl", "none", FUSECTL)
        elif not mounted and cairn_mount.is_mounted(FUSECTL):
            run("umount", FUSECTL)

    with cairn_mount.undo(have, was):
        have(wanted)
        yield


def cut_what_is_left(mount):
    """After a failure: no signal ends a process that waits for a mount which nobody serves."""
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if ("forget-pages" not in cairn_mount.arguments_of(pid) or
                    os.readlink(f"/proc/{pid}/exe") != mount.cairnfs_real()):
                continue
            with open(f"/proc/{pid}/fdinfo/1", encoding="ascii") as facts:
                number = facts.read().split("fuse_connection:")[1].split()[0]
            with fusectl(True), open(f"{FUSECTL}/{number}/abort", "w", encoding="ascii") as abort:
                abort.write("1")


@contextlib.contextmanager
def a_mount(bin_folder):
    with faulty(bin_folder) as test, cairn_mount.undo(cut_what_is_left, test.mount):
        yield test


def all_killed(bin_folder, with_fusectl, before=lambda mount: None):
    with a_mount(bin_folder) as test, fusectl(with_fusectl):
        server = test.facts()["server_pid"]
        programs, errors = roll_back_until_the_kernel_is_told(test)
        before(test.mount)
        forgetting = start_forgetting(test, server)
        kill_and_reap(test, server)
        expect_release(programs, errors)
        wait_until(lambda: not cairn_mount.arguments_of(forgetting), 60, "and it ends")
        test.mount.wait_gone()
        check_content(test.mount)


def all_killed_in_a_rollback_let_programs_go(bin_folder):
    """Only the process that waits for them holds the connection then."""
    all_killed(bin_folder, with_fusectl=False)


def and_so_they_do_when_the_mount_is_not_in_the_tree_any_more(bin_folder):
    all_killed(bin_folder, with_fusectl=True,
               before=lambda mount: run("umount", "-l", mount.mountpoint))


def a_supervisor_killed_in_a_rollback_ends_the_mount(bin_folder):
    """It is gone before the process starts, and the server hangs in a read."""
    with a_mount(bin_folder) as test, fusectl(True):
        programs, errors = roll_back_until_the_kernel_is_told(test)
        kill_and_reap(test)
        test.off("hold_spawns")
        expect_release(programs, errors)
        test.off("hold_reads")
        test.mount.wait_gone()
        check_content(test.mount)


if __name__ == "__main__":
    cairn_mount.main(all_killed_in_a_rollback_let_programs_go,
                     and_so_they_do_when_the_mount_is_not_in_the_tree_any_more,
                     a_supervisor_killed_in_a_rollback_ends_the_mount)
