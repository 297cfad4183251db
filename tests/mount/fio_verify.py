#!/usr/bin/env python3
"""fio writes checksummed blocks and verifies them, at once and again after a remount of Cairn."""
from cairn_mount import Mount, main
from checks import check, run

SIZE = "192M"
COMMON = ("--name=verify", f"--size={SIZE}", "--verify=crc32c", "--verify_fatal=1",
          "--verify_dump=0", "--verify_state_save=0",
          "--randrepeat=1", "--randseed=7", "--fallocate=none", "--thread")


def fio(mount, name, *options):
    done = run("fio", *COMMON, f"--filename={mount.path(name)}", *options, ok=False)
    lines = (done.stderr + done.stdout).strip().splitlines()
    check(done.returncode == 0, f"{name}: fio {' '.join(options)} exited {done.returncode}:\n  " +
          "\n  ".join(lines[:6]))


def verify(bin_folder, name, *options):
    with Mount(bin_folder) as mount:
        run("truncate", "-s", SIZE, mount.path(name))
        fio(mount, name, *options, "--do_verify=1", "--end_fsync=1")
        mount.remount()
        fio(mount, name, *options, "--verify_only")
        mount.down()
        mount.fsck()


def direct_mixed_sizes_depth_16(bin_folder):
    verify(bin_folder, "direct.img", "--rw=randwrite", "--direct=1", "--ioengine=io_uring",
           "--iodepth=16", "--bsrange=512-256k", "--blockalign=512")


def direct_4k_depth_16(bin_folder):
    verify(bin_folder, "direct4k.img", "--rw=randwrite", "--direct=1", "--ioengine=io_uring",
           "--iodepth=16", "--bs=4k")


def buffered_mixed_sizes(bin_folder):
    verify(bin_folder, "buffered.img", "--rw=randwrite", "--ioengine=psync",
           "--bsrange=512-256k", "--blockalign=512")


def mmap_engine(bin_folder):
    verify(bin_folder, "mmap.img", "--rw=randwrite", "--ioengine=mmap", "--bs=4k")


def sequential_direct(bin_folder):
    verify(bin_folder, "sequential.img", "--rw=write", "--direct=1", "--ioengine=io_uring",
           "--iodepth=16", "--bs=128k")


if __name__ == "__main__":
    main(direct_mixed_sizes_depth_16, direct_4k_depth_16, buffered_mixed_sizes, mmap_engine,
         sequential_direct)
