#!/usr/bin/env python3
"""A guest's ext4 on a loop device under kill -9 of the server: tar, compile and rm go on.

argv: BIN [KILLS] (default 30).
"""
import os
import sys

import cairn_mount
import replacing
from checks import check, check_equal, check_same_tree, run, tree_hashes

SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PARTS = ("src", "fusefs", "tools", "tests")
UNITS = 12
PLAIN_MIB = 24
ROUNDS = 12  # that stay in the guest; the next one takes the place of the oldest

UNIT = """\
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <regex.h>
static int cmp(const void *a, const void *b) {{ return *(const int *)a - *(const int *)b; }}
int unit{number}(int n) {{
  int values[512];
  for (int i = 0; i < 512; ++i) values[i] = (i * {number} + n) % 509;
  qsort(values, 512, sizeof(int), cmp);
  return values[{number}];
}}
"""


def write_program(folder):
    for number in range(UNITS):
        with open(os.path.join(folder, f"unit{number}.c"), "w", encoding="ascii") as file:
            file.write(UNIT.format(number=number))
    with open(os.path.join(folder, "main.c"), "w", encoding="ascii") as file:
        names = range(UNITS)
        file.write("".join(f"int unit{n}(int);\n" for n in names))
        file.write("int main(void) { return (" + " + ".join(f"unit{n}(7)" for n in names) +
                   ") & 127; }\n")


def guest_run(load, *command, **keywords):
    """run() that tells of its end, and fails as it does."""
    done = run(*command, timeout=600, **keywords)
    load.moved()
    return done


def build(load, folder):
    """Compiles and links below `folder`, whose name does not get into the output."""
    for number in range(UNITS):
        guest_run(load, "gcc", "-O2", "-c", f"unit{number}.c", cwd=folder)
    units = [f"unit{number}.o" for number in range(UNITS)]
    guest_run(load, "gcc", "main.c", *units, "-o", "program", cwd=folder)
    return guest_run(load, os.path.join(folder, "program"), ok=False).returncode


def work(load, guest, archive, outside, counts):
    """Rounds of unpacking, compiling and removing; what stays is that of the last round."""
    wanted_code = build(load, os.path.join(outside, "program"))
    copy = os.path.join(os.path.dirname(outside), "copy")
    number = 0
    while number == 0 or not load.stop_wanted.is_set():
        folder = os.path.join(guest, f"round{number % ROUNDS}")
        if os.path.exists(folder):
            guest_run(load, "rm", "-r", folder)
        os.mkdir(folder)
        guest_run(load, "tar", "-xf", archive, "-C", folder)
        os.mkdir(os.path.join(folder, "program"))
        write_program(os.path.join(folder, "program"))
        check_equal(build(load, os.path.join(folder, "program")), wanted_code,
                    f"round {number}: exit code of what was compiled")
        # Straight to the volume and to new places, with nothing that makes it durable: what a kill
        # lost of it is not in the guest's cache.
        plain = os.path.join(folder, "plain")
        guest_run(load, "dd", f"if={outside}/plain", f"of={plain}", "bs=64k", "oflag=direct")
        guest_run(load, "dd", f"if={plain}", f"of={copy}", "bs=1M", "iflag=direct")
        guest_run(load, "cmp", copy, os.path.join(outside, "plain"))
        number += 1
    counts.append(number)


def errors_of(device):
    """The errors that ext4 has seen on a device."""
    with open(f"/sys/fs/ext4/{os.path.basename(device)}/errors_count", encoding="ascii") as file:
        return int(file.read())


def guest_works_under_kills(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.Mount(bin_folder) as mount:
        guest = os.path.join(mount.folder, "guest")
        outside = os.path.join(mount.folder, "outside")
        archive = os.path.join(mount.folder, "sources.tar")
        os.makedirs(os.path.join(outside, "program"))
        write_program(os.path.join(outside, "program"))
        run("tar", "-cf", archive, "--exclude=__pycache__", *PARTS, cwd=SOURCES)
        run("tar", "-xf", archive, "-C", outside)
        with open(os.path.join(outside, "plain"), "wb") as file:
            file.write(rng.randbytes(PLAIN_MIB << 20))
        run("truncate", "-s", "1G", mount.path("disk.img"))
        counts = []
        with cairn_mount.loop_device(mount.path("disk.img")) as device:
            run("mkfs.ext4", "-q", "-F", device)
            with cairn_mount.mounted(device, guest):
                with replacing.kills(mount, rng, most) as killer:
                    loads = {"guest": replacing.Load(work, guest, archive, outside, counts)}
                    replacing.run_until_killed_enough(killer, loads)
                check_equal(errors_of(device), 0, "errors that the guest's ext4 counted")
            run("fsck.ext4", "-f", "-n", device)
        check(counts[0] > 0, "not one round was done")
        print(f"  {counts[0]} rounds")
        mount.remount()
        with cairn_mount.loop_device(mount.path("disk.img")) as device:
            run("fsck.ext4", "-f", "-n", device)
            with cairn_mount.mounted(device, guest):
                wanted = tree_hashes(outside)
                for name in sorted(os.listdir(guest)):
                    if name.startswith("round"):
                        check_same_tree(tree_hashes(os.path.join(guest, name)), wanted, name)
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 30

    def replace_guest(bin_folder):
        guest_works_under_kills(bin_folder, KILLS)

    cairn_mount.main(replace_guest)
