"""Unmodified programs of Debian 12 on real input."""

from framework import check, contains, equal, matches, scenario

BOTH = ("memory", "host")


def python(t, source, **more):
    return t.run(["/usr/bin/python3", "-c", source], root=more.pop("root", "debian"), **more)


def bash(t, script, **more):
    return t.run(["/bin/bash", "-c", script], root=more.pop("root", "debian"), **more)


@scenario(quick=True)
def dynamic_programs_start(t):
    result = bash(t, "cat /etc/debian_version | cut -d. -f1; python3 -c 'print(6 * 7)'; perl -e 'print \"perl\\n\"'").ok()
    equal(result.out, "12\n42\nperl\n", "stdout")


@scenario(overlays=BOTH, timeout=240)
def coreutils_over_ten_thousand_files(t):
    root = t.root("debian")
    result = bash(t, r"""
        set -e; mkdir /tree; cd /tree
        for d in $(seq 100); do mkdir d$d; (cd d$d; seq 100 | split -l 1 -a 3 - f); done
        find . -type f | wc -l
        cat d*/f* | awk '{ s += $1 } END { print s }'
        cp -a /tree /copy; diff -r /tree /copy && echo same
        find /copy -name 'f*a' -delete; find /copy -type f | wc -l
        du -s --apparent-size /tree > /dev/null; ls -lR /tree | grep -c '^-'
        rm -rf /copy; test ! -e /copy
        sort -u d*/* | wc -l
        chmod -R go-rwx d1; stat -c %a d1 d1/faaa; ln -s d2 link; readlink -f link/faaa
        find . -type f -print0 | sort -z | xargs -0 md5sum | md5sum > /sum; cut -d' ' -f1 /sum
    """, root=root, timeout=230).ok()
    lines = result.out.splitlines()
    equal(lines[:9], ["10000", "505000", "same", "9600", "10000", "100", "700", "600", "/tree/d2/faaa"])
    t.expect_on_host(root, "/tree/d7/faaa", "1\n")
    t.expect_on_host(root, "/sum", lines[9] + "  -\n")


@scenario(quick=True)
def python_threads(t):
    result = python(t, """
import threading, queue
q, out = queue.Queue(), []
def work():
    while (n := q.get()) is not None:
        out.append(n * n)
threads = [threading.Thread(target=work) for _ in range(20)]
[x.start() for x in threads]
for i in range(1000): q.put(i)
for _ in threads: q.put(None)
[x.join() for x in threads]
barrier = threading.Barrier(10); n = []
def meet(): barrier.wait(); n.append(1)
more = [threading.Thread(target=meet) for _ in range(10)]
[x.start() for x in more]; [x.join() for x in more]
event = threading.Event(); timer = threading.Timer(0.05, event.set); timer.start()
print(sum(out), len(n), event.wait(10))
""").ok()
    equal(result.out, "332833500 10 True\n", "stdout")


@scenario()
def python_subprocess(t):
    result = python(t, """
import subprocess, signal, sys
print(subprocess.run(['tr', 'a-z', 'A-Z'], input='shout', capture_output=True, text=True).stdout)
p = subprocess.Popen(['sleep', '100']); p.send_signal(signal.SIGTERM); print(p.wait())
try: subprocess.run(['sleep', '100'], timeout=0.2)
except subprocess.TimeoutExpired: print('timeout')
try: subprocess.run(['/no/such/program'])
except FileNotFoundError as e: print(e.errno)
a = subprocess.Popen(['seq', '100000'], stdout=subprocess.PIPE)
b = subprocess.run(['wc', '-l'], stdin=a.stdout, capture_output=True, text=True); a.stdout.close(); a.wait()
print(b.stdout.strip(), subprocess.run('exit 9', shell=True).returncode)
print(sum(subprocess.run(['true']).returncode for _ in range(50)))
print(subprocess.run(['sh', '-c', 'kill -SEGV $$']).returncode)
""").ok()
    equal(result.out, "SHOUT\n-15\ntimeout\n2\n100000 9\n0\n-11\n", "stdout")


@scenario()
def python_multiprocessing(t):
    # Its children import the script again, so it has to be a file.
    result = bash(t, "cat > /tmp/mp.py; exec python3 /tmp/mp.py", stdin=MULTIPROCESSING).ok()
    equal(result.out, "fork 328350\nspawn 328350\nforkserver 328350\n800\nTrue\n7\n[1, 2, 3]\n", "stdout")


MULTIPROCESSING = """
import multiprocessing as mp, os
from multiprocessing import shared_memory
def square(n): return n * n
def add(value, lock):
    for _ in range(200):
        with lock: value.value += 1
def main():
    for method in ('fork', 'spawn', 'forkserver'):
        context = mp.get_context(method)
        with context.Pool(4) as pool: print(method, sum(pool.map(square, range(100))), flush=True)
    value, lock = mp.Value('i', 0), mp.Lock()
    workers = [mp.Process(target=add, args=(value, lock)) for _ in range(4)]
    [w.start() for w in workers]; [w.join() for w in workers]
    print(value.value, flush=True)
    a, b = mp.Pipe()
    p = mp.Process(target=lambda: b.send({'pid': os.getpid()})); p.start()
    print(a.recv()['pid'] == p.pid, flush=True); p.join()
    s = shared_memory.SharedMemory(create=True, size=10000); s.buf[9999] = 7
    t = shared_memory.SharedMemory(name=s.name); print(t.buf[9999], flush=True); t.close(); s.close(); s.unlink()
    q = mp.Queue(); p = mp.Process(target=q.put, args=([1, 2, 3],)); p.start(); print(q.get(), flush=True); p.join()
if __name__ == '__main__': main()
"""


@scenario(quick=True)
def python_asyncio(t):
    result = python(t, """
import asyncio, os
async def main():
    async def serve(r, w):
        w.write((await r.readline()).upper()); await w.drain(); w.close()
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    port = server.sockets[0].getsockname()[1]
    async def ask(i):
        r, w = await asyncio.open_connection('127.0.0.1', port)
        w.write(b'hello %d\\n' % i); answer = await r.readline(); w.close(); return answer
    answers = await asyncio.gather(*(ask(i) for i in range(50)))
    print(answers[49])
    unix = await asyncio.start_unix_server(serve, '/tmp/s')
    r, w = await asyncio.open_unix_connection('/tmp/s'); w.write(b'unix\\n'); print(await r.readline()); w.close()
    p = await asyncio.create_subprocess_exec('cat', stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    print((await p.communicate(b'piped'))[0])
    try: await asyncio.wait_for(asyncio.sleep(100), 0.1)
    except asyncio.TimeoutError: print('timeout')
    print(await asyncio.to_thread(os.getpid) == os.getpid())
    server.close(); unix.close()
asyncio.run(main())
""").ok()
    equal(result.out, "b'HELLO 49\\n'\nb'UNIX\\n'\nb'piped'\ntimeout\nTrue\n", "stdout")


@scenario(overlays=BOTH)
def python_sqlite(t):
    root = t.root("debian")
    result = python(t, """
import sqlite3, threading
for mode in ('delete', 'wal'):
    db = sqlite3.connect(f'/var/tmp/{mode}.db', timeout=30); db.execute('pragma journal_mode=' + mode)
    db.execute('create table t (n integer primary key, s text)')
    def write(base):
        mine = sqlite3.connect(f'/var/tmp/{mode}.db', timeout=30)
        for i in range(25):
            with mine: mine.execute('insert into t values (?, ?)', (base + i, 'x' * 100))
        mine.close()
    threads = [threading.Thread(target=write, args=(b * 1000,)) for b in range(4)]
    [x.start() for x in threads]; [x.join() for x in threads]
    print(db.execute('select count(*), sum(length(s)) from t').fetchone(), db.execute('pragma integrity_check').fetchone())
    db.close()
""", root=root).ok()
    equal(result.out, "(100, 10000) ('ok',)\n" * 2, "stdout")
    t.expect_on_host(root, "/var/tmp/wal.db")


@scenario()
def python_mmap(t):
    result = python(t, """
import mmap, os
with open('/tmp/m', 'wb+') as f:
    f.truncate(1 << 20)
    a = mmap.mmap(f.fileno(), 1 << 20); b = mmap.mmap(f.fileno(), 1 << 20)
    a[4095:4100] = b'hello'; print(b[4095:4100]); a.flush(); f.seek(4095); print(f.read(5))
    f.seek(0); f.write(b'written'); f.flush(); print(a[:7])
    private = mmap.mmap(f.fileno(), 4096, access=mmap.ACCESS_COPY); private[:3] = b'xyz'; print(a[:3])
    a.resize(2 << 20); print(len(a), os.path.getsize('/tmp/m'))
anonymous = mmap.mmap(-1, 1 << 16)
if os.fork() == 0: anonymous[0] = 99; os._exit(0)
os.wait(); print(anonymous[0])
""").ok()
    equal(result.out, "b'hello'\nb'hello'\nb'written'\nb'wri'\n2097152 2097152\n99\n", "stdout")


@scenario()
def perl_runs(t):
    result = t.run(["/usr/bin/perl", "-e", r"""
        use strict; use warnings; use POSIX; use IO::Socket::INET; use Time::HiRes 'usleep';
        my %count; $count{length $_}++ for map { "x" x ($_ % 7) } 1..10000; print join(",", map { $count{$_} } sort keys %count), "\n";
        pipe(my $r, my $w); if (fork == 0) { close $r; print $w "from the child\n"; exit 3 }
        close $w; print <$r>; wait; print $? >> 8, "\n";
        local $SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select(undef, undef, undef, 10); }; print $@;
        open(my $f, ">", "/tmp/perl") or die; print $f "$_\n" for 1..1000; close $f; print -s "/tmp/perl", "\n";
        print `echo backticks`; print join(" ", sort { $a <=> $b } (5, 3, 9)), "\n"; print strftime("%Y", gmtime(0)), "\n";
    """], root="debian").ok()
    equal(result.out, "1428,1429,1429,1429,1429,1428,1428\nfrom the child\n3\nalarm\n3893\nbackticks\n3 5 9\n1970\n")


@scenario(overlays=BOTH, timeout=300)
def gcc_builds_and_runs_a_program_under_make(t):
    root = t.root("debian")
    result = bash(t, r"""
        set -e; mkdir /src; cd /src
        for i in 1 2 3 4 5 6; do
          printf '#include <string>\n#include <vector>\nint f%d(int n) { std::vector<std::string> v(n, "x"); int s = 0; for (auto& x : v) s += x.size(); return s * %d; }\n' $i $i > f$i.cc
        done
        cat > main.cc <<'END'
#include <cstdio>
#include <stdexcept>
#include <thread>
int f1(int); int f2(int); int f3(int); int f4(int); int f5(int); int f6(int);
int main() {
  int sum = f1(10) + f2(10) + f3(10) + f4(10) + f5(10) + f6(10);
  std::thread t([&] { sum += 1000; }); t.join();
  try { throw std::runtime_error("caught"); } catch (const std::exception& e) { std::printf("%s %d\n", e.what(), sum); }
}
END
        printf 'OBJECTS = main.o f1.o f2.o f3.o f4.o f5.o f6.o\nprogram: $(OBJECTS)\n\tg++ -o $@ $^ -pthread\n%%.o: %%.cc\n\tg++ -O1 -c $<\n' > Makefile
        make -s -j 4 && ./program && make -q && echo up to date
    """, root=root, timeout=280).ok()
    equal(result.out, "caught 1210\nup to date\n", "stdout")
    t.expect_on_host(root, "/src/program")
    if t.overlay == "host":
        import subprocess
        host = subprocess.run([root.path + "/src/program"], capture_output=True, text=True)
        equal(host.stdout, "caught 1210\n", "the program run on the host")


@scenario(overlays=BOTH, timeout=180, quick=True)
def git_init_commit_clone(t):
    root = t.root("debian")
    result = bash(t, r"""
        set -e; export HOME=/root GIT_CONFIG_NOSYSTEM=1
        git config --global user.email a@b.c; git config --global user.name A; git config --global init.defaultBranch main
        mkdir /repo; cd /repo; git init -q
        for i in $(seq 200); do echo "file $i" > f$i; done
        git add .; git commit -qm first; git tag one
        echo changed > f7; git rm -q f8; git mv f9 moved; git commit -qam second
        git log --oneline | wc -l; git diff --stat one | tail -1
        git checkout -q -b side one; echo side > side; git add side; git commit -qm side; git checkout -q main; git merge -q -m merge side
        git clone -q /repo /clone; cd /clone; git log --oneline | wc -l; cat f7 side; git status --porcelain | wc -l
        git gc -q; git fsck --full 2> /dev/null && echo sound; git stash list | wc -l
    """, root=root, timeout=170).ok()
    equal(result.out, "2\n 3 files changed, 1 insertion(+), 2 deletions(-)\n4\nchanged\nside\n0\nsound\n0\n", "stdout")
    t.expect_on_host(root, "/clone/f7", "changed\n")
    t.expect_on_host(root, "/clone/.git/HEAD")


@scenario(overlays=BOTH, timeout=240)
def tar_and_xz_of_a_large_tree_keep_every_byte(t):
    root = t.root("debian")
    result = bash(t, r"""
        set -e; cd /usr/lib
        sum() { find python3.11 -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum; }
        before=$(sum); mkdir /out
        tar cf /out/a.tar python3.11; xz -0 -T2 -k /out/a.tar
        mkdir /out/x; cd /out/x; tar xJf /out/a.tar.xz; after=$(sum)
        test "$before" = "$after" && echo equal
        xz -t /out/a.tar.xz && xz -dc /out/a.tar.xz | cmp - /out/a.tar && echo same
        find . -type f | wc -l > /out/count; test $(cat /out/count) -gt 500 && echo many
    """, root=root, timeout=230).ok()
    equal(result.out, "equal\nsame\nmany\n", "stdout")
    t.expect_on_host(root, "/out/a.tar.xz")


REDIS = r"""
    set -e; cd /tmp
    redis-server --port 6379 --bind 127.0.0.1 --unixsocket /tmp/redis.sock --save '' --daemonize yes --logfile /tmp/log > /dev/null
    for i in $(seq 200); do redis-cli ping > /dev/null 2>&1 && break; sleep 0.05; done
    redis-cli set key value; redis-cli -s /tmp/redis.sock get key
    redis-benchmark -q -n 5000 -c 20 -t set,get,lpush --csv | sed 1d | cut -d, -f1
    redis-benchmark -s /tmp/redis.sock -q -n 5000 -c 20 -t set,get --csv | sed 1d | cut -d, -f1
    redis-cli dbsize > /dev/null; redis-cli bgsave > /dev/null
    for i in $(seq 100); do test -e /tmp/dump.rdb && break; sleep 0.05; done; test -s /tmp/dump.rdb && echo saved
    redis-cli shutdown nosave || true
"""


@scenario(timeout=180, quick=True)
def redis_answers_its_benchmark_over_loopback_and_a_unix_socket(t):
    result = bash(t, REDIS, timeout=170).ok()
    equal(result.out, 'OK\nvalue\n"SET"\n"GET"\n"LPUSH"\n"SET"\n"GET"\nsaved\n', "stdout")


@scenario(quick=True)
def python_http_server_is_fetched_by_urllib(t):
    result = python(t, """
import http.server, threading, urllib.request, os, hashlib
os.chdir('/tmp'); open('big', 'wb').write(os.urandom(3 << 20))
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *a): pass
for address, url in (('127.0.0.1', 'http://127.0.0.1'), ('::1', 'http://[::1]')):
    class Server(http.server.ThreadingHTTPServer):
        address_family = 10 if ':' in address else 2
    server = Server((address, 0), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f'{url}:{server.server_port}'
    got = [urllib.request.urlopen(base + '/big').read() for _ in range(5)]
    print(all(g == open('big', 'rb').read() for g in got))
    try: urllib.request.urlopen(base + '/absent')
    except urllib.error.HTTPError as e: print(e.code)
    server.shutdown()
""").ok()
    equal(result.out, "True\n404\nTrue\n404\n", "stdout")


@scenario()
def nginx_serves_files(t):
    result = bash(t, r"""
        set -e; mkdir -p /tmp/www; echo static > /tmp/www/file
        cat > /tmp/nginx.conf <<END
worker_processes 2; pid /tmp/pid; error_log /tmp/error.log; events { worker_connections 64; }
http { access_log /tmp/access.log; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s; sendfile on; server { listen 127.0.0.1:8081; root /tmp/www; } }
END
        nginx -c /tmp/nginx.conf
        python3 -c 'import urllib.request as u
for _ in range(100): assert u.urlopen("http://127.0.0.1:8081/file").read() == b"static\n"
print("served")'
        wc -l < /tmp/access.log; nginx -c /tmp/nginx.conf -s quit
        for i in $(seq 100); do test -e /tmp/pid || break; sleep 0.05; done; test ! -e /tmp/pid && echo gone
    """).ok()
    equal(result.out, "served\n100\ngone\n", "stdout")


@scenario()
def two_hundred_threads(t):
    result = t.run(["/bin/bash", "-c", r"""
cat > /tmp/t.cc <<'END'
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>
int main() {
  std::mutex m; std::condition_variable c; int turn = 0; std::atomic<long> sum{0}; std::vector<std::thread> v;
  for (int i = 0; i < 200; ++i) v.emplace_back([&, i] {
    for (int n = 0; n < 1000; ++n) sum += n;
    std::unique_lock<std::mutex> l(m); c.wait(l, [&] { return turn == i; }); ++turn; c.notify_all();
  });
  for (auto& t : v) t.join();
  std::printf("%d %ld\n", turn, sum.load());
}
END
g++ -O1 -o /tmp/t /tmp/t.cc -pthread && for i in 1 2 3; do /tmp/t; done
"""], root="debian").ok()
    equal(result.out, "200 99900000\n" * 3, "stdout")


@scenario(quick=True)
def a_fork_bomb_is_held_by_its_process_limit(t):
    limit = [{"type": "RLIMIT_NPROC", "hard": 60, "soft": 60}, {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
    # Perl, because bash waits and tries again when a fork fails.
    result = t.run(["/usr/bin/perl", "-e", r"""
        use Errno; my @children;
        while (1) {
            my $pid = fork;
            if (!defined $pid) { print "refused at ", scalar(@children), " with ", $!{EAGAIN} ? "EAGAIN" : $!, "\n"; last; }
            if ($pid == 0) { while (1) { my $p = fork; defined $p or sleep 1; exit 0 if $p; } }
            push @children, $pid; die "not held" if @children > 5000;
        }
        kill 9, -1; 1 while wait > 0;
        print "recovered ", `echo and works again`;
    """], root="debian", uid=4242, gid=4242, rlimits=limit, capabilities=[], timeout=100)
    matches(result.out, r"^refused at \d+ with EAGAIN$")
    contains(result.out, "recovered and works again\n", "stdout")


@scenario()
def sqlite_command_line(t):
    result = bash(t, r"""
        cd /tmp; { echo 'create table t(a, b); begin;'; for i in $(seq 2000); do echo "insert into t values($i, 'row $i');"; done; echo 'commit;'; } | sqlite3 x.db
        sqlite3 x.db "select count(*), max(a) from t where b like 'row 1%'"; sqlite3 x.db .dump | sqlite3 y.db; cmp <(sqlite3 x.db .dump) <(sqlite3 y.db .dump) && echo equal
    """).ok()
    equal(result.out, "1111|1999\nequal\n", "stdout")


@scenario()
def bash_process_substitution_coprocesses_and_arrays(t):
    result = bash(t, r"""
        diff <(seq 3) <(seq 4); coproc cat; echo to the coprocess >&${COPROC[1]}; read -r line <&${COPROC[0]}; echo "$line"
        kill $COPROC_PID; a=(one two three); echo ${#a[@]} ${a[-1]}; x=$(echo | cat); printf '%(%Y)T\n' 0
        read -t 0.1 x < <(sleep 5); echo $?; (ulimit -f 1; dd if=/dev/zero of=/tmp/f bs=4096 count=4 2> /dev/null); echo $?
        time (sleep 0.01) 2> /dev/null; exec {fd}> /tmp/out; echo hi >&$fd; cat /tmp/out; mapfile -t m < <(seq 5); echo ${m[4]}
    """).ok()
    matches(result.out, r"^3a4\n> 4\nto the coprocess\n3 three\n1970\n142\n153\nhi\n5\n$", "stdout")


@scenario()
def processes_see_each_other_through_ps(t):
    result = bash(t, r"""
        sleep 100 & sleep 0.1; ps -eo pid,ppid,stat,comm --no-headers; ps -p $! -o args=; kill $!
        ps aux | wc -l > /dev/null; uptime > /dev/null && free > /dev/null && echo procps; pgrep -c bash
    """).ok()
    contains(result.out, "sleep 100\n", "stdout")
    contains(result.out, "procps\n1\n", "stdout")
    matches(result.out, r"^\s+1\s+0 S[s+]*\s+bash$", "stdout")


@scenario(timeout=180)
def apt_style_package_work_with_dpkg(t):
    result = bash(t, r"""
        set -e; mkdir -p /tmp/p/DEBIAN /tmp/p/opt; echo payload > /tmp/p/opt/file
        printf 'Package: probe\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b.c>\nDescription: probe\n' > /tmp/p/DEBIAN/control
        dpkg-deb -b /tmp/p /tmp/p.deb > /dev/null; dpkg -i /tmp/p.deb > /dev/null; cat /opt/file; dpkg -l probe | tail -1 | cut -c1-2
        dpkg -P probe > /dev/null; test ! -e /opt/file && echo removed
    """, timeout=170).ok()
    equal(result.out, "payload\nii\nremoved\n", "stdout")
