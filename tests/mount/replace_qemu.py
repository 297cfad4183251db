#!/usr/bin/env python3
"""A QEMU guest writes with verification to disks that are volumes, under kill -9 of the server.

argv: BIN [KILLS] (default 30). The guest is a Debian kernel with one program, qemu_guest.c, run by
QEMU's own interpreter, since KVM is not there everywhere. One disk is driven by Linux AIO, the
other by io_uring, both without the host's page cache.
"""
import glob
import os
import re
import stat
import struct
import subprocess
import sys
import threading
import time

import cairn_mount
import replacing
from checks import Failure, check, run, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
BLOCK = 4096
DISK_MIB = 64
BOOT_SECONDS = 240
KERNEL_PACKAGE = "linux-image-cloud-amd64"
MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
           "virtio_blk")


def unpack_kernel(bin_folder, folder):
    """Debian's kernel below `folder`. Unpacked and not installed, which would want an initramfs."""
    cache = os.path.join(os.path.dirname(bin_folder), "packages")
    if not glob.glob(os.path.join(cache, "linux-image-*.deb")):
        os.makedirs(cache, exist_ok=True)
        depends = run("apt-cache", "depends", KERNEL_PACKAGE, ok=False).stdout
        names = re.findall(r"Depends: (linux-image-\S+)", depends)
        done = run("apt-get", "-q", "download", *names[:1], cwd=cache, ok=False, timeout=300)
        if not names or done.returncode != 0:
            print(f"skipped: {KERNEL_PACKAGE} cannot be downloaded: {done.stderr.strip()[:200]}")
            sys.exit(cairn_mount.SKIP)
    run("dpkg-deb", "-x", sorted(glob.glob(os.path.join(cache, "linux-image-*.deb")))[-1], folder)
    return glob.glob(os.path.join(folder, "boot", "vmlinuz-*"))[0]


def cpio(entries):
    """An archive in the kernel's "newc" form of (name, mode, content, device number)."""
    parts = []
    for number, (name, mode, content, device) in enumerate([*entries, ("TRAILER!!!", 0, b"", 0)]):
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, os.major(device), os.minor(device),
                  len(name) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        for part in (header, content):
            parts.append(part + bytes(-len(part) % 4))
    return b"".join(parts)


def make_initramfs(kernel_folder, path):
    init = path + ".init"
    run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", os.path.join(HERE, "qemu_guest.c"),
        "-o", init)
    entries = [("dev", stat.S_IFDIR | 0o755, b"", 0),
               ("dev/console", stat.S_IFCHR | 0o600, b"", os.makedev(5, 1))]
    for name in MODULES:
        found = glob.glob(os.path.join(kernel_folder, "lib/modules/*/kernel/drivers/*",
                                       name + ".ko"))
        check(found, f"the kernel has no module {name}")
        with open(found[0], "rb") as file:
            entries.append((name + ".ko", stat.S_IFREG | 0o644, file.read(), 0))
    with open(init, "rb") as file:
        entries.append(("init", stat.S_IFREG | 0o755, file.read(), 0))
    with open(path, "wb") as file:
        file.write(cpio(entries))


class Guest:
    """The machine and what it says on its console."""

    def __init__(self, kernel, initramfs, disks):
        command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-reboot",
                   "-accel", "tcg", "-m", "256", "-serial", "stdio", "-kernel", kernel,
                   "-initrd", initramfs, "-append", "console=ttyS0 quiet panic=-1"]
        for path, engine in disks:
            command += ["-drive", f"file={path},format=raw,if=virtio,cache=none,aio={engine},"
                                  "werror=report,rerror=report"]
        self.lines = []
        self.load = None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        moved = None
        for line in self.process.stdout:
            self.lines.append(line.strip())
            if line.startswith("moved ") and line != moved and self.load is not None:
                moved = line
                self.load.moved()

    def said(self, word):
        return [line for line in self.lines if line.startswith(word)]

    def check_well(self):
        check(not self.said("bad") and "I/O error" not in "".join(self.lines),
              f"the guest's console: {self.lines[-6:]}")

    def wait_ready(self):
        def ready():
            self.check_well()
            check(self.process.poll() is None, f"QEMU ended: {self.lines[-6:]}")
            return self.said("ready")
        wait_until(ready, BOOT_SECONDS, "the guest boots")

    def work(self, load):
        """The guest works by itself: ask it to stop, and wait until it has verified all."""
        self.load = load
        while not load.stop_wanted.wait(0.1):
            self.check_well()
            check(self.process.poll() is None, f"QEMU ended: {self.lines[-6:]}")
        self.process.stdin.write("stop\n")
        self.process.stdin.flush()
        code = self.process.wait()
        self._reader.join()
        self.check_well()
        check(code == 0 and self.said("end"), f"QEMU exited {code}: {self.lines[-6:]}")

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def verify(path, first, blocks, last):
    with open(path, "rb") as file:
        file.seek(first * BLOCK)
        for block in range(first, first + blocks):
            if file.read(BLOCK) != struct.pack("<QQ", block, last) * (BLOCK // 16):
                raise Failure(f"{path}: block {block} is not of pass {last}")


def guest_under_kills(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.scratch_folder() as folder, \
            cairn_mount.Mount(bin_folder) as mount:
        kernel = unpack_kernel(bin_folder, folder)
        initramfs = os.path.join(folder, "initramfs")
        make_initramfs(folder, initramfs)
        disks = [(mount.path(f"disk-{engine}.img"), engine) for engine in ("native", "io_uring")]
        for path, _ in disks:
            run("truncate", "-s", f"{DISK_MIB}M", path)
        begin = time.monotonic()
        guest = Guest(kernel, initramfs, disks)
        with cairn_mount.undo(guest.kill):
            guest.wait_ready()
            print(f"  booted in {time.monotonic() - begin:.0f} s")
            with replacing.kills(mount, rng, most) as killer:
                replacing.run_until_killed_enough(killer, {"guest": replacing.Load(guest.work)})
        print(f"  {guest.said('moved')[-1]} blocks, {guest.said('left')}")
        mount.remount()
        for line in guest.said("left"):
            disk, first, blocks, last = map(int, line.split()[1:])
            check(last > 0, f"not one whole pass: {line}")
            verify(disks[disk][0], first, blocks, last)
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 30

    def replace_qemu(bin_folder):
        guest_under_kills(bin_folder, KILLS)

    cairn_mount.main(replace_qemu)
