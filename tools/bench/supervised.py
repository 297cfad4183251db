"""What the replacement of servers costs: the same jobs with it and without it, alternating.

The baseline is a mount with `no_replace`, or with --baseline another build's cairnfs.
"""
import contextlib
import os
import shutil
import statistics
import tempfile

import fio
import jobs
import targets

JOBS = ("read4k-d1", "read4k-d16", "write4k-d1", "write4k-d16")
GOAL = 0.98


def run(build, baseline, folder, rounds, seconds, size_mib, say):
    """Measures in new stores below `folder`; returns a record with printable `lines`."""
    result = {"rounds": {}, "ratios": {}, "lines": [], "met": True}
    with contextlib.ExitStack() as stack:
        base = tempfile.mkdtemp(prefix="cairn-supervised.", dir=folder)
        stack.callback(shutil.rmtree, base, True)
        lineup = [targets.Cairn(os.path.join(base, "replaced"), build),
                  targets.Cairn(os.path.join(base, "alone"), baseline or build,
                                "" if baseline else "no_replace")]
        for target in lineup:
            stack.callback(target.close)
            target.start(size_mib)
        targets.fill(lineup)
        for job in jobs.select(JOBS):
            measured = []
            for number in range(rounds):
                # Who begins changes each round, so that none always follows the other.
                figures = [0.0, 0.0]
                for which in ((0, 1), (1, 0))[number % 2]:
                    figures[which] = fio.figure(fio.run(lineup[which].volume(), size_mib,
                                                        job.options, seconds), job.unit)
                measured.append(figures)
            ratio = statistics.median(with_it / without for with_it, without in measured)
            spread = [with_it / without for with_it, without in measured]
            result["rounds"][job.name] = measured
            result["ratios"][job.name] = ratio
            result["met"] = result["met"] and ratio >= GOAL
            result["lines"].append(
                f"{job.title}: {statistics.median(m[0] for m in measured):.0f} IOPS with "
                f"replacement, {statistics.median(m[1] for m in measured):.0f} without, ratio "
                f"{ratio:.3f} (rounds {min(spread):.2f} to {max(spread):.2f}; goal {GOAL})")
            say(f"supervised: {result['lines'][-1]}")
    return result
