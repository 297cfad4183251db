"""Checks that say what differed, and small tools around them, for the mount tests."""
import errno
import hashlib
import os
import subprocess
import time


class Failure(Exception):
    """A check did not hold; the text says what differed."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def check_equal(found, wanted, what):
    check(found == wanted, f"{what}: found {found!r}, wanted {wanted!r}")


def error_of(function, *arguments, **keywords):
    """The errno's name that a call fails with, or None when it succeeds."""
    try:
        function(*arguments, **keywords)
    except OSError as error:
        # Linux has one number for ENOTSUP and EOPNOTSUPP; Python knows it by either name.
        if error.errno == errno.EOPNOTSUPP:
            return "EOPNOTSUPP"
        return errno.errorcode.get(error.errno, str(error.errno))
    return None


def check_error(wanted, what, function, *arguments, **keywords):
    """The call fails with `wanted`: an errno name or a tuple of them."""
    found = error_of(function, *arguments, **keywords)
    names = (wanted,) if isinstance(wanted, str) else wanted
    check(found in names, f"{what}: failed with {found}, wanted {' or '.join(names)}")


def wait_until(condition, seconds, what):
    """Polls; a slow machine only takes longer, so `seconds` is generous and no measure."""
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"{what}: still not so after {seconds} s")
        time.sleep(0.02)


def run(*command, ok=True, timeout=120, **keywords):
    """Runs a program; output is text. With ok, a failure of it is a failure of the test."""
    done = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace", timeout=timeout, check=False, **keywords)
    if ok and done.returncode != 0:
        text = (done.stderr + done.stdout).strip()[-2000:]
        raise Failure(f"{' '.join(map(str, command))} exited {done.returncode}: {text}")
    return done


def file_hash(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def tree_hashes(root):
    """{relative path: hash} of every regular file below `root`."""
    found = {}
    for folder, _, files in os.walk(root):
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                found[os.path.relpath(path, root)] = file_hash(path)
    return found


def check_same_tree(found, wanted, what):
    """Compares two results of tree_hashes and names the first files that differ."""
    gone = sorted(set(wanted) - set(found))
    more = sorted(set(found) - set(wanted))
    other = sorted(name for name in wanted if name in found and found[name] != wanted[name])
    check(not (gone or more or other),
          f"{what}: missing {gone[:5]}, unexpected {more[:5]}, different {other[:5]} "
          f"({len(gone)}/{len(more)}/{len(other)} files)")
