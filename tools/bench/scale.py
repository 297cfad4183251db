#!/usr/bin/env python3
"""Mount time and memory of a large store: many volumes, and optionally one with a large index.

Run by bench.py as the job `scale`, or alone: scale.py --build DIR [--volumes N] [--index-gib N].
"""
import argparse
import ctypes
import json
import os
import shutil
import sys
import tempfile
import time

import targets

CHUNK = 256 * 1024
BLOCK = b"\xa5" * 4096
PER_DIRECTORY = 100
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2


def memory(pids):
    """VmRSS and VmHWM in KiB, by process id."""
    found = {}
    for pid in pids:
        with open(f"/proc/{pid}/status", encoding="utf-8") as status:
            fields = dict(line.split(":", 1) for line in status if ":" in line)
        found[pid] = {key: int(fields[key].split()[0]) for key in ("VmRSS", "VmHWM")}
    return found


def make_volumes(root, count):
    """Sparse volumes of 1 GiB with one written block each, in folders of 100."""
    for number in range(count):
        folder = os.path.join(root, f"vm{number // PER_DIRECTORY:04d}")
        if number % PER_DIRECTORY == 0:
            os.mkdir(folder)
        fd = os.open(os.path.join(folder, f"disk{number % PER_DIRECTORY:02d}.img"),
                     os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(fd, 2**30)
            os.pwrite(fd, BLOCK, 0)
        finally:
            os.close(fd)


def make_index(root, gib):
    """A volume whose index has a record for each chunk of its first `gib` GiB.

    A punched block keeps its record, so that nearly all are punched before they reach the disk:
    four million blocks far apart are more than some filesystems bear.
    """
    fd = os.open(os.path.join(root, "index.img"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.ftruncate(fd, gib * 2**30)
        for start in range(0, gib * 2**30, 2**30):
            for offset in range(start, start + 2**30, CHUNK):
                os.pwrite(fd, BLOCK, offset)
            punch(fd, start + CHUNK, 2**30 - CHUNK)
        os.fsync(fd)
    finally:
        os.close(fd)


def punch(fd, offset, length):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate64(fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, ctypes.c_int64(offset),
                        ctypes.c_int64(length)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def read_index(root, gib):
    fd = os.open(os.path.join(root, "index.img"), os.O_RDONLY)
    try:
        for offset in range(0, gib * 2**30, CHUNK):
            wanted = BLOCK if offset % 2**30 == 0 else bytes(len(BLOCK))
            if os.pread(fd, len(BLOCK), offset) != wanted:
                raise RuntimeError(f"index.img: wrong content at {offset}")
    finally:
        os.close(fd)


def count_files(root):
    return sum(len(files) for _, _, files in os.walk(root))


def run(build, folder, volumes, index_gib, say):
    """Measures in a new store below `folder`; returns a record with printable `lines`."""
    base = tempfile.mkdtemp(prefix="cairn-scale.", dir=folder)
    cairn = targets.Cairn(base, build)
    result = {"volumes": volumes, "index_gib": index_gib, "lines": []}

    def note(text):
        result["lines"].append(text)
        say(f"scale: {text}")

    def note_memory(when):
        result[when] = memory(cairn.pids())
        rss, peak = (sum(each[key] for each in result[when].values()) / 1024
                     for key in ("VmRSS", "VmHWM"))
        note(f"memory {when}: {rss:.1f} MiB (peak {peak:.1f} MiB) in {len(result[when])} processes")

    try:
        cairn.bring_up()
        begin = time.monotonic()
        make_volumes(cairn.root(), volumes)
        note(f"{volumes} volumes made in {time.monotonic() - begin:.1f} s")
        if index_gib:
            begin = time.monotonic()
            make_index(cairn.root(), index_gib)
            note(f"index of {index_gib} GiB made in {time.monotonic() - begin:.1f} s")
        note_memory("after filling")
        cairn.take_down()
        result["mount_seconds"] = cairn.bring_up()
        note(f"mount: {result['mount_seconds']:.3f} s")
        note_memory("after mount")
        found = count_files(cairn.root())
        if found != volumes + bool(index_gib):
            raise RuntimeError(f"{found} volumes after the remount")
        if index_gib:
            read_index(cairn.root(), index_gib)
        note_memory("after reading all")
    finally:
        cairn.close()
        shutil.rmtree(base, ignore_errors=True)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", required=True)
    parser.add_argument("--dir", default="/var/tmp")
    parser.add_argument("--volumes", type=int, default=10000)
    parser.add_argument("--index-gib", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = run(options.build, options.dir, options.volumes, options.index_gib,
                 lambda text: print(text, file=sys.stderr, flush=True))
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
