#!/usr/bin/env python3
"""How long a 4K writer waits when the server is killed: 100 kills, a large store.

Run by bench.py as the job `pause`, or alone: pause.py --build DIR [--store DIR] [--kills N] ...
The store of 1 000 volumes takes minutes to make: with --store it is kept there for the next run.
"""
import argparse
import contextlib
import datetime
import json
import mmap
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time

import scale
import targets

BLOCK = 4096
CHUNK = 256 * 1024
ATTRIBUTE = 60000  # bytes of the values that make up the rest of the index
GOAL_MEDIAN_MS, GOAL_WORST_MS = 50, 500
_STAMP = re.compile(r"^(\S+Z) \w \d+ (.*)")


def index_mib(cairn):
    folder = os.path.join(cairn.store, "index")
    total = 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # The index compacts meanwhile.
            total += os.stat(os.path.join(folder, name)).st_size
    return total >> 20


def make_store(cairn, volumes, chunks_gib, index_goal_mib, say):
    """Volumes with a block in each chunk, and attributes until the index is large enough."""
    scale.make_volumes(cairn.root(), volumes)
    names = [os.path.join(folder, name) for folder, _, files in os.walk(cairn.root())
             for name in sorted(files)]
    chunks = chunks_gib * 2**30 // CHUNK // volumes
    for path in names:
        fd = os.open(path, os.O_RDWR)
        try:
            for chunk in range(chunks):
                os.pwrite(fd, scale.BLOCK, chunk * CHUNK)
        finally:
            os.close(fd)
    say(f"pause: {volumes} volumes with {chunks} chunks each, {index_mib(cairn)} MiB of index")
    rng = random.Random(1)
    number = 0
    while index_mib(cairn) < index_goal_mib:
        for _ in range(500):
            os.setxattr(names[number % volumes], f"user.fill{number // volumes}",
                        rng.randbytes(ATTRIBUTE))
            number += 1
    fd = os.open(os.path.join(cairn.root(), "writer.img"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, 2**30)
        for offset in range(0, 2**30, 2**20):
            os.pwrite(fd, scale.BLOCK * 256, offset)
        os.fsync(fd)
    finally:
        os.close(fd)


class Writer(threading.Thread):
    """Overwrites 4K at random with O_DIRECT; keeps the begin and end of each slow write."""

    SLOW = 0.002

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.stop_wanted = False
        self.slow = []  # (begin, end), of the wall clock as the log's
        self.count = 0
        self.failure = None

    def run(self):
        rng = random.Random(2)
        buffer = mmap.mmap(-1, BLOCK)
        fd = os.open(self.path, os.O_RDWR | os.O_DIRECT)
        try:
            while not self.stop_wanted:
                buffer[:8] = self.count.to_bytes(8, "little")
                begin = time.time()
                os.pwritev(fd, [buffer], rng.randrange(2**30 // BLOCK) * BLOCK)
                end = time.time()
                self.count += 1
                if end - begin >= self.SLOW:
                    self.slow.append((begin, end))
        except OSError as error:
            self.failure = error
        finally:
            os.close(fd)


def server_of(cairn):
    """The process id of the server: the one with `serve` among its arguments."""
    for pid in cairn.pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"serve" in file.read().split(b"\0"):
                    return pid
        except OSError:
            pass
    return None


def read_log(path):
    """[(seconds, text)] of the mount's log."""
    found = []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            match = _STAMP.match(line)
            if match:
                when = datetime.datetime.fromisoformat(match[1].replace("Z", "+00:00"))
                found.append((when.timestamp(), match[2]))
    return found


def kill_again_and_again(cairn, writer, kills, rng):
    """[(when, MiB that the server held)] of each kill."""
    done = []
    while len(done) < kills and writer.failure is None:
        time.sleep(rng.uniform(0.3, 0.8))
        pid = server_of(cairn)
        if pid is None:
            continue
        held = sum(each["VmRSS"] for each in scale.memory([pid]).values()) / 1024
        done.append((time.time(), held))
        os.kill(pid, signal.SIGKILL)
        # The writer's next write that ends is answered by the next server.
        count = writer.count
        while writer.count < count + 2 and writer.failure is None:
            time.sleep(0.001)
    return done


def spread(values):
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "p95": ordered[int(len(ordered) * 0.95)],
            "worst": ordered[-1]}


def phases(log, when, end):
    """Milliseconds from the kill to its notice, to the next server's word, to the answer."""
    noticed = [at for at, text in log if when - 0.001 <= at <= end and "was killed" in text]
    serving = [at for at, text in log if when - 0.001 <= at <= end + 0.001 and
               text.startswith("serving ")]
    if not noticed or not serving:
        return None
    return [1000 * (later - earlier) for earlier, later in
            ((when, noticed[0]), (noticed[0], serving[-1]), (serving[-1], end))]


def measure(cairn, kills, say):
    """Kills under the writer; returns the record."""
    result = {"lines": [], "index_mib": index_mib(cairn)}
    rng = random.Random(3)
    writer = Writer(os.path.join(cairn.root(), "writer.img"))
    writer.start()
    done = kill_again_and_again(cairn, writer, kills, rng)
    time.sleep(0.5)
    writer.stop_wanted = True
    writer.join()
    if writer.failure is not None:
        raise RuntimeError(f"pause: the writer failed after {len(done)} kills: {writer.failure}")
    log = read_log(os.path.join(cairn.store, "log"))
    pauses, parts = [], []
    for number, (when, _) in enumerate(done):
        until = done[number + 1][0] if number + 1 < len(done) else when + 60
        # A write that waits at the next kill is that one's.
        begin, end = max(((begin, end) for begin, end in writer.slow if when <= end < until),
                         key=lambda each: each[1] - each[0], default=(when, when))
        pauses.append(1000 * (end - begin))
        parts.append(phases(log, when, end))
    result["pauses_ms"] = pauses
    result["phases_ms"] = parts
    figures = spread(pauses)
    result["met"] = figures["median"] < GOAL_MEDIAN_MS and figures["worst"] < GOAL_WORST_MS
    held = statistics.median(each[1] for each in done)

    def note(text):
        result["lines"].append(text)
        say(f"pause: {text}")
    note(f"{len(done)} kills, index of {result['index_mib']} MiB, server of {held:.0f} MiB; pause of "
         f"a 4K writer: median {figures['median']:.1f} ms, 95 % below {figures['p95']:.1f} ms, "
         f"worst {figures['worst']:.1f} ms (goals {GOAL_MEDIAN_MS} and {GOAL_WORST_MS} ms)")
    known = [each for each in parts if each is not None]
    if known:
        names = ("the kill until it is noticed", "then until the next server serves",
                 "then until the write is answered")
        note("of that, in the median and at worst: " + "; ".join(
            f"{name} {statistics.median(column):.1f} and {max(column):.1f} ms"
            for name, column in zip(names, zip(*known))))
    return result


def run(build, folder, say, kills=100, volumes=1000, chunks_gib=128, index_goal_mib=1024,
        store=None, options="", prepare_only=False):
    """Measures in a store below `folder`, or in the kept one `store`, made when it is not there."""
    base = store or tempfile.mkdtemp(prefix="cairn-pause.", dir=folder)
    cairn = targets.Cairn(base, build, options)
    try:
        made = os.path.join(base, "made")
        if not os.path.exists(made):
            os.makedirs(base, exist_ok=True)
            cairn.bring_up()
            begin = time.monotonic()
            make_store(cairn, volumes, chunks_gib, index_goal_mib, say)
            cairn.take_down()
            with open(made, "w", encoding="ascii"):
                pass
            say(f"pause: store made in {time.monotonic() - begin:.0f} s")
        if prepare_only:
            return {"lines": []}
        cairn.bring_up()
        return measure(cairn, kills, say)
    finally:
        cairn.take_down()
        if store is None:
            shutil.rmtree(base, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--dir", default="/var/tmp")
    parser.add_argument("--store", help="folder that is kept with the store in it")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--volumes", type=int, default=1000)
    parser.add_argument("--chunks-gib", type=int, default=128,
                        help="one block is written in each 256 KiB of so much, over all volumes")
    parser.add_argument("--index-mib", type=int, default=1024)
    parser.add_argument("--options", default="", help="mount options")
    parser.add_argument("--prepare-only", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # An orderly end, without the mount.
    result = run(options.build, options.dir,
                 lambda text: print(text, file=sys.stderr, flush=True), options.kills,
                 options.volumes, options.chunks_gib, options.index_mib, options.store,
                 options.options, options.prepare_only)
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
