#!/usr/bin/env python3
"""Checks that the arrows between folders point the way docs/architecture.md says.

Usage: check_arrows.py [SOURCE_DIR]

Three checks over every .h, .cc and .S file of the repository:
  1. each `#include "…"` of ours leads to a folder that ARROWS allows;
  2. it leads to a folder whose CMake target is among the DEPS of the including target, directly or through others;
  3. no file uses a word that WORDS keeps to other folders.
Prints one line for each violation; exits with 1 if there was any.
"""

import os
import re
import sys

# Folder → the folders that its files may include, besides itself. The longest prefix that matches counts. "x/" at the end of
# an allowed folder means "and everything below it"; without it only the folder itself.
ARROWS = {
    "base": [],
    "platform": ["base"],
    # A platform knows the interface and itself, never another platform.
    "platform/fake": ["base", "platform"],
    "platform/ptrace": ["base", "platform"],
    "platform/systrap": ["base", "platform", "platform/systrap/"],
    "platform/systrap/patch": ["base"],
    "platform/kvm": ["base", "platform"],
    "platform/tests": ["base", "platform", "platform/"],
    "gofer/protocol": ["base"],
    "gofer/client": ["base", "gofer/protocol"],
    "gofer/server": ["base", "gofer/protocol"],
    "runsc": ["base", "runsc/", "gofer/server", "gofer/protocol", "sentry/boot", "sentry/boot/isolation", "sentry/control"],
    # Start-up of our own processes, before there are threads. It knows of the gofer and the platforms only which calls they make.
    "sentry/boot/isolation": ["base", "gofer/server", "platform/kvm", "platform/ptrace", "platform/systrap"],
    "tests": ["*"],
    "bench": ["*"],
}

# The sentry's folders, lowest first; those of one row do not know each other. Nothing above platform/ knows which platform
# runs, and nothing but boot names concrete file systems, socket families and platforms.
SENTRY_ROWS = [
    ["abi", "arch"],
    ["time"],
    ["mm"],
    ["vfs"],
    ["kernel"],
    ["loader", "fs", "socket"],
    ["syscalls"],
    ["control", "boot"],
]
SENTRY_EVERYWHERE = ["base", "platform"]
SENTRY_EXTRA = {
    "arch": ["sentry/abi/"],
    "fs": ["gofer/protocol", "gofer/client"],
    "boot": ["gofer/protocol", "gofer/client", "platform/", "sentry/control/"],
}

# Interfaces that are a target of their own, below the folder they lie in: header → the folders that may include it as well.
INTERFACES = {
    "sentry/mm/user_memory.h": ["sentry/arch"],
}

# (pattern, folders that may use it, why)
WORDS = [
    (r"\bPTRACE_[A-Z]\w*", ["platform/ptrace", "tests", "bench"], "ptrace(2) stays inside of platform/ptrace"),
    (r"\bthread_local\b", ["base", "gofer/server", "runsc", "tests", "bench"],
     "a fiber changes its host thread: thread-locals live in base, behind functions that are not inlined"),
    (r"^\s*#\s*include\s*<boost/", ["base"], "fibers are base's business"),
    (r"\bstd::(shared_ptr|weak_ptr|make_shared)\b",
     ["base", "gofer/server", "runsc", "sentry/control", "sentry/boot", "tests", "bench"],
     "kernel objects are shared through base::RefPtr"),
    (r"\bstd::(mutex|shared_mutex|recursive_mutex|condition_variable)\b", ["platform/fake", "gofer/server", "runsc", "tests", "bench"],
     "base::Mutex is annotated and counted; what waits parks (base/fiber_lock.h)"),
    (r"(?<![\w.>:])errno\b(?!\.h)", ["gofer/server", "runsc", "sentry/boot/isolation", "tests", "bench"],
     "errno is a thread-local: base::Host returns it (base/syscall_unsafe.h)"),
]

SUFFIXES = (".h", ".cc", ".S")
OURS = ("base", "platform", "gofer", "sentry", "runsc", "tests", "bench")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def sentry_arrows():
    arrows = {}
    below = []
    for row in SENTRY_ROWS:
        for folder in row:
            allowed = SENTRY_EVERYWHERE + [f"sentry/{b}/" for b in below] + SENTRY_EXTRA.get(folder, [])
            arrows[f"sentry/{folder}"] = allowed + [f"sentry/{folder}/"]
        below += row
    return arrows


ALL_ARROWS = {**ARROWS, **sentry_arrows()}


def rule_for(folder):
    while folder and folder not in ALL_ARROWS:
        folder = os.path.dirname(folder)
    return folder


def allowed(source, target):
    """True if a file in folder `source` may include one in folder `target`."""
    if source == target:
        return True
    rule = rule_for(source)
    if not rule:
        return False
    for entry in ALL_ARROWS[rule]:
        if entry == "*" or entry == target:
            return True
        if entry.endswith("/") and (target + "/").startswith(entry):
            return True
    return False


def source_files(root):
    for top in OURS:
        for folder, subfolders, names in os.walk(os.path.join(root, top)):
            subfolders.sort()
            relative = os.path.relpath(folder, root)
            for name in sorted(names):
                if name.endswith(SUFFIXES):
                    yield relative, name


def without_comments_and_strings(text):
    """Keeps line breaks, so that line numbers stay true."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda m: re.sub(r"[^\n]", " ", m[0]) if m[0][0] == "/" else '""', text)


class Targets:
    """What the CMakeLists.txt say: which file and folder belongs to which targets, and what these depend on."""

    CALL = re.compile(r"\b(runsc_library|runsc_test|add_executable|add_library|target_link_libraries)"
                      r"\(\s*([\w.-]+)([^)]*)\)")
    SECTIONS = {"SRCS": "SRCS", "DEPS": "DEPS", "PUBLIC": "DEPS", "PRIVATE": "DEPS", "INTERFACE": "DEPS"}

    def __init__(self, root):
        self.deps = {}
        self.of_file = {}
        self.of_folder = {}
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = sorted(s for s in subfolders if not s.startswith((".", "build")))
            if "CMakeLists.txt" in names:
                self.read(os.path.join(folder, "CMakeLists.txt"), os.path.relpath(folder, root))

    def read(self, path, folder):
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"#[^\n]*", "", file.read())
        for command, name, arguments in self.CALL.findall(text):
            section, lists = "SRCS", {"SRCS": [], "DEPS": []}
            for word in arguments.split():
                if word in self.SECTIONS:
                    section = self.SECTIONS[word]
                else:
                    lists[section].append(word)
            self.deps.setdefault(name, []).extend(lists["DEPS"])
            if command == "target_link_libraries":
                continue
            folders = {folder}
            for source in lists["SRCS"]:
                file = os.path.normpath(os.path.join(folder, source))
                self.of_file.setdefault(file, set()).add(name)
                folders.add(os.path.dirname(file))
            for f in folders:
                self.of_folder.setdefault(f, set()).add(name)

    def closure(self, target):
        seen, todo = set(), [target]
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo += self.deps.get(name, [])
        return seen

    def reaches(self, file, folder, included_folder):
        """Every target that compiles `file` has to reach a target of `included_folder`; for a header, some target of its."""
        wanted = self.of_folder.get(included_folder)
        if not wanted:
            return True  # headers alone, or not yet in the build
        compiled_by = self.of_file.get(file)
        if compiled_by:
            return all(self.closure(target) & wanted for target in compiled_by)
        owners = self.of_folder.get(folder)
        return not file.endswith(".h") or not owners or any(self.closure(target) & wanted for target in owners)


def check(root):
    problems = []
    targets = Targets(root)
    words = [(re.compile(pattern, re.M), folders, why) for pattern, folders, why in WORDS]
    count = 0
    for folder, name in source_files(root):
        count += 1
        file = f"{folder}/{name}"
        with open(os.path.join(root, file), encoding="utf-8") as opened:
            text = opened.read()

        def report(position, message, file=file, text=text):
            problems.append(f"{file}:{text.count(chr(10), 0, position) + 1}: {message}")

        if not rule_for(folder):
            report(0, f"{folder} has no row in the table of tests/arrows/check_arrows.py")
            continue
        for match in INCLUDE.finditer(text):
            included = match[1]
            if not included.startswith(tuple(f"{top}/" for top in OURS)):
                continue  # a library's header, or one beside a self-contained test program
            included_folder = os.path.dirname(included)
            if folder not in INTERFACES.get(included, []) and not allowed(folder, included_folder):
                report(match.start(1), f"{folder} must not include {included_folder} ({included})")
            elif not targets.reaches(file, folder, included_folder):
                report(match.start(1), f"includes {included}, whose target is not in DEPS of this file's target")
        code = without_comments_and_strings(text)
        for pattern, folders, why in words:
            if any((folder + "/").startswith(f + "/") for f in folders):
                continue
            for match in pattern.finditer(code):
                report(match.start(), f"{match[0].strip()}: {why}")
    return problems, count


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../..")
    problems, count = check(os.path.normpath(root))
    for problem in problems:
        print(problem)
    if count == 0:
        print(f"no source files in {root}")
        return 1
    if not problems:
        print(f"{count} files: every arrow points the right way")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
