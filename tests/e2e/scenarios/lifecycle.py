"""create, start, state, kill, delete, list, ps, pause, resume, wait and events, as an engine uses them."""

import json
import os
import re
import signal
import subprocess
import time

from framework import check, contains, describe_process, descendants, equal, matches, scenario, wait_until

SLEEP = ["/bin/sleep", "1000"]
# A process 1 that has a handler for TERM, as daemons do.
DAEMON = "trap 'echo terminated; exit 17' TERM; trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done"


@scenario(quick=True)
def a_container_passes_through_created_running_and_stopped(t):
    c = t.container("echo started; exit 5").create()
    state = c.state()
    equal(state["status"], "created")
    equal(state["id"], c.id)
    equal(os.path.realpath(state["bundle"]), os.path.realpath(c.bundle))
    check(re.match(r"1\.\d+", state["ociVersion"]), "ociVersion")
    equal(state["pid"], c.pid(), "the pid in state")
    time.sleep(0.2)
    equal(c.out(), "", "nothing runs before start; the output")
    c.start().wait_for("stopped").wait_for_output("started\n")
    equal(c.exit_status(), 5, "exit status")
    c.delete().ok()
    check(c.state() is None, "a deleted container still has a state")


@scenario(quick=True)
def the_process_in_the_pid_file_ends_with_the_guests_status(t):
    for script, wanted in (("exit 0", 0), ("exit 200", 200), ("sh -c 'kill -KILL $$'; exit $?", 137)):
        c = t.container(script).create().start()
        equal(c.exit_status(), wanted, f"the status of {script!r}")
        c.delete().ok()


@scenario(quick=True)
def signals_reach_init(t):
    c = t.container(DAEMON).run_detached().wait_for_output("ready")
    c.kill("HUP").ok()
    c.wait_for_output("hup")
    equal(c.status(), "running")
    c.kill("SIGTERM").ok()
    equal(c.exit_status(), 17, "exit status")
    contains(c.out(), "terminated")
    c.delete().ok()


@scenario(quick=True)
def kill_ends_what_ignores_everything(t):
    c = t.container("trap '' TERM INT HUP; echo ready; while :; do sleep 1; done").run_detached().wait_for_output("ready")
    c.kill().ok()  # TERM is the default, and is ignored here.
    time.sleep(0.2)
    equal(c.status(), "running")
    c.kill("9").ok()
    equal(c.exit_status(), 137, "exit status")
    c.wait_for("stopped").delete().ok()


@scenario()
def init_without_a_handler_ignores_term_as_linux_has_it(t):
    c = t.container(SLEEP).run_detached()
    c.wait_for("running")
    c.kill("TERM").ok()
    time.sleep(0.2)
    equal(c.status(), "running")
    c.kill("KILL").ok()
    equal(c.exit_status(), 137)
    c.delete().ok()


@scenario()
def a_created_container_can_be_killed_and_deleted(t):
    c = t.container(SLEEP).create()
    c.kill("KILL").ok()
    c.wait_for("stopped")
    c.exit_status()
    c.delete().ok()
    c = t.container(SLEEP).create()
    c.delete("--force").ok()
    check(c.state() is None, "it still has a state")


@scenario(quick=True)
def delete_refuses_a_running_container_unless_forced(t):
    c = t.container(SLEEP).run_detached()
    c.wait_for("running")
    result = c.delete()
    check(result.code != 0, "delete of a running container succeeded")
    check(result.err.strip(), "no reason was given")
    equal(c.status(), "running")
    c.delete("--force").ok()
    check(c.state() is None, "it still has a state")


@scenario()
def delete_force_of_what_does_not_exist_succeeds(t):
    equal(t.runtime.call("delete", "--force", t.new_id()).returncode, 0, "exit status")


@scenario(quick=True)
def list_shows_every_container(t):
    root = t.root("busybox")
    a = t.container(SLEEP, root=root).run_detached()
    b = t.container(SLEEP, root=root).create()
    listed = {entry["id"]: entry for entry in json.loads(a.call("list", "--format", "json").ok().out)}
    equal(set(listed), {a.id, b.id}, "the ids")
    equal(listed[a.id]["status"], "running")
    equal(listed[b.id]["status"], "created")
    table = a.call("list").ok().out
    matches(table, r"^ID\s+PID\s+STATUS\s+BUNDLE\s+CREATED\s+OWNER\s*$", "the table")
    matches(table, rf"^{a.id}\s+{a.pid()}\s+running\s", "the table")
    quiet = a.call("list", "--quiet" if t.ours else "-q").ok().out.split()
    equal(sorted(quiet), sorted([a.id, b.id]), "list --quiet")
    for c in (a, b):
        c.delete("--force").ok()
    contains(a.call("list").ok().out, "ID", "an empty list")


@scenario(quick=True)
def ps_shows_the_guests_processes(t):
    c = t.container("sleep 1000 & echo ready; wait").run_detached().wait_for_output("ready")
    pids = json.loads(c.call("ps", "--format", "json", c.id).ok().out)
    equal(len(pids), 2, f"the number of processes in {pids}")
    table = c.call("ps", c.id).ok().out
    matches(table, r"UID\s+PID\s+PPID", "the table")
    contains(table, "sleep", "the table")
    if t.ours:
        equal(pids, [1, 2], "pids as the guest sees them")
    c.delete("--force").ok()


@scenario(quick=True)
def a_paused_sandbox_does_nothing_until_it_is_resumed(t):
    c = t.container("while :; do echo tick; sleep 0.02; done").run_detached().wait_for_output("tick")
    pause = c.call("pause", c.id)
    if pause.code != 0 and not t.ours:
        c.delete("--force")
        t.skip("the stand-in cannot pause on this machine")
    pause.ok()
    equal(c.status(), "paused")
    time.sleep(0.1)
    before = len(c.out())
    time.sleep(0.4)
    equal(len(c.out()), before, "the output of a paused sandbox")
    c.call("resume", c.id).ok()
    equal(c.status(), "running")
    check(wait_until(lambda: len(c.out()) > before), "it does not go on")
    check(c.call("resume", c.id).code != 0, "resume of what is not paused succeeded")
    c.delete("--force").ok()


@scenario(ours_only="runc has no `wait`")
def wait_prints_the_exit_status(t):
    c = t.container("sleep 0.3; exit 9").run_detached()
    equal(json.loads(c.call("wait", c.id).ok().out), {"id": c.id, "exitStatus": 9})
    c.delete().ok()


@scenario()
def events_reports_statistics(t):
    c = t.container(SLEEP).run_detached()
    c.wait_for("running")
    event = c.call("events", "--stats", c.id)
    if event.code != 0 and not t.ours:
        c.delete("--force")
        t.skip("the stand-in has no statistics on this machine")
    stats = json.loads(event.ok().out)
    equal((stats["type"], stats["id"]), ("stats", c.id))
    check("memory" in stats["data"] and "cpu" in stats["data"] and "pids" in stats["data"], "parts are missing")
    c.delete("--force").ok()


@scenario()
def attached_run_dies_with_its_parent_and_takes_the_sandbox_along(t):
    if not t.ours:
        t.skip("a stand-in leaves the container running")
    c = t.container("echo ready; sleep 1000")
    with open(c.out_path, "wb") as out:
        process = t.runtime.popen("run", "--bundle", c.bundle, c.id, stdout=out)
    c.wait_for_output("ready")
    family = descendants(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    alive = lambda: [pid for pid in family if os.path.exists(f"/proc/{pid}") and " (Z) " not in describe_process(pid)]
    check(wait_until(lambda: not alive(), 10), f"still there: {[describe_process(pid) for pid in alive()]}")
    c.delete("--force").ok()


@scenario()
def signals_to_an_attached_run_are_passed_on(t):
    c = t.container(DAEMON)
    with open(c.out_path, "wb") as out:
        process = t.runtime.popen("run", "--bundle", c.bundle, c.id, stdout=out, start_new_session=True)
    c.wait_for_output("ready")
    process.send_signal(signal.SIGTERM)
    equal(process.wait(20), 17, "exit status")
    contains(c.out(), "terminated")


@scenario(ours_only="a dead sandbox is a notion of ours")
def a_sandbox_that_was_killed_from_outside_is_stopped_and_can_be_deleted(t):
    c = t.container(SLEEP).run_detached()
    c.wait_for("running")
    os.kill(c.pid(), signal.SIGKILL)
    c.wait_for("stopped")
    result = c.exec(["/bin/true"])
    check(result.code != 0 and result.err.strip(), "exec in a dead sandbox")
    check(c.kill("TERM").code != 0, "kill of a dead sandbox succeeded")
    c.delete().ok()


@scenario()
def fifty_sandboxes_one_after_the_other_leave_nothing(t):
    root = t.root("busybox")
    for i in range(50):
        equal(t.run(["/bin/echo", str(i)], root=root).ok().out, f"{i}\n")


@scenario()
def ten_sandboxes_at_once(t):
    root = t.root("busybox")
    running = []
    for i in range(10):
        c = t.container(f"sleep 0.5; echo {i}; exit {i}", root=root)
        running.append((i, t.runtime.popen("run", "--bundle", c.bundle, c.id, stdout=subprocess.PIPE)))
    for i, process in running:
        out, _ = process.communicate(timeout=60)
        equal((process.returncode, out), (i, b"%d\n" % i))


@scenario(quick=True, ours_only="gVisor's flags")
def flags_are_spelled_as_gvisor_spells_them(t):
    for flags in (["-network", "none"], ["--network=none"], ["-network=none"], ["--network", "none"]):
        c = t.container(["/bin/true"])
        result = subprocess.run([t.runtime.path, "-root", t.runtime.root, *t.runtime.flags, *flags, "run", "-bundle",
                                 c.bundle, c.id], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        equal((result.returncode, result.stderr), (0, ""), f"the outcome with {flags}")
    matches(t.runtime.call("--version").stdout, r"\Arunsc version \S+\nspec: 1\.\d+\.\d+\n\Z", "--version")


@scenario(ours_only="`spec` and `do` of gVisor")
def spec_writes_a_config_that_runs_and_do_runs_without_one(t):
    root = t.root("busybox")
    bundle = t.directory("spec")
    os.symlink(root.path, os.path.join(bundle, "rootfs"))
    result = t.runtime.call("spec", "--bundle", bundle, "--", "/bin/echo", "from the spec")
    equal(result.returncode, 0, result.stderr)
    container = t.new_id()
    run = t.runtime.call("run", "--bundle", bundle, container)
    equal((run.returncode, run.stdout), (0, "from the spec\n"), run.stderr)
    done = t.runtime.call("do", "/bin/sh", "-c", "echo done; exit 3")
    equal((done.returncode, done.stdout), (3, "done\n"), done.stderr)


@scenario(ours_only="`syscalls` and `features` of gVisor")
def syscalls_and_features_describe_the_runtime(t):
    contains(t.runtime.call("syscalls").stdout, "openat")
    features = json.loads(t.runtime.call("features").stdout)
    check("ociVersionMin" in features and "linux" in features, "parts are missing")
