#!/usr/bin/env python3
"""Who has no rights gets EACCES or EPERM for every verb, also through a descriptor for reading."""
import errno
import json
import os
import re
import struct
import subprocess
import sys

import snapshot_tools as tools
from cairn_mount import Mount, main
from checks import check, check_equal, check_error, run

OTHER = 65534
GROUP = 4242
# Runs as the other user on a descriptor that it was given: sends one ioctl, prints its errno.
PROBE = r"""
import ctypes, errno, sys
fd, command, argument = int(sys.argv[1]), int(sys.argv[2]), bytes.fromhex(sys.stdin.read())
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(argument, len(argument))
if libc.ioctl(fd, ctypes.c_ulong(command), buffer) == 0:
    print("ok")
else:
    print(errno.errorcode[ctypes.get_errno()])
"""
REFUSED = ("EACCES", "EPERM")


def as_other(*command, groups=()):
    rights = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ("setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", rights, *command)


def send(path, name, fields=b"", groups=(), flags=os.O_RDONLY):
    """The ioctl as the other user, through a descriptor that root opened for reading."""
    _, size = tools.COMMANDS[name]
    argument = (struct.pack("II", tools.VERSION, 0) + fields).ljust(size, b"\0")
    fd = os.open(path, flags)
    try:
        done = subprocess.run(as_other(sys.executable, "-c", PROBE, str(fd),
                                       str(tools.command_number(name)), groups=groups),
                              input=argument.hex(), capture_output=True, text=True, cwd="/",
                              timeout=60, check=False, pass_fds=(fd,))
    finally:
        os.close(fd)
    check(done.returncode == 0, f"the probe failed: {done.stderr}")
    return done.stdout.strip()


def refused(what, path, name, fields=b"", **more):
    found = send(path, name, fields, **more)
    check(found in REFUSED, f"{what}: {found}, wanted one of {REFUSED}")


def allowed(what, path, name, fields=b"", **more):
    check_equal(send(path, name, fields, **more), "ok", what)


def clone_to(folder, name):
    return tools.clone_fields(os.stat(folder).st_ino, name)


def diff_with(path):
    return struct.pack("QQ", os.stat(path).st_ino, 0)


def make_tree(mount):
    """vm1 is root's: a readable volume and a private one. theirs is the other user's."""
    os.chmod(mount.mountpoint, 0o755)
    folder = tools.make_volumes(mount, volumes=("private", "readable"), size=8192)
    os.chmod(folder, 0o755)
    os.chmod(folder + "/private", 0o600)
    os.chmod(folder + "/readable", 0o644)
    theirs = tools.make_volumes(mount, "theirs", ("disk",), 8192)
    for path in (theirs, theirs + "/disk"):
        os.chown(path, OTHER, OTHER)
    tools.create(folder, "s")
    return folder, theirs


def every_ioctl_through_a_descriptor_for_reading(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        folder, theirs = make_tree(mount)
        snapshot = mount.path(".snapshots", "s")
        before = tools.hashes(folder)
        for path in (folder, folder + "/readable", folder + "/private"):
            refused(f"create of {path}", path, "create", tools.create_fields("x"))
        # Nor through one for writing: rights are those of who asks, not of who opened.
        refused("create by a descriptor for writing", folder + "/private", "create",
                tools.create_fields("x"), flags=os.O_RDWR)
        refused("create of more by number", theirs, "create",
                tools.create_fields("x", also=[os.stat(folder).st_ino]))
        refused("delete", snapshot, "delete")
        refused("rollback", snapshot, "rollback")
        for name in ("readable", "private"):
            refused(f"rollback of {name}", f"{snapshot}/vm1/{name}", "rollback")
        refused("clone of a private volume", folder + "/private", "clone", clone_to(theirs, "x"))
        refused("clone of a private member", snapshot + "/vm1/private", "clone",
                clone_to(theirs, "x"))
        for path in (folder, snapshot, snapshot + "/vm1"):
            refused(f"clone of {path}", path, "clone", clone_to(theirs, "x"))
        refused("clone to a directory of root's", theirs + "/disk", "clone",
                clone_to(folder, "x"))
        refused("diff of a private one", snapshot + "/vm1/private", "diff",
                diff_with(folder + "/private"))
        refused("diff with a private one", snapshot + "/vm1/readable", "diff",
                diff_with(folder + "/private"))
        for path in (folder, folder + "/readable", folder + "/private"):
            check_error("ENODATA", "a trace of who has no rights", os.getxattr, path,
                        "user.cairn.error")
        check_equal(tools.names(mount), ["s"], "snapshots afterwards")
        check_equal(sorted(os.listdir(mount.mountpoint)), ["theirs", "vm1"], "the root")
        check_equal(os.listdir(theirs), ["disk"], "their directory")
        tools.check_hashes(folder, before, "the volumes")


def the_command_and_the_attributes(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        folder, theirs = make_tree(mount)
        snapshot = mount.path(".snapshots", "s")
        commands = (("snapshot", "create", folder, "--name", "x"),
                    ("snapshot", "create", theirs, folder, "--name", "x"),
                    ("snapshot", "delete", snapshot), ("snapshot", "rollback", snapshot),
                    ("clone", folder, theirs + "/x"), ("clone", snapshot, theirs + "/x"),
                    ("clone", theirs, folder + "/x"),
                    ("diff", snapshot + "/vm1/private", folder + "/private"))
        for command in commands:
            done = subprocess.run(as_other(mount.cairn_program, *command), capture_output=True,
                                  text=True, cwd="/", timeout=60, check=False)
            check(done.returncode == 1, f"{command}: {done}")
            check(re.search("not permitted|ermission denied|may not|may be deleted by|cannot", done.stderr),
                  f"{command}: {done.stderr}")
        for attribute in ("user.cairn.snapshot=x", "user.cairn.clone=to=/theirs/x"):
            name, _, value = attribute.partition("=")
            for path in (folder, folder + "/readable", folder + "/private"):
                done = subprocess.run(as_other("setfattr", "-n", name, "-v", value, path),
                                      capture_output=True, text=True, cwd="/", check=False)
                check(done.returncode != 0 and re.search("not permitted|ermission denied", done.stderr),
                      f"{attribute} on {path}: {done}")
        check_equal(tools.names(mount), ["s"], "snapshots afterwards")
        check_equal(os.listdir(theirs), ["disk"], "their directory")


def what_is_theirs(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        folder, theirs = make_tree(mount)
        allowed("create", theirs, "create", tools.create_fields("mine"))
        member = mount.path(".snapshots", "mine", "theirs", "disk")
        wanted = tools.hashes(theirs)
        with open(theirs + "/disk", "r+b") as file:
            file.write(b"changed")
        allowed("diff", member, "diff", diff_with(theirs + "/disk"))
        allowed("rollback", mount.path(".snapshots", "mine"), "rollback")
        tools.check_hashes(theirs, wanted, "after their rollback")
        allowed("clone", theirs + "/disk", "clone", clone_to(theirs, "copy"))
        allowed("clone of what they may read", folder + "/readable", "clone",
                clone_to(theirs, "readable"))
        check_equal(os.stat(theirs + "/readable").st_uid, OTHER, "owner of their clone")
        allowed("delete", mount.path(".snapshots", "mine"), "delete")
        refused("clone of their own to where they may not write", theirs + "/disk", "clone",
                clone_to(mount.mountpoint, "x"))


def pages_that_cannot_be_synced_are_warned_of(bin_folder):
    """Who may write a volume but not read it cannot fsync it."""
    with Mount(bin_folder, options="allow_other") as mount:
        make_tree(mount)
        theirs = tools.make_volumes(mount, "theirs", ("disk", "other"), 8192)
        for name in ("disk", "other"):
            os.chown(f"{theirs}/{name}", OTHER, OTHER)

        def warnings(*command, rights=as_other):
            done = run(*rights(mount.cairn_program, "snapshot", *command), cwd="/")
            return [line.split(": ")[1] for line in done.stderr.splitlines() if "mmap" in line]
        check_equal(warnings("create", theirs, "--name", "r"), [], "where there is nothing to say")
        # The second sync, after the pre hook, finds what the first did not.
        late = f"chmod 200 {theirs}/disk"
        check_equal(warnings("create", theirs, "--name", "t", "--pre", late), [theirs + "/disk"],
                    "a failure of the second sync")
        check_equal(warnings("create", theirs, "--name", "u", "--pre", "true"),
                    [theirs + "/disk"], "a failure of both")
        snapshot = mount.path(".snapshots", "r")
        check_equal(warnings("rollback", snapshot), [theirs + "/disk"], "a rollback")
        # Only what is overwritten matters.
        check_equal(warnings("rollback", snapshot + "/theirs/other"), [], "one of a readable one")
        check_equal(warnings("rollback", snapshot + "/theirs/disk"), [theirs + "/disk"], "of one")
        # Without another descriptor nobody learns which volumes those are.
        found = warnings("rollback", snapshot,
                         rights=lambda *command: ("prlimit", "--nofile=4:4", *command))
        check_equal(len(found), 1, "a rollback of what cannot be listed")


def a_total_is_of_what_was_counted(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        folder, _ = make_tree(mount)

        def usage(*more, rights=as_other):
            return run(*rights(mount.cairn_program, "du", folder, *more), cwd="/", ok=False)
        done = usage()
        check_equal(done.returncode, 1, "du of what cannot be counted")
        check("private: what it shares cannot be counted" in done.stderr, f"du: {done.stderr}")
        lines = {line.split()[-1].split("/")[-1]: line for line in done.stdout.splitlines()}
        check_equal(lines["total"].split().count("-"), 2, f"the total of {done.stdout}")
        check_equal(lines["private"].split().count("-"), 2, f"the private one of {done.stdout}")
        check("-" not in lines["readable"].split(), f"the readable one of {done.stdout}")
        check("shared_bytes" not in json.loads(usage("--json").stdout)["total"], "du --json")
        done = usage("--json", rights=lambda *command: command)
        check_equal(done.returncode, 0, "root's du")
        check(json.loads(done.stdout)["total"]["shared_bytes"] > 0, "root's total")


def groups_count(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        os.chmod(mount.mountpoint, 0o755)
        shared = tools.make_volumes(mount, "shared", ("disk",), 8192)
        for path, mode in ((shared, 0o770), (shared + "/disk", 0o660)):
            os.chown(path, 0, GROUP)
            os.chmod(path, mode)
        refused("create without the group", shared, "create", tools.create_fields("a"))
        refused("create with another group", shared, "create", tools.create_fields("a"),
                groups=(7,))
        allowed("create with the group", shared, "create", tools.create_fields("a"),
                groups=(7, GROUP))
        refused("rollback without it", mount.path(".snapshots", "a"), "rollback")
        allowed("rollback with it", mount.path(".snapshots", "a"), "rollback", groups=(GROUP,))


def directories_above_count_for_numbers(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        _, theirs = make_tree(mount)
        closed = tools.make_volumes(mount, "closed", ("open",), 8192)
        os.chmod(closed + "/open", 0o666)
        os.mkdir(closed + "/inner")
        os.chmod(closed + "/inner", 0o777)
        os.chmod(closed, 0o700)
        refused("create by number", theirs, "create",
                tools.create_fields("x", also=[os.stat(closed + "/open").st_ino]))
        refused("clone to a number", theirs + "/disk", "clone", clone_to(closed + "/inner", "x"))
        refused("diff by number", theirs + "/disk", "diff", diff_with(closed + "/open"))
        check_equal(os.listdir(closed + "/inner"), [], "the closed directory")


# Makes a name again and again, and says whom the file belonged to that it got.
MAKER = r"""
import errno, os, sys, time
path, end, owners = sys.argv[1], time.monotonic() + 3, set()
while time.monotonic() < end:
    try:
        fd = os.open(path, os.O_CREAT | os.O_RDWR)
        owners.add(os.fstat(fd).st_uid)
        os.close(fd)
    except OSError as error:  # ESTALE: a clone came twice
        if error.errno not in (errno.EACCES, errno.ESTALE):
            raise
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
print(*sorted(owners))
"""


def a_clone_that_comes_to_a_name_is_not_opened_by_who_makes_it(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        folder, theirs = make_tree(mount)
        with subprocess.Popen(as_other(sys.executable, "-c", MAKER, theirs + "/x"), cwd="/",
                              stdout=subprocess.PIPE, text=True) as maker:
            made = 0
            while maker.poll() is None:
                try:
                    tools.clone(folder + "/private", theirs + "/x")
                    made += 1
                except OSError as error:
                    check_equal(error.errno, errno.EEXIST, "cloning")
            check_equal(maker.stdout.read().strip(), str(OTHER), "owners of what was opened")
        check(made > 0, "no clone got the name")


def members_keep_their_modes(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        make_tree(mount)
        for name, wanted in (("private", 1), ("readable", 0)):
            done = subprocess.run(as_other("cat", mount.path(".snapshots", "s", "vm1", name)),
                                  capture_output=True, cwd="/", check=False)
            check_equal(done.returncode, wanted, f"reading {name} as another user")


def members_below_a_closed_directory_are_not_listed(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        make_tree(mount)
        closed = tools.make_volumes(mount, "closed", ("secret",), 8192)
        os.chmod(closed, 0o700)
        tools.create(mount.mountpoint, "all")
        for command, wanted in (((), {"closed/secret", "theirs/disk", "vm1/private",
                                      "vm1/readable"}),
                                (as_other(), {"theirs/disk", "vm1/private", "vm1/readable"})):
            done = run(*command, mount.cairn_program, "snapshot", "show", "--json",
                       mount.path(".snapshots", "all"))
            found = {member["path"] for member in json.loads(done.stdout)["members"]}
            check_equal(found, wanted, "the members")


if __name__ == "__main__":
    main(every_ioctl_through_a_descriptor_for_reading, the_command_and_the_attributes,
         what_is_theirs, pages_that_cannot_be_synced_are_warned_of,
         a_total_is_of_what_was_counted, groups_count,
         directories_above_count_for_numbers,
         a_clone_that_comes_to_a_name_is_not_opened_by_who_makes_it, members_keep_their_modes,
         members_below_a_closed_directory_are_not_listed)
