"""The `cairn` program from outside: exit codes, messages, JSON. Needs no mount.

Arguments: the program, then the program `make_store`, which lays out a store in the folder that it
is given.
"""
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import tempfile

PROGRAM, MAKE_STORE = sys.argv[1:3]
FAILURES = []


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=120,
                          check=False)


def expect(code, *arguments, out="", err=""):
    """Runs it; checks exit code, a piece of stdout and a piece of stderr."""
    done = run(*arguments)
    for good, what in ((done.returncode == code, f"exit code {done.returncode}, not {code}"),
                       (out in done.stdout, f"no '{out}' on stdout"),
                       (err in done.stderr, f"no '{err}' on stderr")):
        if not good:
            FAILURES.append(f"cairn {' '.join(arguments)}: {what}\n--- stdout\n{done.stdout}"
                            f"--- stderr\n{done.stderr}")
    return done


def check(condition, what):
    if not condition:
        FAILURES.append(what)


def usage():
    expect(0, "--help", out="Examples:")
    expect(0, "--version", out="cairn ")
    expect(2, err="subcommand")
    expect(2, "nonsense")
    expect(2, "--nonsense")
    for verb in ("status", "du", "fsck", "unmount", "clone", "diff"):
        expect(0, verb, "--help", out="--json")
        expect(2, verb, err="required")
        expect(2, verb, "--nonsense", "/tmp")
    expect(2, "snapshot", err="subcommand")
    for verb in ("create", "list", "show", "delete", "rollback", "prune"):
        expect(0, "snapshot", verb, "--help", out="--json")
        expect(2, "snapshot", verb, "--nonsense", "/tmp")
    for verb in ("show", "delete", "rollback"):
        expect(2, "snapshot", verb, err="required")
    expect(2, "snapshot", "create", "/tmp", err="--name")
    expect(2, "snapshot", "create", "--name", "x", err="PATH")
    expect(2, "snapshot", "create", "/tmp", "--name", "x", "--hold-ms", "0")
    expect(2, "snapshot", "create", "/tmp", "--name", "x", "--hook-timeout", "soon")
    expect(2, "snapshot", "prune", "--keep-daily", "-1")
    expect(2, "snapshot", "prune", "--dry-run", err="--keep-")
    for tag in ("timer", "=x", ""):
        expect(2, "snapshot", "prune", "--keep-last", "1", "--tag", tag, err="KEY=VALUE")
    # Two rules whose sum wraps are no rules too few.
    expect(1, "snapshot", "prune", "--keep-hourly", "2147483648", "--keep-daily", "2147483648",
           "/tmp", err="is not in a Cairn mount")
    expect(2, "clone", "/tmp", err="DST")
    expect(2, "diff", "/tmp", err="B")
    expect(2, "fsck", "one", "two")
    expect(2, "unmount", "--timeout", "-1", "/tmp")
    expect(2, "unmount", "--timeout", "soon", "/tmp")


def no_mounts(folder):
    for verb in ("status", "unmount"):
        done = expect(1, verb, folder, err="Cairn mount")
        check(done.stdout == "", f"{verb}: an error on stdout")
    for verb in (("snapshot", "create", folder, "--name", "x"), ("snapshot", "list", folder),
                 ("snapshot", "show", folder + "/.snapshots/x"),
                 ("snapshot", "delete", folder + "/.snapshots/x"),
                 ("snapshot", "rollback", folder + "/.snapshots/x"),
                 ("snapshot", "prune", folder, "--keep-daily", "1"),
                 ("clone", folder, folder + "/copy"), ("diff", folder, folder)):
        done = expect(1, *verb, err="is not in a Cairn mount")
        check(done.stdout == "", f"{verb}: an error on stdout")
    expect(1, "clone", os.path.join(folder, "absent"), folder + "/copy", err="No such file")
    hooks_without_a_mount(folder)
    expect(1, "status", os.path.join(folder, "absent"), err="No such file")
    expect(1, "unmount", os.path.join(folder, "absent"), err="is not a Cairn mount")


def hooks_without_a_mount(folder):
    """A request that cannot be carried out runs no hook: there is nothing to freeze for."""
    mark = os.path.join(folder, "mark")
    expect(1, "snapshot", "create", folder, "--name", "x", "--pre", f"touch {mark}",
           "--post", f"touch {mark}", err="is not in a Cairn mount")
    check(not os.path.exists(mark), "a hook ran for a request that could not be carried out")


def disk_usage(folder):
    with open(os.path.join(folder, "a b"), "wb") as file:
        file.truncate(1 << 20)
    os.mkdir(os.path.join(folder, "inner"))
    with open(os.path.join(folder, "inner", "b"), "wb") as file:
        file.write(b"x" * 8192)
    document = json.loads(expect(0, "du", "--json", folder).stdout)
    sizes = {os.path.relpath(one["path"], folder): one["size"] for one in document["volumes"]}
    check(sizes == {"a b": 1 << 20, "inner/b": 8192}, f"du: {sizes}")
    held = sum(one["held_bytes"] for one in document["volumes"])
    check(document["total"] == {"size": (1 << 20) + 8192, "held_bytes": held}, "du: total")
    expect(0, "du", folder, out="1.0 MiB")
    expect(0, "du", os.path.join(folder, "a b"), out="total")
    done = expect(1, "du", os.path.join(folder, "absent"), folder, err="No such file",
                  out="1.0 MiB")
    check("absent: " in done.stderr, "du: the missing path is not named")


def fsck(folder):
    store = os.path.join(folder, "store")
    expect(1, "fsck", store, err="there is no store")
    check(not os.path.exists(store), "fsck made a store")
    os.mkdir(os.path.join(folder, "other"))
    with open(os.path.join(folder, "other", "file"), "w", encoding="utf-8"):
        pass
    expect(1, "fsck", os.path.join(folder, "other"), err="not a Cairn store")

    subprocess.run([MAKE_STORE, store], check=True, timeout=60)
    document = json.loads(expect(0, "fsck", "--json", store).stdout)
    check(document["state"] == "clean" and document["findings"] == [], f"fsck: {document}")
    expect(0, "fsck", store, out=": clean: ")

    # A crash's leaks are no failure; repair removes them.
    leak = os.path.join(store, "extents", "63", "63-1-0")
    with open(leak, "wb") as file:
        file.write(b"x" * 8192)
    document = json.loads(expect(0, "fsck", "--json", store).stdout)
    check(document["state"] == "leaks" and document["leaked_bytes"] == 8192, f"fsck: {document}")
    check(document["findings"][0]["where"] == leak, "fsck: the leak's file is not named")
    expect(0, "fsck", store, out="--repair")
    expect(0, "fsck", "--repair", store, out="[repaired]")
    check(not os.path.exists(leak), "fsck --repair left the leak")
    expect(0, "fsck", store, out=": clean: ")

    with open(os.path.join(store, "lock"), "r+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write("mounted at /mnt/x by process 42")
        lock.flush()
        done = expect(1, "fsck", store, err="mounted at /mnt/x by process 42")
        check("cairn unmount" in done.stderr, f"no word of what to do: {done.stderr}")

    superblock = os.path.join(store, "superblock")
    with open(superblock, "r+b") as file:
        file.seek(100)
        file.write(b"\xff\xfe")
    for arguments in (["fsck", store], ["fsck", "--repair", store]):
        expect(1, *arguments, out=superblock, err="store")
    document = json.loads(expect(1, "fsck", "--json", store).stdout)
    check(document["state"] == "damaged" and not document["sound"], f"fsck: {document}")


def main():
    with contextlib.ExitStack() as stack:
        def scratch():
            return stack.enter_context(tempfile.TemporaryDirectory(prefix="cairn-test."))
        usage()
        no_mounts(scratch())
        disk_usage(scratch())
        fsck(scratch())
    for failure in FAILURES:
        print(failure, file=sys.stderr)
    return 1 if FAILURES else 0


if __name__ == "__main__":
    sys.exit(main())
