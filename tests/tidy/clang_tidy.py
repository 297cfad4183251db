"""Runs clang-tidy, as .clang-tidy says, over the modules' sources in the compile database."""

import concurrent.futures
import json
import os
import subprocess
import tempfile

import tidy

CLANG_TIDY = os.environ.get("CLANG_TIDY", "clang-tidy")
CHECKED = tuple(module + "/" for module in tidy.MODULES if module != "tests")
JOBS = 2


def complaints_of(root, arguments):
    done = subprocess.run([CLANG_TIDY, "--quiet", f"--config-file={root}/.clang-tidy", *arguments],
                          cwd=root, text=True, check=False,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode == 0:
        return []
    return done.stdout.splitlines() or done.stderr.splitlines() or [f"failed: {arguments[-1]}"]


def check(root, path, text):
    with tempfile.TemporaryDirectory() as folder:
        file_name = os.path.join(folder, os.path.basename(path))
        with open(file_name, "w", encoding="utf-8") as file:
            file.write(text)
        return complaints_of(root, [file_name, "--", "-std=c++20"])


BAD = (
    ("a.cc", "#include <string>\n#include <utility>\n"
             "std::string F(std::string a) { std::string b = std::move(a); return b + a; }\n"),
    ("a.cc", "#include <string>\nsize_t F(std::string a) { return a.size(); }\n"),
    ("a.cc", "struct A { virtual void F(); };\nstruct B : A { virtual void F(); };\n"),
)
GOOD = (
    ("a.cc", "int F(int a) { return a + 1; }\n"),
)


def run(root, build):
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        entries = json.load(file)
    files = sorted({os.path.relpath(entry["file"], root) for entry in entries})
    files = [path for path in files if path.startswith(CHECKED)]
    if not files:
        return [f"{build}: the compile database has no source of a module"]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        results = pool.map(lambda path: complaints_of(root, ["-p", build, path]), files)
        return [line for lines in results for line in lines]


if __name__ == "__main__":
    tidy.main("clang-tidy",
              lambda root: tidy.self_test(lambda path, text: check(root, path, text), BAD, GOOD),
              run)
