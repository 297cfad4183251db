"""What the checkers of this folder share: the files of the project, complaints, the command line.

A checker is a function check(path, text) -> complaints about one file, where `path` is relative to
the project's root. Every checker has samples, good and bad, on which --self-test tries it before
it looks at the project: a checker that no longer sees the bad ones is worth nothing.
"""

import argparse
import os
import sys

CXX_SUFFIXES = (".h", ".cc", ".c")
MODULES = ("src/base", "src/env", "src/warm", "src/volume", "snapshot", "tier", "crypto",
           "fusefs", "tools", "tests")


def project_files(root):
    """Relative paths of all files below `root` but build trees and the innards of tools."""
    found = []
    for folder, subfolders, names in os.walk(root):
        relative = os.path.relpath(folder, root)
        top = relative == "."
        subfolders[:] = sorted(
            name for name in subfolders
            if name != "__pycache__" and (not name.startswith(".") or name == ".ci")
            and not (top and name.startswith("build")))
        # A worktree's .git is a file that holds a path of the machine.
        found += [os.path.normpath(os.path.join(relative, name)) for name in sorted(names)
                  if name != ".git" and not name.endswith(".pyc")]
    return found


def cxx_files(root):
    return [path for path in project_files(root) if path.endswith(CXX_SUFFIXES)]


def read_text(root, path):
    """The file's text, or None for one that is not text."""
    with open(os.path.join(root, path), "rb") as file:
        data = file.read()
    if b"\0" in data:
        return None
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def module_of(path):
    """The module that `path` belongs to, or None."""
    for module in MODULES:
        if path.startswith(module + "/"):
            return module
    return None


def self_test(check, bad, good):
    """`bad` and `good` are (path, text) samples; returns what went wrong."""
    wrong = [f"self-test: not seen in {path}: {text!r}" for path, text in bad
             if not check(path, text)]
    for path, text in good:
        wrong += [f"self-test: wrong complaint: {line}" for line in check(path, text)]
    return wrong


def main(description, run_self_test, run):
    """run_self_test(root) and run(root) return complaints; `run` may get the rest of the line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--self-test", action="store_true",
                        help="try the checker on bad samples first")
    parser.add_argument("root", help="root of the project")
    parser.add_argument("extra", nargs="*", help="more arguments of the checker")
    arguments = parser.parse_args()
    root = os.path.abspath(arguments.root)
    complaints = run_self_test(root) if arguments.self_test else []
    if not complaints:
        complaints = run(root, *arguments.extra)
    for line in complaints:
        print(line)
    print(f"{description}: {len(complaints)} complaints")
    sys.exit(1 if complaints else 0)
