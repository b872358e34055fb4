"""`exec`: further processes in a running container."""

import json
import os
import time

from framework import check, contains, equal, matches, scenario, wait_until

SLEEP = ["/bin/sleep", "1000"]


def running(t, args=SLEEP, **more):
    c = t.container(args, **more).run_detached()
    c.wait_for("running")
    return c


@scenario(quick=True)
def exec_shares_the_container_and_returns_the_status(t):
    c = running(t, "echo shared > /tmp/f; sleep 1000")
    wait_until(lambda: c.exec(["/bin/cat", "/tmp/f"]).out == "shared\n")
    equal(c.exec(["/bin/cat", "/tmp/f"]).ok().out, "shared\n")
    equal(c.exec(["/bin/sh", "-c", "exit 33"]).code, 33, "exit status")
    equal(c.exec(["/bin/sh", "-c", "kill -TERM $$"]).code, 143, "exit status")
    result = c.exec(["/bin/sh", "-c", "cat; echo err >&2"], stdin="input\n")
    equal((result.code, result.out, result.err), (0, "input\n", "err\n"))
    contains(c.exec(["/bin/ps"]).ok().out, "sleep 1000")
    c.delete("--force").ok()


@scenario(quick=True)
def exec_takes_user_environment_and_directory(t):
    c = running(t)
    result = c.exec(["/bin/sh", "-c", "id -u; id -g; pwd; echo $X"], "--user", "1000:1001", "--cwd", "/var/tmp", "--env",
                    "X=y z").ok()
    equal(result.out, "1000\n1001\n/var/tmp\ny z\n")
    # Without capabilities of its own, an unprivileged user gets none.
    result = c.exec(["/bin/grep", "CapEff", "/proc/self/status"], "--user", "1000:1000").ok()
    equal(result.out, "CapEff:\t" + "0" * 16 + "\n")
    c.delete("--force").ok()


@scenario()
def exec_adds_capabilities(t):
    c = running(t, capabilities=["CAP_CHOWN"])
    equal(c.exec(["/bin/grep", "CapEff", "/proc/self/status"]).ok().out, "CapEff:\t0000000000000001\n")
    more = c.exec(["/bin/grep", "CapEff", "/proc/self/status"], "--cap", "CAP_NET_RAW").ok().out
    equal(more, "CapEff:\t0000000000002001\n")
    c.delete("--force").ok()


@scenario(quick=True)
def exec_takes_a_process_file_as_containerd_gives_it(t):
    c = running(t)
    path = os.path.join(t.directory("process"), "process.json")
    with open(path, "w") as f:
        json.dump({"user": {"uid": 5, "gid": 6, "additionalGids": [7]}, "args": ["/bin/sh", "-c", "id -u; id -G; pwd; echo $A"],
                   "env": ["A=b", "PATH=/bin"], "cwd": "/tmp", "terminal": False}, f)
    result = c.call("exec", "--process", path, c.id).ok()
    equal(result.out, "5\n6 7\n/tmp\nb\n")
    c.delete("--force").ok()


@scenario(quick=True)
def a_detached_exec_writes_its_pid_and_ends_with_the_guests_status(t):
    c = running(t)
    pid_file = os.path.join(t.directory("exec"), "pid")
    out = os.path.join(os.path.dirname(pid_file), "out")
    with open(out, "w") as f:
        process = t.runtime.popen("exec", "--detach", "--pid-file", pid_file, c.id, "/bin/sh", "-c",
                                  "sleep 0.3; echo detached; exit 21", stdout=f)
    equal(process.wait(30), 0, "the exit status of exec --detach")
    with open(pid_file) as f:
        pid = int(f.read())
    _, status = os.waitpid(pid, 0)
    equal(os.waitstatus_to_exitcode(status), 21, "the status of the process in the pid file")
    with open(out) as f:
        equal(f.read(), "detached\n")
    equal(c.status(), "running")
    c.delete("--force").ok()


@scenario()
def the_end_of_init_ends_every_exec(t):
    c = running(t, "until test -e /tmp/end; do sleep 0.05; done; exit 4")
    with open(os.path.join(t.directory("exec"), "out"), "w") as f:
        process = t.runtime.popen("exec", c.id, "/bin/sleep", "1000", stdout=f)
    time.sleep(0.3)
    c.exec(["/bin/touch", "/tmp/end"]).ok()
    equal(process.wait(20), 137, "the exit status of the exec")
    equal(c.exit_status(), 4, "the exit status of init")
    c.delete().ok()


@scenario()
def twenty_execs_at_once(t):
    import subprocess
    c = running(t)
    processes = [t.runtime.popen("exec", c.id, "/bin/sh", "-c", f"sleep 0.2; echo {i}; exit {i}", stdout=subprocess.PIPE)
                 for i in range(20)]
    for i, process in enumerate(processes):
        out, _ = process.communicate(timeout=60)
        equal((process.returncode, out), (i, b"%d\n" % i))
    c.delete("--force").ok()


@scenario()
def a_killed_exec_command_does_not_hurt_the_container(t):
    import signal
    import subprocess
    c = running(t)
    process = t.runtime.popen("exec", c.id, "/bin/sh", "-c", "echo up; sleep 1000", stdout=subprocess.PIPE)
    equal(process.stdout.readline(), b"up\n")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    equal(c.exec(["/bin/echo", "alive"]).ok().out, "alive\n")
    equal(c.status(), "running")
    c.end()


@scenario()
def processes_of_an_exec_appear_in_ps_and_can_be_killed_with_all(t):
    c = running(t)
    c.exec(["/bin/sh", "-c", "(sleep 777 & sleep 778 &) > /dev/null 2>&1"], timeout=20).ok()
    contains(c.call("ps", c.id).ok().out, "sleep 778" if not t.ours else "sleep")
    killed = c.kill("--all", "KILL")
    if not t.ours:  # runc complains of zombies that only we could reap.
        c.end()
        return
    killed.ok()
    equal(c.exit_status(), 137)
    c.delete().ok()


@scenario(overlays=("memory", "host"))
def exec_and_init_see_one_file_system(t):
    root = t.root("busybox")
    c = running(t, "until test -e /from-exec; do sleep 0.05; done; echo init > /from-init; sleep 1000", root=root)
    c.exec(["/bin/sh", "-c", "echo exec > /from-exec"]).ok()
    check(wait_until(lambda: c.exec(["/bin/cat", "/from-init"]).out == "init\n"), "init's file does not appear")
    c.delete("--force").ok()
    t.expect_on_host(root, "/from-exec", "exec\n")
    t.expect_on_host(root, "/from-init", "init\n")
