"""Checks that includes follow the arrows between the modules and the doors of third parties.

src/base <- src/env <- src/warm <- src/volume <- {snapshot, tier, crypto} <- fusefs <- tools.
A module includes itself and anything to its left; the three siblings never each other; tests
include everything.
"""

import os
import re

import tidy

RANKS = {"src/base": 0, "src/env": 1, "src/warm": 2, "src/volume": 3, "snapshot": 4, "tier": 4,
         "crypto": 4, "fusefs": 5, "tools": 6, "tests": 7}

# The only module, beside tests, that may include headers that match.
DOORS = (
    (r"leveldb/", "src/warm"),
    (r"(fuse3/)?fuse\w*\.h$|linux/fuse\.h$", "fusefs"),
    (r"openssl/", "crypto"),
    (r"spdlog/", "src/base"),
    (r"curl/", "tier"),
    (r"isa-l(/|\.h)", "src/base"),
)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


def check(path, text):
    own = tidy.module_of(path)
    if own is None:
        return [f"{path}: belongs to no module"]
    complaints = []
    for match in INCLUDE.finditer(text):
        bracket, header = match.groups()
        place = f"{path}:{text.count(chr(10), 0, match.start()) + 1}"
        other = tidy.module_of(os.path.normpath(header))
        if other is None and bracket == '"':
            complaints.append(f'{place}: "{header}" is no path from the project root')
        elif other is not None and other != own and RANKS[other] >= RANKS[own]:
            complaints.append(f"{place}: {own} must not include {other} ({header})")
        for pattern, door in DOORS:
            if other is None and re.match(pattern, header) and own not in (door, "tests"):
                complaints.append(f"{place}: only {door} may include {header}")
    return complaints


BAD = (
    ("src/base/a.h", '#include "src/env/env.h"\n'),
    ("src/env/a.h", '#include "src/warm/b.h"\n'),
    ("src/warm/a.h", "#include <src/volume/b.h>\n"),
    ("src/volume/a.cc", '\n  #  include "tier/b.h"\n'),
    ("snapshot/a.cc", '#include "tier/b.h"\n'),
    ("tier/a.cc", '#include "crypto/b.h"\n'),
    ("crypto/a.cc", '#include "snapshot/b.h"\n'),
    ("crypto/a.cc", '#include "fusefs/b.h"\n'),
    ("fusefs/a.cc", '#include "tools/b.h"\n'),
    ("tools/a.cc", '#include "tests/b.h"\n'),
    ("tools/a.cc", '#include "b.h"\n'),
    ("tools/a.cc", '#include "../fusefs/b.h"\n'),
    ("src/other/a.cc", ""),
    ("src/env/a.cc", "#include <leveldb/env.h>\n"),
    ("src/volume/a.cc", "#include <leveldb/db.h>\n"),
    ("tools/a.cc", "#include <fuse_lowlevel.h>\n"),
    ("tools/a.cc", "#include <fuse.h>\n"),
    ("src/volume/a.cc", "#include <fuse3/fuse_opt.h>\n"),
    ("src/volume/a.cc", "#include <linux/fuse.h>\n"),
    ("tier/a.cc", "#include <openssl/evp.h>\n"),
    ("fusefs/a.cc", "#include <spdlog/spdlog.h>\n"),
    ("crypto/a.cc", "#include <curl/curl.h>\n"),
    ("tier/a.cc", "#include <isa-l/crc.h>\n"),
    ("tier/a.cc", "#include <isa-l.h>\n"),
)
GOOD = (
    ("src/base/a.cc", '#include "src/base/a.h"\n#include <isa-l/crc.h>\n#include <spdlog/x.h>\n'),
    ("src/warm/a.cc", '#include "src/env/env.h"\n#include <leveldb/db.h>\n#include <vector>\n'),
    ("tier/a.cc", '#include "src/volume/b.h"\n#include <curl/curl.h>\n'),
    ("crypto/a.cc", "#include <openssl/evp.h>\n"),
    ("fusefs/a.cc", '#include "tier/b.h"\n#include <fuse_lowlevel.h>\n#include <linux/fuse.h>\n'),
    ("tools/a.cc", '#include "crypto/b.h"\n#include "fusefs/b.h"\n#include <linux/fs.h>\n'),
    ("tests/a.cc", '#include "tools/b.h"\n#include <leveldb/db.h>\n#include <fuse.h>\n'),
)


def run(root):
    complaints = []
    for path in tidy.cxx_files(root):
        complaints += check(path, tidy.read_text(root, path) or "")
    return complaints


if __name__ == "__main__":
    tidy.main("layers", lambda root: tidy.self_test(check, BAD, GOOD), run)
