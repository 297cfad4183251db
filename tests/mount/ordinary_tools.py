#!/usr/bin/env python3
"""cp, mv, dd, truncate, fallocate, qemu-img and mmap do on a volume what they do elsewhere."""
import mmap
import os
import random

from cairn_mount import Mount, main
from checks import check, check_equal, check_error, file_hash, run

MIB = 2**20
BLOCK = 4096


def make_sparse_source(path, seed=11):
    """32 MiB with random data in some places and holes between; returns its content."""
    rng = random.Random(seed)
    content = bytearray(32 * MIB)
    with open(path, "wb") as file:
        file.truncate(len(content))
        for _ in range(12):
            at = rng.randrange(0, len(content) - 300000)
            data = rng.randbytes(rng.randrange(1, 300000))
            content[at:at + len(data)] = data
            file.seek(at)
            file.write(data)
    return bytes(content)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def check_content(path, wanted, what):
    found = read(path)
    check_equal(len(found), len(wanted), f"{what}: size")
    if found != wanted:
        at = next(i for i, (a, b) in enumerate(zip(found, wanted)) if a != b)
        check(False, f"{what}: first difference at byte {at}: {found[at]:#x}, not {wanted[at]:#x}")


def cp(bin_folder):
    with Mount(bin_folder) as mount:
        outside = os.path.join(mount.folder, "source")
        content = make_sparse_source(outside)
        for option in ("--sparse=auto", "--sparse=always", "--sparse=never"):
            run("cp", option, outside, mount.path("copy"))
            check_content(mount.path("copy"), content, f"cp {option} into the mount")
            held = os.stat(mount.path("copy")).st_blocks * 512
            if option == "--sparse=always":
                limit = os.stat(outside).st_blocks * 512 + 64 * BLOCK
                check(held <= limit, f"cp {option}: holds {held} bytes, wanted at most {limit}")
            run("cp", option, mount.path("copy"), mount.path("second"))
            check_content(mount.path("second"), content, f"cp {option} within the mount")
            os.unlink(mount.path("copy"))
        run("cp", "--reflink=auto", mount.path("second"), mount.path("third"))
        check_content(mount.path("third"), content, "cp --reflink=auto")
        os.mkdir(mount.path("vm1"))
        run("cp", "-a", mount.path("second"), mount.path("vm1"))
        run("cp", "-a", mount.path("vm1"), mount.path("vm2"))
        mount.remount()
        check_content(mount.path("vm2", "second"), content, "cp -a of a directory, remounted")


def mv(bin_folder):
    with Mount(bin_folder) as mount:
        outside = os.path.join(mount.folder, "source")
        content = make_sparse_source(outside)
        os.mkdir(mount.path("a"))
        os.mkdir(mount.path("b"))
        run("cp", outside, mount.path("a", "disk"))
        with open(mount.path("b", "disk"), "wb") as file:
            file.write(b"overwritten")
        run("mv", mount.path("a", "disk"), mount.path("a", "renamed"))
        run("mv", "-f", mount.path("a", "renamed"), mount.path("b", "disk"))
        check_equal(os.listdir(mount.path("a")), [], "the directory that the file left")
        run("mv", mount.path("b"), mount.path("a", "moved"))
        check_content(mount.path("a", "moved", "disk"), content, "after moves")
        check_error("EINVAL", "a directory into itself", os.rename, mount.path("a"),
                    mount.path("a", "moved", "a"))
        check_error("ENOTEMPTY", "over a directory with files", os.rename,
                    _made(mount.path("c")), mount.path("a"))
        check_error("EISDIR", "a file over a directory", os.rename,
                    mount.path("a", "moved", "disk"), mount.path("c"))
        check_error("ENOTDIR", "a directory over a file", os.rename, mount.path("c"),
                    mount.path("a", "moved", "disk"))
        mount.remount()
        check_content(mount.path("a", "moved", "disk"), content, "after a remount")
        run("mv", mount.path("a", "moved", "disk"), os.path.join(mount.folder, "out"))
        check_content(os.path.join(mount.folder, "out"), content, "mv out of the mount")
        check_equal(os.listdir(mount.path("a", "moved")), [], "after mv out of the mount")


def _made(folder):
    os.mkdir(folder)
    return folder


def dd(bin_folder):
    with Mount(bin_folder) as mount:
        outside = os.path.join(mount.folder, "source")
        wanted = bytearray(make_sparse_source(outside))
        volume = mount.path("disk")
        run("dd", f"if={outside}", f"of={volume}", "bs=1M", "oflag=direct", "conv=fsync")
        check_content(volume, wanted, "dd oflag=direct")
        piece = random.Random(5).randbytes(7 * 512)
        with open(os.path.join(mount.folder, "piece"), "wb") as file:
            file.write(piece)
        for flags in ("conv=notrunc", "conv=notrunc,fsync oflag=direct",
                      "conv=notrunc oflag=dsync"):
            at = 777 * 512
            run("dd", f"if={mount.folder}/piece", f"of={volume}", "bs=512", "seek=777",
                *flags.split())
            wanted[at:at + len(piece)] = piece
            check_content(volume, wanted, f"dd {flags}")
            piece = piece[::-1]
            with open(os.path.join(mount.folder, "piece"), "wb") as file:
                file.write(piece)
        run("dd", f"if={volume}", f"of={mount.folder}/back", "bs=64k", "iflag=direct")
        check_content(os.path.join(mount.folder, "back"), wanted, "dd iflag=direct")


def truncate(bin_folder):
    with Mount(bin_folder) as mount:
        volume = mount.path("disk")
        wanted = make_sparse_source(volume)
        held = os.stat(volume).st_blocks
        for size in (20 * MIB + 1234, 20 * MIB + 4096, 1000, 40 * MIB, 3 * MIB, 0, 5000):
            run("truncate", "-s", size, volume)
            wanted = (wanted[:size] + bytes(size))[:size]
            check_content(volume, wanted, f"truncate to {size}")
        check(os.stat(volume).st_blocks < held, "truncate to 0 gave no space back")
        check_equal(os.stat(volume).st_blocks, 0, "st_blocks of a volume that was cut to 0")
        mount.remount()
        check_content(volume, wanted, "after a remount")
        check_error("EINVAL", "a negative size", os.truncate, volume, -1)


def fallocate(bin_folder):
    with Mount(bin_folder) as mount:
        volume = mount.path("disk")
        rng = random.Random(3)
        wanted = bytearray(rng.randbytes(4 * MIB))
        with open(volume, "wb") as file:
            file.write(wanted)
        held = os.stat(volume).st_blocks * 512
        ranges = [(0, BLOCK), (5 * BLOCK, 3 * BLOCK), (MIB + 100, 50), (MIB + 5000, 3 * BLOCK + 7),
                  (2 * MIB, 512 * 1024), (4 * MIB - 300, 300), (3 * MIB - 1, 2)]
        for option in ("--punch-hole", "--zero-range"):
            for at, length in ranges:
                run("fallocate", option, "-o", at, "-l", length, volume)
                wanted[at:at + length] = bytes(length)
                check_content(volume, wanted, f"fallocate {option} {at}+{length}")
                wanted[at:at + length] = rng.randbytes(length)
                with open(volume, "r+b") as file:
                    file.seek(at)
                    file.write(wanted[at:at + length])
        run("fallocate", "--punch-hole", "-o", 2 * MIB, "-l", MIB, volume)
        wanted[2 * MIB:3 * MIB] = bytes(MIB)
        freed = held - os.stat(volume).st_blocks * 512
        check(freed >= MIB - 2 * BLOCK, f"punching 1 MiB lowered st_blocks by {freed} bytes")
        # Beyond the end: a hole never grows the file; zeros do, unless --keep-size.
        run("fallocate", "--punch-hole", "-o", 4 * MIB - 10, "-l", MIB, volume)
        wanted[-10:] = bytes(10)
        check_content(volume, wanted, "punch over the end")
        run("fallocate", "--zero-range", "--keep-size", "-o", 4 * MIB, "-l", MIB, volume)
        check_content(volume, wanted, "zero range with --keep-size over the end")
        run("fallocate", "--zero-range", "-o", 4 * MIB, "-l", 5000, volume)
        wanted += bytes(5000)
        check_content(volume, wanted, "zero range over the end")
        plain = run("fallocate", "-o", 0, "-l", 6 * MIB, volume, ok=False)
        if plain.returncode == 0:
            wanted += bytes(6 * MIB - len(wanted))
        else:
            check("not supported" in plain.stderr, f"plain fallocate: {plain.stderr}")
        mount.remount()
        check_content(volume, wanted, "after a remount")


def qemu_img(bin_folder):
    with Mount(bin_folder) as mount:
        raw, packed, back = mount.path("raw.img"), mount.path("packed.qcow2"), mount.path("back")
        make_sparse_source(raw)
        for cache in ("writeback", "none"):
            run("qemu-img", "convert", "-t", cache, "-f", "raw", "-O", "qcow2", raw, packed)
            run("qemu-img", "check", packed)
            run("qemu-img", "convert", "-t", cache, "-f", "qcow2", "-O", "raw", packed, back)
            run("qemu-img", "compare", "-T", cache, "-f", "raw", "-F", "raw", raw, back)
            run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, packed)
            check_equal(file_hash(back), file_hash(raw), f"hash after qemu-img, cache={cache}")
            os.unlink(back)
        run("qemu-img", "create", "-q", "-f", "raw", mount.path("created.img"), "8G")
        check_equal(os.stat(mount.path("created.img")).st_size, 8 << 30, "qemu-img create")
        run("qemu-img", "resize", "-q", "-f", "raw", mount.path("created.img"), "9G")
        mount.remount()
        run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, packed)


def memory_mapped(bin_folder):
    with Mount(bin_folder) as mount:
        volume = mount.path("disk")
        wanted = bytearray(make_sparse_source(volume))
        rng = random.Random(9)
        with open(volume, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            check(view[:] == wanted, "mmap reads other bytes than were written")
            for _ in range(200):
                at = rng.randrange(len(wanted) - 5000)
                data = rng.randbytes(rng.randrange(1, 5000))
                view[at:at + len(data)] = data
                wanted[at:at + len(data)] = data
            view.flush()
            check_content(volume, wanted, "read() after msync")
            # The other way round: a write() shows in a mapping that is open.
            os.pwrite(file.fileno(), b"seen by the mapping", 12345)
            wanted[12345:12345 + 19] = b"seen by the mapping"
            check_equal(view[12345:12345 + 19], b"seen by the mapping", "mapping after a write()")
        mount.remount()
        check_content(volume, wanted, "after a remount")


if __name__ == "__main__":
    main(cp, mv, dd, truncate, fallocate, qemu_img, memory_mapped)
