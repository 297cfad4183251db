#!/usr/bin/env python3
"""Snapshots from outside: made in three ways, filtered, browsed, refused, listed, deleted."""
import json
import mmap
import os
import random
import struct
import subprocess
import time

import snapshot_tools as tools
from cairn_mount import Mount, loop_device, main, mounted
from checks import check, check_equal, check_error, error_of, file_hash, run


def made_by_command_ioctl_and_attribute(bin_folder):
    rng = random.Random(3)
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount)
        states = {}

        def by_command(name):
            mount.cairn("snapshot", "create", folder, "--name", name)

        def by_ioctl(name):
            _, created, members, _, existed = tools.create(folder, name)
            check_equal((members, existed), (2, 0), "members and existed")
            check(abs(created / 1e9 - time.time()) < 3600, f"created at {created}")

        def by_attribute(name):
            os.setxattr(folder, "user.cairn.snapshot", name.encode())

        for name, make in (("command", by_command), ("ioctl", by_ioctl),
                           ("attribute", by_attribute)):
            make(name)
            states[name] = tools.hashes(folder)
            tools.scribble(os.path.join(folder, "data.img"), rng)
        # Of one volume alone, at the path that it has.
        tools.create(os.path.join(folder, "boot.img"), "one")
        check_equal(os.listdir(mount.path(".snapshots", "one", "vm1")), ["boot.img"], "of a volume")
        for _ in range(2):
            check_equal(tools.names(mount), sorted([*states, "one"]), ".snapshots")
            for name, wanted in states.items():
                tools.check_hashes(mount.path(".snapshots", name, "vm1"), wanted, name)
            check(".snapshots" not in os.listdir(mount.mountpoint), "the root lists .snapshots")
            check_equal(os.listxattr(folder), [], "attributes after a trigger")
            mount.remount()
        mount.down()
        mount.fsck()


def several_paths_at_once(bin_folder):
    with Mount(bin_folder) as mount:
        first, second = tools.make_volumes(mount), tools.make_volumes(mount, "vm2", ("b.img",))
        made = tools.snapshot_json(mount, "create", first, os.path.join(second, "b.img"),
                                   os.path.join(first, "data.img"), "--name", "both")
        check_equal(made["member_count"], 3, "members; one was named twice")
        check_equal(sorted(os.listdir(mount.path(".snapshots", "both"))), ["vm1", "vm2"], "both")
        done = mount.cairn("snapshot", "create", first, "/tmp", "--name", "x", ok=False)
        check_equal(done.returncode, 1, "a path outside")


def filters_leave_volumes_out(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, volumes=("boot.img", "data.img", "swap.tmp"), size=8192)
        os.setxattr(os.path.join(folder, "boot.img"), "user.cairn.role", b"boot")

        def members(name):
            return sorted(os.listdir(mount.path(".snapshots", name, "vm1")))
        mount.cairn("snapshot", "create", folder, "--name", "a", "--exclude-role", "boot")
        check_equal(members("a"), ["data.img", "swap.tmp"], "--exclude-role boot")
        mount.cairn("snapshot", "create", folder, "--name", "b", "--exclude", "*.tmp",
                    "--exclude", "data*")
        check_equal(members("b"), ["boot.img"], "--exclude")
        os.setxattr(folder, "user.cairn.snapshot", b"c,exclude-role=boot,exclude=*.tmp")
        check_equal(members("c"), ["data.img"], "by attribute")
        tools.create(folder, "d", filters=["exclude-role=boot", "exclude=swap*"])
        check_equal(members("d"), ["data.img"], "by ioctl")


def refused_with_a_reason_and_nothing_made(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        os.mkdir(mount.path("empty"))
        tools.create(folder, "taken")

        def by_ioctl(wanted, what, path, name, **more):
            check_error(wanted, what, tools.create, path, name, **more)

        def by_attribute(wanted, what, path, value):
            check_error(wanted, what, os.setxattr, path, "user.cairn.snapshot", value)
            reason = os.getxattr(path, "user.cairn.error").decode()
            check(len(reason) > 5, f"{what}: user.cairn.error is {reason!r}")

        def by_command(what, *arguments):
            done = mount.cairn("snapshot", "create", *arguments, ok=False)
            check_equal(done.returncode, 1, what)
            check(len(done.stderr) > 10, f"{what}: {done.stderr!r}")

        by_ioctl("EEXIST", "a taken name", folder, "taken")
        check("taken" in os.getxattr(folder, "user.cairn.error").decode(), "no reason is kept")
        by_attribute("EEXIST", "a taken name", folder, b"taken")
        by_command("a taken name", folder, "--name", "taken")
        by_ioctl("EINVAL", "nothing is left", folder, "x", filters=["exclude=*"])
        by_attribute("EINVAL", "nothing is left", folder, b"x,exclude=*")
        by_command("nothing is left", folder, "--name", "x", "--exclude", "*")
        by_ioctl("EINVAL", "no volume", mount.path("empty"), "x")
        by_command("no such place", mount.path("absent"), "--name", "x")
        by_ioctl(("ENOENT", "EACCES"), "an unknown number", folder, "x", also=[999999])
        for name in ("", ".", "..", "a/b"):
            by_ioctl("EINVAL", f"the name {name!r}", folder, name)
        by_ioctl("EINVAL", "a filter of no kind", folder, "x", filters=["include=a"])
        by_ioctl("EINVAL", "a tag without a key", folder, "x", tags=["=v"])
        by_ioctl("EINVAL", "an endless hold", folder, "x", hold_ms=1 << 31)
        for value in (b"", b",", b"x,", b"x,nonsense=1"):
            by_attribute("EINVAL", f"{value!r}", folder, value)
        check_error("EINVAL", "another version", tools.with_fd, folder, tools.call, "create",
                    tools.create_fields("x"), version=2)
        check_error("EINVAL", "a flag", tools.with_fd, folder, tools.call, "create",
                    tools.create_fields("x"), flags=1)
        check_equal(tools.names(mount), ["taken"], "snapshots after the refusals")
        mount.down()
        mount.up(options="ro")
        by_ioctl("EROFS", "a read-only mount", folder, "x")


def a_token_gives_one_snapshot(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        first = tools.create(folder, "one", token="t-1")
        for name in ("one", "another"):
            again = tools.create(folder, name, token="t-1")
            check_equal((again[0], again[4]), (first[0], 1), f"the same token, named {name}")
        mount.remount()
        made = tools.snapshot_json(mount, "create", folder, "--name", "one", "--token", "t-1")
        check_equal((made["id"], made["existed"]), (first[0], True), "after a remount")
        check_error("EEXIST", "another token", tools.create, folder, "one", token="t-2")
        check_equal(tools.names(mount), ["one"], "snapshots")


def a_snapshot_takes_no_change(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        tools.create(folder, "s")
        inside = mount.path(".snapshots", "s", "vm1")
        member = os.path.join(inside, "data.img")
        before = tools.hashes(inside)
        calls = {
            "write": lambda: os.open(member, os.O_RDWR), "truncate": lambda: os.truncate(member, 0),
            "create": lambda: os.open(inside + "/n", os.O_CREAT | os.O_WRONLY),
            "mkdir": lambda: os.mkdir(inside + "/n"), "unlink": lambda: os.unlink(member),
            "rmdir": lambda: os.rmdir(inside), "rename": lambda: os.rename(member, member + "x"),
            "out": lambda: os.rename(member, folder + "/new"),
            "in": lambda: os.rename(folder + "/data.img", inside + "/new"),
            "chmod": lambda: os.chmod(member, 0o777), "utime": lambda: os.utime(member, (1, 1)),
            "setxattr": lambda: os.setxattr(member, "user.x", b"1"),
            "mkdir .snapshots/x": lambda: os.mkdir(mount.path(".snapshots", "x")),
            "rmdir .snapshots/s": lambda: os.rmdir(mount.path(".snapshots", "s")),
            "rename .snapshots/s": lambda: os.rename(mount.path(".snapshots", "s"),
                                                     mount.path(".snapshots", "t")),
        }
        for what, function in calls.items():
            check_error(("EROFS", "EPERM"), what, function)
        check_error("EROFS", "writing", lambda: os.open(member, os.O_WRONLY))
        fd = os.open(member, os.O_RDONLY)
        with open(folder + "/data.img", "rb") as live:
            check_error(("EBADF", "EROFS"), "copying in", os.copy_file_range, live.fileno(), fd,
                        4096)
        os.close(fd)
        check_equal(tools.hashes(inside), before, "content afterwards")
        check_equal(tools.names(mount), ["s"], "snapshots afterwards")


def a_guest_is_mounted_from_a_member(bin_folder):
    with Mount(bin_folder) as mount:
        volume = mount.path("disk.img")
        guest = os.path.join(mount.folder, "guest")
        run("truncate", "-s", "256M", volume)
        with loop_device(volume) as device:
            run("mkfs.ext4", "-q", "-F", device)
            with mounted(device, guest):
                with open(guest + "/file", "w", encoding="utf-8") as file:
                    file.write("old")
                    file.flush()
                    os.fsync(file.fileno())
                run("fsfreeze", "-f", guest)
                try:
                    mount.cairn("snapshot", "create", volume, "--name", "s")
                finally:
                    run("fsfreeze", "-u", guest)
                with open(guest + "/file", "w", encoding="utf-8") as file:
                    file.write("new")
        with loop_device(mount.path(".snapshots", "s", "disk.img")) as device:
            with mounted(device, guest, "-o", "ro"):
                with open(guest + "/file", encoding="utf-8") as file:
                    check_equal(file.read(), "old", "the file in the snapshot")
        run("losetup", "-a")


def deleting_in_any_order_gives_space_back(bin_folder):
    rng = random.Random(11)
    with Mount(bin_folder, options="seal=0") as mount:
        folder = tools.make_volumes(mount, size=4 << 20)
        os.sync()
        base = mount.held_by_store()
        states = {}
        for number in range(8):
            tools.scribble(os.path.join(folder, "data.img"), rng, 300)
            name = f"s{number}"
            tools.create(folder, name)
            states[name] = tools.hashes(folder)
        now = tools.hashes(folder)
        check(mount.held_by_store() > base + (2 << 20), "the snapshots hold nothing of their own")
        order = list(states)
        rng.shuffle(order)
        for name in order:
            mount.cairn("snapshot", "delete", tools.place(mount, name))
            del states[name]
            check_equal(tools.names(mount), sorted(states), f"after {name} was deleted")
            for other, wanted in states.items():
                tools.check_hashes(mount.path(".snapshots", other, "vm1"), wanted, other)
        tools.wait_for_space(mount, base + (1 << 20))
        check_equal(tools.hashes(folder), now, "the volumes afterwards")
        mount.down()
        mount.fsck()


def a_name_that_is_used_again_is_seen_at_once(bin_folder):
    rng = random.Random(5)
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=65536)
        member = mount.path(".snapshots", "s", "vm1", "data.img")
        for _ in range(5):
            check(not os.path.exists(member), "a snapshot before it was made")
            tools.create(folder, "s")
            check_equal(file_hash(member), file_hash(folder + "/data.img"), "the member")
            tools.scribble(folder + "/data.img", rng, 4)
            tools.delete(mount.path(".snapshots", "s"))
        tools.create(folder, "s")
        fd = os.open(member, os.O_RDONLY)
        check_error("EBUSY", "deleting while a member is open", tools.with_fd,
                    mount.path(".snapshots", "s"), tools.call, "delete")
        done = mount.cairn("snapshot", "delete", tools.place(mount, "s"), ok=False)
        check(done.returncode == 1 and "in use" in done.stderr, f"deleting it: {done.stderr!r}")
        # The server hears of a close() after it has returned.
        with subprocess.Popen([mount.cairn_program, "snapshot", "delete",
                               tools.place(mount, "s")]) as command:
            time.sleep(0.2)
            os.close(fd)
            check_equal(command.wait(60), 0, "deleting while the member is being closed")


def listed_and_shown(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=1 << 20)
        mount.cairn("snapshot", "create", folder, "--name", "one", "--tag", "a=1", "--tag", "b=x=y",
                    "--description", "before the upgrade")
        tools.scribble(folder + "/data.img", random.Random(1), 64)
        mount.cairn("snapshot", "create", folder, "--name", "two")
        listed = tools.snapshot_json(mount, "list", mount.mountpoint)["snapshots"]
        check_equal([each["name"] for each in listed], ["one", "two"], "list")
        shown = tools.snapshot_json(mount, "show", tools.place(mount, "one"))
        check_equal((shown["description"], shown["tags"]),
                    ("before the upgrade", {"a": "1", "b": "x=y"}), "what was given with it")
        check_equal([(each["path"], each["size"]) for each in shown["members"]],
                    [("vm1/boot.img", 1 << 20), ("vm1/data.img", 1 << 20)], "members")
        check(0 < shown["exclusive_bytes"] <= 1 << 20, f"exclusive: {shown}")
        check(shown["shared_bytes"] >= 1 << 20, f"shared: {shown}")
        check_equal(shown["id"], os.stat(mount.path(".snapshots", "one")).st_ino, "id")
        check("before the upgrade" in mount.cairn("snapshot", "list", folder).stdout, "list")
        check("vm1/data.img" in mount.cairn("snapshot", "show", tools.place(mount, "two")).stdout, "show")
        # A bare name will do inside the mount.
        check("vm1/data.img" in run(mount.cairn_program, "snapshot", "show", "two",
                                    cwd=folder).stdout, "show by a bare name")
        done = run(mount.cairn_program, "snapshot", "show", "three", ok=False, cwd=folder)
        check(done.returncode == 1 and "one, two" in done.stderr, f"show three: {done.stderr}")
        usage = json.loads(mount.cairn("du", "--json", folder).stdout)
        check(usage["total"]["shared_bytes"] > 0, f"du: {usage}")


def names_do_not_steer_the_terminal(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, volumes=("a\x1b[2J\n\x7f\u00e4",), size=8192)
        shown = "a\\x1b[2J\\x0a\\x7f\u00e4"
        tools.create(folder, "s")
        snapshot = tools.place(mount, "s")
        volume = os.path.join(folder, os.listdir(folder)[0])
        outputs = {
            "show": mount.cairn("snapshot", "show", snapshot).stdout,
            "du": mount.cairn("du", folder).stdout,
            "clone": mount.cairn("clone", volume, mount.path("copy")).stdout,
            "rollback": mount.cairn("snapshot", "rollback",
                                    volume.replace(folder, snapshot + "/vm1")).stdout,
            "a refusal": mount.cairn("snapshot", "create", volume, "--name", "s", ok=False).stderr,
            "what is absent": mount.cairn("du", volume + "\x1b", ok=False).stderr,
        }
        for what, output in outputs.items():
            check(shown in output, f"{what}: {output!r}")
            check(all(each >= " " or each == "\n" for each in output), f"{what}: {output!r}")
        members = tools.snapshot_json(mount, "show", snapshot)["members"]
        check_equal(members[0]["path"], "vm1/a\x1b[2J\n\x7f\u00e4", "in JSON")


def hooks_run_around_the_instant(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        log = os.path.join(mount.folder, "hooks")

        def create(name, pre, post, *more, code=0):
            if os.path.exists(log):
                os.unlink(log)
            done = mount.cairn("snapshot", "create", folder, "--name", name, "--pre", pre, "--post",
                               post, *more, ok=False)
            check_equal(done.returncode, code, f"{name}: {done.stderr}")
            with open(log, encoding="utf-8") as file:
                return file.read().split(), done
        note = f"echo $CAIRN_STAGE-$CAIRN_SNAPSHOT-$CAIRN_RESULT >> {log}"
        there = f"test -d {mount.path('.snapshots')}/$CAIRN_SNAPSHOT"
        lines, done = create("a", f"! {there} && {note}", f"{there} && {note}", "--json")
        check_equal(lines, ["pre-a-", "post-a-ok"], "the hooks")
        check_equal(json.loads(done.stdout)["pre"]["exit_code"], 0, "--json")
        lines, _ = create("b", f"{note}; exit 3", note, code=1)
        check_equal(lines, ["pre-b-", "post-b-failed"], "when --pre fails")
        lines, _ = create("a", note, note, code=1)
        check_equal(lines, ["pre-a-", "post-a-failed"], "when the name is taken")
        begin = time.monotonic()
        lines, done = create("c", f"{note}; sleep 600", note, "--hook-timeout", "5", code=1)
        check_equal(lines, ["pre-c-", "post-c-failed"], "when --pre hangs")
        check(time.monotonic() - begin < 300 and "--hook-timeout" in done.stderr, done.stderr)
        lines, _ = create("d", note, f"{note}; exit 4", code=1)
        check_equal(tools.names(mount), ["a", "d"], "a snapshot whose --post failed was made")
        # A token that was used before gives the snapshot of then, whatever name is asked for.
        tools.create(folder, "first", token="t")
        where = "test $CAIRN_SNAPSHOT_PATH = " + mount.path(".snapshots", "first")
        lines, _ = create("again", note, f"{where} && {note}", "--token", "t")
        check_equal(lines, ["pre-again-", "post-first-ok"], "with a token that was used before")


def pages_of_mmap_are_in_it(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=1 << 20)
        with open(folder + "/data.img", "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            for number in range(10):
                view[number * 8192:number * 8192 + 4] = struct.pack("I", number)
                view[4096 * number + 100] = number
                mount.cairn("snapshot", "create", folder, "--name", f"s{number}")
                member = mount.path(".snapshots", f"s{number}", "vm1", "data.img")
                with open(member, "rb") as copy:
                    check(copy.read() == view[:], f"snapshot {number} differs from the mapping")


def differences_are_listed(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=4 << 20)
        volume = folder + "/data.img"
        tools.create(folder, "a")
        with open(volume, "r+b", buffering=0) as file:
            file.seek(10 * 4096)
            file.write(os.urandom(2 * 4096))
            file.seek(1 << 20)
            file.write(os.urandom(100))
        tools.create(folder, "b")
        run("fallocate", "--punch-hole", "--offset", 2 << 20, "--length", 65536, volume)
        first = mount.path(".snapshots", "a", "vm1", "data.img")
        second = mount.path(".snapshots", "b", "vm1", "data.img")

        def extents(one, other):
            document = json.loads(mount.cairn("diff", one, other, "--json").stdout)
            check_equal(document["changed_bytes"],
                        sum(each["length"] for each in document["extents"]), "changed_bytes")
            return [(each["offset"], each["length"]) for each in document["extents"]]
        changed = [(10 * 4096, 8192), (1 << 20, 4096)]
        check_equal(extents(first, second), changed, "between the snapshots")
        check_equal(extents(second, volume), [(2 << 20, 65536)], "to the volume")
        check_equal(extents(first, volume), [*changed, (2 << 20, 65536)], "from the first")
        check_equal(extents(second, second), [], "of one with itself")
        # Many extents come in pages.
        count = 3000
        with open(volume, "r+b", buffering=0) as file:
            file.write(b"y" * (count * 8192))
            tools.create(folder, "c")
            for number in range(count):
                file.seek(number * 8192)
                file.write(b"x" * 4096)
        third = mount.path(".snapshots", "c", "vm1", "data.img")
        check_equal(extents(third, volume), [(number * 8192, 4096) for number in range(count)],
                    "in pages")
        os.truncate(volume, 5 << 20)
        check(f"sizes: {4 << 20} bytes, then {5 << 20}" in mount.cairn("diff", first, volume).stdout,
              "the sizes")
        other = tools.make_volumes(mount, "vm2", ("b.img",), 8192) + "/b.img"
        done = mount.cairn("diff", first, other, ok=False)
        check_equal(done.returncode, 1, "without a common history")


def pruned_by_rule(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        for number in range(5):
            tools.create(folder, f"auto-{number}", tags=["by=timer"])
        tools.create(folder, "mine")
        rule = ("prune", mount.mountpoint, "--match", "auto-*", "--keep-last", "2")
        planned = tools.snapshot_json(mount, *rule, "--dry-run")["snapshots"]
        check_equal([each["name"] for each in planned if not each["keep"]],
                    ["auto-2", "auto-1", "auto-0"], "the plan")
        check_equal(len(tools.names(mount)), 6, "after the dry run")
        mount.cairn("snapshot", *rule)
        check_equal(tools.names(mount), ["auto-3", "auto-4", "mine"], "afterwards")
        mount.cairn("snapshot", "prune", folder, "--tag", "by=timer", "--keep-daily", "1")
        check_equal(tools.names(mount), ["auto-4", "mine"], "one a day")


def unknown_ioctls(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        for number in (11, 99, 255):
            tools.COMMANDS["unknown"] = (number, 64)
            check_equal(error_of(tools.with_fd, folder, tools.call, "unknown"), "ENOTTY",
                        f"number {number}")
        # Another size is another command.
        tools.COMMANDS["unknown"] = (2, 64)
        check_equal(error_of(tools.with_fd, folder, tools.call, "unknown"), "ENOTTY", "a size")


if __name__ == "__main__":
    main(made_by_command_ioctl_and_attribute, several_paths_at_once, filters_leave_volumes_out,
         refused_with_a_reason_and_nothing_made, a_token_gives_one_snapshot,
         a_snapshot_takes_no_change, a_guest_is_mounted_from_a_member,
         deleting_in_any_order_gives_space_back, a_name_that_is_used_again_is_seen_at_once,
         listed_and_shown, names_do_not_steer_the_terminal, hooks_run_around_the_instant,
         pages_of_mmap_are_in_it, differences_are_listed, pruned_by_rule, unknown_ioctls)
