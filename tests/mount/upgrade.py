#!/usr/bin/env python3
"""`cairn upgrade` and `cairn restart` under fio with verification; and what an upgrade refuses.

argv: BIN [REPLACEMENTS] (default 6).
"""
import contextlib
import json
import os
import random
import shutil
import sys

import cairn_mount
import replace_fio
import replacing
from checks import check, check_equal, run


class Upgrader(replacing.Killer):
    """Upgrades to one copy of the program after another, and restarts in between."""

    noun = "replacements"

    def __init__(self, mount, rng, most, **range_of_pauses):
        super().__init__(mount, rng, most, **range_of_pauses)
        self.programs = [os.path.join(mount.folder, "bin", name) for name in ("one", "two")]
        os.makedirs(os.path.dirname(self.programs[0]), exist_ok=True)
        for path in self.programs:
            shutil.copy2(mount.cairnfs, path)
        self.program = mount.cairnfs_real()
        self.pauses = []  # ms, as the program tells them

    def check_counts(self):
        """They count crashes; what somebody asked for is none."""
        check_equal(replacing.status(self.mount)["restarts"], self.restarts_before, "restarts")

    def disturb(self):
        self.pause()
        old = replacing.servers(self.supervisor)
        if self.kills % 2 == 0:
            self.program = self.programs[self.kills // 2 % 2]
            done = self.mount.cairn("upgrade", self.mount.mountpoint, "--binary", self.program,
                                    "--json")
        else:
            done = self.mount.cairn("restart", self.mount.mountpoint, "--json")
        self.pauses.append(json.loads(done.stdout)["pause_ms"])
        new = replacing.servers(self.supervisor)
        check(len(old) == len(new) == 1 and old != new,
              f"servers {old} before and {new} after replacement {self.kills}")
        # A restart keeps to the program of the last upgrade.
        found = os.readlink(f"/proc/{new[0]}/exe")
        check(self.program in found, f"the new server runs {found}, wanted {self.program}")
        check_equal(replacing.status(self.mount)["server_pid"], new[0], "server_pid")
        self.kills += 1


def replacements_under_fio(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.Mount(bin_folder) as mount:
        done = {}
        for name in replace_fio.LOADS:
            run("truncate", "-s", f"{replace_fio.SIZE_MIB}M", mount.path(name))
        before = replacing.status(mount)
        with replacing.kills(mount, rng, most, kind=Upgrader) as upgrader:
            loads = {name: replacing.Load(replace_fio.passes, mount, name,
                                          random.Random(rng.random()), done)
                     for name in replace_fio.LOADS}
            replacing.run_until_killed_enough(upgrader, loads)
        pauses = sorted(upgrader.pauses)
        print(f"  pauses: median {pauses[len(pauses) // 2]:.0f} ms, worst {pauses[-1]:.0f} ms")
        after = replacing.status(mount)
        check_equal(after["upgrades"] - before["upgrades"], (most + 1) // 2, "upgrades counted")
        check_equal(after["server_generation"] - before["server_generation"], most,
                    "generations counted")
        check_equal(after["supervisor_pid"], before["supervisor_pid"], "supervisor_pid")
        replace_fio.verify_all(mount, done)


@contextlib.contextmanager
def damaged(path):
    """A file whose bytes differ for the block, and are as before afterwards."""
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "r+b") as file:
        file.write(bytes(byte ^ 0x5A for byte in content))
    try:
        yield
    finally:
        with open(path, "r+b") as file:
            file.write(content)


def what_does_not_fit_is_refused(bin_folder):
    with cairn_mount.Mount(bin_folder) as mount:
        text = os.path.join(mount.folder, "text")
        with open(text, "w", encoding="ascii") as file:
            file.write("no program\n")
        script = os.path.join(mount.folder, "script")
        with open(script, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\nkill -SEGV $$\n")
        os.chmod(script, 0o755)
        fd = os.open(mount.path("disk"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.pwrite(fd, b"0", 0)
            before = replacing.status(mount)
            number = 0

            def refused(what, binary, reason=""):
                nonlocal number
                done = mount.cairn("upgrade", mount.mountpoint, "--binary", binary, ok=False)
                check_equal(done.returncode, 1, f"{what}: exit code, with {done.stderr!r}")
                check(0 < len(done.stderr.strip().splitlines()) <= 3,
                      f"{what}: the reason is no short text: {done.stderr!r}")
                check(reason in done.stderr, f"{what}: {done.stderr!r} does not say {reason!r}")
                number += 1
                os.pwrite(fd, b"%d" % number, number)
                check_equal(os.pread(fd, 1, number), b"%d" % number, f"{what}: content")
                os.mkdir(mount.path(f"after{number}"))
                after = replacing.status(mount)
                for key in ("server_pid", "supervisor_pid", "upgrades", "restarts",
                            "server_generation"):
                    check_equal(after[key], before[key], f"{what}: {key}")

            refused("a program of another kind", "/bin/true", "is no cairnfs")
            refused("a program that never answers in time", "/usr/bin/yes")
            refused("a program that crashes", script)
            refused("a text", text)
            refused("nothing", os.path.join(mount.folder, "absent"))
            refused("a directory", mount.folder)
            refused("the other tool", mount.cairn_program)
            with damaged(os.path.join(mount.store, "superblock")):
                refused("a program that cannot open the store", mount.cairnfs)
            mount.cairn("upgrade", mount.mountpoint, "--binary", mount.cairnfs)
            check_equal(replacing.status(mount)["upgrades"], before["upgrades"] + 1, "upgrades")
            check_equal(os.pread(fd, number + 1, 0), b"012345678"[:number + 1], "content")
        finally:
            os.close(fd)
        mount.remount()
        mount.down()
        mount.fsck()


def no_mount_to_replace(bin_folder):
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        for verb in ("restart", "upgrade"):
            done = mount.cairn(verb, mount.mountpoint, ok=False)
            check_equal(done.returncode, 1, f"exit code of cairn {verb} without a mount")
            check(done.stderr.strip(), f"cairn {verb} without a mount gave no reason")
            check_equal(mount.cairn(verb, ok=False).returncode, 2,
                        f"exit code of cairn {verb} without a mountpoint")


if __name__ == "__main__":
    MOST = int(sys.argv.pop(2)) if len(sys.argv) > 2 and sys.argv[2].isdigit() else 6

    def upgrades_under_fio(bin_folder):
        replacements_under_fio(bin_folder, MOST)

    cairn_mount.main(upgrades_under_fio, what_does_not_fit_is_refused, no_mount_to_replace)
