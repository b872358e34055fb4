"""What the OCI configuration asks for is what the guest gets."""

import os
import subprocess

from common.runtime import DOCKER_CAPABILITIES
from framework import check, contains, equal, matches, scenario

SHOW_CAPABILITIES = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | tr -d '\\t'"


def bind(source, destination, *options):
    return {"destination": destination, "type": "bind", "source": source, "options": ["bind", *options]}


@scenario(quick=True)
def user_groups_and_umask(t):
    def edit(spec):
        spec["process"]["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [2000, 3000], "umask": 0o027}
    result = t.run("id; umask; touch /tmp/f; stat -c '%a %u %g' /tmp/f", edit=edit, capabilities=[]).ok()
    matches(result.out, r"\Auid=1000\S* gid=1001\S* groups=(1001\S*,)?2000\S*,3000\S*\n0027\n640 1000 1001\n\Z", "stdout")


@scenario(quick=True)
def capabilities_are_exactly_those_of_the_config(t):
    result = t.run(SHOW_CAPABILITIES, capabilities=DOCKER_CAPABILITIES).ok()
    mask = "00000000a80425fb"
    equal(result.out, f"CapInh:{'0' * 16}\nCapPrm:{mask}\nCapEff:{mask}\nCapBnd:{mask}\nCapAmb:{'0' * 16}\n")
    equal(t.run("chown 5:5 /tmp; mount -t tmpfs x /mnt 2>/dev/null; echo $?; hostname new 2>/dev/null; echo $?",
                capabilities=["CAP_CHOWN"]).ok().out, "1\n1\n" if not t.ours else "1\n1\n")


@scenario(quick=True)
def a_user_without_capabilities_has_none(t):
    result = t.run(SHOW_CAPABILITIES + "; cat /etc/secret 2>&1 | tail -1; touch /new 2>/dev/null; echo $?",
                   uid=1000, gid=1000, capabilities=[]).ok()
    contains(result.out, f"CapEff:{'0' * 16}\n")
    check(result.out.endswith("\n1\n"), "an unprivileged user wrote to /")


@scenario()
def ambient_capabilities_survive_exec_by_a_user(t):
    def edit(spec):
        for kind in ("bounding", "permitted", "inheritable", "effective", "ambient"):
            spec["process"]["capabilities"][kind] = ["CAP_NET_BIND_SERVICE"]
    result = t.run(SHOW_CAPABILITIES, uid=1000, gid=1000, edit=edit).ok()
    equal(result.out, "".join(f"Cap{kind}:0000000000000400\n" for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")))


@scenario(quick=True)
def no_new_privileges(t):
    for wanted in (True, False):
        result = t.run("grep NoNewPrivs /proc/self/status", noNewPrivileges=wanted).ok()
        equal(result.out, f"NoNewPrivs:\t{int(wanted)}\n")


@scenario(quick=True)
def resource_limits(t):
    limits = [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
              {"type": "RLIMIT_FSIZE", "soft": 1 << 20, "hard": 1 << 20}]
    result = t.run("ulimit -n; ulimit -Hn; ulimit -c; ulimit -f; dd if=/dev/zero of=/tmp/f bs=1M count=2 2>/dev/null;"
                   "echo $?; stat -c %s /tmp/f", rlimits=limits).ok()
    equal(result.out, "64\n128\n0\n2048\n153\n1048576\n", "stdout")


@scenario(quick=True)
def a_read_only_root_refuses_writes_and_its_mounts_do_not(t):
    result = t.run(r"""
        for f in /new /etc/passwd /bin/new; do (echo x > $f) 2>&1 | grep -c 'Read-only file system'; done
        rm /etc/passwd 2>/dev/null; echo $?; mkdir /d 2>/dev/null; echo $?
        echo fine > /tmp/f; cat /tmp/f; echo x > /dev/null; echo $?
    """, readonly=True).ok()
    equal(result.out, "1\n1\n1\n1\n1\nfine\n0\n", "stdout")


@scenario(quick=True)
def a_writable_bind_mount_is_written_through(t):
    source = t.directory("source")
    with open(os.path.join(source, "in"), "w") as f:
        f.write("from the host\n")
    result = t.run("cat /data/in; echo from the guest > /data/out; mkdir /data/d; mv /data/in /data/d; ln -s x /data/l",
                   mounts=[bind(source, "/data", "rw")]).ok()
    equal(result.out, "from the host\n")
    with open(os.path.join(source, "out")) as f:
        equal(f.read(), "from the guest\n", "the file on the host")
    check(os.path.exists(os.path.join(source, "d/in")), "the rename did not reach the host")
    equal(os.readlink(os.path.join(source, "l")), "x")


@scenario(quick=True)
def a_read_only_bind_mount_refuses_writes(t):
    source = t.directory("source")
    with open(os.path.join(source, "in"), "w") as f:
        f.write("content\n")
    result = t.run("cat /data/in; (echo x > /data/in) 2>&1 | grep -c 'Read-only'; rm /data/in 2>/dev/null; echo $?;"
                   "touch /data/new 2>/dev/null; echo $?", mounts=[bind(source, "/data", "ro")]).ok()
    equal(result.out, "content\n1\n1\n1\n")
    equal(os.listdir(source), ["in"], "the directory on the host")


@scenario(quick=True)
def a_file_can_be_bind_mounted(t):
    source = os.path.join(t.directory("source"), "hosts")
    with open(source, "w") as f:
        f.write("127.0.0.1 elsewhere\n")
    result = t.run("cat /etc/hosts; echo more >> /etc/hosts", mounts=[bind(source, "/etc/hosts", "rw")]).ok()
    equal(result.out, "127.0.0.1 elsewhere\n")
    with open(source) as f:
        equal(f.read(), "127.0.0.1 elsewhere\nmore\n", "the file on the host")


@scenario()
def a_bind_mount_sees_what_the_host_changes(t):
    source = t.directory("source")
    c = t.container("until test -e /data/go; do sleep 0.05; done; cat /data/go; touch /data/seen; "
                    "while test -e /data/go; do sleep 0.05; done; echo removed",
                    mounts=[bind(source, "/data", "rw")]).run_detached()
    with open(os.path.join(source, "go.tmp"), "w") as f:
        f.write("now\n")
    os.rename(os.path.join(source, "go.tmp"), os.path.join(source, "go"))
    c.wait_for_output("now")
    from framework import wait_until
    check(wait_until(lambda: os.path.exists(os.path.join(source, "seen"))), "the guest's file does not appear")
    os.unlink(os.path.join(source, "go"))
    c.wait_for_output("removed")
    equal(c.exit_status(), 0)
    c.delete().ok()


@scenario()
def no_link_is_followed_out_of_a_mount(t):
    source = t.directory("source")
    secret = os.path.join(t.directory("secret"), "secret")
    with open(secret, "w") as f:
        f.write("secret of the host\n")
    os.symlink(secret, os.path.join(source, "absolute"))
    os.symlink("../../../../.." + secret, os.path.join(source, "relative"))
    result = t.run("cat /data/absolute /data/relative 2>/dev/null; echo $?; ln -s /etc/hostname-of-the-host /data/own;"
                   "cat /data/own 2>/dev/null; echo $?", mounts=[bind(source, "/data", "rw")]).ok()
    equal(result.out, "1\n1\n")


@scenario()
def tmpfs_mounts_take_their_options(t):
    mount = {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "nodev", "noexec", "mode=1711", "uid=7", "gid=8", "size=1m"]}
    result = t.run("stat -c '%a %u %g' /scratch; dd if=/dev/zero of=/scratch/f bs=64k count=32 2>/dev/null; echo $?;"
                   "rm /scratch/f; cp /bin/busybox /scratch/true 2>/dev/null; grep -c ' /scratch tmpfs' /proc/mounts;"
                   "printf '#!/bin/sh\\n' > /scratch/x; chmod +x /scratch/x; /scratch/x 2>/dev/null; echo $?",
                   mounts=[mount]).ok()
    equal(result.out, "1711 7 8\n1\n1\n126\n")


@scenario(quick=True)
def masked_paths_are_empty_and_readonly_paths_are_read_only(t):
    def edit(spec):
        spec["linux"]["maskedPaths"] = ["/etc/group", "/var/tmp", "/no/such/path"]
        spec["linux"]["readonlyPaths"] = ["/etc/passwd", "/root", "/no/such/path"]
    root = t.root("busybox")
    with open(os.path.join(root.path, "var/tmp/hidden"), "w"):
        pass
    result = t.run("cat /etc/group | wc -c; ls /var/tmp | wc -l; head -c 4 /etc/passwd; echo;"
                   "(echo x > /etc/passwd) 2>&1 | grep -c 'Read-only'; touch /root/new 2>/dev/null; echo $?",
                   root=root, edit=edit).ok()
    equal(result.out, "0\n0\nroot\n1\n1\n")


@scenario()
def hooks_run_at_their_time_with_the_state_on_stdin(t):
    log = os.path.join(t.directory("hooks"), "log")

    def hook(name):
        script = f'printf "{name} " >> {log}; sed -n \'s/.*"status": *"\\([a-z]*\\)".*/\\1/p\' | head -1 >> {log}'
        return [{"path": "/bin/sh", "args": ["sh", "-c", f"tr ',{{' '\\n\\n' | {script.split('; ', 1)[0] and 'cat'} > {log}.in; "
                                            + f'printf "{name} " >> {log}; sed -n \'s/.*"status": *"\\([a-z]*\\)".*/\\1/p\' {log}.in | head -1 >> {log}'],
                 "env": ["PATH=/usr/bin:/bin"]}]

    def edit(spec):
        spec["hooks"] = {kind: hook(kind) for kind in ("createRuntime", "poststart", "poststop")}
    c = t.container("sleep 0.3", edit=edit).create()
    with open(log) as f:
        contains(f.read(), "createRuntime creat", "the log after create")
    c.start()
    c.wait_for("stopped")
    c.exit_status()
    c.delete().ok()
    with open(log) as f:
        lines = f.read().splitlines()
    equal([line.split()[0] for line in lines], ["createRuntime", "poststart", "poststop"], "the order")
    equal(lines[-1], "poststop stopped")


@scenario()
def a_hook_that_fails_stops_the_start(t):
    marker = os.path.join(t.directory("marker"), "ran")

    def edit(spec):
        spec["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo hook says no >&2; exit 3"]}]}
    c = t.container(f"echo ran", edit=edit)
    result = t.run_container(c)
    check(result.code != 0, "it ran in spite of the hook")
    equal(result.out, "", "stdout")
    check(not os.path.exists(marker), "the guest ran")
    check(c.state() is None, "a state is left")


@scenario()
def a_hook_has_its_time_limit(t):
    def edit(spec):
        spec["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}]}
    c = t.container(["/bin/true"], edit=edit)
    check(t.run_container(c, timeout=60).code != 0, "it ran in spite of the hook")


@scenario(quick=True)
def standard_devices_exist(t):
    result = t.run(r"""
        for d in null zero full random urandom tty ptmx; do test -c /dev/$d && printf "$d "; done; echo
        head -c 4 /dev/zero | od -An -tx1; head -c 100 /dev/urandom | wc -c; echo x > /dev/null
        ls -d /dev/shm /dev/pts /dev/fd /dev/stdin /dev/stdout /dev/stderr | wc -l
        echo through > /dev/stderr
    """).ok()
    equal(result.out, "null zero full random urandom tty ptmx \n 00 00 00 00\n100\n6\n")
    equal(result.err, "through\n")


@scenario(ours_only="runc mounts only what the configuration names")
def shared_memory_has_room_where_no_mount_is_configured(t):
    def edit(spec):
        spec["mounts"] = [m for m in spec["mounts"] if m["destination"] in ("/proc", "/dev")]
    result = t.run("head -c 5000000 /dev/zero > /dev/shm/file && stat -c '%a %s' /dev/shm /dev/shm/file", edit=edit).ok()
    matches(result.out, r"^1777 \d+\n\d+ 5000000$")


@scenario()
def the_guest_sees_none_of_the_hosts_files_or_processes(t):
    result = t.run(f"ls {t.scratch} 2>/dev/null | wc -l; ls /proc | grep -c '^[0-9]*$'; cat /proc/1/environ | tr '\\0' '\\n' "
                   "| grep -c E2E; cat /proc/self/mountinfo | grep -c e2e-").out
    lines = result.splitlines()
    equal((lines[0], lines[2]), ("0", "0"))
    check(int(lines[1]) < 10, "the host's processes are visible")
    if t.ours:
        equal(lines[3], "0", "mounts that name the host's paths")


@scenario()
def only_loopback_without_a_network(t):
    result = t.run("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '; ping -c 1 -W 1 8.8.8.8 >/dev/null 2>&1; "
                   "test $? -ne 0 && echo unreachable")
    equal(result.out, "lo\nunreachable\n")


@scenario(ours_only="annotations that name flags are gVisor's")
def unknown_annotations_and_fields_are_accepted(t):
    def edit(spec):
        spec["annotations"] = {"org.example.key": "value"}
        spec["unknownField"] = {"x": 1}
        spec["linux"]["unknownToo"] = []
    c = t.container(["/bin/true"], edit=edit).create()
    equal(c.state().get("annotations"), {"org.example.key": "value"}, "annotations in state")
    c.start()
    c.exit_status()
    c.delete().ok()


@scenario()
def a_path_with_a_symlink_in_the_mount_destination_stays_in_the_root(t):
    root = t.root("busybox")
    os.symlink("/", os.path.join(root.path, "loop"))
    os.symlink("/etc", os.path.join(root.path, "link"))
    source = t.directory("source")
    with open(os.path.join(source, "inside"), "w") as f:
        f.write("inside\n")
    result = t.run("cat /etc/deep/inside", root=root, mounts=[bind(source, "/loop/link/deep", "ro")]).ok()
    equal(result.out, "inside\n")
    check(not os.path.exists("/etc/deep"), "the mount escaped to the host's /etc")


@scenario(ours_only="a stand-in's limit is the host kernel's affair")
def a_guest_beyond_its_memory_limit_dies_and_the_runtime_says_so(t):
    def edit(spec):
        spec["linux"]["resources"]["memory"] = {"limit": 256 << 20}
    if "--ignore-cgroups" in t.runtime.flags:
        t.skip("cgroups are ignored")
    result = t.run(["/usr/bin/python3", "-c", "x = []\nwhile True: x.append(bytearray(1 << 24))"], root="debian", edit=edit)
    check(result.code != 0, "it survived")
