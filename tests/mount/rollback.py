#!/usr/bin/env python3
"""Rollback: open files and mappings see the old content, what was overwritten is kept."""
import mmap
import multiprocessing
import os
import random
import sys
import threading

import snapshot_tools as tools
from cairn_mount import Mount, main, undo
from checks import check, check_equal, check_error, file_hash


def kept(mount, name):
    return [each for each in tools.names(mount) if each.startswith(f"{name}.before-")]


def a_group_goes_back_and_forth(bin_folder):
    rng = random.Random(4)
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount)
        tools.create(folder, "s")
        old = tools.hashes(folder)
        for name in old:
            tools.scribble(os.path.join(folder, name), rng)
        os.truncate(folder + "/boot.img", 1 << 20)
        os.truncate(folder + "/data.img", 6 << 20)
        new = tools.hashes(folder)
        document = tools.snapshot_json(mount, "rollback", mount.path(".snapshots/s"))
        check_equal(document["volumes"], 2, "volumes rolled back")
        tools.check_hashes(folder, old, "after the rollback")
        check_equal(kept(mount, "s"), [document["kept_name"]], "what was kept")
        tools.check_hashes(mount.path(".snapshots", document["kept_name"], "vm1"), new, "kept")
        mount.remount()
        tools.check_hashes(folder, old, "after a remount")
        # Forth again, to what was kept; and writing goes on.
        mount.cairn("snapshot", "rollback", tools.place(mount, document["kept_name"]))
        tools.check_hashes(folder, new, "forth again")
        tools.scribble(folder + "/data.img", rng)
        tools.check_hashes(mount.path(".snapshots/s/vm1"), old, "the snapshot")
        tools.check_hashes(mount.path(".snapshots", document["kept_name"], "vm1"), new, "kept")
        mount.down()
        mount.fsck()


def open_files_and_mappings_see_it(bin_folder):
    size = 2 << 20
    with Mount(bin_folder) as mount:
        path = mount.path("disk")
        with open(path, "wb") as file:
            file.write(b"a" * size)
        tools.create(path, "s")
        with open(path, "r+b", buffering=0) as file:
            file.write(b"b" * size)
            file.truncate(size + 8192)
        buffered, direct = os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY | os.O_DIRECT)
        aligned = mmap.mmap(-1, 4096)
        with mmap.mmap(buffered, size, prot=mmap.PROT_READ) as view:
            check(view[:] == b"b" * size, "the mapping before")
            check_equal(os.pread(buffered, 10, 0), b"b" * 10, "the open file before")
            tools.with_fd(mount.path(".snapshots", "s"), tools.call, "rollback")
            # At once: the answer came after the kernel's pages had gone.
            check_equal(os.fstat(buffered).st_size, size, "size")
            check(view[:] == b"a" * size, "the mapping afterwards")
            check(os.pread(buffered, size, 0) == b"a" * size, "the open file afterwards")
            os.preadv(direct, [aligned], 4096)
            check(aligned[:] == b"a" * 4096, "the O_DIRECT descriptor afterwards")
            os.pwrite(buffered, b"c" * 10, 100)
            check_equal(view[100:110], b"c" * 10, "a write afterwards, in the mapping")
        os.fsync(buffered)
        os.close(buffered)
        os.close(direct)
        mount.remount()
        with open(path, "rb") as file:
            check_equal(file.read(), b"a" * 100 + b"c" * 10 + b"a" * (size - 110), "at last")


def one_member_alone(bin_folder):
    rng = random.Random(6)
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount)
        tools.create(folder, "s")
        old = tools.hashes(folder)
        for name in old:
            tools.scribble(os.path.join(folder, name), rng)
        new = tools.hashes(folder)
        mount.cairn("snapshot", "rollback", mount.path(".snapshots/s/vm1/data.img"))
        tools.check_hashes(folder, {"boot.img": new["boot.img"], "data.img": old["data.img"]},
                           "one rolled back")


def removed_volumes_come_back(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount)
        tools.create(folder, "s")
        old = tools.hashes(folder)
        os.unlink(folder + "/data.img")
        check(not os.path.exists(folder + "/data.img"), "it is still there")
        mount.cairn("snapshot", "rollback", tools.place(mount, "s"))
        tools.check_hashes(folder, old, "after the rollback")


def keep_pages_dirty(path, size, dirty, go_on):
    """In a process of its own: one that starts programs writes its mappings' pages back by that.

    Fills the file through a mapping, tells `dirty`, waits for `go_on`. Exit code 0: by then the
    mapping shows what the rollback brought back.
    """
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), size) as view:
        view[:] = b"d" * size
        dirty.set()
        if not go_on.wait(60):
            sys.exit(2)
        code = 0 if view[:] == b"a" * size else 1
        os.fsync(file.fileno())
    sys.exit(code)


def dirty_pages_of_before_do_not_come_through(bin_folder):
    size = 1 << 20
    forked = multiprocessing.get_context("fork")
    with Mount(bin_folder) as mount:
        path = mount.path("disk")
        with open(path, "wb") as file:
            file.write(b"a" * size)
        tools.create(path, "s")
        dirty, go_on = forked.Event(), forked.Event()
        other = forked.Process(target=keep_pages_dirty, args=(path, size, dirty, go_on))
        other.start()
        with undo(other.kill):
            check(dirty.wait(60), "the pages are dirty")
            mount.cairn("snapshot", "rollback", tools.place(mount, "s"))
            with open(mount.path(".snapshots", kept(mount, "s")[0], "disk"), "rb") as before:
                check(before.read() == b"d" * size, "the pages are not in what was kept")
            go_on.set()
            other.join(60)
            check_equal(other.exitcode, 0, "the mapping shows what came back")
        with open(path, "rb") as file:
            check(file.read() == b"a" * size, "the pages were written over the rollback")


def beside_readers_and_writers(bin_folder):
    """Each whole block is from one side or the other, and nothing hangs."""
    size = 4 << 20
    with Mount(bin_folder) as mount:
        path = mount.path("disk")
        with open(path, "wb") as file:
            file.write(b"a" * size)
        tools.create(path, "s")
        stop = threading.Event()
        wrong = []

        def work(seed):
            rng = random.Random(seed)
            fd = os.open(path, os.O_RDWR)
            while not stop.is_set():
                place = rng.randrange(size // 4096) * 4096
                if seed % 2:
                    os.pwrite(fd, b"b" * 4096, place)
                else:
                    block = os.pread(fd, 4096, place)
                    if block not in (b"a" * 4096, b"b" * 4096):
                        wrong.append((place, block[:20]))
            os.close(fd)
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(15):
                tools.with_fd(mount.path(".snapshots", "s"), tools.call, "rollback")
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        check(not any(thread.is_alive() for thread in threads), "a thread hangs")
        check(not wrong, f"blocks of no side: {wrong[:3]}")
        tools.with_fd(mount.path(".snapshots", "s"), tools.call, "rollback")
        with open(path, "rb") as file:
            check(file.read() == b"a" * size, "at last")
        check_equal(file_hash(path), file_hash(mount.path(".snapshots/s/disk")), "at last")
        mount.down()
        mount.fsck()


def who_appends_finds_the_end(bin_folder):
    with Mount(bin_folder) as mount:
        path = mount.path("disk")
        for old, new in ((16384, 4096), (4096, 40960)):
            with open(path, "wb") as file:
                file.write(b"a" * old)
            tools.create(path, f"s{old}")
            fd = os.open(path, os.O_RDWR | os.O_APPEND)
            try:
                os.truncate(path, new)
                os.pread(fd, 10, 0)
                mount.cairn("snapshot", "rollback", mount.path(".snapshots", f"s{old}"))
                os.write(fd, b"end")
            finally:
                os.close(fd)
            with open(path, "rb") as file:
                check(file.read() == b"a" * old + b"end", f"{old}: appended elsewhere")


def beside_restarts(bin_folder):
    """A program sees no page of before, whichever server answers the rollback."""
    size = 256 << 10
    with Mount(bin_folder) as mount:
        path = mount.path("disk")
        with open(path, "wb") as file:
            file.write(b"a" * size)
        tools.create(path, "s")
        member = mount.path(".snapshots", "s", "disk")
        stop = threading.Event()
        wrong, done = [], []

        def work():
            fd = os.open(path, os.O_RDWR)
            try:
                while not stop.is_set():
                    os.pwrite(fd, b"b" * size, 0)
                    os.pread(fd, size, 0)
                    tools.with_fd(member, tools.call, "rollback")
                    found = os.pread(fd, size, 0)
                    done.append(1)
                    if found != b"a" * size:
                        wrong.append(found[:10])
            except OSError as error:
                wrong.append(error)
            finally:
                os.close(fd)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(25):
                mount.cairn("restart", mount.mountpoint)
        finally:
            stop.set()
            thread.join(120)
        check(not thread.is_alive(), "the rollbacks hang")
        check(not wrong and done, f"after {len(done)} rollbacks: {wrong[:3]}")
        for name in tools.names(mount):
            tools.delete(mount.path(".snapshots", name))


def refused(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        tools.create(folder, "s")
        check_error(("EINVAL", "ENOENT"), "of a volume that is in no snapshot", tools.with_fd,
                    folder + "/data.img", tools.call, "rollback")
        done = mount.cairn("snapshot", "rollback", folder, ok=False)
        check_equal(done.returncode, 1, "of what is no snapshot")
        check_equal(tools.names(mount), ["s"], "snapshots afterwards")


if __name__ == "__main__":
    main(a_group_goes_back_and_forth, open_files_and_mappings_see_it, one_member_alone,
         removed_volumes_come_back, dirty_pages_of_before_do_not_come_through,
         beside_readers_and_writers, who_appends_finds_the_end, beside_restarts, refused)
