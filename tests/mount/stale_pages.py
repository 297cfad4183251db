#!/usr/bin/env python3
"""The kernel does not keep pages that show what a volume held before: not when the program that
waited for the change was killed with the server, nor when the change failed midway, nor beside
direct writes."""
import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import subprocess
import sys

import cairn_mount
from checks import check, check_equal, error_of, wait_until
from faulty_mount import CONTENT, faulty

SIZE = len(CONTENT)
PAGE = mmap.PAGESIZE
PUNCH = 0x03  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
NEW = bytes(reversed(CONTENT))
OPEN_ANSWER, COPY_ANSWER = 16, 8  # bytes: struct fuse_open_out, fuse_write_out

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int,
                       ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]


def fallocate(fd, mode, offset, length):
    if _libc.fallocate(fd, mode, offset, length) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def resident(fd):
    """How many of the volume's pages the kernel has."""
    pages = ctypes.create_string_buffer(SIZE // PAGE)
    address = _libc.mmap(None, SIZE, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    check(address != ctypes.c_void_p(-1).value, "mmap failed")
    check_equal(_libc.mincore(address, SIZE, pages), 0, "mincore")
    _libc.munmap(address, SIZE)
    return sum(byte & 1 for byte in pages.raw)


def read_all(fd):
    return os.pread(fd, SIZE, 0)


@contextlib.contextmanager
def a_cached_volume(bin_folder):
    """A mount with faults, and a descriptor of a volume whose pages the kernel has."""
    with faulty(bin_folder) as test:
        path = test.mount.path("disk")
        with open(path, "wb") as file:
            file.write(CONTENT)
        os.setxattr(path, "user.cairn.snapshot", b"old")
        fd = os.open(path, os.O_RDWR)
        try:
            os.pwrite(fd, NEW, 0)
            check(read_all(fd) == NEW, "what was written does not show")
            check_equal(resident(fd), SIZE // PAGE, "pages that the kernel has")
            yield test, path, fd
        finally:
            os.close(fd)


def killed_with_the_server(test, fault, text, *command, number=""):
    """The server dies while the fault holds the command's request, and the command before the next
    server reads the request again: nobody waits for it any more."""
    server = test.facts()["server_pid"]
    test.on(fault, number)
    with subprocess.Popen(command) as program:
        test.log_says(text)
        test.on("hold_resent")
        os.kill(server, signal.SIGKILL)
        test.log_says("holds what is sent again")
        program.kill()
        check_equal(program.wait(60), -signal.SIGKILL, "how the program ended")
    test.off(fault)
    test.off("hold_resent")


def a_rollback_that_nobody_waits_for(bin_folder):
    with a_cached_volume(bin_folder) as (test, _, fd):
        killed_with_the_server(
            test, "hold_spawns", "holds a spawn", os.path.join(bin_folder, "cairn"), "snapshot",
            "rollback", test.mount.path(".snapshots/old"))
        wait_until(lambda: read_all(fd) == CONTENT, 60, "what the rollback brought back")


def a_hole_that_nobody_waits_for(bin_folder):
    with a_cached_volume(bin_folder) as (test, path, fd):
        killed_with_the_server(test, "hold_punches", "holds a punch", "fallocate", "--punch-hole",
                               "--offset", "0", "--length", str(SIZE // 2), path)
        wait_until(lambda: read_all(fd) != NEW, 60, "pages are forgotten")
        # What was punched when the server died.
        check(read_all(fd)[:PAGE] == bytes(PAGE), "the hole")


def a_truncation_that_nobody_waits_for(bin_folder):
    """It is cut off where the rest of the last chunk is zeroed, which comes first."""
    with a_cached_volume(bin_folder) as (test, path, fd):
        killed_with_the_server(test, "hold_punches", "holds a punch", "truncate", "--size",
                               str(3 * PAGE), path)
        wait_until(lambda: read_all(fd) != NEW, 60, "pages are forgotten")
        check(read_all(fd)[3 * PAGE:4 * PAGE] == bytes(PAGE), "the zeros")


def an_open_that_truncates_and_nobody_waits_for(bin_folder):
    with a_cached_volume(bin_folder) as (test, path, fd):
        killed_with_the_server(test, "hold_answers", "holds an answer", "sh", "-c", ': > "$1"', "sh",
                               path, number=OPEN_ANSWER)
        # The kernel still has the old size, and asks for no page.
        wait_until(lambda: resident(fd) == 0, 60, "pages are forgotten")
        check_equal(os.stat(path).st_size, 0, "size")


def a_copy_that_nobody_waits_for(bin_folder):
    copy = ("import os, sys; a, b = (os.open(path, os.O_RDWR) for path in sys.argv[1:]); "
            f"os.copy_file_range(a, b, {SIZE // 2}, 0, 0)")
    with a_cached_volume(bin_folder) as (test, path, fd):
        source = test.mount.path("source")
        with open(source, "wb") as file:
            file.write(CONTENT)
        killed_with_the_server(test, "hold_answers", "holds an answer", sys.executable, "-c", copy,
                               source, path, number=COPY_ANSWER)
        wait_until(lambda: read_all(fd) == CONTENT[:SIZE // 2] + NEW[SIZE // 2:], 60, "the copy")


def a_copy_that_fails_midway(bin_folder):
    """It is answered with what was copied, and has changed something behind that."""
    with a_cached_volume(bin_folder) as (test, path, fd):
        source = test.mount.path("source")
        with open(source, "wb") as file:
            file.write(CONTENT[:PAGE])
            file.truncate(SIZE)
        direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
        hole = os.open(source, os.O_RDONLY)
        try:
            check(read_all(fd) == NEW, "what was written does not show")
            test.on("fail_punches")
            copied = os.copy_file_range(hole, fd, SIZE, 0, 0)
            check(PAGE <= copied < SIZE, f"{copied} bytes copied")
            test.off("fail_punches")
            buffer = mmap.mmap(-1, SIZE)
            check_equal(os.preadv(direct, [buffer], 0), SIZE, "bytes read directly")
            check(buffer[copied:] != NEW[copied:], "it was to fail midway")
            wait_until(lambda: read_all(fd) == buffer[:], 60, "both ways to read agree")
        finally:
            os.close(direct)
            os.close(hole)


def a_hole_that_fails_midway(bin_folder):
    with a_cached_volume(bin_folder) as (test, path, fd):
        direct = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            check(read_all(fd) == NEW, "what was written does not show")
            test.on("fail_punches")
            check_equal(error_of(fallocate, fd, PUNCH, 0, SIZE // 2), "EIO", "a hole that fails")
            test.off("fail_punches")
            buffer = mmap.mmap(-1, SIZE)
            check_equal(os.preadv(direct, [buffer], 0), SIZE, "bytes read directly")
            check(buffer[:] != NEW, "it was to fail midway")
            wait_until(lambda: read_all(fd) == buffer[:], 60, "both ways to read agree")
        finally:
            os.close(direct)


def an_open_after_direct_writes_drops_pages(bin_folder):
    with a_cached_volume(bin_folder) as (_, path, fd):
        def with_another_open(work):
            opened = os.open(path, os.O_RDONLY)
            try:
                return work(opened)
            finally:
                os.close(opened)

        def open_and_count():
            return with_another_open(lambda _: resident(fd))

        check_equal(open_and_count(), SIZE // PAGE, "pages kept by an open")
        direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        buffer = mmap.mmap(-1, PAGE)
        try:
            for flags in (os.O_RDWR | os.O_DIRECT, os.O_RDWR):
                # How it was opened counts, not what became of its flags, as of dd's last block.
                fcntl.fcntl(direct, fcntl.F_SETFL, flags)
                check_equal(os.pwritev(direct, [buffer], 0), PAGE, "bytes written directly")
                # Stands for the page that a reader beside the write brings in again.
                read_all(fd)
                check_equal(resident(fd), SIZE // PAGE, "pages read again")
                check_equal(open_and_count(), 0, "pages kept by the next open")
                read_all(fd)
                check_equal(open_and_count(), 0, "pages kept by one while nobody has read since")
                check(with_another_open(read_all) == bytes(PAGE) + NEW[PAGE:],
                      "the direct write does not show")
                check_equal(open_and_count(), SIZE // PAGE, "pages kept by the one after")
        finally:
            os.close(direct)


if __name__ == "__main__":
    cairn_mount.main(a_rollback_that_nobody_waits_for, a_hole_that_nobody_waits_for,
                     a_truncation_that_nobody_waits_for,
                     an_open_that_truncates_and_nobody_waits_for, a_copy_that_nobody_waits_for,
                     a_hole_that_fails_midway, a_copy_that_fails_midway,
                     an_open_after_direct_writes_drops_pages)
