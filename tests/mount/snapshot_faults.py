#!/usr/bin/env python3
"""SIGKILL to every daemon around snapshots, clones, rollbacks and deletions: all or nothing.

argv: BIN [ROUNDS] (default 10).
"""
import os
import random
import sys
import threading
import time

import cairn_mount
import snapshot_tools as tools
from checks import check, check_equal, file_hash

FILES = ("a.img", "b.img", "c.img")
KINDS = {"fill", "create", "rollback", "clone", "delete"}
ENOUGH_SECONDS = 240


class Worker(threading.Thread):
    """Does one operation after the other and notes what returned; each volume's content is known.

    Volumes are only changed by whole fills that are fsynced, so that each content has a number.
    """

    def __init__(self, mount, state, rng):
        super().__init__(daemon=True)
        self.mount, self.state, self.rng = mount, state, rng
        self.doing = None
        self.killing = False
        self.failure = None
        self.done = set()

    def run(self):
        try:
            while True:
                self.step()
        except OSError as error:
            if not self.killing:  # else `doing` says in what
                self.failure = error

    def step(self):
        choice = self.rng.choice(("fill", "fill", "create", "create", "rollback", "clone", "delete"))
        state = self.state
        live = self.mount.path("vm")
        if choice == "fill":
            number = state.next_number()
            name = self.rng.choice(FILES)
            self.doing = ("fill", name, number)
            fill(os.path.join(live, name), number)
            state.live[name] = number
        elif choice == "create" and len(state.snapshots) < 12:
            name = f"s{state.next_number()}"
            self.doing = ("create", name, dict(state.live))
            tools.create(live, name)
            state.snapshots[name] = dict(state.live)
        elif choice == "rollback" and state.snapshots:
            name = self.rng.choice(sorted(state.snapshots))
            self.doing = ("rollback", name, dict(state.live))
            raw = tools.with_fd(self.mount.path(".snapshots", name), tools.call, "rollback")
            kept = raw[24:280].split(b"\0")[0].decode()
            state.snapshots[kept] = dict(state.live)
            state.live = dict(state.snapshots[name])
        elif choice == "clone" and state.snapshots:
            name = self.rng.choice(sorted(state.snapshots))
            target = f"c{state.next_number()}"
            self.doing = ("clone", target, dict(state.snapshots[name]))
            tools.clone(self.mount.path(".snapshots", name, "vm"), self.mount.path(target))
            state.clones[target] = dict(state.snapshots[name])
        elif choice == "delete" and state.snapshots:
            name = self.rng.choice(sorted(state.snapshots))
            self.doing = ("delete", name, state.snapshots[name])
            tools.delete(self.mount.path(".snapshots", name))
            del state.snapshots[name]
        if self.doing:
            self.done.add(choice)
        self.doing = None


class State:
    def __init__(self):
        self.number = 0
        self.live = {name: 0 for name in FILES}
        self.snapshots = {}
        self.clones = {}

    def next_number(self):
        self.number += 1
        return self.number


def content(number):
    return random.Random(number).randbytes(4096) * 48


def fill(path, number):
    with open(path, "r+b", buffering=0) as file:
        file.write(content(number))
        os.fsync(file.fileno())


def holds(path, number):
    with open(path, "rb") as file:
        return file.read() == content(number)


def check_group(folder, wanted, what):
    check_equal(sorted(os.listdir(folder)), sorted(wanted), f"{what}: members")
    for name, number in wanted.items():
        check(holds(os.path.join(folder, name), number), f"{what}: {name} does not hold {number}")


def group_holds(folder, wanted):
    return all(holds(os.path.join(folder, name), number) for name, number in wanted.items())


def settle(mount, state, doing, what):
    """Finds out whether the interrupted operation happened, which must be wholly or not at all."""
    snapshots = set(tools.names(mount)) if os.path.isdir(mount.path(".snapshots")) else set()
    known = set(state.snapshots)
    kind = doing[0] if doing else None
    if kind == "create":
        if doing[1] in snapshots:
            state.snapshots[doing[1]] = doing[2]
    elif kind == "delete":
        if doing[1] not in snapshots:
            del state.snapshots[doing[1]]
    elif kind == "clone":
        if os.path.isdir(mount.path(doing[1])):
            state.clones[doing[1]] = doing[2]
    elif kind == "rollback":
        new = sorted(snapshots - known)
        check(len(new) <= 1, f"{what}: {new} were kept by one rollback")
        if new:
            state.snapshots[new[0]] = doing[2]
            state.live = dict(state.snapshots[doing[1]])
    elif kind == "fill":
        # Not fsynced: any mix; made whole again.
        fill(mount.path("vm", doing[1]), doing[2])
        state.live[doing[1]] = doing[2]
    check_equal(snapshots, set(state.snapshots), f"{what}: snapshots after {doing}")


def verify(mount, state, what):
    check_group(mount.path("vm"), state.live, f"{what}: live")
    for name, wanted in state.snapshots.items():
        check_group(mount.path(".snapshots", name, "vm"), wanted, f"{what}: {name}")
    for name, wanted in state.clones.items():
        check_group(mount.path(name), wanted, f"{what}: {name}")
    there = sorted(set(os.listdir(mount.mountpoint)) - {"vm"})
    check_equal(there, sorted(state.clones), f"{what}: the root")


def all_or_nothing(bin_folder, rounds):
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {rounds} rounds")
    rng = random.Random(seed)
    state = State()
    interrupted = {}
    done = set()
    with cairn_mount.Mount(bin_folder) as mount:
        os.mkdir(mount.path("vm"))
        for name in FILES:
            with open(mount.path("vm", name), "wb"):
                pass
            fill(mount.path("vm", name), 0)
        number = 0
        end = time.monotonic() + ENOUGH_SECONDS
        # More rounds on a disk where little gets done in one.
        while number < rounds or (done != KINDS and time.monotonic() < end):
            worker = Worker(mount, state, random.Random(rng.random()))
            worker.start()
            time.sleep(rng.uniform(0.05, 0.6))
            worker.killing = True
            mount.kill()
            worker.join(60)
            what = f"round {number}"
            check(not worker.is_alive(), f"{what}: a call hangs after the kill")
            check(worker.failure is None, f"{what}: {worker.doing}: {worker.failure!r}")
            done |= worker.done
            mount.fsck()
            mount.up()
            if worker.doing:
                kind = worker.doing[0]
                interrupted[kind] = interrupted.get(kind, 0) + 1
            settle(mount, state, worker.doing, what)
            verify(mount, state, what)
            for name in sorted(state.clones)[4:]:
                for file in FILES:
                    os.unlink(mount.path(name, file))
                os.rmdir(mount.path(name))
                del state.clones[name]
            number += 1
        for name in sorted(state.snapshots):
            mount.cairn("snapshot", "delete", tools.place(mount, name))
        live = {name: file_hash(mount.path("vm", name)) for name in FILES}
        mount.remount()
        check_equal({name: file_hash(mount.path("vm", name)) for name in FILES}, live, "at last")
        mount.down()
        mount.fsck()
    check_equal(done, KINDS, "what was ever done")
    check(interrupted, "no request was ever interrupted")
    print(f"interrupted: {interrupted}")


if __name__ == "__main__":
    ROUNDS = int(sys.argv.pop(2)) if len(sys.argv) > 2 else 10

    def faults(bin_folder):
        all_or_nothing(bin_folder, ROUNDS)

    cairn_mount.main(faults)
