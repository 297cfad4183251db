#!/usr/bin/env python3
"""The examples and the timer's unit do what they say."""
import os
import shlex
import subprocess
import time

import snapshot_tools as tools
from cairn_mount import Mount, loop_device, main, mounted, undo
from checks import check, check_equal, error_of, run, wait_until

PROJECT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
HOOK = os.path.join(PROJECT, "examples", "fsfreeze-hook.sh")
POSTGRES = os.path.join(PROJECT, "examples", "postgres-snapshot.sh")
UNIT = os.path.join(PROJECT, "tools", "systemd", "cairn-snapshot@.service")


def needs_recovery(device):
    return "needs_recovery" in run("dumpe2fs", "-h", device).stdout


def a_frozen_guest_needs_no_recovery(bin_folder):
    with Mount(bin_folder) as mount:
        os.mkdir(mount.path("vm1"))
        volume, guest = mount.path("vm1", "disk.img"), os.path.join(mount.folder, "guest")
        run("truncate", "-s", "256M", volume)

        def create(name, *places, ok=True):
            hook = shlex.join([HOOK, *places])
            return mount.cairn("snapshot", "create", mount.path("vm1"), "--name", name, "--pre",
                               hook, "--post", hook, ok=ok)

        with loop_device(volume) as device:
            run("mkfs.ext4", "-q", "-F", device)
            with mounted(device, guest):
                with open(guest + "/file", "w", encoding="utf-8") as file:
                    file.write("written and not synced")
                create("frozen", guest)
                with open(guest + "/later", "w", encoding="utf-8") as file:
                    file.write("it takes writes again")
                # What cannot be frozen fails the request, and thaws what was.
                other = os.path.join(mount.folder, "no-filesystem")
                check_equal(create("none", guest, other, ok=False).returncode, 1, "a wrong place")
                with open(guest + "/last", "w", encoding="utf-8") as file:
                    file.write("and again")
        check_equal(tools.names(mount), ["frozen"], "snapshots")
        mount.cairn("clone", mount.path(".snapshots", "frozen", "vm1"), mount.path("vm2"))
        with loop_device(mount.path("vm2", "disk.img")) as device:
            check(not needs_recovery(device), "the frozen guest's journal was not empty")
            with mounted(device, guest):
                check_equal(sorted(os.listdir(guest)), ["file", "lost+found"], "the guest's files")
                with open(guest + "/file", encoding="utf-8") as file:
                    check_equal(file.read(), "written and not synced", "the guest's file")


def the_hook_tells_frozen_from_read_only(bin_folder):
    """Here nothing can be thawed: `fsfreeze` always fails."""
    with Mount(bin_folder) as mount:
        volume, guest = mount.path("disk.img"), os.path.join(mount.folder, "guest")
        tools_folder = os.path.join(mount.folder, "tools")
        os.mkdir(tools_folder)
        os.symlink("/bin/false", os.path.join(tools_folder, "fsfreeze"))
        environment = dict(os.environ, CAIRN_STAGE="post",
                           PATH=f"{tools_folder}:{os.environ['PATH']}")
        messages = os.path.join(mount.folder, "messages")

        def run_hook():
            # To a file: what the hook leaves behind until the thaw would keep a pipe open.
            with open(messages, "w", encoding="utf-8") as file:
                hook = subprocess.Popen([HOOK, guest], env=environment, stdin=subprocess.DEVNULL,
                                        stdout=file, stderr=file, start_new_session=True)
            hook.wait(60)
            return hook
        run("truncate", "-s", "64M", volume)
        with loop_device(volume) as device:
            run("mkfs.ext4", "-q", "-F", device)
            with mounted(device, guest):
                check_equal(run_hook().returncode, 0, "the hook at a guest that is open")
                run("fsfreeze", "-f", guest)
                with undo(run, "fsfreeze", "-u", guest):
                    hook = run_hook()
                check_equal(hook.returncode, 1, "the hook at a frozen guest")
                with open(messages, encoding="utf-8") as file:
                    check("still frozen" in file.read(), "what the hook says of a frozen guest")
                wait_until(lambda: error_of(os.killpg, hook.pid, 0) == "ESRCH", 60,
                           "the probe has ended")
                check_equal(os.listdir(guest), ["lost+found"], "what the probes left behind")
                run("mount", "-o", "remount,ro", guest)
                check_equal(run_hook().returncode, 0, "the hook at a read-only guest")


def a_guest_that_was_not_frozen_is_mounted_from_a_clone(bin_folder):
    with Mount(bin_folder) as mount:
        guest = os.path.join(mount.folder, "guest")
        for kind, make in (("ext4", ("mkfs.ext4", "-q", "-F")), ("xfs", ("mkfs.xfs", "-q", "-f"))):
            volume = mount.path(kind)
            run("truncate", "-s", "512M", volume)
            with loop_device(volume) as device:
                run(*make, device)
                with mounted(device, guest):
                    with open(guest + "/file", "w", encoding="utf-8") as file:
                        file.write("synced")
                        file.flush()
                        os.fsync(file.fileno())
                    mount.cairn("snapshot", "create", volume, "--name", kind)
            member = mount.path(".snapshots", kind, kind)
            with loop_device(member) as device:
                done = run("mount", "-o", "ro", device, guest, ok=False)
                check(done.returncode != 0, f"{kind}: a journal was replayed in a snapshot")
            mount.cairn("clone", member, mount.path(kind + "-copy"))
            with loop_device(mount.path(kind + "-copy")) as device:
                with mounted(device, guest):
                    with open(guest + "/file", encoding="utf-8") as file:
                        check_equal(file.read(), "synced", f"a file in a clone of {kind}")


def postgresql_on_two_volumes(bin_folder):
    with Mount(bin_folder) as mount:
        environment = dict(os.environ, CAIRN=mount.cairn_program)
        machine = mount.path(f"pg-{os.getpid()}")
        copy = machine + "-copy"

        def example(*arguments, ok=True):
            return run(POSTGRES, *arguments, ok=ok, env=environment, timeout=240)

        def sql(where, command):
            socket = os.path.join("/run/cairn-postgres", os.path.basename(where), "socket")
            return run("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "psql",
                       "-h", socket, "-Atc", command, "postgres", cwd="/").stdout.strip()

        with undo(example, "close", machine):
            example("demo", machine)
            sql(machine, "create table t as select generate_series(1, 1000) n")
            example("take", machine, "monday")
            sql(machine, "delete from t")
            with undo(example, "close", copy):
                example("open", machine, "monday", copy)
                check_equal(sql(copy, "select count(*) from t"), "1000", "rows in the copy")
                check_equal(sql(machine, "select count(*) from t"), "0", "rows in the machine")
            check(not os.path.exists(copy), "the copy is still there")


def lines_of_the_unit(kind, path, instance):
    with open(UNIT, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.startswith(kind + "=")]
    check_equal(len(lines), 1, f"{kind} lines")
    text = lines[0].partition("=")[2]
    # As systemd does: %% is a percent sign, $$ a dollar.
    for old, new in (("%%", "\0"), ("%f", path), ("%i", instance), ("\0", "%"), ("$$", "$")):
        text = text.replace(old, new)
    return shlex.split(text)


def the_timer_takes_and_prunes(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        tools.create(folder, "by-hand")
        environment = dict(os.environ, KEEP="--keep-last 2", CREATE="--exclude boot.img",
                           PATH=f"{bin_folder}:{os.environ['PATH']}")
        taken = []
        for _ in range(3):
            for kind in ("ExecStart", "ExecStartPost"):
                subprocess.run(lines_of_the_unit(kind, folder, "vm1"), env=environment, check=True,
                               timeout=60, stdout=subprocess.DEVNULL)
            taken += sorted(set(tools.names(mount)) - {"by-hand", *taken})
            time.sleep(1.1)  # its names tell seconds
        check_equal(len(taken), 3, "snapshots that the timer took")
        check_equal(sorted(tools.names(mount)), sorted(["by-hand", *taken[1:]]), "those kept")
        check_equal(os.listdir(mount.path(".snapshots", taken[-1], "vm1")), ["data.img"],
                    "what CREATE leaves")


if __name__ == "__main__":
    main(a_frozen_guest_needs_no_recovery, the_hook_tells_frozen_from_read_only,
         a_guest_that_was_not_frozen_is_mounted_from_a_clone, postgresql_on_two_volumes,
         the_timer_takes_and_prunes)
