"""strace and gdb of Debian 12, on programs that run in the sandbox with them."""

from framework import check, contains, equal, matches, scenario

PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
struct pair { int first; double second; };
static int calls;
__attribute__((noinline)) int square(int n) {
  struct pair p = {n, n / 2.0};
  int result = p.first * p.first;
  calls++;
  return result;
}
__attribute__((noinline)) int sum(int n) {
  int total = 0;
  for (int i = 1; i <= n; i++) total += square(i);
  return total;
}
static void *worker(void *p) { return (void *)(long)sum(*(int *)p); }
int main(int argc, char **argv) {
  int n = argc > 1 ? atoi(argv[1]) : 4;
  pthread_t thread;
  void *result;
  pthread_create(&thread, 0, worker, &n);
  pthread_join(thread, &result);
  printf("sum %d %d calls %d\n", sum(n), (int)(long)result, calls);
  if (n == 13) *(volatile int *)8 = 1;
  return 3;
}
"""


def bash(t, script, **more):
    return t.run(["/bin/bash", "-c", script], root="debian", **more)


def build(t, commands, **more):
    """Compiles PROGRAM as /tmp/p and runs commands there."""
    return bash(t, f"set -e; cd /tmp; cat > p.c <<'END'\n{PROGRAM}\nEND\ngcc -g -O0 -pthread -o p p.c\n{commands}", **more)


@scenario(timeout=120)
def strace_follows_a_pipeline(t):
    result = bash(t, r"""
        cd /tmp; strace -f -o trace sh -c 'echo hello | tr a-z A-Z | cat'; echo "status $?"
        grep -c 'execve(' trace; grep -c '+++ exited with 0 +++' trace
        grep 'write(1, "HELLO\\n", 6' trace | wc -l; grep -c 'SIGCHLD' trace
        strace -o second -e trace=openat,exit_group -e inject=openat:error=EACCES:when=3+ cat /etc/hostname
        echo "status $?"; cat second
    """).ok()
    lines = result.out.splitlines()
    equal(lines[:2], ["HELLO", "status 0"])
    check(int(lines[2]) >= 3, f"{lines[2]} calls of execve are not three")
    equal(lines[3], "4", "processes that ended")
    equal(lines[4], "2", "writes of HELLO, by tr and cat")
    check(int(lines[5]) >= 1, "no SIGCHLD in the trace")
    contains(result.err, "Permission denied", "stderr")
    equal(lines[6], "status 1")
    contains(result.out, "(INJECTED)")
    contains(result.out, "exit_group(1)")


@scenario(timeout=120)
def strace_counts_attaches_and_seizes(t):
    result = bash(t, r"""
        cd /tmp; strace -c -o counts ls / > /dev/null; grep -c getdents64 counts
        sleep 100 & pid=$!; strace -p $pid -o attached & tracer=$!
        until grep -q "^TracerPid:.$tracer$" /proc/$pid/status; do :; done
        until grep -qE 'clock_nanosleep|restart_syscall' attached; do :; done
        kill -INT $tracer; wait $tracer; grep -c '^TracerPid:.0$' /proc/$pid/status
        grep -cE 'clock_nanosleep|restart_syscall' attached; kill $pid; wait $pid; echo "status $?"
    """).ok()
    equal(result.out.splitlines(), ["1", "1", "1", "status 143"], "stdout")


@scenario(timeout=240)
def gdb_breaks_steps_and_prints(t):
    result = build(t, r"""
        gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'break square' -ex 'run 3' -ex 'backtrace' -ex 'print n' \
            -ex 'next' -ex 'next' -ex 'print p' -ex 'delete' -ex 'print sum(2)' -ex 'finish' -ex 'info threads' \
            -ex 'step' -ex 'info registers rip' -ex 'continue' ./p < /dev/null 2>&1
    """, timeout=200).ok()
    out = result.out
    matches(out, r"Breakpoint 1, square \(n=1\)")
    matches(out, r"#1 +0x[0-9a-f]+ in sum \(n=3\)")
    matches(out, r"#2 +0x[0-9a-f]+ in worker")
    matches(out, r"\$1 = 1$")
    matches(out, r"\$2 = \{first = 1, second = 0\.5\}")
    matches(out, r"\$3 = 5$")
    matches(out, r"Value returned is \$4 = 1")
    matches(out, r"Thread 0x[0-9a-f]+ \(LWP \d+\)")
    matches(out, r"sum 14 14 calls \d+")
    matches(out, r"exited with code 03")


@scenario(timeout=240)
def gdb_examines_a_crash_and_watches(t):
    result = build(t, r"""
        gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'run 13' -ex 'backtrace 1' -ex 'print $_siginfo.si_signo' \
            -ex 'print $_siginfo._sifields._sigfault.si_addr' ./p < /dev/null 2>&1
        echo ----; gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'set can-use-hw-watchpoints 0' -ex 'break sum' \
            -ex 'run 2' -ex 'watch total' -ex 'continue' -ex 'continue' ./p < /dev/null 2>&1
        echo ----; gdb -nx -batch -ex 'set debuginfod enabled off' -ex 'catch syscall write' -ex 'run 2' -ex 'bt 1' \
            -ex 'continue' -ex 'p $rax' ./p < /dev/null 2>&1
    """, timeout=200).ok()
    crash, watch, catch = result.out.split("----\n")
    matches(crash, r"received signal SIGSEGV")
    matches(crash, r"#0 +0x[0-9a-f]+ in main|#0 +main")
    matches(crash, r"\$1 = 11$")
    matches(crash, r"\$2 = \(void \*\) 0x8$")
    matches(watch, r"Old value = ")
    matches(watch, r"New value = ")
    matches(catch, r"call to syscall write")
    matches(catch, r"returned from syscall write")
