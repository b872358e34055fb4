// getrlimit, setrlimit, prlimit64, getrusage, and that the limits limit.
#include <sys/resource.h>
#include <sys/time.h>

#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

TEST(Rlimit, RoundTrips) {
  int status = RunInChild([] {
    for (int resource : {RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_CORE, RLIMIT_RSS, RLIMIT_NPROC,
                         RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_LOCKS, RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NICE,
                         RLIMIT_RTPRIO, RLIMIT_CPU, RLIMIT_RTTIME}) {
      rlimit limit, back;
      CHILD_CHECK(getrlimit(resource, &limit) == 0);
      CHILD_CHECK(limit.rlim_cur <= limit.rlim_max);
      if (limit.rlim_max > 100) limit.rlim_cur = 100;
      CHILD_CHECK(setrlimit(resource, &limit) == 0);
      CHILD_CHECK(getrlimit(resource, &back) == 0);
      CHILD_CHECK(back.rlim_cur == limit.rlim_cur && back.rlim_max == limit.rlim_max);
      if (resource == RLIMIT_AS || resource == RLIMIT_DATA || resource == RLIMIT_STACK || resource == RLIMIT_FSIZE) {
        limit.rlim_cur = limit.rlim_max;
        CHILD_CHECK(setrlimit(resource, &limit) == 0);
      }
    }
  });
  EXPECT_EXITED(status, 0);
}

TEST(Rlimit, FailsAsDocumented) {
  rlimit limit = {10, 5};
  EXPECT_ERRNO(setrlimit(RLIMIT_FSIZE, &limit), EINVAL) << "soft above hard";
  EXPECT_ERRNO(syscall(SYS_getrlimit, 99, &limit), EINVAL);
  EXPECT_ERRNO(syscall(SYS_setrlimit, 99, &limit), EINVAL);
  EXPECT_ERRNO(syscall(SYS_getrlimit, RLIMIT_CORE, BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_setrlimit, RLIMIT_CORE, BadPointer()), EFAULT);
  EXPECT_ERRNO(syscall(SYS_prlimit64, 0, RLIMIT_CORE, nullptr, BadPointer()), EFAULT);
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  EXPECT_ERRNO(prlimit(gone, RLIMIT_CORE, nullptr, &limit), ESRCH);
}

TEST(Rlimit, RaisingTheHardLimitNeedsPrivilege) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  int status = RunInChild([] {
    rlimit limit = {5, 10};
    CHILD_CHECK(setrlimit(RLIMIT_CORE, &limit) == 0);
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    limit = {10, 10};
    CHILD_CHECK(setrlimit(RLIMIT_CORE, &limit) == 0);
    limit = {10, 11};
    CHILD_CHECK(setrlimit(RLIMIT_CORE, &limit) == -1 && errno == EPERM);
    limit = {1, 1};
    CHILD_CHECK(prlimit(getppid(), RLIMIT_CORE, &limit, nullptr) == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Prlimit, ReachesAnotherProcess) {
  Pipe p = MakePipe();
  ChildGuard child(ForkChild([&] {
    char c;
    CHILD_CHECK(read(p.read_end.get(), &c, 1) == 1);
    rlimit limit;
    CHILD_CHECK(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 7);
  }));
  rlimit limit = {7, 8}, old;
  ASSERT_OK(prlimit(child.pid(), RLIMIT_CORE, &limit, &old));
  ASSERT_OK(prlimit(child.pid(), RLIMIT_CORE, nullptr, &old));
  EXPECT_EQ(old.rlim_cur, 7u);
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(child.Wait(), 0);
}

TEST(Rlimit, InheritedAcrossForkAndSharedByThreads) {
  int status = RunInChild([] {
    rlimit limit = {3, 4};
    CHILD_CHECK(setrlimit(RLIMIT_CORE, &limit) == 0);
    CHILD_CHECK(RunInChild([] {
                  rlimit mine;
                  CHILD_CHECK(getrlimit(RLIMIT_CORE, &mine) == 0 && mine.rlim_cur == 3 && mine.rlim_max == 4);
                }) == 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Rlimit, CpuTimeRaisesSIGXCPU) {
  int status = RunInChild([] {
    rlimit core = {0, 0}, limit = {1, 5};
    setrlimit(RLIMIT_CORE, &core);
    CHILD_CHECK(setrlimit(RLIMIT_CPU, &limit) == 0);
    for (;;) getppid();
  });
  EXPECT_SIGNALED(status, SIGXCPU);
}

TEST(Rusage, CountsTime) {
  rusage before, after;
  ASSERT_OK(getrusage(RUSAGE_SELF, &before));
  const int64_t end = NowNs() + 50'000'000;
  while (NowNs() < end) {
  }
  ASSERT_OK(getrusage(RUSAGE_SELF, &after));
  auto total = [](const rusage& u) {
    return u.ru_utime.tv_sec * 1'000'000 + u.ru_utime.tv_usec + u.ru_stime.tv_sec * 1'000'000 + u.ru_stime.tv_usec;
  };
  EXPECT_GT(total(after), total(before));
  EXPECT_GT(after.ru_maxrss, 0);
  rusage thread, children;
  EXPECT_OK(getrusage(RUSAGE_THREAD, &thread));
  EXPECT_LE(total(thread), total(after) + 20'000);
  EXPECT_OK(getrusage(RUSAGE_CHILDREN, &children));
  EXPECT_ERRNO(getrusage(static_cast<__rusage_who>(99), &after), EINVAL);
  EXPECT_ERRNO(syscall(SYS_getrusage, RUSAGE_SELF, BadPointer()), EFAULT);
}

}  // namespace
}  // namespace conformance
