#!/usr/bin/env python3
"""PostgreSQL with pgbench on a guest's ext4 over a volume, under kill -9 of Cairn's server.

argv: BIN [KILLS] (default 30). No transaction may fail, the sums must agree, and no page or index
may be damaged.
"""
import contextlib
import glob
import os
import pwd
import re
import subprocess
import sys

import cairn_mount
import replacing
from checks import check, check_equal, run, wait_until

USER = "postgres"
SCALE = 5
# While it starts; and when it is stopped while autovacuum is at work.
USUAL = ("starting up", "terminating autovacuum process due to administrator command")
CLIENTS = 4
TRANSACTIONS = 100  # of each client in one run of pgbench
SETTINGS = """
listen_addresses = ''
shared_buffers = 16MB
wal_level = minimal
max_wal_senders = 0
max_wal_size = 64MB
min_wal_size = 32MB
checkpoint_timeout = 30s
autovacuum_naptime = 1s
"""


def programs():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"),
                   key=lambda path: int(path.split("/")[4]))
    check(found, "there is no /usr/lib/postgresql/*/bin/postgres")
    return os.path.dirname(found[-1])


class Cluster:
    def __init__(self, folder):
        self.bin = programs()
        self.data = os.path.join(folder, "data")
        self.sockets = os.path.join(folder, "run")
        self.log = os.path.join(folder, "log")
        self.process = None

    def command(self, program, *arguments):
        """A program of PostgreSQL's as its own user."""
        return ["runuser", "-u", USER, "--", os.path.join(self.bin, program), *arguments]

    def client(self, program, *arguments, **keywords):
        return run(*self.command(program, "-h", self.sockets, *arguments), cwd="/", timeout=600,
                   **keywords)

    def create(self):
        owner = pwd.getpwnam(USER)
        for folder in (self.data, self.sockets):
            os.mkdir(folder)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        run(*self.command("initdb", "-D", self.data, "-A", "trust", "--data-checksums"), cwd="/")
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="ascii") as file:
            file.write(SETTINGS + f"unix_socket_directories = '{self.sockets}'\n")

    @contextlib.contextmanager
    def running(self):
        """A postmaster for the block. pg_ctl's own fast stop, so that a failed one shows."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command("postgres", "-D", self.data), cwd="/",
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        with cairn_mount.undo(self.stop, "immediate"):
            wait_until(self.answers, 60, "PostgreSQL starts")
            yield
            self.stop("fast")
            check_equal(self.process.returncode, 0, "exit code of PostgreSQL")

    def answers(self):
        check(self.process.poll() is None, f"PostgreSQL ended: {self.tail()}")
        return self.client("pg_isready", ok=False).returncode == 0

    def stop(self, mode):
        if self.process.poll() is None:
            run(*self.command("pg_ctl", "stop", "-w", "-t", "60", "-D", self.data, "-m", mode),
                cwd="/", ok=mode == "fast")
            self.process.wait(60)

    def tail(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return " | ".join(file.read().splitlines()[-8:])

    def value(self, query):
        return self.client("psql", "-AtX", "-c", query, "postgres").stdout.strip()

    def check_sums(self, transactions):
        self.client("pg_amcheck", "--all", "--install-missing", "--heapallindexed", "--rootdescend",
                    "--parent-check")
        sums = {what: self.value(f"SELECT coalesce(sum({what}), 0) FROM pgbench_{table}")
                for table, what in (("accounts", "abalance"), ("branches", "bbalance"),
                                    ("tellers", "tbalance"), ("history", "delta"))}
        check_equal(len(set(sums.values())), 1, f"different sums among {sums}")
        check_equal(int(self.value("SELECT count(*) FROM pgbench_history")), transactions,
                    "transactions in the history")


def bench(load, cluster, counts):
    while not load.stop_wanted.is_set():
        done = cluster.client("pgbench", "-n", "-c", str(CLIENTS), "-j", "2", "-t",
                              str(TRANSACTIONS), "postgres")
        text = done.stdout + done.stderr
        processed = re.search(r"actually processed: (\d+)/(\d+)", text)
        failed = re.search(r"failed transactions: (\d+)", text)
        check(processed and failed, f"no figures in pgbench's output: {text}")
        check_equal((processed[1], failed[1]), (processed[2], "0"), "transactions done and failed")
        check("aborted" not in text, f"a client aborted: {text}")
        counts.append(int(processed[1]))
        load.moved()


def pgbench_under_kills(bin_folder, most):
    rng = replacing.new_rng()
    with cairn_mount.Mount(bin_folder) as mount:
        guest = os.path.join(mount.folder, "guest")
        run("truncate", "-s", "2G", mount.path("disk.img"))
        counts = []
        with cairn_mount.loop_device(mount.path("disk.img")) as device:
            run("mkfs.ext4", "-q", "-F", device)
            with cairn_mount.mounted(device, guest):
                cluster = Cluster(guest)
                cluster.create()
                with cluster.running():
                    cluster.client("pgbench", "-i", "-q", "-s", str(SCALE), "postgres")
                    # It may have cancelled an autovacuum, which is an error in the log.
                    begin = os.path.getsize(cluster.log)
                    with replacing.kills(mount, rng, most) as killer:
                        loads = {"pgbench": replacing.Load(bench, cluster, counts)}
                        replacing.run_until_killed_enough(killer, loads)
                    cluster.check_sums(sum(counts))
                with open(cluster.log, encoding="utf-8", errors="replace") as file:
                    file.seek(begin)
                    bad = [line for line in file if re.search(r"\b(ERROR|FATAL|PANIC)\b", line)
                           and not any(usual in line for usual in USUAL)]
                check(not bad, f"PostgreSQL's log: {bad[:4]}")
            run("fsck.ext4", "-f", "-n", device)
        print(f"  {sum(counts)} transactions")
        mount.remount()
        with cairn_mount.loop_device(mount.path("disk.img")) as device:
            with cairn_mount.mounted(device, guest), cluster.running():
                cluster.check_sums(sum(counts))
        mount.down()
        mount.fsck()


if __name__ == "__main__":
    KILLS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 30

    def replace_postgres(bin_folder):
        pgbench_under_kills(bin_folder, KILLS)

    cairn_mount.main(replace_postgres)
