// fork, vfork, wait4, waitid, exit, exit_group, getpid, getppid, process groups seen by wait, zombies, subreapers.
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <atomic>
#include <set>

#include "support/support.h"

namespace conformance {
namespace {

TEST(Fork, ChildGetsItsOwnIdentity) {
  const pid_t parent = getpid();
  pid_t pid = ForkChild([&] {
    CHILD_CHECK(getpid() != parent);
    CHILD_CHECK(getppid() == parent);
    CHILD_CHECK(gettid() == getpid());
    CHILD_CHECK(getpid() == syscall(SYS_getpid));
  });
  ASSERT_GT(pid, 0);
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Fork, MemoryIsCopiedAndSharedMappingsAreNot) {
  Mapping shared(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  Mapping copied(kPage, PROT_READ | PROT_WRITE);
  shared.get()[0] = copied.get()[0] = 1;
  int status = RunInChild([&] {
    CHILD_CHECK(shared.get()[0] == 1 && copied.get()[0] == 1);
    shared.get()[0] = copied.get()[0] = 2;
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(shared.get()[0], 2);
  EXPECT_EQ(copied.get()[0], 1);
}

TEST(Fork, LargePrivateMemoryIsCopiedOnWriteBothWays) {
  constexpr size_t kSize = 8 << 20;
  Mapping memory(kSize, PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < kSize; i += kPage) memory.get()[i] = static_cast<char>(i / kPage);
  Pipe go = MakePipe();
  pid_t pid = ForkChild([&] {
    char c;
    CHILD_CHECK(read(go.read_end.get(), &c, 1) == 1);
    for (size_t i = 0; i < kSize; i += kPage) CHILD_CHECK(memory.get()[i] == static_cast<char>(i / kPage));
    for (size_t i = 0; i < kSize; i += kPage) memory.get()[i] = 99;
  });
  for (size_t i = 0; i < kSize; i += 2 * kPage) memory.get()[i] = 77;
  ASSERT_EQ(write(go.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(WaitFor(pid), 0);
  for (size_t i = 0; i < kSize; i += kPage) {
    ASSERT_EQ(memory.get()[i], i / kPage % 2 == 0 ? 77 : static_cast<char>(i / kPage));
  }
}

TEST(Fork, DescriptorsShareTheirOffset) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "abcdef"));
  Fd fd(open((dir / "file").c_str(), O_RDONLY));
  int status = RunInChild([&] {
    char buffer[3];
    CHILD_CHECK(read(fd.get(), buffer, 3) == 3);
    close(fd.get());
  });
  EXPECT_EXITED(status, 0);
  char c;
  EXPECT_EQ(read(fd.get(), &c, 1), 1);
  EXPECT_EQ(c, 'd');
}

TEST(Fork, PendingSignalsAreNotInheritedButTheMaskIs) {
  ScopedBlock block({SIGUSR1});
  kill(getpid(), SIGUSR1);
  int status = RunInChild([] {
    sigset_t set;
    sigpending(&set);
    CHILD_CHECK(!sigismember(&set, SIGUSR1));
    sigprocmask(SIG_BLOCK, nullptr, &set);
    CHILD_CHECK(sigismember(&set, SIGUSR1));
  });
  EXPECT_EXITED(status, 0);
  sigset_t set = MakeSet({SIGUSR1});
  timespec zero = {};
  sigtimedwait(&set, nullptr, &zero);
}

TEST(Fork, OnlyTheCallingThreadGoesOn) {
  static std::atomic<bool> stop;
  stop = false;
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                +[](void*) -> void* {
                  while (!stop) SleepMs(1);
                  return nullptr;
                },
                nullptr),
            0);
  int status =
      RunInChild([] { CHILD_CHECK(ReadFile("/proc/self/status").find("Threads:\t1\n") != std::string::npos); });
  EXPECT_EXITED(status, 0);
  stop = true;
  pthread_join(thread, nullptr);
}

TEST(Fork, FailsWithEAGAINAtTheProcessLimit) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  int status = RunInChild([] {
    rlimit limit = {4, 4};
    CHILD_CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
    CHILD_CHECK(setresgid(7777, 7777, 7777) == 0);
    CHILD_CHECK(setresuid(7777, 7777, 7777) == 0);
    pid_t children[8] = {};
    int n = 0;
    for (; n < 8; ++n) {
      children[n] = fork();
      if (children[n] == 0) {
        pause();
        _exit(0);
      }
      if (children[n] < 0) break;
    }
    const int error = errno;
    for (int i = 0; i < n; ++i) {
      kill(children[i], SIGKILL);
      WaitFor(children[i]);
    }
    errno = error;
    CHILD_CHECK(n == 3 && error == EAGAIN);
    CHILD_CHECK(RunInChild([] {}) == 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Vfork, ParentWaitsForTheChildsEndAndSharesItsMemory) {
  static volatile int value;
  static volatile pid_t child_pid, child_tid, child_parent;
  value = 0;
  const pid_t self = getpid();
  pid_t pid = vfork();
  if (pid == 0) {
    child_pid = syscall(SYS_getpid);
    child_tid = syscall(SYS_gettid);
    child_parent = syscall(SYS_getppid);
    value = 42;
    _exit(3);
  }
  ASSERT_GT(pid, 0);
  EXPECT_EQ(value, 42);
  EXPECT_EQ(child_pid, pid);
  EXPECT_EQ(child_tid, pid);
  EXPECT_EQ(child_parent, self);
  EXPECT_EQ(getpid(), self);
  EXPECT_EQ(syscall(SYS_gettid), self);
  EXPECT_EXITED(WaitFor(pid), 3);
}

TEST(Vfork, ChildCanForkAndWait) {
  static volatile int inner;
  inner = -1;
  pid_t pid = vfork();
  if (pid == 0) {
    pid_t grandchild = syscall(SYS_fork);
    if (grandchild == 0) syscall(SYS_exit_group, syscall(SYS_getppid) == 1 ? 1 : 9);
    int status = 0;
    pid_t got = syscall(SYS_wait4, grandchild, &status, 0, nullptr);
    inner = got == grandchild ? status : -2;
    _exit(0);
  }
  ASSERT_GT(pid, 0);
  EXPECT_EXITED(inner, 9);
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Exit, StatusIsTheLowByte) {
  EXPECT_EXITED(RunInChild([] { _exit(0x1ff); }), 0xff);
  EXPECT_EXITED(RunInChild([] { _exit(256); }), 0);
  EXPECT_EXITED(RunInChild([] { _exit(-1); }), 255);
}

TEST(Exit, ExitGroupEndsEveryThread) {
  int status = RunInChild([] {
    for (int i = 0; i < 4; ++i) {
      pthread_t thread;
      pthread_create(
          &thread, nullptr,
          +[](void*) -> void* {
            for (;;) pause();
          },
          nullptr);
    }
    pthread_t last;
    pthread_create(
        &last, nullptr, +[](void*) -> void* { _exit(12); }, nullptr);
    for (;;) pause();
  });
  EXPECT_EXITED(status, 12);
}

TEST(Exit, TheProcessLivesOnAfterItsLeadersThreadEnds) {
  int status = RunInChild([] {
    pthread_t thread;
    pthread_create(
        &thread, nullptr,
        +[](void*) -> void* {
          // The leader becomes a zombie that is not reported until the last thread has gone.
          Eventually([] { return ThreadState(getpid()) == 'Z'; });
          _exit(ThreadState(getpid()) == 'Z' ? 33 : 34);
        },
        nullptr);
    syscall(SYS_exit, 5);
  });
  EXPECT_EXITED(status, 33);
}

TEST(Exit, StatusOfALoneThreadsExitIsTheProcesss) {
  EXPECT_EXITED(RunInChild([] { syscall(SYS_exit, 21); }), 21);
}

TEST(Wait, FailsWithECHILDWithoutChildren) {
  int status = RunInChild([] {
    CHILD_CHECK(wait(nullptr) == -1 && errno == ECHILD);
    CHILD_CHECK(waitpid(getppid(), nullptr, 0) == -1 && errno == ECHILD);
    CHILD_CHECK(waitpid(getpid(), nullptr, 0) == -1 && errno == ECHILD);
    siginfo_t info;
    CHILD_CHECK(waitid(P_ALL, 0, &info, WEXITED) == -1 && errno == ECHILD);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Wait, ChecksItsArguments) {
  int status;
  EXPECT_ERRNO(syscall(SYS_wait4, -1, &status, 0x100, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_wait4, INT32_MIN, &status, 0, nullptr), ESRCH);
  siginfo_t info;
  EXPECT_ERRNO(waitid(P_ALL, 0, &info, 0), EINVAL);
  EXPECT_ERRNO(waitid(P_ALL, 0, &info, WEXITED | 0x100), EINVAL);
  EXPECT_ERRNO(waitid(static_cast<idtype_t>(99), 0, &info, WEXITED), EINVAL);
  pid_t pid = ForkChild([] {});
  EXPECT_ERRNO(syscall(SYS_wait4, pid, BadPointer(), 0, nullptr), EFAULT);
  EXPECT_ERRNO(waitpid(pid, nullptr, 0), ECHILD) << "the zombie was reaped before its status could be stored";
}

TEST(Wait, NohangReturnsZeroWhileTheChildRuns) {
  ChildGuard child(ForkChild([] { pause(); }));
  int status = 77;
  EXPECT_EQ(waitpid(child.pid(), &status, WNOHANG), 0);
  siginfo_t info;
  memset(&info, 0xff, sizeof(info));
  EXPECT_OK(waitid(P_PID, child.pid(), &info, WEXITED | WNOHANG));
  EXPECT_EQ(info.si_pid, 0);
  EXPECT_EQ(info.si_signo, 0);
}

TEST(Wait, SelectsByPidGroupOrAny) {
  pid_t a = ForkChild([] { _exit(1); });
  pid_t b = ForkChild([] {
    setpgid(0, 0);
    _exit(2);
  });
  setpgid(b, b);
  int status;
  ASSERT_EQ(waitpid(-b, &status, 0), b);
  EXPECT_EXITED(status, 2);
  ASSERT_EQ(waitpid(0, &status, 0), a);
  EXPECT_EXITED(status, 1);
  pid_t c = ForkChild([] { _exit(3); });
  ASSERT_EQ(waitpid(-1, &status, 0), c);
}

TEST(Wait, WaitidDescribesTheEndAndCanLeaveTheZombie) {
  pid_t pid = ForkChild([] { _exit(7); });
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
  EXPECT_EQ(info.si_signo, SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_EXITED);
  EXPECT_EQ(info.si_status, 7);
  EXPECT_EQ(info.si_pid, pid);
  EXPECT_EQ(info.si_uid, getuid());
  ASSERT_OK(waitid(P_PID, pid, &info, WEXITED));
  EXPECT_ERRNO(waitid(P_PID, pid, &info, WEXITED), ECHILD);
  pid = ForkChild([] {
    rlimit core = {0, 0};
    setrlimit(RLIMIT_CORE, &core);
    kill(getpid(), SIGKILL);
  });
  ASSERT_OK(waitid(P_PID, pid, &info, WEXITED));
  EXPECT_EQ(info.si_code, CLD_KILLED);
  EXPECT_EQ(info.si_status, SIGKILL);
}

TEST(Wait, ReportsResourceUsage) {
  pid_t pid = ForkChild([] {
    const int64_t end = NowNs() + 30'000'000;
    while (NowNs() < end) {
    }
  });
  int status;
  rusage usage;
  memset(&usage, 0xff, sizeof(usage));
  ASSERT_EQ(wait4(pid, &status, 0, &usage), pid);
  EXPECT_EQ(usage.ru_utime.tv_sec, 0);
  EXPECT_GT(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec, 0);
}

TEST(Wait, AStoppedChildIsReportedToTheRealParentOnly) {
  ChildGuard child(ForkChild([] {
    raise(SIGSTOP);
    _exit(4);
  }));
  siginfo_t info = {};
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WSTOPPED));
  EXPECT_EQ(info.si_code, CLD_STOPPED);
  EXPECT_EQ(info.si_status, SIGSTOP);
  kill(child.pid(), SIGCONT);
  ASSERT_OK(waitid(P_PID, child.pid(), &info, WCONTINUED | WEXITED));
  EXPECT_TRUE(info.si_code == CLD_CONTINUED || info.si_code == CLD_EXITED);
  if (info.si_code == CLD_CONTINUED) {
    EXPECT_EXITED(child.Wait(), 4);
  }
}

std::atomic<int> g_chld;
siginfo_t g_chld_info;

TEST(Sigchld, DescribesTheChild) {
  g_chld = 0;
  ScopedHandler handler(
      SIGCHLD, +[](int, siginfo_t* info, void*) {
        g_chld_info = *info;
        ++g_chld;
      });
  pid_t pid = ForkChild([] { _exit(9); });
  EXPECT_EXITED(WaitFor(pid), 9);
  EXPECT_TRUE(Eventually([] { return g_chld > 0; }));
  EXPECT_EQ(g_chld_info.si_pid, pid);
  EXPECT_EQ(g_chld_info.si_code, CLD_EXITED);
  EXPECT_EQ(g_chld_info.si_status, 9);
}

TEST(Sigchld, IgnoredMeansNoZombies) {
  int status = RunInChild([] {
    signal(SIGCHLD, SIG_IGN);
    pid_t pid = ForkChild([] { _exit(1); });
    CHILD_CHECK(waitpid(pid, nullptr, 0) == -1 && errno == ECHILD);  // It waits until the last child has gone.
    CHILD_CHECK(kill(pid, 0) == -1 && errno == ESRCH);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Sigchld, NocldstopSilencesStops) {
  g_chld = 0;
  ScopedHandler handler(
      SIGCHLD, +[](int) { ++g_chld; }, SA_NOCLDSTOP | SA_RESTART);
  ChildGuard child(ForkChild([] {
    for (;;) pause();
  }));
  kill(child.pid(), SIGSTOP);
  int status;
  ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
  EXPECT_EQ(g_chld, 0);
}

TEST(Orphans, GoToTheNearestSubreaper) {
  int status = RunInChild([] {
    CHILD_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    Pipe p = MakePipe();
    int inner = RunInChild([&] {
      pid_t orphan = ForkChild([&] {
        char c;
        CHILD_CHECK(read(p.read_end.get(), &c, 1) == 1);
        _exit(44);
      });
      CHILD_CHECK(orphan > 0);
    });
    CHILD_CHECK(inner == 0);
    CHILD_CHECK(write(p.write_end.get(), "x", 1) == 1);
    int status;
    pid_t pid = wait(&status);
    CHILD_CHECK(pid > 0);
    CHILD_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 44);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Fork, ManyChildrenHaveManyPids) {
  std::set<pid_t> pids;
  for (int i = 0; i < 100; ++i) {
    pid_t pid = ForkChild([] { _exit(0); });
    ASSERT_GT(pid, 0);
    pids.insert(pid);
  }
  EXPECT_EQ(pids.size(), 100u);
  for (pid_t pid : pids) EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Fork, DeepChainsWork) {
  std::function<void(int)> descend = [&](int depth) {
    if (depth == 0) _exit(0);
    int status = RunInChild([&] { descend(depth - 1); });
    _exit(status == 0 ? 0 : 1);
  };
  EXPECT_EXITED(RunInChild([&] { descend(30); }), 0);
}

TEST(ProcessGroup, SetpgidRules) {
  EXPECT_EQ(getpgid(0), getpgrp());
  EXPECT_EQ(getpgid(getpid()), getpgrp());
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  EXPECT_ERRNO(getpgid(gone), ESRCH);
  EXPECT_ERRNO(getsid(gone), ESRCH);
  EXPECT_ERRNO(setpgid(0, -1), EINVAL);
  EXPECT_ERRNO(setpgid(-1, 0), EINVAL);
  EXPECT_ERRNO(setpgid(gone, 0), ESRCH);
  EXPECT_ERRNO(setpgid(getppid(), 0), ESRCH) << "only oneself and one's children";
  int status = RunInChild([] {
    CHILD_CHECK(setpgid(0, 0) == 0);
    CHILD_CHECK(getpgrp() == getpid());
    CHILD_CHECK(setsid() == -1 && errno == EPERM);  // A group leader cannot.
    CHILD_CHECK(setpgid(0, getpid() + 100000) == -1 && errno == EPERM);
    int inner = RunInChild([] {
      CHILD_CHECK(setsid() == getpid());
      CHILD_CHECK(getsid(0) == getpid());
      CHILD_CHECK(getpgrp() == getpid());
      CHILD_CHECK(setpgid(0, 0) == -1 && errno == EPERM);  // A session leader cannot.
      CHILD_CHECK(open("/dev/tty", O_RDWR) == -1 && errno == ENXIO);
    });
    CHILD_CHECK(inner == 0);
  });
  EXPECT_EXITED(status, 0);
}

}  // namespace
}  // namespace conformance
