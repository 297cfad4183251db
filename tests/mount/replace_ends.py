#!/usr/bin/env python3
"""Servers that die, hang or fail at the edges: while they open, drain, and close; programs that are
no servers. What was acknowledged is there afterwards, and nobody waits for ever."""
import contextlib
import datetime
import os
import signal
import socket
import subprocess
import threading

import cairn_mount
from checks import check, check_equal, run
from faulty_mount import CONTENT, check_content, faulty

# Programs that fit, and then do not serve.
PROGRAM = r"""
#include <string.h>
#include <unistd.h>
int main(int argc, char** argv) {
  if (argc > 2 && strcmp(argv[2], "--probe") == 0) execv(CAIRNFS, argv);
  THEN
}
"""


def write_acknowledged(test):
    """New blocks that the kernel has handed over, and nobody has synced."""
    fd = os.open(test.mount.path("disk"), os.O_RDWR | os.O_CREAT)
    os.write(fd, CONTENT)
    os.close(fd)


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
                     a_request_is_not_carried_out_twice_by_a_fall_back)
