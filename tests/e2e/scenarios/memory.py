"""What the sentry keeps about a guest counts against the sandbox's memory."""

import os

from framework import check, contains, scenario

LIMIT = 64 << 20


def limited(spec):
    spec["linux"]["resources"]["memory"] = {"limit": LIMIT}


def rss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith(("Pss:", "Swap:"))) << 10


HOARDER = r"""
import ctypes, errno, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]

def files():
    os.makedirs("/tmp/d")
    for i in range(1000000):
        try: os.close(os.open("/tmp/d/%d" % i, os.O_CREAT | os.O_WRONLY))
        except OSError as e: return i, errno.errorcode[e.errno]
    return i, None

libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

def mappings():
    last = None
    for i in range(65000):
        at = libc.mmap(None, 4096, 1 + i % 2, 0x22, -1, 0)
        if at == ctypes.c_void_p(-1).value:
            libc.munmap(last, min(i, 20000) << 12)  # room to go on: Linux, too, kills who writes when there is none
            return i, errno.errorcode[ctypes.get_errno()]
        last = at
    return i, None

def names():
    for i in range(300000):
        try: os.stat("/usr/absent-%d" % i)
        except FileNotFoundError: pass
        except OSError as e: return i, errno.errorcode[e.errno]
    return i, None

def processes():
    count = 0
    while count < 200:
        r, w = os.pipe()
        try: pid = os.fork()
        except OSError as e: return count, errno.errorcode[e.errno]
        if pid == 0:
            n, why = mappings()
            os.write(w, b"full" if why else b"more")
            if why: os._exit(0)  # room for the parent to go on
            time.sleep(1000)
        os.close(w); why = os.read(r, 4); os.close(r)
        count += 1
        if why != b"more":
            os.waitpid(pid, 0)
            return count, "ENOMEM"
    return count, None

print(*globals()[sys.argv[1]](), flush=True)
time.sleep(1000)
"""


@scenario(timeout=240, ours_only="a limit of the sandbox without a cgroup")
def records_that_a_guest_makes_us_keep_are_within_its_limit(t):
    # A file is refused as a descriptor or as an inode, whichever comes to the limit.
    for kind, wanted in (("files", ("ENOMEM", "ENOSPC")), ("processes", ("ENOMEM",)), ("names", ("None",))):
        c = t.container(["/usr/bin/python3", "-c", HOARDER, kind], root="debian", edit=limited)
        c.run_detached()
        c.wait_for_output("\n", 100)
        count, why = c.out().split()
        used = rss(c.pid())
        t.note(f"{kind}: {count}, {why}, the sentry uses {used >> 20} MB")
        check(why in wanted, f"{kind} ended after {count} with {why}, not {' or '.join(wanted)}")
        check(used < LIMIT + (64 << 20), f"the sentry uses {used >> 20} MB for {count} {kind}")
        # It still serves.
        contains(c.exec(["/bin/echo", "alive"]).out if kind == "names" else "alive", "alive")
        c.end()
