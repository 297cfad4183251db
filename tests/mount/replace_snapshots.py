#!/usr/bin/env python3
"""Snapshots, deletions, rollbacks and clones under kill -9 of the server: each is done once.

argv: BIN [KILLS] (default 100). First a kill at the exact place between the commit and the answer,
for each verb; then a storm of all of them, without tokens, against a model. Done again by the next
server, a snapshot or clone would fail with EEXIST, a deletion with ENOENT, and a rollback would
keep a second snapshot of what it overwrote.
"""
import os
import random
import sys

import cairn_mount
import replacing
import snapshot_tools as tools
from checks import check, check_equal, error_of, run

HERE = os.path.dirname(os.path.abspath(__file__))
SETXATTR, IOCTL, COPY_FILE_RANGE = 21, 39, 47  # enum fuse_opcode
FILES = ("a.img", "b.img")
SIZE = 4 << 20
WORKERS = 4


def fill(path, number):
    with open(path, "r+b", buffering=0) as file:
        file.write(content(number))
        os.fsync(file.fileno())


def content(number):
    return random.Random(number).randbytes(4096) * (SIZE // 4096)


def make_folder(path):
    os.mkdir(path)
    for name in FILES:
        with open(os.path.join(path, name), "xb"):
            pass
        fill(os.path.join(path, name), 0)


def check_folder(path, number, what):
    check_equal(sorted(os.listdir(path)), sorted(FILES), f"{what}: files")
    for name in FILES:
        with open(os.path.join(path, name), "rb") as file:
            check(file.read() == content(number), f"{what}: {name} does not hold {number}")


def rollback(path):
    """Returns how many volumes, and the name of what was kept."""
    raw = tools.with_fd(path, tools.call, "rollback")
    return int.from_bytes(raw[8:16], "little"), raw[24:280].split(b"\0")[0].decode()


class ExactKills:
    """A mount whose server dies where it is told to."""

    def __init__(self, mount):
        self.mount = mount
        self.order = os.path.join(mount.folder, "kill")
        self.kills = 0
        library = os.path.join(mount.folder, "kill_before_answer.so")
        run("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", library,
            os.path.join(HERE, "kill_before_answer.c"), "-ldl")
        preload = {"LD_PRELOAD": library, "CAIRN_TEST_KILL": self.order}
        os.environ.update(preload)
        try:
            mount.up()
        finally:
            for name in preload:
                del os.environ[name]

    def during(self, opcode, call, place="answer"):
        """What the call returns, whose server dies before it answers."""
        with open(self.order + ".new", "w", encoding="ascii") as file:
            file.write(f"{place} {opcode}\n")
        os.rename(self.order + ".new", self.order)
        result = call()
        check(not os.path.exists(self.order), "no server died")
        self.kills += 1
        check_equal(replacing.status(self.mount)["restarts"], self.kills, "restarts")
        return result


def exact_kills(bin_folder):
    with cairn_mount.Mount(bin_folder, mount=False) as mount:
        kills = ExactKills(mount)
        live = mount.path("vm")
        make_folder(live)
        for place in ("answer", "notify"):
            ioctls(mount, kills, live, place)
        check_equal(sorted(os.listdir(mount.mountpoint)),
                    sorted(["vm"] + [f"clone-{place}-{what}" for place in ("answer", "notify")
                                     for what in ("file", "member", "group", "snapshot")]), "root")
        triggers(mount, kills, live)
        copy(mount, kills, live)
        print(f"  {kills.kills} kills between commit and answer")
        mount.down()
        mount.fsck()


def ioctls(mount, kills, live, place):
    before = tools.names(mount) if place == "notify" else []
    fill(os.path.join(live, "a.img"), 1)
    fill(os.path.join(live, "b.img"), 1)
    name = f"s-{place}"
    snapshot = mount.path(".snapshots", name)
    inode, _, members, _, existed = kills.during(IOCTL, lambda: tools.create(live, name), place)
    check_equal((inode, members, existed), (os.stat(snapshot).st_ino, 2, 0), "the snapshot made")
    check_folder(os.path.join(snapshot, "vm"), 1, "the snapshot")
    for file in FILES:
        fill(os.path.join(live, file), 2)
    for what, source in (("file", os.path.join(live, "a.img")), ("group", live),
                         ("member", os.path.join(snapshot, "vm", "a.img")),
                         ("snapshot", snapshot)):
        target = mount.path(f"clone-{place}-{what}")
        raw = kills.during(IOCTL, lambda a=source, b=target: tools.clone(a, b), place)
        volumes = int.from_bytes(raw[16 + 256 + 8:16 + 256 + 16], "little")
        made = int.from_bytes(raw[16 + 256:16 + 256 + 8], "little")
        check_equal((made, volumes), (os.stat(target).st_ino, 2 if os.path.isdir(target) else 1),
                    f"the clone of a {what}")
    with open(os.path.join(live, "a.img"), "rb") as held:
        check(held.read() == content(2), "a.img does not hold 2")
        count, kept = kills.during(IOCTL, lambda: rollback(snapshot), place)
        held.seek(0)
        check(held.read() == content(1), "an open file does not show what was rolled back")
    check_equal(count, 2, "volumes rolled back")
    check_equal(tools.names(mount), sorted(before + [name, kept]), "snapshots after a rollback")
    check_folder(live, 1, "the rolled back volumes")
    check_folder(mount.path(".snapshots", kept, "vm"), 2, "what was kept")
    os.stat(mount.path(".snapshots", kept))
    kills.during(IOCTL, lambda: tools.delete(mount.path(".snapshots", kept)), place)
    check(not os.path.exists(mount.path(".snapshots", kept)), "a deleted snapshot's name is there")
    check_equal(tools.names(mount), sorted(before + [name]), "snapshots after a deletion")


def triggers(mount, kills, live):
    kills.during(SETXATTR, lambda: os.setxattr(live, "user.cairn.snapshot", b"by-attribute"))
    check_folder(mount.path(".snapshots", "by-attribute", "vm"), 1, "the snapshot by attribute")
    kills.during(SETXATTR, lambda: os.setxattr(live, "user.cairn.clone", b"to=by-attribute"))
    check_folder(mount.path("by-attribute"), 1, "the clone by attribute")


def copy(mount, kills, live):
    """Shared blocks take no space of the copy's own; bytes that are copied once more would."""
    blocks = []
    with open(os.path.join(live, "a.img"), "rb") as source:
        for name in ("undisturbed", "copy"):
            with open(mount.path(name), "xb") as target:
                def call(into=target):
                    return os.copy_file_range(source.fileno(), into.fileno(), SIZE, 0, 0)
                copied = call() if name == "undisturbed" else kills.during(COPY_FILE_RANGE, call)
                check_equal(copied, SIZE, f"{name}: bytes copied")
                os.fsync(target.fileno())
            with open(mount.path(name), "rb") as target:
                check(target.read() == content(1), f"{name} does not hold 1")
            blocks.append(os.stat(mount.path(name)).st_blocks)
    check_equal(blocks[1], blocks[0], "blocks of the copy's own")


class Worker:
    """One operation after the other on a directory and snapshots of its own, whose contents are
    known: each volume of a group holds the same number."""

    def __init__(self, mount, number, rng):
        self.mount, self.rng = mount, rng
        self.own = f"own{number}"
        self.live = 0
        self.snapshots, self.clones = {}, {}
        self.count = 0
        self.done = {}

    def storm(self, load):
        while not load.stop_wanted.is_set():
            self.step()
            load.moved()

    def place(self, name):
        return self.mount.path(".snapshots", name)

    def step(self):
        self.count += 1
        kind = self.rng.choice(("fill", "create", "create", "rollback", "clone", "delete"))
        getattr(self, kind)()
        self.done[kind] = self.done.get(kind, 0) + 1

    def expect(self, what, wanted, call):
        found = error_of(call)
        check(found == wanted, f"operation {self.count}, {what}: {found}, wanted {wanted}")
        return found is None

    def fill(self):
        for name in FILES:
            fill(self.mount.path(self.own, name), self.count)
        self.live = self.count

    def create(self):
        if len(self.snapshots) > 8:
            self.delete()
        name = f"{self.own}-{self.rng.randrange(12)}"
        taken = "EEXIST" if name in self.snapshots else None
        if self.expect(f"create {name}", taken,
                       lambda: tools.create(self.mount.path(self.own), name)):
            self.snapshots[name] = self.live

    def delete(self):
        if not self.snapshots:
            return
        name = self.rng.choice(sorted(self.snapshots))
        self.expect(f"delete {name}", None,
                    lambda: tools.delete(self.place(name)))
        del self.snapshots[name]

    def rollback(self):
        if not self.snapshots:
            return
        name = self.rng.choice(sorted(self.snapshots))
        kept = []
        self.expect(f"rollback {name}", None, lambda: kept.append(rollback(self.place(name))[1]))
        check(kept[0] not in self.snapshots, f"{kept[0]} was kept before")
        self.snapshots[kept[0]] = self.live
        self.live = self.snapshots[name]
        there = [each for each in tools.names(self.mount) if each.startswith(self.own + "-")]
        check_equal(there, sorted(self.snapshots), f"snapshots after the rollback to {name}")

    def clone(self):
        target = f"{self.own}-clone{self.rng.randrange(6)}"
        path = self.mount.path(target)
        if target in self.clones and self.rng.random() < 0.5:
            for name in FILES:
                os.unlink(os.path.join(path, name))
            os.rmdir(path)
            del self.clones[target]
        source, number = self.mount.path(self.own), self.live
        if self.snapshots and self.rng.random() < 0.5:
            name = self.rng.choice(sorted(self.snapshots))
            source, number = os.path.join(self.place(name), self.own), self.snapshots[name]
        taken = "EEXIST" if target in self.clones else None
        if self.expect(f"clone to {target}", taken, lambda: tools.clone(source, path)):
            self.clones[target] = number

    def compare(self, where):
        check_folder(self.mount.path(self.own), self.live, f"{where}: {self.own}")
        for name, number in self.snapshots.items():
            check_folder(os.path.join(self.place(name), self.own), number, f"{where}: {name}")
        for name, number in self.clones.items():
            check_folder(self.mount.path(name), number, f"{where}: {name}")


def compare(mount, workers, where):
    check_equal(tools.names(mount), sorted(name for worker in workers for name in worker.snapshots),
                f"{where}: snapshots")
    for worker in workers:
        worker.compare(where)


def storm(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.Mount(bin_folder) as mount:
        workers = [Worker(mount, number, random.Random(rng.random())) for number in range(WORKERS)]
        for worker in workers:
            make_folder(mount.path(worker.own))
        with replacing.kills(mount, rng, most, longest=0.6) as killer:
            loads = {worker.own: replacing.Load(worker.storm) for worker in workers}
            replacing.run_until_killed_enough(killer, loads)
        total = {}
        for worker in workers:
            for kind, count in worker.done.items():
                total[kind] = total.get(kind, 0) + count
        print(f"  {total}")
        compare(mount, workers, "while mounted")
        mount.remount()
        compare(mount, workers, "after a remount")
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 100

    def storm_of_snapshots(bin_folder):
        storm(bin_folder, KILLS)

    cairn_mount.main(exact_kills, storm_of_snapshots)
