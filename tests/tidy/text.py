"""Checks the plain text of the project's files.

No marks of unfinished work, no paths of somebody's machine, no tabs in C++, a guard in every
header that is made from its path, no file longer than a reader's patience.
"""

import re

import tidy

LONGEST = 500  # lines
# Longer files, each with the reason why it is not split. One that is short again, or gone, fails.
LONG_FILES = {
    "tests/volume/model_test.cc": "one class: a machine, and all that can happen to it",
    "tests/warm/golden_store_test.cc": "each store of an earlier version, and all that it must hold",
}

# Headers that programs outside the project include, by another name than their path here.
PUBLIC_GUARDS = {"fusefs/cairn_ioctl.h": "CAIRN_IOCTL_H"}

CODE_SUFFIXES = tidy.CXX_SUFFIXES + (".py", ".sh", ".cmake", "CMakeLists.txt")

# Written in pieces, so that this file passes its own check.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" "DO", "FIX" "ME", "X" "XX")) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.~}*])/(home|work|Users|root)/[\w.]|\.\./shared\b")


def guard_of(path):
    if path in PUBLIC_GUARDS:
        return PUBLIC_GUARDS[path]
    return "CAIRN_" + re.sub(r"[^A-Z0-9]", "_", path.upper()) + "_"


def check_header(path, text):
    guard = guard_of(path)
    code = re.sub(r"^/\*.*?\*/\n", "", text, count=1, flags=re.DOTALL)
    lines = [line for line in code.splitlines() if line and not line.startswith("//")]
    closing = f"#endif /* {guard} */" if path in PUBLIC_GUARDS else f"#endif  // {guard}"
    expected = [f"#ifndef {guard}", f"#define {guard}", closing]
    if len(lines) < 3 or [lines[0], lines[1], lines[-1]] != expected:
        return [f"{path}: the guard must be {guard}, around everything but the first comment"]
    return []


def check(path, text):
    complaints = []
    for number, line in enumerate(text.splitlines(), 1):
        if UNFINISHED.search(line):
            complaints.append(f"{path}:{number}: mark of unfinished work")
        if MACHINE_PATH.search(line):
            complaints.append(f"{path}:{number}: path of somebody's machine")
        if "\t" in line and path.endswith(tidy.CXX_SUFFIXES):
            complaints.append(f"{path}:{number}: tab")
    if path.endswith(".h"):
        complaints += check_header(path, text)
    count = text.count("\n")
    if path.endswith(CODE_SUFFIXES) and (count > LONGEST) != (path in LONG_FILES):
        complaints.append(f"{path}: {count} lines; the limit is {LONGEST}, exceptions are in "
                          "LONG_FILES")
    return complaints


HEADER = "// A.\n#ifndef CAIRN_SRC_BASE_A_H_\n#define CAIRN_SRC_BASE_A_H_\n{}\n" \
         "#endif  // CAIRN_SRC_BASE_A_H_\n"
BAD = (
    ("src/base/a.cc", "// TO" "DO: later\n"),
    ("tests/a.sh", "# FIX" "ME\n"),
    ("README.md", "X" "XX\n"),
    ("tests/a.sh", "cd /ho" "me/somebody/cairn\n"),
    ("CMakeLists.txt", "include(/wo" "rk/main/x.cmake)\n"),
    ("src/base/a.cc", "// see ../sha" "red/x.md\n"),
    ("src/base/a.cc", "int a;\t\n"),
    ("src/base/b.h", HEADER.format("")),
    ("src/base/a.h", "int a;\n" + HEADER.format("")),
    ("src/base/a.h", HEADER.format("") + "int a;\n"),
    ("src/base/a.h", "#pragma once\n"),
    ("src/base/a.h", ""),
    ("fusefs/cairn_ioctl.h", HEADER.format("")),
    ("src/base/a.cc", "int a;\n" * (LONGEST + 1)),
    ("tests/CMakeLists.txt", "#\n" * (LONGEST + 1)),
)
GOOD = (
    ("src/base/a.h", HEADER.format("int a;")),
    ("fusefs/cairn_ioctl.h",
     "/*\n * A.\n */\n#ifndef CAIRN_IOCTL_H\n#define CAIRN_IOCTL_H\n#endif /* CAIRN_IOCTL_H */\n"),
    ("src/base/a.cc", 'const char* pattern = "/tmp/a-XX' 'XXXX";  // a network/work/place\n'),
    ("src/base/a.cc", "int a;\n" * LONGEST),
    ("README.md", "text\n" * (LONGEST + 1)),
)


def run(root):
    complaints = []
    files = tidy.project_files(root)
    for path in files:
        text = tidy.read_text(root, path)
        if text is not None:
            complaints += check(path, text)
    complaints += [f"{path}: listed in LONG_FILES, but there is no such file"
                   for path in LONG_FILES if path not in files]
    return complaints


if __name__ == "__main__":
    tidy.main("text", lambda root: tidy.self_test(check, BAD, GOOD), run)
