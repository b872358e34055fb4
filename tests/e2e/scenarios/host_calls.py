"""What stub processes ask the host for: the calls that docs/security.md names, whatever the guest does."""

import ctypes
import fcntl
import os
import re
import struct

from framework import check, contains, descendants, scenario

# The numbers of amd64 of what the document names; set_thread_area is that of i386.
NUMBERS = {"write": 1, "mmap": 9, "mprotect": 10, "munmap": 11, "rt_sigreturn": 15, "sched_yield": 24, "clone": 56,
           "prctl": 157, "futex": 202, "exit_group": 231, "set_thread_area": 243, "seccomp": 317, "close_range": 436}
# Only a newborn that something has gone wrong with makes the first; no filter of a host that has the others stops them.
NUMBERS_ELSEWHERE = {"uretprobe": 335, "uprobe": 336}
RARE = {"exit_group", *NUMBERS_ELSEWHERE}

GUEST = r"""
import ctypes, mmap, os, signal, subprocess, sys, threading

def ordinary():
    def work():
        for i in range(300): os.sched_yield(); os.umask(0o22)
    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]; [t.join() for t in threads]
    m = mmap.mmap(-1, 1 << 20); m[:] = b'x' * len(m); m.close()
    subprocess.run(['/bin/sh', '-c', 'ls /usr/bin | sort | wc -l; exec true'], stdout=subprocess.DEVNULL, check=True)

# Every number in the three forms of entry, from memory of our own. Who does not come back was ended by the call.
CODE = {'syscall': b'\x89\xf8\x31\xff\x31\xf6\x31\xd2\x4d\x31\xd2\x0f\x05\xc3',
        'int80': b'\x53\x89\xf8\x31\xdb\x31\xc9\x31\xd2\x31\xf6\xcd\x80\x5b\xc3',
        'sysenter': b'\x53\x55\x89\xf8\x31\xdb\x31\xc9\x31\xd2\x0f\x34\x5d\x5b\xc3'}
SKIPPED = {34, 61, 247, 219}  # pause, wait4, waitid, restart_syscall: they would wait

def every_number():
    page = mmap.mmap(-1, 4096, prot=7)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    for name, code in CODE.items():
        page[:len(code)] = code
        call = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_uint)(address)
        for first in list(range(0, 480, 16)) + [0x40000000 + n for n in range(0, 560, 80)]:
            pid = os.fork()
            if pid == 0:
                signal.alarm(3)
                for number in range(first, first + 16):
                    if number in SKIPPED: continue
                    child = os.fork()
                    if child == 0:
                        signal.alarm(1)
                        call(number)
                        os._exit(0)
                    os.waitpid(child, 0)
                os._exit(0)
            os.waitpid(pid, 0)

def vsyscall():
    for address in (0xffffffffff600000, 0xffffffffff600400, 0xffffffffff600800):
        pid = os.fork()
        if pid == 0:
            ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)(address)(None, None)
            os._exit(0)
        os.waitpid(pid, 0)

for job in (ordinary, every_number, vsyscall): job()
print('done', flush=True)
"""


def documented():
    path = os.path.join(os.path.dirname(__file__), "../../../docs/security.md")
    with open(path) as f:
        text = f.read()
    contains(text, "`uretprobe` and `uprobe` (335, 336;", "docs/security.md")
    table = re.search(r"### Who may call what on the host\n(.*?)\n\n[^|]", text, re.S).group(1)
    words = re.findall(r"`([a-z_0-9]+)[(`]", " ".join(line.split("|")[2] for line in table.replace("\\|", "/").splitlines()
                                                      if line.count("|") > 2))
    return {word for word in words if word in NUMBERS}


class Tracer:
    """Counts the host's calls of processes and of all that they clone, those with one number or without any of several."""

    SET_FILTER = 0x40082406  # PERF_EVENT_IOC_SET_FILTER

    def __init__(self, t):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fds = {}
        for directory in ("/sys/kernel/tracing", "/sys/kernel/debug/tracing"):
            path = directory + "/events/raw_syscalls/sys_enter/id"
            if os.path.exists(path):
                with open(path) as f:
                    self.id = int(f.read())
                return
        t.skip("no tracepoints of the host to count system calls with")

    def count(self, t, name, expression, pid):
        # type, size, config, period, sample_type, read_format, flags (bit 1: inherit)
        attributes = struct.pack("IIQQQQQ", 2, 112, self.id, 0, 0, 0, 1 << 1).ljust(112, b"\0")
        fd = self.libc.syscall(298, attributes, pid, -1, -1, 8)
        if fd < 0:
            t.skip(f"the host does not count system calls: {os.strerror(ctypes.get_errno())}")
        fcntl.ioctl(fd, self.SET_FILTER, expression.encode() + b"\0")
        self.fds.setdefault(name, []).append(fd)

    def read(self):
        return {name: sum(struct.unpack("Q", os.read(fd, 8))[0] for fd in fds) for name, fds in self.fds.items()}

    def close(self):
        for fds in self.fds.values():
            for fd in fds:
                os.close(fd)


def is_stub(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read() == "runsc-stub\n"
    except OSError:
        return False


@scenario(timeout=200, ours_only="about our own stub processes")
def stubs_make_the_documented_calls_and_no_others(t):
    names = documented()
    check(names == set(NUMBERS), f"docs/security.md names {sorted(names)}")
    if t.runtime.name in ("ptrace", "kvm"):
        t.skip("only systrap's stubs make calls")
    numbers = {**NUMBERS, **NUMBERS_ELSEWHERE}
    tracer = Tracer(t)
    c = t.container(["/usr/bin/python3", "-c", GUEST], root="debian").create()
    try:
        stubs = [pid for pid in descendants(c.pid()) if is_stub(pid)]
        check(stubs, "no stub process was found")
        for pid in stubs:
            for name, number in numbers.items():
                tracer.count(t, name, f"id == {number}", pid)
            tracer.count(t, "others", " && ".join(f"id != {number}" for number in numbers.values()), pid)
        c.start()
        c.wait_for_output("done", 150)
        counts = tracer.read()
    finally:
        tracer.close()
    t.note(", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    check(counts.pop("others") == 0, "stubs have made calls that docs/security.md does not name")
    unseen = {name for name, count in counts.items() if count == 0} - RARE
    check(not unseen, f"nobody has made {sorted(unseen)}: does docs/security.md name too much?")
    contains(c.out(), "done")
    c.end()
