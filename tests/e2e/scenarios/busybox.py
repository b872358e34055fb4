"""Debian's static busybox as a bundle: the smallest guest, and everything a shell asks of a kernel."""

from framework import check, contains, equal, scenario


@scenario(quick=True)
def true_exits_with_zero_and_says_nothing(t):
    result = t.run(["/bin/true"])
    equal((result.code, result.out, result.err), (0, "", ""))


@scenario(quick=True)
def exit_status_of_the_guest_is_ours(t):
    for code in (0, 1, 42, 255):
        equal(t.run(f"exit {code}").code, code, "exit status")


@scenario(quick=True)
def a_fatal_signal_gives_128_plus_its_number(t):
    # Process 1 ignores what it has no handler for; its child does not, and the shell reports it.
    equal(t.run("sh -c 'kill -TERM $$'; exit $?").code, 143, "exit status")
    equal(t.run("sh -c 'kill -KILL $$'; exit $?").code, 137, "exit status")


@scenario(quick=True)
def stdin_stdout_and_stderr_are_ours(t):
    result = t.run("cat; echo to-stderr >&2", stdin="through\nthe sandbox\n").ok()
    equal(result.out, "through\nthe sandbox\n", "stdout")
    equal(result.err, "to-stderr\n", "stderr")


@scenario()
def a_megabyte_goes_through_stdin_and_stdout(t):
    data = "".join(f"line {i}\n" for i in range(100_000))
    equal(t.run("cat | tr a-z A-Z", stdin=data).ok().out, data.upper(), "stdout")


@scenario(quick=True)
def environment_working_directory_and_hostname_come_from_the_config(t):
    result = t.run("pwd; echo $COLOUR; hostname; id -u; id -g", cwd="/var/tmp", env={"COLOUR": "blue"},
                   hostname="box", uid=1000, gid=1000).ok()
    equal(result.out, "/var/tmp\nblue\nbox\n1000\n1000\n", "stdout")


@scenario(quick=True)
def pipes_and_redirections(t):
    result = t.run(r"""
        cd /tmp
        seq 1 1000 | grep 7 | sort -rn | head -3 > out 2> err
        cat < out; wc -c < err
        echo one > f; echo two >> f; cat f | tr 'a-z' 'A-Z'
        { echo a; echo b >&2; } 2>&1 | sort | tr '\n' ' '
        cat <<END
here $((6 * 7)) document
END
        yes | head -100000 | wc -l
        false | true; echo "status $?"
        exec 5> fd5; echo five >&5; exec 5>&-; cat fd5
    """).ok()
    equal(result.out, "997\n987\n979\n0\nONE\nTWO\na b here 42 document\n100000\nstatus 0\nfive\n", "stdout")


@scenario(quick=True)
def background_jobs_and_wait(t):
    result = t.run(r"""
        for i in 1 2 3 4 5; do (sleep 0.$i; exit $i) & pids="$pids $!"; done
        for pid in $pids; do wait $pid; echo $?; done
        sleep 100 & kill $!; wait $!; echo killed $?
        (exit 7) & wait; echo all done
    """).ok()
    equal(result.out, "1\n2\n3\n4\n5\nkilled 143\nall done\n", "stdout")


@scenario(quick=True)
def traps_run(t):
    result = t.run(r"""
        trap 'echo usr1' USR1; trap 'echo bye' EXIT
        kill -USR1 $$; echo after
        (trap 'echo in child; exit 3' TERM; kill -TERM $(exec sh -c 'echo $PPID'); sleep 5); echo status $?
        sh -c 'trap "" INT; kill -INT $$; echo survived'
    """).ok()
    equal(result.out, "usr1\nafter\nin child\nstatus 3\nsurvived\nbye\n", "stdout")


@scenario(overlays=("memory", "host"), quick=True)
def files_links_and_directories(t):
    root = t.root("busybox")
    result = t.run(r"""
        set -e
        mkdir -p /data/a/b/c; cd /data
        echo content > a/file; ln a/file a/hard; ln -s ../file a/b/soft
        cat a/b/soft a/hard
        mv a/file a/b/c/moved; cp -r a copy; rm -r a
        find copy | sort
        chmod 640 copy/hard; chown 12:34 copy/hard; stat -c '%a %u %g %s %h' copy/hard
        touch -d '2001-02-03 04:05:06' copy/hard; stat -c %Y copy/hard
        mkfifo fifo; (echo through the fifo > fifo &) ; cat fifo; rm fifo
        dd if=/dev/zero of=big bs=4096 count=256 2>/dev/null; stat -c %s big; rm big
        df / > /dev/null
    """, root=root).ok()
    equal(result.out, "content\ncontent\ncopy\ncopy/b\ncopy/b/c\ncopy/b/c/moved\ncopy/b/soft\ncopy/hard\n"
          "640 12 34 8 2\n981173106\nthrough the fifo\n1048576\n", "stdout")
    t.expect_on_host(root, "/data/copy/b/c/moved", "content\n")
    t.expect_on_host(root, "/data/copy/hard")


@scenario(overlays=("memory", "host"))
def deleting_and_replacing_what_the_image_holds(t):
    root = t.root("busybox")
    result = t.run(r"""
        set -e
        rm /etc/group; test ! -e /etc/group
        echo replaced > /etc/passwd; cat /etc/passwd
        mv /bin/true /bin/moved; readlink /bin/moved; test ! -e /bin/true
        rm -r /usr; mkdir /usr; ls -a /usr | wc -l
        ls / | tr '\n' ' '
    """, root=root).ok()
    equal(result.out, "replaced\nbusybox\n2\nbin dev etc mnt proc root sbin sys tmp usr var ", "stdout")
    if root.upper is None:
        return
    if t.overlay == "host":
        contains(" ".join(root.changes()), "etc/passwd")
    else:
        equal([path for path in root.changes() if not path.startswith(("dev", "proc", "sys", "tmp"))], [],
              "the changes on the host")


@scenario()
def a_sandbox_that_is_run_twice_starts_from_the_same_root(t):
    if t.ours is False:
        t.skip("a stand-in has no memory overlay")
    root = t.root("busybox")
    t.run("echo first > /marker", root=root).ok()
    equal(t.run("test -e /marker; echo $?", root=root).ok().out, "1\n")


@scenario()
def proc_shows_the_sandbox_alone(t):
    result = t.run(r"""
        ls -d /proc/[0-9]* | wc -l
        cat /proc/1/comm; cat /proc/self/comm
        tr '\0\n' '  ' < /proc/1/cmdline | cut -c1-11; echo
        readlink /proc/self/exe
        grep -c . /proc/mounts > /dev/null && echo mounts
        grep -q MemTotal /proc/meminfo && echo meminfo
        grep -q processor /proc/cpuinfo && echo cpuinfo
        test -e /proc/self/fd/0 && echo fds
        cut -d' ' -f1 /proc/uptime > /dev/null && echo uptime
        ps | grep -q 'ps' && echo ps
    """).ok()
    lines = result.out.splitlines()
    check(int(lines[0]) <= 5, f"{lines[0]} processes in /proc")
    equal(lines[1:4], ["sh", "cat", "/bin/sh -c "])
    equal([line for line in lines[4:] if line], ["/bin/busybox", "mounts", "meminfo", "cpuinfo", "fds", "uptime", "ps"])


@scenario()
def compressors_and_checksums_agree(t):
    result = t.run(r"""
        cd /tmp; seq 1 200000 > data; sum=$(sha256sum < data)
        gzip -k data; bzip2 -k data; gunzip -c data.gz | cmp - data && bunzip2 -c data.bz2 | cmp - data && echo equal
        tar cf - data | tar xf - -C /var/tmp; test "$(sha256sum < /var/tmp/data)" = "$sum" && echo same
        cpio -o -H newc < /dev/null 2> /dev/null | wc -c > /dev/null; awk '{ s += $1 } END { print s }' data
        sort -n -r data | head -1; sed -n 5p data; xargs -n 1000 < data | wc -l
    """).ok()
    equal(result.out, "equal\nsame\n20000100000\n200000\n5\n200\n", "stdout")


@scenario()
def a_thousand_short_processes(t):
    result = t.run("i=0; while [ $i -lt 1000 ]; do /bin/true || exit 1; i=$((i+1)); done; echo $i", timeout=110)
    equal(result.ok().out, "1000\n")


@scenario()
def orphans_end_with_the_sandbox(t):
    result = t.run("(sleep 1000 &) ; (trap '' TERM HUP INT; while :; do sleep 1; done) & echo done").ok()
    equal(result.out, "done\n")


@scenario()
def a_loopback_server_serves_a_client(t):
    result = t.run(r"""
        mkdir /tmp/www; echo hello > /tmp/www/index.html
        httpd -p 127.0.0.1:8080 -h /tmp/www || exit 1
        wget -q -O - http://127.0.0.1:8080/index.html
        echo ping | nc -l -p 9000 > /dev/null &
        sleep 0.2; nc 127.0.0.1 9000 < /dev/null
    """).ok()
    equal(result.out, "hello\nping\n", "stdout")
