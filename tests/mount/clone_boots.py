#!/usr/bin/env python3
"""A virtual machine boots from a clone while its parent is written to and snapshots are taken.

One guest writes to its disk, and snapshots of it are taken and deleted as fast as that goes.
Meanwhile one guest mounts a clone of a snapshot's member, one a clone of the volume itself, and one
a clone in which a byte was changed, which it has to find. What the guests do is in clone_guest.sh.
"""
import collections
import hashlib
import os
import random
import threading

import cairn_mount
import qemu_machine
import snapshot_tools as tools
from checks import check, check_equal, file_hash, run, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
BUSYBOX = "/usr/bin/busybox"
DISK_MIB = 96
KNOWN_FILES = 24
PATIENCE = 240  # seconds; a bound for any machine


def make_known(folder):
    """Files that never change; returns what `sha256sum` would say of them."""
    rng = random.Random(7)
    os.makedirs(os.path.join(folder, "known"))
    os.makedirs(os.path.join(folder, "busy"))
    sums = []
    for number in range(KNOWN_FILES):
        content = rng.randbytes(rng.randrange(1 << 20))
        with open(os.path.join(folder, "known", f"file{number}"), "wb") as file:
            file.write(content)
        sums.append(f"{hashlib.sha256(content).hexdigest()}  file{number}\n")
    return "".join(sums)


def make_initramfs(kernel_folder, path, sums):
    with open(os.path.join(HERE, "clone_guest.sh"), "rb") as file:
        init = file.read()
    with open(BUSYBOX, "rb") as file:
        busybox = file.read()
    qemu_machine.make_initramfs(
        kernel_folder, path, (*qemu_machine.DISK_MODULES, "ext4"),
        [qemu_machine.folder_entry("bin"), qemu_machine.program("bin/busybox", busybox),
         qemu_machine.program("init", init),
         qemu_machine.plain_file("known.sha256", sums.encode())])


class Snapshots(threading.Thread):
    """Takes snapshots of a directory one after the other, and deletes all but a few of them.

    Of some the content is remembered as it was just after they were taken.
    """

    KEPT_UNSEEN = 20
    REMEMBERED_EVERY, REMEMBERED = 40, 12

    def __init__(self, mount, folder):
        super().__init__(daemon=True)
        self.mount, self.folder = mount, folder
        self.stop_wanted = threading.Event()
        self.failure = None
        self.taken = 0
        self.remembered = {}  # name: hash of the member
        self.start()

    def member(self, name):
        return os.path.join(tools.place(self.mount, name), os.path.basename(self.folder),
                            "disk.img")

    def run(self):
        unseen = collections.deque()
        try:
            while not self.stop_wanted.is_set():
                name = f"s{self.taken}"
                tools.create(self.folder, name)
                wanted = self.taken % self.REMEMBERED_EVERY == 0
                self.taken += 1
                if wanted and len(self.remembered) < self.REMEMBERED:
                    self.remembered[name] = file_hash(self.member(name))
                else:
                    unseen.append(name)
                if len(unseen) > self.KEPT_UNSEEN:
                    tools.with_fd(tools.place(self.mount, unseen.popleft()), tools.call, "delete")
        except Exception as failure:  # pylint: disable=broad-except
            self.failure = failure

    def check_well(self):
        check(self.failure is None, f"after {self.taken} snapshots: {self.failure}")

    def wait_for_more(self, count):
        wanted = self.taken + count

        def enough():
            self.check_well()
            return self.taken >= wanted
        wait_until(enough, PATIENCE, f"{count} more snapshots are taken")

    def finish(self):
        self.stop_wanted.set()
        self.join(PATIENCE)
        check(not self.is_alive(), "a snapshot hangs")
        self.check_well()

    def check_remembered(self, when):
        for name, wanted in self.remembered.items():
            check_equal(file_hash(self.member(name)), wanted, f"content of {name} {when}")


def last_round(guest):
    return int(guest.said("synced ")[-1].split()[1])


def number_said(guest, word):
    return guest.said(word)[-1].split()[1]


def change_a_byte(image, content):
    """Changes one byte of a file within the image, by where its content lies."""
    with open(image, "r+b") as file:
        place = file.read().find(content[:4096])
        check(place >= 0, "the file's content is not in the image")
        file.seek(place + 1234)
        file.write(bytes([content[1234] ^ 1]))
        os.fsync(file.fileno())


def check_filesystem(image):
    """e2fsck that changes nothing; a journal that was not replayed is an error to it, too."""
    run("e2fsck", "-f", "-n", image)


def file_inside(image, name, folder):
    """The hash of a file of an ext4 image; None when it is not there."""
    copy = os.path.join(folder, "copy")
    run("debugfs", "-R", f"dump {name} {copy}", image)
    if not os.path.exists(copy):
        return None
    found = file_hash(copy)
    os.unlink(copy)
    return found


class Visit:
    """A clone, and the guest that boots from it."""

    def __init__(self, image, machine, floor):
        self.image, self.floor = image, floor
        self.guest = qemu_machine.Guest(*machine, [(image, "native")], "cairn=visitor")

    def check_ended_well(self):
        self.guest.check_ended_well(PATIENCE)
        count = int(number_said(self.guest, "count "))
        check(count >= self.floor, f"{self.image}: round {self.floor} was durable before the clone,"
              f" which has {count}")
        print(f"  {os.path.basename(self.image)}: round {count}, {self.floor} wanted")

    def check_image(self, folder):
        check_filesystem(self.image)
        check_equal(file_inside(self.image, "/written", folder),
                    number_said(self.guest, "wrote "), f"what the guest wrote to {self.image}")


def clone_boots(bin_folder):
    with cairn_mount.scratch_folder() as folder, cairn_mount.Mount(bin_folder) as mount:
        files = os.path.join(folder, "files")
        sums = make_known(files)
        kernel = qemu_machine.unpack_kernel(bin_folder, folder)
        initramfs = os.path.join(folder, "initramfs")
        make_initramfs(folder, initramfs, sums)
        machine = kernel, initramfs
        vm = mount.path("vm")
        disk = os.path.join(vm, "disk.img")
        os.mkdir(vm)
        run("truncate", "-s", f"{DISK_MIB}M", disk)
        run("mkfs.ext4", "-q", "-F", "-d", files, disk)
        writer = qemu_machine.Guest(*machine, [(disk, "io_uring")], "cairn=writer")
        with qemu_machine.running(writer):
            writer.wait_said("synced ", "the writer boots and syncs")
            snapshots = Snapshots(mount, vm)
            with cairn_mount.undo(snapshots.stop_wanted.set):
                visits = boot_clones(mount, machine, writer, snapshots, files)
                snapshots.finish()
                writer.tell("stop")
                writer.check_ended_well(PATIENCE)
        print(f"  {snapshots.taken} snapshots; the writer got to round {last_round(writer)}")
        check_all(snapshots, visits, disk, folder)
        mount.remount()
        check_all(snapshots, visits, disk, folder)
        mount.down()
        mount.fsck()


def boot_clones(mount, machine, writer, snapshots, files):
    """Boots guests from clones beside the writer and the snapshots; returns those that must be
    well."""
    snapshots.wait_for_more(10)
    floor = last_round(writer)
    tools.create(mount.path("vm"), "origin")
    before = snapshots.taken
    for name in ("of-member.img", "changed.img"):
        tools.clone(os.path.join(tools.place(mount, "origin"), "vm", "disk.img"), mount.path(name))
    live_floor = last_round(writer)
    mount.cairn("clone", mount.path("vm", "disk.img"), mount.path("of-volume.img"))
    with open(os.path.join(files, "known", "file0"), "rb") as file:
        change_a_byte(mount.path("changed.img"), file.read())
    visits = [Visit(mount.path("of-member.img"), machine, floor),
              Visit(mount.path("of-volume.img"), machine, live_floor),
              Visit(mount.path("changed.img"), machine, floor)]
    changed = visits.pop().guest
    with qemu_machine.running(visits[0].guest), qemu_machine.running(visits[1].guest), \
            qemu_machine.running(changed):
        for visit in visits:
            visit.check_ended_well()
        changed.wait_end(PATIENCE)
        check_equal([changed.said("bad"), changed.said("end")],
                    [["bad a file that never changes has changed"], []],
                    "what the guest with a changed byte says")
        writer.check_runs()
        check(last_round(writer) > live_floor, "the writer stood still while the clones booted")
        check(snapshots.taken > before + 10, "no snapshots were taken while the clones booted")
    return visits


def check_all(snapshots, visits, disk, folder):
    snapshots.check_remembered("now")
    check_filesystem(disk)
    check_equal(file_inside(disk, "/written", folder), None, "a file of the clones in the parent")
    for visit in visits:
        visit.check_image(folder)


if __name__ == "__main__":
    cairn_mount.main(clone_boots)
