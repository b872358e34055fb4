"""The root file systems that sandboxes run on: made once, kept in a cache directory, never written to again."""

import fcntl
import hashlib
import os
import shutil
import subprocess

DEBIAN_PACKAGES = ("python3 perl gcc g++ make git xz-utils redis-server redis-tools sqlite3 coreutils bash "
                   "nginx-light procps strace gdb").split()
MIRROR = os.environ.get("RUNSC_TEST_MIRROR", "http://deb.debian.org/debian")


def cache_directory():
    path = os.environ.get("RUNSC_TEST_CACHE") or os.path.expanduser("~/.cache/runsc-tests")
    os.makedirs(path, exist_ok=True)
    return path


class Unavailable(Exception):
    """A root cannot be made here; the text says why."""


def _made_once(name, make):
    final = os.path.join(cache_directory(), name)
    with open(final + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(final):
            partial = final + ".partial"
            shutil.rmtree(partial, ignore_errors=True)
            make(partial)
            os.rename(partial, final)
    return final


def busybox():
    """A root with Debian's static busybox and one link per applet."""
    def make(directory):
        binary = shutil.which("busybox")
        if binary is None:
            raise Unavailable("no busybox: install busybox-static")
        for sub in ("bin", "sbin", "etc", "proc", "sys", "dev", "tmp", "root", "usr/bin", "usr/sbin", "var/tmp", "mnt"):
            os.makedirs(os.path.join(directory, sub))
        os.chmod(os.path.join(directory, "tmp"), 0o1777)
        shutil.copy(binary, os.path.join(directory, "bin/busybox"))
        applets = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in applets:
            link = os.path.join(directory, "bin", applet)
            if not os.path.lexists(link):
                os.symlink("busybox", link)
        with open(os.path.join(directory, "etc/passwd"), "w") as f:
            f.write("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/tmp:/bin/sh\n")
        with open(os.path.join(directory, "etc/group"), "w") as f:
            f.write("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
    return _made_once("busybox", make)


def debian():
    """A Debian 12 root by mmdebstrap."""
    def make(directory):
        if shutil.which("mmdebstrap") is None:
            raise Unavailable("no mmdebstrap: install it to run what needs a Debian root")
        command = ["mmdebstrap", "--variant=minbase", "--include=" + ",".join(DEBIAN_PACKAGES), "bookworm", directory,
                   MIRROR]
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if result.returncode != 0:
            shutil.rmtree(directory, ignore_errors=True)
            raise Unavailable("mmdebstrap failed: " + result.stderr.strip().splitlines()[-1])
        shutil.rmtree(os.path.join(directory, "dev"), ignore_errors=True)
        os.makedirs(os.path.join(directory, "dev"))
    tag = hashlib.sha256(" ".join(DEBIAN_PACKAGES).encode()).hexdigest()[:8]
    return _made_once("debian12-" + tag, make)


class WritableRoot:
    """A root that may be written without touching the cache: an overlay mount, or a copy where mounts are refused.

    `upper` then holds exactly what was changed on the host.
    """

    def __init__(self, lower, scratch):
        self.path = os.path.join(scratch, "rootfs")
        self.upper = os.path.join(scratch, "upper")
        self.mounted = False
        for directory in (self.path, self.upper, os.path.join(scratch, "work")):
            os.makedirs(directory)
        options = f"lowerdir={lower},upperdir={self.upper},workdir={os.path.join(scratch, 'work')}"
        result = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, self.path], capture_output=True)
        if result.returncode == 0:
            self.mounted = True
        else:
            self.upper = None
            os.rmdir(self.path)
            subprocess.run(["cp", "-a", lower, self.path], check=True)

    def changes(self):
        """Regular files, links and directories changed on the host since the root was made (None: not known)."""
        if self.upper is None:
            return None
        found = []
        for directory, _, files in os.walk(self.upper):
            found += [os.path.relpath(os.path.join(directory, name), self.upper) for name in files]
        return sorted(found)

    def close(self):
        if self.mounted:
            if subprocess.run(["umount", self.path], capture_output=True).returncode != 0:
                subprocess.run(["umount", "-l", self.path], capture_output=True)
            self.mounted = False
