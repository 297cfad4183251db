#!/usr/bin/env python3
"""A QEMU guest writes with verification to disks that are volumes, under kill -9 of the server.

argv: BIN [KILLS] (default 30). The guest is a Debian kernel with one program, qemu_guest.c, run by
QEMU's own interpreter, since KVM is not there everywhere. One disk is driven by Linux AIO, the
other by io_uring, both without the host's page cache.
"""
import os
import struct
import sys
import time

import cairn_mount
import qemu_machine
import replacing
from checks import Failure, check, run

HERE = os.path.dirname(os.path.abspath(__file__))
BLOCK = 4096
DISK_MIB = 64


def build_init(path):
    """The entry of the guest's one program in its initramfs."""
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", os.path.join(HERE, "qemu_guest.c"),
        "-o", path)
    with open(path, "rb") as file:
        return qemu_machine.program("init", file.read())


class WorkingGuest(qemu_machine.Guest):
    """Tells a load of its progress."""

    load = None
    _moved = None

    def heard(self, line):
        if line.startswith("moved ") and line != self._moved and self.load is not None:
            self._moved = line
            self.load.moved()

    def work(self, load):
        """The guest works by itself: ask it to stop, and wait until it has verified all."""
        self.load = load
        while not load.stop_wanted.wait(0.1):
            self.check_runs()
        self.tell("stop")
        self.check_ended_well()


def verify(path, first, blocks, last):
    with open(path, "rb") as file:
        file.seek(first * BLOCK)
        for block in range(first, first + blocks):
            if file.read(BLOCK) != struct.pack("<QQ", block, last) * (BLOCK // 16):
                raise Failure(f"{path}: block {block} is not of pass {last}")


def guest_under_kills(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.scratch_folder() as folder, \
            cairn_mount.Mount(bin_folder) as mount:
        kernel = qemu_machine.unpack_kernel(bin_folder, folder)
        initramfs = os.path.join(folder, "initramfs")
        qemu_machine.make_initramfs(folder, initramfs, qemu_machine.DISK_MODULES,
                                    [build_init(os.path.join(folder, "init"))])
        disks = [(mount.path(f"disk-{engine}.img"), engine) for engine in ("native", "io_uring")]
        for path, _ in disks:
            run("truncate", "-s", f"{DISK_MIB}M", path)
        begin = time.monotonic()
        with qemu_machine.running(WorkingGuest(kernel, initramfs, disks)) as guest:
            guest.wait_said("ready", "the guest boots")
            print(f"  booted in {time.monotonic() - begin:.0f} s")
            with replacing.kills(mount, rng, most) as killer:
                replacing.run_until_killed_enough(killer, {"guest": replacing.Load(guest.work)})
        print(f"  {guest.said('moved')[-1]} blocks, {guest.said('left')}")
        mount.remount()
        for line in guest.said("left"):
            disk, first, blocks, last = map(int, line.split()[1:])
            check(last > 0, f"not one whole pass: {line}")
            verify(disks[disk][0], first, blocks, last)
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 30

    def replace_qemu(bin_folder):
        guest_under_kills(bin_folder, KILLS)

    cairn_mount.main(replace_qemu)
