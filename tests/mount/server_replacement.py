#!/usr/bin/env python3
"""Servers that die, hang, or are replaced on purpose, under open files; and what ends a mount."""
import contextlib
import errno
import json
import mmap
import os
import random
import signal
import socket
import subprocess
import threading
import time

import cairn_mount
from checks import check, check_equal, run, wait_until

BLOCK = 4096
JOURNAL = 1 << 20  # bytes

# Fits, and then does not serve.
FAILING_PROGRAM = r"""
#include <string.h>
#include <unistd.h>
int main(int argc, char** argv) {
  (void)argc;
  if (argv[1] && argv[2] && strcmp(argv[2], "--probe") == 0) execv(CAIRNFS, argv);
  return 3;
}
"""


def facts(mount):
    return json.loads(os.getxattr(mount.mountpoint, "user.cairn.status"))["mount"]


def kill_server(mount):
    """Returns when the next server answers."""
    pid = facts(mount)["server_pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: facts(mount)["server_pid"] != pid, 30, "another server answers")


class Writer(threading.Thread):
    """Writes numbered blocks with O_DIRECT and reads each back."""

    def __init__(self, path):
        super().__init__(daemon=True)
        self.path = path
        self.error = None
        self.done = {}
        self.stop = threading.Event()

    def run(self):
        buffer = mmap.mmap(-1, BLOCK)
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_DIRECT)
            number = 0
            while not self.stop.is_set():
                number += 1
                place = random.randrange(512)
                content = number.to_bytes(8, "little") * (BLOCK // 8)
                buffer[:] = content
                os.pwritev(fd, [buffer], place * BLOCK)
                self.done[place] = content
                os.preadv(fd, [buffer], place * BLOCK)
                check(buffer[:] == content, f"block {place} is not what was written")
            os.close(fd)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def finish(self):
        self.stop.set()
        self.join(60)
        check(not self.is_alive(), "the writer hangs")
        check(self.error is None, f"the writer failed: {self.error}")
        with open(self.path, "rb") as file:
            for place, content in self.done.items():
                file.seek(place * BLOCK)
                check(file.read(BLOCK) == content, f"block {place} is lost")


@contextlib.contextmanager
def writing(mount):
    writer = Writer(mount.path("disk"))
    writer.start()
    try:
        yield
    finally:
        writer.stop.set()
    writer.finish()


def killed_servers_are_replaced_and_nobody_comes_in(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        with writing(mount):
            for number in range(1, 11):
                pid = facts(mount)["server_pid"]
                os.kill(pid, signal.SIGKILL)
                done = mount.cairn("fsck", mount.store, ok=False)
                check(done.returncode == 1 and "mounted" in done.stderr,
                      f"fsck while a server is replaced: {done.returncode} {done.stderr}")
                wait_until(lambda: facts(mount)["server_pid"] != pid, 30, "another server")
                now = facts(mount)
                check_equal(now["restarts"], number, "restarts")
                check_equal(now["server_generation"], number + 1, "generation")
        mount.down()
        mount.fsck()


def an_unlinked_open_volume_lives_through_servers_until_it_is_closed(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        fd = os.open(mount.path("gone"), os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, b"x" * (8 << 20), 0)
        os.fsync(fd)
        os.unlink(mount.path("gone"))
        for _ in range(3):
            kill_server(mount)
            check(os.pread(fd, 8 << 20, 0) == b"x" * (8 << 20), "the unlinked volume's content")
            check_equal(os.fstat(fd).st_nlink, 0, "links of the unlinked volume")
        os.close(fd)
        extents = os.path.join(mount.store, "extents")
        wait_until(lambda: not any(files for _, _, files in os.walk(extents)), 30,
                   "the closed volume's space comes back")
        mount.down()
        mount.fsck()


def a_hung_server_is_replaced(bin_folder):
    with cairn_mount.Mount(bin_folder, options="watchdog=1") as mount:
        with writing(mount):
            os.kill(facts(mount)["server_pid"], signal.SIGSTOP)
            # Until the signal has reached all its threads, one of them may still answer.
            wait_until(lambda: facts(mount)["restarts"] == 1, 30, "the next server")
        check("answers nothing" in mount.read_log(), "the log says why")


def restarts_and_upgrades_lose_nothing(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        other = os.path.join(mount.folder, "cairnfs-other")
        run("cp", mount.cairnfs, other)
        with writing(mount):
            for number in range(5):
                mount.cairn("restart", mount.mountpoint)
                done = mount.cairn("upgrade", mount.mountpoint, "--binary", other, "--json")
                answer = json.loads(done.stdout)
                now = facts(mount)
                check_equal(answer["server_pid"], now["server_pid"], "server")
                check_equal(now["upgrades"], number + 1, "upgrades")
                check_equal(now["restarts"], 0, "restarts")
        program = os.readlink(f"/proc/{facts(mount)['server_pid']}/exe")
        check(program.startswith("/memfd:") and other in program, f"the program: {program}")
        mount.down()
        mount.fsck()


def a_program_that_does_not_fit_is_refused(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        with writing(mount):
            pid = facts(mount)["server_pid"]
            for program in ("/bin/true", "/bin/false", "/etc/passwd", "/does/not/exist"):
                done = mount.cairn("upgrade", mount.mountpoint, "--binary", program, ok=False)
                check_equal(done.returncode, 1, f"upgrade to {program}")
                check(len(done.stderr) > 20, f"upgrade to {program} gives no reason")
            check_equal(facts(mount)["server_pid"], pid, "the old server goes on")
        mount.down()
        mount.fsck()


def a_program_that_does_not_serve_gives_way_to_the_old_one(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        program = os.path.join(mount.folder, "failing")
        with open(program + ".c", "w", encoding="utf-8") as file:
            file.write(FAILING_PROGRAM)
        run("cc", "-o", program, f'-DCAIRNFS="{mount.cairnfs}"', program + ".c")
        with writing(mount):
            done = mount.cairn("upgrade", mount.mountpoint, "--binary", program, ok=False)
            check_equal(done.returncode, 1, "exit code of the upgrade")
            check("the old one goes on" in done.stderr, done.stderr)
            check_equal(facts(mount)["upgrades"], 0, "upgrades")
        check_equal(os.readlink(f"/proc/{facts(mount)['server_pid']}/exe"), mount.cairnfs_real(),
                    "the program")


def start_in_foreground(mount, options):
    process = subprocess.Popen(
        [mount.cairnfs, "-f", "-o", options, mount.store, mount.mountpoint],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: cairn_mount.is_mounted(mount.mountpoint) and
               os.path.isdir(mount.mountpoint), cairn_mount.START_SECONDS, "the mount")
    return process


def check_ended(mount, process, reason):
    text, _ = process.communicate(timeout=cairn_mount.STOP_SECONDS)
    check_equal(process.returncode, 1, f"exit code; it said: {text}")
    check(reason in text, f"'{reason}' is not in: {text}")
    check(not cairn_mount.is_mounted(mount.mountpoint), "the mount is still there")
    mount.fsck()
    mount.up()
    with open(mount.path("synced"), "rb") as file:
        check(file.read() == b"synced" * 10000, "what was fsynced is lost")
    mount.down()


def write_synced(mount):
    with open(mount.path("synced"), "wb") as file:
        file.write(b"synced" * 10000)
        file.flush()
        os.fsync(file.fileno())


def without_replacement_the_mount_ends(bin_folder):
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        process = start_in_foreground(mount, "no_replace")
        write_synced(mount)
        fd = os.open(mount.path("synced"), os.O_RDONLY | os.O_DIRECT)
        os.kill(facts(mount)["server_pid"], signal.SIGKILL)
        process.wait(cairn_mount.STOP_SECONDS)
        try:
            os.preadv(fd, [mmap.mmap(-1, BLOCK)], 0)
            check(False, "a read from a mount that has ended")
        except OSError as error:
            check(error.errno in (errno.ENOTCONN, errno.ECONNABORTED), str(error))
        os.close(fd)
        check_ended(mount, process, "killed by signal 9")


def scribble(memory, size):
    """Over each page of the journal that is in use but the first, which counts."""
    with open(memory, "r+b", buffering=0) as file:
        at = os.lseek(file.fileno(), BLOCK, os.SEEK_DATA)
        while at < size:
            os.pwrite(file.fileno(), b"\xff" * BLOCK, at)
            at = os.lseek(file.fileno(), at + BLOCK, os.SEEK_DATA)  # a table comes behind it


def a_scribbled_journal_is_refused(bin_folder):
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        process = start_in_foreground(mount, f"journal={JOURNAL}")
        write_synced(mount)
        # New blocks, which only the journal knows of yet.
        with open(mount.path("new"), "wb") as file:
            file.write(b"n" * (4 << 20))
        folder = f"/proc/{facts(mount)['supervisor_pid']}/fd"
        memory = next(os.path.join(folder, fd) for fd in os.listdir(folder)
                      if "memfd:cairn-journal" in os.readlink(os.path.join(folder, fd)))
        scribble(memory, JOURNAL)
        os.kill(facts(mount)["server_pid"], signal.SIGKILL)
        check_ended(mount, process, "index journal")


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
        return [int(word) for word in file.read().split()]


def servers_that_crash_again_and_again_end_the_mount(bin_folder):
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        process = start_in_foreground(mount, "rw")
        write_synced(mount)
        crashes = 0
        while process.poll() is None:
            check(crashes < 1000, "a mount whose servers crash goes on for ever")
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                for pid in children(process.pid):
                    os.kill(pid, signal.SIGSEGV)
                    crashes += 1
            time.sleep(0.05)
        check(crashes > 5, f"a mount ended after {crashes} crashes")
        check_ended(mount, process, "giving up")


def replacements_that_somebody_asked_for_may_be_killed_too(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        supervisor = facts(mount)["supervisor_pid"]
        stop = threading.Event()

        def all_serve():
            log = mount.read_log()
            return all(f" {pid} serving " in log for pid in children(supervisor))

        def kill_now_and_then():
            while not stop.wait(random.uniform(0.02, 0.3)):
                # Mostly one that serves; the others may die while they start.
                waits = random.random() < 0.75
                while waits and not all_serve() and not stop.is_set():
                    time.sleep(0.02)
                for pid in children(supervisor):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_now_and_then, daemon=True)
        killer.start()
        try:
            with writing(mount):
                for number in range(30):
                    verb = ("restart", "upgrade")[number % 2]
                    # A new program that was killed while it came up gives way to the old one.
                    done = mount.cairn(verb, mount.mountpoint, ok=False)
                    check(done.returncode == 0 or verb == "upgrade", done.stderr)
        finally:
            stop.set()
            killer.join()
        check(facts(mount)["restarts"] > 0, "nothing was killed")
        mount.down()
        mount.fsck()


def all_stopped(pid):
    states = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), \
                open(f"/proc/{pid}/task/{task}/stat", encoding="utf-8") as file:
            states.append(file.read().rsplit(")", 1)[1].split()[0])
    return set(states) == {"T"}


def systemd_is_told(bin_folder):
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        path = os.path.join(mount.folder, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(cairn_mount.START_SECONDS)
            environment = dict(os.environ, NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")
            process = subprocess.Popen(
                [mount.cairnfs, "-f", "-o", f"log={mount.log}", mount.store, mount.mountpoint],
                env=environment)
            check_equal(notify.recv(100), b"READY=1", "the first word")
            check(cairn_mount.is_mounted(mount.mountpoint), "ready without a mount")
            for _ in range(3):
                check_equal(notify.recv(100), b"WATCHDOG=1", "the word of a mount that is well")
            # The server is stopped: nobody may say that it is well.
            server = facts(mount)["server_pid"]
            os.kill(server, signal.SIGSTOP)
            wait_until(lambda: all_stopped(server), 60, "the server is stopped")
            # A server that is well is told of every 0.1 s; of what was heard before, a few are left.
            notify.settimeout(1)
            with contextlib.suppress(socket.timeout):
                for _ in range(20):
                    notify.recv(100)
                check(False, "words for a server that hangs")
            for pid in children(process.pid):
                os.kill(pid, signal.SIGCONT)
            notify.settimeout(60)
            check_equal(notify.recv(100), b"WATCHDOG=1", "the word when it goes on")
            process.send_signal(signal.SIGTERM)
            word = b"WATCHDOG=1"
            while word == b"WATCHDOG=1":
                word = notify.recv(100)
            check_equal(word, b"STOPPING=1", "the last word")
        check_equal(process.wait(cairn_mount.STOP_SECONDS), 0, "exit code")


def a_dead_supervisor_ends_the_mount(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        write_synced(mount)
        fd = os.open(mount.path("synced"), os.O_RDONLY | os.O_DIRECT)
        os.kill(facts(mount)["supervisor_pid"], signal.SIGKILL)
        mount.wait_gone()
        try:
            os.preadv(fd, [mmap.mmap(-1, BLOCK)], 0)
            check(False, "a read from a mount that has ended")
        except OSError as error:
            check(error.errno in (errno.ENOTCONN, errno.ECONNABORTED), str(error))
        os.close(fd)
        mount.fsck()
        mount.up()
        with open(mount.path("synced"), "rb") as file:
            check(file.read() == b"synced" * 10000, "what was fsynced is lost")


def no_core_holds_data_of_volumes(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        pid = facts(mount)["server_pid"]
        # Files of a process that is not dumpable belong to root, whoever runs it.
        with open(f"/proc/{pid}/limits", encoding="utf-8") as file:
            core = next(line for line in file if line.startswith("Max core file size"))
        check_equal(core.split()[4:6], ["0", "0"], "core limit of the server")


if __name__ == "__main__":
    cairn_mount.main(killed_servers_are_replaced_and_nobody_comes_in,
                     an_unlinked_open_volume_lives_through_servers_until_it_is_closed,
                     a_hung_server_is_replaced,
                     restarts_and_upgrades_lose_nothing,
                     a_program_that_does_not_fit_is_refused,
                     a_program_that_does_not_serve_gives_way_to_the_old_one,
                     without_replacement_the_mount_ends,
                     a_scribbled_journal_is_refused,
                     servers_that_crash_again_and_again_end_the_mount,
                     replacements_that_somebody_asked_for_may_be_killed_too,
                     systemd_is_told,
                     a_dead_supervisor_ends_the_mount,
                     no_core_holds_data_of_volumes)
