#!/usr/bin/env python3
"""Writers with rising counters over several volumes: in every snapshot the counters form a prefix.

argv: BIN [SECONDS] (default 8): rounds of up to 60 snapshots, each on a new mount, until they are
over.
"""
import mmap
import os
import random
import struct
import sys
import threading
import time

import cairn_mount
import snapshot_tools as tools
from checks import check, check_equal

BLOCK = 4096
VOLUMES = 4
SLOTS = 200  # of a writer in each volume
ROUND_SECONDS = 8
ROUND_SNAPSHOTS = 60


class Writer(threading.Thread):
    """Writes 1, 2, 3, ... each to one of the volumes, and only after the one before has returned.

    The numbers go round over volumes and slots, so that an older number of a slot is overwritten
    long after. Every second writer uses O_DIRECT.
    """

    def __init__(self, folder, index):
        super().__init__(daemon=True)
        self.folder, self.index = folder, index
        self.stop = threading.Event()
        self.number = 0
        self.failure = None

    def run(self):
        direct = os.O_DIRECT if self.index % 2 else 0
        buffer = mmap.mmap(-1, BLOCK)
        fds = [os.open(os.path.join(self.folder, f"d{i}"), os.O_RDWR | direct)
               for i in range(VOLUMES)]
        try:
            while not self.stop.is_set():
                number = self.number + 1
                buffer[:] = struct.pack("QQ", self.index, number) * (BLOCK // 16)
                volume, slot = place_of(number)
                os.pwritev(fds[volume], [buffer], offset_of(self.index, slot))
                self.number = number
        except OSError as error:
            self.failure = error
        finally:
            for fd in fds:
                os.close(fd)


def place_of(number):
    return number % VOLUMES, number // VOLUMES % SLOTS


def offset_of(writer, slot):
    # Two slots share no chunk with the neighbour; some stretches are touched for the first time
    # only in later rounds.
    return (writer * SLOTS + slot) * BLOCK * 3


def check_prefix(folder, writer, most, what):
    """All numbers up to the largest are there, as far as later ones did not overwrite them."""
    found = {}
    for volume in range(VOLUMES):
        with open(os.path.join(folder, f"d{volume}"), "rb") as file:
            for slot in range(SLOTS):
                file.seek(offset_of(writer, slot))
                block = file.read(BLOCK)
                head = struct.unpack_from("QQ", block) if len(block) == BLOCK else (writer, 0)
                if head == (0, 0) and not any(block):
                    head = (writer, 0)
                else:
                    check(block == struct.pack("QQ", *head) * (BLOCK // 16) or not any(block),
                          f"{what}: writer {writer} volume {volume} slot {slot}: a torn block")
                if any(block):
                    found[volume, slot] = head[1]
    largest = max(found.values(), default=0)
    check(largest <= most, f"{what}: writer {writer} holds {largest}, which was not written yet")
    for number in range(max(1, largest - VOLUMES * SLOTS + 1), largest + 1):
        have = found.get(place_of(number))
        check(have == number, f"{what}: writer {writer} has {largest}, but in the place of the "
              f"earlier {number} there is {have}")
    return largest


def prefixes_in_every_snapshot(bin_folder, seed):
    writers = 4
    with cairn_mount.Mount(bin_folder) as mount:
        folder = mount.path("vm")
        os.mkdir(folder)
        for volume in range(VOLUMES):
            with open(os.path.join(folder, f"d{volume}"), "wb") as file:
                file.truncate(writers * SLOTS * BLOCK * 3)
        threads = [Writer(folder, index) for index in range(writers)]
        for thread in threads:
            thread.start()
        taken = []
        floors = {}
        end = time.monotonic() + ROUND_SECONDS
        rng = random.Random(seed)
        while len(taken) < 10 or (time.monotonic() < end and len(taken) < ROUND_SNAPSHOTS):
            name = f"s{len(taken)}"
            before = [thread.number for thread in threads]
            tools.create(folder, name)
            after = [thread.number + 1 for thread in threads]
            taken.append(name)
            floors[name] = (before, after)
            if rng.random() < 0.1:
                time.sleep(0.05)
        for thread in threads:
            thread.stop.set()
            thread.join(60)
            check(not thread.is_alive(), "a writer hangs")
            check(thread.failure is None, f"a writer failed: {thread.failure}")
            check(thread.number > 100, f"a writer got to {thread.number} only")
        verify(mount, taken, floors)
        mount.remount()
        verify(mount, taken[::5], floors)
        for name in taken[::2]:
            mount.cairn("snapshot", "delete", tools.place(mount, name))
        verify(mount, taken[1::2], floors)
        mount.down()
        mount.fsck()
    print(f"{len(taken)} snapshots; the writers got to {[thread.number for thread in threads]}")


def verify(mount, taken, floors):
    for name in taken:
        before, after = floors[name]
        folder = mount.path(".snapshots", name, "vm")
        for writer, (least, most) in enumerate(zip(before, after)):
            largest = check_prefix(folder, writer, most, name)
            check(largest >= least, f"{name}: writer {writer} had {least} acknowledged before the "
                  f"request, the snapshot has {largest}")


def the_check_itself_can_fail(_bin_folder):
    """A later number without an earlier one is found."""
    with cairn_mount.scratch_folder() as folder:
        def write(number):
            volume, slot = place_of(number)
            path = os.path.join(folder, f"d{volume}")
            with open(path, "r+b") as file:
                file.seek(offset_of(0, slot))
                file.write(struct.pack("QQ", 0, number) * (BLOCK // 16))
        for volume in range(VOLUMES):
            with open(os.path.join(folder, f"d{volume}"), "wb") as file:
                file.truncate(SLOTS * BLOCK * 3)
        for number in (1, 2, 3, 5):
            write(number)
        try:
            check_prefix(folder, 0, 5, "sample")
        except cairn_mount.Failure:
            write(4)
            check_equal(check_prefix(folder, 0, 5, "sample"), 5, "the largest")
            return
        check(False, "a gap was not found")


if __name__ == "__main__":
    SECONDS = float(sys.argv.pop(2)) if len(sys.argv) > 2 else ROUND_SECONDS

    def causal(bin_folder):
        end = time.monotonic() + SECONDS
        seed = 0
        while seed == 0 or time.monotonic() < end:
            seed += 1
            prefixes_in_every_snapshot(bin_folder, seed)

    cairn_mount.main(the_check_itself_can_fail, causal)
