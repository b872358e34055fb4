"""Sockets and FIFOs of the host: reached with --host-uds and --host-fifo, and never without."""

import os
import socket
import threading

from framework import check, contains, equal, scenario


def bind(source, destination="/host", *options):
    return {"destination": destination, "type": "bind", "source": source, "options": ["bind", *options]}


class HostServer:
    """A server at `path` on the host: answers everything it hears in upper case, one peer after the other."""

    def __init__(self, path, kind=socket.SOCK_STREAM):
        self.kind = kind
        self.listener = socket.socket(socket.AF_UNIX, kind)
        self.listener.bind(path)
        os.chmod(path, 0o777)
        self.heard = []
        if kind != socket.SOCK_DGRAM:
            self.listener.listen(4)
        self.listener.settimeout(0.1)
        self.stop = False
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _next(self, operation):
        """Looks up now and then: closing a listener does not end an accept."""
        while not self.stop:
            try:
                return operation()
            except TimeoutError:
                pass
        raise OSError("stopped")

    def _serve(self):
        try:
            if self.kind == socket.SOCK_DGRAM:
                while True:
                    data = self._next(lambda: self.listener.recv(1 << 20))
                    self.heard.append(data)
                    if data == b"end":
                        return
            while True:
                peer, _ = self._next(self.listener.accept)
                with peer:
                    peer.settimeout(30)
                    while data := peer.recv(1 << 20):
                        self.heard.append(data)
                        peer.sendall(data.upper())
        except OSError:
            pass

    def close(self):
        self.stop = True
        self.thread.join(10)
        self.listener.close()


def serve(t, path, kind=socket.SOCK_STREAM):
    server = HostServer(path, kind)
    t.closing.append(server.close)
    return server


CLIENT = r"""
import socket, sys, errno
kind = {"stream": socket.SOCK_STREAM, "packet": socket.SOCK_SEQPACKET, "datagram": socket.SOCK_DGRAM}[sys.argv[1]]
s = socket.socket(socket.AF_UNIX, kind)
s.settimeout(20)
try:
    s.connect(sys.argv[2])
except OSError as e:
    print(errno.errorcode[e.errno])
    sys.exit(0)
for word in sys.argv[3:]:
    s.send(word.encode())
    if kind != socket.SOCK_DGRAM: print(s.recv(100).decode())
"""


def client(kind, path, *words):
    return ["/usr/bin/python3", "-c", CLIENT, kind, path, *words]


@scenario(overlays=("memory", "host"), ours_only="--host-uds")
def a_guest_connects_to_a_stream_socket_of_the_host(t):
    directory = t.directory("sockets")
    server = serve(t, os.path.join(directory, "s"))
    result = t.run(client("stream", "/host/s", "hello", "there"), root="debian", mounts=[bind(directory)],
                   flags=("--host-uds=open",)).ok()
    equal(result.out.split(), ["HELLO", "THERE"])
    equal(server.heard, [b"hello", b"there"])


@scenario(ours_only="--host-uds")
def a_guest_connects_to_a_socket_below_the_overlay_of_its_root(t):
    root = t.root("debian")
    serve(t, os.path.join(root.path, "s"))
    script = "\n".join([CLIENT, "import os", "os.chmod('/s', 0o700)",  # copied up: still the host's
                        "s = socket.socket(socket.AF_UNIX); s.connect('/s'); s.send(b'again'); print(s.recv(9).decode())"])
    result = t.run(["/usr/bin/python3", "-c", script, "stream", "/s", "root"], root=root, flags=("--host-uds=all",)).ok()
    equal(result.out.split(), ["ROOT", "AGAIN"])


@scenario(ours_only="--host-uds")
def packets_and_datagrams_reach_the_host(t):
    directory = t.directory("sockets")
    packets = serve(t, os.path.join(directory, "p"), socket.SOCK_SEQPACKET)
    datagrams = serve(t, os.path.join(directory, "d"), socket.SOCK_DGRAM)
    script = CLIENT + r"""
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect("/host/p")
s.send(b"x" * 100000); print(len(s.recv(200000)))
d = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
d.sendto(b"no connection", "/host/d"); d.connect("/host/d"); d.send(b"end")
print(d.getpeername())
try: socket.socket(socket.AF_UNIX).connect("/host/d")
except OSError as e: print(errno.errorcode[e.errno])
"""
    result = t.run(["/usr/bin/python3", "-c", script, "packet", "/host/p", "one"], root="debian",
                   mounts=[bind(directory)], flags=("--host-uds=open",)).ok()
    equal(result.out.split(), ["ONE", "100000", "/host/d", "EPROTOTYPE"])
    datagrams.thread.join(10)
    equal(datagrams.heard, [b"no connection", b"end"])
    equal(packets.heard[0], b"one")


@scenario(ours_only="the flags")
def without_a_flag_no_socket_fifo_or_device_of_the_host_is_opened(t):
    directory = t.directory("hostile")
    server = serve(t, os.path.join(directory, "s"))
    os.mkfifo(os.path.join(directory, "f"), 0o666)
    os.mknod(os.path.join(directory, "null"), 0o666 | 0o020000, os.makedev(1, 3))
    os.symlink("/host/s", os.path.join(directory, "link"))
    script = r"""
import errno, os, socket
for path in ("/host/s", "/host/link"):
    try: socket.socket(socket.AF_UNIX).connect(path)
    except OSError as e: print(errno.errorcode[e.errno])
try: os.open("/host/s", os.O_RDWR)
except OSError as e: print(errno.errorcode[e.errno])
try: os.open("/host/null", os.O_RDWR)  # nodev, by the option of the mount
except OSError as e: print(errno.errorcode[e.errno])
# The FIFO is one of the sandbox: both ends meet in here, and nobody on the host hears of it.
r = os.open("/host/f", os.O_RDONLY | os.O_NONBLOCK)
w = os.open("/host/f", os.O_WRONLY | os.O_NONBLOCK)
os.write(w, b"inside"); print(os.read(r, 10).decode())
# A name that the guest binds is no socket of the host.
l = socket.socket(socket.AF_UNIX); l.bind("/host/mine"); l.listen(1)
c = socket.socket(socket.AF_UNIX); c.connect("/host/mine"); c.send(b"local"); print(l.accept()[0].recv(9).decode())
open("/host/bound", "w").close()
import time
while os.path.exists("/host/bound"): time.sleep(0.01)
"""
    reader = os.open(os.path.join(directory, "f"), os.O_RDONLY | os.O_NONBLOCK)
    t.closing.append(lambda: os.close(reader))
    mine, bound = os.path.join(directory, "mine"), os.path.join(directory, "bound")
    refused = []

    def look():
        while not os.path.exists(bound):
            if stop.wait(0.01):
                return
        try:
            socket.socket(socket.AF_UNIX).connect(mine)
        except OSError as e:
            refused.append(e.errno)
        os.unlink(bound)

    for flags in ((), ("--host-uds=none", "--host-fifo=none")):
        stop = threading.Event()
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            result = t.run(["/usr/bin/python3", "-c", script], root="debian",
                           mounts=[bind(directory, "/host", "nodev")], flags=flags)
        finally:
            stop.set()
            thread.join(10)
        result.ok()
        os.unlink(mine)
        equal(result.out.split(), ["ECONNREFUSED", "ECONNREFUSED", "ENXIO", "EACCES", "inside", "local"])
        equal(refused.pop(), 111, "what the host gets from the guest's socket")
    equal(server.heard, [])


@scenario(ours_only="--host-uds")
def open_does_not_create_and_create_does_not_open(t):
    directory = t.directory("sockets")
    serve(t, os.path.join(directory, "s"))
    script = CLIENT + r"""
import os
l = socket.socket(socket.AF_UNIX); l.bind("/host/mine"); l.listen(1)
"""
    result = t.run(["/usr/bin/python3", "-c", script, "stream", "/host/s", "x"], root="debian", mounts=[bind(directory)],
                   flags=("--host-uds=create",)).ok()
    equal(result.out.split(), ["ECONNREFUSED"])


@scenario(ours_only="--host-uds", overlays=("memory", "host"))
def a_host_process_connects_to_a_socket_that_the_guest_made(t):
    for kind, number in (("SOCK_STREAM", socket.SOCK_STREAM), ("SOCK_SEQPACKET", socket.SOCK_SEQPACKET)):
        directory = t.directory("sockets")
        script = f"""
import socket, os, select, threading
l = socket.socket(socket.AF_UNIX, socket.{kind}); l.bind("/host/s"); os.chmod("/host/s", 0o777); l.listen(8)
local = socket.socket(socket.AF_UNIX, socket.{kind}); local.connect("/host/s"); local.send(b"from inside")
e = select.epoll(); e.register(l, select.EPOLLIN)
for i in range(3):
    e.poll(20)
    c, who = l.accept()
    data = c.recv(100); c.send(data.upper()); print(data.decode(), repr(who))
    c.close()
print(local.recv(100).decode())
"""
        c = t.container(["/usr/bin/python3", "-c", script], root="debian", mounts=[bind(directory)])
        c.runtime = t.runtime.with_flags("--host-uds=create")
        c.run_detached()
        path = os.path.join(directory, "s")
        answers = []
        import time
        end = time.monotonic() + 30
        while len(answers) < 2 and time.monotonic() < end:
            s = socket.socket(socket.AF_UNIX, number)
            s.settimeout(20)
            try:
                s.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                s.close()
                time.sleep(0.02)
                continue
            with s:
                s.send(b"host %d" % len(answers))
                answers.append(s.recv(100))
        equal(answers, [b"HOST 0", b"HOST 1"])
        equal(c.exit_status(), 0, f"exit status ({c.err()})")
        contains(c.out(), "FROM INSIDE")
        contains(c.out(), "host 1 ''")
        c.end()


@scenario(ours_only="--host-uds")
def the_host_sends_datagrams_to_a_socket_that_the_guest_made(t):
    directory = t.directory("sockets")
    script = r"""
import socket, os
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.bind("/host/d"); os.chmod("/host/d", 0o777)
s.settimeout(30); print(s.recvfrom(100))
try: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind("/host/d")
except OSError as e: print(e.errno)
"""
    c = t.container(["/usr/bin/python3", "-c", script], root="debian", mounts=[bind(directory)])
    c.runtime = t.runtime.with_flags("--host-uds=all")
    c.run_detached()
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    from framework import wait_until

    def send():
        try:
            s.sendto(b"hello", os.path.join(directory, "d"))
            return True
        except OSError:
            return False
    check(wait_until(send, 20), "the socket file never came")
    equal(c.exit_status(), 0, f"exit status ({c.err()})")
    contains(c.out(), "b'hello'")
    contains(c.out(), "98")  # EADDRINUSE
    s.close()
    c.end()


FIFO = r"""
import os, sys
for i, mode in enumerate(sys.argv[1:]):
    with open("/host/f%d" % i, mode) as f:
        if mode == "w": f.write("from the guest\n" * 10000)
        else: print(len(f.read()))
"""


@scenario(ours_only="--host-fifo", overlays=("memory", "host"))
def fifos_of_the_host_carry_data_both_ways(t):
    directory = t.directory("fifos")
    paths = [os.path.join(directory, f"f{i}") for i in range(3)]
    for path in paths:
        os.mkfifo(path)
    got = []

    def peer():
        with open(paths[0]) as f:
            got.append(f.read())
        with open(paths[1], "w") as f:
            f.write("from the host\n" * 10000)
        import time
        with open(paths[2], "w") as f:  # a writer that is silent at first: the guest's open returns all the same
            time.sleep(0.2)
            f.write("late")

    thread = threading.Thread(target=peer, daemon=True)
    thread.start()
    result = t.run(["/usr/bin/python3", "-c", FIFO, "w", "r", "r"], root="debian", mounts=[bind(directory)],
                   flags=("--host-fifo=open",)).ok()
    thread.join(10)
    equal(result.out.split(), ["140000", "4"])
    equal(got, ["from the guest\n" * 10000])


@scenario(ours_only="--host-fifo")
def waiting_for_the_other_end_of_a_fifo_of_the_host_can_be_interrupted(t):
    directory = t.directory("fifos")
    os.mkfifo(os.path.join(directory, "f"))
    script = r"""
import os, signal, errno
class Alarm(Exception): pass
def alarm(*_): raise Alarm
signal.signal(signal.SIGALRM, alarm)
for flags in (os.O_RDONLY, os.O_WRONLY):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try: os.open("/host/f", flags); print("opened")
    except Alarm: print("interrupted")
try: os.open("/host/f", os.O_WRONLY | os.O_NONBLOCK)
except OSError as e: print(errno.errorcode[e.errno])
r = os.open("/host/f", os.O_RDONLY | os.O_NONBLOCK); print(os.read(r, 5))
w = os.open("/host/f", os.O_WRONLY); os.write(w, b"both"); print(os.read(r, 5))
"""
    result = t.run(["/usr/bin/python3", "-c", script], root="debian", mounts=[bind(directory)],
                   flags=("--host-fifo=open",)).ok()
    equal(result.out.split(), ["interrupted", "interrupted", "ENXIO", "b''", "b'both'"])


@scenario(overlays=("memory", "host"))
def a_tree_of_the_host_has_nameless_files_exchanges_and_whiteouts(t):
    directory = t.directory("tree")
    script = r"""
import ctypes, os, stat
libc = ctypes.CDLL(None, use_errno=True)
def renameat2(a, b, flags):
    if libc.renameat2(-100, a.encode(), -100, b.encode(), flags) != 0: raise OSError(ctypes.get_errno(), a)
fd = os.open("/host", os.O_TMPFILE | os.O_RDWR, 0o640)
os.write(fd, b"nameless"); print(os.fstat(fd).st_nlink, os.listdir("/host"))
os.link("/proc/self/fd/%d" % fd, "/host/named", src_dir_fd=0, follow_symlinks=True)
print(open("/host/named").read(), oct(os.stat("/host/named").st_mode))
with open("/host/other", "w") as f: f.write("other")
renameat2("/host/named", "/host/other", 2)
print(open("/host/named").read(), open("/host/other").read())
renameat2("/host/other", "/host/moved", 4)
st = os.stat("/host/other"); print(stat.S_ISCHR(st.st_mode), st.st_rdev, sorted(os.listdir("/host")))
"""
    result = t.run(["/usr/bin/python3", "-c", script], root="debian", mounts=[bind(directory)]).ok()
    equal(result.out.split("\n"), ["0 []", "nameless 0o100640", "other nameless", "True 0 ['moved', 'named', 'other']", ""])
    equal(sorted(os.listdir(directory)), ["moved", "named", "other"])


@scenario(ours_only="--pass-fd")
def files_that_the_guest_was_given_can_be_mapped(t):
    directory = t.directory("files")
    paths = [os.path.join(directory, name) for name in ("in", "out")]
    for path in paths:
        with open(path, "w") as f:
            f.write("0123456789" * 1000)
    script = r"""
import mmap, os
m = mmap.mmap(0, 0, mmap.MAP_SHARED, mmap.PROT_READ); print(m[9990:].decode(), len(m))
try: mmap.mmap(0, 0, mmap.MAP_SHARED, mmap.PROT_WRITE)
except OSError as e: print(e.errno)
p = mmap.mmap(0, 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE); p[0:2] = b"xx"; print(p[0:4].decode(), m[0:4].decode())
fd = os.open("/proc/self/fd/5", os.O_RDWR)
w = mmap.mmap(fd, 0); w[0:5] = b"hello"; v = mmap.mmap(5, 0); print(v[0:5].decode(), flush=True)
if os.fork() == 0: v[5:10] = b"child"; os._exit(0)
os.wait(); print(w[0:10].decode(), flush=True); w.flush(); os.write(1, w[0:10] + b"\n")
print("host:[" in open("/proc/self/maps").read())
os.ftruncate(5, 8192)
print(os.fstat(5).st_size, w[8000:8010].decode())
"""
    c = t.container(["/usr/bin/python3", "-c", script], root="debian")
    with open(paths[0]) as stdin, open(paths[1], "r+") as passed:
        process = t.runtime.popen("run", "--bundle", c.bundle, "--pass-fd", f"{passed.fileno()}:5", c.id, stdin=stdin,
                                  stdout=-1, stderr=-1, pass_fds=[passed.fileno()])
        out, err = process.communicate(timeout=60)
    equal(process.returncode, 0, f"exit status ({err!r})")
    equal(out.decode().split("\n"), ["0123456789 10000", "13", "xx23 0123", "hello", "hellochild", "hellochild", "True",
                                     "8192 0123456789", ""])
    with open(paths[1]) as f:
        equal(f.read(), "hellochild" + ("0123456789" * 1000)[10:8192])


@scenario()
def standard_input_from_a_file_can_be_mapped(t):
    c = t.container(["/usr/bin/python3", "-c", "import mmap; print(mmap.mmap(0, 0, access=mmap.ACCESS_READ)[:5])"],
                    root="debian")
    path = os.path.join(t.directory("files"), "in")
    with open(path, "w") as f:
        f.write("first words")
    with open(path) as stdin:
        process = t.runtime.popen("run", "--bundle", c.bundle, c.id, stdin=stdin, stdout=-1, stderr=-1)
        out, err = process.communicate(timeout=60)
    equal((process.returncode, out), (0, b"b'first'\n"), f"what came ({err!r})")
