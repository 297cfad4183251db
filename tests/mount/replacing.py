"""What the tests of a server's replacement share: the killer, and loads that must not notice it.

A load that stands still is a hang only after HANG_SECONDS, long enough for any machine: it is a
bound, not a measure.
"""
import contextlib
import json
import math
import os
import random
import re
import signal
import subprocess
import threading
import time
import traceback

from cairn_mount import arguments_of
from checks import Failure, check, check_equal, wait_until

HANG_SECONDS = 60
SHORTEST, LONGEST = 0.05, 2.0  # seconds between two kills
_RATE = re.compile(r"\[(?:[rwt]=([\d.]+)[kKMGi]*B/s,?)(?:[rwt]=([\d.]+)[kKMGi]*B/s,?)?")


def new_rng():
    """A random generator whose seed is printed; CAIRN_SEED gives the same one again."""
    seed = int(os.environ.get("CAIRN_SEED", random.SystemRandom().randrange(1 << 32)))
    print(f"  seed {seed}", flush=True)
    return random.Random(seed)


def children(pid):
    """Of all its threads."""
    found = []
    gone = contextlib.suppress(FileNotFoundError, ProcessLookupError)
    with gone:
        for task in os.listdir(f"/proc/{pid}/task"):
            with gone, open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found += [int(word) for word in file.read().split()]
    return found


def servers(supervisor):
    """The server processes that are there: one, none just after a kill, two in an upgrade."""
    return [pid for pid in children(supervisor) if "serve" in arguments_of(pid)]


def status(mount):
    """What `cairn status` says of the mount and its processes."""
    return json.loads(mount.cairn("status", mount.mountpoint, "--json").stdout)["mount"]


class Killer(threading.Thread):
    """SIGKILL to the mount's server at random moments, until `most` kills or stop()."""

    noun = "kills"

    def __init__(self, mount, rng, most=None, shortest=SHORTEST, longest=LONGEST):
        super().__init__(daemon=True)
        self.mount = mount
        self.supervisor = mount.parent_pid()
        self.kills = 0
        self.failure = None
        self.restarts_before = status(mount)["restarts"]
        self._rng = random.Random(rng.random())
        self._most = most
        self._range = math.log(shortest), math.log(longest)
        self._stop_wanted = threading.Event()

    def run(self):
        while not self._stop_wanted.is_set() and self.kills != self._most:
            try:
                self.disturb()
            except Exception as failure:  # pylint: disable=broad-except
                self.failure = failure
                return

    def check_counts(self):
        """Each kill is of another server, and each is counted as one restart."""
        check_equal(status(self.mount)["restarts"] - self.restarts_before, self.kills, "restarts")

    def disturb(self):
        wait_until(lambda: servers(self.supervisor), HANG_SECONDS, "a server to kill")
        pid = servers(self.supervisor)[0]
        # Mostly one that serves; the others may die while they start.
        if self._rng.random() < 0.75:
            wait_until(lambda: f" {pid} serving " in self.mount.read_log(), HANG_SECONDS,
                       "the next server serves")
            self.pause()
        else:
            time.sleep(self._rng.uniform(0, SHORTEST))
        os.kill(pid, signal.SIGKILL)
        self.kills += 1
        # It may take a while to die: a second signal would hit the same one.
        wait_until(lambda: pid not in servers(self.supervisor), HANG_SECONDS, "the server dies")

    def pause(self):
        """As many short ones as long ones."""
        self._stop_wanted.wait(math.exp(self._rng.uniform(*self._range)))

    def stop(self):
        self._stop_wanted.set()
        self.join()


@contextlib.contextmanager
def kills(mount, rng, most=None, kind=Killer, **range_of_pauses):
    """A Killer for the block; afterwards the mount must be served by the same supervisor."""
    killer = kind(mount, rng, most, **range_of_pauses)
    killer.start()
    try:
        yield killer
    finally:
        killer.stop()
    check(killer.failure is None, f"after {killer.kills} kills: {killer.failure}")
    check(killer.kills > 0, "the load was over before the first kill")
    check_equal(mount.parent_pid(), killer.supervisor, "the supervisor after the kills")
    os.listdir(mount.mountpoint)
    killer.check_counts()
    print(f"  {killer.kills} {killer.noun}", flush=True)


class Load(threading.Thread):
    """Runs function(load, ...) in a thread. The function calls moved() as it gets on, ends soon
    after stop_wanted, and fails by raising."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self.stop_wanted = threading.Event()
        self.failure = None
        self.pid = os.getpid()  # whose threads may stand still
        self._work = function, arguments
        self.moved()
        self.start()

    def run(self):
        function, arguments = self._work
        try:
            function(self, *arguments)
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure

    def describe_failure(self):
        lines = [frame.lineno for frame in traceback.extract_tb(self.failure.__traceback__)
                 if os.path.dirname(frame.filename) == os.path.dirname(__file__)]
        return f"{type(self.failure).__name__}: {self.failure} (lines {lines})"

    def moved(self):
        self._moved_at = time.monotonic()

    def stands_still(self):
        return self.is_alive() and time.monotonic() - self._moved_at > HANG_SECONDS


def run_until_killed_enough(killer, loads):
    """Waits until the killer is done or a load failed; then ends all loads. {name: Load}"""
    hung = []
    while any(load.is_alive() for load in loads.values()):
        if not killer.is_alive() or any(not load.is_alive() for load in loads.values()):
            killer.stop()
            for load in loads.values():
                load.stop_wanted.set()
        if not hung:
            hung = [f"{name} made no progress for {HANG_SECONDS} s, held in "
                    f"{stuck_where(load.pid)}" for name, load in loads.items()
                    if load.stands_still()]
            if hung:
                killer.stop()
                # What waits for a request that nobody answers ends only with the mount.
                killer.mount.kill()
        time.sleep(0.05)
    failures = hung + [f"{name}: {load.describe_failure()}" for name, load in loads.items()
                       if load.failure is not None]
    check(not failures, f"after {killer.kills} kills: " + "; ".join(failures))


def stuck_where(pid):
    """Where the kernel holds the threads of a process, for the report of a hang."""
    places = set()
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/wchan",
                                                    encoding="ascii") as file:
                places.add(file.read())
    return sorted(places)


def fio(mount, *options, load=None):
    """Runs fio to its end; Failure for an error of it. Tells the load of its progress."""
    command = ["fio", "--name=load", "--thread", "--fallocate=none", "--verify_state_save=0",
               "--verify_dump=0", "--eta=always", "--eta-newline=500ms", *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace",
                          cwd=mount.folder) as process:
        if load is not None:
            load.pid = process.pid
            load.moved()
        text = []
        for line in process.stdout:
            rate = _RATE.search(line)
            if rate is None:
                text.append(line.strip())
            elif load is not None and any(float(figure) > 0 for figure in rate.groups() if figure):
                load.moved()
    wrong = [line for line in text if "rror" in line or line.startswith(("verify", "fio:"))]
    check(process.returncode == 0, f"fio {' '.join(options)} exited {process.returncode}: " +
          "; ".join((wrong or text)[:4]))
