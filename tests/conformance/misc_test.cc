// uname, getrandom, sysinfo, prctl, personality, sched_*, getcpu, priorities, arch_prctl, membarrier, unknown calls.
#include <asm/prctl.h>
#include <cpuid.h>
#include <linux/capability.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <thread>

#include "support/support.h"

namespace conformance {
namespace {

TEST(Uname, DescribesALinuxOnThisArchitecture) {
  utsname name;
  ASSERT_OK(uname(&name));
  EXPECT_STREQ(name.sysname, "Linux");
  EXPECT_STREQ(name.machine, "x86_64");
  EXPECT_GE(atoi(name.release), 4);
  EXPECT_EQ(ReadFile("/proc/sys/kernel/osrelease"), std::string(name.release) + "\n");
  EXPECT_EQ(ReadFile("/proc/sys/kernel/hostname"), std::string(name.nodename) + "\n");
  char host[65];
  ASSERT_OK(gethostname(host, sizeof(host)));
  EXPECT_STREQ(host, name.nodename);
  EXPECT_ERRNO(syscall(SYS_uname, BadPointer()), EFAULT);
}

TEST(Sethostname, NeedsItsCapability) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  EXPECT_EXITED(RunInChild([] {
                  CHILD_CHECK(setresuid(1, 1, 1) == 0);
                  CHILD_CHECK(sethostname("x", 1) == -1 && errno == EPERM);
                }),
                0);
  EXPECT_EXITED(RunInChild([] {
                  // In a namespace of its own, so that the machine keeps its name.
                  if (unshare(CLONE_NEWUTS) != 0) _exit(0);
                  CHILD_CHECK(sethostname("renamed", 7) == 0);
                  char host[65];
                  CHILD_CHECK(gethostname(host, sizeof(host)) == 0 && strcmp(host, "renamed") == 0);
                  CHILD_CHECK(sethostname(host, 65) == -1 && errno == EINVAL);
                  CHILD_CHECK(syscall(SYS_sethostname, BadPointer(), 5) == -1 && errno == EFAULT);
                }),
                0);
}

TEST(Getrandom, FillsAndChecks) {
  unsigned char a[64] = {}, b[64] = {};
  ASSERT_EQ(getrandom(a, 64, 0), 64);
  ASSERT_EQ(getrandom(b, 64, GRND_NONBLOCK), 64);
  EXPECT_NE(memcmp(a, b, 64), 0);
  EXPECT_EQ(getrandom(a, 0, 0), 0);
  EXPECT_ERRNO(getrandom(a, 64, 0x100), EINVAL);
  EXPECT_ERRNO(getrandom(a, 64, GRND_RANDOM | GRND_INSECURE), EINVAL);
  EXPECT_ERRNO(syscall(SYS_getrandom, BadPointer(), 64, 0), EFAULT);
}

TEST(Sysinfo, IsPlausible) {
  struct sysinfo info;
  ASSERT_OK(sysinfo(&info));
  EXPECT_GT(info.totalram, 0u);
  EXPECT_GT(info.mem_unit, 0u);
  EXPECT_GE(info.uptime, 0);
  EXPECT_GT(info.procs, 0);
  EXPECT_ERRNO(syscall(SYS_sysinfo, BadPointer()), EFAULT);
}

TEST(Prctl, NamesDumpableAndOthersRoundTrip) {
  char before[16], name[16];
  ASSERT_OK(prctl(PR_GET_NAME, before));
  ASSERT_OK(prctl(PR_SET_NAME, "sixteen-characters-and-more"));
  ASSERT_OK(prctl(PR_GET_NAME, name));
  EXPECT_STREQ(name, "sixteen-charact");
  ASSERT_OK(prctl(PR_SET_NAME, before));
  EXPECT_ERRNO(prctl(PR_SET_NAME, BadPointer()), EFAULT);
  EXPECT_ERRNO(prctl(PR_GET_NAME, BadPointer()), EFAULT);
  EXPECT_EXITED(RunInChild([] {
                  CHILD_CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
                  CHILD_CHECK(prctl(PR_GET_DUMPABLE) == 0);
                  CHILD_CHECK(prctl(PR_SET_DUMPABLE, 2) == -1 && errno == EINVAL);
                  int signo = -1;
                  CHILD_CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0);
                  CHILD_CHECK(prctl(PR_GET_PDEATHSIG, &signo) == 0 && signo == SIGUSR1);
                  CHILD_CHECK(prctl(PR_SET_PDEATHSIG, 1000) == -1 && errno == EINVAL);
                  int subreaper = -1;
                  CHILD_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
                  CHILD_CHECK(prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper == 1);
                  CHILD_CHECK(prctl(PR_SET_TIMERSLACK, 12345) == 0);
                  CHILD_CHECK(prctl(PR_GET_TIMERSLACK) == 12345);
                  CHILD_CHECK(prctl(99999, 0, 0, 0, 0) == -1 && errno == EINVAL);
                }),
                0);
}

TEST(Personality, CanBeAsked) {
  EXPECT_OK(personality(0xffffffff));
  EXPECT_EXITED(RunInChild([] {
                  const int old = personality(0xffffffff);
                  CHILD_CHECK(personality(old | ADDR_NO_RANDOMIZE) == old);
                  CHILD_CHECK(personality(0xffffffff) == (old | ADDR_NO_RANDOMIZE));
                }),
                0);
}

TEST(Affinity, IsShownAndCanBeReduced) {
  cpu_set_t set;
  ASSERT_OK(sched_getaffinity(0, sizeof(set), &set));
  const int count = CPU_COUNT(&set);
  EXPECT_GE(count, 1);
  EXPECT_EQ(sysconf(_SC_NPROCESSORS_ONLN) >= count, true);
  int first = 0;
  while (!CPU_ISSET(first, &set)) ++first;
  EXPECT_EXITED(RunInChild([&] {
                  cpu_set_t one, back;
                  CPU_ZERO(&one);
                  CPU_SET(first, &one);
                  CHILD_CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
                  CHILD_CHECK(sched_getaffinity(0, sizeof(back), &back) == 0);
                  CHILD_CHECK(CPU_EQUAL(&one, &back));
                  unsigned cpu, node;
                  CHILD_CHECK(syscall(SYS_getcpu, &cpu, &node, nullptr) == 0);
                  CHILD_CHECK(cpu == static_cast<unsigned>(first));
                  CHILD_CHECK(RunInChild([&] {
                                CHILD_CHECK(sched_getaffinity(0, sizeof(back), &back) == 0 && CPU_EQUAL(&one, &back));
                              }) == 0);
                }),
                0);
  CPU_ZERO(&set);
  EXPECT_ERRNO(sched_setaffinity(0, sizeof(set), &set), EINVAL) << "no processor at all";
  EXPECT_ERRNO(syscall(SYS_sched_getaffinity, 0, 1, &set), EINVAL);
  EXPECT_ERRNO(syscall(SYS_sched_getaffinity, 0, 128, BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_sched_setaffinity, 0, 128, BadPointer()), EFAULT);
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  EXPECT_ERRNO(sched_getaffinity(gone, sizeof(set), &set), ESRCH);
}

TEST(Sched, PolicyAndParametersCanBeAsked) {
  EXPECT_EQ(sched_getscheduler(0), SCHED_OTHER);
  sched_param param = {99};
  ASSERT_OK(sched_getparam(0, &param));
  EXPECT_EQ(param.sched_priority, 0);
  EXPECT_EQ(sched_get_priority_min(SCHED_OTHER), 0);
  EXPECT_EQ(sched_get_priority_max(SCHED_FIFO), 99);
  EXPECT_ERRNO(sched_get_priority_max(99), EINVAL);
  EXPECT_ERRNO(sched_getscheduler(-1), EINVAL);
  param.sched_priority = 5;
  EXPECT_ERRNO(sched_setscheduler(0, SCHED_OTHER, &param), EINVAL);
  EXPECT_ERRNO(sched_setscheduler(0, 99, &param), EINVAL);
  EXPECT_OK(sched_yield());
  EXPECT_EXITED(RunInChild([] {
                  sched_param p = {0};
                  CHILD_CHECK(sched_setscheduler(0, SCHED_BATCH, &p) == 0);
                  CHILD_CHECK(sched_getscheduler(0) == SCHED_BATCH);
                }),
                0);
}

TEST(Priority, NiceValuesRoundTrip) {
  EXPECT_EXITED(RunInChild([] {
                  errno = 0;
                  const int start = getpriority(PRIO_PROCESS, 0);
                  CHILD_CHECK(errno == 0);
                  CHILD_CHECK(setpriority(PRIO_PROCESS, 0, start + 2) == 0);
                  CHILD_CHECK(getpriority(PRIO_PROCESS, 0) == start + 2);
                  CHILD_CHECK(nice(1) == start + 3);
                  CHILD_CHECK(setpriority(PRIO_PROCESS, 0, 100) == 0);
                  CHILD_CHECK(getpriority(PRIO_PROCESS, 0) == 19);
                  CHILD_CHECK(getpriority(99, 0) == -1 && errno == EINVAL);
                }),
                0);
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  EXPECT_ERRNO(getpriority(PRIO_PROCESS, gone), ESRCH);
  EXPECT_ERRNO(getpriority(PRIO_PROCESS, -1), ESRCH);
  EXPECT_ERRNO(getpriority(PRIO_PGRP, gone), ESRCH);
  EXPECT_ERRNO(setpriority(PRIO_PGRP, -1, 5), ESRCH);
}

TEST(Priority, OfAProcessGroup) {
  pid_t pid = ForkChild([] {
    setpgid(0, 0);
    CHILD_CHECK(getpriority(PRIO_PGRP, 0) == getpriority(PRIO_PROCESS, 0));
    const int start = getpriority(PRIO_PROCESS, 0);
    pid_t second = fork();
    if (second == 0) {
      pause();
      _exit(0);
    }
    CHILD_CHECK(setpriority(PRIO_PROCESS, 0, start + 4) == 0);
    CHILD_CHECK(getpriority(PRIO_PGRP, 0) == start);  // the best of them
    CHILD_CHECK(setpriority(PRIO_PGRP, getpid(), start + 6) == 0);
    CHILD_CHECK(getpriority(PRIO_PROCESS, 0) == start + 6 && getpriority(PRIO_PROCESS, second) == start + 6);
    CHILD_CHECK(getpriority(PRIO_USER, 0) <= start + 6);
    kill(second, SIGKILL);
    waitpid(second, nullptr, 0);
  });
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Priority, OfInputAndOutputIsKept) {
  EXPECT_EXITED(RunInChild([] {
                  constexpr int kProcess = 1, kBestEffort = 2 << 13, kIdle = 3 << 13;
                  CHILD_CHECK(syscall(SYS_ioprio_set, kProcess, 0, kBestEffort | 6) == 0);
                  CHILD_CHECK(syscall(SYS_ioprio_get, kProcess, 0) == (kBestEffort | 6));
                  pid_t pid = fork();
                  if (pid == 0) _exit(syscall(SYS_ioprio_get, kProcess, 0) == (kBestEffort | 6) ? 0 : 1);
                  int status = -1;
                  CHILD_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
                  CHILD_CHECK(syscall(SYS_ioprio_set, kProcess, getpid(), kIdle) == 0);
                  CHILD_CHECK(syscall(SYS_ioprio_get, kProcess, getpid()) == kIdle);
                  CHILD_CHECK(syscall(SYS_ioprio_set, kProcess, 0, 4) == -1 && errno == EINVAL);  // no class, a level
                  CHILD_CHECK(syscall(SYS_ioprio_set, kProcess, 0, 4 << 13) == -1 && errno == EINVAL);
                  CHILD_CHECK(syscall(SYS_ioprio_set, 9, 0, kIdle) == -1 && errno == EINVAL);
                  CHILD_CHECK(syscall(SYS_ioprio_get, kProcess, -5) == -1 && errno == ESRCH);
                }),
                0);
}

TEST(Prctl, TimerSlackReturnsToWhatWasInherited) {
  EXPECT_EXITED(RunInChild([] {
                  CHILD_CHECK(prctl(PR_SET_TIMERSLACK, 70'000) == 0);
                  pid_t pid = fork();
                  if (pid == 0) {
                    const bool inherited = prctl(PR_GET_TIMERSLACK) == 70'000;
                    prctl(PR_SET_TIMERSLACK, 0);
                    _exit(inherited && prctl(PR_GET_TIMERSLACK) == 70'000 ? 0 : 1);
                  }
                  int status = -1;
                  CHILD_CHECK(waitpid(pid, &status, 0) == pid && status == 0);
                  CHILD_CHECK(prctl(PR_SET_TIMERSLACK, 0) == 0 && prctl(PR_GET_TIMERSLACK) == 50'000);
                }),
                0);
}

TEST(Prctl, ThpDisableChecksItsArgumentsAndIsKept) {
  EXPECT_EXITED(RunInChild([] {
                  CHILD_CHECK(prctl(PR_SET_THP_DISABLE, 1, 1, 0, 0) == -1 && errno == EINVAL);
                  CHILD_CHECK(prctl(PR_GET_THP_DISABLE, 1, 0, 0, 0) == -1 && errno == EINVAL);
                  CHILD_CHECK(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
                  CHILD_CHECK(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
                }),
                0);
}

TEST(ArchPrctl, SegmentBases) {
  unsigned long fs = 0, gs = 1;
  ASSERT_OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
  EXPECT_NE(fs, 0u);
  EXPECT_EXITED(RunInChild([] {
                  static unsigned long block[2] = {0, 0x1234};
                  if (syscall(SYS_arch_prctl, ARCH_SET_GS, block) != 0) _exit(0);
                  unsigned long value, back;
                  asm volatile("movq %%gs:8, %0" : "=r"(value));
                  CHILD_CHECK(value == 0x1234);
                  CHILD_CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &back) == 0);
                  CHILD_CHECK(back == reinterpret_cast<unsigned long>(block));
                }),
                0);
  EXPECT_ERRNO(syscall(SYS_arch_prctl, 0x9999, &gs), EINVAL);
  EXPECT_ERRNO(syscall(SYS_arch_prctl, ARCH_GET_FS, BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_arch_prctl, ARCH_SET_FS, KernelPointer()), EPERM);
}

TEST(Membarrier, TellsWhatItCan) {
  long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  if (commands == -1 && errno == ENOSYS) GTEST_SKIP() << "no membarrier here";
  ASSERT_GE(commands, 0);
  EXPECT_ERRNO(syscall(SYS_membarrier, 1 << 29, 0, 0), EINVAL);
  if (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
    EXPECT_EXITED(RunInChild([] {
                    CHILD_CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
                    CHILD_CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
                  }),
                  0);
  }
}

TEST(Unknown, NumbersGiveENOSYS) {
  for (long number : {1000l, 5000l, 100000l, -1l, 512l, 0x7fffffffl}) EXPECT_ERRNO(syscall(number), ENOSYS) << number;
}

TEST(Registers, ASystemCallKeepsAllButThree) {
  uint64_t rbx = 0x1111, r12 = 0x2222, r8 = 0x3333, r9 = 0x4444, r10 = 0x5555, rdi = 0x6666, rsi = 0x7777, rdx = 0x8888;
  uint64_t b, c12, c8, c9, c10, di, si, dx, rcx, r11, flags;
  asm volatile(
      "movq %[rbx], %%rbx; movq %[r12], %%r12; movq %[r8], %%r8; movq %[r9], %%r9; movq %[r10], %%r10\n"
      "movq %[rdi], %%rdi; movq %[rsi], %%rsi; movq %[rdx], %%rdx\n"
      "stc; movl $39, %%eax\n"  // getpid
      "syscall\n"
      "1: pushfq; popq %%rax; movq %%rax, %[flags]\n"
      "movq %%rbx, %[b]; movq %%r12, %[c12]; movq %%r8, %[c8]; movq %%r9, %[c9]; movq %%r10, %[c10]\n"
      "movq %%rdi, %[di]; movq %%rsi, %[si]; movq %%rdx, %[dx]; movq %%rcx, %[rcx]; movq %%r11, %[r11]\n"
      : [b] "=m"(b), [c12] "=m"(c12), [c8] "=m"(c8), [c9] "=m"(c9), [c10] "=m"(c10), [di] "=m"(di), [si] "=m"(si),
        [dx] "=m"(dx), [rcx] "=m"(rcx), [r11] "=m"(r11), [flags] "=m"(flags)
      : [rbx] "m"(rbx), [r12] "m"(r12), [r8] "m"(r8), [r9] "m"(r9), [r10] "m"(r10), [rdi] "m"(rdi), [rsi] "m"(rsi),
        [rdx] "m"(rdx)
      : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "memory", "cc");
  EXPECT_EQ(b, rbx);
  EXPECT_EQ(c12, r12);
  EXPECT_EQ(c8, r8);
  EXPECT_EQ(c9, r9);
  EXPECT_EQ(c10, r10);
  EXPECT_EQ(di, rdi);
  EXPECT_EQ(si, rsi);
  EXPECT_EQ(dx, rdx);
  EXPECT_EQ(flags & 1, 1u) << "the carry flag survives";
  EXPECT_EQ(r11 & 1, 1u) << "r11 holds the flags";
  EXPECT_NE(rcx, 0u) << "rcx holds the return address";
}

TEST(Registers, VectorsSurviveASystemCall) {
  alignas(16) uint64_t in[2] = {0x0123456789abcdef, 0xfedcba9876543210}, out[2] = {};
  asm volatile("movdqa %1, %%xmm9; movl $39, %%eax; syscall; movdqa %%xmm9, %0"
               : "=m"(out)
               : "m"(in)
               : "rax", "rcx", "r11", "xmm9", "memory");
  EXPECT_EQ(out[0], in[0]);
  EXPECT_EQ(out[1], in[1]);
}

TEST(Cpuid, WorksInUserMode) {
  unsigned a, b, c, d;
  ASSERT_TRUE(__get_cpuid(0, &a, &b, &c, &d));
  EXPECT_GE(a, 1u);
}

TEST(Session, SetsidMakesALeaderWithoutATerminal) {
  EXPECT_EXITED(RunInChild([] {
                  CHILD_CHECK(setsid() == getpid());
                  CHILD_CHECK(getsid(0) == getpid() && getpgrp() == getpid());
                  CHILD_CHECK(setsid() == -1 && errno == EPERM);
                  CHILD_CHECK(setpgid(0, 0) == -1 && errno == EPERM);
                  pid_t child = ForkChild([] {
                    for (;;) pause();
                  });
                  CHILD_CHECK(getsid(child) == getpid());
                  CHILD_CHECK(setpgid(child, child) == 0);
                  CHILD_CHECK(getpgid(child) == child);
                  CHILD_CHECK(setpgid(child, getpid()) == 0);
                  CHILD_CHECK(setpgid(child, 999999) == -1 && errno == EPERM);
                  kill(child, SIGKILL);
                  WaitFor(child);
                }),
                0);
}

TEST(Session, AChildThatHasExecutedKeepsItsGroup) {
  Pipe p = MakePipe();
  pid_t pid = ForkChild([&] {
    dup2(p.read_end.get(), 0);
    dup2(open("/dev/null", O_WRONLY), 1);
    execl("/proc/self/exe", "executed-child", "--gtest_filter=Hold.*", nullptr);
  });
  ChildGuard child(pid);
  ASSERT_TRUE(
      Eventually([&] { return ReadFile("/proc/" + std::to_string(pid) + "/cmdline").find("executed-child") == 0; }));
  EXPECT_ERRNO(setpgid(pid, pid), EACCES);
}

TEST(Session, AnOrphanedGroupThatIsStoppedGetsHangupAndContinue) {
  // man 3p _exit: when the end of a process orphans a group with a stopped member, the group gets SIGHUP and SIGCONT.
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  static volatile int* hung_up;
  hung_up = memory.as<int>();
  EXPECT_EXITED(RunInChild([] {
                  // The leader of a session, whose end leaves the group of its child without a parent in the session.
                  CHILD_CHECK(setsid() > 0);
                  pid_t member = ForkChild([] {
                    setpgid(0, 0);
                    signal(SIGHUP, [](int) { *hung_up = 1; });
                    raise(SIGSTOP);
                    for (int i = 0; i < 1000 && *hung_up == 0; ++i) SleepMs(1);
                    *hung_up = *hung_up == 1 ? 2 : 3;
                  });
                  int status;
                  CHILD_CHECK(waitpid(member, &status, WUNTRACED) == member && WIFSTOPPED(status));
                }),
                0);
  EXPECT_TRUE(Eventually([] { return *hung_up == 2; })) << *hung_up;
}

TEST(Session, AGroupIsHungUpWhenItsLastMemberWithAParentOutsideEnds) {
  Mapping memory(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  static volatile int* hung_up;
  hung_up = memory.as<int>();
  EXPECT_EXITED(RunInChild([] {
                  CHILD_CHECK(setsid() > 0);
                  pid_t connection = ForkChild([] {
                    setpgid(0, 0);
                    pid_t stopped = ForkChild([] {
                      signal(SIGHUP, [](int) { *hung_up = 1; });
                      raise(SIGSTOP);
                      for (int i = 0; i < 1000 && *hung_up == 0; ++i) SleepMs(1);
                      *hung_up = *hung_up == 1 ? 2 : 3;
                    });
                    int status;
                    CHILD_CHECK(waitpid(stopped, &status, WUNTRACED) == stopped && WIFSTOPPED(status));
                  });
                  int status;
                  CHILD_CHECK(waitpid(connection, &status, 0) == connection && WIFEXITED(status));
                  // The session and its leader go on: only the group has lost its connection.
                  CHILD_CHECK(Eventually([] { return *hung_up == 2; }));
                }),
                0);
}

// Not a case: what AChildThatHasExecutedKeepsItsGroup runs. It waits for the end of its input.
TEST(Hold, ReadsToTheEnd) {
  char c;
  if (isatty(0)) return;
  struct stat st;
  if (fstat(0, &st) == 0 && S_ISFIFO(st.st_mode)) {
    while (read(0, &c, 1) > 0) {
    }
  }
}

}  // namespace
}  // namespace conformance
