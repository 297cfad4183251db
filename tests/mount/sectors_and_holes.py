#!/usr/bin/env python3
"""Sectors of one block written by many, the map of data and holes, copy_file_range."""
import errno
import mmap
import multiprocessing
import os
import random

from cairn_mount import Mount, main
from checks import check, check_equal, check_error

BLOCK = 4096
SECTOR = 512
CHUNK = 256 * 1024


def _sector_writer(path, slot, seed, rounds, blocks):
    """Writes sector `slot` of each block again and again; ends with the content of `seed`."""
    buffer = mmap.mmap(-1, SECTOR)  # Aligned, as O_DIRECT may want it.
    rng = random.Random(seed)
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    try:
        for number in range(rounds):
            order = list(range(blocks))
            rng.shuffle(order)
            for block in order:
                buffer[:] = sector_content(slot, block, number)
                os.pwritev(fd, [buffer], block * BLOCK + slot * SECTOR)
    finally:
        os.close(fd)


def sector_content(slot, block, number):
    return (b"%d/%d/%d;" % (slot, block, number)).ljust(16, b".") * (SECTOR // 16)


def sectors_of_one_block_written_by_several_processes(bin_folder):
    rounds, blocks = 40, 6
    with Mount(bin_folder) as mount:
        path = mount.path("disk")
        with open(path, "wb") as file:
            file.truncate(CHUNK)
        workers = [multiprocessing.Process(target=_sector_writer,
                                           args=(path, slot, slot, rounds, blocks))
                   for slot in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        check_equal([worker.exitcode for worker in workers], [0] * 8, "exit codes of the writers")
        for when in ("at once", "after a remount"):
            with open(path, "rb") as file:
                content = file.read()
            wrong = [(block, slot) for block in range(blocks) for slot in range(8)
                     if content[block * BLOCK + slot * SECTOR:][:SECTOR] !=
                     sector_content(slot, block, rounds - 1)]
            check(not wrong, f"{when}: lost (block, sector) {wrong[:8]}, {len(wrong)} in all")
            mount.remount()


def seek_map(fd, size):
    """The data ranges that SEEK_DATA and SEEK_HOLE tell."""
    ranges = []
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            check_equal(error.errno, errno.ENXIO, f"errno of SEEK_DATA at {at}")
            break
        end = os.lseek(fd, start, os.SEEK_HOLE)
        check(at <= start < end <= size, f"SEEK_DATA({at})={start}, SEEK_HOLE({start})={end}")
        ranges.append((start, end))
        at = end
    return ranges


def check_map(fd, content, blocks, what):
    """`blocks`: the block numbers that hold data. The map may tell more data, never less."""
    size = len(content)
    ranges = seek_map(fd, size)
    told = {block for start, end in ranges for block in range(start // BLOCK, -(-end // BLOCK))}
    missing = sorted(block for block in blocks if block not in told)
    check(not missing, f"{what}: data in blocks {missing[:5]} is told as hole")
    nonzero = {block for block in told
               if any(content[block * BLOCK:(block + 1) * BLOCK])}
    # A freshly touched chunk may be told as data whole, but no more than that.
    chunks = {block * BLOCK // CHUNK for block in blocks}
    stray = sorted(block for block in told - nonzero if block * BLOCK // CHUNK not in chunks)
    check(not stray, f"{what}: blocks {stray[:5]} are told as data in chunks that hold none")


def seek_data_and_hole_follow_a_model(bin_folder):
    seed = int(os.environ.get("CAIRN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"seed {seed}")
    rng = random.Random(seed)
    size = 40 * CHUNK + 1000
    with Mount(bin_folder) as mount:
        path = mount.path("disk")
        content = bytearray(size)
        blocks = set()
        with open(path, "wb") as file:
            file.truncate(size)
        for step in range(60):
            fd = os.open(path, os.O_RDWR)
            try:
                at = rng.randrange(size // BLOCK)
                count = rng.choice((1, 2, 63, 64, 65, 200))
                length = min(count * BLOCK, size - at * BLOCK)
                touched = range(at, at + -(-length // BLOCK))
                if rng.random() < 0.6:
                    data = rng.randbytes(length)
                    os.pwrite(fd, data, at * BLOCK)
                    blocks.update(touched)
                else:
                    data = bytes(length)
                    _punch(fd, at * BLOCK, length)
                    blocks.difference_update(touched)
                content[at * BLOCK:at * BLOCK + length] = data
                check_map(fd, content, blocks, f"seed {seed} step {step}")
            finally:
                os.close(fd)
            if step % 20 == 19:
                mount.remount()
        with open(path, "rb") as file:
            check(file.read() == content, f"seed {seed}: content differs from the model")
        fd = os.open(path, os.O_RDONLY)
        try:
            check_map(fd, content, blocks, "at the end")
            check_error("ENXIO", "SEEK_DATA at the end", os.lseek, fd, size, os.SEEK_DATA)
            check_error("ENXIO", "SEEK_HOLE at the end", os.lseek, fd, size, os.SEEK_HOLE)
            check_equal(os.lseek(fd, size - 1, os.SEEK_HOLE), size if size // BLOCK in blocks
                        else size - 1, "SEEK_HOLE in the last block")
        finally:
            os.close(fd)


def _punch(fd, offset, length):
    import ctypes  # pylint: disable=import-outside-toplevel
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, 3, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def st_blocks_tells_what_is_held(bin_folder):
    with Mount(bin_folder) as mount:
        path = mount.path("disk")
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        try:
            os.ftruncate(fd, 1 << 30)
            check_equal(os.fstat(fd).st_blocks, 0, "st_blocks of a sparse file")
            for number in range(100):
                os.pwrite(fd, b"x" * BLOCK, number * 10 * CHUNK // 2)
            os.fsync(fd)
            held = os.fstat(fd).st_blocks * 512
            check(100 * BLOCK <= held <= 200 * BLOCK, f"100 blocks hold {held} bytes")
            for number in range(100):  # Overwriting holds no more.
                os.pwrite(fd, b"y" * BLOCK, number * 10 * CHUNK // 2)
            os.fsync(fd)
            check_equal(os.fstat(fd).st_blocks * 512, held, "bytes held after overwriting")
            _punch(fd, 0, 1 << 30)
            check_equal(os.fstat(fd).st_blocks, 0, "st_blocks after punching everything")
        finally:
            os.close(fd)


def copy_file_range_copies(bin_folder):
    rng = random.Random(21)
    size = 3 * CHUNK + 777
    with Mount(bin_folder) as mount:
        source_content = rng.randbytes(2 * CHUNK) + bytes(CHUNK) + rng.randbytes(777)
        with open(mount.path("source"), "wb") as file:
            file.write(source_content)
        source = os.open(mount.path("source"), os.O_RDWR)
        target = os.open(mount.path("target"), os.O_RDWR | os.O_CREAT)
        try:
            wanted = bytearray(rng.randbytes(size))
            os.pwrite(target, wanted, 0)
            cases = [(0, 0, CHUNK), (BLOCK, 2 * BLOCK, CHUNK), (100, 100, 5000), (1, 4095, 70000),
                     (CHUNK - 1, 3, CHUNK + 2), (size - 777, size, 777), (0, 0, size),
                     (size - 10, size + BLOCK, BLOCK)]
            for at, to, length in cases:
                copied = _copy_all(source, target, length, at, to)
                data = source_content[at:at + length]
                check_equal(copied, len(data), f"bytes copied for {at, to, length}")
                wanted.extend(bytes(max(0, to + len(data) - len(wanted))))
                wanted[to:to + len(data)] = data
                found = os.pread(target, len(wanted) + 10, 0)
                check(found == wanted, f"content after copy_file_range {at, to, length}")
            check_equal(os.copy_file_range(source, target, 100, size, 0), 0, "at the source's end")
            check_equal(os.copy_file_range(source, target, 100, size + BLOCK, 0), 0,
                        "beyond the source's end")
            check_error("EINVAL", "overlapping ranges of one file", os.copy_file_range, source,
                        source, 2 * BLOCK, 0, BLOCK)
            copied = _copy_all(source, source, BLOCK, 0, 2 * BLOCK)
            check_equal(copied, BLOCK, "bytes copied within one file")
            expected = source_content[:2 * BLOCK] + source_content[:BLOCK]
            check(os.pread(source, 3 * BLOCK, 0) == expected, "a copy within one file")
            read_only = os.open(mount.path("target"), os.O_RDONLY)
            try:
                check_error("EBADF", "a target that is open for reading", os.copy_file_range,
                            source, read_only, BLOCK, 0, 0)
            finally:
                os.close(read_only)
        finally:
            os.close(source)
            os.close(target)
        mount.remount()
        with open(mount.path("target"), "rb") as file:
            check(file.read() == wanted, "target after a remount")


def _copy_all(source, target, length, at, to):
    """copy_file_range may copy less than it is asked for."""
    done = 0
    while done < length:
        step = os.copy_file_range(source, target, length - done, at + done, to + done)
        if step == 0:
            break
        done += step
    return done


def copy_file_range_sees_dirty_pages(bin_folder):
    """What was written or mapped just before the call is part of the copy, also in the target."""
    with Mount(bin_folder) as mount:
        with open(mount.path("source"), "w+b") as source, \
                open(mount.path("target"), "w+b") as target:
            source.write(b"a" * CHUNK)
            source.flush()
            target.write(b"b" * CHUNK)
            target.flush()
            with mmap.mmap(source.fileno(), CHUNK) as view:
                view[BLOCK:BLOCK + 6] = b"mapped"
                with mmap.mmap(target.fileno(), CHUNK) as other:
                    check_equal(other[BLOCK:BLOCK + 6], b"bbbbbb", "target before the copy")
                    _copy_all(source.fileno(), target.fileno(), CHUNK, 0, 0)
                    check_equal(other[BLOCK:BLOCK + 6], b"mapped", "target's mapping")
            check_equal(os.pread(target.fileno(), 6, BLOCK), b"mapped", "target read after copying")


if __name__ == "__main__":
    main(sectors_of_one_block_written_by_several_processes, seek_data_and_hole_follow_a_model,
         st_blocks_tells_what_is_held, copy_file_range_copies, copy_file_range_sees_dirty_pages)
