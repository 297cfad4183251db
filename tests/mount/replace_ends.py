#!/usr/bin/env python3
"""Servers that die, hang or fail at the edges: while they open, drain, and close; programs that are
no servers. What was acknowledged is there afterwards, and nobody waits for ever."""
import contextlib
import datetime
import json
import os
import signal
import socket
import subprocess
import threading

import cairn_mount
import replacing
from checks import check, check_equal, error_of, run, wait_until

# Preloaded into cairnfs. Files in $CAIRN_FAULTS switch the faults on:
#   slow          to make anything durable takes longer each time
#   no_fork       there are no processes to be had
#   die_opening   a server is killed before it opens the store
#   slow_umount   the unmounting waits
#   no_eventfd    a server that runs a copied program fails once it has opened the store
#   wait_replying a server makes a folder, and does not reply until
#   die_replying  it is killed
#   hold_spawns   no process is started to forget pages
#   hold_reads    large reads of the store's files are not begun
FAULTS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_on(const char* name) {
  char path[4096];
  snprintf(path, sizeof(path), "%s/%s", getenv("CAIRN_FAULTS"), name);
  return access(path, F_OK) == 0;
}
static int is_copied(void) {
  char path[4096] = "";
  return readlink("/proc/self/exe", path, sizeof(path) - 1) > 0 && strstr(path, "memfd:") != NULL;
}
static void die(void) { kill(getpid(), SIGKILL); }

int fdatasync(int fd) {
  if (is_on("slow")) usleep(400000);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
int fsync(int fd) {
  if (is_on("slow")) usleep(400000);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
pid_t fork(void) {
  errno = EAGAIN;
  return is_on("no_fork") ? -1 : ((pid_t (*)(void))dlsym(RTLD_NEXT, "fork"))();
}
int posix_spawn(pid_t* pid, const char* path, const posix_spawn_file_actions_t* actions,
                const posix_spawnattr_t* attributes, char* const words[], char* const variables[]) {
  if (is_on("hold_spawns")) fprintf(stderr, "holds a spawn\n");
  while (is_on("hold_spawns")) usleep(1000);
  return ((int (*)(pid_t*, const char*, const posix_spawn_file_actions_t*, const posix_spawnattr_t*,
                   char* const[], char* const[]))dlsym(RTLD_NEXT, "posix_spawn"))(
      pid, path, actions, attributes, words, variables);
}
ssize_t pread64(int fd, void* bytes, size_t size, off_t offset) {
  if (size >= 65536 && is_on("hold_reads")) fprintf(stderr, "holds a read\n");
  while (size >= 65536 && is_on("hold_reads")) usleep(1000);
  return ((ssize_t (*)(int, void*, size_t, off_t))dlsym(RTLD_NEXT, "pread64"))(fd, bytes, size, offset);
}
int umount2(const char* path, int flags) {
  while (is_on("slow_umount")) usleep(10000);
  return ((int (*)(const char*, int))dlsym(RTLD_NEXT, "umount2"))(path, flags);
}
int eventfd(unsigned value, int flags) {
  errno = EMFILE;
  if (is_on("no_eventfd") && is_copied()) return -1;
  return ((int (*)(unsigned, int))dlsym(RTLD_NEXT, "eventfd"))(value, flags);
}
ssize_t writev(int fd, const struct iovec* parts, int count) {
  // A header of 16 bytes and an entry of 128, which begins with the node's id: 0 is no node.
  unsigned long node = 0;
  if (count == 2 && parts[0].iov_len == 16 && parts[1].iov_len == 128) {
    memcpy(&node, parts[1].iov_base, sizeof(node));
  }
  if (node != 0 && is_on("wait_replying")) {
    fprintf(stderr, "waits before it replies\n");
    while (!is_on("die_replying")) usleep(10000);
    die();
  }
  return ((ssize_t (*)(int, const struct iovec*, int))dlsym(RTLD_NEXT, "writev"))(fd, parts, count);
}
__attribute__((constructor)) static void start(int argc, char** argv) {
  if (argc > 2 && strcmp(argv[1], "serve") == 0 && strcmp(argv[2], "--probe") != 0 &&
      is_on("die_opening")) {
    usleep(60000);  // long enough not to look like a short life
    die();
  }
}
"""

# Programs that fit, and then do not serve.
PROGRAM = r"""
#include <string.h>
#include <unistd.h>
int main(int argc, char** argv) {
  if (argc > 2 && strcmp(argv[2], "--probe") == 0) execv(CAIRNFS, argv);
  THEN
}
"""
CONTENT = bytes(range(256)) * 4096 * 2


class FaultyMount:
    """cairnfs in the foreground, with faults that can be switched on."""

    def __init__(self, mount, options="rw", environment=None):
        self.mount = mount
        self.faults = os.path.join(mount.folder, "faults")
        os.makedirs(self.faults, exist_ok=True)
        library = os.path.join(mount.folder, "faults.so")
        with open(library + ".c", "w", encoding="utf-8") as file:
            file.write(FAULTS)
        run("cc", "-shared", "-fPIC", "-O1", "-o", library, library + ".c", "-ldl")
        with open(mount.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [mount.cairnfs, "-f", "-o", options, mount.store, mount.mountpoint],
                stdout=log, stderr=log,
                env={**os.environ, **(environment or {}), "LD_PRELOAD": library,
                     "CAIRN_FAULTS": self.faults})
        wait_until(lambda: cairn_mount.is_mounted(mount.mountpoint), 60, "the mount")
        self.facts()  # Answered once a server serves.

    def facts(self):
        return json.loads(os.getxattr(self.mount.mountpoint, "user.cairn.status"))["mount"]

    def on(self, name):
        with open(os.path.join(self.faults, name), "w", encoding="utf-8"):
            pass

    def off(self, name):
        os.unlink(os.path.join(self.faults, name))

    def log_says(self, text, count=1):
        wait_until(lambda: self.mount.read_log().count(text) >= count, 60, f"'{text}' in the log")

    def ends_with(self, exit_code):
        check_equal(self.process.wait(90), exit_code, "exit code of cairnfs")


@contextlib.contextmanager
def faulty(bin_folder, options="rw", environment=None):
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        faulty_mount = FaultyMount(mount, options, environment)
        try:
            yield faulty_mount
        finally:
            if faulty_mount.process.poll() is None:
                cairn_mount.lazy_unmount(mount.mountpoint)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    faulty_mount.process.wait(20)
            if faulty_mount.process.poll() is None:
                faulty_mount.process.kill()
                faulty_mount.process.wait(20)


def write_acknowledged(test):
    """New blocks that the kernel has handed over, and nobody has synced."""
    fd = os.open(test.mount.path("disk"), os.O_RDWR | os.O_CREAT)
    os.write(fd, CONTENT)
    os.close(fd)


def check_content(mount):
    mount.fsck()
    mount.up()
    with open(mount.path("disk"), "rb") as file:
        check(file.read() == CONTENT, "what was acknowledged is lost")
    mount.down()


def new_program(mount, then):
    program = os.path.join(mount.folder, "program")
    with open(program + ".c", "w", encoding="utf-8") as file:
        file.write(PROGRAM.replace("THEN", then))
    run("cc", "-w", "-o", program, f'-DCAIRNFS="{mount.cairnfs}"', program + ".c")
    return program


def refused(test, program, *words):
    pid = test.facts()["server_pid"]
    done = test.mount.cairn("upgrade", test.mount.mountpoint, "--binary", program, ok=False,
                            timeout=60)
    check_equal(done.returncode, 1, f"exit code of an upgrade to {program}")
    for word in words:
        check(word in done.stderr, f"'{word}' is not in: {done.stderr}")
    return pid == test.facts()["server_pid"]


def the_watchdog_lets_a_server_close_after_umount(bin_folder):
    with faulty(bin_folder, "watchdog=1") as test:
        write_acknowledged(test)
        test.on("slow")
        run("umount", test.mount.mountpoint)
        test.ends_with(0)
        check("killed" not in test.mount.read_log(), "the server was killed while it closed")
        check_content(test.mount)


def a_server_killed_after_umount_loses_nothing(bin_folder):
    with faulty(bin_folder) as test:
        pid = test.facts()["server_pid"]
        write_acknowledged(test)
        test.on("slow")
        run("umount", test.mount.mountpoint)
        os.kill(pid, signal.SIGKILL)
        test.off("slow")
        test.ends_with(0)
        check_content(test.mount)


def a_server_killed_at_sigterm_loses_nothing(bin_folder):
    with faulty(bin_folder) as test:
        pid = test.facts()["server_pid"]
        write_acknowledged(test)
        with open(test.mount.path("disk"), "rb"):
            os.kill(pid, signal.SIGSTOP)  # so that it dies between the signal and the unmounting
            os.kill(test.process.pid, signal.SIGTERM)
            test.log_says("unmounting")
            os.kill(pid, signal.SIGKILL)
            test.ends_with(0)
        check_content(test.mount)


def a_mount_without_replacement_loses_nothing_either(bin_folder):
    with faulty(bin_folder, "no_replace") as test:
        write_acknowledged(test)
        os.kill(test.facts()["server_pid"], signal.SIGKILL)
        test.ends_with(1)
        check_content(test.mount)


def a_server_is_started_once_there_are_processes_again(bin_folder):
    with faulty(bin_folder) as test:
        write_acknowledged(test)
        test.on("no_fork")
        os.kill(test.facts()["server_pid"], signal.SIGKILL)
        test.log_says("no new server", 3)
        test.off("no_fork")
        check_equal(test.facts()["server_generation"], 2, "generation")
        run("umount", test.mount.mountpoint)
        test.ends_with(0)
        check_content(test.mount)


def servers_that_die_while_they_open_hold_the_next_one_back(bin_folder):
    with faulty(bin_folder) as test:
        write_acknowledged(test)
        pid = test.facts()["server_pid"]
        test.on("die_opening")
        os.kill(pid, signal.SIGKILL)
        test.log_says("takes over", 11)
        starts = [datetime.datetime.fromisoformat(line.split("Z ")[0])
                  for line in test.mount.read_log().splitlines() if "takes over" in line]
        waited = (starts[10] - starts[9]).total_seconds()
        # A slow machine makes it longer only.
        check(waited > 0.15, f"the eleventh server was started {waited} s after the tenth")
        test.off("die_opening")
        check(test.facts()["server_generation"] > 11, "generation")
        run("umount", test.mount.mountpoint)
        test.ends_with(0)
        check_content(test.mount)


def what_is_no_program_is_refused_at_once(bin_folder):
    with faulty(bin_folder) as test:
        folder = test.mount.folder
        os.mkfifo(os.path.join(folder, "fifo"), 0o755)
        for path in (os.path.join(folder, "fifo"), folder, "/dev/zero"):
            check(refused(test, path, "no program"), f"{path} ended the old server")
        # From here on without the client's help: the supervisor opens nothing that it is told of.
        address = os.path.join(test.mount.store, "control")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
            client.settimeout(60)
            client.connect(address)
            client.send(f"upgrade {folder}/fifo".encode())
            check(client.recv(8192).startswith(b"failed"), "an upgrade without a program")
        run("umount", test.mount.mountpoint)
        test.ends_with(0)


def a_program_on_the_mount_itself_serves(bin_folder):
    with faulty(bin_folder) as test:
        program = test.mount.path("cairnfs-new")
        run("cp", test.mount.cairnfs, program)
        for _ in range(2):
            test.mount.cairn("upgrade", test.mount.mountpoint, "--binary", program, timeout=60)
        check_equal(test.facts()["upgrades"], 2, "upgrades")
        os.unlink(program)
        # The program is needed again, and its file is gone.
        pid = test.facts()["server_pid"]
        os.kill(pid, signal.SIGKILL)
        check(test.facts()["server_pid"] != pid, "another server")
        run("umount", test.mount.mountpoint)
        test.ends_with(0)


def a_program_that_never_comes_up_gives_way(bin_folder):
    with faulty(bin_folder) as test:
        write_acknowledged(test)
        program = new_program(test.mount, "for (;;) pause();")
        refused(test, program, "the old one goes on", "too long")
        check_equal(test.facts()["upgrades"], 0, "upgrades")
        run("umount", test.mount.mountpoint)
        test.ends_with(0)
        check_content(test.mount)


def a_program_that_ends_at_once_gives_way(bin_folder):
    with faulty(bin_folder) as test:
        write_acknowledged(test)
        refused(test, new_program(test.mount, "return 0;"), "the old one goes on")
        refused(test, new_program(test.mount, "return 3;"), "the old one goes on")
        run("umount", test.mount.mountpoint)
        test.ends_with(0)
        check_content(test.mount)


def start_restart(test):
    thread = threading.Thread(target=test.mount.cairn, daemon=True,
                              args=("restart", test.mount.mountpoint), kwargs={"ok": False})
    thread.start()
    return thread


def sigterm_while_a_server_drains_leaves_time_to_write(bin_folder):
    with faulty(bin_folder) as test:
        fd = os.open(test.mount.path("disk"), os.O_RDWR | os.O_CREAT)
        os.write(fd, b"old")
        test.on("slow")
        test.on("slow_umount")
        thread = start_restart(test)
        test.log_says("making way")
        os.kill(test.process.pid, signal.SIGTERM)
        thread.join(60)
        test.off("slow")
        # The old server ends; as long as the unmounting is under way another one is needed.
        os.pwrite(fd, CONTENT, 0)
        os.fsync(fd)
        os.close(fd)
        test.off("slow_umount")
        test.ends_with(0)
        check_content(test.mount)


def systemd_hears_of_a_server_that_drains_slowly(bin_folder):
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        name = f"\0cairn-test-{os.getpid()}"
        listener.bind(name)
        listener.settimeout(60)
        test = stack.enter_context(faulty(bin_folder, "watchdog=0", {
            "NOTIFY_SOCKET": "@" + name[1:], "WATCHDOG_USEC": "400000"}))
        write_acknowledged(test)
        test.on("slow")
        thread = start_restart(test)
        test.log_says("making way")
        listener.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                listener.recv(4096)
        listener.settimeout(60)
        # While the old server makes its data durable, which takes seconds, nobody serves.
        heard = 0
        while heard < 3:
            heard += listener.recv(4096) == b"WATCHDOG=1"
            check("taken over" not in test.mount.read_log(), "no signs of life while it closed")
        test.off("slow")
        thread.join(60)
        run("umount", test.mount.mountpoint)
        test.ends_with(0)


def a_request_is_not_carried_out_twice_by_a_fall_back(bin_folder):
    with faulty(bin_folder) as test:
        program = os.path.join(test.mount.folder, "cairnfs-other")
        run("cp", test.mount.cairnfs, program)
        os.listdir(test.mount.mountpoint)
        test.on("wait_replying")
        errors = []

        def make():
            try:
                os.mkdir(test.mount.path("folder"))
            except OSError as error:
                errors.append(error)

        maker = threading.Thread(target=make, daemon=True)
        maker.start()
        test.log_says("waits before it replies")
        test.off("wait_replying")
        test.on("no_eventfd")
        client = subprocess.Popen(
            [test.mount.cairn_program, "upgrade", test.mount.mountpoint, "--binary", program],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        test.log_says("making way")
        test.on("die_replying")
        maker.join(60)
        check(not maker.is_alive(), "mkdir hangs")
        check_equal(client.wait(60), 1, "exit code of the upgrade")
        test.log_says("the old one goes on")
        check_equal(errors, [], "errors of a mkdir that was sent again")
        run("umount", test.mount.mountpoint)
        test.ends_with(0)


def kill_all_in_a_rollback(test, before=lambda: None):
    """Server and supervisor are killed while a process that holds the connection waits for them,
    in a call that no signal ends: somebody reads in a page that the kernel is to forget."""
    path = test.mount.path("disk")
    with open(path, "wb") as file:
        file.write(CONTENT)
    os.setxattr(path, "user.cairn.snapshot", b"old")
    fd = os.open(path, os.O_RDONLY)
    supervisor, server = test.process.pid, test.facts()["server_pid"]
    test.on("hold_spawns")
    command = threading.Thread(target=test.mount.cairn, daemon=True, kwargs={"ok": False}, args=(
        "snapshot", "rollback", test.mount.path(".snapshots/old")))
    command.start()
    test.log_says("holds a spawn")
    test.on("hold_reads")
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    errors = []
    reader = threading.Thread(target=lambda: errors.append(error_of(os.pread, fd, 1 << 20, 0)),
                              daemon=True)
    reader.start()
    test.log_says("holds a read")
    test.off("hold_spawns")
    wait_until(lambda: [pid for pid in replacing.children(server)
                        if "forget-pages" in cairn_mount.arguments_of(pid) and
                        state_of(pid) == "D"], 60, "a process that waits for the server")
    before()
    for pid in (supervisor, server):
        os.kill(pid, signal.SIGKILL)
    for thread, what in ((reader, "reader"), (command, "command")):
        thread.join(60)
        check(not thread.is_alive(), f"the {what} hangs")
    check(errors[0] in ("ENOTCONN", "ECONNABORTED"), f"the reader got {errors}")
    os.close(fd)
    test.mount.wait_gone()
    check_content(test.mount)


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rsplit(")", 1)[1].split()[0]


def all_killed_in_a_rollback_let_programs_go(bin_folder):
    with faulty(bin_folder) as test:
        kill_all_in_a_rollback(test)


def and_so_they_do_when_the_mount_is_not_in_the_tree_any_more(bin_folder):
    control = "/sys/fs/fuse/connections"
    with contextlib.ExitStack() as stack:
        if not cairn_mount.is_mounted(control):
            run("mount", "-t", "fusectl", "none", control)
            stack.enter_context(cairn_mount.undo(cairn_mount.lazy_unmount, control))
        test = stack.enter_context(faulty(bin_folder))
        kill_all_in_a_rollback(test, lambda: run("umount", "-l", test.mount.mountpoint))


if __name__ == "__main__":
    cairn_mount.main(the_watchdog_lets_a_server_close_after_umount,
                     a_server_killed_after_umount_loses_nothing,
                     a_server_killed_at_sigterm_loses_nothing,
                     a_mount_without_replacement_loses_nothing_either,
                     a_server_is_started_once_there_are_processes_again,
                     servers_that_die_while_they_open_hold_the_next_one_back,
                     what_is_no_program_is_refused_at_once,
                     a_program_on_the_mount_itself_serves,
                     a_program_that_never_comes_up_gives_way,
                     a_program_that_ends_at_once_gives_way,
                     sigterm_while_a_server_drains_leaves_time_to_write,
                     systemd_hears_of_a_server_that_drains_slowly,
                     a_request_is_not_carried_out_twice_by_a_fall_back,
                     all_killed_in_a_rollback_let_programs_go,
                     and_so_they_do_when_the_mount_is_not_in_the_tree_any_more)
