// rt_sigaction, rt_sigprocmask, kill, tkill, tgkill, rt_sigqueueinfo, sigaltstack, rt_sigpending, rt_sigsuspend,
// rt_sigtimedwait, the frame a handler sees, faults, stop and continue.
#include <pthread.h>
#include <setjmp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <ucontext.h>

#include <atomic>
#include <vector>

#include "support/support.h"

namespace conformance {
namespace {

std::atomic<int> g_count;
siginfo_t g_info;
std::vector<int>* g_order;

void Count(int) { ++g_count; }
void Record(int, siginfo_t* info, void*) {
  g_info = *info;
  ++g_count;
}
void Order(int signo) { g_order->push_back(signo); }

class Signal : public ::testing::Test {
 protected:
  Signal() { g_count = 0; }
};

TEST_F(Signal, KillOfOneselfRunsTheHandlerBeforeItReturns) {
  ScopedHandler handler(SIGUSR1, Count);
  ASSERT_OK(kill(getpid(), SIGUSR1));
  EXPECT_EQ(g_count, 1);
}

TEST_F(Signal, InfoSaysWhoSentIt) {
  ScopedHandler handler(SIGUSR1, Record);
  ASSERT_OK(kill(getpid(), SIGUSR1));
  EXPECT_EQ(g_info.si_signo, SIGUSR1);
  EXPECT_EQ(g_info.si_code, SI_USER);
  EXPECT_EQ(g_info.si_pid, getpid());
  EXPECT_EQ(g_info.si_uid, getuid());
  ASSERT_OK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
  EXPECT_EQ(g_info.si_code, SI_TKILL);
}

TEST_F(Signal, QueueCarriesAValue) {
  ScopedHandler handler(SIGRTMIN, Record);
  sigval value;
  value.sival_ptr = reinterpret_cast<void*>(0x123456789abcull);
  ASSERT_OK(sigqueue(getpid(), SIGRTMIN, value));
  EXPECT_EQ(g_info.si_code, SI_QUEUE);
  EXPECT_EQ(g_info.si_value.sival_ptr, value.sival_ptr);
}

TEST_F(Signal, OrdinarySignalsCollapseAndRealTimeOnesQueue) {
  ScopedHandler a(SIGUSR1, Count);
  {
    ScopedBlock block({SIGUSR1});
    for (int i = 0; i < 5; ++i) kill(getpid(), SIGUSR1);
    EXPECT_EQ(g_count, 0);
  }
  EXPECT_EQ(g_count, 1);
  ScopedHandler b(SIGRTMIN + 1, Count);
  {
    ScopedBlock block({SIGRTMIN + 1});
    for (int i = 0; i < 5; ++i) kill(getpid(), SIGRTMIN + 1);
  }
  EXPECT_EQ(g_count, 6);
}

TEST_F(Signal, PendingSignalsArriveLowestNumberFirst) {
  std::vector<int> order;
  g_order = &order;
  // Every handler blocks the others, so that the order of delivery is the order of the handlers.
  struct sigaction action = {};
  action.sa_handler = Order;
  sigfillset(&action.sa_mask);
  const int kSignals[] = {SIGRTMIN + 2, SIGUSR2, SIGRTMIN + 1, SIGUSR1, SIGHUP};
  for (int signo : kSignals) ASSERT_OK(sigaction(signo, &action, nullptr));
  {
    ScopedBlock block({SIGRTMIN + 2, SIGUSR2, SIGRTMIN + 1, SIGUSR1, SIGHUP});
    for (int signo : kSignals) ASSERT_OK(kill(getpid(), signo));
  }
  for (int signo : kSignals) signal(signo, SIG_DFL);
  EXPECT_EQ(order, (std::vector<int>{SIGHUP, SIGUSR1, SIGUSR2, SIGRTMIN + 1, SIGRTMIN + 2}));
}

TEST_F(Signal, PendingSetShowsBlockedSignals) {
  ScopedHandler handler(SIGUSR2, Count);
  ScopedBlock block({SIGUSR2});
  sigset_t set;
  ASSERT_OK(sigpending(&set));
  EXPECT_FALSE(sigismember(&set, SIGUSR2));
  kill(getpid(), SIGUSR2);
  ASSERT_OK(sigpending(&set));
  EXPECT_TRUE(sigismember(&set, SIGUSR2));
  timespec zero = {};
  sigset_t wait = MakeSet({SIGUSR2});
  EXPECT_EQ(sigtimedwait(&wait, nullptr, &zero), SIGUSR2);
  ASSERT_OK(sigpending(&set));
  EXPECT_FALSE(sigismember(&set, SIGUSR2));
}

TEST_F(Signal, IgnoringDiscardsWhatIsPending) {
  ScopedBlock block({SIGUSR2});
  kill(getpid(), SIGUSR2);
  signal(SIGUSR2, SIG_IGN);
  sigset_t set;
  ASSERT_OK(sigpending(&set));
  EXPECT_FALSE(sigismember(&set, SIGUSR2));
  signal(SIGUSR2, SIG_DFL);
}

int g_depth, g_max_depth;
void Nest(int signo) {
  g_max_depth = std::max(g_max_depth, ++g_depth);
  if (g_count++ == 0) kill(getpid(), signo);
  --g_depth;
}

TEST_F(Signal, HandlerBlocksItsOwnSignalUnlessNodefer) {
  g_depth = g_max_depth = 0;
  {
    ScopedHandler handler(SIGUSR1, Nest);
    kill(getpid(), SIGUSR1);
    EXPECT_EQ(g_count, 2);
    EXPECT_EQ(g_max_depth, 1);
  }
  g_count = g_max_depth = 0;
  ScopedHandler handler(SIGUSR1, Nest, SA_NODEFER);
  kill(getpid(), SIGUSR1);
  EXPECT_EQ(g_count, 2);
  EXPECT_EQ(g_max_depth, 2);
}

TEST_F(Signal, ResethandRestoresTheDefault) {
  ScopedHandler handler(SIGUSR1, Count, SA_RESETHAND);
  kill(getpid(), SIGUSR1);
  struct sigaction now;
  ASSERT_OK(sigaction(SIGUSR1, nullptr, &now));
  EXPECT_EQ(now.sa_handler, SIG_DFL);
  EXPECT_EQ(g_count, 1);
}

sigset_t g_mask_in_handler;
void SaveMask(int) { sigprocmask(SIG_BLOCK, nullptr, &g_mask_in_handler); }

TEST_F(Signal, HandlerRunsWithItsMaskAndTheOldOneComesBack) {
  struct sigaction action = {}, old;
  action.sa_handler = SaveMask;
  sigaddset(&action.sa_mask, SIGUSR2);
  ASSERT_OK(sigaction(SIGUSR1, &action, &old));
  ScopedBlock block({SIGTERM});
  kill(getpid(), SIGUSR1);
  EXPECT_TRUE(sigismember(&g_mask_in_handler, SIGUSR1));
  EXPECT_TRUE(sigismember(&g_mask_in_handler, SIGUSR2));
  EXPECT_TRUE(sigismember(&g_mask_in_handler, SIGTERM));
  sigset_t after;
  sigprocmask(SIG_BLOCK, nullptr, &after);
  EXPECT_FALSE(sigismember(&after, SIGUSR1));
  EXPECT_TRUE(sigismember(&after, SIGTERM));
  sigaction(SIGUSR1, &old, nullptr);
}

TEST(Sigaction, RoundTripsAndChecksItsArguments) {
  struct sigaction action = {}, back;
  action.sa_handler = Count;
  action.sa_flags = SA_RESTART | SA_NODEFER;
  sigaddset(&action.sa_mask, SIGHUP);
  ASSERT_OK(sigaction(SIGUSR1, &action, nullptr));
  ASSERT_OK(sigaction(SIGUSR1, nullptr, &back));
  EXPECT_EQ(back.sa_handler, Count);
  EXPECT_EQ(back.sa_flags & (SA_RESTART | SA_NODEFER), SA_RESTART | SA_NODEFER);
  EXPECT_TRUE(sigismember(&back.sa_mask, SIGHUP));
  signal(SIGUSR1, SIG_DFL);
  EXPECT_ERRNO(sigaction(SIGKILL, &action, nullptr), EINVAL);
  EXPECT_ERRNO(sigaction(SIGSTOP, &action, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigaction, 0, nullptr, nullptr, 8), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigaction, 65, nullptr, nullptr, 8), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, nullptr, nullptr, 4), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, BadPointer(), nullptr, 8), EFAULT);
  EXPECT_ERRNO(syscall(SYS_rt_sigaction, SIGUSR1, nullptr, BadPointer(), 8), EFAULT);
  EXPECT_OK(syscall(SYS_rt_sigaction, SIGKILL, nullptr, EndOfMemory(32), 8));
}

TEST(Sigprocmask, ChecksItsArgumentsAndNeverBlocksKill) {
  uint64_t set = ~0ull, old = 0, now = 0;
  ASSERT_OK(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, &old, 8));
  ASSERT_OK(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, &now, 8));
  EXPECT_EQ(now, ~0ull & ~(1ull << (SIGKILL - 1)) & ~(1ull << (SIGSTOP - 1)));
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, 99, &set, nullptr, 8), EINVAL);
  EXPECT_OK(syscall(SYS_rt_sigprocmask, 99, nullptr, &now, 8));
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &set, nullptr, 16), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, BadPointer(), nullptr, 8), EFAULT);
  EXPECT_ERRNO(syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, BadPointer(), 8), EFAULT);
  EXPECT_ERRNO(syscall(SYS_rt_sigpending, BadPointer(), 8), EFAULT);
  EXPECT_ERRNO(syscall(SYS_rt_sigpending, &now, 16), EINVAL);
}

TEST(Kill, FailsAsDocumented) {
  EXPECT_OK(kill(getpid(), 0));
  EXPECT_ERRNO(kill(getpid(), 65), EINVAL);
  EXPECT_ERRNO(kill(getpid(), -1), EINVAL);
  pid_t gone = ForkChild([] {});
  WaitFor(gone);
  EXPECT_ERRNO(kill(gone, 0), ESRCH);
  EXPECT_ERRNO(kill(-gone, SIGUSR1), ESRCH);
  EXPECT_ERRNO(syscall(SYS_tgkill, getpid(), gone, 0), ESRCH);
  EXPECT_ERRNO(syscall(SYS_tgkill, -1, gettid(), 0), EINVAL);
  EXPECT_ERRNO(syscall(SYS_tkill, 0, 0), EINVAL);
  EXPECT_OK(syscall(SYS_tkill, gettid(), 0));
}

TEST(Kill, AZombieCanStillBeSignalled) {
  pid_t pid = ForkChild([] {});
  ASSERT_TRUE(Eventually([&] { return ThreadState(pid) == 'Z'; }));
  EXPECT_OK(kill(pid, SIGTERM));
  EXPECT_EXITED(WaitFor(pid), 0);
}

TEST(Kill, UnprivilegedSendersNeedTheSameUser) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root";
  ChildGuard child(ForkChild([] { pause(); }));
  int status = RunInChild([&] {
    CHILD_CHECK(setresuid(1234, 1234, 1234) == 0);
    CHILD_CHECK(kill(child.pid(), SIGTERM) == -1 && errno == EPERM);
    CHILD_CHECK(kill(getpid(), 0) == 0);
  });
  EXPECT_EXITED(status, 0);
}

TEST(Kill, ReachesAWholeProcessGroup) {
  int status = RunInChild([] {
    CHILD_CHECK(setpgid(0, 0) == 0);
    pid_t children[3];
    for (pid_t& pid : children) pid = ForkChild([] { pause(); });
    signal(SIGUSR1, SIG_IGN);
    // The children took the default action over before the line above.
    CHILD_CHECK(kill(0, SIGUSR1) == 0);
    for (pid_t pid : children) {
      int status = WaitFor(pid);
      CHILD_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
    }
  });
  EXPECT_EXITED(status, 0);
}

TEST(DefaultAction, TerminatesIgnoresOrStops) {
  rlimit core = {0, 0};
  for (int signo = 1; signo <= 64; ++signo) {
    if (signo == 32 || signo == 33) continue;  // glibc keeps them.
    pid_t pid = ForkChild([&] {
      setrlimit(RLIMIT_CORE, &core);
      kill(getpid(), signo);
    });
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
    switch (signo) {
      case SIGCHLD:
      case SIGURG:
      case SIGWINCH:
      case SIGCONT:
        EXPECT_TRUE(WIFEXITED(status)) << signo;
        break;
      case SIGSTOP:
        EXPECT_TRUE(WIFSTOPPED(status) && WSTOPSIG(status) == signo) << signo;
        kill(pid, SIGKILL);
        WaitFor(pid);
        break;
      case SIGTSTP:
      case SIGTTIN:
      case SIGTTOU:
        // They stop, unless the process group is orphaned (then they do nothing).
        if (WIFSTOPPED(status)) {
          kill(pid, SIGKILL);
          WaitFor(pid);
        } else {
          EXPECT_TRUE(WIFEXITED(status)) << signo;
        }
        break;
      default:
        EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signo) << signo << " status " << status;
    }
  }
}

TEST(StopContinue, ParentSeesBoth) {
  ChildGuard child(ForkChild([] {
    for (;;) pause();
  }));
  int status;
  ASSERT_OK(kill(child.pid(), SIGSTOP));
  ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
  EXPECT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(WSTOPSIG(status), SIGSTOP);
  EXPECT_EQ(waitpid(child.pid(), &status, WUNTRACED | WNOHANG), 0) << "reported once";
  EXPECT_TRUE(Eventually([&] { return ThreadState(child.pid()) == 'T'; }));
  ASSERT_OK(kill(child.pid(), SIGCONT));
  ASSERT_EQ(waitpid(child.pid(), &status, WCONTINUED), child.pid());
  EXPECT_TRUE(WIFCONTINUED(status));
}

TEST(StopContinue, AStoppedProcessRunsNothing) {
  Mapping shared(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* counter = shared.as<std::atomic<uint64_t>>();
  ChildGuard child(ForkChild([&] {
    for (;;) ++*counter;
  }));
  ASSERT_TRUE(Eventually([&] { return *counter > 0; }));
  kill(child.pid(), SIGSTOP);
  int status;
  ASSERT_EQ(waitpid(child.pid(), &status, WUNTRACED), child.pid());
  uint64_t before = *counter;
  SleepMs(20);
  EXPECT_EQ(*counter, before);
  kill(child.pid(), SIGCONT);
  EXPECT_TRUE(Eventually([&] { return *counter > before; }));
}

TEST(StopContinue, KillEndsAStoppedProcess) {
  pid_t pid = ForkChild([] { raise(SIGSTOP); });
  int status;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  ASSERT_TRUE(WIFSTOPPED(status));
  kill(pid, SIGTERM);
  EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0) << "SIGTERM waits for SIGCONT";
  kill(pid, SIGKILL);
  EXPECT_SIGNALED(WaitFor(pid), SIGKILL);
}

TEST(StopContinue, ContRunsItsHandlerAndClearsPendingStops) {
  pid_t pid = ForkChild([] {
    signal(SIGCONT, [](int) { _exit(7); });
    raise(SIGSTOP);
    for (;;) pause();
  });
  int status;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  kill(pid, SIGCONT);
  EXPECT_EXITED(WaitFor(pid), 7);
}

TEST(Sigsuspend, ReplacesTheMaskAtomically) {
  g_count = 0;
  ScopedHandler handler(SIGUSR1, Count);
  ScopedBlock block({SIGUSR1});
  kill(getpid(), SIGUSR1);
  sigset_t empty;
  sigemptyset(&empty);
  EXPECT_ERRNO(sigsuspend(&empty), EINTR);
  EXPECT_EQ(g_count, 1);
  sigset_t now;
  sigprocmask(SIG_BLOCK, nullptr, &now);
  EXPECT_TRUE(sigismember(&now, SIGUSR1));
  EXPECT_ERRNO(syscall(SYS_rt_sigsuspend, BadPointer(), 8), EFAULT);
  EXPECT_ERRNO(syscall(SYS_rt_sigsuspend, &empty, 4), EINVAL);
}

TEST(Sigtimedwait, TakesAnIgnoredSignal) {
  ScopedBlock block({SIGUSR2});
  struct sigaction ignore = {}, old;
  ignore.sa_handler = SIG_IGN;
  ASSERT_OK(sigaction(SIGUSR2, &ignore, &old));
  const pid_t parent = getpid();
  pid_t pid = ForkChild([&] {
    CHILD_CHECK(WaitUntilBlocked(parent));
    CHILD_CHECK(kill(parent, SIGUSR2) == 0);
  });
  sigset_t set = MakeSet({SIGUSR2});
  timespec limit = {10, 0};
  EXPECT_EQ(sigtimedwait(&set, nullptr, &limit), SIGUSR2);
  EXPECT_EXITED(WaitFor(pid), 0);
  sigaction(SIGUSR2, &old, nullptr);
}

TEST(Sigtimedwait, TakesASignalOrTimesOut) {
  ScopedBlock block({SIGUSR1, SIGRTMIN});
  sigset_t set = MakeSet({SIGUSR1, SIGRTMIN});
  timespec soon = {0, 1'000'000};
  siginfo_t info;
  EXPECT_ERRNO(sigtimedwait(&set, &info, &soon), EAGAIN);
  sigval value;
  value.sival_int = 42;
  ASSERT_OK(sigqueue(getpid(), SIGRTMIN, value));
  EXPECT_EQ(sigtimedwait(&set, &info, nullptr), SIGRTMIN);
  EXPECT_EQ(info.si_value.sival_int, 42);
  timespec bad = {0, 1'000'000'000};
  EXPECT_ERRNO(sigtimedwait(&set, &info, &bad), EINVAL);
  EXPECT_ERRNO(syscall(SYS_rt_sigtimedwait, BadPointer(), &info, &soon, 8), EFAULT);
  kill(getpid(), SIGUSR1);
  EXPECT_ERRNO(syscall(SYS_rt_sigtimedwait, &set, BadPointer(), &soon, 8), EFAULT);
}

TEST(Sigqueue, OneMayNotPretendToBeTheKernel) {
  siginfo_t info = {};
  info.si_signo = SIGUSR1;
  info.si_code = SI_USER;
  pid_t other = ForkChild([] { pause(); });
  ChildGuard child(other);
  EXPECT_ERRNO(syscall(SYS_rt_sigqueueinfo, other, SIGUSR1, &info), EPERM);
  info.si_code = SI_QUEUE;
  EXPECT_OK(syscall(SYS_rt_sigqueueinfo, other, 0, &info));
  EXPECT_ERRNO(syscall(SYS_rt_sigqueueinfo, other, SIGUSR1, BadPointer()), EFAULT);
}

TEST(Sigqueue, FailsWithEAGAINAtTheLimit) {
  int status = RunInChild([] {
    rlimit limit = {8, 8};
    CHILD_CHECK(setrlimit(RLIMIT_SIGPENDING, &limit) == 0);
    CHILD_CHECK(setresuid(4321, 4321, 4321) == 0);
    ScopedBlock block({SIGRTMIN});
    sigval value = {};
    int sent = 0;
    while (sigqueue(getpid(), SIGRTMIN, value) == 0) CHILD_CHECK(++sent < 100);
    CHILD_CHECK(errno == EAGAIN);
    CHILD_CHECK(sent == 8);
    // kill() of a real-time signal falls back to a mere bit and succeeds (kernel/signal.c: __send_signal_locked).
    CHILD_CHECK(kill(getpid(), SIGRTMIN) == 0);
    signal(SIGRTMIN, SIG_IGN);
  });
  EXPECT_EXITED(status, 0);
}

// --- Faults --------------------------------------------------------------------------------------------------------

sigjmp_buf g_jump;
ucontext_t g_context;
void Jump(int, siginfo_t* info, void* context) {
  g_info = *info;
  g_context = *static_cast<ucontext_t*>(context);
  siglongjmp(g_jump, 1);
}

template <typename F>
bool Faults(F body) {
  if (sigsetjmp(g_jump, 1) != 0) return true;
  body();
  return false;
}

TEST(Fault, UnmappedMemoryIsSEGV_MAPERR) {
  ScopedHandler handler(SIGSEGV, Jump);
  char* volatile p = reinterpret_cast<char*>(0x10);
  ASSERT_TRUE(Faults([&] { *p = 1; }));
  EXPECT_EQ(g_info.si_code, SEGV_MAPERR);
  EXPECT_EQ(g_info.si_addr, p);
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_TRAPNO], 14);
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_ERR] & 6, 6) << "user mode, write";
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_CR2], reinterpret_cast<greg_t>(p));
}

TEST(Fault, WriteToReadOnlyMemoryIsSEGV_ACCERR) {
  ScopedHandler handler(SIGSEGV, Jump);
  char* volatile p = ReadOnlyPage();
  ASSERT_TRUE(Faults([&] { *p = 1; }));
  EXPECT_EQ(g_info.si_code, SEGV_ACCERR);
  EXPECT_EQ(g_info.si_addr, p);
  volatile char* q = BadPointer();
  ASSERT_TRUE(Faults([&] { (void)*q; }));
  EXPECT_EQ(g_info.si_code, SEGV_ACCERR) << "PROT_NONE is mapped";
}

TEST(Fault, ExecutionOfDataIsSEGV_ACCERR) {
  ScopedHandler handler(SIGSEGV, Jump);
  Mapping page(kPage, PROT_READ | PROT_WRITE);
  memset(page.get(), 0xc3, kPage);
  auto function = reinterpret_cast<void (*)()>(page.get());
  ASSERT_TRUE(Faults([&] { function(); }));
  EXPECT_EQ(g_info.si_code, SEGV_ACCERR);
  EXPECT_EQ(g_info.si_addr, page.get());
  EXPECT_EQ(g_context.uc_mcontext.gregs[REG_RIP], reinterpret_cast<greg_t>(page.get()));
}

TEST(Fault, NonCanonicalAddressIsSI_KERNEL) {
  ScopedHandler handler(SIGSEGV, Jump);
  char* volatile p = reinterpret_cast<char*>(0x8000000000000000ull);
  ASSERT_TRUE(Faults([&] { *p = 1; }));
  EXPECT_EQ(g_info.si_code, SI_KERNEL);
  EXPECT_EQ(g_info.si_addr, nullptr);
}

TEST(Fault, IllegalInstructionIsSIGILL) {
  ScopedHandler handler(SIGILL, Jump);
  ASSERT_TRUE(Faults([] { asm volatile("ud2"); }));
  EXPECT_EQ(g_info.si_code, ILL_ILLOPN);
  EXPECT_EQ(g_info.si_addr, reinterpret_cast<void*>(g_context.uc_mcontext.gregs[REG_RIP]));
}

TEST(Fault, DivisionByZeroIsSIGFPE) {
  ScopedHandler handler(SIGFPE, Jump);
  ASSERT_TRUE(Faults([] {
    volatile int zero = 0;
    volatile int x = 1;
    x = x / zero;
  }));
  EXPECT_EQ(g_info.si_code, FPE_INTDIV);
}

TEST(Fault, Int3IsSIGTRAP) {
  g_count = 0;
  ScopedHandler handler(SIGTRAP, Record);
  asm volatile("int3");
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(g_info.si_code, SI_KERNEL);
}

TEST(Fault, PrivilegedInstructionIsSIGSEGV) {
  ScopedHandler handler(SIGSEGV, Jump);
  ASSERT_TRUE(Faults([] { asm volatile("hlt"); }));
  EXPECT_EQ(g_info.si_code, SI_KERNEL);
}

TEST(Fault, BeyondTheEndOfAFileIsSIGBUS) {
  TempDir dir;
  ASSERT_TRUE(WriteFile(dir / "file", "x"));
  Fd fd(open((dir / "file").c_str(), O_RDWR));
  Mapping map(2 * kPage, PROT_READ, MAP_SHARED, fd.get());
  ASSERT_TRUE(map.ok());
  ScopedHandler handler(SIGBUS, Jump);
  volatile char* p = map.get() + kPage;
  ASSERT_TRUE(Faults([&] { (void)*p; }));
  EXPECT_EQ(g_info.si_code, BUS_ADRERR);
  EXPECT_EQ(g_info.si_addr, p);
}

TEST(Fault, BlockedOrIgnoredFaultsKill) {
  for (int how = 0; how < 2; ++how) {
    int status = RunInChild([&] {
      rlimit core = {0, 0};
      setrlimit(RLIMIT_CORE, &core);
      signal(
          SIGSEGV, how == 0 ? SIG_IGN : [](int) { _exit(1); });
      sigset_t set = MakeSet({SIGSEGV});
      if (how == 1) sigprocmask(SIG_BLOCK, &set, nullptr);
      char* volatile p = reinterpret_cast<char*>(0x10);
      *p = 1;
    });
    EXPECT_SIGNALED(status, SIGSEGV);
  }
}

TEST(Fault, HandlerCanRepairAndReturn) {
  static Mapping page;
  page = Mapping(kPage, PROT_NONE);
  ScopedHandler handler(
      SIGSEGV, +[](int, siginfo_t*, void*) { mprotect(page.get(), kPage, PROT_READ | PROT_WRITE); });
  *static_cast<volatile char*>(page.get()) = 42;
  EXPECT_EQ(page.get()[0], 42);
}

// --- Frames --------------------------------------------------------------------------------------------------------

TEST(Frame, HandlerCanChangeTheRegistersItReturnsTo) {
  ScopedHandler handler(
      SIGTRAP, +[](int, siginfo_t*, void* context) {
        static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RBX] = 0x1122334455667788;
      });
  uint64_t rbx = 1;
  asm volatile("int3" : "+b"(rbx));
  EXPECT_EQ(rbx, 0x1122334455667788u);
}

TEST(Frame, PreservesVectorAndFloatingState) {
  g_count = 0;
  ScopedHandler handler(
      SIGTRAP, +[](int, siginfo_t*, void*) {
        asm volatile("pxor %%xmm5, %%xmm5; pxor %%xmm15, %%xmm15; fninit" ::: "xmm5", "xmm15");
        ++g_count;
      });
  double in[2] = {3.25, -7.5}, out[2] = {};
  long double x87 = 2.5L, x87_out = 0;
  asm volatile("movupd %2, %%xmm15; movapd %%xmm15, %%xmm5\n fldt %3\n int3\n fstpt %1\n movupd %%xmm15, %0"
               : "=m"(out), "=m"(x87_out)
               : "m"(in), "m"(x87)
               : "xmm5", "xmm15", "memory");
  EXPECT_EQ(g_count, 1);
  EXPECT_EQ(out[0], in[0]);
  EXPECT_EQ(out[1], in[1]);
  EXPECT_EQ(x87_out, x87);
}

TEST(Frame, RespectsTheRedZone) {
  // The 128 bytes below the stack pointer belong to the interrupted function.
  ScopedHandler handler(SIGTRAP, Count);
  uint64_t value;
  asm volatile(
      "movq $0x5a5a5a5a, -8(%%rsp)\n movq $0x6b6b6b6b, -128(%%rsp)\n int3\n"
      "movq -8(%%rsp), %0\n addq -128(%%rsp), %0"
      : "=&r"(value)::"memory");
  EXPECT_EQ(value, 0x5a5a5a5aull + 0x6b6b6b6bull);
}

char* g_stack_seen;
void SeeStack(int) {
  char here;
  g_stack_seen = &here;
}

TEST(Altstack, HandlersWithOnstackRunThere) {
  std::vector<char> stack(65536);
  stack_t alt = {stack.data(), 0, stack.size()}, old, during;
  ASSERT_OK(sigaltstack(&alt, &old));
  EXPECT_EQ(old.ss_flags, SS_DISABLE);
  {
    ScopedHandler handler(SIGUSR1, SeeStack, SA_ONSTACK);
    kill(getpid(), SIGUSR1);
    EXPECT_GE(g_stack_seen, stack.data());
    EXPECT_LT(g_stack_seen, stack.data() + stack.size());
  }
  {
    ScopedHandler handler(SIGUSR1, SeeStack);
    kill(getpid(), SIGUSR1);
    EXPECT_FALSE(g_stack_seen >= stack.data() && g_stack_seen < stack.data() + stack.size());
  }
  ASSERT_OK(sigaltstack(nullptr, &during));
  EXPECT_EQ(during.ss_sp, stack.data());
  EXPECT_EQ(during.ss_size, stack.size());
  stack_t tiny = {stack.data(), 0, 100};
  EXPECT_ERRNO(sigaltstack(&tiny, nullptr), ENOMEM);
  stack_t flags = {stack.data(), 77, stack.size()};
  EXPECT_ERRNO(sigaltstack(&flags, nullptr), EINVAL);
  EXPECT_ERRNO(syscall(SYS_sigaltstack, BadPointer(), nullptr), EFAULT);
  EXPECT_ERRNO(syscall(SYS_sigaltstack, nullptr, BadPointer()), EFAULT);
  stack_t off = {nullptr, SS_DISABLE, 0};
  ASSERT_OK(sigaltstack(&off, nullptr));
}

TEST(Altstack, CannotBeChangedWhileInUse) {
  static std::vector<char> stack(65536);
  static int error, flags;
  stack_t alt = {stack.data(), 0, stack.size()}, old;
  ASSERT_OK(sigaltstack(&alt, &old));
  {
    ScopedHandler handler(
        SIGUSR1,
        +[](int) {
          stack_t now;
          sigaltstack(nullptr, &now);
          flags = now.ss_flags;
          stack_t other = {stack.data(), 0, stack.size()};
          error = sigaltstack(&other, nullptr) == 0 ? 0 : errno;
        },
        SA_ONSTACK);
    kill(getpid(), SIGUSR1);
  }
  EXPECT_EQ(flags, SS_ONSTACK);
  EXPECT_EQ(error, EPERM);
  ASSERT_OK(sigaltstack(&old, nullptr));
}

TEST(Altstack, ServesAStackOverflow) {
  int status = RunInChild([] {
    static std::vector<char> stack(65536);
    stack_t alt = {stack.data(), 0, stack.size()};
    CHILD_CHECK(sigaltstack(&alt, nullptr) == 0);
    struct sigaction action = {};
    action.sa_handler = [](int) { _exit(5); };
    action.sa_flags = SA_ONSTACK;
    CHILD_CHECK(sigaction(SIGSEGV, &action, nullptr) == 0);
    rlimit limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_STACK, &limit);
    asm volatile("1: push %rax; jmp 1b");
  });
  EXPECT_EXITED(status, 5);
}

TEST(Altstack, WithoutOneAStackOverflowKills) {
  int status = RunInChild([] {
    rlimit core = {0, 0}, limit = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_CORE, &core);
    setrlimit(RLIMIT_STACK, &limit);
    signal(SIGSEGV, [](int) { _exit(5); });
    asm volatile("1: push %rax; jmp 1b");
  });
  EXPECT_SIGNALED(status, SIGSEGV);
}

// --- Threads -------------------------------------------------------------------------------------------------------

TEST(Threads, AProcessSignalGoesToAThreadThatDoesNotBlockIt) {
  g_count = 0;
  static std::atomic<pid_t> handler_tid;
  handler_tid = 0;
  ScopedHandler handler(
      SIGUSR1, +[](int) { handler_tid = gettid(); });
  ScopedBlock block({SIGUSR1});
  static std::atomic<pid_t> tid;
  static std::atomic<bool> stop;
  tid = 0;
  stop = false;
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                +[](void*) -> void* {
                  sigset_t set = MakeSet({SIGUSR1});
                  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
                  tid = gettid();
                  while (!stop) SleepMs(1);
                  return nullptr;
                },
                nullptr),
            0);
  ASSERT_TRUE(Eventually([] { return tid != 0; }));
  kill(getpid(), SIGUSR1);
  EXPECT_TRUE(Eventually([] { return handler_tid != 0; }));
  EXPECT_EQ(handler_tid, tid);
  stop = true;
  pthread_join(thread, nullptr);
}

TEST(Threads, AStopStopsAllAndAKillKillsAll) {
  pid_t pid = ForkChild([] {
    pthread_t thread;
    for (int i = 0; i < 3; ++i) {
      pthread_create(
          &thread, nullptr,
          +[](void*) -> void* {
            for (;;) pause();
          },
          nullptr);
    }
    for (;;) pause();
  });
  ChildGuard child(pid);
  kill(pid, SIGSTOP);
  int status;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  EXPECT_TRUE(WIFSTOPPED(status));
  kill(pid, SIGCONT);
  ASSERT_EQ(waitpid(pid, &status, WCONTINUED), pid);
  kill(pid, SIGTERM);
  EXPECT_SIGNALED(child.Wait(), SIGTERM);
}

TEST(ParentDeath, SignalArrivesWhenTheParentEnds) {
  Pipe p = MakePipe();
  int status = RunInChild([&] {
    Pipe ready = MakePipe();
    pid_t grandchild = ForkChild([&] {
      signal(SIGUSR1, [](int) { _exit(0); });
      prctl(PR_SET_PDEATHSIG, SIGUSR1);
      CHILD_CHECK(write(ready.write_end.get(), "x", 1) == 1);
      for (;;) pause();
    });
    CHILD_CHECK(grandchild > 0);
    char c;
    CHILD_CHECK(read(ready.read_end.get(), &c, 1) == 1);
  });
  EXPECT_EXITED(status, 0);
  p.write_end.Close();
  char c;
  EXPECT_EQ(read(p.read_end.get(), &c, 1), 0) << "the grandchild held the other writer";
}

}  // namespace
}  // namespace conformance
