"""Terminals through --console-socket: job control as a person at a shell has it."""

import fcntl
import os
import signal
import struct
import termios
import time

from framework import Terminal, check, contains, equal, matches, scenario

CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH = "\x03", "\x04", "\x1a", "\x1c"


def shell(t, args, root="debian", **more):
    console = t.console()
    c = t.container(args, root=root, terminal=True, env={"PS1": "prompt> ", "HISTFILE": ""}, **more)
    c.create("--console-socket", console.path)
    c.start()
    terminal = console.accept()
    t.closing.append(terminal.close)
    return c, terminal


def bash(t, **more):
    c, terminal = shell(t, ["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"], **more)
    terminal.expect("prompt> ")
    return c, terminal


def leave(t, c, terminal, status=0):
    terminal.send(f"exit {status}\n")
    equal(c.exit_status(), status, "the shell's exit status")
    terminal.drain(2)
    c.delete().ok()


@scenario(quick=True)
def the_guest_has_a_terminal(t):
    c, terminal = shell(t, "tty; test -t 0 && test -t 1 && test -t 2 && echo terminal; stty -a | head -1; echo end", root="busybox")
    terminal.expect(r"/dev/pts/\d+|/dev/console")
    terminal.expect("terminal")
    terminal.expect("speed 38400 baud")
    terminal.expect("end")
    equal(c.exit_status(), 0)
    c.delete().ok()


@scenario(quick=True)
def input_is_echoed_and_lines_are_edited(t):
    c, terminal = shell(t, "while read line; do echo \"got [$line]\"; done; echo eof", root="busybox")
    terminal.send("hello\n")
    terminal.expect(r"hello\r\ngot \[hello\]\r\n")
    terminal.send("wrong\x15right\n")  # Ctrl-U erases the line.
    terminal.expect(r"got \[right\]\r\n")
    terminal.send("abd\x7fc\n")  # Backspace.
    terminal.expect(r"got \[abc\]\r\n")
    terminal.send(CTRL_D)
    terminal.expect("eof")
    equal(c.exit_status(), 0)
    c.delete().ok()


@scenario(quick=True)
def control_c_interrupts_the_foreground_job_only(t):
    c, terminal = bash(t)
    terminal.send("sleep 1000\n")
    time.sleep(0.3)
    terminal.send(CTRL_C)
    terminal.expect(r"\^C[\s\S]*prompt> ")
    terminal.send("echo status $?\n")
    terminal.expect("status 130")
    terminal.send("sleep 1000 | cat | cat\n")
    time.sleep(0.3)
    terminal.send(CTRL_C)
    terminal.expect("prompt> ")
    terminal.expect("prompt> ")
    terminal.send("echo still $((40 + 2))\n")
    terminal.expect("still 42")
    leave(t, c, terminal, 6)


@scenario(quick=True)
def control_z_stops_and_fg_bg_and_jobs_go_on(t):
    c, terminal = bash(t)
    terminal.send("sleep 300\n")
    time.sleep(0.3)
    terminal.send(CTRL_Z)
    terminal.expect(r"\[1\]\+\s+Stopped\s+sleep 300")
    terminal.expect("prompt> ")
    terminal.send("jobs\n")
    terminal.expect(r"\[1\]\+\s+Stopped\s+sleep 300")
    terminal.send("bg\n")
    terminal.expect(r"\[1\]\+ sleep 300 &")
    terminal.send("jobs\n")
    terminal.expect(r"\[1\]\+\s+Running\s+sleep 300 &")
    terminal.send("fg\n")
    terminal.expect("sleep 300")
    time.sleep(0.3)
    terminal.send(CTRL_C)
    terminal.expect("prompt> ")
    terminal.send("jobs; echo none left\n")
    terminal.expect(r"\nnone left")
    leave(t, c, terminal)


@scenario()
def a_background_reader_is_stopped_by_ttin(t):
    c, terminal = bash(t)
    terminal.send("cat &\n")
    terminal.expect("prompt> ")
    time.sleep(0.2)
    terminal.send("\n")
    terminal.expect(r"\[1\]\+\s+Stopped\s+cat")
    terminal.send("fg\n")
    time.sleep(0.2)
    terminal.send("typed\n")
    terminal.expect(r"typed\r\ntyped\r\n")
    terminal.send(CTRL_D)
    terminal.expect("prompt> ")
    terminal.send("stty tostop; echo background &\n")
    time.sleep(0.2)
    terminal.send("\n")
    terminal.expect(r"Stopped\s+\S*\s*echo background|Stopped")
    terminal.send("stty -tostop; fg\n")
    terminal.expect("background\r\n")
    leave(t, c, terminal)


@scenario()
def a_script_runs_many_jobs_in_their_own_groups(t):
    c, terminal = bash(t)
    terminal.send("set -m; for i in 1 2 3; do sleep 0.$i & done; wait; echo waited\n")
    terminal.expect(r"\r\nwaited")
    terminal.send("(exit 7); echo status $?; (sleep 0.2; exit 9) & wait $!; echo job $?\n")
    terminal.expect(r"status 7\r\n")
    terminal.expect(r"job 9\r\n")
    terminal.send("sh -c 'kill -STOP $$; echo continued'\n")
    terminal.expect(r"\[1\]\+\s+Stopped")
    terminal.send("kill -CONT %1; wait; echo all done\n")
    terminal.expect(r"continued\r\n")  # behind the prompt, if that was late
    terminal.expect(r"all done")
    leave(t, c, terminal)


@scenario()
def quit_and_end_of_file(t):
    c, terminal = bash(t)
    terminal.send("sleep 1000\n")
    time.sleep(0.3)
    terminal.send(CTRL_BACKSLASH)
    terminal.expect("Quit")
    terminal.expect("prompt> ")
    terminal.send("echo $?\n")
    terminal.expect("131")
    terminal.expect("prompt> ")
    terminal.send(CTRL_D)
    equal(c.exit_status(), 0, "the shell's exit status")
    c.delete().ok()


@scenario(quick=True)
def a_change_of_the_windows_size_reaches_the_guest(t):
    c, terminal = shell(t, "trap 'stty size' WINCH; echo ready; while :; do sleep 0.05; done", root="busybox")
    terminal.expect("ready")
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    terminal.expect("33 77")
    c.kill("KILL").ok()
    equal(c.exit_status(), 137)
    c.delete().ok()


@scenario()
def raw_mode_delivers_every_byte(t):
    c, terminal = shell(t, ["/usr/bin/python3", "-c", """
import os, sys, tty
tty.setraw(0)
print('raw', end='', flush=True)
data = b''
while not data.endswith(b'Q'): data += os.read(0, 100)
print(repr(data), end='', flush=True)
"""])
    terminal.expect("raw")
    terminal.send("a\x03\x1a\x04\rQ")
    terminal.expect(r"b'a\\x03\\x1a\\x04\\rQ'")
    equal(c.exit_status(), 0)
    c.delete().ok()


@scenario()
def hanging_up_the_terminal_ends_the_shell(t):
    console = t.console()
    c = t.container(["/bin/bash", "--norc", "--noprofile", "-i"], root="debian", terminal=True)
    c.create("--console-socket", console.path)
    c.start()
    terminal = console.accept()
    terminal.expect("#|\\$")
    terminal.close()
    status = c.exit_status()
    check(status in (0, 1, 129), f"the shell's exit status is {status}")
    c.delete().ok()


@scenario(quick=True)
def exec_has_a_terminal_of_its_own(t):
    c = t.container(["/bin/sleep", "1000"]).run_detached()
    c.wait_for("running")
    console = t.console()
    pid_file = os.path.join(t.directory("exec"), "pid")
    flags = ["--tty"] if not t.ours else []  # gVisor's exec has no such flag: a console socket says it.
    process = t.runtime.popen("exec", *flags, "--detach", "--pid-file", pid_file, "--console-socket", console.path, c.id,
                              "/bin/sh", "-c", "tty; read line; echo \"got $line\"; exit 8")
    terminal = console.accept()
    t.closing.append(terminal.close)
    equal(process.wait(30), 0)
    terminal.expect(r"/dev/pts/\d+")
    terminal.send("line\n")
    terminal.expect("got line")
    with open(pid_file) as f:
        _, status = os.waitpid(int(f.read()), 0)
    equal(os.waitstatus_to_exitcode(status), 8)
    c.delete("--force").ok()


@scenario()
def full_screen_programs_get_their_answers(t):
    c, terminal = bash(t, )
    terminal.send("stty -echo; stty rows 24 cols 80; python3 -c \"import curses; s = curses.initscr(); "
                  "s.addstr(3, 4, 'curses here'); s.refresh(); s.getkey(); curses.endwin(); print('left')\"\n")
    terminal.expect("curses here")
    terminal.send("x")
    terminal.expect("left")
    leave(t, c, terminal)
