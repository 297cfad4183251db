#!/usr/bin/env python3
"""What snapshots and clones cost: bench.py's job `snapshot`, or alone (--help).

Each part prints what it found, and the goal where there is one. Comparisons alternate within the
run.
"""
import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time

import fio
import snapshot_calls as calls
import targets

MIB = 1 << 20
PARTS = ("hold", "durable", "fragmented", "first-writes", "clone", "reads", "generations", "delete")


class Bench:
    def __init__(self, build, folders, quick, say):
        self.build, self.folders, self.quick, self.say = build, folders, quick, say
        self.rows = []
        self.failures = []

    def note(self, part, what, found, goal="", met=None):
        """One line of the table; `met` is None where there is nothing to meet."""
        self.rows.append({"part": part, "what": what, "found": found, "goal": goal, "met": met})
        verdict = {True: "  met", False: "  NOT MET", None: ""}[met]
        self.say(f"snapshot: {part}: {what}: {found}{'  goal ' + goal if goal else ''}{verdict}")

    @contextlib.contextmanager
    def cairn(self, backing):
        base = tempfile.mkdtemp(prefix="cairn-snapshots.", dir=self.folders[backing])
        cairn = targets.Cairn(os.path.join(base, "cairn"), self.build)
        try:
            os.makedirs(cairn.folder)
            cairn.bring_up()
            yield cairn
        finally:
            cairn.close()
            shutil.rmtree(base, ignore_errors=True)

    def run(self, parts):
        for part in parts:
            for backing in self.folders:
                try:
                    getattr(self, "part_" + part.replace("-", "_"))(backing)
                except (OSError, RuntimeError, fio.FioError) as error:
                    self.failures.append(f"{part} on {backing}: {error}")
                    self.say(f"snapshot: {self.failures[-1]}")

    # --- writers' worst latency with and without snapshots

    def part_hold(self, backing):
        for members, size, goal_ms in ((1, 256 * MIB, 1), (64, 16 * MIB, 1), (1000, MIB, 5)):
            if self.quick and members > 64:
                continue
            with self.cairn(backing) as cairn:
                paths = make_group(cairn, members, size)
                folder = os.path.dirname(paths[0])
                calm, busy, held, at_cut, at_no_cut = [], [], [], [], []
                for turn in range(2 if self.quick else 5):
                    calm.append(calls.Writers(paths, size, 3).result())
                    writers = calls.Writers(paths, size, 3)
                    repeater = calls.Repeater(
                        lambda number, turn=turn: calls.snapshot(folder, f"s{turn}-{number}"), 0.3)
                    repeater.start()
                    busy.append(writers.result())
                    for hold, begin, end in repeater.finish():
                        held.append(hold)
                        at_cut.append(calls.worst_within(busy[-1]["slowest"], begin, end))
                        # As long a stretch of the turn without snapshots.
                        start = min(when for _, when in calm[-1]["slowest"]) + 0.3 * len(at_cut)
                        at_no_cut.append(calls.worst_within(calm[-1]["slowest"], start,
                                                            start + end - begin))
                self.note_hold(backing, members, goal_ms, calm, busy, held, at_cut, at_no_cut)

    def note_hold(self, backing, members, goal_ms, calm, busy, held, at_cut, at_no_cut):
        median = statistics.median
        own = median(each["p999"] for each in calm)
        self.note(
            "hold", f"{backing}, {members} members, {len(held)} snapshots",
            f"I/O held {ms(median(held))} (worst {ms(max(held))}); the longest write while a "
            f"snapshot was taken: {ms(median(at_cut))} (median of the snapshots), "
            f"{ms(max(at_cut))} (worst); in as long stretches without one {ms(median(at_no_cut))} "
            f"and {ms(max(at_no_cut))}; writers' p99.9 {ms(own)}, worst "
            f"{ms(max(e['max'] for e in calm))} without, "
            f"{ms(median(e['p999'] for e in busy))} and {ms(max(e['max'] for e in busy))} with",
            f"worst at most {goal_ms} ms above p99.9 without",
            max(at_cut) <= own + goal_ms / 1000)

    # --- from the request to the durable answer

    def part_durable(self, backing):
        with self.cairn(backing) as cairn:
            paths = make_group(cairn, 64, 16 * MIB)
            writers = calls.Writers(paths, 16 * MIB, 10)
            taken, held = [], []
            for number in range(8):
                time.sleep(0.5)
                begin = time.perf_counter()
                held.append(calls.snapshot(os.path.dirname(paths[0]), f"s{number}"))
                taken.append(time.perf_counter() - begin)
            writers.result()
            self.note("durable", f"{backing}, 64 busy members",
                      f"{ms(statistics.median(taken))} (worst {ms(max(taken))}) from request to "
                      f"answer, of which I/O was held {ms(statistics.median(held))}; the rest is "
                      "the sync of what was written before")

    # --- a fragmented volume, beside btrfs

    def part_fragmented(self, backing):
        size, pieces = (512 * MIB, 1 << 16) if self.quick else (4096 * MIB, 1 << 19)
        with contextlib.ExitStack() as stack:
            cairn = stack.enter_context(self.cairn(backing))
            btrfs = calls.Btrfs(cairn.folder, 16)
            stack.callback(btrfs.close)
            mine = os.path.join(cairn.root(), "vm", "fragmented.img")
            os.mkdir(os.path.dirname(mine))
            theirs = btrfs.path("fragmented.img")
            for path in (mine, theirs):
                calls.fragment(path, size, pieces)
            found = {mine: [], theirs: []}
            for turn in range(2 if self.quick else 3):
                for path, act in ((mine, lambda turn=turn: calls.snapshot(mine, f"f{turn}")),
                                  (theirs, lambda turn=turn: calls.run(
                                      "cp", "--reflink=always", theirs,
                                      btrfs.path(f"copy{turn}")))):
                    writers = calls.Writers([path], size, 8, count=1)
                    time.sleep(0.5)
                    begin = time.perf_counter()
                    act()
                    end = time.perf_counter()
                    slowest = writers.result()["slowest"]
                    found[path].append(calls.worst_within(slowest, begin, end))
            ours, other = (max(statistics.median(found[path]), 1e-6) for path in (mine, theirs))
            self.note("fragmented", f"{backing}, {size // MIB} MiB in {pieces} pieces",
                      f"a writer's worst write: {ms(ours)} at a snapshot, {ms(other)} at "
                      f"cp --reflink on btrfs: {other / ours:.0f} times shorter",
                      "1000 times", other >= 1000 * ours)

    # --- first writes after a snapshot

    def part_first_writes(self, backing):
        size_mib = 128 if self.quick else 512
        job = {"rw": "randwrite", "bs": "4k", "direct": 1, "ioengine": "io_uring", "iodepth": 16}
        with contextlib.ExitStack() as stack:
            cairn = stack.enter_context(self.cairn(backing))
            btrfs = calls.Btrfs(cairn.folder, 16)
            stack.callback(btrfs.close)
            mine, theirs = os.path.join(cairn.root(), "volume.img"), btrfs.path("volume.img")
            for path in (mine, theirs):
                targets.make_sparse(path, size_mib)
                fio.fill(path, size_mib)
            steady, first, other = [], [], []
            for turn in range(2 if self.quick else 5):
                steady.append(fio.figure(fio.run(mine, size_mib, job), "iops"))
                calls.snapshot(mine, f"s{turn}")
                first.append(fio.figure(fio.run(mine, size_mib, job), "iops"))
                calls.run("cp", "--reflink=always", theirs, btrfs.path(f"copy{turn}"))
                other.append(fio.figure(fio.run(theirs, size_mib, job), "iops"))
            to_steady = statistics.median(a / b for a, b in zip(first, steady))
            to_btrfs = statistics.median(a / b for a, b in zip(first, other))
            self.note("first-writes", f"{backing}, 4K random, depth 16, each block once",
                      f"{statistics.median(first):.0f} IOPS after a snapshot, "
                      f"{statistics.median(steady):.0f} steady: ratio {to_steady:.2f}", "0.8",
                      to_steady >= 0.8)
            self.note("first-writes", f"{backing}, beside btrfs after a reflink",
                      f"{statistics.median(other):.0f} IOPS there: ratio {to_btrfs:.2f}", "3",
                      to_btrfs >= 3)

    # --- a clone of a large fragmented volume

    def part_clone(self, backing):
        pieces = 1 << 14 if self.quick else 1 << 17
        with self.cairn(backing) as cairn:
            source = os.path.join(cairn.root(), "large.img")
            calls.fragment(source, 1 << 40, pieces)
            for state in ("in use before", "after a remount"):
                if state == "after a remount":
                    cairn.take_down()
                    cairn.bring_up()
                taken = []
                for number in range(10):
                    target = os.path.join(cairn.root(), f"{state[0]}{number}.img")
                    begin = time.perf_counter()
                    calls.clone(source, target)
                    calls.timed_write(target, (number * 7919 << 20) % (1 << 40))
                    taken.append(time.perf_counter() - begin)
                self.note("clone", f"{backing}, 1 TiB in {pieces} pieces, {state}",
                          f"{ms(statistics.median(taken))} (worst {ms(max(taken))}) to the end of "
                          "the first write", "below 10 ms", statistics.median(taken) < 0.010)

    # --- reads through much history

    def part_reads(self, backing):
        count = 100 if self.quick else 1000
        with self.cairn(backing) as cairn:
            path = os.path.join(cairn.root(), "history.img")
            size_mib = 64 if self.quick else 256
            targets.make_sparse(path, size_mib)
            fio.fill(path, size_mib)

            def age(number):
                scatter(path, size_mib, number)
                calls.snapshot(path, f"h{number}")
            for number in range(count):
                age(number)
            self.compare_with_flat(cairn, "reads", f"{backing}, a volume with {count} snapshots",
                                   path, size_mib)

    def part_generations(self, backing):
        count = 100 if self.quick else 1000
        with self.cairn(backing) as cairn:
            path = os.path.join(cairn.root(), "g0.img")
            size_mib = 64 if self.quick else 256
            targets.make_sparse(path, size_mib)
            fio.fill(path, size_mib)
            for number in range(1, count + 1):
                target = os.path.join(cairn.root(), f"g{number}.img")
                calls.clone(path, target)
                path = target
                scatter(path, size_mib, number)
            self.compare_with_flat(cairn, "generations", f"{backing}, a clone {count} deep", path,
                                   size_mib)

    def compare_with_flat(self, cairn, part, what, path, size_mib):
        flat = os.path.join(cairn.root(), "flat.img")
        targets.make_sparse(flat, size_mib)
        fio.fill(flat, size_mib)
        cairn.take_down()
        cairn.bring_up()
        passes = {}
        for each in (path, flat):
            begin = time.perf_counter()
            with open(each, "rb", buffering=0) as file:
                while file.read(MIB):
                    pass
            passes[each] = time.perf_counter() - begin
        for depth, engine in ((1, "psync"), (16, "io_uring")):
            job = {"rw": "randread", "bs": "4k", "direct": 1, "ioengine": engine,
                   "iodepth": depth}
            ratios = []
            for _ in range(2 if self.quick else 5):
                figures = {each: fio.figure(fio.run(each, size_mib, job, 2), "iops")
                           for each in (path, flat)}
                ratios.append(figures[path] / figures[flat])
            ratio = statistics.median(ratios)
            self.note(part, f"{what}, depth {depth}",
                      f"4K random reads to a flat volume's: ratio {ratio:.2f} ({min(ratios):.2f} to "
                      f"{max(ratios):.2f}); first pass over {size_mib} MiB {passes[path]:.2f} s, "
                      f"{passes[flat]:.2f} s flat", "0.95", ratio >= 0.95)

    # --- deleting many

    def part_delete(self, backing):
        count = 100 if self.quick else 1000
        with self.cairn(backing) as cairn:
            path = os.path.join(cairn.root(), "volume.img")
            size_mib = 256
            targets.make_sparse(path, size_mib)
            fio.fill(path, size_mib)
            before = calls.held_bytes(os.path.join(cairn.store, "extents"))
            for number in range(count):
                scatter(path, size_mib, number, blocks=64)
                calls.snapshot(path, f"d{number}")
            full = calls.held_bytes(os.path.join(cairn.store, "extents"))
            calm = calls.Writers([path], size_mib * MIB, 3).result()
            writers = calls.Writers([path], size_mib * MIB, 10)
            order = list(range(count))
            random.Random(1).shuffle(order)
            begin = time.perf_counter()
            for number in order:
                calls.delete(cairn, f"d{number}")
            answered = time.perf_counter() - begin
            busy = writers.result()
            left = self.wait_for_space(cairn, before)
            seconds = time.perf_counter() - begin
            self.note("delete", f"{backing}, {count} snapshots in random order",
                      f"{(full - before) // MIB} MiB held by them; answered in {answered:.1f} s, "
                      f"{left - before} bytes left after {seconds:.1f} s; writers meanwhile p99.9 "
                      f"{ms(busy['p999'])} worst {ms(busy['max'])}, else {ms(calm['p999'])} and "
                      f"{ms(calm['max'])}", "no byte left", left <= before)

    def wait_for_space(self, cairn, wanted, seconds=420):
        # What the writers overwrote behind a pass of clean-up goes with the next one, minutes later.
        extents = os.path.join(cairn.store, "extents")
        end = time.monotonic() + seconds
        while calls.held_bytes(extents) > wanted and time.monotonic() < end:
            time.sleep(0.2)
        return calls.held_bytes(extents)


def ms(seconds):
    return f"{seconds * 1000:.3g} ms"


def make_group(cairn, members, size):
    folder = os.path.join(cairn.root(), "vm")
    os.mkdir(folder)
    paths = [os.path.join(folder, f"d{number:04d}.img") for number in range(members)]
    data = os.urandom(MIB)
    for path in paths:
        with open(path, "wb", buffering=0) as file:
            for _ in range(size // MIB):
                file.write(data)
            os.fsync(file.fileno())
    return paths


def scatter(path, size_mib, seed, blocks=16):
    rng = random.Random(seed)
    with open(path, "r+b", buffering=0) as file:
        for _ in range(blocks):
            file.seek(rng.randrange(size_mib * 256) * 4096)
            file.write(rng.randbytes(4096))


def lines_of(result):
    """The Markdown of what run() returned."""
    lines = ["| part | what | found | goal | met |", "|---|---|---|---|---|"]
    for row in result["rows"]:
        met = {True: "yes", False: "**no**", None: "–"}[row["met"]]
        lines.append(f"| {row['part']} | {row['what']} | {row['found']} | {row['goal'] or '–'} | "
                     f"{met} |")
    return lines


def run(build, folders, quick, say, parts=PARTS):
    """`folders`: {backing: folder}. Returns a record for JSON and lines_of."""
    bench = Bench(build, folders, quick, say)
    bench.run(parts)
    return {"rows": bench.rows, "failures": bench.failures}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", default=",".join(PARTS), help="comma list of " + ", ".join(PARTS))
    parser.add_argument("--tmpfs-dir", default="/dev/shm")
    parser.add_argument("--disk-dir", default="/var/tmp")
    parser.add_argument("--backing", choices=("tmpfs", "disk", "both"), default="both")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes everything down
    folders = {"tmpfs": options.tmpfs_dir, "disk": options.disk_dir}
    if options.backing != "both":
        folders = {options.backing: folders[options.backing]}
    result = run(options.build, folders, options.quick,
                 lambda text: print(text, file=sys.stderr, flush=True), options.parts.split(","))
    print(json.dumps(result) if options.json else "\n".join(lines_of(result)))
    sys.exit(1 if result["failures"] else 0)


if __name__ == "__main__":
    main()
