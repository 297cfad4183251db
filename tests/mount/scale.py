#!/usr/bin/env python3
"""10 000 volumes in one store: they mount, list and stat right, in bounded memory."""
import os
import time

from cairn_mount import Mount, main
from checks import check, check_equal, run

DIRECTORIES = 100
VOLUMES = 100  # in each directory
BLOCK = 4096
MEMORY_KIB = 256 * 1024


def size_of(folder, number):
    return (1 + folder) * (1 << 30) + number * 512


def content_of(folder, number):
    return (b"%d/%d " % (folder, number)).ljust(16, b"=") * (BLOCK // 16)


def ten_thousand_volumes(bin_folder):
    with Mount(bin_folder) as mount:
        for folder in range(DIRECTORIES):
            os.mkdir(mount.path(f"vm{folder:03d}"))
            for number in range(VOLUMES):
                fd = os.open(mount.path(f"vm{folder:03d}", f"disk{number:02d}"),
                             os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                os.ftruncate(fd, size_of(folder, number))
                if number % 4 == 0:
                    os.pwrite(fd, content_of(folder, number), (folder + number) * BLOCK * 70)
                os.close(fd)
        mount.down()
        begin = time.monotonic()
        mount.up()
        print(f"  mount of {DIRECTORIES * VOLUMES} volumes: {time.monotonic() - begin:.2f} s")
        check_memory(mount, "after the mount")
        lines = run("ls", "-lR", mount.mountpoint, timeout=300).stdout.splitlines()
        check_equal(sum(" disk" in line for line in lines), DIRECTORIES * VOLUMES,
                    "volumes that ls -lR shows")
        for folder in range(DIRECTORIES):
            for number in range(VOLUMES):
                path = mount.path(f"vm{folder:03d}", f"disk{number:02d}")
                check_equal(os.stat(path).st_size, size_of(folder, number), f"size of {path}")
                if number % 4 == 0:
                    with open(path, "rb", buffering=0) as file:
                        file.seek((folder + number) * BLOCK * 70)
                        check(file.read(BLOCK) == content_of(folder, number), f"content of {path}")
        check_memory(mount, "after reading all")
        mount.down()
        mount.fsck()


def check_memory(mount, when):
    """Of every process, so that the server is among them whichever it is."""
    rss = mount.memory_kib("VmRSS")
    print(f"  memory {when}: {rss // 1024} MiB (peak {mount.memory_kib('VmHWM') // 1024} MiB)")
    check(0 < rss < MEMORY_KIB, f"{when}: the processes hold {rss // 1024} MiB")


if __name__ == "__main__":
    main(ten_thousand_volumes)
