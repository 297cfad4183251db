"""What is measured: Cairn, libfuse's passthrough_ll, qemu-storage-daemon, and the plain file.

A target lives in a folder of its own on the backing that is measured. start() brings it up, fill()
fills the volumes of all of them; volume() is the filled file, fresh() a new sparse one; close() takes
everything down again and never raises, so it may be called at any point of a failed start.
"""
import contextlib
import gzip
import os
import shutil
import signal
import subprocess
import time

import fio

EXAMPLES = "/usr/share/doc/libfuse3-dev/examples"
START_SECONDS = 60
STOP_SECONDS = 60
SLICE_MIB = 64


def is_mounted(path):
    """True for a mounted directory and for a single mounted file (os.path.ismount is not)."""
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        return any(line.split()[4] == path for line in table)


def wait_for(what, condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"{what}: still not so after {seconds} s")
        time.sleep(0.02)


def unmount(path):
    """Unmounts if mounted: orderly at first, lazily when that is refused."""
    if not is_mounted(path):
        return
    for flags in ((), ("-l",)):
        done = subprocess.run(["umount", *flags, path], capture_output=True, check=False)
        if done.returncode == 0:
            return


def stop(process):
    """Ends a child by its process id."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def make_sparse(path, size_mib):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with open(path, "wb") as file:
        file.truncate(size_mib * 2**20)


def fill(lineup):
    """In slices, by turns: whose volume is filled first as a whole gets other memory on tmpfs, and is
    slower by a fifth for as long as it lives."""
    size_mib = lineup[0].size_mib
    for offset in range(0, size_mib, SLICE_MIB):
        for target in lineup:
            fio.fill(target.volume(), min(SLICE_MIB, size_mib - offset), offset)


class Target:
    """A folder in which volumes are plain files; the others build on it."""

    name = "plain"
    title = "plain file"

    def __init__(self, folder):
        self.folder = folder
        self.size_mib = 0

    def start(self, size_mib):
        os.makedirs(self.folder)
        self.size_mib = size_mib
        self.bring_up()
        self.make_volume()

    def bring_up(self):
        pass

    def root(self):
        return self.folder

    def volume(self):
        return os.path.join(self.root(), "volume.img")

    def make_volume(self):
        make_sparse(self.volume(), self.size_mib)

    def fresh(self, size_mib):
        path = os.path.join(self.root(), "fresh.img")
        make_sparse(path, size_mib)
        return path

    def drop_fresh(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.root(), "fresh.img"))

    def take_down(self):
        pass

    def close(self):
        with contextlib.suppress(OSError, subprocess.SubprocessError, RuntimeError):
            self.take_down()
        shutil.rmtree(self.folder, ignore_errors=True)


class Cairn(Target):
    name = "cairn"
    title = "Cairn"

    def __init__(self, folder, build, options=""):
        super().__init__(folder)
        self.program = os.path.join(build, "bin", "cairnfs")
        self.options = ["-o", options] if options else []
        self.store = os.path.join(folder, "store")
        self.mountpoint = os.path.join(folder, "mount")

    def bring_up(self):
        """Mounts; returns the seconds that it took."""
        os.makedirs(self.mountpoint, exist_ok=True)
        log = os.path.join(self.folder, "cairnfs.log")
        begin = time.monotonic()
        # A file, not a pipe: the daemon may keep its output open after the start returned.
        with open(log, "wb") as out:
            done = subprocess.run([self.program, *self.options, self.store, self.mountpoint],
                                  stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                  timeout=START_SECONDS, check=False)
        seconds = time.monotonic() - begin
        if done.returncode != 0 or not is_mounted(self.mountpoint):
            with open(log, encoding="utf-8", errors="replace") as text:
                raise RuntimeError(f"cairnfs exited {done.returncode}: {text.read().strip()}")
        return seconds

    def root(self):
        return self.mountpoint

    def pids(self):
        """The processes of this mount: by its folder in their arguments or open files."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if not os.path.basename(os.readlink(f"/proc/{entry}/exe")).startswith("cairn"):
                    continue
                with open(f"/proc/{entry}/cmdline", encoding="utf-8", errors="replace") as file:
                    words = file.read().split("\0")
                names = [os.readlink(f"/proc/{entry}/fd/{fd}")
                         for fd in os.listdir(f"/proc/{entry}/fd")]
                if any(word.startswith(self.folder + "/") for word in words + names):
                    found.append(int(entry))
        return found

    def take_down(self):
        unmount(self.mountpoint)
        try:
            wait_for("cairnfs ends after umount", lambda: not self.pids(), STOP_SECONDS)
        except RuntimeError:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


class Passthrough(Target):
    name = "passthrough_ll"
    title = "passthrough_ll"

    def __init__(self, folder, program):
        super().__init__(folder)
        self.program = program
        self.source = os.path.join(folder, "source")
        self.mountpoint = os.path.join(folder, "mount")
        self.process = None

    @staticmethod
    def compile(folder):
        """Builds the example that Debian's libfuse3-dev ships; returns the program's path."""
        for name in ("passthrough_ll.c", "passthrough_helpers.h"):
            shipped = os.path.join(EXAMPLES, name)
            target = os.path.join(folder, name)
            if os.path.exists(shipped):
                shutil.copyfile(shipped, target)
            else:
                with gzip.open(shipped + ".gz") as packed, open(target, "wb") as out:
                    shutil.copyfileobj(packed, out)
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=True,
                               capture_output=True, text=True).stdout.split()
        program = os.path.join(folder, "passthrough_ll")
        subprocess.run(["gcc", "-O2", os.path.join(folder, "passthrough_ll.c"), "-o", program,
                        *flags], check=True)
        return program

    def bring_up(self):
        os.makedirs(self.source)
        os.makedirs(self.mountpoint)
        options = f"source={self.source},cache=always,clone_fd"
        self.process = subprocess.Popen([self.program, "-f", "-o", options, self.mountpoint],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        wait_for("passthrough_ll mounts", lambda: is_mounted(self.mountpoint), START_SECONDS)

    def root(self):
        return self.mountpoint

    def take_down(self):
        unmount(self.mountpoint)
        stop(self.process)


class Qsd(Target):
    """qemu-storage-daemon exports one qcow2 as one file; a fresh volume is another daemon."""

    name = "qsd"
    title = "qemu-storage-daemon"

    def __init__(self, folder):
        super().__init__(folder)
        self.exports = {}  # mounted file -> process

    def export(self, path, size_mib):
        image = path + ".qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, f"{size_mib}M"],
                       check=True)
        with open(path, "wb"):
            pass
        self.exports[path] = subprocess.Popen(
            ["qemu-storage-daemon",
             "--blockdev", f"driver=file,node-name=file,filename={image}",
             "--blockdev", "driver=qcow2,node-name=image,file=file",
             "--export", f"type=fuse,id=export,node-name=image,mountpoint={path},"
                         "writable=on,growable=off"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("qemu-storage-daemon exports", lambda: is_mounted(path), START_SECONDS)

    def withdraw(self, path):
        stop(self.exports.pop(path, None))
        unmount(path)
        for name in (path, path + ".qcow2"):
            with contextlib.suppress(OSError):
                os.unlink(name)

    def make_volume(self):
        self.export(self.volume(), self.size_mib)

    def fresh(self, size_mib):
        self.drop_fresh()
        path = os.path.join(self.folder, "fresh.img")
        self.export(path, size_mib)
        return path

    def drop_fresh(self):
        path = os.path.join(self.folder, "fresh.img")
        if path in self.exports:
            self.withdraw(path)

    def take_down(self):
        for path in list(self.exports):
            self.withdraw(path)
