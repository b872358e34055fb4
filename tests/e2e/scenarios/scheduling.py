"""Time in a sandbox: deadlines beside busy threads, two processors, and silence when nothing is to be done.

What depends on the machine is reported, not judged; only a hang fails, and an idle sandbox that is not idle.
"""

import os
import re
import subprocess
import time

from framework import check, contains, descendants, equal, matches, scenario

DEADLINES = r"""
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <algorithm>
#include <atomic>
#include <vector>
static std::atomic<bool> stop;
static void* Spin(void*) { while (!stop) for (volatile int i = 0; i < 1000; ++i) {} return nullptr; }
int main(int argc, char** argv) {
  const int spinners = atoi(argv[1]), periods = atoi(argv[2]);
  pthread_attr_t small; pthread_attr_init(&small); pthread_attr_setstacksize(&small, 65536);
  std::vector<pthread_t> threads(spinners);
  for (auto& t : threads) if (pthread_create(&t, &small, Spin, nullptr)) return 1;
  std::vector<long> late; timespec next; clock_gettime(CLOCK_MONOTONIC, &next);
  for (int i = 0; i < periods; ++i) {
    next.tv_nsec += 10000000; if (next.tv_nsec >= 1000000000) { next.tv_nsec -= 1000000000; ++next.tv_sec; }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr);
    timespec now; clock_gettime(CLOCK_MONOTONIC, &now);
    long us = (now.tv_sec - next.tv_sec) * 1000000 + (now.tv_nsec - next.tv_nsec) / 1000; late.push_back(us);
    if (us > 10000) next = now;
  }
  stop = true;
  std::sort(late.begin(), late.end());
  printf("late by us: p50 %ld p90 %ld p99 %ld max %ld\n", late[late.size() / 2], late[late.size() * 9 / 10], late[late.size() * 99 / 100], late.back());
  fflush(stdout); _Exit(0);
}
"""

BLOCKED = r"""
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
static int fds[2];
static void* Block(void* p) { if ((long)p % 2) { pthread_mutex_lock(&m); } else { char c; if (read(fds[0], &c, 1)) {} } return nullptr; }
int main() {
  if (pipe(fds)) return 1; pthread_mutex_lock(&m); pthread_t t;
  for (long i = 0; i < 100; ++i) if (pthread_create(&t, nullptr, Block, (void*)i)) return 1;
  puts("blocked"); fflush(stdout); Block(nullptr);
}
"""


class LimitedCgroup:
    """A cgroup that lets its members use a part of one processor; either version of cgroups."""

    def __init__(self, t, percent):
        name = "e2e-limit-" + os.path.basename(t.scratch)
        period = 100_000
        try:
            if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
                self.path = "/sys/fs/cgroup/" + name
                os.mkdir(self.path)
                self._write("cpu.max", f"{period * percent // 100} {period}")
            else:
                self.path = "/sys/fs/cgroup/cpu/" + name
                os.mkdir(self.path)
                self._write("cpu.cfs_period_us", str(period))
                self._write("cpu.cfs_quota_us", str(period * percent // 100))
        except OSError as e:
            t.skip(f"no cgroup can be limited here: {e}")

    def _write(self, name, value):
        with open(os.path.join(self.path, name), "w") as f:
            f.write(value)

    def enter(self):
        self._write("cgroup.procs", "0")

    def close(self):
        for _ in range(100):
            try:
                os.rmdir(self.path)
                return
            except OSError:
                time.sleep(0.05)


def compiled(t, root, name, source):
    with open(os.path.join(root.path, name + ".cc"), "w") as f:
        f.write(source)
    t.run(["/usr/bin/g++", "-O1", "-static", "-pthread", "-o", f"/{name}", f"/{name}.cc"], root=root, timeout=100).ok()
    # With a memory overlay the program was made in the sandbox's memory: make it on the host instead.
    path = os.path.join(root.path, name)
    if not os.path.exists(path):
        subprocess.run(["g++", "-O1", "-static", "-pthread", "-o", path, path + ".cc"], check=True)
    return "/" + name


def run_within(t, container, limit, cpu, timeout):
    def preexec():
        if limit:
            limit.enter()
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
    flags = ["--ignore-cgroups"] if t.ours else []
    process = subprocess.Popen([t.runtime.path, "--root", t.runtime.root, *t.runtime.flags, *flags, "run", "--bundle",
                                container.bundle, container.id], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, preexec_fn=preexec)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        t.runtime.destroy(container.id)
        process.kill()
        process.communicate()
        check(False, f"it hangs: no end within {timeout} s")
    equal(process.returncode, 0, f"exit status ({err[-500:]!r})")
    return out


def run_natively(root, args, limit, cpu, timeout):
    """The same program on this machine itself, for the figure beside ours."""
    def preexec():
        if limit:
            limit.enter()
        os.sched_setaffinity(0, {cpu})
    try:
        return subprocess.run([root.path + args[0], *args[1:]], stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, preexec_fn=preexec, timeout=timeout, check=True).stdout.strip()
    except subprocess.TimeoutExpired:
        return f"no end within {timeout} s"


@scenario(timeout=300)
def a_timer_keeps_its_deadlines_beside_spinning_threads_and_on_a_fifth_of_one_cpu(t):
    root = t.root("debian")
    program = compiled(t, root, "deadlines", DEADLINES)
    limit = LimitedCgroup(t, 20)
    t.closing.append(limit.close)
    # Under the limit fewer: a thread that makes calls waits for its turn after each, and making 200 beside those that spin
    # takes minutes.
    for spinners, periods, limited in ((0, 200, False), (200, 300, False), (100, 10, True)):
        c = t.container([program, str(spinners), str(periods)], root=root)
        out = run_within(t, c, limit if limited and t.ours else None, 0, 180)
        native = run_natively(root, [program, str(spinners), str(periods)], limit if limited and t.ours else None, 0, 30)
        t.note(f"{spinners} spinning threads, one CPU{', 20 %' if limited and t.ours else ''}: {out.strip()}; "
               f"natively: {native}")


@scenario(timeout=300)
def make_j2_on_two_cpus_is_compared_with_one(t):
    root = t.root("debian")
    script = r"""
        mkdir /tmp/src && cd /tmp/src
        for i in $(seq 40); do printf '#include <stdio.h>\n#include <stdlib.h>\nint f%d(int n) { return printf("%%d", n) + abs(n); }\n' $i > f$i.c; done
        printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\n%%.o: %%.c\n\tgcc -O2 -c $<\n' > Makefile
        start=$(date +%s%N); make -s -j2; end=$(date +%s%N); echo $(( (end - start) / 1000000 ))
    """
    if len(os.sched_getaffinity(0)) < 2:
        t.skip("one processor")
    took = {}
    for cpus in ({0}, {0, 1}):
        c = t.container(["/bin/bash", "-c", script], root=root)
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)
        try:
            took[len(cpus)] = int(t.run_container(c, timeout=140).ok().out)
        finally:
            os.sched_setaffinity(0, before)
    natively = {}
    for cpus in ({0}, {0, 1}):
        scratch = os.path.join(t.scratch, f"native-{len(cpus)}")
        os.mkdir(scratch)
        natively[len(cpus)] = int(subprocess.run(
            ["bash", "-c", script.replace("/tmp/src", scratch + "/src")], stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=100, preexec_fn=lambda: os.sched_setaffinity(0, cpus), check=True).stdout)
    t.note(f"one CPU {took[1]} ms, two CPUs {took[2]} ms: {took[1] / took[2]:.2f} times as fast; natively "
           f"{natively[1]} and {natively[2]} ms, {natively[1] / natively[2]:.2f} times")


def switches(pids):
    total = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/status") as f:
                    total += sum(int(n) for n in re.findall(r"ctxt_switches:\s+(\d+)", f.read()))
        except FileNotFoundError:
            pass
    return total


def idle(t, seconds):
    root = t.root("debian")
    program = compiled(t, root, "blocked", BLOCKED)
    c = t.container([program], root=root)
    with open(c.out_path, "wb") as out:
        process = t.runtime.popen("run", "--bundle", c.bundle, c.id, stdout=out)
    c.wait_for_output("blocked")
    time.sleep(2)
    members = [process.pid, *descendants(process.pid)]
    before = switches(members)
    time.sleep(seconds)
    after = switches(members)
    # A stray wake-up (a page given back, the host's own housekeeping) is not a tick; one per second would be.
    t.note(f"{after - before} context switches of {len(members)} processes in {seconds} s")
    check(after - before <= seconds // 10 + 1, f"{after - before} context switches while nothing runs")
    t.runtime.destroy(c.id)
    process.wait(20)


@scenario(timeout=120, quick=True)
def an_idle_sandbox_with_100_blocked_threads_is_silent(t):
    idle(t, 10)


@scenario(timeout=180)
def an_idle_sandbox_is_silent_for_a_minute(t):
    idle(t, 60)
