"""The fio jobs that every target runs, and the goals that Cairn's ratios are held against.

A goal is the smallest acceptable ratio of Cairn to another target in the same run. Absolute
figures carry none: they drift between machines and hours, ratios within one run do not.
"""
from dataclasses import dataclass, field

TMPFS = "tmpfs"
DISK = "disk"


@dataclass(frozen=True)
class Job:
    name: str
    title: str
    options: dict  # fio options beside those that fio.py gives to every job
    unit: str = "iops"  # "iops" or "mibs": what is compared and printed
    goals: dict = field(default_factory=dict)  # target name -> smallest ratio
    goal_backing: str = TMPFS  # the goals are for the cost of the software, not of a disk
    backings: tuple = (TMPFS, DISK)
    fresh: bool = False  # runs on a new sparse file each time, not on the filled one


def _random(rw, depth, **more):
    engine = {"ioengine": "psync"} if depth == 1 else {"ioengine": "io_uring", "iodepth": depth}
    return {"rw": rw, "bs": "4k", "direct": 1, **engine, **more}


def _sequential(rw, **more):
    return {"rw": rw, "bs": "1M", "ioengine": "psync", **more}


_READ = {"passthrough_ll": 0.95, "qsd": 2.0}
_OVERWRITE = {"passthrough_ll": 0.95, "qsd": 1.8}
_FIRST_TOUCH = {"passthrough_ll": 0.85, "qsd": 1.8}
_PARALLEL = {"passthrough_ll": 1.8, "qsd": 2.0}
_SEQUENTIAL = {"passthrough_ll": 0.95, "qsd": 1.0}
_FSYNC = {"passthrough_ll": 0.85, "qsd": 1.0}

JOBS = (
    Job("read4k-d1", "4K random read, depth 1", _random("randread", 1), goals=_READ),
    Job("read4k-d16", "4K random read, depth 16", _random("randread", 16), goals=_READ),
    Job("write4k-d1", "4K random overwrite, depth 1", _random("randwrite", 1), goals=_OVERWRITE),
    Job("write4k-d16", "4K random overwrite, depth 16", _random("randwrite", 16),
        goals=_OVERWRITE),
    Job("touch4k-d1", "4K random write, first touch, depth 1", _random("randwrite", 1),
        goals=_FIRST_TOUCH, fresh=True),
    Job("touch4k-d16", "4K random write, first touch, depth 16", _random("randwrite", 16),
        goals=_FIRST_TOUCH, fresh=True),
    Job("write4k-8thr", "4K random overwrite, 8 threads, one volume",
        _random("randwrite", 1, numjobs=8, group_reporting=1), goals=_PARALLEL),
    Job("mixed4k-d16", "4K random 70/30 read/write, depth 16",
        _random("randrw", 16, rwmixread=70)),
    Job("read1m", "1 MiB sequential read, O_DIRECT", _sequential("read", direct=1), unit="mibs",
        goals=_SEQUENTIAL),
    Job("write1m", "1 MiB sequential write, O_DIRECT", _sequential("write", direct=1),
        unit="mibs", goals=_SEQUENTIAL),
    # Over the file again and again, and with the page cache that the round before left: new pages
    # may each be a fault in the host that lends the machine its memory, which is then all that is
    # measured. The same program differed from itself by 40 % with them, by 2 % without.
    Job("buffered1m", "1 MiB buffered write, again and again, fsync at the end",
        _sequential("write", direct=0, end_fsync=1, invalidate=0), unit="mibs",
        goals=_SEQUENTIAL),
    Job("fsync4k", "4K write and fsync each",
        {"rw": "randwrite", "bs": "4k", "direct": 0, "ioengine": "psync", "fsync": 1},
        goals=_FSYNC, goal_backing=DISK, backings=(DISK,)),
)


def select(names):
    """The jobs of these names in the order of JOBS; all of them for an empty list."""
    known = {job.name for job in JOBS}
    unknown = sorted(set(names) - known)
    if unknown:
        raise ValueError(f"unknown job {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [job for job in JOBS if not names or job.name in names]
