#!/usr/bin/env python3
"""Runs the same fio jobs on Cairn and on what it is compared with, alternating in one run.

Called by run.sh, which installs and builds what is needed. Exit 0 when everything was measured
(and, with --check, every goal was met), 1 otherwise, 2 for wrong use.
"""
import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile

import fio
import jobs
import pause
import report
import scale
import snapshots
import supervised
import targets

HERE = os.path.dirname(os.path.realpath(__file__))
PROJECT = os.path.dirname(os.path.dirname(HERE))
# Jobs with a report of their own, beside those of fio.
EXTRAS = ("scale", "supervised", "pause", "snapshot")
RESULTS = os.path.join(HERE, "RESULTS.md")


def say(text):
    print(text, file=sys.stderr, flush=True)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="tools/bench/run.sh", description=__doc__)
    parser.add_argument("--build", required=True, metavar="DIR",
                        help="build folder with bin/cairnfs (run.sh builds one when not given)")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 1 s on 256 MiB")
    parser.add_argument("--backing", choices=("tmpfs", "disk", "both"), default="both")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--seconds", type=int, help="of each job, default 3")
    parser.add_argument("--size-mib", type=int, help="of the volume, default 1024")
    parser.add_argument("--jobs", default="",
                        help="comma list of " + ", ".join(j.name for j in jobs.JOBS) +
                        ", and " + ", ".join(EXTRAS) + "; default: all but those last ones")
    parser.add_argument("--parts", default=",".join(snapshots.PARTS),
                        help="of the snapshot job: comma list of " + ", ".join(snapshots.PARTS))
    parser.add_argument("--tmpfs-dir", default="/dev/shm")
    parser.add_argument("--disk-dir", default="/var/tmp")
    parser.add_argument("--out", metavar="DIR", help="write bench.json and bench.md there")
    parser.add_argument("--append-results", action="store_true",
                        help="append a section to tools/bench/RESULTS.md")
    parser.add_argument("--check", action="store_true", help="exit 1 when a goal is not met")
    parser.add_argument("--volumes", type=int, default=10000, help="of the scale job")
    parser.add_argument("--index-gib", type=int, default=0,
                        help="scale job: also a volume with an index record for each chunk of "
                        "this many GiB")
    parser.add_argument("--baseline", metavar="DIR",
                        help="supervised job: compare with the cairnfs of this build folder instead "
                        "of a mount with no_replace")
    parser.add_argument("--kills", type=int, default=100, help="of the pause job")
    parser.add_argument("--pause-store", metavar="DIR",
                        help="pause job: keep the large store here, and use it the next time")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 3)
    options.size_mib = options.size_mib or (256 if options.quick else 1024)
    options.names = [name for name in options.jobs.split(",") if name]
    try:
        wanted = [name for name in options.names if name not in EXTRAS]
        options.selected = jobs.select(wanted) if wanted or not options.names else []
    except ValueError as error:
        parser.error(str(error))
    if not os.access(os.path.join(options.build, "bin", "cairnfs"), os.X_OK):
        parser.error(f"no program {options.build}/bin/cairnfs")
    return options


def measure(job, target, options):
    """One job on one target: its figure. Raises fio.FioError."""
    if not job.fresh:
        return fio.figure(fio.run(target.volume(), options.size_mib, job.options, options.seconds),
                          job.unit)
    # Four times the size: a fast target must not run out of untouched blocks within the time.
    size_mib = 4 * options.size_mib
    try:
        path = target.fresh(size_mib)
        return fio.figure(fio.run(path, size_mib, job.options, options.seconds), job.unit)
    finally:
        target.drop_fresh()


def run_backing(backing, folder, passthrough, options, failures):
    """All selected jobs on one backing; a list of summaries."""
    selected = [job for job in options.selected if backing in job.backings]
    if not selected:
        return []
    summaries = []
    seen = set()
    with contextlib.ExitStack() as stack:
        base = tempfile.mkdtemp(prefix="cairn-bench.", dir=folder)
        stack.callback(shutil.rmtree, base, True)
        lineup = [targets.Cairn(os.path.join(base, "cairn"), options.build),
                  targets.Passthrough(os.path.join(base, "passthrough"), passthrough),
                  targets.Qsd(os.path.join(base, "qsd")),
                  targets.Target(os.path.join(base, "plain"))]
        for target in lineup:
            stack.callback(target.close)
            say(f"{backing}: starting {target.title}")
            target.start(options.size_mib)
        targets.fill(lineup)
        for job in selected:
            rounds = []
            for number in range(options.rounds):
                # Another target begins each round, so that none always follows the same one.
                shift = number % len(lineup)
                figures = {}
                for target in lineup[shift:] + lineup[:shift]:
                    try:
                        figures[target.name] = measure(job, target, options)
                    except (fio.FioError, RuntimeError, OSError) as error:
                        figures[target.name] = None
                        if (job.name, target.name) not in seen:  # Once, not in each round.
                            failures.append(f"{backing}, {job.name}, {target.title}: {error}")
                            say(failures[-1])
                        seen.add((job.name, target.name))
                rounds.append(figures)
            summaries.append(report.summarise(job, backing, rounds))
            ratios = "  ".join(f"/{other} {ratio:.2f}"
                               for other, ratio in summaries[-1]["ratios"].items() if ratio)
            say(f"{backing}: {job.name}  {ratios}")
    return summaries


def write_out(run, options):
    section = report.document(run)
    print(section)
    if options.out:
        os.makedirs(options.out, exist_ok=True)
        with open(os.path.join(options.out, "bench.json"), "w", encoding="utf-8") as file:
            json.dump(run, file, indent=1)
        with open(os.path.join(options.out, "bench.md"), "w", encoding="utf-8") as file:
            file.write(section)
    if options.append_results:
        report.append_results(RESULTS, section)


def interrupt(number, _frame):
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(arguments):
    options = parse(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    run = {"date": report.today(), "commit": report.commit(PROJECT), "machine": report.machine(),
           "command": shlex.join(["tools/bench/run.sh", *arguments]), "rounds": options.rounds,
           "seconds": options.seconds, "size_mib": options.size_mib, "backings": {},
           "failures": []}
    folders = {"tmpfs": options.tmpfs_dir, "disk": options.disk_dir}
    chosen = folders if options.backing == "both" else {options.backing: folders[options.backing]}
    with tempfile.TemporaryDirectory(prefix="cairn-bench-tools.") as tools:
        passthrough = targets.Passthrough.compile(tools) if options.selected else None
        for backing, folder in chosen.items():
            run["backings"][backing] = run_backing(backing, folder, passthrough, options,
                                                   run["failures"])
    if "scale" in options.names:
        run["scale"] = scale.run(options.build, options.disk_dir, options.volumes,
                                 options.index_gib, say)
    if "supervised" in options.names:
        run["supervised"] = supervised.run(options.build, options.baseline, options.tmpfs_dir,
                                           options.rounds, options.seconds, options.size_mib, say)
    if "pause" in options.names:
        run["pause"] = pause.run(options.build, options.disk_dir, say, options.kills,
                                 store=options.pause_store)
    if "snapshot" in options.names:
        run["snapshot"] = snapshots.run(options.build, chosen, options.quick, say,
                                        options.parts.split(","))
        run["failures"] += run["snapshot"]["failures"]
    write_out(run, options)
    missed = [each for summaries in run["backings"].values() for each in summaries
              if each["met"] is False]
    missed += [row for row in run.get("snapshot", {}).get("rows", []) if row["met"] is False]
    missed += [name for name in EXTRAS if run.get(name, {}).get("met") is False]
    cairn_failed = any(", Cairn: " in line for line in run["failures"]) or \
        bool(run.get("snapshot", {}).get("failures"))
    return 1 if cairn_failed or (options.check and missed) else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        say("interrupted; everything was taken down")
        sys.exit(130)
