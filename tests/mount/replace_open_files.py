#!/usr/bin/env python3
"""What programs hold open goes on under kill -9 of the server: descriptors, files without a name,
locks, dirty pages, directory streams.

argv: BIN [KILLS] (default 80). All loads run at once; each repeats its story with new files.
"""
import contextlib
import errno
import fcntl
import mmap
import os
import random
import struct
import sys

import cairn_mount
import replacing
from checks import check, check_equal, wait_until

MIB = 1 << 20
F_OFD_SETLK = 37
NAMES = 1500  # in the directory that is read while servers die


@contextlib.contextmanager
def opened(path, flags=os.O_RDWR):
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def write_new(path, content):
    with opened(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY) as fd:
        check_equal(os.write(fd, content), len(content), "bytes written")


def check_content(fd, wanted, what):
    found = os.pread(fd, len(wanted) + 1, 0)
    check(found == wanted, f"{what}: {len(found)} bytes begin {found[:8].hex()}, wanted "
          f"{len(wanted)} that begin {wanted[:8].hex()}")


def appended_lines(mount, rng):
    """Two descriptors append in turns; none of the lines is lost, doubled or torn."""
    path = mount.path("appended")
    wanted = b""
    with opened(path, os.O_CREAT | os.O_RDWR | os.O_APPEND) as one, \
            opened(path, os.O_WRONLY | os.O_APPEND) as two:
        for number in range(40):
            line = b"%d " % number + b"x" * rng.randrange(9000) + b"\n"
            check_equal(os.write((one, two)[number % 2], line), len(line), "bytes appended")
            wanted += line
            if number % 8 == 7:
                os.fsync(two)
        check_content(one, wanted, "appended")
        os.posix_fadvise(one, 0, 0, os.POSIX_FADV_DONTNEED)
        check_content(one, wanted, "appended, from the server")
    os.unlink(path)


def file_without_a_name(mount, rng):
    """Reads and writes go on after unlink or rename over it, until the last of two closes."""
    path = mount.path("nameless")
    content = rng.randbytes(MIB)
    write_new(path, content)
    with opened(path) as last:
        with opened(path) as first:
            if rng.random() < 0.5:
                os.unlink(path)
            else:
                write_new(path + ".new", b"new")
                os.rename(path + ".new", path)
            check_content(first, content, "without a name")
        # A release that is done twice would count the other descriptor as closed.
        content = content[:5000] + b"later" + content[5005:]
        os.pwrite(last, b"later", 5000)
        os.fsync(last)
        os.posix_fadvise(last, 0, 0, os.POSIX_FADV_DONTNEED)
        check_content(last, content, "without a name, after one of two closes")
        check_equal(os.fstat(last).st_nlink, 0, "link count of a file without a name")
        os.ftruncate(last, MIB // 2)
        check_content(last, content[:MIB // 2], "without a name, cut")
    if os.path.exists(path):
        with opened(path) as fd:
            check_content(fd, b"new", "what was renamed over it")
        os.unlink(path)


def many_short_opens(mount, rng):
    """The last close of a file often meets a kill; its space must come back all the same."""
    path = mount.path(f"short{rng.randrange(4)}")
    flags = os.O_CREAT | os.O_RDWR | rng.choice([0, os.O_EXCL])
    fds = [os.open(path, flags, 0o600)]
    try:
        fds += [os.open(path, os.O_RDONLY) for _ in range(rng.randrange(3))]
        os.pwrite(fds[0], b"short" * 4000, 0)
        os.unlink(path)
        rng.shuffle(fds)
        while len(fds) > 1:
            os.close(fds.pop())
        check_equal(os.fstat(fds[0]).st_size, 20000, "size of a file without a name")
    finally:
        for fd in fds:
            os.close(fd)


def ofd_lock(fd, kind):
    fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 100, 50, 0))


def locks(mount, rng):
    """Locks are held until they are let go of, whichever server lives then."""
    path = mount.path("locked")
    with opened(path, os.O_CREAT | os.O_RDWR) as one, opened(path) as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        ofd_lock(one, fcntl.F_WRLCK)
        for _ in range(rng.randrange(40)):
            os.pwrite(one, b"mine", 0)
            for what, call in (("flock", lambda: fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)),
                               ("lock of a range", lambda: ofd_lock(two, fcntl.F_WRLCK))):
                try:
                    call()
                except BlockingIOError:
                    continue
                check(False, f"a second {what} was given")
        fcntl.flock(one, fcntl.LOCK_UN)
        ofd_lock(one, fcntl.F_UNLCK)
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ofd_lock(two, fcntl.F_WRLCK)


def dirty_pages(mount, rng):
    """Pages that were written through a mapping reach the file, also one without a name."""
    path = mount.path("mapped")
    content = bytearray(rng.randbytes(64 * 4096))
    write_new(path, content)
    with opened(path) as fd:
        nameless = rng.random() < 0.5
        if nameless:
            os.unlink(path)
        with mmap.mmap(fd, len(content)) as mapping:
            for _ in range(20):
                place = rng.randrange(len(content) - 100)
                mapping[place:place + 100] = content[place:place + 100] = rng.randbytes(100)
                if rng.random() < 0.2:
                    mapping.flush()
            mapping.flush()
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        check_content(fd, bytes(content), "mapped")
    if not nameless:
        os.unlink(path)


def directory_stream(mount, rng):
    """A directory that is read while servers die shows each name once."""
    seen = []
    with os.scandir(mount.path("many")) as entries:
        for entry in entries:
            seen.append(entry.name)
            if rng.random() < 0.02:
                os.getxattr(mount.path("many", entry.name), "user.number")
    check_equal(sorted(seen), sorted(f"name{number:05d}" for number in range(NAMES)), "names")


def questions(mount, rng):
    """Calls that only ask, of which each reaches the server."""
    number = rng.randrange(NAMES)
    path = mount.path("many", f"name{number:05d}")
    check_equal(os.getxattr(path, "user.number"), b"%d" % number, "attribute")
    check_equal(os.stat(path).st_size, number, "size")
    with opened(path, os.O_RDONLY) as fd:
        check_equal(os.read(fd, 2 * NAMES), b"q" * number, "content")
    try:
        os.getxattr(path, "user.absent")
    except OSError as error:
        check_equal(error.errno, errno.ENODATA, "errno of an absent attribute")
    check(not os.path.exists(mount.path("many", f"absent{rng.random()}")), "an absent name is there")


def long_lived(mount, rng):
    """One file that is open from before the first kill until after the last: see main part."""
    place = rng.randrange(256) * 4096
    block = struct.pack("<Q", rng.randrange(1 << 60)) * 512
    mount.content[place:place + 4096] = block
    check_equal(os.pwrite(mount.long_fd, block, place), 4096, "bytes written")
    place = rng.randrange(256) * 4096
    check(os.pread(mount.long_fd, 4096, place) == mount.content[place:place + 4096],
          f"the long-lived file at {place}")


STORIES = (appended_lines, file_without_a_name, many_short_opens, locks, dirty_pages,
           directory_stream, questions, long_lived)


def repeat(load, story, mount, rng, counts):
    while not load.stop_wanted.is_set():
        story(mount, rng)
        counts[story.__name__] = counts.get(story.__name__, 0) + 1
        load.moved()


def held_by_extents(mount):
    total = 0
    for folder, _, files in os.walk(os.path.join(mount.store, "extents")):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
    return total


def open_files_under_kills(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.Mount(bin_folder) as mount:
        os.mkdir(mount.path("many"))
        for number in range(NAMES):
            path = mount.path("many", f"name{number:05d}")
            write_new(path, b"q" * number)
            os.setxattr(path, "user.number", b"%d" % number)
        mount.content = bytearray(MIB)
        write_new(mount.path("locked"), b"mine")
        write_new(mount.path("long"), bytes(mount.content))
        held = held_by_extents(mount)
        counts = {}
        with opened(mount.path("long")) as mount.long_fd:
            os.unlink(mount.path("long"))
            with replacing.kills(mount, rng, most, longest=0.6) as killer:
                loads = {story.__name__: replacing.Load(repeat, story, mount,
                                                        random.Random(rng.random()), counts)
                         for story in STORIES}
                replacing.run_until_killed_enough(killer, loads)
            os.posix_fadvise(mount.long_fd, 0, 0, os.POSIX_FADV_DONTNEED)
            check_content(mount.long_fd, bytes(mount.content), "the long-lived file")
        print(f"  {counts}")
        # All that had no name is closed: none of it may hold space, under this very server.
        wait_until(lambda: held_by_extents(mount) <= held - MIB, replacing.HANG_SECONDS,
                   "space of closed files without names comes back")
        check_equal(sorted(os.listdir(mount.mountpoint)), ["locked", "many"], "names at the end")
        mount.remount()
        directory_stream(mount, rng)
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 80

    def replace_open_files(bin_folder):
        open_files_under_kills(bin_folder, KILLS)

    cairn_mount.main(replace_open_files)
