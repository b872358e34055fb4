#!/usr/bin/env python3
"""Checks that every header of ours compiles alone.

Usage: check_headers.py SOURCE_DIR BUILD_DIR COMPILER [JOBS]

A header is compiled again only when it, or a header it includes, is newer than its last success (stamps are kept in
BUILD_DIR/headers). One that needs a generated header which has not been built is passed over.
"""

import concurrent.futures
import os
import re
import subprocess
import sys

OURS = ("base", "platform", "gofer", "sentry", "runsc", "bench", "tests/unit")
FLAGS = ["-std=gnu++20", "-x", "c++", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-unused-parameter",
         "-Wno-missing-field-initializers", "-D_FILE_OFFSET_BITS=64", "-Werror"]


def headers(source):
    for top in OURS:
        for folder, subfolders, names in os.walk(os.path.join(source, top)):
            subfolders.sort()
            for name in sorted(names):
                if name.endswith(".h"):
                    yield os.path.relpath(os.path.join(folder, name), source)


def up_to_date(stamp):
    """The stamp is the dependency file that the compiler wrote when the header last compiled."""
    try:
        with open(stamp, encoding="utf-8") as file:
            text = file.read()
        made = os.stat(stamp).st_mtime
        dependencies = text.replace("\\\n", " ").split(":", 1)[1].split()
        return bool(dependencies) and all(os.stat(d).st_mtime < made for d in dependencies)
    except (OSError, IndexError):
        return False


def compile_alone(source, build, compiler, header):
    stamp = os.path.join(build, "headers", header + ".d")
    if up_to_date(stamp):
        return None
    os.makedirs(os.path.dirname(stamp), exist_ok=True)
    fresh = stamp + ".new"
    # Twice, so that a header without a guard fails too.
    text = f'#include "{header}"\n#include "{header}"\n'
    result = subprocess.run(
        [compiler, *FLAGS, "-I", source, "-I", build, "-MMD", "-MF", fresh, "-MT", "x", "-"],
        input=text, capture_output=True, text=True, check=False, cwd=source)
    if re.search(r"fatal error: '?[\w/.]+\.pb\.h'?:? .*(No such file|not found)", result.stderr):
        print(f"{header} needs a generated header that is not built: passed over")
        return None
    if result.returncode != 0:
        return f"{header} does not compile alone:\n{result.stderr}"
    os.replace(fresh, stamp)
    return None


def main():
    source, build, compiler = (sys.argv[1], sys.argv[2], sys.argv[3])
    jobs = int(sys.argv[4]) if len(sys.argv) > 4 else os.cpu_count()
    os.nice(10)
    names = list(headers(source))
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        failures = [f for f in pool.map(lambda h: compile_alone(source, build, compiler, h), names) if f]
    for failure in failures:
        print(failure)
    print(f"{len(names)} headers, {len(failures)} do not compile alone")
    return 1 if failures or not names else 0


if __name__ == "__main__":
    sys.exit(main())
