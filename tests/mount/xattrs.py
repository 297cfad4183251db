#!/usr/bin/env python3
"""Extended attributes: policies checked and inherited, user.* as given, state and triggers."""
import json
import os

from cairn_mount import Mount, main
from checks import check, check_equal, check_error, run

GOOD = {
    "role": ("boot", "data", "scratch-2"),
    "tiering": ("none", "pin", "manual", "age=30d", "idle=7d", "age=30d,idle=7d,warm-max=10G",
                "hits=3/7d", "snapshots", "idle=12h,hits=2/1d,snapshots"),
    "forwarding": ("direct", "replicated", "indirect"),
    "recall": ("promote", "read-through", "refuse", "async"),
    "cold": ("compression=zstd:3", "compression=zstd:3,pack=16M,rate=50M", "store=archive",
             "window=22:00-06:00", "retention=365d"),
}
BAD = {
    "role": ("", "two words", "semi;colon", "x" * 5000),
    "tiering": ("", "nonsense", "age=", "age=abc", "none,pin", "age=30d,,idle=7d", "hits=3",
                "age=-1d", "warm-max=10Q"),
    "forwarding": ("", "Direct", "direct,indirect"),
    "recall": ("", "later"),
    "cold": ("", "compression=lzma", "window=25:00-06:00", "pack=0", "unknown=1"),
}
HIDDEN = ("user.cairn.status", "user.cairn.error", "user.cairn.snapshot", "user.cairn.clone",
          "user.cairn.push", "user.cairn.pull")


def get(path, name):
    return os.getxattr(path, name).decode()


def make_tree(mount):
    """A directory with a volume; returns both paths."""
    folder, volume = mount.path("vm1"), mount.path("vm1", "disk")
    os.mkdir(folder)
    with open(volume, "wb") as file:
        file.truncate(1 << 20)
    return folder, volume


def policies_are_checked(bin_folder):
    with Mount(bin_folder) as mount:
        for path in make_tree(mount):
            for key, values in GOOD.items():
                name = f"user.cairn.{key}"
                for value in values:
                    os.setxattr(path, name, value.encode())
                    check_equal(get(path, name), value, f"{name} of {path}")
                for value in BAD[key]:
                    check_error("EINVAL", f"{name}={value[:40]!r}", os.setxattr, path, name,
                                value.encode())
                    check_equal(get(path, name), values[-1], f"{name} after a refused value")
                    reason = get(path, "user.cairn.error")
                    check(key in reason, f"user.cairn.error after {name}={value[:40]!r}: "
                          f"{reason!r} does not name it")
            check_error("EINVAL", "bytes that are not text", os.setxattr, path, "user.cairn.role",
                        b"\xff\xfe")
            check_error(("EINVAL", "EOPNOTSUPP", "EPERM"), "an unknown policy", os.setxattr, path,
                        "user.cairn.nonsense", b"x")
        check(mount.read_log().count("role") >= 1, "the log does not tell of a refused value")


def policies_are_inherited(bin_folder):
    name = "user.cairn.role"
    with Mount(bin_folder) as mount:
        folder, volume = make_tree(mount)
        check_error("ENODATA", "a policy that nothing sets", os.getxattr, volume, name)
        os.setxattr(mount.mountpoint, name, b"root")
        check_equal(get(volume, name), "root", "inherited from the root")
        os.setxattr(folder, name, b"folder")
        check_equal(get(volume, name), "folder", "inherited from the directory")
        os.setxattr(volume, name, b"own")
        check_equal(get(volume, name), "own", "of its own")
        os.removexattr(volume, name)
        check_equal(get(volume, name), "folder", "inherited again")
        os.mkdir(mount.path("vm2"))
        os.setxattr(mount.path("vm2"), name, b"other")
        os.rename(volume, mount.path("vm2", "disk"))
        check_equal(get(mount.path("vm2", "disk"), name), "other", "after a move")
        mount.remount()
        check_equal(get(mount.path("vm2", "disk"), name), "other", "after a remount")
        os.removexattr(mount.path("vm2"), name)
        check_equal(get(mount.path("vm2", "disk"), name), "root", "from the root again")
        check_error("ENODATA", "removing what is only inherited", os.removexattr,
                    mount.path("vm2", "disk"), name)


def user_attributes_are_stored_as_given(bin_folder):
    values = {"user.a": b"", "user.b": b"\0\1\xff binary", "user.long": b"v" * 4000,
              "user." + "n" * 200: b"long name", "user.cairnx": b"not ours", "user.\xfc": b"utf-8"}
    with Mount(bin_folder) as mount:
        for path in make_tree(mount):
            for name, value in values.items():
                os.setxattr(path, name, value)
            check_equal(set(os.listxattr(path)), set(values), "listxattr")
        mount.remount()
        for path in (mount.path("vm1"), mount.path("vm1", "disk")):
            found = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            check_equal(found, values, "attributes after a remount")
            os.removexattr(path, "user.b")
            check_error("ENODATA", "a removed attribute", os.getxattr, path, "user.b")
            check_error("ENODATA", "removing it twice", os.removexattr, path, "user.b")
        os.unlink(mount.path("vm1", "disk"))
        with open(mount.path("vm1", "disk"), "wb"):
            pass
        check_equal(os.listxattr(mount.path("vm1", "disk")), [], "attributes of a new file")


def create_and_replace(bin_folder):
    with Mount(bin_folder) as mount:
        _, volume = make_tree(mount)
        for name in ("user.thing", "user.cairn.role"):
            check_error("ENODATA", f"XATTR_REPLACE of an absent {name}", os.setxattr, volume, name,
                        b"one", os.XATTR_REPLACE)
            os.setxattr(volume, name, b"one", os.XATTR_CREATE)
            check_error("EEXIST", f"XATTR_CREATE of a present {name}", os.setxattr, volume, name,
                        b"two", os.XATTR_CREATE)
            check_equal(get(volume, name), "one", f"{name} after the refusals")
            os.setxattr(volume, name, b"two", os.XATTR_REPLACE)
            check_equal(get(volume, name), "two", f"{name} after XATTR_REPLACE")


def limits_and_other_namespaces(bin_folder):
    with Mount(bin_folder) as mount:
        _, volume = make_tree(mount)
        os.setxattr(volume, "user.largest", b"x" * 65536)
        check_equal(len(os.getxattr(volume, "user.largest")), 65536, "the largest value")
        check_error(("E2BIG", "ERANGE"), "a value that is too large", os.setxattr, volume,
                    "user.larger", b"x" * 65537)
        check_error("ERANGE", "a name that is too long", os.setxattr, volume, "user." + "n" * 251,
                    b"x")
        for name in ("trusted.x", "system.posix_acl_access"):
            check_error(("EOPNOTSUPP", "ENODATA", "EINVAL"), f"setting {name}", os.setxattr,
                        volume, name, b"x")
        check_error(("ENODATA", "EOPNOTSUPP"), "getting trusted.x", os.getxattr, volume,
                    "trusted.x")
        stored = 0
        for number in range(2000):  # Many are held, or refused in good order.
            try:
                os.setxattr(volume, f"user.many{number:04d}", b"y" * 100)
            except OSError as error:
                check(error.errno in (28, 7, 34), f"attribute {number}: {error}")
                break
            stored += 1
        check(stored >= 100, f"only {stored} attributes were taken")
        mount.remount()
        for number in range(stored):
            check_equal(os.getxattr(volume, f"user.many{number:04d}"), b"y" * 100,
                        f"attribute {number} of {stored} after a remount")


def state_is_hidden_and_read_only(bin_folder):
    with Mount(bin_folder) as mount:
        folder, volume = make_tree(mount)
        with open(volume, "r+b") as file:
            file.write(b"x" * 8192)
        try:
            os.setxattr(volume, "user.cairn.recall", b"nonsense")
        except OSError:
            pass
        for path in (mount.mountpoint, folder, volume):
            status = json.loads(get(path, "user.cairn.status"))
            missing = {"size", "warm_bytes", "cold_bytes", "shared_bytes"} - set(status)
            check(not missing, f"status of {path} lacks {missing}: {status}")
            check_equal(status["cold_bytes"], 0, f"cold_bytes of {path}")
            check(status["warm_bytes"] >= 8192, f"warm_bytes of {path}: {status}")
            for name in os.listxattr(path):
                check(name not in HIDDEN, f"{path} lists {name}")
            for name in HIDDEN[:2]:
                check_error(("EPERM", "EACCES", "EOPNOTSUPP", "EINVAL"), f"setting {name}",
                            os.setxattr, path, name, b"x")
            for name in HIDDEN[2:]:
                check_error(("ENODATA", "EOPNOTSUPP", "EPERM", "EACCES"), f"reading {name}",
                            os.getxattr, path, name)
        check_equal(json.loads(get(volume, "user.cairn.status"))["size"], 1 << 20, "size")


def triggers_of_the_cold_tier_are_not_supported_yet(bin_folder):
    with Mount(bin_folder) as mount:
        for path in make_tree(mount):
            for name, value in (("push", b""), ("pull", b"")):
                check_error("EOPNOTSUPP", f"user.cairn.{name}", os.setxattr, path,
                            f"user.cairn.{name}", value)
        check_equal(os.listxattr(mount.path("vm1")), [], "attributes after the triggers")


def tools_copy_policies(bin_folder):
    with Mount(bin_folder) as mount:
        folder, volume = make_tree(mount)
        os.setxattr(folder, "user.cairn.tiering", b"idle=7d")
        os.setxattr(volume, "user.cairn.role", b"boot")
        os.setxattr(volume, "user.note", b"text")
        run("cp", "-a", folder, mount.path("vm2"))
        copy = mount.path("vm2", "disk")
        check_equal(get(mount.path("vm2"), "user.cairn.tiering"), "idle=7d", "directory's policy")
        check_equal(get(copy, "user.cairn.role"), "boot", "volume's policy")
        check_equal(get(copy, "user.note"), "text", "other attribute")
        os.removexattr(mount.path("vm2"), "user.cairn.tiering")
        check_error("ENODATA", "an inherited policy became the copy's own", os.getxattr, copy,
                    "user.cairn.tiering")
        dump = run("getfattr", "--absolute-names", "-d", volume).stdout
        check('user.cairn.role="boot"' in dump and 'user.note="text"' in dump,
              f"getfattr -d shows {dump!r}")
        check(not any(name in dump for name in HIDDEN), f"getfattr -d shows state: {dump!r}")
        with open(os.path.join(mount.folder, "dump"), "w", encoding="utf-8") as file:
            file.write(dump.replace(volume, mount.path("vm2", "disk")))
        os.removexattr(copy, "user.note")
        run("setfattr", f"--restore={mount.folder}/dump")
        check_equal(get(copy, "user.note"), "text", "after setfattr --restore")


if __name__ == "__main__":
    main(policies_are_checked, policies_are_inherited, user_attributes_are_stored_as_given,
         create_and_replace, limits_and_other_namespaces, state_is_hidden_and_read_only,
         triggers_of_the_cold_tier_are_not_supported_yet, tools_copy_policies)
