"""What the mount tests share: a store mounted in a folder of its own, guests on loop devices.

Use as `with Mount(bin_folder) as mount:`; the mount, its processes, loop devices and files are
gone afterwards, also after a failure. Processes are ended by their ids only.
"""
import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

from checks import Failure, check, run, wait_until

SKIP = 77  # ctest's SKIP_RETURN_CODE
# Both may wait for a sync of the whole filesystem below, with what others have written to it.
START_SECONDS = STOP_SECONDS = 240
_live = set()  # mounts whose processes the watchdog ends
_undo = []  # callables, newest last; each may be called more than once


def is_mounted(path):
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        return any(line.split()[4] == path for line in table)


def arguments_of(pid):
    """The words of a process's command line; none when it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def lazy_unmount(path):
    if is_mounted(path):
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)


@contextlib.contextmanager
def undo(function, *arguments):
    """Calls the function at the end of the block, or at exit if the block never ends."""
    entry = (function, arguments)
    _undo.append(entry)
    try:
        yield
    finally:
        if entry in _undo:  # The watchdog may have been here before.
            _undo.remove(entry)
        function(*arguments)


def _undo_all():
    while _undo:
        function, arguments = _undo.pop()
        with contextlib.suppress(Exception):
            function(*arguments)


atexit.register(_undo_all)


@contextlib.contextmanager
def scratch_folder(base="/var/tmp"):
    path = tempfile.mkdtemp(prefix="cairn-test.", dir=base)
    with undo(shutil.rmtree, path, True):
        yield path


def _detach(device):
    subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)
    # Whoever has it open, as udev has after a change, keeps it, and the file, a moment longer.
    backing = f"/sys/block/{os.path.basename(device)}/loop/backing_file"
    end = time.monotonic() + 10
    while os.path.exists(backing) and time.monotonic() < end:
        time.sleep(0.02)


@contextlib.contextmanager
def loop_device(path, direct=True):
    """Attaches a file as a block device for the block."""
    device = run("losetup", "--find", "--show", f"--direct-io={'on' if direct else 'off'}",
                 path).stdout.strip()
    with undo(_detach, device):
        yield device


@contextlib.contextmanager
def mounted(device, folder, *options):
    """Mounts a guest filesystem for the block; the orderly umount must succeed."""
    os.makedirs(folder, exist_ok=True)
    run("mount", *options, device, folder)
    with undo(lazy_unmount, folder):
        yield folder
        run("umount", folder)


class Mount:
    """A store and its mountpoint in a temporary folder of `base`, mounted unless told otherwise."""

    def __init__(self, bin_folder, base="/var/tmp", options="", mount=True):
        self.bin_folder = bin_folder
        self.cairnfs = os.path.join(bin_folder, "cairnfs")
        self.cairn_program = os.path.join(bin_folder, "cairn")
        self.folder = tempfile.mkdtemp(prefix="cairn-test.", dir=base)
        os.chmod(self.folder, 0o755)
        self.store = os.path.join(self.folder, "store")
        self.mountpoint = os.path.join(self.folder, "mnt")
        self.log = os.path.join(self.folder, "log")
        self.options = options
        self._wants_mount = mount
        _undo.append((self.close, ()))
        _live.add(self)
        os.mkdir(self.mountpoint)

    def __enter__(self):
        if self._wants_mount:
            self.up()
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.show_log()
        self.close()

    def path(self, *names):
        return os.path.join(self.mountpoint, *names)

    def start(self, options=None, store=None, mountpoint=None, timeout=START_SECONDS):
        """Runs cairnfs in the background form; returns (exit code, output)."""
        words = self.options if options is None else options
        words = ",".join(filter(None, [words, f"log={self.log}"]))
        return self.start_raw("-o", words, store or self.store, mountpoint or self.mountpoint,
                              timeout=timeout)

    def start_raw(self, *arguments, timeout=START_SECONDS):
        # A pipe that the daemon kept open would make this wait until it ends: the start has to
        # let go of the caller's output.
        done = run(self.cairnfs, *arguments, ok=False, timeout=timeout)
        return done.returncode, (done.stdout + done.stderr).strip()

    def up(self, options=None):
        code, text = self.start(options)
        check(code == 0, f"cairnfs exited {code}: {text}")
        check(is_mounted(self.mountpoint), f"cairnfs exited 0 without a mount: {text}")

    def down(self):
        """umount, then waits until every process of the mount has ended."""
        run("umount", self.mountpoint)
        self.wait_gone()

    def remount(self):
        self.down()
        self.up()

    def wait_gone(self):
        wait_until(lambda: not self.pids(), STOP_SECONDS, "cairnfs ends after the unmount")

    def kill(self):
        """SIGKILL to every process of the mount at once, then clears the dead mount."""
        def gone():
            self.kill_processes()  # Again: a supervisor may have started a server meanwhile.
            return not self.pids()
        wait_until(gone, STOP_SECONDS, "killed processes end")
        lazy_unmount(self.mountpoint)

    def kill_processes(self):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def pids(self):
        """Processes of this mount, by this folder in their arguments or open files."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                # An upgrade runs a copy of the program in memory.
                program = os.readlink(f"/proc/{entry}/exe")
                if not program.startswith((self.cairnfs_real(), "/memfd:cairnfs:")):
                    continue
                names = arguments_of(entry)
                descriptors = f"/proc/{entry}/fd"
                for fd in os.listdir(descriptors):
                    with contextlib.suppress(OSError):
                        names.append(os.readlink(f"{descriptors}/{fd}"))
                if any(name.startswith(self.folder + "/") for name in names):
                    found.append(int(entry))
        return sorted(found)

    def cairnfs_real(self):
        return os.path.realpath(self.cairnfs)

    def parent_pid(self):
        """The supervisor: the one process of the mount whose parent is not of the mount."""
        pids = self.pids()
        tops = []
        for pid in pids:
            # A server that was killed may be gone by now.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), \
                    open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                if int(file.read().rsplit(")", 1)[1].split()[1]) not in pids:
                    tops.append(pid)
        check(len(tops) == 1, f"one supervisor expected, found {tops} of {pids}")
        return tops[0]

    def memory_kib(self, field="VmRSS"):
        """The sum of a field of /proc/PID/status over the processes."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status", encoding="utf-8") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith(field + ":"))
        return total

    def cairn(self, *arguments, ok=True, timeout=START_SECONDS):
        return run(self.cairn_program, *arguments, ok=ok, timeout=timeout)

    def fsck(self):
        done = self.cairn("fsck", self.store, ok=False)
        check(done.returncode == 0,
              f"cairn fsck exited {done.returncode}: {(done.stdout + done.stderr).strip()}")

    def held_by_store(self, part=""):
        """Bytes that the store's files hold on the host, or those of one of its folders."""
        total = 0
        for folder, _, files in os.walk(os.path.join(self.store, part)):
            for name in files:
                with contextlib.suppress(FileNotFoundError):
                    total += os.stat(os.path.join(folder, name)).st_blocks * 512
        return total

    def read_log(self):
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def show_log(self):
        lines = self.read_log().splitlines()[-20:]
        if lines:
            print("last lines of the log:\n  " + "\n  ".join(lines), file=sys.stderr)

    def close(self):
        if is_mounted(self.mountpoint):
            done = subprocess.run(["umount", self.mountpoint], capture_output=True, check=False)
            if done.returncode != 0:
                lazy_unmount(self.mountpoint)
        try:
            self.wait_gone()
        except Failure:
            self.kill_processes()
            lazy_unmount(self.mountpoint)
        shutil.rmtree(self.folder, ignore_errors=True)
        _live.discard(self)
        if (self.close, ()) in _undo:
            _undo.remove((self.close, ()))


def _watchdog():
    """Ends a test that hangs: a call that waits for a stuck server returns when that is killed."""
    print("timed out: ending the daemons of this test", flush=True)
    for mount in list(_live):
        mount.kill_processes()
        lazy_unmount(mount.mountpoint)
    time.sleep(20)
    _undo_all()
    os._exit(1)


def main(*tests):
    """Runs the tests, each a function of the bin folder, and ends the process.

    argv: BIN [NAME...]: the folder with cairnfs and cairn, and the tests to run (default all).
    """
    if not os.path.exists("/dev/fuse"):
        print("skipped: there is no /dev/fuse here")
        sys.exit(SKIP)
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} BIN [TEST...]")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    watchdog = threading.Timer(int(os.environ.get("CAIRN_TEST_SECONDS", "600")), _watchdog)
    watchdog.daemon = True
    watchdog.start()
    bin_folder = os.path.realpath(sys.argv[1])
    names = {test.__name__: test for test in tests}
    failed = []
    for name in sys.argv[2:] or names:
        begin = time.monotonic()
        try:
            names[name](bin_folder)
            verdict = "ok"
        except (Failure, OSError, subprocess.SubprocessError, AssertionError) as error:
            failed.append(name)
            verdict = f"FAILED: {type(error).__name__}: {error}"
            script = os.path.abspath(sys.argv[0])
            lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)
                     if os.path.abspath(frame.filename) == script]
            verdict += f" (lines {lines})"
        print(f"{name}: {verdict} ({time.monotonic() - begin:.1f} s)", flush=True)
    if failed:
        print(f"{len(failed)} of {len(sys.argv[2:] or names)} failed: {', '.join(failed)}")
    sys.exit(1 if failed else 0)
