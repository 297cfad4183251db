#!/usr/bin/env python3
"""Clones of volumes, members and whole machines; cp clones; parents go, clones stay."""
import os
import random
import struct

import snapshot_tools as tools
from cairn_mount import Mount, main
from checks import check, check_equal, check_error, file_hash, run


def of_volume_member_and_group(bin_folder):
    rng = random.Random(2)
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount)
        os.setxattr(folder + "/boot.img", "user.cairn.role", b"boot")
        old = tools.hashes(folder)
        tools.create(folder, "s")
        tools.scribble(folder + "/data.img", rng)
        now = tools.hashes(folder)
        held = mount.held_by_store()
        mount.cairn("clone", folder + "/data.img", mount.path("volume.img"))
        mount.cairn("clone", mount.path(".snapshots/s/vm1/data.img"), mount.path("member.img"))
        mount.cairn("clone", mount.path(".snapshots/s/vm1"), mount.path("vm2"))
        mount.cairn("clone", folder, mount.path("vm3"))
        mount.cairn("clone", tools.place(mount, "s"), mount.path("whole"))
        check(mount.held_by_store() < held + (1 << 20), "clones took space")

        def verify():
            check_equal(file_hash(mount.path("volume.img")), now["data.img"], "of the volume")
            check_equal(file_hash(mount.path("member.img")), old["data.img"], "of the member")
            tools.check_hashes(mount.path("vm2"), old, "of the snapshot's directory")
            tools.check_hashes(mount.path("vm3"), now, "of the directory")
            tools.check_hashes(mount.path("whole", "vm1"), old, "of the snapshot")
            check_equal(os.getxattr(mount.path("vm3", "boot.img"), "user.cairn.role"), b"boot",
                        "a clone's policy")
        verify()
        mount.remount()
        verify()
        # Each is its own from now on.
        for path in ("vm2/data.img", "vm3/data.img", "volume.img", "vm1/data.img"):
            before = {each: file_hash(mount.path(each))
                      for each in ("vm2/data.img", "vm3/data.img", "volume.img", "vm1/data.img")}
            tools.scribble(mount.path(path), rng)
            os.truncate(mount.path(path), (4 << 20) + 4096)
            for each, wanted in before.items():
                check_equal(file_hash(mount.path(each)) == wanted, each != path,
                            f"{each} unchanged after a write to {path}")
        tools.check_hashes(mount.path(".snapshots/s/vm1"), old, "the snapshot")
        mount.down()
        mount.fsck()


def by_attribute(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=65536)
        os.mkdir(mount.path("deep"))
        wanted = tools.hashes(folder)
        for value, made in ((b"to=copy.img", "vm1/copy.img"), (b"to=../up.img", "up.img"),
                            (b"to=/deep/root.img", "deep/root.img"),
                            (b"to=" + mount.path("deep", "mount.img").encode(), "deep/mount.img")):
            os.setxattr(folder + "/data.img", "user.cairn.clone", value)
            check_equal(file_hash(mount.path(made)), wanted["data.img"], made)
        os.unlink(folder + "/copy.img")
        os.setxattr(folder, "user.cairn.clone", b"to=vm2")
        tools.check_hashes(mount.path("vm2"), wanted, "of a directory")
        for value, name in ((b"to=vm2", "EEXIST"), (b"to=absent/x", "ENOENT"), (b"", "EINVAL"),
                            (b"vm3", "EINVAL"), (b"to=..", "EINVAL"),
                            (b"to=vm2/data.img/x", "ENOTDIR"),
                            (b"to=/.snapshots/x", ("EROFS", "EPERM", "ENOENT"))):
            check_error(name, f"{value!r}", os.setxattr, folder, "user.cairn.clone", value)
            check(len(os.getxattr(folder, "user.cairn.error")) > 5, f"no reason for {value!r}")


def refused(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        os.mkdir(mount.path("empty"))
        tools.create(folder, "s")
        check_error("EEXIST", "onto a volume", tools.clone, folder + "/boot.img",
                    folder + "/data.img")
        check_error(("EROFS", "EPERM"), "into a snapshot", tools.clone, folder + "/boot.img",
                    mount.path(".snapshots", "s", "vm1", "x"))
        check_error("EINVAL", "a name with a slash", tools.with_fd, folder, tools.call, "clone",
                    tools.clone_fields(1, "a/b"))
        check_error(("ENOENT", "ENOTDIR"), "into nowhere", tools.with_fd, folder, tools.call,
                    "clone", tools.clone_fields(999999, "x"))
        for source, target in ((folder, folder + "/boot.img"), (folder + "/absent", "x"),
                               (folder, "/tmp/outside"), (folder, mount.path("absent/x"))):
            done = mount.cairn("clone", source, target, ok=False)
            check(done.returncode == 1 and done.stderr, f"clone {source} {target}: {done}")
        check_equal(sorted(os.listdir(mount.mountpoint)), ["empty", "vm1"], "what is there")


def cp_is_a_clone(bin_folder):
    rng = random.Random(9)
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=64 << 20)
        sparse = mount.path("sparse.img")
        with open(sparse, "wb") as file:
            file.truncate(1 << 30)
            for _ in range(50):
                file.seek(rng.randrange(1 << 18) * 4096)
                file.write(rng.randbytes(8192))
        held = mount.held_by_store()
        for source in (folder + "/data.img", sparse):
            run("cp", source, source + ".copy")
            check_equal(file_hash(source + ".copy"), file_hash(source), f"cp of {source}")
        check(mount.held_by_store() < held + (4 << 20), "cp took space")
        tools.scribble(folder + "/data.img.copy", rng)
        check(file_hash(folder + "/data.img") != file_hash(folder + "/data.img.copy"), "one file")
        mount.remount()
        os.unlink(folder + "/data.img")
        run("cp", folder + "/data.img.copy", folder + "/again.img")
        check_equal(file_hash(folder + "/again.img"), file_hash(folder + "/data.img.copy"),
                    "cp of a cp whose source is gone")
        mount.down()
        mount.fsck()


def parts_are_copied_right(bin_folder):
    """copy_file_range of any range, aligned or not, into any place, against a plain model."""
    rng = random.Random(41)
    size = 3 << 20
    with Mount(bin_folder) as mount:
        paths = [mount.path(name) for name in ("a", "b")]
        model = []
        for path in paths:
            content = bytearray(rng.randbytes(size))
            hole = rng.randrange(size // 2)
            content[hole:hole + 300000] = bytes(300000)
            with open(path, "wb") as file:
                file.write(content[:hole])
                file.seek(hole + 300000)
                file.write(content[hole + 300000:])
            model.append(content)
        fds = [os.open(path, os.O_RDWR) for path in paths]
        for number in range(150):
            source, target = rng.choice(((0, 1), (1, 0), (0, 0)))
            unit = rng.choice((1, 512, 4096, 65536, 262144))
            length = max(1, rng.randrange(1 << 20) // unit * unit)
            begin = rng.randrange(size // unit) * unit
            place = rng.randrange(size // unit) * unit
            length = min(length, len(model[source]) - begin)
            if source == target and begin < place + length and place < begin + length:
                check_error("EINVAL", "an overlap", os.copy_file_range, fds[source], fds[target],
                            length, begin, place)
                continue
            done = 0
            while done < length:
                got = os.copy_file_range(fds[source], fds[target], length - done, begin + done,
                                         place + done)
                check(got > 0, f"copy {number}: nothing was copied at {done} of {length}")
                done += got
            end = place + length
            if end > len(model[target]):
                model[target].extend(bytes(end - len(model[target])))
            model[target][place:end] = model[source][begin:begin + length]
            if number % 10 == 0:
                offset = rng.randrange(size - 5000)
                data = rng.randbytes(5000)
                os.pwrite(fds[source], data, offset)
                model[source][offset:offset + 5000] = data
            for index, path in enumerate(paths):
                with open(path, "rb") as file:
                    found = file.read()
                check(found == model[index], f"copy {number} ({source}->{target} {begin}+{length} "
                      f"to {place}): file {index} differs")
        for fd in fds:
            os.close(fd)
        mount.remount()
        for index, path in enumerate(paths):
            with open(path, "rb") as file:
                check(file.read() == model[index], f"file {index} after a remount")


def parents_go_and_space_comes_back(bin_folder):
    with Mount(bin_folder, options="seal=0") as mount:
        base = mount.held_by_store()
        folder = tools.make_volumes(mount, size=8 << 20)
        wanted = tools.hashes(folder)
        tools.create(folder, "s")
        mount.cairn("clone", mount.path(".snapshots/s/vm1"), mount.path("vm2"))
        mount.cairn("snapshot", "delete", tools.place(mount, "s"))
        run("rm", "-r", folder)
        for _ in range(2):
            tools.check_hashes(mount.path("vm2"), wanted, "the clone without its parents")
            mount.remount()
        run("rm", "-r", mount.path("vm2"))
        tools.wait_for_space(mount, base + (2 << 20))
        mount.down()
        mount.fsck()


def generations_of_clones(bin_folder):
    with Mount(bin_folder) as mount:
        volume = tools.make_volumes(mount, "g", ("0",), 1 << 20) + "/0"
        with open(volume, "rb") as file:
            model = bytearray(file.read())
        generations = 60
        for number in range(1, generations + 1):
            target = mount.path("g", str(number))
            tools.clone(volume, target)
            os.unlink(volume)  # Its clone lives on.
            volume = target
            with open(volume, "r+b", buffering=0) as file:
                place = number * 7 % 256 * 4096
                data = struct.pack("I", number) * 1024
                file.seek(place)
                file.write(data)
                model[place:place + 4096] = data
        for _ in range(2):
            with open(volume, "rb") as file:
                check(file.read() == model, f"generation {generations} differs")
            mount.remount()
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    main(of_volume_member_and_group, by_attribute, refused, cp_is_a_clone, parts_are_copied_right,
         parents_go_and_space_comes_back, generations_of_clones)
