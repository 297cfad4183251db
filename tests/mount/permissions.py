#!/usr/bin/env python3
"""A second user gets what mode bits give and nothing more; without allow_other nothing at all."""
import os
import sys

from cairn_mount import Mount, main
from checks import check, check_equal, run

OTHER = 65534
AS_OTHER = ("setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups")

# Runs as the other user: performs one call and prints the name of its errno, or "ok".
PROBE = r"""
import ctypes, errno, os, struct, sys
verb, path = sys.argv[1:3]
def status_ioctl(fd):
    # CAIRN_IOC_STATUS: its size and version lead the structure.
    size = int(sys.argv[3])
    buffer = ctypes.create_string_buffer(struct.pack("I", 1), size)
    request = (3 << 30) | (size << 16) | (0xC9 << 8) | 1
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ioctl(fd, ctypes.c_ulong(request), buffer) != 0:
        raise OSError(ctypes.get_errno(), "ioctl")
calls = {
    "read": lambda: os.read(os.open(path, os.O_RDONLY), 1),
    "write": lambda: os.write(os.open(path, os.O_WRONLY), b"x"),
    "truncate": lambda: os.truncate(path, 0),
    "open-truncate": lambda: os.open(path, os.O_WRONLY | os.O_TRUNC),
    "unlink": lambda: os.unlink(path),
    "rename": lambda: os.rename(path, path + ".moved"),
    "setxattr": lambda: os.setxattr(path, "user.x", b"x"),
    "policy": lambda: os.setxattr(path, "user.cairn.role", b"mine"),
    "trigger": lambda: os.setxattr(path, "user.cairn.snapshot", b"mine"),
    "removexattr": lambda: os.removexattr(path, "user.cairn.role"),
    "getxattr": lambda: os.getxattr(path, "user.cairn.role"),
    "status": lambda: os.getxattr(path, "user.cairn.status"),
    "error": lambda: os.getxattr(path, "user.cairn.error"),
    "ioctl": lambda: status_ioctl(os.open(path, os.O_RDONLY)),
    "chmod": lambda: os.chmod(path, 0o777),
    "chown": lambda: os.chown(path, os.getuid(), os.getgid()),
    "utime": lambda: os.utime(path, (1, 1)),
    "stat": lambda: os.stat(path),
    "list": lambda: os.listdir(path),
    "create": lambda: os.open(path, os.O_CREAT | os.O_WRONLY, 0o600),
    "mkdir": lambda: os.mkdir(path),
    "rmdir": lambda: os.rmdir(path),
}
try:
    calls[verb]()
    print("ok")
except OSError as error:
    same_number = error.errno == errno.EOPNOTSUPP  # as ENOTSUP
    print("EOPNOTSUPP" if same_number else errno.errorcode.get(error.errno, error.errno))
"""
# sizeof(struct cairn_ioc_status) of fusefs/cairn_ioctl.h.
STATUS_SIZE = 4 * 2 + 8 * 6 + 4 * 2 + 8 * 24 + 256


def as_other(verb, path):
    done = run(*AS_OTHER, sys.executable, "-c", PROBE, verb, path, STATUS_SIZE, cwd="/")
    return done.stdout.strip()


def expect(path, wanted):
    """`wanted`: {verb: allowed}. A refusal is EACCES or EPERM, as chmod and others differ."""
    for verb, allowed in wanted.items():
        found = as_other(verb, path)
        right = ("ok",) if allowed is True else ("EACCES", "EPERM") if allowed is False else allowed
        check(found in right, f"{verb} of {path} as another user: {found}, wanted {right}")


def nothing(*verbs):
    return dict.fromkeys(verbs, False)


def make_tree(mount):
    folder = mount.path("vm1")
    os.mkdir(folder)
    for name, mode in (("private", 0o600), ("readable", 0o644), ("open", 0o666)):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"secret" * 1000)
        os.chmod(os.path.join(folder, name), mode)
        os.setxattr(os.path.join(folder, name), "user.cairn.role", b"data")
    os.chmod(mount.mountpoint, 0o755)
    os.chmod(folder, 0o755)
    return folder


OWNER_ONLY = ("chmod", "chown", "utime", "unlink", "rename")
READING = ("read", "getxattr", "status", "ioctl")
WRITING = ("write", "truncate", "open-truncate", "setxattr", "policy", "trigger", "removexattr")


def a_second_user_has_the_rights_of_the_mode(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        if as_other("stat", mount.folder) != "ok":
            raise OSError(f"the other user cannot reach {mount.folder}")
        folder = make_tree(mount)
        expect(mount.path("vm1", "private"),
               nothing(*OWNER_ONLY, *READING, *WRITING) | {"stat": True})
        expect(mount.path("vm1", "readable"),
               nothing(*OWNER_ONLY, *WRITING) | dict.fromkeys(READING, True))
        expect(folder, {"list": True, "status": True, **nothing("rmdir", "chmod", "setxattr")})
        expect(mount.path("vm1", "new"), nothing("create", "mkdir"))
        expect(mount.path("vm1", "open"),
               {"write": True, "setxattr": True, "policy": True, "removexattr": True,
                "trigger": True, "read": True, "truncate": True,
                **nothing("chmod", "chown", "unlink")})
        for name, size in (("private", 6000), ("readable", 6000), ("open", 0)):
            path = mount.path("vm1", name)
            check_equal(os.stat(path).st_size, size, f"size of {name} afterwards")
        os.chmod(folder, 0o700)
        expect(mount.path("vm1", "open"), nothing("stat", "read", "write", "status", "getxattr"))


def a_directory_of_their_own(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        os.chmod(mount.mountpoint, 0o755)
        folder = mount.path("theirs")
        os.mkdir(folder)
        os.chown(folder, OTHER, OTHER)
        path = os.path.join(folder, "disk")
        expect(path, {"create": True, "write": True, "chmod": True, "status": True})
        found = os.stat(path)
        check_equal((found.st_uid, found.st_gid), (OTHER, OTHER), "owner of what they made")
        mount.remount()
        found = os.stat(path)
        check_equal((found.st_uid, found.st_gid, found.st_mode & 0o7777), (OTHER, OTHER, 0o777),
                    "owner and mode after a remount")
        expect(path, {"unlink": True})


def writing_takes_the_setuid_bit_away(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        os.chmod(mount.mountpoint, 0o755)
        path = mount.path("program")
        with open(path, "wb") as file:
            file.write(b"x" * 100)
        for verb in ("write", "truncate"):
            os.chmod(path, 0o6777)
            expect(path, {verb: True})
            check_equal(os.stat(path).st_mode & 0o6000, 0, f"set-id bits after a {verb}")


def without_allow_other_nobody_else_gets_in(bin_folder):
    with Mount(bin_folder) as mount:
        folder = make_tree(mount)
        expect(mount.mountpoint, nothing("list", "stat", "status"))
        for name in ("private", "readable", "open"):
            expect(os.path.join(folder, name), nothing("stat", *READING, "write", "policy"))


if __name__ == "__main__":
    main(a_second_user_has_the_rights_of_the_mode, a_directory_of_their_own,
         writing_takes_the_setuid_bit_away, without_allow_other_nobody_else_gets_in)
