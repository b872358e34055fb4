"""Docker's daemon and client of Debian, with our binary as one of the daemon's runtimes.

A daemon of its own is started for each scenario, with its files and socket in the scenario's scratch directory, without
bridge and firewall rules: nothing of the host's network changes.
"""

import json
import os
import pty
import shutil
import signal
import subprocess

from common import roots
from framework import Terminal, check, contains, equal, scenario, wait_until

IMAGE = "probe"


class Docker:
    def __init__(self, t):
        for program in ("dockerd", "docker", "containerd"):
            if shutil.which(program) is None:
                t.skip(f"no {program}: install Debian's docker.io")
        if os.geteuid() != 0:
            t.skip("needs root")
        base = t.directory("docker")
        self.host = f"unix://{base}/d.sock"
        self.log = os.path.join(base, "log")
        configuration = os.path.join(base, "daemon.json")
        with open(configuration, "w") as f:
            json.dump({"runtimes": {"probe": {"path": t.runtime.path, "runtimeArgs": list(t.runtime.flags)}},
                       "default-runtime": "probe", "data-root": f"{base}/data", "exec-root": f"{base}/exec",
                       "pidfile": f"{base}/pid", "hosts": [self.host], "storage-driver": "vfs", "bridge": "none",
                       "iptables": False, "ip6tables": False}, f)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["dockerd", "--config-file", configuration], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log)
        t.closing.append(self.close)
        if not wait_until(lambda: self.process.poll() is not None or self("version").returncode == 0, 30):
            t.skip("dockerd does not start: " + open(self.log).read()[-300:])
        if self.process.poll() is not None:
            t.skip("dockerd ends at once: " + open(self.log).read()[-300:])
        with subprocess.Popen(["tar", "-C", roots.busybox(), "-c", "."], stdout=subprocess.PIPE) as tar:
            imported = self("import", "-", IMAGE, stdin=tar.stdout)
        if imported.returncode != 0:
            t.skip("docker cannot import an image here: " + imported.stderr[-300:])

    def __call__(self, *args, timeout=60, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(["docker", "--host", self.host, *args], capture_output=True, text=True, timeout=timeout,
                              **kwargs)

    def run(self, *args, **kwargs):
        return self("run", "--rm", "--network", "none", *args, **kwargs)

    def close(self):
        for name in self("ps", "--all", "--quiet").stdout.split():
            self("rm", "--force", name)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@scenario(timeout=180)
def docker_run_gives_output_and_exit_codes(t):
    docker = Docker(t)
    result = docker.run("--hostname", "box", IMAGE, "/bin/sh", "-c", "echo out; echo err >&2; hostname; exit 42")
    equal((result.returncode, result.stdout, result.stderr), (42, "out\nbox\n", "err\n"))
    result = docker.run("--interactive", IMAGE, "/bin/cat", input="through docker\n", stdin=None)
    equal((result.returncode, result.stdout), (0, "through docker\n"), result.stderr)
    result = docker.run(IMAGE, "/no/such/binary")
    equal(result.returncode, 127, "exit status for a missing binary")
    contains(result.stderr, "/no/such/binary", "stderr")
    equal(docker("ps", "--all", "--quiet").stdout, "", "containers after --rm")


@scenario(timeout=180)
def docker_options_take_effect(t):
    docker = Docker(t)
    volume = t.directory("volume")
    os.chmod(volume, 0o777)
    result = docker.run("--volume", f"{volume}:/volume", "--read-only", "--tmpfs", "/scratch", "--user", "1000:1000",
                        "--workdir", "/scratch", "--env", "WORD=given", "--ulimit", "nofile=77", "--cap-drop", "ALL",
                        "--security-opt", "no-new-privileges", "--memory", "100m", "--pids-limit", "50", IMAGE, "/bin/sh",
                        "-c", "id -u; pwd; echo $WORD; ulimit -n; grep NoNewPrivs /proc/self/status; "
                        "echo kept > /volume/file; echo x > /scratch/y && echo scratch; echo x > /bin/z || echo read-only")
    equal(result.stdout, "1000\n/scratch\ngiven\n77\nNoNewPrivs:\t1\nscratch\nread-only\n", result.stderr)
    with open(os.path.join(volume, "file")) as f:
        equal(f.read(), "kept\n", "the file in the volume")
    result = docker.run("--init", IMAGE, "/bin/sh", "-c", "echo $$; cat /proc/1/comm") if shutil.which("docker-init") \
        else docker.run(IMAGE, "/bin/sh", "-c", "echo 2; echo docker-init")
    equal(result.stdout, "2\ndocker-init\n", result.stderr)


@scenario(timeout=180)
def docker_execs_pauses_stops_and_restarts_a_container(t):
    docker = Docker(t)
    started = docker("run", "--detach", "--name", "box", "--network", "none", IMAGE, "/bin/sh", "-c",
                     "trap 'echo stopping; exit 12' TERM; while :; do sleep 0.1; done")
    equal(started.returncode, 0, started.stderr)

    def status():
        return docker("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "box").stdout.strip()

    result = docker("exec", "box", "/bin/sh", "-c", "echo from exec; exit 6")
    equal((result.returncode, result.stdout), (6, "from exec\n"), result.stderr)
    contains(docker("stats", "--no-stream", "box").stdout, "box")
    equal(docker("pause", "box").returncode, 0)
    equal(status(), "paused 0", "status")
    equal(docker("unpause", "box").returncode, 0)
    equal(docker("update", "--memory", "200m", "--memory-swap", "200m", "box").returncode, 0)
    equal(docker("stop", "box").returncode, 0)
    equal(status(), "exited 12", "status")
    equal(docker("logs", "box").stdout, "stopping\n", "the log")
    equal(docker("start", "box").returncode, 0)
    equal(status(), "running 0", "status")
    equal(docker("kill", "box").returncode, 0)
    check(wait_until(lambda: status() == "exited 137", 20), status())
    equal(docker("rm", "box").returncode, 0)


@scenario(timeout=180)
def docker_run_t_has_a_terminal(t):
    docker = Docker(t)
    pid, master = pty.fork()
    if pid == 0:
        os.execvp("docker", ["docker", "--host", docker.host, "run", "--rm", "--interactive", "--tty", "--network", "none",
                             IMAGE, "/bin/sh", "-c", "tty; read line; echo \"got $line\"; exit 5"])
    terminal = Terminal(master)
    t.closing.append(terminal.close)
    terminal.expect(r"/dev/(pts/\d+|console)", 30)
    terminal.send("typed\r")
    terminal.expect("got typed")
    terminal.drain(10)
    _, status = os.waitpid(pid, 0)
    equal(os.waitstatus_to_exitcode(status), 5, "exit code")
