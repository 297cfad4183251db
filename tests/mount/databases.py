#!/usr/bin/env python3
"""SQLite with WAL and mmap, on an ext4 over a volume and directly on a file of the mount."""
import contextlib
import hashlib
import os
import sqlite3
import threading

from cairn_mount import Mount, loop_device, main, mounted
from checks import check, check_equal, run

ROWS = 3000


def payload(number):
    return hashlib.sha256(str(number).encode()).digest() * (1 + number % 40)


def open_database(path, journal):
    database = sqlite3.connect(path, timeout=60)
    found = database.execute(f"PRAGMA journal_mode={journal}").fetchone()[0]
    check_equal(found, journal, "journal mode")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(f"PRAGMA mmap_size={64 << 20}")
    return database


def fill(path, journal):
    """Two connections of two threads write transactions; some are rolled back."""
    with contextlib.closing(open_database(path, journal)) as database, database:
        database.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, content BLOB)")
    failures = []

    def writer(first):
        try:
            with contextlib.closing(open_database(path, journal)) as database:
                for start in range(first, ROWS, 200):
                    with database:
                        database.executemany("INSERT INTO item VALUES (?, ?)",
                                             [(n, payload(n)) for n in range(start, start + 100)])
                    database.execute("BEGIN IMMEDIATE")
                    database.execute("DELETE FROM item WHERE id < 1000")
                    database.rollback()
        except Exception as error:  # pylint: disable=broad-except
            failures.append(error)

    threads = [threading.Thread(target=writer, args=(first,)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not failures, f"writers failed: {failures}")


def verify(path, journal):
    with contextlib.closing(open_database(path, journal)) as database:
        check_equal(database.execute("PRAGMA integrity_check").fetchall(), [("ok",)],
                    "integrity_check")
        rows = dict(database.execute("SELECT id, content FROM item"))
    check_equal(len(rows), ROWS, "rows")
    wrong = [number for number in range(ROWS) if rows.get(number) != payload(number)]
    check(not wrong, f"rows with wrong content: {wrong[:10]}")


def sqlite_on_ext4_over_a_volume(bin_folder):
    with Mount(bin_folder) as mount:
        volume = mount.path("disk.img")
        guest = os.path.join(mount.folder, "guest")
        run("truncate", "-s", "1G", volume)
        with loop_device(volume) as device:
            run("mkfs.ext4", "-q", "-F", device)
            with mounted(device, guest):
                fill(os.path.join(guest, "a.db"), "wal")
                verify(os.path.join(guest, "a.db"), "wal")
        mount.remount()
        with loop_device(volume) as device, mounted(device, guest):
            verify(os.path.join(guest, "a.db"), "wal")
        mount.down()
        mount.fsck()


def sqlite_directly_in_the_mount(bin_folder):
    with Mount(bin_folder) as mount:
        for journal in ("wal", "delete", "truncate"):
            fill(mount.path(f"{journal}.db"), journal)
        mount.remount()
        for journal in ("wal", "delete", "truncate"):
            verify(mount.path(f"{journal}.db"), journal)
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    main(sqlite_on_ext4_over_a_volume, sqlite_directly_in_the_mount)
