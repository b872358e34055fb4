"""What goes wrong is said in one clear sentence, on stderr and in --log, and leaves nothing behind."""

import json
import os

from framework import check, contains, equal, scenario


def fails(t, result, *words):
    code, err = (result.code, result.err) if hasattr(result, "code") else (result.returncode, result.stderr)
    check(code != 0, "it succeeded")
    if t.ours:
        equal(code, 128, "exit status")
        equal(len(err.strip().splitlines()), 1, f"the number of lines on stderr ({err!r})")
    for word in words:
        contains(err.lower(), word.lower(), "stderr")


@scenario(quick=True)
def absent_bundle(t):
    for command in ("run", "create"):
        fails(t, t.runtime.call(command, "--bundle", "/no/such/bundle", t.new_id()), "/no/such/bundle")


@scenario(quick=True)
def bundle_without_a_config(t):
    fails(t, t.runtime.call("run", "--bundle", t.directory("empty"), t.new_id()), "config.json")


@scenario(quick=True)
def config_that_is_not_json(t):
    bundle = t.directory("bundle")
    with open(os.path.join(bundle, "config.json"), "w") as f:
        f.write("{ this is not json")
    fails(t, t.runtime.call("run", "--bundle", bundle, t.new_id()))


@scenario(quick=True)
def config_with_wrong_parts(t):
    root = t.root("busybox")

    def attempt(edit, *words):
        c = t.container(["/bin/true"], root=root, edit=edit)
        fails(t, t.run_container(c), *words)
        check(c.state() is None, "a failed run left a state")

    attempt(lambda s: s["process"].update(args=[]))
    attempt(lambda s: s["process"].update(cwd="relative"), "cwd")
    attempt(lambda s: s["root"].update(path="/no/such/root"), "/no/such/root")
    attempt(lambda s: s["mounts"].append({"destination": "/x", "type": "bind", "source": "/no/such/source",
                                         "options": ["bind"]}), "/no/such/source")
    if t.ours:
        attempt(lambda s: s.pop("process"), "process")
        attempt(lambda s: s.pop("root"), "root")
        attempt(lambda s: s["process"].update(args="a string"), "args")
        attempt(lambda s: s["process"].update(rlimits=[{"type": "RLIMIT_BOGUS", "hard": 1, "soft": 1}]), "RLIMIT_BOGUS")
        attempt(lambda s: s["process"]["capabilities"].update(bounding=["CAP_BOGUS"]), "CAP_BOGUS")


@scenario(quick=True)
def missing_binary(t):
    c = t.container(["/no/such/binary"])
    fails(t, t.run_container(c), "/no/such/binary")
    check(c.state() is None, "a failed run left a state")


@scenario(quick=True)
def binary_that_cannot_be_executed(t):
    root = t.root("busybox")
    fails(t, t.run(["/etc/passwd"], root=root), "/etc/passwd")
    fails(t, t.run(["/etc"], root=root), "/etc")


@scenario(quick=True)
def program_name_without_a_slash_is_looked_up_in_PATH(t):
    equal(t.run(["echo", "found"]).ok().out, "found\n")
    fails(t, t.run(["no-such-program"]), "no-such-program")


@scenario(quick=True)
def id_in_use(t):
    c = t.container(["/bin/sleep", "1000"]).run_detached()
    c.wait_for("running")
    fails(t, t.runtime.call("create", "--bundle", c.bundle, c.id), c.id if t.ours else "exists")
    equal(c.status(), "running", "the first container's status")
    c.delete("--force").ok()


@scenario(quick=True)
def id_that_is_not_one(t):
    c = t.container(["/bin/true"])
    for bad in ("", "a/b", "..", "x" * 2000, "a\nb"):
        result = t.runtime.call("create", "--bundle", c.bundle, bad)
        check(result.returncode != 0, f"the id {bad[:10]!r} was accepted")


@scenario(quick=True)
def unknown_container(t):
    for args in (["start"], ["state"], ["kill"], ["delete"], ["pause"], ["resume"], ["ps"]):
        result = t.runtime.call(*args, "no-such-container")
        if args == ["kill"] and not t.ours:
            continue
        fails(t, result, *(["no-such-container"] if t.ours else []))
    fails(t, t.runtime.call("exec", "no-such-container", "/bin/true"))


@scenario()
def start_twice(t):
    c = t.container(["/bin/sleep", "1000"]).create().start()
    fails(t, c.call("start", c.id))
    c.delete("--force").ok()


@scenario()
def exec_in_a_stopped_container(t):
    c = t.container(["/bin/true"]).run_detached().wait_for("stopped")
    result = c.exec(["/bin/true"])
    check(result.code != 0 and result.err.strip(), "exec in a stopped container")
    c.delete().ok()


@scenario()
def exec_of_a_missing_binary(t):
    c = t.container(["/bin/sleep", "1000"]).run_detached()
    c.wait_for("running")
    result = c.exec(["/no/such/binary"])
    check(result.code != 0, "it succeeded")
    contains(result.err, "/no/such/binary", "stderr")
    equal(c.status(), "running")
    c.delete("--force").ok()


@scenario()
def unknown_signal(t):
    c = t.container(["/bin/sleep", "1000"]).run_detached()
    c.wait_for("running")
    for name in ("NOSUCH", "-1", "1000"):
        check(c.kill("--", name).code != 0 if name.startswith("-") else c.kill(name).code != 0, f"signal {name}")
    c.delete("--force").ok()


@scenario(quick=True)
def the_reason_is_also_in_the_json_log(t):
    log = os.path.join(t.directory("log"), "log.json")
    result = t.runtime.call("--log", log, "--log-format", "json", "run", "--bundle", "/no/such/bundle", t.new_id())
    check(result.returncode != 0, "it succeeded")
    with open(log) as f:
        entries = [json.loads(line) for line in f if line.strip()]
    errors = [entry for entry in entries if entry["level"] == "error"]
    check(errors, f"no error in the log: {entries}")
    contains(errors[-1]["msg"], "/no/such/bundle", "the message")
    check("time" in errors[-1], "no time")


@scenario(quick=True, ours_only="flags of ours")
def unknown_flags_and_commands(t):
    for args in (["--no-such-flag", "list"], ["no-such-command"], ["run"], ["run", "--no-such-flag", "x"],
                 ["--platform=no-such-platform", "run", "--bundle", "/", "x"]):
        result = t.runtime.call(*args)
        check(result.returncode != 0, f"{args} was accepted")
        check(result.stderr.strip(), f"{args} gave no reason")


@scenario()
def a_full_log_disk_or_absent_log_directory_does_not_hide_the_error(t):
    # Beneath a directory of our own: what a runtime makes of it is not left on the host.
    log = os.path.join(t.directory("logs"), "absent", "log")
    result = t.runtime.call("--log", log, "run", "--bundle", "/no/such/bundle", t.new_id())
    check(result.returncode != 0 and result.stderr.strip(), "no error")


@scenario()
def pid_file_that_cannot_be_written(t):
    c = t.container(["/bin/sleep", "1000"])
    result = t.runtime.call("run", "--detach", "--bundle", c.bundle, "--pid-file",
                            os.path.join(c.bundle, "absent", "pid"), c.id)
    check(result.returncode != 0, "it succeeded")
