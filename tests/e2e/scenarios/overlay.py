"""--overlay2: where what a guest writes goes, and that nothing of it stays."""

import os
import signal
import time

from framework import check, contains, equal, scenario, wait_until


def bind(source, destination="/host", *options):
    return {"destination": destination, "type": "bind", "source": source, "options": ["bind", *options]}


def tree(path):
    return sorted(os.path.relpath(os.path.join(d, n), path) for d, ds, fs in os.walk(path) for n in ds + fs)


WRITER = r"""
set -e
echo root > /written; echo mount > /host/written; echo more >> /host/existing
mkdir /p; cp /bin/busybox /p/echo; /p/echo a program ran
cat /written /host/written /host/existing
rm /etc/hostname; ln -s /written /link; mkdir -p /a/b/c; echo deep > /a/b/c/file; cat /a/b/c/file /link
echo 0123456789 > /t; truncate -s 4 /t; cat /t; echo; dd if=/dev/zero of=/sparse bs=1 count=1 seek=100000000 2>/dev/null
stat -c %s /sparse; rm /sparse; echo 1 > /host/gone; rm /host/gone; ls /host
"""


@scenario(quick=True, ours_only="--overlay2")
def every_medium_keeps_what_a_guest_writes_for_the_guest(t):
    for scope in ("root", "all"):
        for medium in ("memory", "self", "dir"):
            root = t.root("busybox")
            with open(os.path.join(root.path, "etc/hostname"), "w") as f:
                f.write("lower\n")
            host, store = t.directory("host"), t.directory("store")
            with open(os.path.join(host, "existing"), "w") as f:
                f.write("lower\n")
            before = tree(root.path)
            value = f"{scope}:dir={store}" if medium == "dir" else f"{scope}:{medium}"
            result = t.run(WRITER, root=root, mounts=[bind(host)], flags=("--overlay2=" + value,)).ok()
            equal(result.out.split("\n"), ["a program ran", "root", "mount", "lower", "more", "deep", "root", "0123",
                                           "100000001", "existing", "written", ""], value)
            equal(tree(root.path), before, f"the root after {value}")
            equal(tree(host), ["existing"] if scope == "all" else ["existing", "written"], f"the mount after {value}")
            equal(tree(store), [], f"the directory after {value}")


@scenario(ours_only="--overlay2", timeout=240)
def a_large_overlay_in_a_file_costs_no_memory(t):
    store = t.directory("store")
    script = r"""
import hashlib, mmap, os, time
block = os.urandom(1 << 20)
total = hashlib.sha256()
with open("/big", "wb") as f:
    for i in range(256):
        f.write(block[i:] + block[:i]); total.update(block[i:] + block[:i])
check = hashlib.sha256()
with open("/big", "rb") as f:
    while data := f.read(1 << 20): check.update(data)
assert check.digest() == total.digest()
print("written", flush=True)
while not os.path.exists("/host/go"): time.sleep(0.05)
os.unlink("/big")
print("removed", flush=True)
time.sleep(1000)
"""
    host = t.directory("host")
    c = t.container(["/usr/bin/python3", "-c", script], root="debian", mounts=[bind(host)])
    c.runtime = t.runtime.with_flags(f"--overlay2=root:dir={store}")
    c.run_detached()
    c.wait_for_output("written", 120)

    def pss(pid):
        with open(f"/proc/{pid}/smaps_rollup") as f:
            return sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))

    def blocks():
        for fd in os.listdir(f"/proc/{c.pid()}/fd"):
            path = f"/proc/{c.pid()}/fd/{fd}"
            try:
                if os.readlink(path).startswith(store):
                    return os.stat(path).st_blocks * 512
            except FileNotFoundError:
                pass
        raise AssertionError("the sandbox holds no file of the directory")

    check(blocks() >= 256 << 20, "the file is not on the disk")
    used = pss(c.pid())
    t.note(f"{used} kB after writing 256 MB")
    check(used < 64 << 10, f"the sentry uses {used} kB")
    open(os.path.join(host, "go"), "w").close()
    c.wait_for_output("removed", 60)
    check(wait_until(lambda: blocks() < 64 << 20, 20), "removing a file does not give its blocks back")
    equal(os.listdir(store), [])
    os.kill(c.pid(), signal.SIGKILL)
    c.wait_for("stopped")
    equal(os.listdir(store), [], "the directory after the sandbox was killed")
    c.delete().ok()


@scenario(ours_only="--overlay2")
def programs_work_on_an_overlay_in_a_file(t):
    script = r"""
import mmap, os, sqlite3, subprocess, sys, tempfile
db = sqlite3.connect("/root/db"); db.execute("pragma journal_mode=wal")
db.execute("create table t(a)"); db.executemany("insert into t values(?)", [(i,) for i in range(2000)]); db.commit()
print(db.execute("select sum(a) from t").fetchone()[0])
with open("/m", "w+b") as f:
    f.truncate(1 << 20)
    m = mmap.mmap(f.fileno(), 1 << 20); m[5000:5005] = b"hello"; m.flush()
    p = mmap.mmap(f.fileno(), 1 << 20, mmap.MAP_PRIVATE); p[0:3] = b"own"
    os.lseek(f.fileno(), 5000, 0); print(os.read(f.fileno(), 5), m[0:3], p[0:3], p[5000:5005])
    pid = os.fork()
    if pid == 0: m[0:5] = b"child"; os._exit(0)
    os.waitpid(pid, 0); print(m[0:5])
    m.close(); p.close(); f.truncate(10); f.truncate(8192); f.seek(5000); print(f.read(5))
open("/etc/debian_version", "a").write("more\n"); print(open("/etc/debian_version").read().split()[-1])
print(subprocess.run(["sh", "-c", "cp /usr/bin/python3.11 /p && /p -c 'print(6*7)'"], capture_output=True, text=True).stdout)
fd = os.open("/tmp2", os.O_CREAT | os.O_RDWR); os.posix_fallocate(fd, 0, 1 << 20); print(os.fstat(fd).st_blocks)
"""
    for flag in ("root:self", f"root:dir={t.directory('store')}"):
        result = t.run(["/usr/bin/python3", "-c", script], root="debian", flags=("--overlay2=" + flag,)).ok()
        equal(result.out.split("\n"), ["1999000", "b'hello' b'\\x00\\x00\\x00' b'own' b'hello'", "b'child'",
                                       "b'\\x00\\x00\\x00\\x00\\x00'", "more", "42", "", "2048", ""], flag)


@scenario(ours_only="--overlay2")
def an_overlay_has_a_limit(t):
    store = t.directory("store")
    for medium in ("memory", "self", f"dir={store}"):
        result = t.run("dd if=/dev/zero of=/big bs=1M count=64 2>&1; stat -c %s /big; rm /big; echo ok > /small; cat /small",
                       flags=(f"--overlay2=root:{medium},size=10m",)).ok()
        contains(result.out, "No space left on device")
        equal(result.out.split()[-2:], ["10485760", "ok"], medium)


@scenario(quick=True, ours_only="--overlay2")
def what_cannot_be_an_overlay_is_said_in_one_sentence(t):
    file = os.path.join(t.directory("store"), "file")
    open(file, "w").close()
    absent = os.path.join(t.directory("store"), "absent")
    for value, words in ((f"root:dir={absent}", ["--overlay2", absent, "no such file"]),
                         (f"all:dir={file}", ["--overlay2", file, "not a directory"]),
                         ("root:dir=relative", ["overlay2", "must be"]), ("everything:memory", ["overlay2", "must be"]),
                         ("root", ["overlay2", "must be"]), ("root:disk", ["overlay2", "must be"]),
                         ("root:memory,size=x", ["overlay2", "must be"])):
        c = t.container(["/bin/true"])
        result = t.run_container(c, flags=("--overlay2=" + value,))
        equal(result.code, 128, value)
        equal(len(result.err.strip().splitlines()), 1, f"the number of lines ({result.err!r})")
        for word in words:
            contains(result.err.lower(), word.lower())
        check(c.state() is None, "a failed run left a state")
