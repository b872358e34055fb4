// clone and clone3 with their flags; getpid, gettid and wait in vfork and CLONE_VM children; set_tid_address.
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>

#include <atomic>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

// A stack for a child that shares our memory.
class ChildStack {
 public:
  ChildStack() : map_(1 << 16, PROT_READ | PROT_WRITE) {}
  void* top() const { return map_.get() + map_.size(); }
  void* base() const { return map_.get(); }
  size_t size() const { return map_.size(); }

 private:
  Mapping map_;
};

struct Shared {
  std::atomic<int> value{0};
  std::atomic<pid_t> pid{0}, tid{0}, ppid{0};
  int fd = -1;
};

int RecordIdentity(void* p) {
  auto* shared = static_cast<Shared*>(p);
  // Raw system calls: a child that shares memory must not trust what the C library cached.
  shared->pid = syscall(SYS_getpid);
  shared->tid = syscall(SYS_gettid);
  shared->ppid = syscall(SYS_getppid);
  shared->value = 42;
  return 17;
}

TEST(Clone, VmChildSharesMemoryAndHasItsOwnPid) {
  ChildStack stack;
  Shared shared;
  pid_t pid = clone(RecordIdentity, stack.top(), CLONE_VM | SIGCHLD, &shared);
  ASSERT_GT(pid, 0);
  EXPECT_EXITED(WaitFor(pid), 17);
  EXPECT_EQ(shared.value, 42);
  EXPECT_EQ(shared.pid, pid);
  EXPECT_EQ(shared.tid, pid);
  EXPECT_EQ(shared.ppid, getpid());
  EXPECT_EQ(syscall(SYS_getpid), getpid());
  EXPECT_EQ(syscall(SYS_gettid), gettid());
}

TEST(Clone, VmChildCanHaveChildrenAndWaitForThem) {
  ChildStack stack;
  Shared shared;
  pid_t pid = clone(
      +[](void* p) {
        auto* shared = static_cast<Shared*>(p);
        pid_t grandchild = syscall(SYS_fork);
        if (grandchild == 0) syscall(SYS_exit_group, 5);
        int status = 0;
        pid_t got = syscall(SYS_wait4, grandchild, &status, 0, nullptr);
        shared->value = got == grandchild && WEXITSTATUS(status) == 5 ? 1 : -1;
        return 0;
      },
      stack.top(), CLONE_VM | SIGCHLD, &shared);
  ASSERT_GT(pid, 0);
  EXPECT_EXITED(WaitFor(pid), 0);
  EXPECT_EQ(shared.value, 1);
  EXPECT_ERRNO(waitpid(pid, nullptr, 0), ECHILD);
}

TEST(Clone, WithoutFilesTheDescriptorTableIsACopy) {
  for (bool files : {false, true}) {
    ChildStack stack;
    Shared shared;
    shared.fd = open("/dev/null", O_RDONLY);
    pid_t pid = clone(
        +[](void* p) { return static_cast<int>(syscall(SYS_close, static_cast<Shared*>(p)->fd)); }, stack.top(),
        CLONE_VM | (files ? CLONE_FILES : 0) | SIGCHLD, &shared);
    ASSERT_GT(pid, 0);
    EXPECT_EXITED(WaitFor(pid), 0);
    EXPECT_EQ(fcntl(shared.fd, F_GETFD), files ? -1 : 0);
    if (!files) close(shared.fd);
  }
}

TEST(Clone, FsSharesDirectoryAndUmask) {
  int status = RunInChild([] {
    for (bool fs : {false, true}) {
      CHILD_CHECK(chdir("/") == 0);
      umask(022);
      ChildStack stack;
      pid_t pid = clone(
          +[](void*) {
            syscall(SYS_umask, 077);
            return static_cast<int>(syscall(SYS_chdir, "/proc"));
          },
          stack.top(), CLONE_VM | (fs ? CLONE_FS : 0) | SIGCHLD, nullptr);
      CHILD_CHECK(WaitFor(pid) == 0);
      char cwd[64];
      CHILD_CHECK(getcwd(cwd, sizeof(cwd)) != nullptr);
      CHILD_CHECK(strcmp(cwd, fs ? "/proc" : "/") == 0);
      CHILD_CHECK(umask(0) == (fs ? 077u : 022u));
    }
  });
  EXPECT_EXITED(status, 0);
}

TEST(Clone, SighandSharesHandlers) {
  int status = RunInChild([] {
    ChildStack stack;
    pid_t pid = clone(
        +[](void*) {
          struct sigaction action = {};
          action.sa_handler = SIG_IGN;
          return sigaction(SIGUSR1, &action, nullptr);
        },
        stack.top(), CLONE_VM | CLONE_SIGHAND | SIGCHLD, nullptr);
    CHILD_CHECK(WaitFor(pid) == 0);
    CHILD_CHECK(kill(getpid(), SIGUSR1) == 0);  // Ignored, or this child ends here.
  });
  EXPECT_EXITED(status, 0);
}

TEST(Clone, ParentMakesASibling) {
  int status = RunInChild([] {
    // The grandchild made with CLONE_PARENT is our sibling, so it is not ours to wait for.
    pid_t pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    CHILD_CHECK(pid > 0);
    CHILD_CHECK(waitpid(pid, nullptr, 0) == -1 && errno == ECHILD);
    Pipe p = MakePipe();
    CHILD_CHECK(p.read_end.ok());
  });
  EXPECT_EXITED(status, 0);
  EXPECT_GT(wait(nullptr), 0) << "the sibling is our child";
}

TEST(Clone, AnotherExitSignalNeedsWclone) {
  ScopedBlock block({SIGUSR1});
  for (int signal_number : {0, SIGUSR1}) {
    pid_t pid = syscall(SYS_clone, signal_number, 0, 0, 0, 0);
    if (pid == 0) _exit(3);
    ASSERT_GT(pid, 0);
    EXPECT_ERRNO(waitpid(pid, nullptr, 0), ECHILD) << "a child with another exit signal is a \"clone\" child";
    int status;
    EXPECT_EQ(waitpid(pid, &status, __WCLONE), pid);
    EXPECT_EXITED(status, 3);
  }
  pid_t pid = syscall(SYS_clone, 0, 0, 0, 0, 0);
  if (pid == 0) _exit(4);
  EXPECT_EQ(waitpid(pid, nullptr, __WALL), pid);
  sigset_t set = MakeSet({SIGUSR1});
  timespec second = {1, 0};
  EXPECT_EQ(sigtimedwait(&set, nullptr, &second), SIGUSR1);
}

TEST(Clone, TidIsStoredAndClearedWithAWake) {
  ChildStack stack;
  static std::atomic<pid_t> parent_tid, child_tid;
  parent_tid = child_tid = -1;
  pid_t pid = clone(
      +[](void*) { return child_tid.load() == syscall(SYS_gettid) ? 0 : 1; }, stack.top(),
      CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD, nullptr, &parent_tid,
      nullptr, &child_tid);
  ASSERT_GT(pid, 0);
  EXPECT_EQ(parent_tid, pid);
  // The kernel wakes a futex at the address when the child has ended, as pthread_join needs it.
  while (child_tid.load() != 0) {
    timespec limit = {5, 0};
    int value = child_tid.load();
    if (value != 0) syscall(SYS_futex, &child_tid, FUTEX_WAIT, value, &limit);
  }
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Clone, TlsIsSet) {
  ChildStack stack;
  static uint64_t block[8] = {reinterpret_cast<uint64_t>(block), 0x1234567};
  static std::atomic<uint64_t> seen;
  pid_t pid = clone(
      +[](void*) __attribute__((no_stack_protector)) {
        uint64_t value;
        asm volatile("movq %%fs:8, %0" : "=r"(value));
        seen = value;
        syscall(SYS_exit, 0);
        return 0;
      },
      stack.top(), CLONE_VM | CLONE_SETTLS | SIGCHLD, nullptr, nullptr, block, nullptr);
  ASSERT_GT(pid, 0);
  EXPECT_EXITED(WaitFor(pid), 0);
  EXPECT_EQ(seen, 0x1234567u);
}

TEST(Clone, FailsOnContradictoryFlags) {
  EXPECT_ERRNO(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL) << "SIGHAND needs VM";
  EXPECT_ERRNO(syscall(SYS_clone, CLONE_THREAD | CLONE_VM | SIGCHLD, 0, 0, 0, 0), EINVAL) << "THREAD needs SIGHAND";
  EXPECT_ERRNO(syscall(SYS_clone, CLONE_FS | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0), EINVAL);
}

TEST(Clone, VforkFlagBlocksTheParent) {
  ChildStack stack;
  Shared shared;
  pid_t pid = clone(
      +[](void* p) {
        timespec pause = {0, 50'000'000};
        syscall(SYS_nanosleep, &pause, nullptr);
        static_cast<Shared*>(p)->value = 1;
        return 0;
      },
      stack.top(), CLONE_VM | CLONE_VFORK | SIGCHLD, &shared);
  ASSERT_GT(pid, 0);
  EXPECT_EQ(shared.value, 1);
  EXPECT_EXITED(WaitFor(pid), 0);
}

// For calls that have to fail: a child that is made in spite of that must not go on with the cases.
long Clone3(clone_args* args, size_t size = sizeof(clone_args)) {
  long result = syscall(SYS_clone3, args, size);
  if (result == 0) _exit(0);
  return result;
}

TEST(Clone3, WorksAsFork) {
  clone_args args = {};
  args.exit_signal = SIGCHLD;
  pid_t pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid == 0) _exit(6);
  ASSERT_GT(pid, 0);
  EXPECT_EXITED(WaitFor(pid), 6);
}

TEST(Clone3, ChecksItsArgument) {
  clone_args args = {};
  EXPECT_ERRNO(Clone3(&args, 0), EINVAL);
  EXPECT_ERRNO(Clone3(&args, 63), EINVAL);
  EXPECT_ERRNO(Clone3(&args, 1 << 20), E2BIG);
  EXPECT_ERRNO(Clone3(reinterpret_cast<clone_args*>(BadPointer())), EFAULT);
  args.flags = 1ull << 60;
  EXPECT_ERRNO(Clone3(&args), EINVAL);
  args = {};
  args.exit_signal = 1000;
  EXPECT_ERRNO(Clone3(&args), EINVAL);
  args = {};
  args.stack = 4096;  // A stack without a size.
  EXPECT_ERRNO(Clone3(&args), EINVAL);
  args = {};
  args.flags = CLONE_DETACHED;
  EXPECT_ERRNO(Clone3(&args), EINVAL);
  args = {};
  args.flags = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
  args.exit_signal = SIGCHLD;
  EXPECT_ERRNO(Clone3(&args), EINVAL) << "a thread has no exit signal";
}

TEST(Clone3, PidfdTellsTheEnd) {
  int pidfd = -1;
  clone_args args = {};
  args.flags = CLONE_PIDFD;
  args.pidfd = reinterpret_cast<uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  Pipe p = MakePipe();
  pid_t pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid == 0) {
    char c;
    _exit(read(p.read_end.get(), &c, 1) == 1 ? 8 : 1);
  }
  ASSERT_GT(pid, 0);
  Fd fd(pidfd);
  ASSERT_GE(pidfd, 0);
  EXPECT_EQ(fcntl(pidfd, F_GETFD), FD_CLOEXEC);
  EXPECT_OK(syscall(SYS_pidfd_send_signal, pidfd, 0, nullptr, 0));
  ASSERT_EQ(write(p.write_end.get(), "x", 1), 1);
  siginfo_t info = {};
  EXPECT_OK(waitid(static_cast<idtype_t>(3) /* P_PIDFD */, pidfd, &info, WEXITED));
  EXPECT_EQ(info.si_status, 8);
  EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, nullptr, 0), ESRCH);
}

// man 7 pid_namespaces: the init of a namespace gets from within only what it has a handler for; from outside SIGKILL
// and SIGSTOP as well, and it sees no number of who is outside.
class PidNamespace : public ::testing::Test {
 protected:
  // Runs `body` as the init of a namespace of its own; its pid here, or -1.
  template <typename F>
  static pid_t Start(F&& body) {
    const long pid = syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (pid == 0) {
      body();
      _exit(0);
    }
    return static_cast<pid_t>(pid);
  }
};

TEST_F(PidNamespace, ItsInitSurvivesSignalsFromWithin) {
  pid_t pid = Start([] {
    CHILD_CHECK(getpid() == 1);
    CHILD_CHECK(kill(1, SIGKILL) == 0 && kill(1, SIGTERM) == 0 && kill(1, SIGSTOP) == 0);
    pid_t child = fork();
    if (child == 0) _exit(kill(1, SIGKILL) == 0 ? 7 : 1);
    int status = 0;
    CHILD_CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
  });
  if (pid < 0 && errno == EPERM) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  ASSERT_GT(pid, 0);
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST_F(PidNamespace, ItsInitIsKilledFromOutside) {
  pid_t pid = Start([] {
    for (;;) pause();
  });
  if (pid < 0 && errno == EPERM) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  ASSERT_GT(pid, 0);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  ASSERT_OK(kill(pid, SIGTERM));
  ASSERT_TRUE(WaitUntilBlocked(pid));
  ASSERT_OK(kill(pid, SIGKILL));
  EXPECT_SIGNALED(WaitFor(pid), SIGKILL);
}

TEST_F(PidNamespace, WhoIsOutsideHasNoNumber) {
  pid_t pid = Start([] {
    sigset_t set = MakeSet({SIGUSR1, SIGUSR2});
    sigprocmask(SIG_BLOCK, &set, nullptr);
    siginfo_t info = {};
    // Blocked signals wait, with a handler or without.
    CHILD_CHECK(sigwaitinfo(&set, &info) == SIGUSR1);
    CHILD_CHECK(info.si_code == SI_USER && info.si_pid == 0);
    pid_t child = fork();
    if (child == 0) _exit(kill(1, SIGUSR2) == 0 ? 0 : 1);
    CHILD_CHECK(sigwaitinfo(&set, &info) == SIGUSR2);
    CHILD_CHECK(info.si_pid == child);
  });
  if (pid < 0 && errno == EPERM) GTEST_SKIP() << "needs CAP_SYS_ADMIN";
  ASSERT_GT(pid, 0);
  ASSERT_TRUE(WaitUntilBlocked(pid));
  ASSERT_OK(kill(pid, SIGUSR1));
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Pidfd, CloneFailsWithoutAPlaceForIt) {
  clone_args args = {};
  args.flags = CLONE_PIDFD;
  args.exit_signal = SIGCHLD;
  args.pidfd = reinterpret_cast<uint64_t>(BadPointer());
  long pid = syscall(SYS_clone3, &args, sizeof(args));
  if (pid == 0) _exit(0);
  EXPECT_EQ(pid, -1);
  EXPECT_EQ(errno, EFAULT);
  EXPECT_ERRNO(waitpid(-1, nullptr, 0), ECHILD);
}

// From before there was pidfd_open(2) (kernel/pid.c: tgid_pidfd_to_pid).
TEST(Pidfd, SignalsGoByTheDirectoryInProc) {
  pid_t pid = ForkChild([] { pause(); });
  Fd directory(open(("/proc/" + std::to_string(pid)).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Fd thread(open(("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid)).c_str(), O_RDONLY | O_CLOEXEC));
  Fd other(open(("/proc/" + std::to_string(pid) + "/fd").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_FD(directory);
  EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, thread.get(), SIGTERM, nullptr, 0), EBADF);
  EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, other.get(), SIGTERM, nullptr, 0), EBADF);
  EXPECT_OK(syscall(SYS_pidfd_send_signal, directory.get(), SIGTERM, nullptr, 0));
  EXPECT_SIGNALED(WaitFor(pid), SIGTERM);
  EXPECT_ERRNO(syscall(SYS_pidfd_send_signal, directory.get(), SIGTERM, nullptr, 0), ESRCH);
}

TEST(Pidfd, OpenChecksItsArguments) {
  Fd self(syscall(SYS_pidfd_open, getpid(), 0));
  EXPECT_TRUE(self.ok());
  EXPECT_ERRNO(syscall(SYS_pidfd_open, -1, 0), EINVAL);
  EXPECT_ERRNO(syscall(SYS_pidfd_open, getpid(), 0x100), EINVAL);
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  EXPECT_ERRNO(syscall(SYS_pidfd_open, gone, 0), ESRCH);
}

TEST(SetTidAddress, ReturnsTheCallersTid) {
  int status = RunInChild([] {
    static int word;
    CHILD_CHECK(syscall(SYS_set_tid_address, &word) == gettid());
    CHILD_CHECK(syscall(SYS_set_tid_address, nullptr) == gettid());
  });
  EXPECT_EXITED(status, 0);
}

TEST(Unshare, FilesGivesAPrivateTable) {
  int status = RunInChild([] {
    ChildStack stack;
    static int fd;
    fd = open("/dev/null", O_RDONLY);
    pid_t pid = clone(
        +[](void*) {
          if (syscall(SYS_unshare, CLONE_FILES) != 0) return 1;
          return syscall(SYS_close, fd) == 0 ? 0 : 2;
        },
        stack.top(), CLONE_VM | CLONE_FILES | SIGCHLD, nullptr);
    CHILD_CHECK(WaitFor(pid) == 0);
    CHILD_CHECK(fcntl(fd, F_GETFD) == 0);
    CHILD_CHECK(unshare(0) == 0);
    CHILD_CHECK(syscall(SYS_unshare, 0x1) == -1 && errno == EINVAL);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Thread, ExitOfARawThreadDoesNotEndTheProcess) {
  int status = RunInChild([] {
    ChildStack stack;
    static std::atomic<pid_t> tid, pid;
    static std::atomic<int> cleared;
    cleared = 1;
    const int flags =
        CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
    int created = clone(
        +[](void*) {
          pid = syscall(SYS_getpid);
          tid = syscall(SYS_gettid);
          syscall(SYS_exit, 5);
          return 0;
        },
        stack.top(), flags, nullptr, nullptr, nullptr, &cleared);
    CHILD_CHECK(created > 0);
    CHILD_CHECK(Eventually([] { return cleared == 0; }));
    CHILD_CHECK(tid == created);
    CHILD_CHECK(pid == getpid());
    CHILD_CHECK(waitpid(created, nullptr, __WALL) == -1 && errno == ECHILD);
  });
  EXPECT_EXITED(status, 0);
}

}  // namespace
}  // namespace conformance
