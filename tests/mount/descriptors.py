#!/usr/bin/env python3
"""Many volumes with many snapshots under a low limit on descriptors, and a server that is killed:
no program notices that there are far more files than can be open."""
import mmap
import os
import resource
import signal

import replacing
import snapshot_tools as tools
from cairn_mount import Mount, main
from checks import check, wait_until

LIMIT = 600
VOLUMES = 100
ROUNDS = 20  # Each leaves a file of each volume: more than three times the limit.
BLOCK = 4096


def content(volume, number):
    return b"%08d %08d " % (volume, number) * (BLOCK // 18) + b"=" * (BLOCK % 18)


def write_all(fds, number):
    page = mmap.mmap(-1, BLOCK)
    for volume, fd in enumerate(fds):
        page[:] = content(volume, number)
        os.pwritev(fd, [page], 0)
        # Where no later round writes: read from that round's file for good.
        os.pwritev(fd, [page], (1 + number) * BLOCK)
        os.fsync(fd)


def check_volume(path, volume, newest):
    with open(path, "rb", buffering=0) as file:
        check(file.read(BLOCK) == content(volume, newest), f"{path}: first block")
        for number in range(newest + 1):
            check(file.read(BLOCK) == content(volume, number), f"{path}: block of round {number}")


def check_all(mount, names):
    for volume, name in enumerate(names):
        check_volume(mount.path("vm", name), volume, ROUNDS)
        for number in (0, ROUNDS // 2, ROUNDS - 1):
            check_volume(mount.path(".snapshots", f"s{number}", "vm", name), volume, number)


def more_files_than_descriptors(bin_folder):
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    names = [f"disk{volume:03d}" for volume in range(VOLUMES)]
    with Mount(bin_folder) as mount:
        folder = mount.path("vm")
        os.mkdir(folder)
        fds = [os.open(os.path.join(folder, name), os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
               for name in names]
        for number in range(ROUNDS):
            write_all(fds, number)
            tools.create(folder, f"s{number}")
            if number % 8 == 7:
                server = replacing.servers(mount.parent_pid())[0]
                os.kill(server, signal.SIGKILL)
                wait_until(lambda s=server: s not in replacing.servers(mount.parent_pid()),
                           replacing.HANG_SECONDS, "the server dies")
        write_all(fds, ROUNDS)
        check_all(mount, names)
        for fd in fds:
            os.close(fd)
        mount.remount()
        check_all(mount, names)
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    main(more_files_than_descriptors)
