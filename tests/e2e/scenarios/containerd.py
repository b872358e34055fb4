"""containerd and ctr of Debian with containerd's own runc shim, pointed at our binary by --runc-binary.

A containerd of its own is started for each scenario, with root, state and socket in the scenario's scratch directory.
"""

import hashlib
import io
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import tarfile
import time

from common import roots
from framework import Terminal, check, contains, equal, matches, scenario, wait_until

IMAGE = "docker.io/library/probe:latest"


def busybox_image(path):
    """An OCI image archive made of the busybox root."""
    layer_path = path + ".layer"
    with tarfile.open(layer_path, "w") as tar:
        tar.add(roots.busybox(), arcname=".", filter=lambda info: info)
    with open(layer_path, "rb") as f:
        layer = f.read()
    os.unlink(layer_path)
    blobs = {}

    def blob(data):
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"digest": "sha256:" + digest, "size": len(data)}

    configuration = {"architecture": "amd64", "os": "linux",
                     "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["/bin/sh"], "WorkingDir": "/"},
                     "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                           **blob(json.dumps(configuration).encode())},
                "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", **blob(layer)}]}
    index = {"schemaVersion": 2, "manifests": [
        {"mediaType": "application/vnd.oci.image.manifest.v1+json", **blob(json.dumps(manifest).encode()),
         "annotations": {"io.containerd.image.name": IMAGE, "org.opencontainers.image.ref.name": "latest"},
         "platform": {"architecture": "amd64", "os": "linux"}}]}
    with tarfile.open(path, "w") as tar:
        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        add("index.json", json.dumps(index).encode())
        for digest, data in blobs.items():
            add("blobs/sha256/" + digest, data)


class Containerd:
    def __init__(self, t):
        for program in ("containerd", "ctr", "containerd-shim-runc-v2"):
            if shutil.which(program) is None:
                t.skip(f"no {program}: install Debian's containerd")
        if os.geteuid() != 0:
            t.skip("needs root")
        self.t = t
        base = t.directory("containerd")
        self.address = os.path.join(base, "c.sock")
        self.log = os.path.join(base, "log")
        self.runc_root = os.path.join(base, "runc-root")
        config = os.path.join(base, "config.toml")
        with open(config, "w") as f:
            f.write(f'version = 2\nroot = "{base}/root"\nstate = "{base}/state"\n'
                    'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
                    f'[grpc]\n  address = "{self.address}"\n[ttrpc]\n  address = "{base}/t.sock"\n')
        # The shim passes only its own flags; the rest of ours come from a wrapper.
        self.binary = os.path.join(base, "runtime")
        with open(self.binary, "w") as f:
            f.write("#!/bin/sh\nexec " + " ".join([t.runtime.path, *t.runtime.flags]) + ' "$@"\n')
        os.chmod(self.binary, 0o755)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["containerd", "--config", config], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log)
        t.closing.append(self.close)
        if not wait_until(lambda: self.process.poll() is not None or self.ctr("version").returncode == 0, 20):
            t.skip("containerd does not start: " + open(self.log).read()[-300:])
        if self.process.poll() is not None:
            t.skip("containerd ends at once: " + open(self.log).read()[-300:])
        archive = os.path.join(base, "image.tar")
        busybox_image(archive)
        imported = self.ctr("image", "import", "--snapshotter", self.snapshotter, archive)
        if imported.returncode != 0:
            t.skip("ctr cannot import an image here: " + imported.stderr[-300:])

    snapshotter = "native"  # Needs nothing from the host's kernel.

    def ctr(self, *args, timeout=60, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(["ctr", "--address", self.address, *args], capture_output=True, text=True, timeout=timeout,
                              **kwargs)

    def run_arguments(self, *flags):
        return ["run", "--snapshotter", self.snapshotter, "--runc-binary", self.binary, "--runc-root", self.runc_root,
                *flags]

    def run(self, name, *command, flags=(), **kwargs):
        return self.ctr(*self.run_arguments("--rm", *flags), IMAGE, name, *command, **kwargs)

    def tasks(self):
        return self.ctr("task", "list").stdout

    def close(self):
        for name in self.ctr("task", "list", "-q").stdout.split():
            self.ctr("task", "kill", "--signal", "KILL", name)
            wait_until(lambda: "STOPPED" in self.tasks(), 5)
            self.ctr("task", "delete", "--force", name)
        for name in self.ctr("container", "list", "-q").stdout.split():
            self.ctr("container", "delete", name)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@scenario(timeout=180)
def ctr_run_gives_output_and_exit_codes(t):
    c = Containerd(t)
    result = c.run("hello", "/bin/sh", "-c", "echo out; echo err >&2; echo $FROM_IMAGE")
    equal((result.returncode, result.stdout, result.stderr), (0, "out\nyes\n", "err\n"))
    for code in (0, 1, 42):
        equal(c.run(f"code{code}", "/bin/sh", "-c", f"exit {code}").returncode, code, "exit code")
    result = c.run("stdin", "/bin/head", "-n", "1", input="through ctr\n", stdin=None)
    equal(result.stdout, "through ctr\n")
    equal(c.ctr("container", "list", "-q").stdout, "", "containers after --rm")


@scenario(timeout=180)
def ctr_run_t_has_a_terminal(t):
    c = Containerd(t)
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("ctr", ["ctr", "--address", c.address, *c.run_arguments("--rm", "-t"), IMAGE, "term", "/bin/sh", "-c",
                          "tty; read line; echo \"got $line\"; exit 5"])
    terminal = Terminal(master)
    t.closing.append(terminal.close)
    terminal.expect(r"/dev/(pts/\d+|console)", 30)
    terminal.send("typed\r")
    terminal.expect("got typed")
    terminal.drain(10)
    _, status = os.waitpid(pid, 0)
    equal(os.waitstatus_to_exitcode(status), 5, "exit code")


@scenario(timeout=180)
def ctr_runs_execs_kills_and_deletes_a_task(t):
    c = Containerd(t)
    started = c.ctr(*c.run_arguments("--detach"), IMAGE, "task", "/bin/sh", "-c",
                    "trap 'exit 12' TERM; while :; do sleep 0.1; done")
    equal(started.returncode, 0, started.stderr)
    matches(c.tasks(), r"^task\s+\d+\s+RUNNING")
    result = c.ctr("task", "exec", "--exec-id", "e1", "task", "/bin/sh", "-c", "echo from exec; exit 6")
    equal((result.returncode, result.stdout), (6, "from exec\n"), result.stderr)
    contains(c.ctr("task", "ps", "task").stdout, "PID")
    result = c.ctr("task", "pause", "task")
    if result.returncode == 0:
        matches(c.tasks(), r"^task\s+\d+\s+PAUSED")
        equal(c.ctr("task", "resume", "task").returncode, 0)
    elif t.ours:
        check(False, "pause: " + result.stderr)
    equal(c.ctr("task", "kill", "--signal", "TERM", "task").returncode, 0)
    check(wait_until(lambda: "STOPPED" in c.tasks(), 20), c.tasks())
    deleted = c.ctr("task", "delete", "task")
    contains(deleted.stderr, "exit code 12", "what delete reports")
    equal(c.ctr("container", "delete", "task").returncode, 0)
    equal(c.tasks().strip().splitlines()[1:], [], "tasks")


@scenario(timeout=180)
def ctr_reports_the_reason_of_a_failed_start(t):
    c = Containerd(t)
    result = c.run("absent", "/no/such/binary")
    check(result.returncode != 0, "it succeeded")
    contains(result.stderr, "/no/such/binary", "stderr")
    equal(c.ctr("container", "list", "-q").stdout, "", "containers after the failure")


@scenario(timeout=180)
def ctr_kill_of_what_ignores_term(t):
    c = Containerd(t)
    started = c.ctr(*c.run_arguments("--detach"), IMAGE, "stubborn", "/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    equal(started.returncode, 0, started.stderr)
    time.sleep(0.3)
    c.ctr("task", "kill", "--signal", "TERM", "stubborn")
    time.sleep(0.5)
    contains(c.tasks(), "RUNNING")
    c.ctr("task", "kill", "--signal", "KILL", "stubborn")
    check(wait_until(lambda: "STOPPED" in c.tasks(), 20), c.tasks())
    contains(c.ctr("task", "delete", "stubborn").stderr, "exit code 137", "what delete reports")
    c.ctr("container", "delete", "stubborn")
