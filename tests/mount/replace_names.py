#!/usr/bin/env python3
"""A storm of changes to names and attributes under kill -9 of the server, against a model.

argv: BIN [KILLS] (default 120). A change is a synced commit, so the server often dies between the
commit and the answer. Done again by the next server, a mkdir would fail with EEXIST, a removal
with ENOENT, and an exchange would change everything back; so each result must be the model's.
"""
import contextlib
import ctypes
import os
import random
import sys
import threading

import cairn_mount
import replacing
from checks import check, check_equal, error_of

WORKERS = 6
RACERS = 3
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(source, target, flags):
    if _libc.renameat2(AT_FDCWD, source.encode(), AT_FDCWD, target.encode(), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


class Node:
    def __init__(self, is_directory):
        self.children = {} if is_directory else None
        self.attributes = {}
        self.inode = None

    def is_directory(self):
        return self.children is not None


class Refused(Exception):
    """The errno's name that the model answers with."""


class Tree:
    """What one worker's part of the mount holds. Each change raises Refused or is done."""

    def __init__(self, root):
        self.root = root

    def parent(self, path):
        """(node of the directory, last name)"""
        *folders, name = path.split("/")
        node = self.root
        for folder in folders:
            if not node.is_directory():
                raise Refused("ENOTDIR")
            if folder not in node.children:
                raise Refused("ENOENT")
            node = node.children[folder]
        if not node.is_directory():
            raise Refused("ENOTDIR")
        return node, name

    def at(self, path):
        folder, name = self.parent(path)
        if name not in folder.children:
            raise Refused("ENOENT")
        return folder.children[name]

    def add(self, path, is_directory):
        folder, name = self.parent(path)
        if name in folder.children:
            raise Refused("EEXIST")
        folder.children[name] = Node(is_directory)

    def unlink(self, path):
        folder, name = self.parent(path)
        if self.at(path).is_directory():
            raise Refused("EISDIR")
        del folder.children[name]

    def rmdir(self, path):
        folder, name = self.parent(path)
        if not self.at(path).is_directory():
            raise Refused("ENOTDIR")
        if folder.children[name].children:
            raise Refused("ENOTEMPTY")
        del folder.children[name]

    def rename(self, source, target, flags):
        """In the order in which the kernel looks."""
        from_folder, from_name = self.parent(source)
        to_folder, to_name = self.parent(target)
        node = self.at(source)
        other = to_folder.children.get(to_name)
        if flags == RENAME_NOREPLACE and other is not None:
            raise Refused("EEXIST")
        if flags == RENAME_EXCHANGE and other is None:
            raise Refused("ENOENT")
        if target.startswith(source + "/"):
            raise Refused("EINVAL")
        if source.startswith(target + "/"):
            raise Refused("EINVAL" if flags == RENAME_EXCHANGE else "ENOTEMPTY")
        if node is other:
            return
        if other is not None and flags == 0:
            if node.is_directory() != other.is_directory():
                raise Refused("ENOTDIR" if node.is_directory() else "EISDIR")
            if other.is_directory() and other.children:
                raise Refused("ENOTEMPTY")
        del from_folder.children[from_name]
        to_folder.children[to_name] = node
        if flags == RENAME_EXCHANGE:
            from_folder.children[from_name] = other

    def setxattr(self, path, name, value, flags):
        attributes = self.at(path).attributes
        if flags == os.XATTR_CREATE and name in attributes:
            raise Refused("EEXIST")
        if flags == os.XATTR_REPLACE and name not in attributes:
            raise Refused("ENODATA")
        attributes[name] = value

    def removexattr(self, path, name):
        if self.at(path).attributes.pop(name, None) is None:
            raise Refused("ENODATA")


class Worker:
    """Changes in a directory of its own, and under names of its own in one that all share."""

    def __init__(self, mount, number, rng):
        self.mount, self.number, self.rng = mount, number, rng
        self.own = f"own{number}"
        self.root = Node(True)
        self.root.children = {self.own: Node(True), "shared": Node(True)}
        self.tree = Tree(self.root)
        self.paths = [f"{self.own}/n{n}" for n in range(5)]
        self.paths += [f"{self.own}/n{n}/n{m}" for n in range(3) for m in range(3)]
        self.paths += [f"shared/w{number}-{n}" for n in range(4)]
        self.changes = 0

    def storm(self, load):
        while not load.stop_wanted.is_set():
            self.step()
            load.moved()

    def step(self):
        path, other = self.rng.sample(self.paths, 2)
        name = f"user.a{self.rng.randrange(3)}"
        value = str(self.changes).encode()
        full = self.mount.path(path)
        flags = self.rng.choice([0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE])
        how = self.rng.choice([os.XATTR_CREATE, os.XATTR_REPLACE])
        kind, call, model = self.rng.choice([
            ("mkdir", lambda: os.mkdir(full), lambda: self.tree.add(path, True)),
            ("create", lambda: create(full), lambda: self.tree.add(path, False)),
            ("create", lambda: create(full), lambda: self.tree.add(path, False)),
            ("unlink", lambda: os.unlink(full), lambda: self.tree.unlink(path)),
            ("rmdir", lambda: os.rmdir(full), lambda: self.tree.rmdir(path)),
            (f"rename ({flags})", lambda: renameat2(full, self.mount.path(other), flags),
             lambda: self.tree.rename(path, other, flags)),
            (f"setxattr ({how})", lambda: os.setxattr(full, name, value, how),
             lambda: self.tree.setxattr(path, name, value, how)),
            ("removexattr", lambda: os.removexattr(full, name),
             lambda: self.tree.removexattr(path, name)),
        ])
        wanted = None
        try:
            model()
        except Refused as refused:
            wanted = str(refused)
        found = error_of(call)
        self.changes += wanted is None
        check(found == wanted, f"change {self.changes}, {kind} of {path} ({other}): {found}, "
              f"wanted {wanted}")
        if found is None and kind in ("mkdir", "create"):
            self.tree.at(path).inode = os.stat(full).st_ino

    def compare(self, where):
        self.compare_folder("", self.root, where)

    def compare_folder(self, path, node, where):
        for name, child in node.children.items():
            below = os.path.join(path, name)
            full = self.mount.path(below)
            what = f"{where}: {below}"
            check_equal(os.path.isdir(full), child.is_directory(), f"{what} is a directory")
            if child.inode is not None:
                check_equal(os.stat(full).st_ino, child.inode, f"{what}: inode")
            found = {each: os.getxattr(full, each) for each in os.listxattr(full)
                     if each.startswith("user.a")}
            check_equal(found, child.attributes, f"{what}: attributes")
            if child.is_directory():
                if below != "shared":
                    check_equal(sorted(os.listdir(full)), sorted(child.children), f"{what}: names")
                self.compare_folder(below, child, where)


class Race:
    """Several threads try the same change at the same time: exactly one of them must succeed."""

    def __init__(self, mount):
        self.folder = mount.path("race")
        self.barrier = threading.Barrier(RACERS)
        self.results = [None] * RACERS
        self.rounds = 0

    def steps(self):
        directory, file = (os.path.join(self.folder, name) for name in ("directory", "file"))
        moved = file + ".moved"
        return [("mkdir", lambda: os.mkdir(directory)), ("rmdir", lambda: os.rmdir(directory)),
                ("create", lambda: create(file)),
                ("setxattr", lambda: os.setxattr(file, "user.a", b"1", os.XATTR_CREATE)),
                ("removexattr", lambda: os.removexattr(file, "user.a")),
                ("rename", lambda: os.rename(file, moved)),
                ("unlink", lambda: os.unlink(moved))]

    def run(self, load, number):
        """The first racer looks at the results; the barrier's error ends the others."""
        try:
            while True:
                for kind, call in self.steps():
                    self.barrier.wait()
                    self.results[number] = error_of(call)
                    self.barrier.wait()
                    if number == 0:
                        self.judge(kind)
                    load.moved()
                    if number == 0 and load.stop_wanted.is_set() and kind == "unlink":
                        return
        except threading.BrokenBarrierError:
            pass
        finally:
            self.barrier.abort()

    def judge(self, kind):
        self.rounds += 1
        check(self.results.count(None) == 1, f"round {self.rounds}, {kind} by {RACERS} at once: "
              f"{self.results}, wanted one None")


def storm(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.Mount(bin_folder) as mount:
        workers = [Worker(mount, number, random.Random(rng.random())) for number in range(WORKERS)]
        race = Race(mount)
        for name in [worker.own for worker in workers] + ["shared", "race"]:
            os.mkdir(mount.path(name))
        with replacing.kills(mount, rng, most, longest=0.6) as killer:
            loads = {worker.own: replacing.Load(worker.storm) for worker in workers}
            loads |= {f"racer {number}": replacing.Load(race.run, number)
                      for number in range(RACERS)}
            replacing.run_until_killed_enough(killer, loads)
        print(f"  {sum(worker.changes for worker in workers)} changes, {race.rounds} races")
        compare(mount, workers, "while mounted")
        mount.remount()
        compare(mount, workers, "after a remount")
        mount.down()
        mount.fsck()


def compare(mount, workers, where):
    for worker in workers:
        worker.compare(where)
    shared = [name for worker in workers for name in worker.root.children["shared"].children]
    check_equal(sorted(os.listdir(mount.path("shared"))), sorted(shared), f"{where}: shared names")
    with contextlib.suppress(FileNotFoundError):
        check_equal(os.listdir(mount.path("race")), [], f"{where}: what the race left")


if __name__ == "__main__":
    KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 120

    def replace_names(bin_folder):
        storm(bin_folder, KILLS)

    cairn_mount.main(replace_names)
