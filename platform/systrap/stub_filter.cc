#include "platform/systrap/stub_filter.h"

#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstddef>

#include "base/check.h"
#include "platform/systrap/stub.h"
#include "platform/systrap/stub_layout.h"

namespace platform::systrap {
namespace {

constexpr uint32_t kSetThreadAreaI386 = 243;  // arch/x86/entry/syscalls/syscall_32.tbl
constexpr uint32_t kNumber = offsetof(seccomp_data, nr);
constexpr uint32_t kArch = offsetof(seccomp_data, arch);
constexpr uint32_t kIpLow = offsetof(seccomp_data, instruction_pointer);
constexpr uint32_t kIpHigh = kIpLow + 4;
constexpr uint32_t ArgLow(int i) { return offsetof(seccomp_data, args) + 8 * i; }
constexpr uint32_t ArgHigh(int i) { return ArgLow(i) + 4; }

constexpr uint32_t Low(uint64_t v) { return static_cast<uint32_t>(v); }
constexpr uint32_t High(uint64_t v) { return static_cast<uint32_t>(v >> 32); }

// A program in which every check that fails goes to the end, where the call is refused.
class Program {
 public:
  void Load(uint32_t offset) { code_.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)); }
  void Require(uint32_t value) { Check(BPF_JEQ, value, false); }
  void RequireAtLeast(uint32_t value) { Check(BPF_JGE, value, false); }
  void RequireBelow(uint32_t value) { Check(BPF_JGE, value, true); }
  void RequireEither(uint32_t a, uint32_t b) {
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, a, 1, 0));
    Require(b);
  }
  void RequireArg(int i, uint64_t value) {
    Load(ArgHigh(i));
    Require(High(value));
    Load(ArgLow(i));
    Require(Low(value));
  }
  void RequireArgBelow(int i, uint64_t limit) {
    Load(ArgHigh(i));
    // Above: refused. Below: the low half does not matter.
    refusals_.push_back({code_.size(), true});
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, High(limit), 0, 0));
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, High(limit), 0, 2));
    Load(ArgLow(i));
    RequireBelow(Low(limit));
  }
  void Allow() { code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)); }
  // The instructions until EndIf run if the accumulator is `value`; those of different Ifs exclude each other.
  void If(uint32_t value) {
    ifs_.push_back(code_.size());
    code_.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 0));
  }
  void EndIf() {
    const size_t at = ifs_.back();
    ifs_.pop_back();
    CHECK(code_.size() - at - 1 < 256);
    code_[at].jf = static_cast<uint8_t>(code_.size() - at - 1);
  }
  // SIGSYS for what is left.
  std::vector<sock_filter> Finish() {
    const size_t end = code_.size();
    code_.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP));
    for (auto [at, when_true] : refusals_) {
      const size_t distance = end - at - 1;
      CHECK(distance < 256);
      (when_true ? code_[at].jt : code_[at].jf) = static_cast<uint8_t>(distance);
    }
    return code_;
  }

 private:
  void Check(uint16_t test, uint32_t value, bool refuse_when_true) {
    refusals_.push_back({code_.size(), refuse_when_true});
    code_.push_back(BPF_JUMP(static_cast<uint16_t>(BPF_JMP | test | BPF_K), value, 0, 0));
  }
  struct Refusal {
    size_t at;
    bool when_true;
  };
  std::vector<sock_filter> code_;
  std::vector<Refusal> refusals_;
  std::vector<size_t> ifs_;
};

// The instruction pointer of a filter is that after the `syscall` instruction.
uint32_t ReturnOf(const char* label) { return Low(StubAddress(label) + 2); }

}  // namespace

std::vector<sock_filter> GuestFilter(const StubDescriptors& fds) {
  Program p;
  p.Load(kIpHigh);
  p.Require(High(kStubText));
  p.Load(kArch);
  p.Require(AUDIT_ARCH_X86_64);
  p.Load(kIpLow);
  p.If(ReturnOf(runsc_systrap_sigreturn));
  {
    p.Load(kNumber);
    p.Require(SYS_rt_sigreturn);
    p.Allow();
  }
  p.EndIf();
  p.If(ReturnOf(runsc_systrap_write));
  {
    p.Load(kNumber);
    p.Require(SYS_write);
    p.Load(ArgHigh(0));
    p.Require(0);
    p.Load(ArgLow(0));
    p.RequireAtLeast(fds.first_doorbell);
    p.RequireBelow(fds.end_doorbell);
    p.RequireArg(2, 4);
    p.Allow();
  }
  p.EndIf();
  p.If(ReturnOf(runsc_systrap_futex));
  {
    p.Load(kNumber);
    p.Require(SYS_futex);
    p.Load(ArgLow(1));
    p.Require(FUTEX_WAIT);
    p.RequireArg(3, 0);
    p.Load(ArgHigh(0));
    p.Require(High(kSlotWindow));
    p.Load(ArgLow(0));
    p.RequireAtLeast(Low(kSlotWindow));
    p.RequireBelow(Low(kStateWindow));
    p.Allow();
  }
  p.EndIf();
  p.If(ReturnOf(runsc_systrap_futex_wait));
  {
    p.Load(kNumber);
    p.Require(SYS_futex);
    p.Load(ArgLow(1));
    p.Require(FUTEX_WAIT | FUTEX_PRIVATE_FLAG);
    p.RequireArg(3, 0);
    p.Allow();
  }
  p.EndIf();
  p.If(ReturnOf(runsc_systrap_futex_wake));
  {
    p.Load(kNumber);
    p.Require(SYS_futex);
    p.Load(ArgLow(1));
    p.Require(FUTEX_WAKE | FUTEX_PRIVATE_FLAG);
    p.Allow();
  }
  p.EndIf();
  for (const char* label : {runsc_systrap_yield, runsc_systrap_wait_yield}) {
    p.If(ReturnOf(label));
    {
      p.Load(kNumber);
      p.Require(SYS_sched_yield);
      p.Allow();
    }
    p.EndIf();
  }
  return p.Finish();
}

std::vector<sock_filter> HelperFilter(const StubDescriptors& fds) {
  static_assert(High(kSlotWindow) == High(kStubText) && High(kStateWindow) == High(kStubText));
  Program p;
  p.Load(kIpHigh);
  p.Require(High(kStubText));
  p.Load(kArch);
  p.If(AUDIT_ARCH_I386);
  {
    p.Load(kIpLow);
    p.Require(ReturnOf(runsc_systrap_int80));
    p.Load(kNumber);
    p.Require(kSetThreadAreaI386);
    p.Allow();
  }
  p.EndIf();
  p.Require(AUDIT_ARCH_X86_64);
  p.Load(kIpLow);
  p.RequireAtLeast(Low(kStubText));
  p.RequireBelow(Low(kStubText + kStubPage));
  p.Load(kNumber);
  // Never the stub's own pages. A newborn helper maps its command pages, and all of them map blocks of slots.
  for (int nr : {SYS_munmap, SYS_mprotect}) {
    p.If(static_cast<uint32_t>(nr));
    p.RequireArgBelow(0, kSlotWindow);
    p.Allow();
    p.EndIf();
  }
  p.If(SYS_mmap);
  {
    p.Load(ArgLow(0));
    p.If(Low(kStubCommand));
    p.RequireArg(0, kStubCommand);
    p.Allow();
    p.EndIf();
    p.RequireArgBelow(0, kStubText);
    p.Allow();
  }
  p.EndIf();
  // Guest threads have this filter below their own: what they may call has to be here.
  for (int nr : {SYS_rt_sigreturn, SYS_futex, SYS_sched_yield, SYS_close_range, SYS_exit_group}) {
    p.If(static_cast<uint32_t>(nr));
    p.Allow();
    p.EndIf();
  }
  p.If(SYS_write);
  {
    p.Load(ArgHigh(0));
    p.Require(0);
    p.Load(ArgLow(0));
    p.RequireAtLeast(fds.first_doorbell);
    p.RequireBelow(fds.end_ack);
    p.Allow();
  }
  p.EndIf();
  p.If(SYS_clone);
  {
    p.Load(ArgHigh(0));
    p.Require(0);
    p.Load(ArgLow(0));
    p.RequireEither(Low(kThreadCloneFlags), Low(kProcessCloneFlags));
    p.Allow();
  }
  p.EndIf();
  p.If(SYS_prctl);
  {
    p.Load(ArgLow(0));
    p.Require(PR_SET_PDEATHSIG);
    p.Allow();
  }
  p.EndIf();
  p.If(SYS_seccomp);
  {
    p.RequireArg(0, SECCOMP_SET_MODE_FILTER);
    p.Allow();
  }
  p.EndIf();
  return p.Finish();
}

}  // namespace platform::systrap
