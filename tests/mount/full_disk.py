#!/usr/bin/env python3
"""A store on a small filesystem is filled: ENOSPC, nothing acknowledged lost, service goes on."""
import contextlib
import errno
import mmap
import os
import random
import struct
import threading
import time

from cairn_mount import Mount, loop_device, main, mounted, scratch_folder
from checks import check, check_error, error_of, run, wait_until

BLOCK = 4096
MIB = 1 << 20
VOLUME_BLOCKS = 64 * 1024  # 256 MiB of address space for each writer
FILLER_MIB = 24


def content_of(writer, block, number):
    return struct.pack("<QQQ", writer, block, number).ljust(64, b"\xc3") * (BLOCK // 64)


class Writer:
    """Remembers for each block what must be there and what may be there."""

    def __init__(self, path, index, direct, seed, start):
        self.path, self.index, self.direct, self.start = path, index, direct, start
        self.rng = random.Random(seed)
        self.acknowledged = {}  # block -> number
        self.pending = {}  # block -> number: written, but no fsync promised it yet
        self.possible = {}  # block -> later numbers that may show: pending or failed ones
        self.number = 0
        self.failure = None
        self.full = False

    def open(self):
        return os.open(self.path, os.O_RDWR | (os.O_DIRECT if self.direct else 0))

    def write(self, fd, first, count):
        """Writes `count` blocks; raises OSError. A direct write is acknowledged when it returns."""
        self.number += 1
        buffer = mmap.mmap(-1, count * BLOCK)
        blocks = range(first, first + count)
        for place, block in enumerate(blocks):
            buffer[place * BLOCK:(place + 1) * BLOCK] = content_of(self.index, block, self.number)
            self.possible.setdefault(block, set()).add(self.number)
        done = os.pwritev(fd, [buffer], first * BLOCK) // BLOCK
        self.pending.update(dict.fromkeys(blocks[:done], self.number))
        if self.direct:
            self.acknowledge()

    def acknowledge(self):
        """What is pending is promised from now on; a write that failed later may show instead."""
        for block, number in self.pending.items():
            self.acknowledged[block] = number
            self.possible[block] = {each for each in self.possible[block] if each > number}
        self.pending.clear()

    def fill(self):
        """Writes until the store is full; then knows what it was promised."""
        try:
            fd = self.open()
            try:
                # However slow the disk is beside the others: something to look at when it is full.
                self.write(fd, 0, 200)
                os.fsync(fd)
                self.acknowledge()
                self.start.wait()
                for step in range(100000):
                    count = self.rng.choice((1, 1, 2, 16, 64))
                    self.write(fd, self.rng.randrange(VOLUME_BLOCKS - count), count)
                    if not self.direct and step % 8 == 7:
                        os.fsync(fd)
                        self.acknowledge()
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                self.full = True
            finally:
                os.close(fd)
        except OSError as error:
            self.failure = error

    def overwrite(self, count):
        """New content for blocks that are held already: needs no space, so it must succeed."""
        fd = self.open()
        try:
            for block in self.rng.sample(sorted(self.acknowledged), count):
                self.write(fd, block, 1)
            os.fsync(fd)
            self.acknowledge()
        finally:
            os.close(fd)

    def verify(self, when):
        fd = os.open(self.path, os.O_RDONLY)
        try:
            for block, number in self.acknowledged.items():
                found = os.pread(fd, BLOCK, block * BLOCK)
                may_be = {number} | self.possible.get(block, set())
                if not any(found == content_of(self.index, block, each) for each in may_be):
                    check(False, f"{when}: writer {self.index} ({'direct' if self.direct else ''}) "
                          f"block {block}: acknowledged {number}, possible {sorted(may_be)}, found "
                          f"{struct.unpack('<QQQ', found[:24]) if found else 'nothing'}")
        finally:
            os.close(fd)


def write_filler(path, mib=FILLER_MIB):
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
        file.flush()
        os.fsync(file.fileno())


def write_again(writers, seconds):
    """After space was made, first touches succeed again, perhaps a moment later."""
    for writer in writers:
        end = time.monotonic() + seconds
        fd = writer.open()
        try:
            done = 0
            while done < 64:
                try:
                    writer.write(fd, writer.rng.randrange(VOLUME_BLOCKS), 1)
                    done += 1
                except OSError as error:
                    check(error.errno == errno.ENOSPC, f"a write after space was made: {error}")
                    check(time.monotonic() < end, f"writer {writer.index}: still ENOSPC {seconds} s"
                          " after the filler went")
                    time.sleep(0.1)
            os.fsync(fd)
            writer.acknowledge()
        finally:
            os.close(fd)


@contextlib.contextmanager
def small_filesystem(make, image_mib):
    with scratch_folder() as scratch:
        image = os.path.join(scratch, "image")
        run("truncate", "-s", f"{image_mib}M", image)
        run(*make, image)
        with loop_device(image) as device, \
                mounted(device, os.path.join(scratch, "small")) as folder:
            yield folder


def fill_and_go_on(bin_folder, make, image_mib, filler_mib=FILLER_MIB):
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(small_filesystem(make, image_mib))
        mount = stack.enter_context(Mount(bin_folder, base=base))
        writers = []
        start = threading.Barrier(4, timeout=300)
        for index in range(4):
            path = mount.path(f"disk{index}")
            with open(path, "wb") as file:
                file.truncate(VOLUME_BLOCKS * BLOCK)
            writers.append(Writer(path, index, index % 2 == 0, index, start))
        write_filler(mount.path("filler"), filler_mib)
        threads = [threading.Thread(target=writer.fill) for writer in writers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            check(writer.failure is None and writer.full,
                  f"writer {writer.index}: no ENOSPC but {writer.failure}")

        for writer in writers:
            writer.verify("when full")
            writer.overwrite(50)
            writer.verify("overwritten when full")
        check_error("ENOSPC", f"{FILLER_MIB} MiB more when full", write_filler, mount.path("more"))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mount.path("more"))
        os.unlink(mount.path("filler"))
        write_again(writers, 60)
        for writer in writers:
            writer.verify("after space was made")
        mount.down()
        mount.fsck()
        mount.up()
        for writer in writers:
            writer.verify("after a remount")
        mount.down()
        mount.fsck()
        mount.close()


def use_up(mount):
    """Takes all space, the index's reserve among it: new blocks and new names get ENOSPC."""
    check_error("ENOSPC", "512 MiB of a filler", write_filler, mount.path("filler"), 512)

    def make_names():
        for number in range(20000):
            os.close(os.open(mount.path(f"name{number}"), os.O_CREAT | os.O_WRONLY))
    check_error("ENOSPC", "names on a full disk", make_names)


def write_at(path, offset, data):
    """All of it, and to the disk."""
    fd = os.open(path, os.O_WRONLY)
    try:
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, offset)
            view, offset = view[done:], offset + done
        os.fsync(fd)
    finally:
        os.close(fd)


def write_what_was_reserved(mount):
    """fallocate promises that writes to its range do not fail for lack of space."""
    reserved = mount.path("reserved")
    begin, length = 8 * MIB + BLOCK, 32 * MIB
    fd = os.open(reserved, os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 64 * MIB)
    os.pwrite(fd, b"a" * BLOCK, MIB)
    os.posix_fallocate(fd, begin, length)
    os.fsync(fd)
    os.close(fd)
    use_up(mount)
    content = os.urandom(length)
    for step in range(0, length, MIB):
        write_at(reserved, begin + step, content[step:step + MIB])
    # Beside it, and in a chunk that is the volume's, but a hole.
    for offset in (begin + length + MIB, MIB + 4 * BLOCK):
        check_error("ENOSPC", f"a new block at {offset}", write_at, reserved, offset, b"b" * BLOCK)
    mount.down()
    mount.fsck()
    mount.up()
    with open(reserved, "rb") as file:
        file.seek(begin)
        check(file.read(length) == content, "what was written to the reserved range")
        check(not any(file.read(2 * MIB)), "zeros behind the reserved range")
    mount.down()
    mount.fsck()
    mount.close()


def too_much_reserved(bin_folder):
    """fallocate of more than there is fails at once: it neither takes space nor grows the file."""
    with small_filesystem(("mkfs.ext4", "-q", "-F"), 200) as base, \
            Mount(bin_folder, base=base) as mount:
        fd = os.open(mount.path("disk"), os.O_CREAT | os.O_RDWR)
        os.pwrite(fd, b"a" * BLOCK, 0)
        os.fsync(fd)
        held = mount.held_by_store("extents")
        for length in (400 * MIB, 1 << 40):
            check_error("ENOSPC", f"fallocate of {length}", os.posix_fallocate, fd, 0, length)
            check(os.stat(mount.path("disk")).st_size == BLOCK, "the size after fallocate failed")
        taken = mount.held_by_store("extents") - held
        check(taken < 4 * MIB, f"fallocate failed and took {taken} bytes")
        os.posix_fallocate(fd, 0, 32 * MIB)
        os.close(fd)
        write_filler(mount.path("more"))
        mount.remount()
        check(os.stat(mount.path("disk")).st_size == 32 * MIB, "the size after fallocate")
        mount.down()
        mount.fsck()
        mount.close()


def reserved_on_ext4(bin_folder):
    with small_filesystem(("mkfs.ext4", "-q", "-F"), 200) as base, \
            Mount(bin_folder, base=base) as mount:
        write_what_was_reserved(mount)


def reserved_on_xfs(bin_folder):
    with small_filesystem(("mkfs.xfs", "-q", "-f"), 320) as base, \
            Mount(bin_folder, base=base) as mount:
        write_what_was_reserved(mount)


def reserved_on_tmpfs(bin_folder):
    with scratch_folder() as scratch, \
            mounted("none", os.path.join(scratch, "small"), "-t", "tmpfs", "-o", "size=200M") \
            as base, Mount(bin_folder, base=base) as mount:
        write_what_was_reserved(mount)


def attributes_until_full(path, rng, values):
    """Sets large attributes in no order, many of them again and again, until there is no space."""
    try:
        for _ in range(20000):
            key = (rng.randrange(100), rng.randrange(40))
            value = rng.randbytes(rng.randrange(10_000, 60_000))
            name = f"{path}{key[0]}"
            if key[1] == 0 or not os.path.exists(name):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
            os.setxattr(name, f"user.a{key[1]}", value)
            values[key] = value
    except OSError as error:
        check(error.errno == errno.ENOSPC, f"attributes until the disk is full: {error}")
        return
    check(False, "20000 large attributes fit")


def check_attributes(path, values, when):
    for (file, name), value in values.items():
        found = os.getxattr(f"{path}{file}", f"user.a{name}")
        check(found == value, f"{when}: attribute {name} of {path}{file}")


def change_when_full(mount, rng, values, written, block):
    """Overwrites a block and takes attributes away. False when the index took no change: one that
    a compaction without room held back for seconds ends them until it is opened again."""
    content = rng.randbytes(BLOCK)
    try:
        write_at(mount.path("disk"), block * BLOCK, content)
        written[block] = content
        for key in rng.sample(sorted(values), 20):
            del values[key]
            os.removexattr(mount.path(f"f{key[0]}"), f"user.a{key[1]}")
    except OSError as error:
        check(error.errno == errno.ENOSPC and "no room to compact" in mount.read_log(),
              f"a change on a full disk: {error}")
        return False
    return True


def full_of_index(bin_folder):
    """The index itself takes most of the disk: its compactions find no room. It is killed, opened
    again as full as it was, and goes on when there is room."""
    with small_filesystem(("mkfs.ext4", "-q", "-F"), 200) as base, \
            Mount(bin_folder, base=base) as mount:
        rng = random.Random(4)
        values = {}
        write_filler(mount.path("filler"), 2 * FILLER_MIB)
        write_filler(mount.path("disk"), 1)
        written = {}
        changed = 0
        for number in range(8):
            attributes_until_full(mount.path("f"), rng, values)
            changed += change_when_full(mount, rng, values, written, number)
            mount.kill()
            mount.up()
            check_attributes(mount.path("f"), values, f"killed on a full disk, {number + 1} times")
            with open(mount.path("disk"), "rb") as file:
                for place, content in written.items():
                    file.seek(place * BLOCK)
                    check(file.read(BLOCK) == content, f"what was fsynced: block {place}")
        check(changed > 0, "eight times of eight a change on a full disk was held back for too long")
        os.unlink(mount.path("filler"))

        def can_write():
            try:
                write_at(mount.path("new"), 0, content)
            except OSError as error:
                check(error.errno == errno.ENOSPC, f"a write after space was made: {error}")
                return False
            return True
        wait_until(lambda: error_of(os.mknod, mount.path("new")) is None, 60, "a name fits")
        wait_until(can_write, 60, "a new block fits after the filler went")
        check_attributes(mount.path("f"), values, "after space was made")
        mount.down()
        mount.fsck()
        mount.close()


def on_tmpfs_without_a_limit(bin_folder):
    """statvfs tells of no space at all there."""
    with scratch_folder() as scratch, \
            mounted("none", os.path.join(scratch, "large"), "-t", "tmpfs", "-o", "size=0") \
            as base, Mount(bin_folder, base=base) as mount:
        for _ in range(2):
            write_filler(mount.path("filler"), 1)
            mount.remount()
        mount.down()
        mount.fsck()
        mount.close()


def on_ext4(bin_folder):
    fill_and_go_on(bin_folder, ("mkfs.ext4", "-q", "-F"), 200)


def on_ext4_with_blocks_for_root(bin_folder):
    """A server of root's may take them, too, and statvfs tells of none that are free meanwhile."""
    fill_and_go_on(bin_folder, ("mkfs.ext4", "-q", "-F", "-m", "40"), 200, 2 * FILLER_MIB)


def on_xfs(bin_folder):
    fill_and_go_on(bin_folder, ("mkfs.xfs", "-q", "-f"), 320)


if __name__ == "__main__":
    main(on_ext4, on_ext4_with_blocks_for_root, on_xfs, full_of_index, reserved_on_ext4,
         reserved_on_xfs, reserved_on_tmpfs, on_tmpfs_without_a_limit, too_much_reserved)
