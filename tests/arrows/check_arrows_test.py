#!/usr/bin/env python3
"""Tests of check_arrows.py on small made-up trees."""

import os
import tempfile
import unittest

import check_arrows


class CheckArrowsTest(unittest.TestCase):
    def problems(self, files):
        with tempfile.TemporaryDirectory() as root:
            for path, text in files.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as file:
                    file.write(text)
            return sorted(check_arrows.check(root)[0])

    def test_arrows_down_are_allowed(self):
        self.assertEqual(self.problems({
            "sentry/kernel/task.h": '#include "sentry/mm/memory.h"\n#include "platform/platform.h"\n#include "base/fiber.h"\n',
            "sentry/fs/proc/proc.h": '#include "sentry/kernel/task.h"\n#include "sentry/fs/pseudo/file.h"\n',
            "sentry/boot/wiring.cc": '#include "platform/ptrace/p.h"\n#include "sentry/fs/proc/proc.h"\n',
            "runsc/cmd/run.cc": '#include "sentry/boot/boot.h"\n#include "runsc/oci/spec.h"\n',
        }), [])

    def test_arrows_up_and_sideways_are_not(self):
        problems = self.problems({
            "base/a.h": '#include "platform/platform.h"\n',
            "sentry/mm/b.h": '\n#include "sentry/kernel/task.h"\n',
            "sentry/fs/c.h": '#include "sentry/socket/s.h"\n',
            "sentry/kernel/d.h": '#include "platform/ptrace/p.h"\n',
            "platform/kvm/e.h": '#include "platform/ptrace/p.h"\n',
            "gofer/server/f.h": '#include "sentry/abi/g.h"\n',
        })
        self.assertEqual([p.split(": ")[0] for p in problems], [
            "base/a.h:1", "gofer/server/f.h:1", "platform/kvm/e.h:1", "sentry/fs/c.h:1", "sentry/kernel/d.h:1", "sentry/mm/b.h:2"])

    def test_a_folder_without_a_row_is_reported(self):
        self.assertEqual(len(self.problems({"sentry/novel/a.h": ""})), 1)

    def test_deps_must_name_what_is_included(self):
        files = {
            "base/CMakeLists.txt": "runsc_library(base SRCS a.cc)",
            "base/a.cc": "",
            "platform/CMakeLists.txt": "runsc_library(platform SRCS p.cc DEPS base)",
            "platform/p.cc": '#include "base/a.h"\n',
            "sentry/mm/CMakeLists.txt": "runsc_library(mm SRCS m.cc DEPS platform)",
            "sentry/mm/m.cc": '#include "base/a.h"\n#include "platform/p.h"\n',
        }
        self.assertEqual(self.problems(files), [])
        files["sentry/mm/CMakeLists.txt"] = "runsc_library(mm SRCS m.cc DEPS base)"
        self.assertEqual([p.split(": ")[0] for p in self.problems(files)], ["sentry/mm/m.cc:2"])

    def test_plain_cmake_commands_count_too(self):
        files = {
            "base/CMakeLists.txt": "runsc_library(base SRCS a.cc)",
            "base/a.cc": "",
            "runsc/CMakeLists.txt": "add_executable(runsc main.cc)\ntarget_link_libraries(runsc PRIVATE base)",
            "runsc/main.cc": '#include "base/a.h"\n',
        }
        self.assertEqual(self.problems(files), [])
        files["runsc/CMakeLists.txt"] = "add_executable(runsc main.cc)"
        self.assertEqual(len(self.problems(files)), 1)

    def test_words_are_kept_to_their_folders_but_not_in_comments_and_strings(self):
        problems = self.problems({
            "sentry/mm/a.cc": '// errno\n/* thread_local\n */ const char* s = "PTRACE_CONT";\n',
            "sentry/mm/b.cc": "thread_local int x;\nint y = errno;\nauto z = PTRACE_CONT;\n",
            "platform/ptrace/c.cc": "auto z = PTRACE_CONT;\n",
            "sentry/mm/d.h": "#include <errno.h>\nint n = call.errno;\n",
        })
        self.assertEqual([p.split(": ")[0] for p in problems], ["sentry/mm/b.cc:1", "sentry/mm/b.cc:2", "sentry/mm/b.cc:3"])


if __name__ == "__main__":
    unittest.main()
