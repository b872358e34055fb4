// ptrace(2): requests to a stopped tracee, their effects and their errors. Events are in ptrace_event_test.cc, signals
// and job control in ptrace_signal_test.cc.
#include <sys/prctl.h>
#include <xmmintrin.h>

#include <vector>

#include "support/tracee.h"

namespace conformance {
namespace {

// --- Becoming a tracee ---------------------------------------------------------------------------------------------

TEST(PtraceTraceMe, MakesSignalsStopForTheParent) {
  ChildGuard child(StartTraced([] {}));
  EXPECT_EQ(StatusField(child.pid(), "TracerPid"), std::to_string(getpid()));
  EXPECT_EQ(StatusField(child.pid(), "State"), "t (tracing stop)");
  EXPECT_EQ(ThreadState(child.pid()), 't');
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceTraceMe, FailsWithEPERMTheSecondTime) {
  int status = RunInChild([] {
    CHILD_CHECK(Ptrace(PTRACE_TRACEME_, 0) == 0);
    CHILD_CHECK(Ptrace(PTRACE_TRACEME_, 0) == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
}

TEST(PtraceTraceMe, IsNotInheritedByFork) {
  ChildGuard child(StartTraced([] {
    int status = RunInChild([] { CHILD_CHECK(StatusField(getpid(), "TracerPid") == "0"); });
    CHILD_CHECK(status == 0);
  }));
  int status = Resume(PTRACE_CONT_, child.pid());
  while (status == Stop(SIGCHLD)) status = Resume(PTRACE_CONT_, child.pid(), SIGCHLD);
  EXPECT_EQ(status, 0);
}

TEST(Ptrace, FailsWithESRCHForOthersThanStoppedTracees) {
  user_regs_struct regs;
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGS_, 0x3fffff, 0, Address(&regs)), ESRCH);
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGS_, -1, 0, Address(&regs)), ESRCH);
  EXPECT_ERRNO(Ptrace(PTRACE_CONT_, 0), ESRCH);
  EXPECT_ERRNO(Ptrace(PTRACE_CONT_, getpid()), ESRCH);
  Pipe gate = MakePipe();
  ChildGuard child(StartTraced([&] {
    char c;
    (void)!read(gate.read_end.get(), &c, 1);
  }));
  ASSERT_OK(Ptrace(PTRACE_CONT_, child.pid()));
  ASSERT_TRUE(WaitUntilBlocked(child.pid()));
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGS_, child.pid(), 0, Address(&regs)), ESRCH);
  EXPECT_ERRNO(Ptrace(PTRACE_CONT_, child.pid()), ESRCH);
  EXPECT_ERRNO(Ptrace(PTRACE_DETACH_, child.pid()), ESRCH);
  uint64_t word;
  EXPECT_ERRNO(Ptrace(PTRACE_PEEKDATA_, child.pid(), Address(&word), Address(&word)), ESRCH);
}

TEST(Ptrace, FailsWithEIOForUnknownRequests) {
  ChildGuard child(StartTraced([] {}));
  EXPECT_ERRNO(Ptrace(999, child.pid()), EIO);
  EXPECT_ERRNO(Ptrace(0x42ff, child.pid()), EIO);
}

TEST(Ptrace, OnlyTheTracingThreadMayAsk) {
  ChildGuard child(StartTraced([] {}));
  int status = RunInChild([&] {
    user_regs_struct regs;
    CHILD_CHECK(Ptrace(PTRACE_GETREGS_, child.pid(), 0, Address(&regs)) == -1 && errno == ESRCH);
    CHILD_CHECK(Ptrace(PTRACE_ATTACH_, child.pid()) == -1 && errno == EPERM);
  });
  EXPECT_EXITED(status, 0);
}

// --- Memory --------------------------------------------------------------------------------------------------------

volatile uint64_t g_word = 0x1122334455667788;
const uint64_t g_constant[512] = {0xabcdef};

__attribute__((noinline)) int Answer() {
  int value;
  asm volatile("movl $42, %0" : "=r"(value));
  return value;
}

TEST(PtracePeek, ReadsAWord) {
  ChildGuard child(StartTraced([] {}));
  for (long request : {PTRACE_PEEKTEXT_, PTRACE_PEEKDATA_}) {
    uint64_t word = 0;
    EXPECT_OK(Ptrace(request, child.pid(), Address(&g_word), Address(&word)));
    EXPECT_EQ(word, g_word);
    EXPECT_OK(Ptrace(request, child.pid(), Address(&g_word) + 1, Address(&word)));
    EXPECT_EQ(word << 8 >> 8, g_word >> 8);
    EXPECT_ERRNO(Ptrace(request, child.pid(), 0x100, Address(&word)), EIO);
    EXPECT_ERRNO(Ptrace(request, child.pid(), Address(KernelPointer()), Address(&word)), EIO);
    EXPECT_ERRNO(Ptrace(request, child.pid(), Address(&g_word), Address(BadPointer())), EFAULT);
  }
}

TEST(PtracePeek, FailsWithEIOAcrossTheEndOfMemory) {
  Mapping two(2 * kPage, PROT_READ | PROT_WRITE);
  char* end = two.get() + kPage;
  ChildGuard child(StartTraced([] {}));
  ChildGuard other(StartTraced([&] {
    munmap(end, kPage);
    raise(SIGSTOP);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, other.pid()), Stop(SIGSTOP));
  uint64_t word;
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA_, child.pid(), Address(end - 4), Address(&word)));
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA_, other.pid(), Address(end - 8), Address(&word)));
  EXPECT_ERRNO(Ptrace(PTRACE_PEEKDATA_, other.pid(), Address(end - 4), Address(&word)), EIO);
}

TEST(PtracePoke, WritesAWord) {
  ChildGuard child(StartTraced([] { CHILD_CHECK(g_word == 77); }));
  EXPECT_OK(Ptrace(PTRACE_POKEDATA_, child.pid(), Address(&g_word), 77));
  EXPECT_EQ(g_word, 0x1122334455667788u);
  EXPECT_ERRNO(Ptrace(PTRACE_POKEDATA_, child.pid(), 0x100, 1), EIO);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtracePoke, WritesReadOnlyPrivateMemoryOfTheTraceeAlone) {
  ChildGuard child(StartTraced([] {
    CHILD_CHECK(*const_cast<const volatile uint64_t*>(g_constant) == 5);
    _exit(Answer());
  }));
  EXPECT_OK(Ptrace(PTRACE_POKEDATA_, child.pid(), Address(g_constant), 5));
  EXPECT_EQ(*const_cast<const volatile uint64_t*>(g_constant), 0xabcdefu);
  // The constant in the instruction.
  uint64_t at = Address(&Answer), word = 0;
  bool found = false;
  for (int i = 0; i < 40 && !found; ++i, ++at) {
    ASSERT_OK(Ptrace(PTRACE_PEEKTEXT_, child.pid(), at, Address(&word)));
    found = (word & 0xffffffff) == 42;
  }
  ASSERT_TRUE(found);
  EXPECT_OK(Ptrace(PTRACE_POKETEXT_, child.pid(), at - 1, (word & ~uint64_t{0xffffffff}) | 7));
  EXPECT_EXITED(Resume(PTRACE_CONT_, child.pid()), 7);
  EXPECT_EQ(Answer(), 42);
}

TEST(PtracePoke, WritesSharedMemoryThatTheTraceeMayWrite) {
  Mapping shared(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  ChildGuard child(StartTraced([] {}));
  EXPECT_OK(Ptrace(PTRACE_POKEDATA_, child.pid(), Address(shared.get()), 99));
  EXPECT_EQ(*shared.as<uint64_t>(), 99u);
}

TEST(PtracePeek, ReadsMemoryWithoutAccessRights) {
  Mapping hidden(kPage, PROT_READ | PROT_WRITE);
  *hidden.as<uint64_t>() = 1234;
  ASSERT_OK(mprotect(hidden.get(), kPage, PROT_NONE));
  ChildGuard child(StartTraced([] {}));
  uint64_t word = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA_, child.pid(), Address(hidden.get()), Address(&word)));
  EXPECT_EQ(word, 1234u);
}

// --- Registers -----------------------------------------------------------------------------------------------------

TEST(PtraceRegisters, AreReadAlikeInAllWays) {
  ChildGuard child(StartTraced([] {}));
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(regs.cs, 0x33u);
  EXPECT_EQ(regs.ss, 0x2bu);
  EXPECT_NE(regs.rip, 0u);
  EXPECT_NE(regs.fs_base, 0u);
  for (size_t at = 0; at < sizeof(regs); at += 8) {
    uint64_t word = 0;
    EXPECT_OK(Ptrace(PTRACE_PEEKUSER_, child.pid(), at, Address(&word)));
    EXPECT_EQ(word, reinterpret_cast<uint64_t*>(&regs)[at / 8]) << at;
  }
  user_regs_struct again{};
  iovec iov{&again, sizeof(again) + 64};
  std::vector<char> large(sizeof(again) + 64);
  iov.iov_base = large.data();
  EXPECT_OK(Ptrace(PTRACE_GETREGSET, child.pid(), NT_PRSTATUS, Address(&iov)));
  EXPECT_EQ(iov.iov_len, sizeof(again));
  EXPECT_EQ(memcmp(large.data(), &regs, sizeof(regs)), 0);
}

constexpr uint64_t kStructUser = 928;  // the kernel's; libc's lacks the last two words

TEST(PtraceRegisters, FailWithEIOForBadOffsets) {
  ChildGuard child(StartTraced([] {}));
  uint64_t word;
  for (uint64_t offset : {uint64_t{1}, uint64_t{4}, kStructUser, ~uint64_t{7}}) {
    EXPECT_ERRNO(Ptrace(PTRACE_PEEKUSER_, child.pid(), offset, Address(&word)), EIO) << offset;
    EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offset, 0), EIO) << offset;
  }
  EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(struct user, u_tsize), 0), EIO);
  EXPECT_OK(Ptrace(PTRACE_PEEKUSER_, child.pid(), offsetof(struct user, u_tsize), Address(&word)));
  EXPECT_ERRNO(Ptrace(PTRACE_PEEKUSER_, child.pid(), 0, Address(BadPointer())), EFAULT);
}

TEST(PtraceRegisters, FailWithEFAULTForBadPointers) {
  ChildGuard child(StartTraced([] {}));
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGS_, child.pid(), 0, Address(BadPointer())), EFAULT);
  EXPECT_ERRNO(Ptrace(PTRACE_SETREGS_, child.pid(), 0, Address(BadPointer())), EFAULT);
  EXPECT_ERRNO(Ptrace(PTRACE_GETFPREGS_, child.pid(), 0, Address(BadPointer())), EFAULT);
  EXPECT_ERRNO(Ptrace(PTRACE_SETFPREGS_, child.pid(), 0, Address(BadPointer())), EFAULT);
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGSET, child.pid(), NT_PRSTATUS, Address(BadPointer())), EFAULT);
  EXPECT_ERRNO(Ptrace(PTRACE_SETREGSET, child.pid(), NT_PRSTATUS, Address(BadPointer())), EFAULT);
}

// Puts its argument into rbx, breaks, and returns what rbx holds then.
uint64_t ThroughRbx(uint64_t value) {
  asm volatile("int3" : "+b"(value));
  return value;
}

TEST(PtraceRegisters, CanBeSet) {
  for (int way = 0; way < 3; ++way) {
    ChildGuard child(StartTraced([] { CHILD_CHECK(ThroughRbx(111) == 222); }));
    ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
    user_regs_struct regs = GetRegs(child.pid());
    EXPECT_EQ(regs.rbx, 111u);
    EXPECT_EQ(regs.orig_rax, ~0ull);
    regs.rbx = 222;
    iovec iov{&regs, sizeof(regs)};
    const long done = way == 0   ? Ptrace(PTRACE_SETREGS_, child.pid(), 0, Address(&regs))
                      : way == 1 ? Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, rbx), 222)
                                 : Ptrace(PTRACE_SETREGSET, child.pid(), NT_PRSTATUS, Address(&iov));
    EXPECT_EQ(done, 0) << way;
    EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0) << way;
  }
}

TEST(PtraceRegisters, RefuseWhatNoRegisterCanHold) {
  ChildGuard child(StartTraced([] {}));
  const user_regs_struct regs = GetRegs(child.pid());
  EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, fs_base), 1ull << 56), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, gs_base), ~0ull), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, cs), 0), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, ss), 0x10), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, ds), 8), EIO);
  user_regs_struct now = GetRegs(child.pid());
  EXPECT_EQ(memcmp(&now, &regs, sizeof(regs)), 0);
  // Flags that are not the program's are left alone.
  EXPECT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, eflags), ~0ull & ~0x100ull));
  EXPECT_EQ(GetRegs(child.pid()).eflags & 0x1a3202, 0x202u);  // IF, bit 1; not IOPL, VM, VIF, VIP
}

TEST(PtraceRegisters, DebugRegistersAreUnusedAtFirst) {
  ChildGuard child(StartTraced([] {}));
  for (int i : {0, 1, 2, 3, 4, 5, 7}) {
    uint64_t word = 1;
    EXPECT_OK(Ptrace(PTRACE_PEEKUSER_, child.pid(), offsetof(struct user, u_debugreg) + i * 8, Address(&word)));
    EXPECT_EQ(word, 0u) << i;
  }
  EXPECT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(struct user, u_debugreg) + 7 * 8, 0));
  EXPECT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(struct user, u_debugreg) + 6 * 8, 0));
  EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(struct user, u_debugreg) + 4 * 8, 1), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(struct user, u_debugreg), 1ull << 56), EINVAL);
}

// --- Floating point ------------------------------------------------------------------------------------------------

float ThroughXmm5(float value) {
  asm volatile(
      "movss %0, %%xmm5\n"
      "int3\n"
      "movss %%xmm5, %0\n"
      : "+m"(value)
      :
      : "xmm5");
  return value;
}
void SetXmm5(user_fpregs_struct& fp, float value) { memcpy(&fp.xmm_space[5 * 4], &value, sizeof(value)); }
float Xmm5(const user_fpregs_struct& fp) {
  float value;
  memcpy(&value, &fp.xmm_space[5 * 4], sizeof(value));
  return value;
}

TEST(PtraceFpRegisters, CanBeReadAndSet) {
  for (int way = 0; way < 3; ++way) {
    ChildGuard child(StartTraced([] { CHILD_CHECK(ThroughXmm5(1.5f) == 2.5f); }));
    ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
    std::vector<char> area(16384);
    iovec iov{area.data(), area.size()};
    if (way == 0) {
      user_fpregs_struct fp{};
      EXPECT_OK(Ptrace(PTRACE_GETFPREGS_, child.pid(), 0, Address(&fp)));
      EXPECT_EQ(fp.cwd, 0x37f);
      EXPECT_EQ(fp.mxcsr, 0x1f80u);
      EXPECT_EQ(Xmm5(fp), 1.5f);
      SetXmm5(fp, 2.5f);
      EXPECT_OK(Ptrace(PTRACE_SETFPREGS_, child.pid(), 0, Address(&fp)));
    } else {
      const int type = way == 1 ? NT_PRFPREG : NT_X86_XSTATE;
      ASSERT_OK(Ptrace(PTRACE_GETREGSET, child.pid(), type, Address(&iov)));
      if (way == 1) {
        EXPECT_EQ(iov.iov_len, 512u);
      }
      user_fpregs_struct& fp = *reinterpret_cast<user_fpregs_struct*>(area.data());
      EXPECT_EQ(Xmm5(fp), 1.5f);
      SetXmm5(fp, 2.5f);
      if (way == 2) {
        EXPECT_GE(iov.iov_len, 576u);
        uint64_t features;  // XCR0, for debuggers
        memcpy(&features, area.data() + 464, 8);
        EXPECT_EQ(features & 3, 3u);
        iovec shorter{area.data(), iov.iov_len - 8};
        EXPECT_ERRNO(Ptrace(PTRACE_SETREGSET, child.pid(), type, Address(&shorter)), EFAULT);
      }
      EXPECT_OK(Ptrace(PTRACE_SETREGSET, child.pid(), type, Address(&iov)));
    }
    EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0) << way;
  }
}

TEST(PtraceFpRegisters, RefuseReservedMxcsrBits) {
  ChildGuard child(StartTraced([] {}));
  user_fpregs_struct fp{};
  ASSERT_OK(Ptrace(PTRACE_GETFPREGS_, child.pid(), 0, Address(&fp)));
  fp.mxcsr = 0xffff0000;
  EXPECT_ERRNO(Ptrace(PTRACE_SETFPREGS_, child.pid(), 0, Address(&fp)), EINVAL);
}

TEST(PtraceRegSet, TransfersParts) {
  ChildGuard child(StartTraced([] {}));
  user_regs_struct regs = GetRegs(child.pid());
  uint64_t part[2] = {};
  iovec iov{part, sizeof(part)};
  EXPECT_OK(Ptrace(PTRACE_GETREGSET, child.pid(), NT_PRSTATUS, Address(&iov)));
  EXPECT_EQ(iov.iov_len, 16u);
  EXPECT_EQ(part[0], regs.r15);
  EXPECT_EQ(part[1], regs.r14);
  part[1] = 5;
  EXPECT_OK(Ptrace(PTRACE_SETREGSET, child.pid(), NT_PRSTATUS, Address(&iov)));
  regs.r14 = 5;
  user_regs_struct now = GetRegs(child.pid());
  EXPECT_EQ(memcmp(&now, &regs, sizeof(regs)), 0);
}

TEST(PtraceRegSet, FailsWithEINVALForOddSizesAndUnknownSets) {
  ChildGuard child(StartTraced([] {}));
  uint64_t part[2] = {};
  iovec iov{part, 13};
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGSET, child.pid(), NT_PRSTATUS, Address(&iov)), EINVAL);
  iov.iov_len = 16;
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGSET, child.pid(), 0x7777, Address(&iov)), EINVAL);
  EXPECT_ERRNO(Ptrace(PTRACE_SETREGSET, child.pid(), 0x7777, Address(&iov)), EINVAL);
  iov.iov_base = BadPointer();
  EXPECT_ERRNO(Ptrace(PTRACE_GETREGSET, child.pid(), NT_PRSTATUS, Address(&iov)), EFAULT);
}

// --- System calls --------------------------------------------------------------------------------------------------

constexpr int kNumber = SYS_getppid;

TEST(PtraceSyscall, StopsBeforeAndAfter) {
  ChildGuard child(StartTraced([] {
    CHILD_CHECK(syscall(kNumber) == getppid());
    syscall(kNumber);
  }));
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, PTRACE_O_TRACESYSGOOD));
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  user_regs_struct regs = GetRegs(child.pid());
  while (regs.orig_rax != kNumber) {
    ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
    regs = GetRegs(child.pid());
  }
  EXPECT_EQ(static_cast<int64_t>(regs.rax), -ENOSYS);
  siginfo_t info = GetInfo(child.pid());
  EXPECT_EQ(info.si_signo, SIGTRAP);
  EXPECT_EQ(info.si_code, SIGTRAP | 0x80);
  EXPECT_EQ(info.si_pid, child.pid());
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  regs = GetRegs(child.pid());
  EXPECT_EQ(regs.orig_rax, static_cast<uint64_t>(kNumber));
  EXPECT_EQ(regs.rax, static_cast<uint64_t>(getpid()));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSyscall, StopsAreSIGTRAPWithoutSysgood) {
  ChildGuard child(StartTraced([] { syscall(kNumber); }));
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), Stop(SIGTRAP));
  EXPECT_EQ(GetInfo(child.pid()).si_code, SIGTRAP);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

// To the entry of the next getppid.
void ToEntry(pid_t pid) {
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
  do {
    ASSERT_EQ(Resume(PTRACE_SYSCALL_, pid), kSyscallStop);
  } while (GetRegs(pid).orig_rax != kNumber);
}

TEST(PtraceSyscall, NumberAndArgumentsCanBeChanged) {
  Pipe pipe = MakePipe();
  static const char kText[] = "hello";
  ChildGuard child(StartTraced([] { CHILD_CHECK(syscall(kNumber) == 5); }));
  ToEntry(child.pid());
  user_regs_struct regs = GetRegs(child.pid());
  regs.orig_rax = SYS_write;
  regs.rdi = pipe.write_end.get();
  regs.rsi = Address(kText);
  regs.rdx = 5;
  ASSERT_TRUE(SetRegs(child.pid(), regs));
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  char buffer[6] = {};
  EXPECT_EQ(read(pipe.read_end.get(), buffer, 5), 5);
  EXPECT_STREQ(buffer, kText);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSyscall, IsSkippedWithNumberMinusOne) {
  ChildGuard child(StartTraced([] { CHILD_CHECK(syscall(kNumber) == 12345); }));
  ToEntry(child.pid());
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, orig_rax), ~0ull));
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, rax), 12345));
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  EXPECT_EQ(GetRegs(child.pid()).rax, 12345u);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSyscall, UnknownNumbersFailWithENOSYS) {
  ChildGuard child(StartTraced([] { CHILD_CHECK(syscall(kNumber) == -1 && errno == ENOSYS); }));
  ToEntry(child.pid());
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, orig_rax), 100000));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSyscall, ResultCanBeChanged) {
  ChildGuard child(StartTraced([] { CHILD_CHECK(syscall(kNumber) == -1 && errno == EDOM); }));
  ToEntry(child.pid());
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  ASSERT_OK(Ptrace(PTRACE_POKEUSER_, child.pid(), offsetof(user_regs_struct, rax), static_cast<uint64_t>(-EDOM)));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSyscall, ContLeavesOutTheExitStop) {
  ChildGuard child(StartTraced([] { CHILD_CHECK(syscall(kNumber) == getppid()); }));
  ToEntry(child.pid());
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSyscall, ASignalAtItsStopIsSent) {
  ChildGuard child(StartTraced([] { syscall(kNumber); }));
  ToEntry(child.pid());
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid(), SIGUSR1), Stop(SIGUSR1));
  siginfo_t info = GetInfo(child.pid());
  EXPECT_EQ(info.si_signo, SIGUSR1);
  EXPECT_EQ(info.si_code, SI_KERNEL);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSyscall, VforkAndExecAreCallsLikeOthers) {
  ChildGuard child(StartTraced([] {
    char* const argv[] = {const_cast<char*>("/nonexistent"), nullptr};
    execve("/nonexistent", argv, argv);
    syscall(SYS_exit_group, 3);
  }));
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, PTRACE_O_TRACESYSGOOD));
  do {
    ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  } while (GetRegs(child.pid()).orig_rax != SYS_execve);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  EXPECT_EQ(static_cast<int64_t>(GetRegs(child.pid()).rax), -ENOENT);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  EXPECT_EQ(GetRegs(child.pid()).orig_rax, static_cast<uint64_t>(SYS_exit_group));
  EXPECT_EXITED(Resume(PTRACE_SYSCALL_, child.pid()), 3);  // it has no end to stop at
}

TEST(PtraceSysemu, TheTracerMakesTheCall) {
  ChildGuard child(StartTraced([] {
    CHILD_CHECK(syscall(kNumber) == 777);
    CHILD_CHECK(syscall(kNumber) == getppid());
  }));
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, PTRACE_O_TRACESYSGOOD));
  ASSERT_EQ(Resume(PTRACE_SYSEMU, child.pid()), kSyscallStop);
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(regs.orig_rax, static_cast<uint64_t>(kNumber));
  EXPECT_EQ(static_cast<int64_t>(regs.rax), -ENOSYS);
  regs.rax = 777;
  ASSERT_TRUE(SetRegs(child.pid(), regs));
  // The next stop is the next call's, not this one's end.
  ASSERT_EQ(Resume(PTRACE_SYSEMU, child.pid()), kSyscallStop);
  regs = GetRegs(child.pid());
  EXPECT_EQ(regs.orig_rax, static_cast<uint64_t>(kNumber));
  EXPECT_EQ(static_cast<int64_t>(regs.rax), -ENOSYS);
  regs.rax = static_cast<uint64_t>(getpid());
  ASSERT_TRUE(SetRegs(child.pid(), regs));
  ASSERT_EQ(Resume(PTRACE_SYSEMU, child.pid()), kSyscallStop);  // getppid of the check
  regs = GetRegs(child.pid());
  regs.rax = static_cast<uint64_t>(getpid());
  ASSERT_TRUE(SetRegs(child.pid(), regs));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSysemu, SingleStepStopsAtInstructionsAndCalls) {
  ChildGuard child(StartTraced([] { syscall(kNumber); }));
  ASSERT_OK(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, PTRACE_O_TRACESYSGOOD));
  int steps = 0, status = Resume(PTRACE_SYSEMU_SINGLESTEP, child.pid());
  while (status == Stop(SIGTRAP) && steps < 100000) {
    ++steps;
    status = Resume(PTRACE_SYSEMU_SINGLESTEP, child.pid());
  }
  EXPECT_GT(steps, 0);
  ASSERT_EQ(status, kSyscallStop);
  EXPECT_EQ(GetRegs(child.pid()).orig_rax, static_cast<uint64_t>(kNumber));
  ASSERT_EQ(Resume(PTRACE_SYSEMU_SINGLESTEP, child.pid()), Stop(SIGTRAP));  // behind it
}

// --- PTRACE_GET_SYSCALL_INFO ---------------------------------------------------------------------------------------

TEST(PtraceSyscallInfo, DescribesStops) {
  ChildGuard child(StartTraced([] {
    syscall(kNumber, 1, 2, 3, 4, 5, 6);
    syscall(SYS_close, -1);
  }));
  struct ptrace_syscall_info info;
  const size_t head = offsetof(struct ptrace_syscall_info, entry);
  memset(&info, 0xff, sizeof(info));
  EXPECT_EQ(Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), sizeof(info), Address(&info)), static_cast<long>(head));
  EXPECT_EQ(info.op, PTRACE_SYSCALL_INFO_NONE);
  EXPECT_EQ(info.arch, 0xc000003eu);
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(info.instruction_pointer, regs.rip);
  EXPECT_EQ(info.stack_pointer, regs.rsp);
  ToEntry(child.pid());
  EXPECT_EQ(Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), sizeof(info), Address(&info)),
            static_cast<long>(head + sizeof(info.entry)));
  EXPECT_EQ(info.op, PTRACE_SYSCALL_INFO_ENTRY);
  EXPECT_EQ(info.entry.nr, static_cast<uint64_t>(kNumber));
  for (int i = 0; i < 6; ++i) EXPECT_EQ(info.entry.args[i], static_cast<uint64_t>(i + 1));
  EXPECT_EQ(EventMessage(child.pid()), 1u);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  EXPECT_EQ(Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), sizeof(info), Address(&info)),
            static_cast<long>(offsetof(struct ptrace_syscall_info, exit.is_error) + 1));
  EXPECT_EQ(info.op, PTRACE_SYSCALL_INFO_EXIT);
  EXPECT_EQ(info.exit.rval, getpid());
  EXPECT_EQ(info.exit.is_error, 0);
  EXPECT_EQ(EventMessage(child.pid()), 2u);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  ASSERT_EQ(Resume(PTRACE_SYSCALL_, child.pid()), kSyscallStop);
  EXPECT_GT(Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), sizeof(info), Address(&info)), 0);
  EXPECT_EQ(info.exit.rval, -EBADF);
  EXPECT_EQ(info.exit.is_error, 1);
  // A short buffer gets what fits; the size is told in full.
  uint8_t op = 0xff;
  EXPECT_EQ(Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), 1, Address(&op)),
            static_cast<long>(offsetof(struct ptrace_syscall_info, exit.is_error) + 1));
  EXPECT_EQ(op, PTRACE_SYSCALL_INFO_EXIT);
  EXPECT_ERRNO(Ptrace(PTRACE_GET_SYSCALL_INFO, child.pid(), sizeof(info), Address(BadPointer())), EFAULT);
}

// --- Single steps --------------------------------------------------------------------------------------------------

TEST(PtraceSingleStep, DoesOneInstruction) {
  ChildGuard child(StartTraced([] {
    asm volatile(
        "int3\n"
        "nop\n"
        "nop\n"
        "xor %%eax, %%eax\n"
        :
        :
        : "rax", "cc");
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
  uint64_t rip = GetRegs(child.pid()).rip;
  for (int length : {1, 1, 2}) {
    ASSERT_EQ(Resume(PTRACE_SINGLESTEP_, child.pid()), Stop(SIGTRAP));
    user_regs_struct regs = GetRegs(child.pid());
    EXPECT_EQ(regs.rip, rip + length);
    EXPECT_EQ(regs.eflags & 0x100, 0u);
    rip = regs.rip;
    siginfo_t info = GetInfo(child.pid());
    EXPECT_EQ(info.si_signo, SIGTRAP);
    EXPECT_EQ(info.si_code, TRAP_TRACE);
    EXPECT_EQ(reinterpret_cast<uint64_t>(info.si_addr), rip);
  }
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSingleStep, StopsBehindASystemCall) {
  ChildGuard child(StartTraced([] {
    long result;
    asm volatile(
        "int3\n"
        "syscall\n"
        "nop\n"
        : "=a"(result)
        : "a"(kNumber)
        : "rcx", "r11", "memory");
    CHILD_CHECK(result == getppid());
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
  const uint64_t rip = GetRegs(child.pid()).rip;
  ASSERT_EQ(Resume(PTRACE_SINGLESTEP_, child.pid()), Stop(SIGTRAP));
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(regs.rip, rip + 2);
  EXPECT_EQ(regs.rax, static_cast<uint64_t>(getpid()));
  EXPECT_EQ(GetInfo(child.pid()).si_code, TRAP_BRKPT);
  ASSERT_EQ(Resume(PTRACE_SINGLESTEP_, child.pid()), Stop(SIGTRAP));
  EXPECT_EQ(GetRegs(child.pid()).rip, rip + 3);
  EXPECT_EQ(GetInfo(child.pid()).si_code, TRAP_TRACE);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

void OnUsr1(int) {}

TEST(PtraceSingleStep, StopsAtAHandlersFirstInstruction) {
  ChildGuard child(StartTraced([] {
    signal(SIGUSR1, OnUsr1);
    raise(SIGUSR1);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGUSR1));
  ASSERT_EQ(Resume(PTRACE_SINGLESTEP_, child.pid(), SIGUSR1), Stop(SIGTRAP));
  EXPECT_EQ(GetRegs(child.pid()).rip, Address(&OnUsr1));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSingleStep, GoesThroughPageFaults) {
  Mapping fresh(kPage, PROT_READ | PROT_WRITE);
  ChildGuard child(StartTraced([&] {
    asm volatile(
        "int3\n"
        "movq $7, (%0)\n"
        "nop\n"
        :
        : "r"(fresh.get())
        : "memory");
    CHILD_CHECK(*fresh.as<uint64_t>() == 7);
  }));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
  const uint64_t rip = GetRegs(child.pid()).rip;
  ASSERT_EQ(Resume(PTRACE_SINGLESTEP_, child.pid()), Stop(SIGTRAP));
  EXPECT_EQ(GetRegs(child.pid()).rip, rip + 7);
  uint64_t word = 0;
  EXPECT_OK(Ptrace(PTRACE_PEEKDATA_, child.pid(), Address(fresh.get()), Address(&word)));
  EXPECT_EQ(word, 7u);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceBreakpoint, CanBePutIntoTextAndTakenOut) {
  ChildGuard child(StartTraced([] { CHILD_CHECK(Answer() == 42); }));
  const uint64_t at = Address(&Answer);
  uint64_t word = 0;
  ASSERT_OK(Ptrace(PTRACE_PEEKTEXT_, child.pid(), at, Address(&word)));
  ASSERT_OK(Ptrace(PTRACE_POKETEXT_, child.pid(), at, (word & ~uint64_t{0xff}) | 0xcc));
  ASSERT_EQ(Resume(PTRACE_CONT_, child.pid()), Stop(SIGTRAP));
  user_regs_struct regs = GetRegs(child.pid());
  EXPECT_EQ(regs.rip, at + 1);
  EXPECT_EQ(GetInfo(child.pid()).si_code, SI_KERNEL);
  ASSERT_OK(Ptrace(PTRACE_POKETEXT_, child.pid(), at, word));
  regs.rip = at;
  ASSERT_TRUE(SetRegs(child.pid(), regs));
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

// --- Ends ----------------------------------------------------------------------------------------------------------

TEST(PtraceKill, KillsAStoppedTracee) {
  ChildGuard child(StartTraced([] {}));
  EXPECT_OK(Ptrace(PTRACE_KILL_, child.pid()));
  EXPECT_SIGNALED(WaitAll(child.pid()), SIGKILL);
}

TEST(PtraceDetach, LetsGo) {
  Pipe gate = MakePipe();
  ChildGuard child(StartTraced([&] {
    char c;
    CHILD_CHECK(read(gate.read_end.get(), &c, 1) == 1);
    _exit(4);
  }));
  EXPECT_ERRNO(Ptrace(PTRACE_DETACH_, child.pid(), 0, 65), EIO);
  EXPECT_OK(Ptrace(PTRACE_DETACH_, child.pid()));
  EXPECT_EQ(StatusField(child.pid(), "TracerPid"), "0");
  EXPECT_ERRNO(Ptrace(PTRACE_CONT_, child.pid()), ESRCH);
  EXPECT_EQ(write(gate.write_end.get(), "x", 1), 1);
  EXPECT_EXITED(child.Wait(), 4);
}

TEST(PtraceDetach, DeliversASignal) {
  ChildGuard child(StartTraced([] { pause(); }));
  EXPECT_OK(Ptrace(PTRACE_DETACH_, child.pid(), 0, SIGTERM));
  EXPECT_SIGNALED(child.Wait(), SIGTERM);
}

TEST(PtraceCont, FailsWithEIOForWhatIsNoSignal) {
  ChildGuard child(StartTraced([] {}));
  EXPECT_ERRNO(Ptrace(PTRACE_CONT_, child.pid(), 0, 65), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_SYSCALL_, child.pid(), 0, ~0ull), EIO);
  EXPECT_ERRNO(Ptrace(PTRACE_SINGLESTEP_, child.pid(), 0, 100), EIO);
  EXPECT_EQ(Resume(PTRACE_CONT_, child.pid()), 0);
}

TEST(PtraceSetOptions, FailsWithEINVALForUnknownOnes) {
  ChildGuard child(StartTraced([] {}));
  EXPECT_ERRNO(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, 0x100), EINVAL);
  EXPECT_ERRNO(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, ~0ull), EINVAL);
  EXPECT_OK(Ptrace(PTRACE_SETOPTIONS, child.pid(), 0, 0xff | PTRACE_O_EXITKILL));
  EXPECT_OK(Ptrace(21 /* PTRACE_OLDSETOPTIONS */, child.pid(), 0, 0));
}

}  // namespace
}  // namespace conformance
