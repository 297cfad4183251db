#!/usr/bin/env python3
"""PostgreSQL with data and WAL on two volumes: it recovers from a clone of every group snapshot.

argv: BIN [SNAPSHOTS] (default 3).
"""
import contextlib
import glob
import os
import pwd
import shutil
import subprocess
import sys
import time

import cairn_mount
from cairn_mount import Mount, loop_device, mounted, undo
from checks import check, check_equal, run, wait_until

SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{socket}'
shared_buffers = 32MB
max_wal_size = 64MB
checkpoint_timeout = 30s
autovacuum_naptime = 1s
"""
SUMS = """select (select count(*) from pgbench_history),
 (select coalesce(sum(delta), 0) from pgbench_history), (select sum(abalance) from pgbench_accounts),
 (select sum(bbalance) from pgbench_branches), (select sum(tbalance) from pgbench_tellers)"""


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    check(found, "PostgreSQL is not installed (package postgresql)")
    return found[-1]


class Postgres:
    """A server as the user postgres, its data below `data`, its WAL below `wal`."""

    def __init__(self, data, wal, socket):
        self.bin = programs()
        self.data, self.wal, self.socket = os.path.join(data, "pg"), os.path.join(wal, "pg"), socket
        self.user = pwd.getpwnam("postgres")

    def own(self, path):
        os.makedirs(path, exist_ok=True)
        os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def command(self, program, *arguments):
        return ("setpriv", f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}",
                "--clear-groups", os.path.join(self.bin, program), *arguments)

    def run(self, program, *arguments, **keywords):
        return run(*self.command(program, *arguments), cwd=self.socket, timeout=300, **keywords)

    def init(self):
        self.run("initdb", "-D", self.data, "--waldir", self.wal, "-A", "trust")

    def point_at_own_wal(self):
        """A clone's data has a link to where the WAL of its parent was mounted."""
        link = os.path.join(self.data, "pg_wal")
        os.unlink(link)
        os.symlink(self.wal, link)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.data, "postmaster.pid"))

    @contextlib.contextmanager
    def running(self):
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write(SETTINGS.format(socket=self.socket))
            file.flush()
            # Not PostgreSQL's to make durable: ext4 may know of the new size before the bytes.
            os.fsync(file.fileno())
        log = os.path.join(self.socket, "log")

        def stop():
            subprocess.run(self.command("pg_ctl", "-D", self.data, "stop", "-m", "immediate"),
                           capture_output=True, cwd=self.socket, check=False)
        with undo(stop):
            done = self.run("pg_ctl", "-D", self.data, "-l", log, "-w", "-t", "120", "start",
                            ok=False)
            if done.returncode != 0:
                with open(log, encoding="utf-8", errors="replace") as file:
                    check(False, f"PostgreSQL does not start: {file.read()[-2000:]}")
            yield
            self.run("pg_ctl", "-D", self.data, "stop", "-m", "fast")

    def sums(self):
        text = self.run("psql", "-h", self.socket, "-d", "postgres", "-At", "-F", " ", "-c",
                        SUMS).stdout
        return [int(word) for word in text.split()]


@contextlib.contextmanager
def guests(folder, where):
    """data.img and wal.img of a directory of the mount, mounted below `where`."""
    with contextlib.ExitStack() as stack:
        places = []
        for name in ("data", "wal"):
            device = stack.enter_context(loop_device(os.path.join(folder, f"{name}.img")))
            place = os.path.join(where, name)
            places.append(stack.enter_context(mounted(device, place)))
        yield places


def make_guests(folder):
    os.mkdir(folder)
    for name, size in (("data", "2G"), ("wal", "1G")):
        path = os.path.join(folder, f"{name}.img")
        run("truncate", "-s", size, path)
        run("mkfs.ext4", "-q", "-F", path)


@contextlib.contextmanager
def load(server):
    bench = subprocess.Popen(server.command("pgbench", "-h", server.socket, "-c", "4", "-T", "3600",
                                            "postgres"), cwd=server.socket,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop():
        bench.terminate()
        bench.wait(60)
    with undo(stop):
        yield bench


def recover(mount, name, floor, socket):
    """A clone of the snapshot is mounted, recovered and looked through."""
    target = mount.path("clone")
    mount.cairn("clone", mount.path(".snapshots", name, "vm"), target)
    with guests(target, os.path.join(mount.folder, "copy")) as (data, wal):
        server = Postgres(data, wal, socket)
        server.own(socket)
        server.point_at_own_wal()
        with server.running():
            count, delta, *balances = server.sums()
            check_equal(balances, [delta] * 3, f"{name}: sums of balances and of the history")
            check(count >= floor, f"{name}: {floor} transactions were committed before the "
                  f"request, {count} are there")
            server.run("pg_amcheck", "-h", socket, "-d", "postgres", "--install-missing",
                       "--heapallindexed")
    shutil.rmtree(target)
    shutil.rmtree(socket)
    return count


def every_snapshot_recovers(bin_folder, snapshots):
    with Mount(bin_folder) as mount:
        make_guests(mount.path("vm"))
        floors = {}
        with guests(mount.path("vm"), os.path.join(mount.folder, "guest")) as (data, wal):
            server = Postgres(data, wal, os.path.join(mount.folder, "socket"))
            for path in (data, wal, server.socket):
                server.own(path)
            server.init()
            with server.running():
                server.run("pgbench", "-h", server.socket, "-i", "-s", "3", "-q", "postgres")
                with load(server) as bench:
                    wait_until(lambda: server.sums()[0] > 100, 120, "pgbench gets going")
                    for number in range(snapshots):
                        before = server.sums()[0]
                        name = f"s{number}"
                        mount.cairn("snapshot", "create", mount.path("vm"), "--name", name)
                        floors[name] = before
                        wait_until(lambda most=before: server.sums()[0] > most + 20, 120,
                                   "pgbench goes on")
                        time.sleep(0.2)
                    check(bench.poll() is None, "pgbench ended by itself")
        counts = [recover(mount, name, floor, os.path.join(mount.folder, "socket2"))
                  for name, floor in floors.items()]
        check(counts == sorted(counts), f"later snapshots hold less: {counts}")
        mount.down()
        mount.fsck()
        print(f"{snapshots} snapshots recovered, transactions: {counts[0]} to {counts[-1]}")


if __name__ == "__main__":
    SNAPSHOTS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 3

    def postgres(bin_folder):
        every_snapshot_recovers(bin_folder, SNAPSHOTS)

    cairn_mount.main(postgres)
