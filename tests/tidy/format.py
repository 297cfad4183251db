"""Checks that every C and C++ file is as clang-format writes it."""

import os
import subprocess

import tidy

CLANG_FORMAT = os.environ.get("CLANG_FORMAT", "clang-format")
FILES_A_CALL = 50


def complaints_of(root, arguments, text=None):
    done = subprocess.run([CLANG_FORMAT, "--style=file", "--dry-run", "-Werror", *arguments],
                          cwd=root, input=text, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode == 0:
        return []
    return done.stdout.splitlines() or [f"{CLANG_FORMAT} failed: {done.returncode}"]


def check(root, path, text):
    return complaints_of(root, [f"--assume-filename={path}"], text)


BAD = (
    ("src/base/a.cc", "int  a ;\n"),
    ("src/base/a.h", "void f(int *a);\n"),
    ("tests/a.c", "int f(void) {\n\treturn 0;\n}\n"),
    ("src/base/a.cc", "int a = 0;  //" + " too" * 30 + " long\n"),
)
GOOD = (
    ("src/base/a.cc", "void f(int* a) { *a = 0; }\n"),
)


def run(root):
    files = tidy.cxx_files(root)
    complaints = []
    for first in range(0, len(files), FILES_A_CALL):
        complaints += complaints_of(root, files[first:first + FILES_A_CALL])
    return complaints


if __name__ == "__main__":
    tidy.main("format",
              lambda root: tidy.self_test(lambda path, text: check(root, path, text), BAD, GOOD),
              run)
