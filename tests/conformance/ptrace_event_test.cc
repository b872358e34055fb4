// ptrace(2): PTRACE_EVENT_* stops, whose tracee a new task is, exec, exits, and the end of a tracer.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/prctl.h>

#include "support/tracee.h"

namespace conformance {
namespace {

char* const kTrue[] = {const_cast<char*>("/proc/self/exe"), const_cast<char*>("--gtest_list_tests"), nullptr};
char* const kNoEnv[] = {nullptr};

// Something short to exec: this program with nothing to do. Its output goes nowhere.
void ExecSomething() {
  int null = open("/dev/null", O_WRONLY);
  dup2(null, 1);
  execve(kTrue[0], kTrue, kNoEnv);
}

// Lets a tracee run to its end and returns its status; signals other than SIGTRAP and SIGSTOP are passed on.
int RunToEnd(pid_t pid) {
  int signo = 0;
  for (;;) {
    int status = Resume(PTRACE_CONT_, pid, signo);
    if (!WIFSTOPPED(status)) return status;
    signo = status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP && WSTOPSIG(status) != SIGSTOP ? WSTOPSIG(status) : 0;
  }
}

void SetOptions(pid_t pid, long options) {
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, static_cast<uint64_t>(options)));
}

TEST(PtraceEventFork, StopsBothAndTracesTheChild) {
  ChildGuard parent(StartTraced([] { CHILD_CHECK(RunInChild([] {}) == 0); }));
  SetOptions(parent.pid(), PTRACE_O_TRACEFORK);
  ASSERT_EQ(Resume(PTRACE_CONT_, parent.pid()), Event(PTRACE_EVENT_FORK));
  pid_t pid = static_cast<pid_t>(EventMessage(parent.pid()));
  siginfo_t info = GetInfo(parent.pid());
  EXPECT_EQ(info.si_signo, SIGTRAP);
  EXPECT_EQ(info.si_code, SIGTRAP | PTRACE_EVENT_FORK << 8);
  ChildGuard child(pid);
  EXPECT_EQ(WaitAll(pid), Stop(SIGSTOP));
  EXPECT_EQ(StatusField(pid, "TracerPid"), std::to_string(getpid()));
  EXPECT_EQ(StatusField(pid, "PPid"), std::to_string(parent.pid()));
  EXPECT_EQ(Resume(PTRACE_CONT_, pid), 0);
  EXPECT_EQ(RunToEnd(parent.pid()), 0);
}

TEST(PtraceEventFork, ChildrenInheritOptions) {
  ChildGuard parent(StartTraced([] { RunInChild([] { RunInChild([] {}); }); }));
  SetOptions(parent.pid(), PTRACE_O_TRACEFORK);
  ASSERT_EQ(Resume(PTRACE_CONT_, parent.pid()), Event(PTRACE_EVENT_FORK));
  ChildGuard child(static_cast<pid_t>(EventMessage(parent.pid())));
  ASSERT_EQ(WaitAll(child.pid()), Stop(SIGSTOP));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Event(PTRACE_EVENT_FORK));
  ChildGuard grandchild(static_cast<pid_t>(EventMessage(child.pid())));
  ASSERT_EQ(WaitAll(grandchild.pid()), Stop(SIGSTOP));
  EXPECT_EQ(Resume(PTRACE_CONT_, grandchild.pid()), 0);
  EXPECT_EQ(RunToEnd(child.pid()), 0);
  EXPECT_EQ(RunToEnd(parent.pid()), 0);
}

TEST(PtraceEventFork, AnExitStopOfTheCallFollowsTheEvent) {
  ChildGuard parent(StartTraced([] { syscall(SYS_fork) == 0 ? _exit(0) : (void)0; }));
  SetOptions(parent.pid(), PTRACE_O_TRACEFORK | PTRACE_O_TRACESYSGOOD);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, parent.pid()), kSyscallStop);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, parent.pid()), Event(PTRACE_EVENT_FORK));
  EXPECT_EQ(static_cast<int64_t>(GetRegs(parent.pid()).rax), -ENOSYS);
  ChildGuard child(static_cast<pid_t>(EventMessage(parent.pid())));
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, parent.pid()), kSyscallStop);
  EXPECT_EQ(static_cast<int64_t>(GetRegs(parent.pid()).rax), child.pid());
  ASSERT_EQ(WaitAll(child.pid()), Stop(SIGSTOP));
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(regs.rax, 0u);
  EXPECT_EQ(regs.orig_rax, static_cast<uint64_t>(SYS_fork));
}

TEST(PtraceEventVfork, StopsBeforeAndAfter) {
  ChildGuard parent(StartTraced([] {
    pid_t pid = vfork();
    if (pid == 0) _exit(3);
    CHILD_CHECK(pid > 0);
  }));
  SetOptions(parent.pid(), PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE);
  ASSERT_EQ(Resume(PTRACE_CONT_, parent.pid()), Event(PTRACE_EVENT_VFORK));
  ChildGuard child(static_cast<pid_t>(EventMessage(parent.pid())));
  ASSERT_OK(Ptrace(PTRACE_CONT_, parent.pid()));
  ASSERT_EQ(WaitAll(child.pid()), Stop(SIGSTOP));
  EXPECT_EXITED(Resume(PTRACE_CONT_, child.pid()), 3);
  ASSERT_EQ(WaitAll(parent.pid()), Event(PTRACE_EVENT_VFORK_DONE));
  EXPECT_EQ(EventMessage(parent.pid()), static_cast<uint64_t>(child.pid()));
  EXPECT_EQ(RunToEnd(parent.pid()), 0);
}

void* Nothing(void*) { return nullptr; }

TEST(PtraceEventClone, ThreadsAreTraceesOfTheirOwn) {
  ChildGuard process(StartTraced([] {
    pthread_t thread;
    CHILD_CHECK(pthread_create(&thread, nullptr, Nothing, nullptr) == 0);
    pthread_join(thread, nullptr);
  }));
  SetOptions(process.pid(), PTRACE_O_TRACECLONE);
  ASSERT_EQ(Resume(PTRACE_CONT_, process.pid()), Event(PTRACE_EVENT_CLONE));
  pid_t thread = static_cast<pid_t>(EventMessage(process.pid()));
  ASSERT_EQ(WaitAll(thread), Stop(SIGSTOP));
  user_regs_struct regs = GetRegs(thread);
  EXPECT_EQ(regs.rax, 0u);
  ASSERT_OK(Ptrace(PTRACE_CONT_, process.pid()));
  // A traced thread is waited for like a process, with __WALL (or __WCLONE, or without: a tracee's kind is no matter).
  ASSERT_OK(Ptrace(PTRACE_CONT_, thread));
  EXPECT_EQ(WaitAll(thread), 0);
  EXPECT_ERRNO(waitpid(thread, nullptr, __WALL), ECHILD);
  EXPECT_EQ(WaitAll(process.pid()), 0);
}

TEST(PtraceWait, SeesThreadsWithoutWall) {
  ChildGuard process(StartTraced([] {
    pthread_t thread;
    pthread_create(&thread, nullptr, Nothing, nullptr);
    pthread_join(thread, nullptr);
  }));
  SetOptions(process.pid(), PTRACE_O_TRACECLONE);
  ASSERT_EQ(Resume(PTRACE_CONT_, process.pid()), Event(PTRACE_EVENT_CLONE));
  pid_t thread = static_cast<pid_t>(EventMessage(process.pid()));
  int status;
  EXPECT_EQ(waitpid(thread, &status, 0), thread);
  EXPECT_EQ(status, Stop(SIGSTOP));
  // Killed, it is waited for before its process, which would not end otherwise.
  ASSERT_OK(kill(process.pid(), SIGKILL));
  EXPECT_SIGNALED(WaitAll(thread), SIGKILL);
}

TEST(PtraceWait, AnUnreapedThreadHoldsUpItsProcess) {
  ChildGuard process(StartTraced([] {
    pthread_t thread;
    pthread_create(&thread, nullptr, Nothing, nullptr);
    pthread_join(thread, nullptr);
    _exit(6);
  }));
  SetOptions(process.pid(), PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXIT);
  ASSERT_EQ(Resume(PTRACE_CONT_, process.pid()), Event(PTRACE_EVENT_CLONE));
  pid_t thread = static_cast<pid_t>(EventMessage(process.pid()));
  ASSERT_EQ(WaitAll(thread), Stop(SIGSTOP));
  ASSERT_EQ(Resume(PTRACE_CONT_, thread), Event(PTRACE_EVENT_EXIT));
  ASSERT_OK(Ptrace(PTRACE_CONT_, thread));
  ASSERT_EQ(Resume(PTRACE_CONT_, process.pid()), Event(PTRACE_EVENT_EXIT));
  EXPECT_EQ(EventMessage(process.pid()), 6u << 8);
  ASSERT_OK(Ptrace(PTRACE_CONT_, process.pid()));
  ASSERT_TRUE(Eventually([&] { return ThreadState(process.pid()) == 'Z'; }));
  int status;
  EXPECT_EQ(waitpid(process.pid(), &status, WNOHANG | __WALL), 0);
  EXPECT_EXITED(WaitAll(thread), 6);
  EXPECT_EXITED(WaitAll(process.pid()), 6);
}

TEST(PtraceClone, UntracedChildrenAreLeftAlone) {
  ChildGuard parent(StartTraced([] {
    long pid = syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(StatusField(getpid(), "TracerPid") == "0" ? 0 : 1);
    CHILD_CHECK(WaitFor(static_cast<pid_t>(pid)) == 0);
  }));
  SetOptions(parent.pid(), PTRACE_O_TRACEFORK | PTRACE_O_TRACECLONE);
  EXPECT_EQ(RunToEnd(parent.pid()), 0);
}

TEST(PtraceClone, PtraceFlagTracesTheChildWithoutAnEvent) {
  ChildGuard parent(StartTraced([] {
    long pid = syscall(SYS_clone, CLONE_PTRACE | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    WaitFor(static_cast<pid_t>(pid));
  }));
  ASSERT_OK(Ptrace(PTRACE_CONT_, parent.pid()));
  int status;
  pid_t pid = waitpid(-1, &status, __WALL);
  ASSERT_GT(pid, 0);
  EXPECT_NE(pid, parent.pid());
  EXPECT_EQ(status, Stop(SIGSTOP));
  ChildGuard child(pid);
  EXPECT_EQ(Resume(PTRACE_CONT_, pid), 0);
}

// --- exec ----------------------------------------------------------------------------------------------------------

TEST(PtraceEventExec, StopsInTheNewProgram) {
  ChildGuard child(StartTraced(ExecSomething));
  SetOptions(child.pid(), PTRACE_O_TRACEEXEC | PTRACE_O_TRACESYSGOOD);
  uint64_t before = GetRegs(child.pid()).rsp;
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Event(PTRACE_EVENT_EXEC));
  EXPECT_EQ(EventMessage(child.pid()), static_cast<uint64_t>(child.pid()));
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(regs.orig_rax, static_cast<uint64_t>(SYS_execve));
  EXPECT_NE(regs.rsp, before);
  EXPECT_EQ(regs.rbx, 0u);
  EXPECT_EQ(regs.cs, 0x33u);
  uint64_t argc = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA_, child.pid(), regs.rsp, Address(&argc)));
  EXPECT_EQ(argc, 2u);
  // The call ends after that.
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  EXPECT_EQ(GetRegs(child.pid()).rax, 0u);
  EXPECT_EQ(GetRegs(child.pid()).orig_rax, static_cast<uint64_t>(SYS_execve));
  EXPECT_EQ(RunToEnd(child.pid()), 0);
}

TEST(PtraceExec, SendsSIGTRAPWithoutTheOption) {
  ChildGuard child(StartTraced(ExecSomething));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
  siginfo_t info = GetInfo(child.pid());
  EXPECT_EQ(info.si_code, SI_USER);
  EXPECT_EQ(info.si_pid, child.pid());
  EXPECT_EQ(RunToEnd(child.pid()), 0);
}

void* ExecInThread(void*) {
  ExecSomething();
  return nullptr;
}

TEST(PtraceEventExec, AThreadThatIsNotTheLeaderTakesItsId) {
  ChildGuard process(StartTraced([] {
    pthread_t thread;
    pthread_create(&thread, nullptr, ExecInThread, nullptr);
    for (;;) pause();
  }));
  SetOptions(process.pid(), PTRACE_O_TRACEEXEC | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXIT);
  ASSERT_EQ(Resume(PTRACE_CONT_, process.pid()), Event(PTRACE_EVENT_CLONE));
  pid_t thread = static_cast<pid_t>(EventMessage(process.pid()));
  ASSERT_EQ(WaitAll(thread), Stop(SIGSTOP));
  ASSERT_OK(Ptrace(PTRACE_CONT_, process.pid()));
  ASSERT_OK(Ptrace(PTRACE_CONT_, thread));
  // The old leader goes first.
  ASSERT_EQ(WaitAll(process.pid()), Event(PTRACE_EVENT_EXIT));
  ASSERT_OK(Ptrace(PTRACE_CONT_, process.pid()));
  ASSERT_EQ(WaitAll(process.pid()), Event(PTRACE_EVENT_EXEC));
  EXPECT_EQ(EventMessage(process.pid()), static_cast<uint64_t>(thread));
  EXPECT_ERRNO(Ptrace(PTRACE_CONT_, thread), ESRCH);
  SetOptions(process.pid(), 0);
  EXPECT_EQ(RunToEnd(process.pid()), 0);
}

// A tracer without CAP_SYS_PTRACE must not get hold of a program that may do more than it could.
TEST(PtraceExec, SetUserIdHasNoEffectForUnprivilegedTracers) {
  TempDir dir;
  ASSERT_OK(chmod(dir.path().c_str(), 0755));
  const std::string program = dir / "suid";
  ASSERT_TRUE(WriteFile(program, ReadFile("/proc/self/exe"), 0755));
  ASSERT_OK(chmod(program.c_str(), 04755));
  const auto exec = [&] {
    char* const argv[] = {const_cast<char*>(program.c_str()), const_cast<char*>("--gtest_list_tests"), nullptr};
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    execve(argv[0], argv, kNoEnv);
    CHILD_CHECK(false);
  };
  for (bool privileged : {false, true}) {
    int status = RunInChild([&] {
      if (!privileged) CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
      pid_t pid = ForkChild([&] {
        if (privileged) {
          CHILD_CHECK(Ptrace(PTRACE_TRACEME_, 0) == 0);
          CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
        } else {
          CHILD_CHECK(Ptrace(PTRACE_TRACEME_, 0) == 0);
        }
        exec();
      });
      CHILD_CHECK(WaitAll(pid) == Stop(SIGTRAP));
      const std::string uids = StatusField(pid, "Uid");
      kill(pid, SIGKILL);
      WaitAll(pid);
      CHILD_CHECK(uids == (privileged ? "1000\t0\t0\t0" : "1000\t1000\t1000\t1000"));
    });
    EXPECT_EXITED(status, 0) << privileged;
  }
}

// --- exit ----------------------------------------------------------------------------------------------------------

TEST(PtraceEventExit, ShowsTheStatusWhileTheTaskIsStillThere) {
  ChildGuard child(StartTraced([] { _exit(9); }));
  SetOptions(child.pid(), PTRACE_O_TRACEEXIT);
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Event(PTRACE_EVENT_EXIT));
  EXPECT_EQ(EventMessage(child.pid()), 9u << 8);
  uint64_t word = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA_, child.pid(), GetRegs(child.pid()).rsp, Address(&word)));
  EXPECT_EXITED(Resume(PTRACE_CONT_, child.pid()), 9);
}

TEST(PtraceEventExit, ShowsTheSignalThatKills) {
  ChildGuard child(StartTraced([] { raise(SIGTERM); }));
  SetOptions(child.pid(), PTRACE_O_TRACEEXIT);
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTERM));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGTERM), Event(PTRACE_EVENT_EXIT));
  EXPECT_EQ(EventMessage(child.pid()), static_cast<uint64_t>(SIGTERM));
  EXPECT_SIGNALED(Resume(PTRACE_CONT_, child.pid()), SIGTERM);
}

TEST(PtraceEventExit, IsSeenForSIGKILLToo) {
  ChildGuard child(StartTraced([] { pause(); }));
  SetOptions(child.pid(), PTRACE_O_TRACEEXIT);
  ASSERT_OK(Ptrace(PTRACE_CONT_, child.pid()));
  ASSERT_OK(kill(child.pid(), SIGKILL));
  ASSERT_EQ(WaitAll(child.pid()), Event(PTRACE_EVENT_EXIT));
  EXPECT_EQ(EventMessage(child.pid()), static_cast<uint64_t>(SIGKILL));
  EXPECT_SIGNALED(Resume(PTRACE_CONT_, child.pid()), SIGKILL);
}

// --- seccomp -------------------------------------------------------------------------------------------------------

// From now on getppid is `action`.
void FilterGetppid(uint32_t action) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, action),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {4, code};
  CHILD_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
  CHILD_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

TEST(PtraceEventSeccomp, StopsBeforeTheCall) {
  ChildGuard child(StartTraced([] {
    FilterGetppid(SECCOMP_RET_TRACE | 77);
    CHILD_CHECK(syscall(SYS_getppid) == getpid());
    CHILD_CHECK(syscall(SYS_getppid) == 1234);
  }));
  SetOptions(child.pid(), PTRACE_O_TRACESECCOMP);
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Event(PTRACE_EVENT_SECCOMP));
  EXPECT_EQ(EventMessage(child.pid()), 77u);
  struct ptrace_syscall_info info;
  EXPECT_EQ(Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), sizeof(info), Address(&info)),
            static_cast<long>(offsetof(struct ptrace_syscall_info, seccomp.ret_data) + 4));
  EXPECT_EQ(info.op, PTRACE_SYSCALL_INFO_SECCOMP);
  EXPECT_EQ(info.seccomp.nr, static_cast<uint64_t>(SYS_getppid));
  EXPECT_EQ(info.seccomp.ret_data, 77u);
  // Another call instead.
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, orig_rax), SYS_getpid));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Event(PTRACE_EVENT_SECCOMP));
  // None.
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, orig_rax), ~0ull));
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, rax), 1234));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceEventSeccomp, WithoutTheOptionTheCallFailsWithENOSYS) {
  ChildGuard child(StartTraced([] {
    FilterGetppid(SECCOMP_RET_TRACE);
    CHILD_CHECK(syscall(SYS_getppid) == -1 && errno == ENOSYS);
  }));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSyscall, TheFilterSeesWhatTheTracerHasMadeOfTheCall) {
  ChildGuard child(StartTraced([] {
    FilterGetppid(SECCOMP_RET_ERRNO | EDOM);
    CHILD_CHECK(syscall(SYS_getuid) == -1 && errno == EDOM);
    CHILD_CHECK(syscall(SYS_getppid) == getpid());
  }));
  SetOptions(child.pid(), PTRACE_O_TRACESYSGOOD);
  uint64_t number = 0;
  while (number != SYS_getuid) {
    ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
    number = GetRegs(child.pid()).orig_rax;
  }
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, orig_rax), SYS_getppid));
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  EXPECT_EQ(static_cast<int64_t>(GetRegs(child.pid()).rax), -EDOM);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, orig_rax), SYS_getpid));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

// --- Waiting -------------------------------------------------------------------------------------------------------

TEST(PtraceWait, WaitidSaysTrapped) {
  pid_t pid = ForkChild([] {
    Ptrace(PTRACE_TRACEME_, 0);
    raise(SIGUSR1);
  });
  ChildGuard child(pid);
  siginfo_t info{};
  // No need to ask for WSTOPPED.
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT));
  EXPECT_EQ(info.si_signo, SIGCHLD);
  EXPECT_EQ(info.si_code, CLD_TRAPPED);
  EXPECT_EQ(info.si_pid, pid);
  EXPECT_EQ(info.si_status, SIGUSR1);
  info = {};
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED));
  EXPECT_EQ(info.si_code, CLD_TRAPPED);
  info.si_pid = 0;
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOHANG));
  EXPECT_EQ(info.si_pid, 0);
}

TEST(PtraceWait, WaitidShowsTheEvent) {
  ChildGuard child(StartTraced([] { _exit(0); }));
  SetOptions(child.pid(), PTRACE_O_TRACEEXIT);
  ASSERT_OK(Ptrace(PTRACE_CONT_, child.pid()));
  siginfo_t info{};
  ASSERT_OK(waitid(P_PID, static_cast<id_t>(child.pid()), &info, WSTOPPED));
  EXPECT_EQ(info.si_status, SIGTRAP | PTRACE_EVENT_EXIT << 8);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

volatile sig_atomic_t g_chld_code, g_chld_status, g_chld_pid;
void OnChld(int, siginfo_t* info, void*) {
  g_chld_code = info->si_code;
  g_chld_status = info->si_status;
  g_chld_pid = info->si_pid;
}

TEST(PtraceWait, StopsSendSIGCHLD) {
  g_chld_code = 0;
  ScopedHandler handler(SIGCHLD, OnChld);
  ChildGuard child(StartTraced([] {}));
  EXPECT_EQ(g_chld_code, CLD_TRAPPED);
  EXPECT_EQ(g_chld_status, SIGSTOP);
  EXPECT_EQ(g_chld_pid, child.pid());
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
  EXPECT_EQ(g_chld_code, CLD_EXITED);
}

TEST(PtraceWait, TheTracerReapsFirstAndTheParentAfterIt) {
  Pipe to_tracer = MakePipe(), from_tracer = MakePipe(), gate = MakePipe();
  pid_t pid = ForkChild([&] {
    char c;
    CHILD_CHECK(read(gate.read_end.get(), &c, 1) == 1);
    _exit(5);
  });
  ChildGuard child(pid);
  pid_t tracer_pid = ForkChild([&] {
    CHILD_CHECK(Ptrace(PTRACE_SEIZE, pid) == 0);
    CHILD_CHECK(write(from_tracer.write_end.get(), "a", 1) == 1);
    char c;
    CHILD_CHECK(read(to_tracer.read_end.get(), &c, 1) == 1);
    int status = WaitAll(pid);
    CHILD_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 5);
    CHILD_CHECK(waitpid(pid, nullptr, __WALL) == -1 && errno == ECHILD);
  });
  ChildGuard tracer(tracer_pid);
  char c;
  ASSERT_EQ(read(from_tracer.read_end.get(), &c, 1), 1);
  ASSERT_EQ(write(gate.write_end.get(), "x", 1), 1);
  ASSERT_TRUE(Eventually([&] { return ThreadState(pid) == 'Z'; }));
  // It is dead, but not yet for us.
  int status;
  EXPECT_EQ(waitpid(pid, &status, WNOHANG), 0);
  ASSERT_EQ(write(to_tracer.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(child.Wait(), 5);
  EXPECT_EXITED(tracer.Wait(), 0);
}

// --- Attaching -----------------------------------------------------------------------------------------------------

// A child of ours that waits until the pipe is closed.
pid_t StartWaiting(Pipe& gate) {
  return ForkChild([&] {
    gate.write_end.Close();
    char c;
    (void)!read(gate.read_end.get(), &c, 1);
  });
}

TEST(PtraceAttach, StopsAndDetachLetsGo) {
  Pipe gate = MakePipe();
  ChildGuard child(StartWaiting(gate));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  ASSERT_OK(Ptrace(PTRACE_ATTACH_, child.pid()));
  EXPECT_ERRNO(Ptrace(PTRACE_ATTACH_, child.pid()), EPERM);
  EXPECT_ERRNO(Ptrace(PTRACE_SEIZE, child.pid()), EPERM);
  ASSERT_EQ(WaitAll(child.pid()), Stop(SIGSTOP));
  EXPECT_EQ(StatusField(child.pid(), "TracerPid"), std::to_string(getpid()));
  // The call was interrupted, and is made again.
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(regs.orig_rax, static_cast<uint64_t>(SYS_read));
  EXPECT_EQ(static_cast<int64_t>(regs.rax), -512);  // ERESTARTSYS
  ASSERT_OK(Ptrace(PTRACE_DETACH_, child.pid()));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  gate.write_end.Close();
  EXPECT_EXITED(child.Wait(), 0);
}

TEST(PtraceAttach, FailsWithEPERMForTheOwnProcess) {
  EXPECT_ERRNO(Ptrace(PTRACE_ATTACH_, getpid()), EPERM);
  EXPECT_ERRNO(Ptrace(PTRACE_SEIZE, getpid()), EPERM);
}

TEST(PtraceAttach, FailsWithESRCHForNobody) {
  EXPECT_ERRNO(Ptrace(PTRACE_ATTACH_, 0x3fffff), ESRCH);
  EXPECT_ERRNO(Ptrace(PTRACE_SEIZE, 0x3fffff), ESRCH);
}

TEST(PtraceAttach, FailsWithEPERMForZombies) {
  pid_t pid = ForkChild([] {});
  ChildGuard child(pid);
  ASSERT_TRUE(Eventually([&] { return ThreadState(pid) == 'Z'; }));
  EXPECT_ERRNO(Ptrace(PTRACE_ATTACH_, pid), EPERM);
}

TEST(PtraceAttach, NeedsTheSameIds) {
  Pipe gate = MakePipe();
  ChildGuard child(StartWaiting(gate));
  int status = RunInChild([&] {
    CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
    CHILD_CHECK(Ptrace(PTRACE_ATTACH_, child.pid()) == -1 && errno == EPERM);
    CHILD_CHECK(Ptrace(PTRACE_SEIZE, child.pid()) == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
}

TEST(PtraceAttach, NeedsADumpableTargetWithoutCapability) {
  // The target takes other ids itself and may be traced by its equals only once it is dumpable again.
  for (int dumpable : {0, 1}) {
    Pipe gate = MakePipe(), ready = MakePipe();
    pid_t pid = ForkChild([&] {
      CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
      CHILD_CHECK(prctl(PR_SET_DUMPABLE, dumpable) == 0);
      gate.write_end.Close();
      char c;
      CHILD_CHECK(write(ready.write_end.get(), "r", 1) == 1);
      (void)!read(gate.read_end.get(), &c, 1);
    });
    ChildGuard child(pid);
    char c;
    ASSERT_EQ(read(ready.read_end.get(), &c, 1), 1);
    int status = RunInChild([&] {
      CHILD_CHECK(setresgid(1000, 1000, 1000) == 0 && setresuid(1000, 1000, 1000) == 0);
      long r = Ptrace(PTRACE_SEIZE, pid);
      CHILD_CHECK(dumpable ? r == 0 : r == -1 && errno == EPERM);
    });
    EXPECT_EXITED(status, 0);
  }
}

TEST(PtraceSeize, DoesNotStop) {
  Pipe gate = MakePipe();
  ChildGuard child(StartWaiting(gate));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  EXPECT_ERRNO(Ptrace(PTRACE_SEIZE, child.pid(), 1), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_SEIZE, child.pid(), 0, 0x100), EIO);
  ASSERT_OK(Ptrace(PTRACE_SEIZE, child.pid(), 0, PTRACE_O_TRACEEXIT));
  int status;
  EXPECT_EQ(waitpid(child.pid(), &status, WNOHANG | __WALL), 0);
  EXPECT_EQ(ThreadState(child.pid()), 'S');
  gate.write_end.Close();
  EXPECT_EQ(WaitAll(child.pid()), Event(PTRACE_EVENT_EXIT));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSeize, NewTasksStopWithAnEvent) {
  Pipe gate = MakePipe();
  pid_t pid = ForkChild([&] {
    gate.write_end.Close();
    char c;
    (void)!read(gate.read_end.get(), &c, 1);
    RunInChild([] {});
  });
  ChildGuard parent(pid);
  ASSERT_OK(Ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACEFORK));
  gate.write_end.Close();
  ASSERT_EQ(WaitAll(pid), Event(PTRACE_EVENT_FORK));
  ChildGuard child(static_cast<pid_t>(EventMessage(pid)));
  EXPECT_EQ(WaitAll(child.pid()), Event(PTRACE_EVENT_STOP));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
  EXPECT_EQ(RunToEnd(pid), 0);
}

TEST(PtraceSeize, ExecSendsNoSIGTRAP) {
  Pipe gate = MakePipe();
  pid_t pid = ForkChild([&] {
    gate.write_end.Close();
    char c;
    (void)!read(gate.read_end.get(), &c, 1);
    ExecSomething();
  });
  ChildGuard child(pid);
  ASSERT_OK(Ptrace(PTRACE_SEIZE, pid));
  gate.write_end.Close();
  EXPECT_EQ(WaitAll(pid), 0);
}

// --- The end of the tracer -----------------------------------------------------------------------------------------

TEST(PtraceTracerEnd, LetsGoOfStoppedTracees) {
  Pipe gate = MakePipe();
  ChildGuard child(StartWaiting(gate));
  int status = RunInChild([&] {
    CHILD_CHECK(Ptrace(PTRACE_ATTACH_, child.pid()) == 0);
    CHILD_CHECK(WaitAll(child.pid()) == Stop(SIGSTOP));
  });
  EXPECT_EXITED(status, 0);
  EXPECT_EQ(StatusField(child.pid(), "TracerPid"), "0");
  gate.write_end.Close();
  EXPECT_EXITED(child.Wait(), 0);
}

TEST(PtraceTracerEnd, KillsWithExitkill) {
  Pipe gate = MakePipe();
  ChildGuard child(StartWaiting(gate));
  int status = RunInChild([&] { CHILD_CHECK(Ptrace(PTRACE_SEIZE, child.pid(), 0, PTRACE_O_EXITKILL) == 0); });
  EXPECT_EXITED(status, 0);
  EXPECT_SIGNALED(child.Wait(), SIGKILL);
}

TEST(PtraceTracerEnd, LeavesZombiesToTheParent) {
  Pipe gate = MakePipe(), ready = MakePipe(), stay = MakePipe();
  ChildGuard child(StartWaiting(gate));
  pid_t tracer_pid = ForkChild([&] {
    CHILD_CHECK(Ptrace(PTRACE_SEIZE, child.pid()) == 0);
    CHILD_CHECK(write(ready.write_end.get(), "r", 1) == 1);
    stay.write_end.Close();
    char c;
    (void)!read(stay.read_end.get(), &c, 1);
  });
  ChildGuard tracer(tracer_pid);
  char c;
  ASSERT_EQ(read(ready.read_end.get(), &c, 1), 1);
  gate.write_end.Close();
  // The tracer holds the other end of the gate, too, until it is told to end; kill the child instead.
  kill(child.pid(), SIGKILL);
  ASSERT_TRUE(Eventually([&] { return ThreadState(child.pid()) == 'Z'; }));
  int status;
  EXPECT_EQ(waitpid(child.pid(), &status, WNOHANG), 0);
  stay.write_end.Close();
  EXPECT_SIGNALED(child.Wait(), SIGKILL);
  EXPECT_EXITED(tracer.Wait(), 0);
}

struct AttachArgs {
  pid_t pid;
  long result;
};
void* AttachAndEnd(void* p) {
  auto* args = static_cast<AttachArgs*>(p);
  args->result = Ptrace(PTRACE_SEIZE, args->pid);
  return nullptr;
}

TEST(PtraceTracerEnd, TheEndOfTheThreadIsEnough) {
  Pipe gate = MakePipe();
  ChildGuard child(StartWaiting(gate));
  AttachArgs args{child.pid(), -1};
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, nullptr, AttachAndEnd, &args), 0);
  pthread_join(thread, nullptr);
  EXPECT_EQ(args.result, 0);
  EXPECT_TRUE(Eventually([&] { return StatusField(child.pid(), "TracerPid") == "0"; }));
  gate.write_end.Close();
  EXPECT_EXITED(child.Wait(), 0);
}

}  // namespace
}  // namespace conformance
