// The allow-lists: interpreted here for calls that must and must not pass, and installed for real in a child.
#include "sentry/boot/isolation/seccomp.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "sentry/boot/isolation/confine.h"
#include "sentry/boot/isolation/seccomp_rules.h"

namespace sentry::isolation {
namespace {

// Classic BPF as seccomp has it (man 2 seccomp; linux/filter.h): loads, jumps, and, ret.
uint32_t Evaluate(FilterId id, long number, std::vector<uint64_t> args = {}, uint32_t arch = AUDIT_ARCH_X86_64) {
  FilterProgram program = GetFilter(id);
  seccomp_data data{};
  data.nr = static_cast<int>(number);
  data.arch = arch;
  for (size_t i = 0; i < args.size(); ++i) data.args[i] = args[i];
  uint32_t a = 0;
  uint32_t scratch[16] = {};
  for (size_t pc = 0; pc < program.count; ++pc) {
    const sock_filter& i = program.instructions[pc];
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        memcpy(&a, reinterpret_cast<const char*>(&data) + i.k, sizeof(a));
        break;
      case BPF_JMP | BPF_JA:
        pc += i.k;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
        pc += a == i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        pc += a > i.k ? i.jt : i.jf;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        pc += a >= i.k ? i.jt : i.jf;
        break;
      case BPF_ALU | BPF_AND | BPF_K:
        a &= i.k;
        break;
      case BPF_ST:
        scratch[i.k] = a;
        break;
      case BPF_LD | BPF_MEM:
        a = scratch[i.k];
        break;
      case BPF_RET | BPF_K:
        return i.k;
      default:
        ADD_FAILURE() << "unknown instruction " << i.code;
        return 0;
    }
  }
  ADD_FAILURE() << "the program has no end";
  return 0;
}

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW, kKill = SECCOMP_RET_KILL_PROCESS;
constexpr FilterId kAll[] = {FilterId::kSentrySystrap, FilterId::kSentrySystrapHostNetwork,
                             FilterId::kSentryPtrace,  FilterId::kSentryPtraceHostNetwork,
                             FilterId::kSentryKvm,     FilterId::kSentryKvmHostNetwork,
                             FilterId::kGofer,         FilterId::kGoferHostUds};
constexpr uint64_t kThread =
    CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_SETTLS;

TEST(SeccompTables, EveryRuleSaysWhy) {
  std::vector<SeccompFilter> all = SentryFilters();
  all.push_back(GoferFilter());
  all.push_back(GoferHostUdsFilter());
  for (const SeccompFilter& filter : all) {
    EXPECT_GT(filter.rules.size(), 30u);
    for (const SeccompRule& rule : filter.rules)
      EXPECT_GE(rule.why.size(), 4u) << filter.name << " call " << rule.number;
  }
}

TEST(SeccompFilters, NobodyMayReachNewThings) {
  for (FilterId id : kAll) {
    for (long call : {SYS_execve,
                      SYS_execveat,
                      SYS_open,
                      SYS_mount,
                      SYS_pivot_root,
                      SYS_chroot,
                      SYS_setns,
                      SYS_ptrace + 1000,
                      SYS_bpf,
                      SYS_keyctl,
                      SYS_init_module,
                      SYS_io_uring_setup,
                      SYS_userfaultfd,
                      SYS_perf_event_open,
                      SYS_process_vm_writev,
                      SYS_setuid,
                      SYS_capset,
                      SYS_memfd_create,
                      SYS_open_by_handle_at,
                      SYS_fork,
                      SYS_vfork,
                      SYS_pidfd_getfd,
                      SYS_seccomp,
                      SYS_kexec_load,
                      SYS_reboot,
                      SYS_personality,
                      SYS_modify_ldt}) {
      EXPECT_EQ(Evaluate(id, call), kKill) << "filter " << static_cast<int>(id) << " call " << call;
    }
  }
  for (long call : {SYS_openat, SYS_openat2, SYS_socket, SYS_connect, SYS_bind, SYS_unlinkat, SYS_kill + 1000}) {
    EXPECT_EQ(Evaluate(FilterId::kSentrySystrap, call, {AF_INET}), kKill) << call;
  }
}

// glibc's shrink_heap (malloc/arena.c) asks for the overcommit mode before it gives the end of a thread's heap back.
TEST(SeccompFilters, MallocIsToldThatThereIsNoFile) {
  for (FilterId id : kAll) {
    uint32_t answer = Evaluate(id, SYS_openat, {static_cast<uint32_t>(AT_FDCWD), 0, O_RDONLY | O_CLOEXEC});
    EXPECT_EQ(answer, SECCOMP_RET_ERRNO | ENOENT) << static_cast<int>(id);
  }
}

TEST(SeccompFilters, OtherArchitecturesAreKilled) {
  for (FilterId id : kAll) {
    EXPECT_EQ(Evaluate(id, SYS_read, {}, AUDIT_ARCH_I386), kKill);
    EXPECT_EQ(Evaluate(id, SYS_close | 0x40000000), kKill) << "x32";
  }
}

TEST(SeccompFilters, CloneMakesThreadsOnly) {
  for (FilterId id : kAll) {
    EXPECT_EQ(Evaluate(id, SYS_clone, {kThread}), kAllow);
    EXPECT_EQ(Evaluate(id, SYS_clone, {SIGCHLD}), kKill) << "fork";
    EXPECT_EQ(Evaluate(id, SYS_clone, {kThread | CLONE_NEWUSER}), kKill);
    EXPECT_EQ(Evaluate(id, SYS_clone3) & SECCOMP_RET_ACTION_FULL, SECCOMP_RET_ERRNO);
  }
}

TEST(SeccompFilters, NoExecutableMemory) {
  for (FilterId id : kAll) {
    EXPECT_EQ(Evaluate(id, SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS}), kAllow);
    EXPECT_EQ(Evaluate(id, SYS_mmap, {0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS}), kKill);
    EXPECT_EQ(Evaluate(id, SYS_mprotect, {0, 4096, PROT_READ | PROT_EXEC}), kKill);
  }
}

TEST(SeccompFilters, SocketsOnlyWithTheHostsNetwork) {
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrapHostNetwork, SYS_socket, {AF_INET, SOCK_STREAM}), kAllow);
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrapHostNetwork, SYS_socket, {AF_INET6, SOCK_DGRAM}), kAllow);
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrapHostNetwork, SYS_socket, {AF_UNIX, SOCK_STREAM}), kKill);
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrapHostNetwork, SYS_socket, {AF_PACKET, SOCK_RAW}), kKill);
  EXPECT_EQ(Evaluate(FilterId::kGofer, SYS_socket, {AF_UNIX}), kKill);
  EXPECT_EQ(Evaluate(FilterId::kGoferHostUds, SYS_socket, {AF_UNIX}), kAllow);
  EXPECT_EQ(Evaluate(FilterId::kGoferHostUds, SYS_socket, {AF_INET}), kKill);
}

TEST(SeccompFilters, TerminalsCannotBeFedOrTaken) {
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrap, SYS_ioctl, {0, 0x5401 /*TCGETS*/}), kAllow);
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrap, SYS_ioctl, {0, 0x5412 /*TIOCSTI*/}), kKill);
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrap, SYS_ioctl, {0, 0x540e /*TIOCSCTTY*/}), kKill);
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrap, SYS_ioctl, {0, 0x541c /*TIOCLINUX*/}), kKill);
}

TEST(SeccompFilters, OnlyTheKvmPlatformReachesVirtualMachinesAndMakesNone) {
  constexpr uint64_t kRun = 0xae80, kCreateVm = 0xae01, kCreateVcpu = 0xae41, kSetMsrs = 0x4008ae89;
  EXPECT_EQ(Evaluate(FilterId::kSentryKvm, SYS_ioctl, {0, kRun}), kAllow);
  EXPECT_EQ(Evaluate(FilterId::kSentrySystrap, SYS_ioctl, {0, kRun}), kKill);
  for (uint64_t request : {kCreateVm, kCreateVcpu, kSetMsrs}) {
    EXPECT_EQ(Evaluate(FilterId::kSentryKvm, SYS_ioctl, {0, request}), kKill);
  }
}

TEST(SeccompFilters, TheGoferFollowsNoLinks) {
  EXPECT_EQ(Evaluate(FilterId::kGofer, SYS_openat, {10, 0, O_PATH | O_NOFOLLOW}), kAllow);
  EXPECT_EQ(Evaluate(FilterId::kGofer, SYS_openat, {10, 0, O_RDONLY}), kKill);
  EXPECT_EQ(Evaluate(FilterId::kGofer, SYS_openat, {kGoferProcSelfFd, 0, O_RDONLY}), kAllow);
}

// What a child that does `action` under the filter ends with.
template <typename F>
int EndOfChild(FilterId id, bool report, F&& action) {
  pid_t pid = fork();
  if (pid == 0) {
    if (!InstallFilter(id, report).ok()) syscall(SYS_exit_group, 99);
    action();
    syscall(SYS_exit_group, 7);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  return status;
}

TEST(InstallFilter, KillsOrReportsAndEnds) {
  EXPECT_EQ(EndOfChild(FilterId::kSentrySystrap, false, [] { syscall(SYS_getpid); }), 7 << 8);
  int killed = EndOfChild(FilterId::kSentrySystrap, false, [] { syscall(SYS_getuid); });
  EXPECT_TRUE(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGSYS) << killed;
  EXPECT_EQ(EndOfChild(FilterId::kSentrySystrap, true, [] { syscall(SYS_getuid); }), (128 + SIGSYS) << 8);
}

TEST(LimitCapabilities, LeavesExactlyWhatIsKept) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  pid_t pid = fork();
  if (pid == 0) {
    bool good = LimitCapabilities(1 << 0 /*CAP_CHOWN*/ | 1 << 3 /*CAP_FOWNER*/).ok();
    FILE* file = fopen("/proc/self/status", "r");
    char line[256];
    while (fgets(line, sizeof(line), file) != nullptr) {
      unsigned long long value;
      for (const char* name : {"CapPrm: %llx", "CapEff: %llx", "CapBnd: %llx"}) {
        if (sscanf(line, name, &value) == 1) good = good && value == 9;
      }
      for (const char* name : {"CapInh: %llx", "CapAmb: %llx"}) {
        if (sscanf(line, name, &value) == 1) good = good && value == 0;
      }
      if (sscanf(line, "NoNewPrivs: %llu", &value) == 1) good = good && value == 1;
    }
    _exit(good ? 0 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace sentry::isolation
