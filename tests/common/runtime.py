"""How the test and benchmark programs drive an OCI runtime: ours, or runc and crun as stand-ins."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

ALL_CAPABILITIES = ["CAP_" + name for name in """
AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER
KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW SETGID SETFCAP
SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE
SYS_TIME SYS_TTY_CONFIG WAKE_ALARM""".split()]
DOCKER_CAPABILITIES = ["CAP_" + name for name in """
CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
AUDIT_WRITE""".split()]



def host_capabilities():
    """The capabilities this machine can give at all; a stand-in runtime can only hand on what it has."""
    for line in open("/proc/self/status"):
        if line.startswith("CapBnd:"):
            bits = int(line.split()[1], 16)
    order = """CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE
    SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL
    SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ""".split()
    return {"CAP_" + name for number, name in enumerate(order) if bits >> number & 1}


STANDARD_MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
    {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777"]},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
]


def config(args, root="rootfs", readonly=False, terminal=False, env=None, cwd="/", uid=0, gid=0, capabilities=None,
           mounts=None, rlimits=None, hostname="sandbox", **more):
    """An OCI config.json as a dictionary. `more` holds further process fields."""
    capabilities = ALL_CAPABILITIES if capabilities is None else capabilities
    environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                   "TERM": "xterm"}
    environment.update(env or {})
    process = {
        "terminal": terminal,
        "user": {"uid": uid, "gid": gid},
        "args": list(args),
        "env": [f"{key}={value}" for key, value in environment.items()],
        "cwd": cwd,
        "capabilities": {kind: capabilities for kind in ("bounding", "effective", "permitted")},
        "rlimits": rlimits if rlimits is not None else [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 1024}],
        "noNewPrivileges": False,
    }
    process.update(more)
    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": root, "readonly": readonly},
        "hostname": hostname,
        "mounts": [dict(mount) for mount in STANDARD_MOUNTS + (mounts or [])],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def write_bundle(directory, spec):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "config.json"), "w") as f:
        json.dump(spec, f, indent=1)
    return directory


class Runtime:
    """A runtime binary, the global flags it gets, and a private --root."""

    def __init__(self, path, flags=(), name=None):
        resolved = shutil.which(path)
        if resolved is None:
            raise FileNotFoundError(f"no runtime at {path}")
        self.path = os.path.abspath(resolved)
        self.kind = os.path.basename(self.path)
        self.flags = list(flags)
        self.name = name or self.kind
        if self.kind == "crun":
            self.flags.append("--cgroup-manager=disabled")  # Debian's crun refuses hosts with both cgroup versions.
        self.root = tempfile.mkdtemp(prefix="runtime-root-")
        self._next = 0

    @property
    def is_ours(self):
        """Not a stand-in: it has gVisor's flags and its own kernel."""
        return self.kind not in ("runc", "crun")

    def write_bundle(self, directory, spec):
        """Like the function of this name, but within what a stand-in can do on this machine."""
        if not self.is_ours:
            possible = host_capabilities()
            sets = spec["process"].get("capabilities", {})
            for kind, names in sets.items():
                sets[kind] = [name for name in names if name in possible]
        return write_bundle(directory, spec)

    def with_flags(self, *flags):
        other = Runtime(self.path, self.flags + list(flags), self.name)
        return other

    def new_id(self, stem="c"):
        self._next += 1
        return f"{stem}-{os.getpid()}-{id(self) & 0xffff:x}-{self._next}"

    def command(self, *args):
        return [self.path, "--root", self.root, *self.flags, *args]

    def call(self, *args, timeout=60, **kwargs):
        """Runs one CLI command to its end; the CompletedProcess has text output."""
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.command(*args), capture_output=True, text=True, timeout=timeout, **kwargs)

    def popen(self, *args, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.command(*args), **kwargs)

    def state(self, container):
        result = self.call("state", container)
        return json.loads(result.stdout) if result.returncode == 0 else None

    def destroy(self, container):
        """Ends a container whatever its state; quiet when there is none."""
        for args in (("kill", container, "KILL"), ("delete", "--force", container)):
            try:
                self.call(*args, timeout=20)
            except subprocess.TimeoutExpired:
                pass

    def close(self):
        shutil.rmtree(self.root, ignore_errors=True)


def finish(process, seconds=10):
    """Waits for a process of ours, ends it if it does not end by itself, and says whether it did."""
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return False


def wait_until(condition, seconds=20, step=0.02):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(step)
    return condition()
