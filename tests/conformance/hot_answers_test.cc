// Calls that only ask, made so often that a kernel may answer them by a short cut: what they say is what was last set,
// by whomever; results arrive where they should and nowhere else; tracers, filters and signals see no difference.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <time.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "support/tracee.h"

namespace {

using namespace conformance;

constexpr int kWarm = 60;

struct Call {
  const char* name;
  size_t bytes;                     // that it writes
  std::function<long(void*)> make;  // syscall(2)'s result
};

// Through one call site, which is hot after the first of them.
const std::vector<Call>& Calls() {
  static const std::vector<Call> calls = {
      {"uname", sizeof(utsname), [](void* to) { return syscall(SYS_uname, to); }},
      {"clock_gettime", 16, [](void* to) { return syscall(SYS_clock_gettime, CLOCK_MONOTONIC, to); }},
      {"gettimeofday", 16, [](void* to) { return syscall(SYS_gettimeofday, to, nullptr); }},
      {"gettimeofday's zone", 8, [](void* to) { return syscall(SYS_gettimeofday, nullptr, to); }},
      {"time", 8, [](void* to) { return syscall(SYS_time, to) > 0 ? 0 : -1; }},
      {"getrlimit", 16, [](void* to) { return syscall(SYS_getrlimit, RLIMIT_NOFILE, to); }},
      {"prlimit64", 16, [](void* to) { return syscall(SYS_prlimit64, 0, RLIMIT_STACK, nullptr, to); }},
      {"sched_getaffinity", 8, [](void* to) { return syscall(SYS_sched_getaffinity, 0, 8, to) == 8 ? 0 : -1; }},
      {"getcpu", 4, [](void* to) { return syscall(SYS_getcpu, to, nullptr, nullptr); }},
      {"getcpu's node", 4, [](void* to) { return syscall(SYS_getcpu, nullptr, to, nullptr); }},
  };
  return calls;
}

void WarmUp() {
  char buffer[512];
  for (int i = 0; i < kWarm; ++i) {
    for (const Call& call : Calls()) (void)call.make(buffer);
  }
}

TEST(HotAnswers, FailWithEfaultWhereTheResultCannotGo) {
  WarmUp();
  for (int i = 0; i < 5; ++i) {
    for (const Call& call : Calls()) {
      for (char* bad : {BadPointer(), ReadOnlyPage(), KernelPointer(), EndOfMemory() + kPage - call.bytes + 1,
                        reinterpret_cast<char*>(0x7fffffffe000 + 0x1000 - 4)}) {
        EXPECT_ERRNO(call.make(bad), EFAULT) << call.name;
      }
    }
  }
  EXPECT_ERRNO(syscall(SYS_uname, nullptr), EFAULT);
  EXPECT_ERRNO(syscall(SYS_clock_gettime, CLOCK_REALTIME, nullptr), EFAULT);
  EXPECT_OK(syscall(SYS_gettimeofday, nullptr, nullptr));
  EXPECT_GT(syscall(SYS_time, nullptr), 0);
  EXPECT_OK(syscall(SYS_prlimit64, 0, RLIMIT_STACK, nullptr, nullptr));
  EXPECT_OK(syscall(SYS_getcpu, nullptr, nullptr, nullptr));
}

TEST(HotAnswers, WriteTheirResultAndNothingElse) {
  WarmUp();
  Mapping memory(2 * kPage, PROT_READ | PROT_WRITE);
  for (const Call& call : Calls()) {
    for (size_t offset : {kPage - 1, kPage - 3, kPage - 8, size_t{16}, 2 * kPage - call.bytes}) {
      if (offset + call.bytes > 2 * kPage) continue;
      memset(memory.get(), 0x77, 2 * kPage);
      EXPECT_OK(call.make(memory.get() + offset)) << call.name;
      for (size_t i = 0; i < 2 * kPage; ++i) {
        if (i >= offset && i < offset + call.bytes) continue;
        ASSERT_EQ(memory.get()[i], 0x77) << call.name << " wrote at " << i << " of " << offset;
      }
    }
  }
}

TEST(HotAnswers, ReachPagesThatAreNotThereYetAndPagesOfSeveralProcesses) {
  WarmUp();
  for (const Call& call : Calls()) {
    for (int i = 0; i < 3; ++i) {
      Mapping fresh(kPage, PROT_READ | PROT_WRITE);
      EXPECT_OK(call.make(fresh.get() + 100)) << call.name;
    }
    Mapping shared(kPage, PROT_READ | PROT_WRITE);
    memset(shared.get(), 0x11, kPage);
    EXPECT_EXITED(WaitFor(ForkChild([&] {
                    CHILD_CHECK(call.make(shared.get()) == 0);
                    CHILD_CHECK(shared.get()[kPage - 1] == 0x11);
                  })),
                  0);
    for (size_t i = 0; i < kPage; ++i) ASSERT_EQ(shared.get()[i], 0x11) << call.name;
  }
}

TEST(HotAnswers, RefuseWhatTheyAlwaysRefuse) {
  WarmUp();
  char buffer[512];
  EXPECT_ERRNO(syscall(SYS_getrlimit, 16, buffer), EINVAL);
  EXPECT_ERRNO(syscall(SYS_getrlimit, -1, buffer), EINVAL);
  EXPECT_ERRNO(syscall(SYS_prlimit64, 0, 16, nullptr, buffer), EINVAL);
  EXPECT_ERRNO(syscall(SYS_prlimit64, -1, 1, nullptr, buffer), ESRCH);
  EXPECT_ERRNO(syscall(SYS_sched_getaffinity, 0, 0, buffer), EINVAL);
  EXPECT_ERRNO(syscall(SYS_sched_getaffinity, 0, 9, buffer), EINVAL);
  EXPECT_ERRNO(syscall(SYS_sched_getaffinity, -1, 8, buffer), ESRCH);
  EXPECT_ERRNO(syscall(SYS_clock_gettime, 12, buffer), EINVAL);
  EXPECT_ERRNO(syscall(SYS_clock_gettime, 1000, buffer), EINVAL);
  EXPECT_ERRNO(syscall(SYS_getpgid, -1), ESRCH);
  EXPECT_ERRNO(syscall(SYS_getsid, -1), ESRCH);
  // The kernel takes an int where there is one.
  EXPECT_OK(syscall(SYS_getrlimit, 1L << 40 | 7, buffer));
  EXPECT_OK(syscall(SYS_clock_gettime, 1L << 40 | 1, buffer));
  EXPECT_EQ(syscall(SYS_getpgid, 1L << 40), getpgrp());
  for (int clock : {CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW}) {
    EXPECT_OK(syscall(SYS_clock_gettime, clock, buffer)) << clock;
  }
}

// A thread asks all the time. What another one has set, and then told about, it sees.
void SeesEveryChange(const std::function<long()>& ask, const std::function<bool(int)>& change) {
  std::atomic<int> set{0};
  std::atomic<bool> wrong{false};
  std::thread asking([&] {
    while (set >= 0 && !wrong) {
      const int before = set.load();
      const long got = ask();
      const int after = set.load();
      if (before < 0 || after < 0) break;
      // One that is being set may be seen already.
      if (got < before || got > after + 1) wrong = true;
    }
  });
  for (int i = 1; i <= 300 && !wrong; ++i) {
    if (!change(i)) {
      ADD_FAILURE() << "cannot set it: " << strerror(errno);
      break;
    }
    set = i;
  }
  set = -1;
  asking.join();
  EXPECT_FALSE(wrong);
}

TEST(HotAnswers, LimitsAreThoseThatAnotherThreadHasSet) {
  WarmUp();
  int status = RunInChild([] {
    SeesEveryChange(
        [] {
          rlimit64 limit;
          syscall(SYS_getrlimit, RLIMIT_MSGQUEUE, &limit);
          return static_cast<long>(limit.rlim_cur % 4096);
        },
        [](int i) {
          rlimit64 limit;
          return syscall(SYS_prlimit64, 0, RLIMIT_MSGQUEUE, nullptr, &limit) == 0 &&
                 (limit.rlim_cur = static_cast<rlim64_t>(i),
                  syscall(SYS_prlimit64, 0, RLIMIT_MSGQUEUE, &limit, nullptr) == 0);
        });
    CHILD_CHECK(!::testing::Test::HasFailure());
  });
  EXPECT_EXITED(status, 0);
}

TEST(HotAnswers, LimitsAreThoseThatAnotherProcessHasSet) {
  Mapping page(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* step = new (page.get()) std::atomic<int>(0);
  ChildGuard child(ForkChild([&] {
    WarmUp();
    rlimit64 limit;
    for (int i = 1; i <= 50; ++i) {
      *step = 2 * i - 1;
      while (*step != 2 * i) CHILD_CHECK(syscall(SYS_getrlimit, RLIMIT_MSGQUEUE, &limit) == 0);
      CHILD_CHECK(syscall(SYS_getrlimit, RLIMIT_MSGQUEUE, &limit) == 0);
      CHILD_CHECK(limit.rlim_cur == static_cast<rlim64_t>(i));
    }
  }));
  for (int i = 1; i <= 50; ++i) {
    ASSERT_TRUE(Eventually([&] { return *step == 2 * i - 1; }));
    rlimit64 limit;
    ASSERT_OK(syscall(SYS_prlimit64, child.pid(), RLIMIT_MSGQUEUE, nullptr, &limit));
    limit.rlim_cur = static_cast<rlim64_t>(i);
    ASSERT_OK(syscall(SYS_prlimit64, child.pid(), RLIMIT_MSGQUEUE, &limit, nullptr));
    *step = 2 * i;
  }
  EXPECT_EXITED(child.Wait(), 0);
}

TEST(HotAnswers, TheNameOfTheHostIsTheLastOne) {
  WarmUp();
  int status = RunInChild([] {
    if (unshare(CLONE_NEWUTS) != 0) return;
    CHILD_CHECK(sethostname("0", 1) == 0);
    SeesEveryChange(
        [] {
          utsname name;
          syscall(SYS_uname, &name);
          return atol(name.nodename);
        },
        [](int i) {
          const std::string name = std::to_string(i);
          return sethostname(name.c_str(), name.size()) == 0;
        });
    CHILD_CHECK(!::testing::Test::HasFailure());
    utsname name;
    CHILD_CHECK(syscall(SYS_uname, &name) == 0);
    const std::string last = name.nodename;
    // A namespace of its own.
    CHILD_CHECK(unshare(CLONE_NEWUTS) == 0);
    CHILD_CHECK(setdomainname("other", 5) == 0);
    CHILD_CHECK(syscall(SYS_uname, &name) == 0);
    CHILD_CHECK(name.nodename == last);
    CHILD_CHECK(std::string(name.domainname) == "other");
  });
  EXPECT_EXITED(status, 0);
}

TEST(HotAnswers, CpusAreThoseThatAnotherThreadHasChosen) {
  WarmUp();
  cpu_set_t all;
  ASSERT_OK(sched_getaffinity(0, sizeof(all), &all));
  std::vector<int> cpus;
  for (int cpu = 0; cpu < 64; ++cpu) {
    if (CPU_ISSET(cpu, &all)) cpus.push_back(cpu);
  }
  if (cpus.size() < 2) GTEST_SKIP() << "one CPU";
  std::atomic<pid_t> tid{0};
  std::atomic<int> chosen{-1}, seen{-1};
  std::thread asking([&] {
    tid = static_cast<pid_t>(syscall(SYS_gettid));
    while (chosen != -2) {
      const int want = chosen;
      if (want < 0) continue;
      uint64_t mask = 0;
      uint32_t cpu = 0;
      bool right = true;
      for (int i = 0; i < 20; ++i) {
        right &= syscall(SYS_sched_getaffinity, 0, 8, &mask) == 8 && mask == uint64_t{1} << want;
        right &= syscall(SYS_getcpu, &cpu, nullptr, nullptr) == 0 && cpu == static_cast<uint32_t>(want);
      }
      seen = right ? want : -3;
      int expected = want;
      chosen.compare_exchange_strong(expected, -1);
    }
  });
  ASSERT_TRUE(Eventually([&] { return tid != 0; }));
  for (int i = 0; i < 40; ++i) {
    const int cpu = cpus[static_cast<size_t>(i) % cpus.size()];
    const uint64_t mask = uint64_t{1} << cpu;
    EXPECT_OK(syscall(SYS_sched_setaffinity, tid.load(), 8, &mask));
    seen = -1;
    chosen = cpu;
    EXPECT_TRUE(Eventually([&] { return chosen == -1; }));
    EXPECT_EQ(seen, cpu);
  }
  chosen = -2;
  asking.join();
}

TEST(HotAnswers, ProcessGroupsAndSessionsAreTheLastOnes) {
  WarmUp();
  Mapping page(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* moved = new (page.get()) std::atomic<int>(0);
  const pid_t group = getpgrp(), session = getsid(0);
  ChildGuard child(ForkChild([&] {
    const pid_t self = getpid();
    for (int i = 0; i < kWarm; ++i) {
      CHILD_CHECK(syscall(SYS_getpgrp) == group);
      CHILD_CHECK(syscall(SYS_getpgid, 0) == group);
      CHILD_CHECK(syscall(SYS_getsid, 0) == session);
    }
    *moved = 1;
    while (*moved != 2) CHILD_CHECK(syscall(SYS_getsid, 0) == session);
    CHILD_CHECK(syscall(SYS_getpgrp) == self);
    CHILD_CHECK(setpgid(0, group) == 0);
    CHILD_CHECK(syscall(SYS_getpgid, 0) == group);
    CHILD_CHECK(setsid() == self);
    CHILD_CHECK(syscall(SYS_getsid, 0) == self);
    CHILD_CHECK(syscall(SYS_getpgrp) == self);
    // Its own child has them as well.
    CHILD_CHECK(WaitFor(ForkChild(
                    [&] { CHILD_CHECK(syscall(SYS_getsid, 0) == self && syscall(SYS_getpgid, 0) == self); })) == 0);
  }));
  ASSERT_TRUE(Eventually([&] { return *moved == 1; }));
  ASSERT_OK(setpgid(child.pid(), child.pid()));
  *moved = 2;
  EXPECT_EXITED(child.Wait(), 0);
}

int64_t ByCall(int clock) {
  timespec t;
  syscall(SYS_clock_gettime, clock, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}
int64_t ByLibrary(int clock) {
  timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1'000'000'000 + t.tv_nsec;
}

TEST(HotAnswers, TimeNeverGoesBackHoweverOneAsks) {
  WarmUp();
  const int64_t end = NowNs() + 2'300'000'000;  // longer than parameters of a clock may be good for
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      int64_t last = 0;
      while (last < end) {
        for (int i = 0; i < 1000; ++i) {
          const int64_t a = ByCall(CLOCK_MONOTONIC), b = ByLibrary(CLOCK_MONOTONIC);
          wrong += (a < last) + (b < a);
          last = b;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
}

TEST(HotAnswers, TheTimeIsTheSameHoweverOneAsks) {
  WarmUp();
  for (int i = 0; i < 1000; ++i) {
    timeval tv;
    struct timezone zone = {1, 1};
    const int64_t before = ByLibrary(CLOCK_REALTIME);
    ASSERT_OK(syscall(SYS_gettimeofday, &tv, &zone));
    const time_t seconds = syscall(SYS_time, nullptr);
    const int64_t real = ByCall(CLOCK_REALTIME), boot = ByCall(CLOCK_BOOTTIME), tai = ByCall(CLOCK_TAI);
    const int64_t after = ByLibrary(CLOCK_REALTIME), boot_after = ByLibrary(CLOCK_BOOTTIME);
    const int64_t us = tv.tv_sec * 1'000'000 + tv.tv_usec;
    EXPECT_EQ(zone.tz_minuteswest, 0);
    EXPECT_GE(us, before / 1000);
    EXPECT_LE(us, after / 1000);
    EXPECT_GE(seconds, before / 1'000'000'000 - 1);  // Linux's clock for time(2) is that of the last tick
    EXPECT_LE(seconds, after / 1'000'000'000);
    EXPECT_GE(real, before);
    EXPECT_LE(real, after);
    EXPECT_LE(boot, boot_after);
    EXPECT_GE(tai, before);
    if (HasFailure()) return;
  }
}

TEST(HotAnswers, AreRightWhileSignalsCome) {
  WarmUp();
  static std::atomic<long> handled, wrong;
  handled = wrong = 0;
  ScopedHandler handler(
      SIGALRM, +[](int) {
        // The same calls, in the middle of them.
        utsname name;
        timespec t;
        const int saved = errno;
        ++handled;
        wrong += syscall(SYS_uname, &name) != 0 || strcmp(name.sysname, "Linux") != 0;
        wrong += syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t) != 0;
        errno = saved;
      });
  itimerval often = {{0, 200}, {0, 200}}, off = {};
  ASSERT_OK(setitimer(ITIMER_REAL, &often, nullptr));
  utsname first;
  ASSERT_OK(uname(&first));
  const int64_t end = NowNs() + 400'000'000;
  int64_t last = 0;
  while (NowNs() < end || handled < 20) {
    for (int i = 0; i < 100; ++i) {
      utsname name;
      memset(&name, 0x55, sizeof(name));
      ASSERT_OK(syscall(SYS_uname, &name));
      ASSERT_EQ(memcmp(&name, &first, sizeof(name)), 0);
      const int64_t now = ByCall(CLOCK_MONOTONIC);
      ASSERT_GE(now, last);
      last = now;
      ASSERT_EQ(syscall(SYS_getpgid, 0), getpgrp());
    }
  }
  ASSERT_OK(setitimer(ITIMER_REAL, &off, nullptr));
  EXPECT_EQ(wrong, 0);
}

TEST(HotAnswers, AreFilteredFromTheMomentThatAFilterIsThere) {
  WarmUp();
  int status = RunInChild([] {
    std::atomic<bool> filtered{false}, stop{false};
    std::atomic<long> wrong{0}, denied{0};
    std::thread asking([&] {
      while (!stop) {
        const bool before = filtered;
        char buffer[512];
        for (const Call& call : Calls()) {
          const bool failed = call.make(buffer) != 0;
          if (before && !failed) ++wrong;
          denied += failed;
        }
        const long group = syscall(SYS_getpgrp);
        if (before && group != -1) ++wrong;
      }
    });
    SleepMs(20);
    sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_uname, 9, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 8, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettimeofday, 7, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_time, 6, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getrlimit, 5, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 4, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_sched_getaffinity, 3, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getcpu, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
    };
    sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHILD_CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
    filtered = true;
    SleepMs(20);
    stop = true;
    asking.join();
    CHILD_CHECK(denied > 0);
    CHILD_CHECK(wrong == 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(HotAnswers, AreSeenByATracer) {
  WarmUp();
  ChildGuard traced(StartTraced([] {
    char buffer[512];
    for (const Call& call : Calls()) (void)call.make(buffer);
    syscall(SYS_getpgrp);
    syscall(SYS_exit_group, 0);
  }));
  const std::vector<uint64_t> expected = {SYS_uname,  SYS_clock_gettime, SYS_gettimeofday, SYS_gettimeofday,
                                          SYS_time,   SYS_getrlimit,     SYS_prlimit64,    SYS_sched_getaffinity,
                                          SYS_getcpu, SYS_getcpu,        SYS_getpgrp,      SYS_exit_group};
  ASSERT_EQ(Ptrace(PTRACE_SETOPTIONS, traced.pid(), 0, PTRACE_O_TRACESYSGOOD), 0);
  for (uint64_t number : expected) {
    ASSERT_EQ(Resume(PTRACE_SYSCALL_, traced.pid()), kSyscallStop);
    ASSERT_EQ(GetRegs(traced.pid()).orig_rax, number);
    if (number == SYS_exit_group) break;
    ASSERT_EQ(Resume(PTRACE_SYSCALL_, traced.pid()), kSyscallStop);
    ASSERT_GE(static_cast<int64_t>(GetRegs(traced.pid()).rax), 0) << number;
  }
}

// A tracer that comes while the calls are being made, and goes, again and again.
TEST(HotAnswers, AreSeenByATracerThatAttaches) {
  Mapping page(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* stop = new (page.get()) std::atomic<bool>[2]();
  ChildGuard child(ForkChild([&] {
    WarmUp();
    stop[1] = true;
    utsname name;
    while (!*stop) CHILD_CHECK(syscall(SYS_uname, &name) == 0);
  }));
  ASSERT_TRUE(Eventually([&] { return stop[1].load(); }));
  for (int round = 0; round < 20; ++round) {
    ASSERT_EQ(Ptrace(PTRACE_ATTACH_, child.pid()), 0);
    ASSERT_EQ(WaitAll(child.pid()), Stop(SIGSTOP));
    ASSERT_EQ(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, PTRACE_O_TRACESYSGOOD), 0);
    for (int i = 0; i < 4; ++i) ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
    ASSERT_EQ(GetRegs(child.pid()).orig_rax, static_cast<uint64_t>(SYS_uname));
    ASSERT_EQ(Ptrace(PTRACE_DETACH_, child.pid()), 0);
    SleepMs(1);
  }
  *stop = true;
  EXPECT_EXITED(child.Wait(), 0);
}

}  // namespace
