#!/usr/bin/env python3
"""Damage in the files of a store: an error that names the file; no hang, crash or silent zero."""
import contextlib
import errno
import hashlib
import json
import mmap
import os
import random

from cairn_mount import Mount, is_mounted, main, scratch_folder
from checks import Failure, check, check_error, file_hash, run

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
        # A table for each turn, as opening LevelDB makes one of its log, and one of the first opening:
        # too few to be compacted, so that there are always the same.
        for turn in range(2):
            for volume in range(turn, VOLUMES, 2):
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


def without_notices(text):
    """Without what is logged of each bad read: the errors themselves have to tell."""
    return "\n".join(line for line in text.splitlines()
                     if "a table of the index cannot be read in full" not in line)


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
            code, text = mount.start()
            check(code >= 0, f"{self.what}: cairnfs ended by signal {-code}")
            if code != 0:
                check(not is_mounted(mount.mountpoint), f"{self.what}: refused but mounted")
                check(0 < len(text.splitlines()) <= 5, f"{self.what}: the reason is {text!r}")
                self.check_named(text)
                return "refused"
            wrong, errors = self.read_all(mount)
            check(mount.pids(), f"{self.what}: the daemon died while reading")
            check(not wrong, f"{self.what}: wrong content without an error: {wrong[:3]}")
            if errors:
                self.check_named("\n".join(errors) + without_notices(mount.read_log()))
            elif must_notice and not found_by_fsck:
                raise Failure(f"{self.what}: nobody noticed")
            mount.close()
            return "errors" if errors else "found by fsck" if found_by_fsck else "unharmed"

    def check_named(self, text):
        base = os.path.basename(self.name)
        check(base in text, f"{self.what}: {base} is not named in {text.strip()[-600:]!r}")

    def fsck_notices(self, mount):
        """fsck finds nothing (0) or names the file (1), and never ends otherwise. It may also note
        that the file is gone since: LevelDB compacted it meanwhile."""
        done = mount.cairn("fsck", mount.store, ok=False)
        check(done.returncode in (0, 1), f"{self.what}: cairn fsck exited {done.returncode}: "
              f"{(done.stdout + done.stderr).strip()[-300:]}")
        if done.returncode == 1:
            self.check_named(done.stdout)
        return os.path.basename(self.name) in done.stdout

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
        return index_files(store, lambda name: name.endswith((".ldb", ".sst")))
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
               {**CUTS, "cut to half": lambda path: os.truncate(path, 5 * BLOCK),
                "flipped in its first block": flip(100),
                "flipped in a later block": flip(14 * BLOCK + BLOCK - 1)})


BIG = 96 << 20


def big_content(offset, length):
    """Each 512 bytes say where they belong."""
    return b"".join(b"at %d " % at + b"." * (512 - len(b"at %d " % at))
                    for at in range(offset, offset + length, 512))


def read_at(path, flags, offset, length):
    """The bytes, or the errno of the refusal. O_DIRECT needs aligned memory, hence mmap."""
    fd = os.open(path, os.O_RDONLY | flags)
    try:
        with mmap.mmap(-1, max(length, BLOCK)) as memory:
            with memoryview(memory)[:length] as view:
                got = os.preadv(fd, [view], offset)
                return bytes(view[:got])
    except OSError as error:
        return error.errno
    finally:
        os.close(fd)


def wait_until_all_has_checksums(mount):
    """A close of a mount that would take too long leaves some to the next one."""
    for _ in range(10):
        done = mount.cairn("fsck", "--check-data", "--json", mount.store, timeout=300)
        checked = json.loads(done.stdout)["checked"]
        if checked["open_regions"] == 0 and checked["data_bytes"] >= BIG:
            return
        mount.up()
        mount.down()
    raise Failure(f"after ten mounts: {checked}")


def only_extent_of(mount, size):
    """The extent file that holds `size` bytes or more."""
    found = [path for path in extent_files(mount.store)
             if os.stat(os.path.join(mount.store, path)).st_blocks * 512 >= size]
    check(len(found) == 1, f"expected one large extent file, found {found}")
    return os.path.join(mount.store, found[0])


def a_flipped_byte_of_a_big_volume(bin_folder):
    """Write, unmount, flip a byte in the extent file, mount, read: EIO for that block alone."""
    with Mount(bin_folder) as mount:
        path = mount.path("big")
        with open(path, "wb") as file:
            for at in range(0, BIG, 1 << 20):
                file.write(big_content(at, 1 << 20))
        mount.down()
        wait_until_all_has_checksums(mount)
        where = BIG // 2 + 3 * BLOCK + 1000
        block = where // BLOCK * BLOCK
        extent = only_extent_of(mount, BIG)
        flip(where)(extent)

        done = mount.cairn("fsck", "--check-data", mount.store, ok=False)
        text = done.stdout + done.stderr
        check(done.returncode == 1, f"fsck --check-data exited {done.returncode}: {text}")
        for word in (os.path.basename(extent), "/big", f"bytes {block} to {block + BLOCK} "):
            check(word in text, f"fsck --check-data does not say {word!r}: {text}")
        done = mount.cairn("fsck", "--check-data", "--json", mount.store, ok=False)
        report = json.loads(done.stdout)
        check(done.returncode == 1 and not report["sound"], f"fsck --json: {done.stdout}")
        check(report["checked"]["data_bytes"] >= BIG, f"not all was compared: {report['checked']}")
        check(report["findings"][0]["code"] == "data-damaged", f"findings: {report['findings']}")

        mount.up()
        for flags in (os.O_DIRECT, 0):
            for offset, length in ((block, BLOCK), (block, 512), (where // 512 * 512, 512),
                                   (block + BLOCK - 512, 512), (block - (1 << 19), 1 << 20)):
                found = read_at(path, flags, offset, length)
                if flags == 0 and isinstance(found, bytes):
                    # The page cache gives what lies before the page that could not be read.
                    check(offset + len(found) <= block and
                          found == big_content(offset, length)[:len(found)],
                          f"a buffered read of {length} at {offset} gave damaged bytes")
                    continue
                check(found == errno.EIO, f"reading {length} at {offset}, flags {flags}: {found!r}")
            reason = os.getxattr(path, "user.cairn.error").decode()
            check(os.path.basename(extent) in reason and str(block) in reason,
                  f"user.cairn.error says {reason!r}")
        check(os.path.basename(extent) in mount.read_log(), "the log does not name the file")
        # All the rest is there, also in the blocks beside it.
        for offset, length in ((0, 1 << 20), (block - BLOCK, BLOCK), (block + BLOCK, BLOCK),
                               (block + BLOCK, 512), (BIG - (1 << 20), 1 << 20)):
            for flags in (os.O_DIRECT, 0):
                check(read_at(path, flags, offset, length) == big_content(offset, length),
                      f"{length} bytes at {offset} are not what was written")
        # Part of the block cannot be written; a write of the whole block heals it.
        fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
        with mmap.mmap(-1, BLOCK) as memory:
            memory.write(big_content(block, BLOCK))
            check_error("EIO", "a write of 512 bytes into the damaged block",
                        os.pwritev, fd, [memoryview(memory)[:512]], block)
            check(os.pwritev(fd, [memory], block) == BLOCK, "the whole block was not written")
        os.close(fd)
        check(read_at(path, os.O_DIRECT, block, BLOCK) == big_content(block, BLOCK), "not healed")
        mount.remount()
        check(file_hash(path) == hash_of(lambda at: big_content(at, 1 << 20), BIG >> 20),
              "the healed volume is not what was written")
        mount.down()
        done = mount.cairn("fsck", "--check-data", mount.store)
        check(done.returncode == 0, f"fsck --check-data after the healing: {done.stdout}")


def hash_of(part, parts):
    digest = hashlib.sha256()
    for number in range(parts):
        digest.update(part(number << 20))
    return digest.hexdigest()


def a_damaged_store_is_left_as_it_is(bin_folder):
    """A refused mount changes no byte of the store, so that other means can be tried."""
    with scratch_folder() as folder:
        store = make_store(bin_folder, folder)
        with Mount(bin_folder, mount=False) as mount:
            copy_store(store, mount.store)
            flip(lambda size: size // 2)(os.path.join(mount.store, "superblock"))
            before = os.path.join(folder, "before")
            copy_store(mount.store, before)
            # Its log would be in it, too.
            code, text = mount.start_raw(mount.store, mount.mountpoint)
            check(code > 0, f"a damaged superblock was accepted: {text}")
            done = run("diff", "-r", before, mount.store, ok=False)
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
         a_flipped_byte_of_a_big_volume, a_damaged_store_is_left_as_it_is)
