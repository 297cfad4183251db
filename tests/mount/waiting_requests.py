#!/usr/bin/env python3
"""Requests that wait, all threads but one with them, hold up nobody else: a thread that waits is
replaced by one that was put aside."""
import mmap
import os
import threading

import cairn_mount
from checks import check, check_equal, run
from faulty_mount import CONTENT, faulty

THREADS = max(8, os.cpu_count() + 4)  # more than the server lets run at once
HELD_BYTES = 1 << 16


def others_are_served(test):
    """Reads are held in the server; one request more and its successors are answered."""
    held = test.mount.path("held")
    with open(held, "wb") as file:
        file.write(CONTENT)
    small = test.mount.path("small")
    with open(small, "wb") as file:
        file.write(CONTENT[:4096])
    fd = os.open(held, os.O_RDONLY | os.O_DIRECT)
    test.on("hold_reads")
    got = []

    def read(offset):
        with mmap.mmap(-1, HELD_BYTES) as buffer:  # aligned, as O_DIRECT may want it
            os.preadv(fd, [buffer], offset)
            got.append(bytes(buffer) == CONTENT[offset:offset + HELD_BYTES])

    readers = [threading.Thread(target=read, args=(index * HELD_BYTES % len(CONTENT),),
                                daemon=True) for index in range(THREADS - 1)]
    for reader in readers:
        reader.start()
    test.log_says("holds a read", THREADS - 1)
    served = threading.Event()

    def use():
        with open(small, "rb+", buffering=0) as file:
            for _ in range(100):
                file.write(CONTENT[:4096])
                os.fsync(file)
                file.seek(0)
        served.set()

    threading.Thread(target=use, daemon=True).start()
    check(served.wait(60), f"with {THREADS - 1} requests held no other is answered")
    check_equal(len(got), 0, "reads that were held and came back")
    test.off("hold_reads")
    for reader in readers:
        reader.join(60)
    check_equal(got, [True] * (THREADS - 1), "what the held reads got")
    os.close(fd)


def all_but_one_wait(bin_folder):
    with faulty(bin_folder, f"threads={THREADS}") as test:
        others_are_served(test)
        run("umount", test.mount.mountpoint)
        test.ends_with(0)
        test.mount.fsck()


if __name__ == "__main__":
    cairn_mount.main(all_but_one_wait)
