#!/usr/bin/env python3
"""SIGKILL to every daemon under fsyncing writers: what was fsynced is there after a remount.

argv: BIN [ROUNDS] (default 8).
"""
import mmap
import os
import random
import struct
import sys
import threading
import time

import cairn_mount
from checks import check

SLOTS = 64
BLOCK = 4096
STRIDE = 1 << 20  # of a slot: its records lie in chunks of their own
WRITERS = 4


def record(writer, slot, number):
    return struct.pack("<QQQ", writer, slot, number).ljust(64, b"\x5a") * (BLOCK // 64)


def read_record(fd, offset):
    content = os.pread(fd, BLOCK, offset)
    return content, struct.unpack("<QQQ", content[:24])


class State:
    """What one writer knows of its slots: record numbers, 0 for none."""

    def __init__(self):
        self.tried = [0] * SLOTS
        self.synced = [0] * SLOTS  # both blocks were fsynced
        self.seen = [0] * SLOTS  # the first block was fsynced, or read after a kill


class Writer(threading.Thread):
    """Writes two blocks a record, fsyncs, and only then counts the record as synced.

    Even writers go through the page cache, odd ones use O_DIRECT.
    """

    def __init__(self, path, index, state, rng):
        super().__init__(daemon=True)
        self.path, self.index, self.state, self.rng = path, index, state, rng
        self.stop = threading.Event()

    def run(self):
        direct = os.O_DIRECT if self.index % 2 else 0
        buffer = mmap.mmap(-1, BLOCK)
        fd = -1
        try:
            fd = os.open(self.path, os.O_RDWR | direct)
            while not self.stop.is_set():
                slot = self.rng.randrange(SLOTS)
                number = self.state.seen[slot] + 1
                self.state.tried[slot] = number
                buffer[:] = record(self.index, slot, number)
                for offset in offsets(slot, number):
                    os.pwritev(fd, [buffer], offset)
                os.fsync(fd)
                self.state.seen[slot] = self.state.synced[slot] = number
        except OSError:
            pass  # The server was killed; what is counted by then was fsynced.
        finally:
            if fd >= 0:
                try:
                    os.close(fd)
                except OSError:
                    pass


def offsets(slot, number):
    """A place that is written again and again, and one that walks: first touches and holes."""
    start = slot * STRIDE
    return start + 3 * STRIDE // 4, start + (number % 128) * BLOCK


def verify(mount, states, where):
    for writer, state in enumerate(states):
        fd = os.open(mount.path(f"disk{writer}"), os.O_RDONLY)
        try:
            for slot in range(SLOTS):
                name = f"{where}: writer {writer} slot {slot}"
                verify_slot(fd, writer, slot, state, name)
        finally:
            os.close(fd)


def verify_slot(fd, writer, slot, state, name):
    content, (who, which, number) = read_record(fd, offsets(slot, 0)[0])
    if state.seen[slot] == 0 and not any(content):
        return
    check((who, which) == (writer, slot) and content == record(writer, slot, number),
          f"{name}: a torn or foreign block, begins {content[:24].hex()}")
    check(state.seen[slot] <= number <= state.tried[slot],
          f"{name}: holds record {number}; {state.seen[slot]} was fsynced or seen before, "
          f"{state.tried[slot]} tried")
    state.seen[slot] = number
    if state.synced[slot]:
        content, _ = read_record(fd, offsets(slot, state.synced[slot])[1])
        check(content == record(writer, slot, state.synced[slot]),
              f"{name}: the second block of fsynced record {state.synced[slot]} begins "
              f"{content[:24].hex()}")


def fsynced_records_survive_kills(bin_folder, rounds):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {rounds} rounds")
    rng = random.Random(seed)
    states = [State() for _ in range(WRITERS)]
    with cairn_mount.Mount(bin_folder) as mount:
        for writer in range(WRITERS):
            with open(mount.path(f"disk{writer}"), "wb") as file:
                file.truncate(SLOTS * STRIDE)
        for number in range(rounds):
            writers = [Writer(mount.path(f"disk{i}"), i, states[i], random.Random(rng.random()))
                       for i in range(WRITERS)]
            for writer in writers:
                writer.start()
            time.sleep(rng.uniform(0.1, 1.2))
            # A name made and fsynced in the round must be there, too.
            with open(mount.path(f"made{number}"), "wb") as file:
                file.write(b"made")
                file.flush()
                os.fsync(file.fileno())
            mount.kill()
            for writer in writers:
                writer.stop.set()
                writer.join(60)
                check(not writer.is_alive(), f"round {number}: a writer hangs after the kill")
            mount.fsck()
            mount.up()
            verify(mount, states, f"round {number}")
            for made in range(number + 1):
                with open(mount.path(f"made{made}"), "rb") as file:
                    check(file.read() == b"made", f"round {number}: made{made} is not whole")
        mount.down()
        mount.fsck()
    total = sum(sum(state.synced) for state in states)
    check(total > rounds, f"only {total} records were written in {rounds} rounds")
    print(f"{total} fsynced records, none lost")


if __name__ == "__main__":
    ROUNDS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 8

    def kill9(bin_folder):
        fsynced_records_survive_kills(bin_folder, ROUNDS)

    cairn_mount.main(kill9)
