#!/usr/bin/env python3
"""kill -9 of the server under fio with verification: no error, no wrong byte, no hang.

argv: BIN [KILLS] (default 40). Four loads run at once, so that each sees every kill.
"""
import sys

import cairn_mount
import replacing
from checks import check, run

SIZE_MIB = 48
COMMON = (f"--size={SIZE_MIB}M", "--rw=randwrite", "--verify=crc32c", "--verify_fatal=1")
MIXED = ("--bsrange=512-256k", "--blockalign=512")
LOADS = {
    "direct-depth-1": ("--direct=1", "--ioengine=psync", "--bs=4k"),
    "direct-depth-16": ("--direct=1", "--ioengine=io_uring", "--iodepth=16", *MIXED),
    "buffered": ("--ioengine=psync", *MIXED),
    "mmap": ("--ioengine=mmap", "--bs=4k"),
}


def passes(load, mount, name, rng, done):
    """Writes the whole file anew with another seed, reads it back, until told to stop."""
    while not load.stop_wanted.is_set():
        seed = rng.randrange(1 << 31)
        options = (*COMMON, *LOADS[name], f"--filename={mount.path(name)}", f"--randseed={seed}")
        replacing.fio(mount, *options, "--do_verify=1", "--end_fsync=1", load=load)
        # Once more from the server: fio drops the file's cached pages first.
        replacing.fio(mount, *options, "--verify_only", load=load)
        done[name] = options, done.get(name, (None, 0))[1] + 1


def verify_all(mount, done):
    """After a remount: what the last pass of each load wrote."""
    mount.remount()
    for options, _ in done.values():
        replacing.fio(mount, *options, "--verify_only")
    print("  passes: " + ", ".join(f"{name} {done[name][1]}" for name in LOADS))
    mount.down()
    mount.fsck()


def kills_under_fio(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.Mount(bin_folder) as mount:
        for name in LOADS:
            run("truncate", "-s", f"{SIZE_MIB}M", mount.path(name))
        done = {}
        with replacing.kills(mount, rng, most) as killer:
            loads = {name: replacing.Load(passes, mount, name, type(rng)(rng.random()), done)
                     for name in LOADS}
            replacing.run_until_killed_enough(killer, loads)
        check(killer.kills >= most, f"{killer.kills} kills, wanted {most}")
        verify_all(mount, done)


if __name__ == "__main__":
    KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 40

    def replace_fio(bin_folder):
        kills_under_fio(bin_folder, KILLS)

    cairn_mount.main(replace_fio)
