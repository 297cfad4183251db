#!/usr/bin/env python3
"""Requests that wait hold up nobody else, since threads that were put aside stand in for theirs. When
no thread is left the server hangs."""
import mmap
import os
import threading
import time

import cairn_mount
from checks import check, check_equal, run
from faulty_mount import CONTENT, faulty

THREADS = max(8, os.cpu_count() + 4)  # more than the server lets run at once
HELD_BYTES = 1 << 16


class HeldReads:
    """As many reads of one file, each of which the server has begun and does not end."""

    def __init__(self, test, count):
        path = test.mount.path("held")
        with open(path, "wb") as file:
            file.write(CONTENT)
        self.test, self.count, self.good = test, count, []
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
        test.on("hold_reads")
        self.readers = [threading.Thread(target=self.read, daemon=True,
                                         args=(number * HELD_BYTES % len(CONTENT),))
                        for number in range(count)]
        for reader in self.readers:
            reader.start()
        test.log_says("holds a read", count)

    def read(self, offset):
        with mmap.mmap(-1, HELD_BYTES) as buffer:  # aligned, as O_DIRECT may want it
            os.preadv(self.fd, [buffer], offset)
            self.good.append(bytes(buffer) == CONTENT[offset:offset + HELD_BYTES])

    def let_go(self):
        """None came back before; all do now, with what was written."""
        check_equal(self.good, [], "reads that were held and came back")
        self.test.off("hold_reads")
        for reader in self.readers:
            reader.join(60)
        check_equal(self.good, [True] * self.count, "what the held reads got")
        os.close(self.fd)


def down(test):
    run("umount", test.mount.mountpoint)
    test.ends_with(0)
    test.mount.fsck()


def all_but_one_wait(bin_folder):
    """The last one serves all others, and the server counts as alive."""
    with faulty(bin_folder, f"threads={THREADS},watchdog=1") as test:
        server = test.facts()["server_pid"]
        reads = HeldReads(test, THREADS - 1)
        served = threading.Event()

        def use():
            end = time.monotonic() + 3  # several times what the watchdog waits for
            with open(test.mount.path("small"), "wb+", buffering=0) as file:
                while time.monotonic() < end:
                    file.write(CONTENT[:4096])
                    os.fsync(file)
                    file.seek(0)
            served.set()

        threading.Thread(target=use, daemon=True).start()
        check(served.wait(60), f"with {THREADS - 1} requests held no other is answered")
        time.sleep(3)  # when nobody asks for anything it is alive, too
        check_equal(test.facts()["server_pid"], server, "the server")
        reads.let_go()
        down(test)


def all_wait(bin_folder):
    """The server hangs, and is replaced."""
    with faulty(bin_folder, f"threads={THREADS},watchdog=1") as test:
        reads = HeldReads(test, THREADS)
        test.log_says("answers nothing")
        reads.let_go()
        check(test.facts()["restarts"] >= 1, "the server was not replaced")
        down(test)


if __name__ == "__main__":
    cairn_mount.main(all_but_one_wait, all_wait)
