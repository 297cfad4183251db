#!/usr/bin/env python3
"""What the system calls promise about a volume and its name, and what a mount refuses."""
import contextlib
import ctypes
import errno
import os
import random
import stat

from cairn_mount import Mount, main
from checks import check, check_equal, check_error, wait_until

BLOCK = 4096
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(source, target, flags):
    if _libc.renameat2(AT_FDCWD, source.encode(), AT_FDCWD, target.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def write_file(path, content):
    with open(path, "wb") as file:
        file.write(content)


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def attributes_survive_a_remount(bin_folder):
    def facts(path):
        found = os.stat(path)
        return (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_atime_ns,
                found.st_mtime_ns, found.st_size, found.st_ino)
    with Mount(bin_folder) as mount:
        os.makedirs(mount.path("vm1", "nested", "deep"))
        for number, name in enumerate(("vm1/a", "vm1/nested/b", "vm1/nested/deep/c")):
            write_file(mount.path(name), b"x" * (number * 5000 + 1))
            os.chmod(mount.path(name), 0o640 + number)
            os.chown(mount.path(name), 1000 + number, 2000 + number)
            os.utime(mount.path(name), ns=(1_500_000_000_123_456_789 + number,
                                           1_600_000_000_987_654_321 + number))
        os.chmod(mount.path("vm1", "nested"), 0o2751)
        names = ["vm1", "vm1/nested", "vm1/nested/deep", "vm1/a", "vm1/nested/b",
                 "vm1/nested/deep/c"]
        wanted = {name: facts(mount.path(name)) for name in names}
        mode, uid, gid, atime, mtime, size, _ = wanted["vm1/nested/b"]
        check_equal((mode, uid, gid, atime, mtime, size),
                    (0o641, 1001, 2001, 1_500_000_000_123_456_790, 1_600_000_000_987_654_322,
                     5001), "attributes as they were set")
        check_equal(len({each[6] for each in wanted.values()}), len(names), "inode numbers differ")
        mount.remount()
        for name in names:
            found = list(facts(mount.path(name)))
            if os.path.isdir(mount.path(name)):
                found[3] = wanted[name][3]  # Walking here may have read the directory.
            check_equal(tuple(found), wanted[name], f"attributes of {name} after a remount")
        before = os.stat(mount.path("vm1/a"))
        with open(mount.path("vm1/a"), "r+b") as file:
            file.write(b"y")
        check(os.stat(mount.path("vm1/a")).st_mtime_ns > before.st_mtime_ns, "a write left mtime")


def only_files_and_directories(bin_folder):
    with Mount(bin_folder) as mount:
        write_file(mount.path("disk"), b"x")
        refused = ("EPERM", "EOPNOTSUPP")
        check_error(refused, "hard link", os.link, mount.path("disk"), mount.path("hard"))
        check_error(refused, "symlink", os.symlink, "disk", mount.path("soft"))
        check_error(refused, "mkfifo", os.mkfifo, mount.path("fifo"))
        check_error(refused, "mknod of a device", os.mknod, mount.path("device"),
                    stat.S_IFBLK | 0o600, os.makedev(7, 0))
        check_equal(os.listdir(mount.mountpoint), ["disk"], "names after the refusals")
        check_equal(os.stat(mount.path("disk")).st_nlink, 1, "link count")


def rename_flags(bin_folder):
    with Mount(bin_folder) as mount:
        one, two, three = (mount.path(name) for name in ("one", "two", "three"))
        write_file(one, b"1")
        write_file(two, b"2")
        os.mkdir(three)
        check_error("EEXIST", "RENAME_NOREPLACE over a file", renameat2, one, two,
                    RENAME_NOREPLACE)
        check_equal((read_file(one), read_file(two)), (b"1", b"2"), "after a refused rename")
        renameat2(one, mount.path("free"), RENAME_NOREPLACE)
        renameat2(mount.path("free"), one, RENAME_NOREPLACE)
        renameat2(one, two, RENAME_EXCHANGE)
        check_equal((read_file(one), read_file(two)), (b"2", b"1"), "after an exchange")
        write_file(os.path.join(three, "inner"), b"3")
        renameat2(one, three, RENAME_EXCHANGE)
        check_equal((read_file(three), read_file(os.path.join(one, "inner"))), (b"2", b"3"),
                    "after an exchange of a file and a directory")
        check_error("ENOENT", "an exchange with nothing", renameat2, one, mount.path("absent"),
                    RENAME_EXCHANGE)
        mount.remount()
        check_equal((read_file(two), read_file(three), read_file(os.path.join(one, "inner"))),
                    (b"1", b"2", b"3"), "after a remount")


def unlinked_and_replaced_files_live_while_open(bin_folder):
    with Mount(bin_folder) as mount:
        for how in ("unlink", "rename over"):
            path = mount.path("disk")
            write_file(path, b"old" * 5000)
            fd = os.open(path, os.O_RDWR)
            try:
                if how == "unlink":
                    os.unlink(path)
                    check(not os.path.exists(path), "the name is still there after unlink")
                else:
                    write_file(mount.path("other"), b"new")
                    os.rename(mount.path("other"), path)
                check_equal(os.pread(fd, 15000, 0), b"old" * 5000, f"{how}: old content")
                os.pwrite(fd, b"written later", 1 << 20)
                os.fsync(fd)
                check_equal(os.pread(fd, 13, 1 << 20), b"written later", f"{how}: new content")
                os.ftruncate(fd, 100)
                check_equal(os.fstat(fd).st_size, 100, f"{how}: size through the descriptor")
                if how == "rename over":
                    check_equal(read_file(path), b"new", "content under the name")
            finally:
                os.close(fd)
        mount.remount()
        check_equal(os.listdir(mount.mountpoint), ["disk"], "names after a remount")
        held = os.stat(mount.path("disk")).st_blocks
        check(held <= 8, f"the replacing file of 3 bytes holds {held} sectors")
        mount.down()
        mount.fsck()


def space_of_an_unlinked_open_file_comes_back_after_a_kill(bin_folder):
    with Mount(bin_folder) as mount:
        empty = mount.held_by_store()
        write_file(mount.path("disk"), os.urandom(16 << 20))
        fd = os.open(mount.path("disk"), os.O_RDWR)
        os.fsync(fd)
        os.unlink(mount.path("disk"))
        root = os.open(mount.mountpoint, os.O_RDONLY)
        os.fsync(root)
        os.close(root)
        mount.kill()
        with contextlib.suppress(OSError):  # The flush at close finds the server dead.
            os.close(fd)
        mount.up()
        wait_until(lambda: mount.held_by_store() - empty < 8 << 20, 120,
                   "the store gives back the 16 MiB of a file that has gone")
        mount.down()
        mount.fsck()


def readdir_while_deleting(bin_folder):
    with Mount(bin_folder) as mount:
        names = {f"volume-{number:05d}.img" for number in range(2000)}
        folder = mount.path("many")
        os.mkdir(folder)
        for name in names:
            os.close(os.open(os.path.join(folder, name), os.O_CREAT | os.O_WRONLY))
        check_equal(set(os.listdir(folder)), names, "all names")
        seen = []
        gone = set()
        victims = random.Random(1).sample(sorted(names), 1000)
        with os.scandir(folder) as entries:
            for entry in entries:
                seen.append(entry.name)
                for _ in range(2):
                    if victims:
                        gone.add(victims[-1])
                        os.unlink(os.path.join(folder, victims.pop()))
        missed = (names - gone) - set(seen)
        check(not missed, f"{len(missed)} names never listed, such as {sorted(missed)[:3]}")
        check_equal(len(seen), len(set(seen)), "names listed twice")
        check_equal(set(os.listdir(folder)), names - gone, "names that are left")
        check_error("ENOTEMPTY", "rmdir of a full directory", os.rmdir, folder)
        mount.remount()
        check_equal(set(os.listdir(folder)), names - gone, "names after a remount")
        for name in names - gone:
            os.unlink(os.path.join(folder, name))
        os.rmdir(folder)


def names_and_statfs(bin_folder):
    with Mount(bin_folder) as mount:
        for name in ("a" * 255, "ü" * 127, "with space\nand newline", "-rf", "\udcff\udcfe"):
            write_file(mount.path(name), name.encode(errors="surrogateescape"))
        check_error("ENAMETOOLONG", "a name of 256 bytes", write_file, mount.path("b" * 256), b"")
        check_error("ENAMETOOLONG", "mkdir with 256 bytes", os.mkdir, mount.path("b" * 256))
        mount.remount()
        for name in os.listdir(mount.mountpoint):
            check_equal(read_file(mount.path(name)), os.fsencode(name), f"content of {name[:20]!r}")
        check_equal(len(os.listdir(mount.mountpoint)), 5, "names after a remount")
        found = os.statvfs(mount.mountpoint)
        below = os.statvfs(mount.store)
        check_equal(found.f_namemax, 255, "f_namemax")
        size, wanted = found.f_blocks * found.f_frsize, below.f_blocks * below.f_frsize
        check(0 < size <= wanted, f"statfs size {size}, the host's is {wanted}")
        free = found.f_bavail * found.f_frsize
        check(0 < free <= size, f"statfs says {free} bytes free of {size}")


def volume_of_64_tib(bin_folder):
    end = 2**46
    with Mount(bin_folder) as mount:
        fd = os.open(mount.path("big"), os.O_RDWR | os.O_CREAT)
        try:
            os.ftruncate(fd, end)
            os.pwrite(fd, b"last" * 1024, end - BLOCK)
            os.pwrite(fd, b"head" * 1024, 0)
            os.pwrite(fd, b"middle", end // 2 + 1000)
            os.fsync(fd)
            check_error("EFBIG", "a write beyond 64 TiB", os.pwrite, fd, b"x", end)
            check_error("EFBIG", "a size beyond 64 TiB", os.ftruncate, fd, end + 1)
        finally:
            os.close(fd)
        mount.remount()
        fd = os.open(mount.path("big"), os.O_RDWR)
        try:
            check_equal(os.fstat(fd).st_size, end, "size")
            held = os.fstat(fd).st_blocks * 512
            check(3 * BLOCK <= held <= 2**20, f"three blocks hold {held} bytes")
            check_equal(os.pread(fd, BLOCK, end - BLOCK), b"last" * 1024, "last block")
            check_equal(os.pread(fd, BLOCK, 0), b"head" * 1024, "first block")
            check_equal(os.pread(fd, 6, end // 2 + 1000), b"middle", "middle")
            check_equal(os.pread(fd, BLOCK, end // 4), bytes(BLOCK), "a hole")
            check_equal(os.lseek(fd, BLOCK, os.SEEK_DATA), end // 2, "SEEK_DATA to the middle")
            check_equal(os.lseek(fd, end // 2 + BLOCK, os.SEEK_DATA), end - BLOCK,
                        "SEEK_DATA to the end")
            os.ftruncate(fd, BLOCK)
            os.ftruncate(fd, end)
            check_equal(os.pread(fd, BLOCK, end - BLOCK), bytes(BLOCK), "cut off and grown")
        finally:
            os.close(fd)


def opens_and_errors(bin_folder):
    with Mount(bin_folder) as mount:
        write_file(mount.path("disk"), b"0123456789")
        check_error("ENOENT", "open of nothing", os.open, mount.path("absent"), os.O_RDONLY)
        check_error("EEXIST", "O_EXCL", os.open, mount.path("disk"), os.O_CREAT | os.O_EXCL)
        check_error("ENOTDIR", "a name below a file", os.open, mount.path("disk", "x"), os.O_RDONLY)
        check_error("EISDIR", "unlink of a directory", os.unlink, _directory(mount.path("d")))
        check_error("ENOTDIR", "rmdir of a file", os.rmdir, mount.path("disk"))
        with open(mount.path("disk"), "ab") as file:
            file.write(b"appended")
        with open(mount.path("disk"), "ab") as file:
            file.write(b"-twice")
        check_equal(read_file(mount.path("disk")), b"0123456789appended-twice", "O_APPEND")
        os.close(os.open(mount.path("disk"), os.O_WRONLY | os.O_TRUNC))
        check_equal(os.stat(mount.path("disk")).st_size, 0, "size after O_TRUNC")
        fd = os.open(mount.path("disk"), os.O_RDWR)
        try:
            check_error(("ENOTTY", "EINVAL"), "an unknown ioctl", _ioctl, fd)
        finally:
            os.close(fd)


def _directory(path):
    os.mkdir(path)
    return path


def _ioctl(fd):
    buffer = ctypes.create_string_buffer(8)
    request = (2 << 30) | (8 << 16) | (ord("?") << 8) | 199
    if _libc.ioctl(fd, ctypes.c_ulong(request), buffer) != 0:
        raise OSError(ctypes.get_errno(), errno.errorcode.get(ctypes.get_errno(), ""))


if __name__ == "__main__":
    main(attributes_survive_a_remount, only_files_and_directories, rename_flags,
         unlinked_and_replaced_files_live_while_open,
         space_of_an_unlinked_open_file_comes_back_after_a_kill, readdir_while_deleting,
         names_and_statfs, volume_of_64_tib, opens_and_errors)
