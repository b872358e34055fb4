// Clocks, sleeps, and the vDSO that answers without a system call.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>

#include <atomic>
#include <thread>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

int64_t Ns(const timespec& t) { return t.tv_sec * 1'000'000'000ll + t.tv_nsec; }
int64_t Now(clockid_t clock) {
  timespec t = {};
  EXPECT_OK(clock_gettime(clock, &t)) << clock;
  return Ns(t);
}
int64_t RawNow(clockid_t clock) {
  timespec t = {};
  EXPECT_OK(syscall(SYS_clock_gettime, clock, &t)) << clock;
  return Ns(t);
}

const clockid_t kClocks[] = {CLOCK_REALTIME,          CLOCK_MONOTONIC,     CLOCK_PROCESS_CPUTIME_ID,
                             CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
                             CLOCK_MONOTONIC_COARSE,  CLOCK_BOOTTIME,      CLOCK_TAI};

TEST(Clock, NoneRunsBackwards) {
  for (clockid_t clock : kClocks) {
    int64_t last = Now(clock);
    for (int i = 0; i < 2000; ++i) {
      int64_t now = Now(clock);
      ASSERT_GE(now, last) << "clock " << clock;
      last = now;
    }
  }
}

TEST(Clock, LibraryAndSystemCallAgree) {
  // The library reads the vDSO's page; both must tell one time, in either order.
  for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW}) {
    for (int i = 0; i < 200; ++i) {
      int64_t a = Now(clock), b = RawNow(clock), c = Now(clock);
      ASSERT_LE(a, b) << "clock " << clock;
      ASSERT_LE(b, c) << "clock " << clock;
    }
  }
}

TEST(Clock, ThreadsNeverSeeTimeGoBack) {
  // What one thread has read, no other may undercut afterwards.
  std::atomic<int64_t> latest{0};
  std::atomic<bool> wrong{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        int64_t seen = latest.load();
        timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (Ns(now) < seen) wrong = true;
        while (seen < Ns(now) && !latest.compare_exchange_weak(seen, Ns(now))) {
        }
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_FALSE(wrong);
}

TEST(Clock, AdvancesWithASleep) {
  for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW}) {
    int64_t before = Now(clock);
    SleepMs(10);
    EXPECT_GE(Now(clock) - before, 9'900'000) << clock;
  }
}

TEST(Clock, CoarseOnesFollowCloseBehind) {
  int64_t fine = Now(CLOCK_MONOTONIC), coarse = Now(CLOCK_MONOTONIC_COARSE);
  EXPECT_LE(coarse, Now(CLOCK_MONOTONIC));
  EXPECT_GE(coarse, fine - 100'000'000);
}

TEST(Clock, CpuTimeCountsWorkAndNotSleep) {
  int64_t before = Now(CLOCK_THREAD_CPUTIME_ID);
  SleepMs(50);
  EXPECT_LT(Now(CLOCK_THREAD_CPUTIME_ID) - before, 40'000'000);
  before = Now(CLOCK_PROCESS_CPUTIME_ID);
  const int64_t start = NowNs();
  // Until this process has had 20 ms, however busy the machine is.
  while (Now(CLOCK_PROCESS_CPUTIME_ID) - before < 20'000'000) ASSERT_LT(NowNs() - start, 30'000'000'000);
}

TEST(Clock, CpuClocksOfOthers) {
  ChildGuard child(ForkChild([] {
    for (;;) {
    }
  }));
  clockid_t clock;
  ASSERT_EQ(clock_getcpuclockid(child.pid(), &clock), 0);
  EXPECT_TRUE(Eventually([&] { return RawNow(clock) > 1'000'000; }));
}

TEST(Clock, FailsAsDocumented) {
  timespec t;
  EXPECT_ERRNO(syscall(SYS_clock_gettime, 99, &t), EINVAL);
  EXPECT_ERRNO(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_clock_getres, 99, &t), EINVAL);
  EXPECT_OK(syscall(SYS_clock_getres, CLOCK_MONOTONIC, nullptr));
  ASSERT_OK(clock_getres(CLOCK_MONOTONIC, &t));
  EXPECT_EQ(Ns(t), 1);
  t = {0, 0};
  EXPECT_ERRNO(clock_settime(CLOCK_MONOTONIC, &t), EINVAL);
}

TEST(Clock, OldCallsAgree) {
  timeval tv;
  ASSERT_OK(gettimeofday(&tv, nullptr));
  int64_t real = Now(CLOCK_REALTIME);
  const int64_t seconds = real / 1'000'000'000;
  EXPECT_NEAR(tv.tv_sec, seconds, 2);
  EXPECT_NEAR(time(nullptr), tv.tv_sec, 2);
  EXPECT_NEAR(syscall(SYS_time, nullptr), tv.tv_sec, 2);
  timeval raw;
  ASSERT_OK(syscall(SYS_gettimeofday, &raw, nullptr));
  EXPECT_GE(raw.tv_sec, tv.tv_sec);
  EXPECT_ERRNO(syscall(SYS_gettimeofday, BadPointer(), nullptr), EFAULT);
  EXPECT_ERRNO(syscall(SYS_time, BadPointer()), EFAULT);
  struct tms buffer;
  EXPECT_NE(times(&buffer), -1);
  EXPECT_ERRNO(syscall(SYS_times, BadPointer()), EFAULT);
}

TEST(Sleep, LastsAtLeastAsLongAsAsked) {
  for (long ns : {1l, 1'000'000l, 20'000'000l}) {
    timespec t = {0, ns};
    const int64_t start = NowNs();
    ASSERT_OK(nanosleep(&t, nullptr));
    EXPECT_GE(NowNs() - start, ns);
  }
  timespec zero = {};
  EXPECT_OK(nanosleep(&zero, nullptr));
}

TEST(Sleep, AbsoluteTimesInThePastReturnAtOnce) {
  timespec past = {1, 0};
  EXPECT_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &past, nullptr), 0);
  EXPECT_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &past, nullptr), 0);
  timespec soon;
  clock_gettime(CLOCK_REALTIME, &soon);
  soon.tv_nsec += 10'000'000;
  if (soon.tv_nsec >= 1'000'000'000) {
    soon.tv_nsec -= 1'000'000'000;
    ++soon.tv_sec;
  }
  EXPECT_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &soon, nullptr), 0);
  EXPECT_GE(Now(CLOCK_REALTIME), Ns(soon));
}

TEST(Sleep, FailsAsDocumented) {
  timespec bad = {0, 1'000'000'000}, negative = {-1, 0}, good = {0, 1};
  EXPECT_ERRNO(syscall(SYS_nanosleep, &bad, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_nanosleep, &negative, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_nanosleep, BadPointer(), nullptr), EFAULT);
  EXPECT_ERRNO(syscall(SYS_clock_nanosleep, 99, 0, &good, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &good, nullptr), EOPNOTSUPP);
  EXPECT_ERRNO(syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &bad, nullptr), EINVAL);
}

TEST(Vdso, IsMappedAndIsAnElfImage) {
  const char* base = reinterpret_cast<const char*>(getauxval(AT_SYSINFO_EHDR));
  ASSERT_NE(base, nullptr);
  EXPECT_EQ(memcmp(base, "\177ELF", 4), 0);
  EXPECT_NE(ReadFile("/proc/self/maps").find("[vdso]"), std::string::npos);
}

TEST(Vdso, ClockGettimeMakesNoSystemCall) {
  // A filter ends the process at the first system call that asks for the time.
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettimeofday, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_time, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {6, filter};
  int status = RunInChild([&] {
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) _exit(77);
    timespec t;
    timeval tv;
    for (int i = 0; i < 1000; ++i) {
      for (clockid_t clock : {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_COARSE}) {
        clock_gettime(clock, &t);
      }
      gettimeofday(&tv, nullptr);
      time(nullptr);
    }
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EXITED(status, 0);
}

}  // namespace
}  // namespace conformance
