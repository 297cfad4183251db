#!/usr/bin/env python3
"""How a mount begins and ends: start, refusals, signals, unmount, read-only, mount(8)."""
import contextlib
import os
import signal
import subprocess

from cairn_mount import START_SECONDS, STOP_SECONDS, Mount, is_mounted, lazy_unmount, main, undo
from checks import check, check_equal, check_error, run, wait_until


def write_file(path, content, sync=False):
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def read_file(path):
    with open(path, "rb") as file:
        return file.read()


def check_refused(mount, arguments, codes, words, what):
    """cairnfs ends with one of `codes` and one short text that holds one of `words`."""
    code, text = mount.start_raw(*arguments)
    check(code in codes, f"{what}: exit code {code}, wanted one of {codes}: {text}")
    check(1 <= len(text.splitlines()) <= 3, f"{what}: the reason is not a short text: {text!r}")
    check(any(word.lower() in text.lower() for word in words),
          f"{what}: {text!r} has none of {words}")
    check(not is_mounted(mount.mountpoint), f"{what}: mounted all the same")
    wait_until(lambda: not mount.pids(), STOP_SECONDS, f"{what}: no process is left")


def background_start_answers_at_once(bin_folder):
    with Mount(bin_folder, mount=False) as mount:
        for _ in range(5):
            code, text = mount.start()
            check(code == 0 and text == "", f"start exited {code}: {text!r}")
            write_file(mount.path("disk"), b"at once")
            check_equal(read_file(mount.path("disk")), b"at once", "content")
            check(mount.pids(), "no process of the mount was found")
            mount.down()


def what_opening_says_is_in_the_log(bin_folder):
    """Not on the caller's terminal; a start that is refused says there why, and nowhere else."""
    words = "never became part of the index"
    with Mount(bin_folder) as mount:
        # Whoever unmounts while LevelDB writes a table leaves such a file.
        unfinished = os.path.join(mount.store, "index", "000999.ldb")
        for arguments, log in ((("-o", f"log={mount.log}"), mount.log),
                               ((), os.path.join(mount.store, "log"))):
            mount.down()
            write_file(unfinished, b"half a table")
            code, text = mount.start_raw(*arguments, mount.store, mount.mountpoint)
            check(code == 0 and text == "", f"start exited {code}: {text!r}")
            check(not os.path.exists(unfinished), "the unfinished table is still there")
            check(words in read_file(log).decode(), f"{log} does not tell of the table")


def a_log_is_made_in_a_store_that_is_ours_only(bin_folder):
    with Mount(bin_folder, mount=False) as mount:
        os.mkdir(mount.store)
        letter = os.path.join(mount.store, "letter")
        log = os.path.join(mount.store, "mine.log")
        options = ("-o", f"log={log}", mount.store, mount.mountpoint)
        for form in ((), ("-f",)):
            write_file(letter, b"mine")
            check_refused(mount, form + options, (1,), ("letter",), "a folder that is no store")
            check_equal(os.listdir(mount.store), ["letter"], "what is in it")
            os.unlink(letter)
        for _ in range(2):
            code, text = mount.start_raw(*options)
            check(code == 0 and text == "", f"start exited {code}: {text!r}")
            check(os.path.exists(log), "there is no log")
            second = os.path.join(mount.folder, "second")
            os.makedirs(second, exist_ok=True)
            with undo(lazy_unmount, second):
                code, text = mount.start_raw("-o", f"log={second}.log", mount.store, second)
                check(code == 1 and "mounted" in text, f"a second mount exited {code}: {text!r}")
            check(not os.path.exists(second + ".log"), "a mount that was refused made a log")
            mount.down()


def foreground(bin_folder):
    with Mount(bin_folder, mount=False) as mount:
        process = subprocess.Popen([mount.cairnfs, "-f", mount.store, mount.mountpoint],
                                   stdin=subprocess.DEVNULL)
        with undo(process.kill):
            wait_until(lambda: is_mounted(mount.mountpoint), START_SECONDS, "cairnfs -f mounts")
            write_file(mount.path("disk"), b"foreground")
            check(process.poll() is None, "cairnfs -f ended while it is mounted")
            run("umount", mount.mountpoint)
            check_equal(process.wait(STOP_SECONDS), 0, "exit code of cairnfs -f after umount")
        mount.up()
        check_equal(read_file(mount.path("disk")), b"foreground", "content")


def without_standard_descriptors(bin_folder):
    """What is opened later must not take their numbers, as which processes are given input."""
    with Mount(bin_folder, mount=False) as mount:
        process = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", mount.cairnfs, "-f",
                                    "-o", f"log={mount.log}", mount.store, mount.mountpoint])
        with undo(process.kill):
            wait_until(lambda: is_mounted(mount.mountpoint), START_SECONDS, "cairnfs -f mounts")
            write_file(mount.path("disk"), b"foreground")
            for pid in mount.pids():
                for fd in range(3):
                    check_equal(os.readlink(f"/proc/{pid}/fd/{fd}"), "/dev/null",
                                f"descriptor {fd} of process {pid}")
            run("umount", mount.mountpoint)
            check_equal(process.wait(STOP_SECONDS), 0, "exit code of cairnfs -f after umount")


def one_store_is_mounted_once(bin_folder):
    with Mount(bin_folder) as mount:
        write_file(mount.path("disk"), b"first")
        second = os.path.join(mount.folder, "second")
        os.mkdir(second)
        with undo(lazy_unmount, second):
            code, text = mount.start(mountpoint=second)
            check(code not in (0, 2) and code > 0, f"a second mount exited {code}: {text}")
            check(mount.mountpoint in text or any(str(pid) in text for pid in mount.pids()),
                  f"the refusal names no holder: {text!r}")
            check(not is_mounted(second), "the second mountpoint is mounted")
        code, text = mount.start()
        check(code > 0, f"a second mount at the same place exited {code}: {text}")
        check_equal(read_file(mount.path("disk")), b"first", "content after the refusals")
        done = mount.cairn("fsck", mount.store, ok=False)
        check(done.returncode == 1, f"fsck of a mounted store exited {done.returncode}")


def sigterm_unmounts_and_keeps_everything(bin_folder):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Mount(bin_folder) as mount:
            write_file(mount.path("disk"), b"x" * 3_000_000)
            os.kill(mount.parent_pid(), number)
            mount.wait_gone()
            check(not is_mounted(mount.mountpoint), f"still mounted after {number.name}")
            mount.fsck()
            mount.up()
            check_equal(read_file(mount.path("disk")), b"x" * 3_000_000, "content")


def remounts_in_a_row(bin_folder):
    """Without waiting for the old daemon's end, whose last writes the new one must not miss."""
    with Mount(bin_folder) as mount:
        for number in range(10):
            write_file(mount.path(f"disk{number}"), str(number).encode() * 100_000)
            run("umount", mount.mountpoint)
            mount.up()
            for each in range(number + 1):
                check_equal(read_file(mount.path(f"disk{each}")), str(each).encode() * 100_000,
                            f"disk{each} after remount {number}")
        with open(mount.path("disk0"), "rb"):
            done = run("umount", mount.mountpoint, ok=False)
            check(done.returncode != 0, "umount with an open file succeeded")
        check_equal(len(os.listdir(mount.mountpoint)), 10, "volumes after a refused umount")
        fusermount = run("fusermount3", "-u", mount.mountpoint, ok=False)
        check_equal(fusermount.returncode, 0, "fusermount3 -u")
        mount.wait_gone()


def cairn_unmount_waits(bin_folder):
    with Mount(bin_folder) as mount:
        write_file(mount.path("disk"), b"x" * 20_000_000)
        mount.cairn("unmount", mount.mountpoint)
        check(not mount.pids(), f"processes {mount.pids()} after cairn unmount returned")
        check(not is_mounted(mount.mountpoint), "still mounted after cairn unmount")
        done = mount.cairn("unmount", mount.mountpoint, ok=False)
        check_equal(done.returncode, 1, "exit code of cairn unmount of what is not mounted")
        check(done.stderr.strip() != "", "no reason on stderr")


def wrong_use_is_refused(bin_folder):
    with Mount(bin_folder, mount=False) as mount:
        store, mountpoint = mount.store, mount.mountpoint
        file = os.path.join(mount.folder, "file")
        write_file(file, b"x")
        filled = os.path.join(mount.folder, "filled")
        os.mkdir(filled)
        write_file(os.path.join(filled, "letter"), b"mine")
        usage = ("usage", "option", "argument", "missing")
        check_refused(mount, (), (1, 2), usage, "no arguments")
        check_refused(mount, (store,), (1, 2), usage, "one argument")
        check_refused(mount, (store, mountpoint, "more"), (1, 2), usage, "three arguments")
        check_refused(mount, ("-o", "nonsense", store, mountpoint), (1, 2), ("nonsense",),
                      "unknown option")
        check_refused(mount, ("--nonsense", store, mountpoint), (1, 2), ("nonsense", "usage"),
                      "unknown flag")
        check_refused(mount, (store, os.path.join(mount.folder, "absent")), (1,), ("absent",),
                      "missing mountpoint")
        check_refused(mount, (store, file), (1,), ("file",), "a file as mountpoint")
        check_refused(mount, (file, mountpoint), (1,), ("file",), "a file as store")
        check_refused(mount, (filled, mountpoint), (1,), ("filled",), "a folder with other files")
        check_equal(os.listdir(filled), ["letter"], "the folder with other files afterwards")
        check_refused(mount, (os.path.join(mount.folder, "no", "store"), mountpoint), (1,),
                      ("store",), "a store in a missing folder")
        done = mount.cairn("nonsense", ok=False)
        check_equal(done.returncode, 2, "exit code of an unknown verb of cairn")
        done = mount.cairn("status", mountpoint, ok=False)
        check_equal(done.returncode, 1, "exit code of cairn status of no mount")


def read_only_mount(bin_folder):
    with Mount(bin_folder) as mount:
        os.mkdir(mount.path("vm1"))
        write_file(mount.path("vm1", "disk"), b"content")
        mount.down()
        mount.up("ro")
        check_equal(read_file(mount.path("vm1", "disk")), b"content", "content")
        disk = mount.path("vm1", "disk")
        for what, call in {
                "open for writing": lambda: os.open(disk, os.O_RDWR),
                "create": lambda: os.open(mount.path("new"), os.O_CREAT | os.O_WRONLY),
                "unlink": lambda: os.unlink(disk),
                "mkdir": lambda: os.mkdir(mount.path("dir")),
                "rename": lambda: os.rename(disk, mount.path("moved")),
                "truncate": lambda: os.truncate(disk, 1),
                "chmod": lambda: os.chmod(disk, 0o600),
                "setxattr": lambda: os.setxattr(disk, "user.x", b"x")}.items():
            check_error("EROFS", f"{what} in a read-only mount", call)
        mount.down()
        mount.up()
        write_file(mount.path("new"), b"x")


@contextlib.contextmanager
def on_the_path(program, name):
    """mount.fuse3 finds the filesystem's program on root's PATH: link it there for the block."""
    link = os.path.join("/usr/local/bin", name)
    if os.path.lexists(link):
        if os.path.realpath(link) != os.path.realpath(program):
            yield False
            return
        yield True
        return
    os.symlink(program, link)
    with undo(os.unlink, link):
        yield True


def mount_program(bin_folder):
    with Mount(bin_folder, mount=False) as mount, on_the_path(mount.cairnfs, "cairnfs") as ours:
        if not ours:
            print("  another cairnfs is installed: not tried")
            return
        for options in ((), ("-o", "allow_other,noatime"), ("-o", "ro"), ("-o", "defaults,nofail")):
            run("mount", "-t", "fuse.cairnfs", *options, mount.store, mount.mountpoint)
            check(is_mounted(mount.mountpoint), f"mount -t fuse.cairnfs {options}: no mount")
            with open("/proc/self/mountinfo", encoding="utf-8") as table:
                line = next(line for line in table if line.split()[4] == mount.mountpoint)
            check(" fuse.cairnfs " in line, f"the type in mountinfo is not fuse.cairnfs: {line}")
            if "ro" not in options:
                write_file(mount.path("disk"), b"by mount")
            check_equal(read_file(mount.path("disk")), b"by mount", "content")
            mount.down()


def supervisor_killed(bin_folder):
    with Mount(bin_folder) as mount:
        write_file(mount.path("disk"), b"fsynced" * 1000, sync=True)
        os.kill(mount.parent_pid(), signal.SIGKILL)
        # The server must not stay behind without its supervisor.
        mount.wait_gone()
        check_error(("ENOTCONN", "ECONNABORTED"), "a read after the supervisor died", os.listdir,
                    mount.mountpoint)
        run("umount", mount.mountpoint)
        mount.fsck()
        mount.up()
        check_equal(read_file(mount.path("disk")), b"fsynced" * 1000, "content")


def log_option(bin_folder):
    with Mount(bin_folder) as mount:
        mount.down()
        check(mount.read_log().strip() != "", "log=FILE stayed empty over a mount and unmount")


if __name__ == "__main__":
    main(background_start_answers_at_once, what_opening_says_is_in_the_log,
         a_log_is_made_in_a_store_that_is_ours_only, foreground, without_standard_descriptors,
         one_store_is_mounted_once,
         sigterm_unmounts_and_keeps_everything, remounts_in_a_row, cairn_unmount_waits,
         wrong_use_is_refused, read_only_mount, mount_program, supervisor_killed, log_option)
