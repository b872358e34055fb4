"""Programs whose system calls are patched into jumps do what they do without (--systrap-patching)."""

from framework import check, contains, equal, scenario

BOTH = ("--systrap-patching=on",), ("--systrap-patching=off",)


@scenario(quick=True, ours_only="a flag of ours")
def static_programs_do_the_same_with_and_without(t):
    script = r"""
        cd /tmp
        i=0; while [ $i -lt 300 ]; do i=$((i + 1)); echo line $i; done | md5sum
        dd if=/dev/zero bs=1 count=3000 2> /dev/null | wc -c
        for i in $(seq 30); do cat /etc/passwd > /dev/null || echo no; done
        seq 200 | while read n; do echo $n > f$n; done; ls | wc -l
        trap 'echo trapped' USR1; kill -USR1 $$; sh -c 'exit 7'; echo $?
    """
    results = [t.run(script, flags=flags).ok().out for flags in BOTH]
    equal(results[0], results[1], "stdout with patched calls")
    contains(results[0], "3000\n200\ntrapped\n7\n")


@scenario(ours_only="a flag of ours")
def python_does_the_same_with_and_without(t):
    source = r"""
import os, signal, subprocess, threading
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
ticks = []
signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
null = os.open('/dev/null', os.O_RDWR)
def hot(n):
    for i in range(n):
        assert os.write(null, b'x') == 1 and os.read(null, 1) == b'' and os.umask(0o22) == 0o22
hot(5000)
threads = [threading.Thread(target=hot, args=(2000,)) for _ in range(4)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
print([subprocess.run(['/bin/sh', '-c', 'exit 3']).returncode for _ in range(5)])
pid = os.fork()
if pid == 0:
    hot(2000); os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), len(ticks) > 0)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    for flags in BOTH:
        result = t.run(["/usr/bin/python3", "-c", source], root="debian", flags=flags).ok()
        equal(result.out, "[3, 3, 3, 3, 3]\n9 True\n", f"stdout with {flags[0]}")


@scenario(ours_only="a flag of ours")
def debuggers_come_to_programs_that_are_hot(t):
    script = r"""
        cd /tmp
        python3 -c "
import os
while not os.path.exists('/tmp/stop'):
    for i in range(100): assert os.umask(0o22) == 0o22
" &
        program=$!
        sleep 0.5
        timeout -s INT 1 strace -p $program -o trace -e trace=umask 2> /dev/null
        [ $(grep -c '^umask(022) *= 022' trace) -gt 10 ] && echo traced
        gdb -nx -p $program -batch -ex 'set debuginfod enabled off' -ex 'break *umask' -ex continue -ex 'x/3i $pc' \
            -ex stepi -ex 'info registers rip' -ex stepi -ex 'info registers rip' -ex detach < /dev/null > gdb.out 2>&1
        grep -q 'mov .*0x5f,%eax' gdb.out && grep -q 'syscall' gdb.out && echo read
        grep -q '<umask+5>' gdb.out && grep -q '<umask+7>' gdb.out && echo stepped
        sleep 0.2; touch stop; wait $program; echo "status $?"
    """
    for flags in BOTH:
        result = t.run(["/bin/bash", "-c", script], root="debian", flags=flags).ok()
        check(result.out == "traced\nread\nstepped\nstatus 0\n", f"{flags[0]}: {result.out!r} {result.err[-500:]!r}")
