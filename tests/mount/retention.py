#!/usr/bin/env python3
"""`cairn snapshot prune` looks at the snapshots that it was told to, and at no others."""
import os
import subprocess

import snapshot_tools as tools
from cairn_mount import Mount, main
from checks import check, check_equal, run

OTHER = 65534


def prune(mount, *arguments):
    """The names that are to be deleted, oldest last; deletes nothing."""
    document = tools.snapshot_json(mount, "prune", *arguments, "--dry-run")
    return [each["name"] for each in document["snapshots"] if not each["keep"]]


def a_strangers_snapshot_takes_nobodys_place(bin_folder):
    with Mount(bin_folder, options="allow_other") as mount:
        os.chmod(mount.mountpoint, 0o755)
        folder = tools.make_volumes(mount, volumes=("disk",), size=8192)
        os.chmod(folder, 0o777)
        os.chmod(folder + "/disk", 0o666)

        def as_other(*arguments):
            return run("setpriv", f"--reuid={OTHER}", f"--regid={OTHER}", "--clear-groups",
                       mount.cairn_program, "snapshot", *arguments, cwd="/").stdout
        for number in range(2):
            tools.create(folder, f"root-{number}", tags=["timer=x"])
            as_other("create", folder, "--name", f"other-{number}", "--tag", "timer=x")
        rule = (folder, "--tag", "timer=x", "--keep-last", "1", "--keep-daily", "1")
        check_equal(prune(mount, *rule), ["root-0"], "root's, where a stranger's is newer")
        check_equal(prune(mount, *rule, "--all-owners"), ["root-0", "other-0"], "each owner's")
        text = as_other("prune", *rule)
        check("deleted  other-0" in text and "root" not in text, f"what a stranger prunes: {text}")
        check_equal(tools.names(mount), ["other-1", "root-0", "root-1"], "after the stranger's")
        mount.cairn("snapshot", "prune", *rule)
        check_equal(tools.names(mount), ["other-1", "root-1"], "after root's")
        tools.create(folder, "root-2", tags=["timer=x"])
        text = mount.cairn("snapshot", "prune", *rule, "--all-owners").stdout
        check(f"owner {OTHER}" in text, f"the owners are not named: {text}")
        check_equal(tools.names(mount), ["other-1", "root-2"], "after that of all owners")


def a_path_selects_what_lies_below_it(bin_folder):
    with Mount(bin_folder) as mount:
        first, second = tools.make_volumes(mount, size=8192), tools.make_volumes(mount, "vm2",
                                                                                 size=8192)
        longer = tools.make_volumes(mount, "vm10", size=8192)
        tools.create(first, "first")
        tools.create(first + "/data.img", "volume")
        for path, name in ((second, "second"), (longer, "longer"), (mount.mountpoint, "all")):
            tools.create(path, name)
        last = ("--keep-last", "1")
        check_equal(prune(mount, first, *last), ["first"], "of a machine")
        check_equal(prune(mount, second, *last), [], "of a machine with one snapshot")
        check_equal(prune(mount, first + "/data.img", *last), [], "of a volume")
        check_equal(prune(mount, mount.mountpoint + "/", *last),
                    ["longer", "second", "volume", "first"], "of the mount")
        done = mount.cairn("snapshot", "prune", mount.path("vm3"), *last)
        check("no snapshot of yours of " in done.stdout, f"where nothing fits: {done.stdout!r}")
        # A volume stands where the path has a directory.
        check_equal(prune(mount, first + "/data.img/x", *last), [], "below a volume")
        done = mount.cairn("snapshot", "prune", tools.place(mount, "all"), *last, ok=False)
        check_equal(done.returncode, 1, "a snapshot's own path")
        mount.cairn("snapshot", "prune", first, *last)
        check_equal(tools.names(mount), ["all", "longer", "second", "volume"], "afterwards")
        # What is gone from the tree can still be named.
        os.unlink(first + "/data.img")
        os.unlink(first + "/boot.img")
        os.rmdir(first)
        check_equal(prune(mount, first, "--keep-last", "1"), [], "of a machine that is gone")


def what_a_rollback_kept_is_apart(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, size=8192)
        tools.create(folder, "old")
        tools.create(folder, "new")
        kept = [tools.snapshot_json(mount, "rollback", tools.place(mount, name))["kept_name"]
                for name in ("old", "new")]
        mount.cairn("snapshot", "prune", folder, "--keep-last", "1")
        check_equal(tools.names(mount), sorted(["new", *kept]), "those of the rollbacks stay")
        mount.cairn("snapshot", "prune", folder, "--keep-last", "1", "--rollbacks")
        check_equal(tools.names(mount), sorted(["new", kept[1]]), "--rollbacks")


def prunes_beside_each_other_do_not_fail(bin_folder):
    with Mount(bin_folder) as mount:
        folder = tools.make_volumes(mount, volumes=("disk",), size=8192)
        command = (mount.cairn_program, "snapshot", "prune", folder, "--keep-last", "1")
        met = False
        # On a busy machine one may be done before another begins.
        for turn in range(10):
            for number in range(60):
                tools.create(folder, f"s{turn}-{number}")
            others = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True) for _ in range(4)]
            done = [(other.communicate(timeout=120), other.returncode) for other in others]
            for (_, errors), code in done:
                check(code == 0 and not errors, f"a prune beside others: {code}, {errors}")
            met = any("gone already" in out for (out, _), _ in done)
            if met:
                break
        check(met, "they never met")
        check_equal(tools.names(mount), [f"s{turn}-59"], "afterwards")


if __name__ == "__main__":
    main(a_strangers_snapshot_takes_nobodys_place, a_path_selects_what_lies_below_it,
         what_a_rollback_kept_is_apart, prunes_beside_each_other_do_not_fail)
