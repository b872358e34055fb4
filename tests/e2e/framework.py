"""What a scenario gets: sandboxes on real roots, checks, terminals, and the guarantee that nothing is left behind."""

import array
import ctypes
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from common import roots
from common.runtime import config, finish, wait_until

REGISTRY = []


class Failure(Exception):
    """A check that did not hold; the text says which."""


class Skipped(Exception):
    """The scenario cannot run here; the text says why."""


class TimedOut(BaseException):
    """Not an Exception, so that no scenario swallows it."""


def scenario(quick=False, overlays=("memory",), timeout=120, ours_only=None):
    """Registers a scenario.

    overlays: on which root it runs: "memory" (the runtime's memory overlay) and/or "host" (--overlay2=none on a
    writable root, whose files are compared on the host afterwards).
    ours_only: why a stand-in (runc, crun) cannot pass it.
    """
    def register(function):
        module = function.__module__.rsplit(".", 1)[-1]
        REGISTRY.append(Scenario(function, f"{module}.{function.__name__}", quick, overlays, timeout, ours_only))
        return function
    return register


class Scenario:
    def __init__(self, function, name, quick, overlays, timeout, ours_only):
        self.function = function
        self.name = name
        self.quick = quick
        self.overlays = overlays
        self.timeout = timeout
        self.ours_only = ours_only


# --- Checks ----------------------------------------------------------------------------------------------------------

def check(condition, message="the check failed"):
    if not condition:
        raise Failure(message)


def equal(actual, wanted, what="the value"):
    if actual != wanted:
        raise Failure(f"{what} is {actual!r}, not {wanted!r}")


def contains(text, part, what="the output"):
    if part not in text:
        raise Failure(f"{what} lacks {part!r}: {text[-1500:]!r}")


def matches(text, pattern, what="the output"):
    if not re.search(pattern, text, re.M):
        raise Failure(f"{what} does not match {pattern!r}: {text[-1500:]!r}")


# --- Processes -------------------------------------------------------------------------------------------------------

def become_subreaper():
    """Every process that a runtime leaves behind becomes our child, as it would become containerd-shim's."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def children_of(pid):
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                found += [int(child) for child in f.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def descendants(pid):
    found, queue = [], [pid]
    while queue:
        for child in children_of(queue.pop()):
            found.append(child)
            queue.append(child)
    return found


def describe_process(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            words = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        with open(f"/proc/{pid}/stat") as f:
            state = f.read().rsplit(")", 1)[1].split()[0]
        return f"{pid} ({state}) {words[:160]}"
    except (FileNotFoundError, ProcessLookupError):
        return f"{pid} (gone)"


def mount_points():
    with open("/proc/self/mountinfo") as f:
        return sorted(line.split()[4] for line in f)


def cgroups_named(words):
    found = []
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(directory, name) for name in names if any(word in name for word in words)]
    return found


class Result:
    """What a finished sandbox or command produced."""

    def __init__(self, code, out, err):
        self.code = code
        self.out = out
        self.err = err

    def ok(self):
        if self.code != 0:
            raise Failure(f"exit status {self.code}; stdout {self.out[-1500:]!r}; stderr {self.err[-1500:]!r}")
        return self


# --- Terminals -------------------------------------------------------------------------------------------------------

class ConsoleSocket:
    """The listening end of --console-socket; one terminal per connection."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "console.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(20)

    def accept(self):
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(20)
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(64))
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
                return Terminal(fds[0])
        raise Failure("the console socket carried no descriptor")

    def close(self):
        self.listener.close()


class Terminal:
    """The master side of a pseudo-terminal, driven like a person would."""

    def __init__(self, fd):
        self.fd = fd
        self.text = ""
        self.seen = 0

    def send(self, text):
        os.write(self.fd, text.encode())

    def expect(self, pattern, seconds=20):
        """Waits until new output matches, and consumes up to the end of the match."""
        end = time.monotonic() + seconds
        while True:
            match = re.compile(pattern, re.M).search(self.text, self.seen)
            if match:
                self.seen = match.end()
                return match
            left = end - time.monotonic()
            if left <= 0 or not self._read(left):
                raise Failure(f"the terminal did not show {pattern!r}, but {self.text[self.seen:][-800:]!r}")

    def drain(self, seconds=20):
        """Reads until the other side is closed."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._read(end - time.monotonic()):
            pass
        return self.text

    def _read(self, seconds):
        ready, _, _ = select.select([self.fd], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # EIO: the last slave was closed.
            return False
        self.text += data.decode("utf-8", "replace")
        return bool(data)

    def close(self):
        os.close(self.fd)


# --- Sandboxes -------------------------------------------------------------------------------------------------------

class Container:
    """One container, through the CLI commands one at a time."""

    def __init__(self, test, bundle, root, container_id):
        self.test = test
        self.runtime = test.runtime
        self.bundle = bundle
        self.root = root
        self.id = container_id
        self.out_path = os.path.join(bundle, "stdout")
        self.err_path = os.path.join(bundle, "stderr")
        self.pid_file = os.path.join(bundle, "pid")

    def _detached(self, *args):
        # The container inherits our descriptors: files, because a pipe would not end before the container does.
        with open(self.out_path, "ab") as out, open(self.err_path, "ab") as err:
            process = self.runtime.popen(*args, stdout=out, stderr=err)
        try:
            return process.wait(60)
        except subprocess.TimeoutExpired:
            finish(process, 0)
            raise Failure(f"`{args[0]}` does not return") from None

    def create(self, *flags):
        code = self._detached("create", "--bundle", self.bundle, "--pid-file", self.pid_file, *flags, self.id)
        check(code == 0, f"create failed with {code}: {self.err()}")
        return self

    def start(self):
        self.call("start", self.id).ok()
        return self

    def run_detached(self, *flags):
        code = self._detached("run", "--detach", "--bundle", self.bundle, "--pid-file", self.pid_file, *flags, self.id)
        check(code == 0, f"run --detach failed with {code}: {self.err()}")
        return self

    def call(self, *args, timeout=60, **kwargs):
        result = self.runtime.call(*args, timeout=timeout, **kwargs)
        return Result(result.returncode, result.stdout, result.stderr)

    def exec(self, args, *flags, stdin=None, timeout=60):
        kwargs = {"input": stdin, "stdin": None} if stdin is not None else {}
        return self.call("exec", *flags, self.id, *args, timeout=timeout, **kwargs)

    def kill(self, *args):
        return self.call("kill", self.id, *args)

    def delete(self, *flags):
        return self.call("delete", *flags, self.id)

    def state(self):
        return self.runtime.state(self.id)

    def status(self):
        state = self.state()
        return state["status"] if state else None

    def wait_for(self, status, seconds=20):
        check(wait_until(lambda: self.status() == status, seconds), f"status stays {self.status()}, not {status}")
        return self

    def pid(self):
        with open(self.pid_file) as f:
            return int(f.read())

    def exit_status(self, seconds=30):
        """The status of the process in the pid file, which is our child because we are a subreaper.

        This is how containerd's shim learns it. 128+n for a signal n, in whichever of the two ways it is told.
        """
        pid, end = self.pid(), time.monotonic() + seconds
        while time.monotonic() < end:
            got, status = os.waitpid(pid, os.WNOHANG)
            if got == pid:
                return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
            time.sleep(0.01)
        raise Failure(f"process {pid} of the container does not end")

    def end(self):
        """Kills and removes it, reaping what a stand-in left to us: its init ends only after all its processes."""
        self.kill("KILL")

        def reap():
            try:
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            except ChildProcessError:
                pass
            return self.status() == "stopped"

        check(wait_until(reap), f"status stays {self.status()}, not stopped")
        self.delete().ok()

    def out(self):
        with open(self.out_path, errors="replace") as f:
            return f.read()

    def err(self):
        if not os.path.exists(self.err_path):
            return ""
        with open(self.err_path, errors="replace") as f:
            return f.read()

    def wait_for_output(self, text, seconds=30):
        check(wait_until(lambda: text in self.out(), seconds),
              f"the output never shows {text!r}: {self.out()[-800:]!r} {self.err()[-800:]!r}")
        return self


class Test:
    """The context of one scenario in one mode."""

    def __init__(self, runtime, overlay, verbose=False):
        self.base_runtime = runtime
        self.overlay = overlay
        self.verbose = verbose
        flags = []
        if runtime.is_ours:
            flags = ["--overlay2=none" if overlay == "host" else "--overlay2=root:memory"]
        self.runtime = runtime.with_flags(*flags)
        self.scratch = os.path.realpath(tempfile.mkdtemp(prefix="e2e-"))  # what links in /proc say
        os.chmod(self.scratch, 0o755)
        self.ids = []
        self.writable_roots = []
        self.closing = []
        self.notes = []
        self._sequence = 0

    @property
    def ours(self):
        return self.runtime.is_ours

    def skip(self, reason):
        raise Skipped(reason)

    def note(self, text):
        """A measurement or remark that is printed with the outcome."""
        self.notes.append(text)

    def directory(self, stem):
        self._sequence += 1
        path = os.path.join(self.scratch, f"{stem}{self._sequence}")
        os.mkdir(path)
        return path

    def root(self, kind):
        """A fresh writable root of a kind ("busybox" or "debian")."""
        try:
            lower = {"busybox": roots.busybox, "debian": roots.debian}[kind]()
        except roots.Unavailable as e:
            raise Skipped(str(e)) from None
        writable = roots.WritableRoot(lower, self.directory("root"))
        self.writable_roots.append(writable)
        return writable

    def new_id(self):
        container_id = self.runtime.new_id("e2e")
        self.ids.append(container_id)
        return container_id

    def container(self, args, root="busybox", edit=None, **spec):
        """A container that does not exist yet. `edit` may change the config before it is written."""
        if isinstance(args, str):
            args = ["/bin/sh", "-c", args]
        if isinstance(root, str):
            root = self.root(root)
        bundle = self.directory("bundle")
        oci = config(args, root=root.path, **spec)
        if edit:
            edit(oci)
        self.runtime.write_bundle(bundle, oci)
        return Container(self, bundle, root, self.new_id())

    def run(self, args, root="busybox", stdin=None, timeout=100, flags=(), edit=None, **spec):
        """Runs a guest program (a string is a script for /bin/sh) to its end through `run`."""
        container = self.container(args, root, edit, **spec)
        return self.run_container(container, stdin, timeout, flags)

    def run_container(self, container, stdin=None, timeout=100, flags=()):
        process = self.runtime.popen(*flags, "run", "--bundle", container.bundle, container.id,
                                     stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout)
        except subprocess.TimeoutExpired:
            self.runtime.destroy(container.id)
            finish(process, 5)
            out, err = process.communicate()
            raise Failure(f"the sandbox does not end in {timeout} s; stdout {out[-800:]!r} stderr {err[-800:]!r}") from None
        return Result(process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))

    def console(self):
        console = ConsoleSocket(self.directory("console"))
        self.closing.append(console.close)
        return console

    def expect_on_host(self, root, path, content=None):
        """After a guest wrote `path` in its root: on the host with --overlay2=none, nowhere with a memory overlay."""
        host = os.path.join(root.path, path.lstrip("/"))
        if self.overlay == "host":
            check(os.path.lexists(host), f"{path} is not on the host")
            if content is not None:
                with open(host, errors="replace") as f:
                    equal(f.read(), content, f"{path} on the host")
        else:
            check(not os.path.lexists(host), f"{path} is on the host in spite of the memory overlay")

    def cleanup(self):
        """Ends and removes everything; returns what should not have been left."""
        left = []
        for close in reversed(self.closing):
            try:
                close()
            except OSError:
                pass
        for container_id in self.ids:
            if self.runtime.state(container_id) is not None:
                self.runtime.destroy(container_id)
        # Zombies of detached containers arrive here; whatever still runs was left by the runtime.
        me = os.getpid()

        def reap():
            try:
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
            except ChildProcessError:
                pass
            return not children_of(me)

        if not wait_until(reap, 5):
            for pid in descendants(me):
                left.append("process " + describe_process(pid))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            wait_until(reap, 5)
        for writable in self.writable_roots:
            writable.close()
        for point in mount_points():
            if self.scratch in point or self.runtime.root in point:
                left.append(f"mount {point}")
                subprocess.run(["umount", "-l", point], capture_output=True)
        if self.ids:
            for path in cgroups_named(self.ids):
                left.append(f"cgroup {path}")
                try:
                    os.rmdir(path)
                except OSError:
                    pass
            for directory, names, files in os.walk(self.runtime.root):
                left += [f"state {os.path.join(directory, name)}" for name in names + files
                         if any(container_id in name for container_id in self.ids)]
        self.runtime.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        return left
