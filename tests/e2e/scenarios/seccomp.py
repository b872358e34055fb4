"""Programs that confine themselves with seccomp, and linux.seccomp of the configuration."""

from framework import contains, equal, scenario

# libseccomp as Debian has it: a filter with conditions on arguments, and a listener that answers for a child.
CONFINED = """
import ctypes, errno, os, signal, socket
lib = ctypes.CDLL('libseccomp.so.2', use_errno=True)
lib.seccomp_init.restype = ctypes.c_void_p
ALLOW, KILL = 0x7fff0000, 0x80000000
def fails(code): return 0x00050000 | code
class Arg(ctypes.Structure):
    _fields_ = [('arg', ctypes.c_uint), ('op', ctypes.c_int), ('a', ctypes.c_uint64), ('b', ctypes.c_uint64)]
def nr(name): return lib.seccomp_syscall_resolve_name(name)
ctx = ctypes.c_void_p(lib.seccomp_init(ALLOW))
assert lib.seccomp_rule_add(ctx, fails(errno.EACCES), nr(b'unlinkat'), 0) == 0
assert lib.seccomp_rule_add(ctx, fails(errno.EACCES), nr(b'unlink'), 0) == 0
# socket(AF_INET, ...) alone
assert lib.seccomp_rule_add_array(ctx, fails(errno.EAFNOSUPPORT), nr(b'socket'), 1, ctypes.byref(Arg(0, 4, 2, 0))) == 0
assert lib.seccomp_rule_add(ctx, KILL, nr(b'ptrace'), 0) == 0
assert lib.seccomp_load(ctx) == 0
open('/tmp/f', 'w').close()
try: os.unlink('/tmp/f')
except PermissionError as e: print('unlink', errno.errorcode[e.errno])
try: socket.socket(socket.AF_INET)
except OSError as e: print('inet', errno.errorcode[e.errno])
print('unix', socket.socket(socket.AF_UNIX).fileno() > 0, flush=True)
pid = os.fork()
if pid == 0:
    ctypes.CDLL(None).ptrace(0, 0, 0, 0)
    os._exit(1)
print('ptrace', os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
status = {name: text.strip() for name, text in (line.split(':', 1) for line in open('/proc/self/status'))}
print(status['Seccomp'], status['Seccomp_filters'], status['NoNewPrivs'])
print(os.popen('rm -f /tmp/f 2>&1; ls /tmp/f').read().strip())
"""


@scenario(quick=True)
def a_program_confines_itself_with_libseccomp(t):
    result = t.run(["/usr/bin/python3", "-c", CONFINED], root="debian").ok()
    equal(result.out, "unlink EACCES\ninet EAFNOSUPPORT\nunix True\nptrace -31\n2 1 1\n"
                      "rm: cannot remove '/tmp/f': Permission denied\n/tmp/f\n", "stdout")


def profile(spec):
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18},
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO",
             "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]},
        ]}


SHOW = "grep Seccomp: /proc/self/status; mkdir /tmp/d; kill -0 $$ && echo alive; kill -CONT $$ && echo continued"


@scenario(quick=True)
def the_profile_of_the_configuration_is_ignored_without_the_flag(t):
    result = t.run(["/bin/bash", "-c", SHOW + "; true"], root="debian", edit=profile)
    if t.ours:
        equal(result.ok().out, "Seccomp:\t0\nalive\ncontinued\n", "stdout")


@scenario(quick=True, ours_only="--oci-seccomp")
def the_profile_of_the_configuration_is_installed_with_the_flag(t):
    result = t.run(["/bin/bash", "-c", SHOW + "; true"], root="debian", edit=profile, flags=("--oci-seccomp",)).ok()
    equal(result.out, "Seccomp:\t2\ncontinued\n", "stdout")
    contains(result.err, "Invalid cross-device link")
    contains(result.err, "Operation not permitted")


@scenario(ours_only="--oci-seccomp")
def a_profile_that_cannot_be_is_one_sentence(t):
    def edit(spec):
        spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_MAYBE"}
    result = t.run("true", edit=edit, flags=("--oci-seccomp",))
    equal(result.code, 128, "exit code")
    contains(result.err, "linux.seccomp.defaultAction is no action that can be taken here: \"SCMP_ACT_MAYBE\"")


@scenario()
def shared_memory_and_queues_of_system_v(t):
    result = t.run(["/bin/bash", "-c", """
        perl -e '
          use IPC::SysV qw(IPC_PRIVATE IPC_CREAT IPC_RMID S_IRUSR S_IWUSR ftok);
          my $shm = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600) // die; shmwrite($shm, "hello", 0, 5) or die;
          my $sem = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600) // die;
          my $msg = msgget(IPC_PRIVATE, IPC_CREAT | 0600) // die;
          if (!fork) {
            my $text; shmread($shm, $text, 0, 5) or die; msgsnd($msg, pack("l! a*", 7, uc $text), 0) or die;
            semop($sem, pack("s!3", 0, 1, 0)) or die; exit 0;
          }
          semop($sem, pack("s!3", 0, -1, 0)) or die;
          my $got; msgrcv($msg, $got, 100, 7, 0) or die; my ($type, $text) = unpack("l! a*", $got);
          print "$type $text\\n"; wait;
          print `ipcs -m | grep -c 4096`;
          shmctl($shm, IPC_RMID, 0); semctl($sem, 0, IPC_RMID, 0); msgctl($msg, IPC_RMID, 0);
          print `ipcs -m | grep -c 4096`;
        '"""], root="debian").ok()
    equal(result.out, "7 HELLO\n1\n0\n", "stdout")
