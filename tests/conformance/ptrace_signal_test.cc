// ptrace(2): signal-delivery-stops, what a tracer does to signals, group-stops, and PTRACE_INTERRUPT and PTRACE_LISTEN.
#include <pthread.h>

#include "support/tracee.h"

namespace conformance {
namespace {

volatile sig_atomic_t g_got, g_code, g_pid, g_value;
void Record(int signo, siginfo_t* info, void*) {
  g_got = signo;
  g_code = info->si_code;
  g_pid = info->si_pid;
  g_value = info->si_value.sival_int;
}
void Catch(int signo) {
  struct sigaction action = {};
  action.sa_sigaction = Record;
  action.sa_flags = SA_SIGINFO;
  sigaction(signo, &action, nullptr);
}

// --- Delivery ------------------------------------------------------------------------------------------------------

TEST(PtraceSignal, IsForgottenUnlessInjected) {
  ChildGuard child(StartTraced([] {
    raise(SIGTERM);
    _exit(3);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTERM));
  siginfo_t info = GetInfo(child.pid());
  EXPECT_EQ(info.si_signo, SIGTERM);
  EXPECT_EQ(info.si_code, SI_TKILL);
  EXPECT_EQ(info.si_pid, child.pid());
  EXPECT_EXITED(Resume(PTRACE_CONT_, child.pid()), 3);
}

TEST(PtraceSignal, IsDeliveredWhenInjected) {
  ChildGuard child(StartTraced([] { raise(SIGTERM); }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTERM));
  EXPECT_SIGNALED(Resume(PTRACE_CONT_, child.pid(), SIGTERM), SIGTERM);
}

TEST(PtraceSignal, InjectedRunsItsHandlerWithItsInformation) {
  ChildGuard child(StartTraced([] {
    Catch(SIGUSR1);
    sigqueue(getpid(), SIGUSR1, sigval{.sival_int = 44});
    CHILD_CHECK(g_got == SIGUSR1 && g_code == SI_QUEUE && g_value == 44);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR1));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGUSR1), 0);
}

TEST(PtraceSignal, AnotherOneMayBeInjected) {
  ChildGuard child(StartTraced([] {
    Catch(SIGUSR2);
    sigqueue(getpid(), SIGUSR1, sigval{.sival_int = 44});
    CHILD_CHECK(g_got == SIGUSR2 && g_code == SI_USER && g_pid == getppid());
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR1));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGUSR2), 0);
}

TEST(PtraceSignal, ItsInformationCanBeChanged) {
  ChildGuard child(StartTraced([] {
    Catch(SIGUSR1);
    raise(SIGUSR1);
    CHILD_CHECK(g_got == SIGUSR1 && g_code == SI_QUEUE && g_value == 55);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR1));
  siginfo_t info = GetInfo(child.pid());
  info.si_code = SI_QUEUE;
  info.si_value.sival_int = 55;
  EXPECT_OK(Ptrace(PTRACE_SETSIGINFO, child.pid(), 0, Address(&info)));
  EXPECT_ERRNO(Ptrace(PTRACE_SETSIGINFO, child.pid(), 0, Address(BadPointer())), EFAULT);
  EXPECT_ERRNO(Ptrace(PTRACE_GETSIGINFO, child.pid(), 0, Address(BadPointer())), EFAULT);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGUSR1), 0);
}

TEST(PtraceSignal, IgnoredOnesStopToo) {
  ChildGuard child(StartTraced([] {
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    raise(SIGCHLD);
    raise(SIGWINCH);
  }));
  for (int signo : {SIGUSR1, SIGCHLD, SIGWINCH}) {
    ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(signo));
  }
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGWINCH), 0);
}

TEST(PtraceSignal, BlockedOnesWait) {
  ChildGuard child(StartTraced([] {
    ScopedBlock block({SIGUSR1});
    raise(SIGUSR1);
    raise(SIGUSR2);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR2));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR1));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSignal, InjectedIntoItsBlockItWaits) {
  ChildGuard child(StartTraced([] {
    Catch(SIGUSR1);
    {
      ScopedBlock block({SIGUSR1});
      raise(SIGUSR2);
      CHILD_CHECK(g_got == 0);
    }
    CHILD_CHECK(g_got == SIGUSR1);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR2));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGUSR1), Stop(SIGUSR1));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGUSR1), 0);
}

TEST(PtraceSignal, SIGKILLDoesNotStop) {
  ChildGuard child(StartTraced([] {}));
  ASSERT_OK(kill(child.pid(), SIGKILL));
  EXPECT_SIGNALED(WaitAll(child.pid()), SIGKILL);
}

TEST(PtraceSignal, FaultsStop) {
  ChildGuard child(StartTraced([] { *reinterpret_cast<volatile int*>(0x10) = 1; }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGSEGV));
  siginfo_t info = GetInfo(child.pid());
  EXPECT_EQ(info.si_code, SEGV_MAPERR);
  EXPECT_EQ(info.si_addr, reinterpret_cast<void*>(0x10));
  EXPECT_EQ(GetRegs(child.pid()).orig_rax, ~0ull);
  // Forgotten, the instruction faults again.
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGSEGV));
  EXPECT_SIGNALED(Resume(PTRACE_CONT_, child.pid(), SIGSEGV), SIGSEGV);
}

TEST(PtraceSignal, BreakpointInstructionsStop) {
  ChildGuard child(StartTraced([] {
    asm volatile("int3");
    _exit(8);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
  EXPECT_EQ(GetInfo(child.pid()).si_code, SI_KERNEL);
  EXPECT_EXITED(Resume(PTRACE_CONT_, child.pid()), 8);
}

TEST(PtraceSignal, TheOtherThreadsGoOn) {
  ChildGuard child(StartTraced([] {
    static Pipe pipe = MakePipe();
    pthread_t thread;
    pthread_create(
        &thread, nullptr,
        [](void*) -> void* {
          char c;
          CHILD_CHECK(read(pipe.read_end.get(), &c, 1) == 1);
          _exit(11);
        },
        nullptr);
    CHILD_CHECK(write(pipe.write_end.get(), "x", 1) == 1);
    raise(SIGUSR1);
    for (;;) pause();
  }));
  int status = Resume(PTRACE_CONT_, child.pid());
  // The main thread may be stopped when the other one ends the process: that ends the stop.
  if (status == Stop(SIGUSR1)) status = WaitAll(child.pid());
  EXPECT_EXITED(status, 11);
}

// --- Interrupted calls ---------------------------------------------------------------------------------------------

TEST(PtraceRestart, AForgottenSignalLeavesTheCallUndisturbed) {
  Pipe gate = MakePipe();
  ChildGuard child(StartTraced([&] {
    char c;
    CHILD_CHECK(read(gate.read_end.get(), &c, 1) == 1 && c == 'x');
  }));
  ASSERT_OK(Ptrace(PTRACE_CONT_, child.pid()));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  ASSERT_OK(kill(child.pid(), SIGUSR1));
  ASSERT_EQ(WaitAll(child.pid()), Stop(SIGUSR1));
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(static_cast<int64_t>(regs.rax), -512);
  EXPECT_EQ(regs.orig_rax, static_cast<uint64_t>(SYS_read));
  ASSERT_OK(Ptrace(PTRACE_CONT_, child.pid()));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  ASSERT_EQ(write(gate.write_end.get(), "x", 1), 1);
  EXPECT_EQ(WaitAll(child.pid()), 0);
}

TEST(PtraceRestart, IsPreventedByOrigRaxMinusOne) {
  Pipe gate = MakePipe();
  ChildGuard child(StartTraced([&] {
    char c;
    // The raw result: nobody has turned it into EINTR.
    long result;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(SYS_read), "D"(gate.read_end.get()), "S"(&c), "d"(1)
                 : "rcx", "r11", "memory");
    CHILD_CHECK(result == -512);
  }));
  ASSERT_OK(Ptrace(PTRACE_CONT_, child.pid()));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  ASSERT_OK(kill(child.pid(), SIGUSR1));
  ASSERT_EQ(WaitAll(child.pid()), Stop(SIGUSR1));
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, orig_rax), ~0ull));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

// A debugger calls a function of an interrupted program: registers saved, changed, restored, and the call goes on.
void Called() { asm volatile("int3"); }

TEST(PtraceRestart, SurvivesAFunctionCallByTheTracer) {
  Pipe gate = MakePipe();
  ChildGuard child(StartTraced([&] {
    char c;
    CHILD_CHECK(read(gate.read_end.get(), &c, 1) == 1);
  }));
  ASSERT_OK(Ptrace(PTRACE_CONT_, child.pid()));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  ASSERT_OK(kill(child.pid(), SIGUSR1));
  ASSERT_EQ(WaitAll(child.pid()), Stop(SIGUSR1));
  const user_regs_struct saved = GetRegs(child.pid());
  user_regs_struct regs = saved;
  regs.rip = Address(&Called);
  regs.rsp = (regs.rsp - 1024) & ~15ull;
  regs.orig_rax = ~0ull;
  ASSERT_TRUE(SetRegs(child.pid(), regs));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
  ASSERT_TRUE(SetRegs(child.pid(), saved));
  ASSERT_OK(Ptrace(PTRACE_CONT_, child.pid()));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  ASSERT_EQ(write(gate.write_end.get(), "x", 1), 1);
  EXPECT_EQ(WaitAll(child.pid()), 0);
}

TEST(PtraceRestart, SyscallStopsShowTheKernelsCodes) {
  Pipe gate = MakePipe();
  ChildGuard child(StartTraced([&] {
    char c;
    CHILD_CHECK(read(gate.read_end.get(), &c, 1) == 1);
  }));
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, PTRACE_O_TRACESYSGOOD));
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  ASSERT_EQ(GetRegs(child.pid()).orig_rax, static_cast<uint64_t>(SYS_read));
  ASSERT_OK(Ptrace(PTRACE_SYSCALL_, child.pid()));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  ASSERT_OK(kill(child.pid(), SIGUSR1));
  ASSERT_EQ(WaitAll(child.pid()), kSyscallStop);
  EXPECT_EQ(static_cast<int64_t>(GetRegs(child.pid()).rax), -512);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), Stop(SIGUSR1));
  // Made again, it is a call like others.
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(regs.orig_rax, static_cast<uint64_t>(SYS_read));
  EXPECT_EQ(static_cast<int64_t>(regs.rax), -ENOSYS);
  ASSERT_EQ(write(gate.write_end.get(), "x", 1), 1);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  EXPECT_EQ(GetRegs(child.pid()).rax, 1u);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

// --- Masks and queues ----------------------------------------------------------------------------------------------

TEST(PtraceSigMask, CanBeReadAndSet) {
  ChildGuard child(StartTraced([] {
    ScopedBlock block({SIGUSR1});
    raise(SIGUSR2);
    sigset_t now;
    sigprocmask(SIG_BLOCK, nullptr, &now);
    CHILD_CHECK(!sigismember(&now, SIGUSR1) && sigismember(&now, SIGHUP));
    CHILD_CHECK(!sigismember(&now, SIGKILL) && !sigismember(&now, SIGSTOP));
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR2));
  uint64_t mask = 0;
  EXPECT_OK(Ptrace(PTRACE_GETSIGMASK, child.pid(), 8, Address(&mask)));
  EXPECT_EQ(mask, 1ull << (SIGUSR1 - 1));
  EXPECT_ERRNO(Ptrace(PTRACE_GETSIGMASK, child.pid(), 4, Address(&mask)), EINVAL);
  EXPECT_ERRNO(Ptrace(PTRACE_SETSIGMASK, child.pid(), 16, Address(&mask)), EINVAL);
  EXPECT_ERRNO(Ptrace(PTRACE_GETSIGMASK, child.pid(), 8, Address(BadPointer())), EFAULT);
  EXPECT_ERRNO(Ptrace(PTRACE_SETSIGMASK, child.pid(), 8, Address(BadPointer())), EFAULT);
  mask = 1ull << (SIGHUP - 1) | 1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1);
  EXPECT_OK(Ptrace(PTRACE_SETSIGMASK, child.pid(), 8, Address(&mask)));
  EXPECT_OK(Ptrace(PTRACE_GETSIGMASK, child.pid(), 8, Address(&mask)));
  EXPECT_EQ(mask, 1ull << (SIGHUP - 1));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtracePeekSigInfo, ShowsWhatIsQueued) {
  ChildGuard child(StartTraced([] {
    ScopedBlock block({SIGRTMIN, SIGRTMIN + 1, SIGUSR1});
    for (int i = 0; i < 3; ++i) sigqueue(getpid(), SIGRTMIN + 1, sigval{.sival_int = i});
    raise(SIGUSR1);
    raise(SIGUSR2);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR2));
  struct ptrace_peeksiginfo_args args = {0, PTRACE_PEEKSIGINFO_SHARED, 10};
  siginfo_t infos[10] = {};
  ASSERT_EQ(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(&args), Address(infos)), 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(infos[i].si_signo, SIGRTMIN + 1);
    EXPECT_EQ(infos[i].si_value.sival_int, i);
  }
  args.off = 2;
  EXPECT_EQ(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(&args), Address(infos)), 1);
  EXPECT_EQ(infos[0].si_value.sival_int, 2);
  args.off = 3;
  EXPECT_EQ(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(&args), Address(infos)), 0);
  args = {0, PTRACE_PEEKSIGINFO_SHARED, 2};
  EXPECT_EQ(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(&args), Address(infos)), 2);
  args = {0, 0, 10};
  EXPECT_EQ(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(&args), Address(infos)), 1);
  EXPECT_EQ(infos[0].si_signo, SIGUSR1);
  args = {0, 2, 1};
  EXPECT_ERRNO(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(&args), Address(infos)), EINVAL);
  args = {0, 0, -1};
  EXPECT_ERRNO(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(&args), Address(infos)), EINVAL);
  args = {0, 0, 1};
  EXPECT_ERRNO(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(&args), Address(BadPointer())), EFAULT);
  EXPECT_ERRNO(Ptrace(PTRACE_PEEKSIGINFO, child.pid(), Address(BadPointer()), Address(infos)), EFAULT);
}

// --- Group-stops ---------------------------------------------------------------------------------------------------

TEST(PtraceGroupStop, FollowsAnInjectedStopSignal) {
  ChildGuard child(StartTraced([] { raise(SIGTSTP); }));
  // Not orphaned: SIGTSTP would be ignored.
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTSTP));
  EXPECT_EQ(GetInfo(child.pid()).si_signo, SIGTSTP);
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGSTOP), Stop(SIGSTOP));
  siginfo_t info{};
  EXPECT_ERRNO(Ptrace(PTRACE_GETSIGINFO, child.pid(), 0, Address(&info)), EINVAL);
  EXPECT_ERRNO(Ptrace(PTRACE_SETSIGINFO, child.pid(), 0, Address(&info)), EINVAL);
  EXPECT_EQ(ThreadState(child.pid()), 't');
  // Going on, it runs although its group is stopped.
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceGroupStop, IsReportedOncePerThread) {
  ChildGuard process(StartTraced([] {
    pthread_t thread;
    pthread_create(
        &thread, nullptr,
        [](void*) -> void* {
          for (;;) pause();
        },
        nullptr);
    raise(SIGSTOP);
    _exit(2);
  }));
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, process.pid(), 0, PTRACE_O_TRACECLONE));
  ASSERT_EQ(Resume(PTRACE_CONT_, process.pid()), Event(PTRACE_EVENT_CLONE));
  uint64_t message = EventMessage(process.pid());
  pid_t thread = static_cast<pid_t>(message);
  ASSERT_EQ(WaitAll(thread), Stop(SIGSTOP));
  ASSERT_OK(Ptrace(PTRACE_CONT_, thread));
  ASSERT_EQ(Resume(PTRACE_CONT_, process.pid()), Stop(SIGSTOP));
  ASSERT_OK(Ptrace(PTRACE_CONT_, process.pid(), 0, SIGSTOP));
  siginfo_t info{};
  ASSERT_EQ(WaitAll(process.pid()), Stop(SIGSTOP));
  EXPECT_ERRNO(Ptrace(PTRACE_GETSIGINFO, process.pid(), 0, Address(&info)), EINVAL);
  ASSERT_EQ(WaitAll(thread), Stop(SIGSTOP));
  EXPECT_ERRNO(Ptrace(PTRACE_GETSIGINFO, thread, 0, Address(&info)), EINVAL);
  ASSERT_OK(Ptrace(PTRACE_CONT_, thread));
  ASSERT_OK(Ptrace(PTRACE_CONT_, process.pid()));
  EXPECT_EXITED(WaitAll(thread), 2);
  EXPECT_EXITED(WaitAll(process.pid()), 2);
}

TEST(PtraceGroupStop, DetachLeavesItStopped) {
  ChildGuard child(StartTraced([] {
    raise(SIGSTOP);
    _exit(4);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGSTOP));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGSTOP), Stop(SIGSTOP));
  ASSERT_OK(Ptrace(PTRACE_DETACH_, child.pid()));
  ASSERT_TRUE(Eventually([&] { return ThreadState(child.pid()) == 'T'; }));
  ASSERT_OK(kill(child.pid(), SIGCONT));
  EXPECT_EXITED(child.Wait(), 4);
}

TEST(PtraceAttach, TakesAStoppedProcessAtOnce) {
  pid_t pid = ForkChild([] {
    raise(SIGSTOP);
    _exit(5);
  });
  ChildGuard child(pid);
  int status;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  ASSERT_TRUE(WIFSTOPPED(status));
  ASSERT_OK(Ptrace(PTRACE_ATTACH_, pid));
  EXPECT_EQ(waitpid(pid, &status, WNOHANG | __WALL), pid);
  EXPECT_EQ(status, Stop(SIGSTOP));
  EXPECT_EQ(ThreadState(pid), 't');
  ASSERT_OK(Ptrace(PTRACE_DETACH_, pid, 0, SIGCONT));
  // The stop is still in effect for a thread without a tracer, unless SIGCONT was sent.
  kill(pid, SIGCONT);
  EXPECT_EXITED(child.Wait(), 5);
}

// --- PTRACE_SEIZE: interrupt and listen ----------------------------------------------------------------------------

struct Seized {
  Pipe gate = MakePipe();
  pid_t pid;
  Seized() {
    pid = ForkChild([this] {
      gate.write_end.Close();
      char c;
      (void)!read(gate.read_end.get(), &c, 1);
      _exit(6);
    });
    EXPECT_TRUE(WaitUntilBlocked(pid));
    EXPECT_OK(Ptrace(PTRACE_SEIZE, pid));
  }
};

TEST(PtraceInterrupt, StopsARunningTracee) {
  Seized s;
  ChildGuard child(s.pid);
  ASSERT_OK(Ptrace(PTRACE_INTERRUPT, s.pid));
  ASSERT_EQ(WaitAll(s.pid), Event(PTRACE_EVENT_STOP));
  siginfo_t info = GetInfo(s.pid);
  EXPECT_EQ(info.si_signo, SIGTRAP);
  EXPECT_EQ(info.si_code, SIGTRAP | PTRACE_EVENT_STOP << 8);
  EXPECT_EQ(GetRegs(s.pid).orig_rax, static_cast<uint64_t>(SYS_read));
  ASSERT_OK(Ptrace(PTRACE_CONT_, s.pid));
  EXPECT_TRUE(WaitUntilBlocked(s.pid));
  s.gate.write_end.Close();
  EXPECT_EXITED(WaitAll(s.pid), 6);
}

TEST(PtraceInterrupt, StopsOneThatComputes) {
  pid_t pid = ForkChild([] {
    for (volatile bool forever = true; forever;) {
    }
  });
  ChildGuard child(pid);
  ASSERT_OK(Ptrace(PTRACE_SEIZE, pid));
  for (int i = 0; i < 3; ++i) {
    ASSERT_OK(Ptrace(PTRACE_INTERRUPT, pid));
    ASSERT_EQ(WaitAll(pid), Event(PTRACE_EVENT_STOP));
    ASSERT_OK(Ptrace(PTRACE_CONT_, pid));
  }
}

TEST(PtraceInterrupt, WhileStoppedItStopsAgainAfterGoingOn) {
  Seized s;
  ChildGuard child(s.pid);
  ASSERT_OK(Ptrace(PTRACE_INTERRUPT, s.pid));
  ASSERT_EQ(WaitAll(s.pid), Event(PTRACE_EVENT_STOP));
  ASSERT_OK(Ptrace(PTRACE_INTERRUPT, s.pid));
  EXPECT_EQ(Resume(PTRACE_CONT_, s.pid), Event(PTRACE_EVENT_STOP));
}

TEST(PtraceInterrupt, FailsWithEIOForOthers) {
  ChildGuard child(StartTraced([] {}));
  EXPECT_ERRNO(Ptrace(PTRACE_INTERRUPT, child.pid()), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_LISTEN, child.pid()), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_INTERRUPT, getpid()), ESRCH);
}

TEST(PtraceListen, NeedsAnEventStop) {
  Seized s;
  ChildGuard child(s.pid);
  EXPECT_ERRNO(Ptrace(PTRACE_LISTEN, s.pid), ESRCH);  // it runs
  ASSERT_OK(kill(s.pid, SIGUSR1));
  ASSERT_EQ(WaitAll(s.pid), Stop(SIGUSR1));
  EXPECT_ERRNO(Ptrace(PTRACE_LISTEN, s.pid), EIO);
}

TEST(PtraceListen, KeepsTheGroupStopUntilSIGCONT) {
  Seized s;
  ChildGuard child(s.pid);
  ASSERT_OK(kill(s.pid, SIGSTOP));
  ASSERT_EQ(WaitAll(s.pid), Stop(SIGSTOP));  // its delivery
  ASSERT_EQ(Resume(PTRACE_CONT_, s.pid, SIGSTOP), Stop(SIGSTOP, PTRACE_EVENT_STOP));
  siginfo_t info = GetInfo(s.pid);
  EXPECT_EQ(info.si_signo, SIGSTOP);
  EXPECT_EQ(info.si_code, SIGSTOP | PTRACE_EVENT_STOP << 8);
  ASSERT_OK(Ptrace(PTRACE_LISTEN, s.pid));
  // Stopped, but not the tracer's.
  user_regs_struct regs;
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGS_, s.pid, 0, Address(&regs)), ESRCH);
  int status;
  EXPECT_EQ(waitpid(s.pid, &status, WNOHANG | __WALL), 0);
  EXPECT_EQ(ThreadState(s.pid), 't');
  ASSERT_OK(kill(s.pid, SIGCONT));
  ASSERT_EQ(WaitAll(s.pid), Event(PTRACE_EVENT_STOP));
  ASSERT_EQ(Resume(PTRACE_CONT_, s.pid), Stop(SIGCONT));
  ASSERT_OK(Ptrace(PTRACE_CONT_, s.pid, 0, SIGCONT));
  EXPECT_TRUE(WaitUntilBlocked(s.pid));
  s.gate.write_end.Close();
  EXPECT_EXITED(WaitAll(s.pid), 6);
}

TEST(PtraceListen, CanBeInterrupted) {
  Seized s;
  ChildGuard child(s.pid);
  ASSERT_OK(kill(s.pid, SIGSTOP));
  ASSERT_EQ(WaitAll(s.pid), Stop(SIGSTOP));
  ASSERT_EQ(Resume(PTRACE_CONT_, s.pid, SIGSTOP), Stop(SIGSTOP, PTRACE_EVENT_STOP));
  ASSERT_OK(Ptrace(PTRACE_LISTEN, s.pid));
  ASSERT_OK(Ptrace(PTRACE_INTERRUPT, s.pid));
  EXPECT_EQ(WaitAll(s.pid), Stop(SIGSTOP, PTRACE_EVENT_STOP));
}

TEST(PtraceSeize, SIGCONTToOneThatRunsIsAnEventToo) {
  Seized s;
  ChildGuard child(s.pid);
  ASSERT_OK(kill(s.pid, SIGCONT));
  ASSERT_EQ(WaitAll(s.pid), Event(PTRACE_EVENT_STOP));
  ASSERT_EQ(Resume(PTRACE_CONT_, s.pid), Stop(SIGCONT));
}

TEST(PtraceSeize, TakesAStoppedProcess) {
  pid_t pid = ForkChild([] {
    raise(SIGSTOP);
    _exit(5);
  });
  ChildGuard child(pid);
  int status;
  ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
  ASSERT_OK(Ptrace(PTRACE_SEIZE, pid));
  EXPECT_EQ(waitpid(pid, &status, WNOHANG | __WALL), pid);
  EXPECT_EQ(status, Stop(SIGSTOP, PTRACE_EVENT_STOP));
  EXPECT_EXITED(Resume(PTRACE_CONT_, pid), 5);
}

TEST(PtraceGroupStop, TheRealParentSeesItBesidesTheTracer) {
  Pipe gate = MakePipe();
  pid_t pid = ForkChild([&] {
    gate.write_end.Close();
    char c;
    (void)!read(gate.read_end.get(), &c, 1);
  });
  ChildGuard child(pid);
  // After the child, which may be stopped before it could close its end of them.
  Pipe ready = MakePipe(), stay = MakePipe();
  pid_t tracer_pid = ForkChild([&] {
    CHILD_CHECK(Ptrace(PTRACE_SEIZE, pid) == 0);
    CHILD_CHECK(kill(pid, SIGSTOP) == 0);
    CHILD_CHECK(WaitAll(pid) == Stop(SIGSTOP));
    CHILD_CHECK(Resume(PTRACE_CONT_, pid, SIGSTOP) == Stop(SIGSTOP, PTRACE_EVENT_STOP));
    CHILD_CHECK(write(ready.write_end.get(), "r", 1) == 1);
    stay.write_end.Close();
    char c;
    (void)!read(stay.read_end.get(), &c, 1);
  });
  ChildGuard tracer(tracer_pid);
  char c;
  ASSERT_EQ(read(ready.read_end.get(), &c, 1), 1);
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), pid);
  EXPECT_EQ(status, Stop(SIGSTOP));
  stay.write_end.Close();
  EXPECT_EXITED(tracer.Wait(), 0);
  // Without its tracer it is still stopped.
  EXPECT_TRUE(Eventually([&] { return ThreadState(pid) == 'T'; }));
  kill(pid, SIGKILL);
  EXPECT_SIGNALED(child.Wait(), SIGKILL);
}

}  // namespace
}  // namespace conformance
