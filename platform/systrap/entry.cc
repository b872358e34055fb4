#include "platform/systrap/entry.h"

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/syscall_unsafe.h"
#include "platform/systrap/signal_frame.h"

namespace platform::systrap {
namespace {

constexpr uint64_t kAddressBits = 48;
constexpr uint64_t kSyscallBytes = 2;
constexpr uint64_t kResumeFlag = 0x10000;
// What LAHF knows (CF, PF, AF, ZF, SF), and what SETO adds.
constexpr uint64_t kLahfFlags = 0xd5, kOverflow = 0x800;

// The flags in ax after `lahf; seto %al`.
uint64_t ArithmeticFlags(uint64_t ax) { return (ax >> 8 & kLahfFlags) | ((ax & 1) ? kOverflow : 0); }

void SetArithmeticFlags(uint64_t& rflags, uint64_t ax) {
  rflags = (rflags & ~(kLahfFlags | kOverflow)) | ArithmeticFlags(ax);
}

// From `from` on, before `to`: labels.
bool IsWithin(uint64_t rip, const char* from, const char* to) {
  return rip >= StubAddress(from) && rip < StubAddress(to);
}

uint64_t ReturnAddress(uint64_t packed) { return packed & ((uint64_t{1} << kAddressBits) - 1); }

void Load(const CallRegisters& call, Registers& r) {
  r.rdx = call.rdx, r.rbx = call.rbx, r.rsp = call.rsp, r.rbp = call.rbp;
  r.rsi = call.rsi, r.rdi = call.rdi, r.r8 = call.r8, r.r9 = call.r9, r.r10 = call.r10;
  r.r12 = call.r12, r.r13 = call.r13, r.r14 = call.r14, r.r15 = call.r15;
  r.rflags = call.rflags;
}

// getpid(2) of i386. A host without it raises SIGSEGV, a filter may do worse: asked in a child.
bool HasCallsOfI386() {
  auto child = base::Host(SYS_clone, 0, nullptr, nullptr, nullptr, nullptr);
  if (!child.ok()) return false;
  if (*child == 0) {
    struct {
      uint64_t handler, flags, restorer, mask;
    } action = {};
    (void)base::RawSyscall(SYS_prctl, PR_SET_DUMPABLE, 0);  // no core
    (void)base::RawSyscall(SYS_rt_sigaction, SIGSEGV, reinterpret_cast<long>(&action), 0, 8);
    const long self = base::RawSyscall(SYS_getpid);
    long answer = 20;
    asm volatile("int $0x80" : "+a"(answer) : : "memory", "r8", "r9", "r10", "r11");
    base::RawSyscall(SYS_exit_group, answer == self ? 0 : 1);
  }
  int status = 0;
  auto reaped = base::HostRetry(SYS_wait4, static_cast<pid_t>(*child), &status, __WALL, nullptr);
  return reaped.ok() && status == 0;
}

}  // namespace

bool HostHasEntry() {
  unsigned a, b, c, d;
  if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || (c & 1) == 0) return false;  // LAHF_LM
  if (!FrameLayout(0).has_call_frame()) return false;
  return HasCallsOfI386();
}

StubPlace PlaceInStub(uint64_t rip) {
  if (!IsWithin(rip, runsc_systrap_entry, runsc_systrap_entry_end)) return StubPlace::kElsewhere;
  if (rip >= StubAddress(runsc_systrap_entry_committed)) return StubPlace::kBehind;
  if (IsWithin(rip, runsc_systrap_entry_waited, runsc_systrap_entry_again)) return StubPlace::kAsked;
  if (IsWithin(rip, runsc_systrap_entry_woken, runsc_systrap_entry_woken_end)) return StubPlace::kAsked;
  if (IsWithin(rip, runsc_systrap_entry_answer, runsc_systrap_entry_answer_end)) return StubPlace::kAnswered;
  if (IsWithin(rip, runsc_systrap_entry_masked, runsc_systrap_entry_unmasked)) return StubPlace::kAnswered;
  return StubPlace::kBefore;
}

bool CountsAsWaiter(uint64_t rip) {
  return IsWithin(rip, runsc_systrap_entry_wait_counted, runsc_systrap_entry_waited_uncounted);
}

void FromCall(const CallRegisters& call, Registers& to) {
  Load(call, to);
  SetArithmeticFlags(to.rflags, call.rcx >> kAddressBits);
  to.orig_rax = call.rax;
  to.rax = static_cast<uint64_t>(-ENOSYS);
  to.rip = to.rcx = ReturnAddress(call.rcx);
  to.r11 = to.rflags;
}

void RollBack(const CallRegisters& call, Registers& r) {
  const uint64_t rip = r.rip;
  uint64_t packed = r.rcx;
  if (rip >= StubAddress(runsc_systrap_entry_saved)) {
    const uint64_t rflags = r.rflags;
    Load(call, r);
    r.rflags = rflags;
    r.rax = call.rax;
    packed = call.rcx;
    SetArithmeticFlags(r.rflags, packed >> kAddressBits);
  } else if (IsWithin(rip, runsc_systrap_entry_yield, runsc_systrap_entry_yielded)) {
    r.rax = SYS_sched_yield;
    packed = call.rcx;
    SetArithmeticFlags(r.rflags, packed >> kAddressBits);
  } else if (IsWithin(rip, runsc_systrap_entry_wait, runsc_systrap_entry_waited)) {
    r.rax = SYS_futex;
    r.rsi = call.rsi;
    if (IsWithin(rip, runsc_systrap_entry_look, runsc_systrap_entry_looked)) r.rdx = call.rdx;
    packed = call.rcx;
    SetArithmeticFlags(r.rflags, packed >> kAddressBits);
  } else if (IsWithin(rip, runsc_systrap_entry_wake, runsc_systrap_entry_woken)) {
    r.rax = SYS_futex;
    packed = call.rcx;
    SetArithmeticFlags(r.rflags, packed >> kAddressBits);
  } else if (IsWithin(rip, runsc_systrap_entry_writes, runsc_systrap_entry_writes_end)) {
    r.rax = call.rax;
    r.rdx = call.rdx;
    r.r8 = call.r8;
    r.r9 = call.r9;
    r.r10 = call.r10;
    packed = call.rcx;
    SetArithmeticFlags(r.rflags, packed >> kAddressBits);
  } else if (rip >= StubAddress(runsc_systrap_entry_packed)) {
    r.rax = r.r11;
    SetArithmeticFlags(r.rflags, packed >> kAddressBits);
  } else if (rip >= StubAddress(runsc_systrap_entry_pack)) {
    SetArithmeticFlags(r.rflags, r.rax >> kAddressBits);
    r.rax = r.r11;
  } else if (rip >= StubAddress(runsc_systrap_entry_flags)) {
    r.rax = r.r11;
  }
  // A fault sets it, which the guest has not had.
  r.rflags &= ~kResumeFlag;
  r.rcx = ReturnAddress(packed);
  r.rip = r.rcx - kSyscallBytes;
}

bool FinishHostCall(const CallRegisters& call, Registers& r) {
  const uint64_t rip = r.rip;
  uint64_t packed = r.rcx;
  if (IsWithin(rip, runsc_systrap_entry_waited, runsc_systrap_entry_waited_done)) {
    packed = call.rcx;
    if (IsWithin(rip, runsc_systrap_entry_timing, runsc_systrap_entry_timed)) {
      r.rax = r.rsi;
      r.rdx = call.rdx;
    }
    r.rsi = call.rsi;
  } else if (IsWithin(rip, runsc_systrap_entry_woken, runsc_systrap_entry_woken_done)) {
    packed = call.rcx;
  }
  SetArithmeticFlags(r.rflags, packed >> kAddressBits);
  r.rip = r.rcx = ReturnAddress(packed);
  const int64_t result = static_cast<int64_t>(r.rax);
  if (result != -EINTR && result != -EFAULT) return true;
  r.orig_rax = SYS_futex;
  r.rax = static_cast<uint64_t>(-ENOSYS);
  r.r11 = r.rflags;
  return false;
}

void FinishAnswer(const CallRegisters& call, Registers& r) {
  const uint64_t rip = r.rip;
  if (IsWithin(rip, runsc_systrap_entry_masked, runsc_systrap_entry_unmasked)) {
    // The mask has been changed; whether it may have been, the sentry sees by itself.
    r.rax = 0;
    r.rdx = call.rdx, r.r8 = call.r8, r.r9 = call.r9, r.r10 = call.r10;
    SetArithmeticFlags(r.rflags, call.rcx >> kAddressBits);
    r.rip = r.rcx = ReturnAddress(call.rcx);
    return;
  }
  auto before = [rip](const char* label) { return rip < StubAddress(label); };
  if (before(runsc_systrap_entry_answer1)) r.r11 = r.rax;
  if (before(runsc_systrap_entry_answer2)) r.rax = r.rcx;
  if (before(runsc_systrap_entry_answer3)) r.rax >>= kAddressBits;
  if (before(runsc_systrap_entry_answer4)) r.rcx <<= 64 - kAddressBits;
  if (before(runsc_systrap_entry_answer5)) r.rcx >>= 64 - kAddressBits;
  if (before(runsc_systrap_entry_answer6)) {
    SetArithmeticFlags(r.rflags, r.rax);
  } else if (rip == StubAddress(runsc_systrap_entry_answer6)) {
    // `add $0x7f, %al` has set OF already.
    const uint64_t overflow = (r.rflags & kOverflow) != 0;
    SetArithmeticFlags(r.rflags, (r.rax & ~uint64_t{0xff}) | overflow);
  }
  if (before(runsc_systrap_entry_answer7)) r.rax = r.r11;
  r.rip = r.rcx;
}

}  // namespace platform::systrap
