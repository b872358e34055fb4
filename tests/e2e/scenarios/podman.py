"""Podman of Debian with our binary as its --runtime; its files are in the scenario's scratch directory."""

import os
import pty
import shutil
import subprocess

from common import roots
from framework import Terminal, check, contains, equal, scenario, wait_until

IMAGE = "probe"


class Podman:
    def __init__(self, t):
        for program in ("podman", "conmon"):
            if shutil.which(program) is None:
                t.skip(f"no {program}: install Debian's podman")
        if os.geteuid() != 0:
            t.skip("needs root")
        base = t.directory("podman")
        self.command = ["podman", "--root", f"{base}/root", "--runroot", f"{base}/runroot", "--tmpdir", f"{base}/tmp",
                        "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none",
                        "--runtime", t.runtime.path]
        # Podman passes each of these with two dashes before it.
        flags = " ".join(t.runtime.flags).split("--")[1:]
        for flag in flags:
            self.command += ["--runtime-flag", "=".join(flag.split())]
        t.closing.append(self.close)
        with subprocess.Popen(["tar", "-C", roots.busybox(), "-c", "."], stdout=subprocess.PIPE) as tar:
            imported = self("import", "-", IMAGE, stdin=tar.stdout)
        if imported.returncode != 0:
            t.skip("podman cannot import an image here: " + imported.stderr[-300:])

    def __call__(self, *args, timeout=60, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([*self.command, *args], capture_output=True, text=True, timeout=timeout, **kwargs)

    def run(self, *args, **kwargs):
        return self("run", "--rm", "--network", "none", *args, **kwargs)

    def close(self):
        self("rm", "--all", "--force", "--time", "0")


@scenario(timeout=180)
def podman_run_gives_output_and_exit_codes(t):
    podman = Podman(t)
    result = podman.run("--hostname", "box", IMAGE, "/bin/sh", "-c", "echo out; echo err >&2; hostname; exit 42")
    equal((result.returncode, result.stdout, result.stderr), (42, "out\nbox\n", "err\n"))
    result = podman.run("--interactive", IMAGE, "/bin/cat", input="through podman\n", stdin=None)
    equal((result.returncode, result.stdout), (0, "through podman\n"), result.stderr)
    result = podman.run(IMAGE, "/no/such/binary")
    equal(result.returncode, 127, "exit status for a missing binary")
    contains(result.stderr, "/no/such/binary", "stderr")
    equal(podman("ps", "--all", "--quiet").stdout, "", "containers after --rm")


@scenario(timeout=180)
def podman_options_take_effect(t):
    podman = Podman(t)
    volume = t.directory("volume")
    os.chmod(volume, 0o777)
    result = podman.run("--volume", f"{volume}:/volume", "--read-only", "--tmpfs", "/scratch", "--user", "1000:1000",
                        "--workdir", "/scratch", "--env", "WORD=given", "--ulimit", "nofile=77", "--cap-drop", "ALL",
                        "--security-opt", "no-new-privileges", "--memory", "100m", "--pids-limit", "50", IMAGE, "/bin/sh",
                        "-c", "id -u; pwd; echo $WORD; ulimit -n; grep NoNewPrivs /proc/self/status; "
                        "echo kept > /volume/file; echo x > /scratch/y && echo scratch; echo x > /bin/z || echo read-only")
    equal(result.stdout, "1000\n/scratch\ngiven\n77\nNoNewPrivs:\t1\nscratch\nread-only\n", result.stderr)
    with open(os.path.join(volume, "file")) as f:
        equal(f.read(), "kept\n", "the file in the volume")


@scenario(timeout=180)
def podman_execs_pauses_stops_and_restarts_a_container(t):
    podman = Podman(t)
    started = podman("run", "--detach", "--name", "box", "--network", "none", IMAGE, "/bin/sh", "-c",
                     "trap 'echo stopping; exit 12' TERM; while :; do sleep 0.1; done")
    equal(started.returncode, 0, started.stderr)

    def status():
        return podman("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "box").stdout.strip()

    result = podman("exec", "box", "/bin/sh", "-c", "echo from exec; exit 6")
    equal((result.returncode, result.stdout), (6, "from exec\n"), result.stderr)
    equal(podman("pause", "box").returncode, 0)
    equal(status(), "paused 0", "status")
    equal(podman("unpause", "box").returncode, 0)
    equal(podman("stop", "box").returncode, 0)
    equal(status(), "exited 12", "status")
    contains(podman("logs", "box").stdout, "stopping", "the log")
    equal(podman("start", "box").returncode, 0)
    equal(status(), "running 0", "status")
    equal(podman("kill", "box").returncode, 0)
    check(wait_until(lambda: status() == "exited 137", 20), status())
    equal(podman("rm", "box").returncode, 0)


@scenario(timeout=180)
def podman_run_t_has_a_terminal(t):
    podman = Podman(t)
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("podman", [*podman.command, "run", "--rm", "--interactive", "--tty", "--network", "none", IMAGE,
                             "/bin/sh", "-c", "tty; read line; echo \"got $line\"; exit 5"])
    terminal = Terminal(master)
    t.closing.append(terminal.close)
    terminal.expect(r"/dev/(pts/\d+|console)", 30)
    terminal.send("typed\r")
    terminal.expect("got typed")
    terminal.drain(10)
    _, status = os.waitpid(pid, 0)
    equal(os.waitstatus_to_exitcode(status), 5, "exit code")
