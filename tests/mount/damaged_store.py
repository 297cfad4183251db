#!/usr/bin/env python3
"""Damage in the files of a store: an error that names the file; no hang, crash or silent zero."""
import contextlib
import os
import random

from cairn_mount import Mount, is_mounted, main, scratch_folder
from checks import Failure, check, run

BLOCK = 4096
CHUNK = 256 * 1024
VOLUMES = 40


def content_of(volume, block):
    return (b"volume %d block %d " % (volume, block)).ljust(64, b"#") * (BLOCK // 64)


def written_blocks(volume):
    return [block * 7 for block in range(8 + volume % 5)]


def make_store(bin_folder, folder):
    """A store that was closed cleanly, with tables and logs in its index; returns its path."""
    store = os.path.join(folder, "store")
    with Mount(bin_folder) as mount:
        for turn in range(3):  # A table for each turn: opening LevelDB makes one of its log.
            for volume in range(turn, VOLUMES, 3):
                fd = os.open(mount.path(f"disk{volume}"), os.O_RDWR | os.O_CREAT)
                os.ftruncate(fd, 8 << 20)
                for block in written_blocks(volume):
                    os.pwrite(fd, content_of(volume, block), block * BLOCK)
                os.fsync(fd)
                os.close(fd)
            mount.remount()
        os.mkdir(mount.path("last"))  # Something for the log: it was empty after the opening.
        mount.down()
        copy_store(mount.store, store)
    return store


def copy_store(source, target):
    run("cp", "-a", "--sparse=always", source, target)


class Probe:
    """Mounts a damaged copy of the store, reads everything, and judges what came of it."""

    def __init__(self, bin_folder, pristine, what, name):
        self.bin_folder, self.pristine, self.what, self.name = bin_folder, pristine, what, name

    def run(self, damage, must_notice=True):
        """`damage(path)` is done to the file `name`; whoever notices has to name the file.

        Bytes that no read needs (a record that a later one replaces) may be left to fsck.
        """
        with Mount(self.bin_folder, mount=False) as mount:
            copy_store(self.pristine, mount.store)
            damage(os.path.join(mount.store, self.name))
            found_by_fsck = self.fsck_notices(mount)
            code, text = mount.start(timeout=60)
            check(code >= 0, f"{self.what}: cairnfs ended by signal {-code}")
            if code != 0:
                check(not is_mounted(mount.mountpoint), f"{self.what}: refused but mounted")
                check(0 < len(text.splitlines()) <= 5, f"{self.what}: the reason is {text!r}")
                self.check_named(text + mount.read_log())
                return "refused"
            wrong, errors = self.read_all(mount)
            check(mount.pids(), f"{self.what}: the daemon died while reading")
            check(not wrong, f"{self.what}: wrong content without an error: {wrong[:3]}")
            if errors:
                self.check_named("\n".join(errors) + mount.read_log())
            elif must_notice and not found_by_fsck:
                raise Failure(f"{self.what}: nobody noticed")
            mount.close()
            return "errors" if errors else "found by fsck" if found_by_fsck else "unharmed"

    def check_named(self, text):
        base = os.path.basename(self.name)
        check(base in text, f"{self.what}: {base} is not named in {text.strip()[-600:]!r}")

    def fsck_notices(self, mount):
        """fsck finds nothing (0) or names the file (1), and never ends otherwise."""
        done = mount.cairn("fsck", mount.store, ok=False)
        text = done.stdout + done.stderr
        check(done.returncode in (0, 1), f"{self.what}: cairn fsck exited {done.returncode}: "
              f"{text.strip()[-300:]}")
        if done.returncode == 1:
            self.check_named(text)
        return done.returncode == 1

    def read_all(self, mount):
        """Returns what is wrong without an error, and the text of user.cairn.error of the rest."""
        wrong, errors = [], []
        for volume in range(VOLUMES):
            path = mount.path(f"disk{volume}")
            try:
                fd = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                wrong.append(f"disk{volume} is gone")
                continue
            except OSError as error:
                errors.append(str(error))
                continue
            try:
                for block in written_blocks(volume):
                    try:
                        found = os.pread(fd, BLOCK, block * BLOCK)
                    except OSError:
                        with contextlib.suppress(OSError):
                            errors.append(os.getxattr(path, "user.cairn.error").decode())
                        continue
                    if found != content_of(volume, block):
                        wrong.append(f"disk{volume} block {block} begins {found[:24]!r}")
            finally:
                os.close(fd)
        return wrong, errors


def flip(at):
    def damage(path):
        with open(path, "r+b") as file:
            size = os.path.getsize(path)
            where = at(size) if callable(at) else at
            file.seek(where)
            byte = file.read(1)
            file.seek(where)
            file.write(bytes([byte[0] ^ 0x55]))
    return damage


def cut(share):
    def damage(path):
        os.truncate(path, int(os.path.getsize(path) * share))
    return damage


def index_files(store, keep):
    folder = os.path.join(store, "index")
    return sorted(os.path.join("index", name) for name in os.listdir(folder) if keep(name)
                  and os.path.getsize(os.path.join(folder, name)) > 0)


def try_damage(bin_folder, names_of, damages):
    """Each damage on each named file of a fresh copy of the store."""
    with scratch_folder() as folder:
        store = make_store(bin_folder, folder)
        names = names_of(store)
        check(names, "the store has no such file: " + " ".join(sorted(
            os.listdir(os.path.join(store, "index")))))
        for name in names:
            for label, damage in damages.items():
                verdict = Probe(bin_folder, store, f"{name} {label}", name).run(damage)
                print(f"  {name} {label}: {verdict}")


FLIPS = {
    "flipped at its start": flip(0),
    "flipped in its middle": flip(lambda size: size // 2),
    "flipped near its end": flip(lambda size: size - 2),
}
CUTS = {"cut to nothing": cut(0), "cut to half": cut(0.5), "removed": os.unlink}


def superblock(bin_folder):
    rng = random.Random(4)
    with scratch_folder() as folder:
        store = make_store(bin_folder, folder)
        size = os.path.getsize(os.path.join(store, "superblock"))
        damages = {**FLIPS, **CUTS}
        for at in rng.sample(range(size), 4):
            damages[f"flipped at {at}"] = flip(at)
        for label, damage in damages.items():
            Probe(bin_folder, store, f"superblock {label}", "superblock").run(damage)


def current(bin_folder):
    try_damage(bin_folder, lambda store: index_files(store, lambda name: name == "CURRENT"),
               {**FLIPS, **CUTS})


def manifest(bin_folder):
    try_damage(bin_folder, lambda store: index_files(store, lambda n: n.startswith("MANIFEST")),
               {**FLIPS, **CUTS})


def tables(bin_folder):
    def names(store):
        return index_files(store, lambda name: name.endswith((".ldb", ".sst")))[:2]
    try_damage(bin_folder, names, {**FLIPS, **CUTS})


def logs(bin_folder):
    def names(store):
        return index_files(store, lambda name: name.endswith(".log"))[:1]
    try_damage(bin_folder, names, {**FLIPS, **CUTS})


def extent_files(store):
    folder = os.path.join(store, "extents")
    found = []
    for place, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(place, name)
            if os.stat(path).st_blocks * 512 >= 8 * BLOCK:
                found.append(os.path.relpath(path, store))
    return sorted(found)


def extents(bin_folder):
    try_damage(bin_folder, lambda store: extent_files(store)[:2],
               {**CUTS, "cut to half": lambda path: os.truncate(path, 5 * BLOCK)})


def a_damaged_store_is_left_as_it_is(bin_folder):
    """A refused mount changes no byte of the store, so that other means can be tried."""
    with scratch_folder() as folder:
        store = make_store(bin_folder, folder)
        with Mount(bin_folder, mount=False) as mount:
            copy_store(store, mount.store)
            flip(lambda size: size // 2)(os.path.join(mount.store, "superblock"))
            before = os.path.join(folder, "before")
            copy_store(mount.store, before)
            code, text = mount.start()
            check(code > 0, f"a damaged superblock was accepted: {text}")
            done = run("diff", "-r", "--exclude=lock", before, mount.store, ok=False)
            check(done.returncode == 0, f"the refused mount changed the store: {done.stdout}")


def a_store_without_damage_is_accepted(bin_folder):
    """Keeps the other tests honest: the same steps without damage find nothing."""
    with scratch_folder() as folder:
        store = make_store(bin_folder, folder)
        verdict = Probe(bin_folder, store, "no damage", "superblock").run(
            lambda path: None, must_notice=False)
        check(verdict == "unharmed", f"a store without damage: {verdict}")


if __name__ == "__main__":
    main(a_store_without_damage_is_accepted, superblock, current, manifest, tables, logs, extents,
         a_damaged_store_is_left_as_it_is)
