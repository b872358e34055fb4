#include "platform/ptrace/context.h"

#include <linux/audit.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/fiber.h"
#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "platform/ptrace/fault_access.h"
#include "platform/ptrace/platform_impl.h"
#include "platform/ptrace/tracer.h"

namespace platform::ptrace {
namespace {

constexpr uint64_t kUserCs = 0x33;
constexpr uint64_t kTrapFlag = 0x100;
constexpr uint64_t kResumeFlag = 0x10000;

// si_code values of the host (include/uapi/asm-generic/siginfo.h); names differ between libc versions.
constexpr int kSegvMapErr = 1, kSegvAccErr = 2, kSysSeccomp = 1;

// The x86 exception behind a signal that the host delivered, for the guest's signal frame.
uint32_t TrapNumber(int signo, int si_code) {
  switch (signo) {
    case SIGILL:
      return 6;
    case SIGFPE:
      return si_code == FPE_INTDIV ? 0 : 19;
    case SIGTRAP:
      return si_code == TRAP_TRACE ? 1 : 3;
    case SIGBUS:
      return si_code == BUS_ADRALN ? 17 : 14;
    default:
      return 13;
  }
}

}  // namespace

base::Result<void> ContextCore::Prepare(PtraceAddressSpace& as) {
  CHECK(!home_);
  return Bind(as);
}

void ContextCore::Start(PtraceAddressSpace& as, Completion& done) {
  Tracer& home = as.home();
  if (home_ == &home) home.Enter();
  if (home_ != &home || !thread_ || &thread_->stub() != as.stub()) {
    auto bound = Bind(as);
    if (!bound.ok()) {
      if (!bound.failed_with(ESRCH)) {
        LOG_WARNING("no host thread for a guest thread: %s", base::ErrnoName(bound.error().value()));
      }
      run_.store(0, std::memory_order_release);
      done.Complete({});
      return;
    }
  }
  if (!pinned_) {
    // Only this thread may trace it: let no other executor steal the fiber and hand it back at once.
    base::Fiber::Current()->set_pinned(true);
    pinned_ = true;
  }
  if (!LoadXState()) {
    // Nothing of another program may reach this one: better none than the state that the thread had.
    LOG_ERROR("the host refuses the initial vector state");
    run_.store(0, std::memory_order_release);
    done.Complete({});
    return;
  }
  done_ = &done;
  if (run_.fetch_or(kRunning, std::memory_order_acq_rel) & kInterrupted) {
    Exit exit;
    exit.reason = ExitReason::kInterrupted;
    Finish(exit);
    return;
  }
  if (state_ == State::kBoth) state_ = State::kThread;
  thread_->Run(*registers_, step_ ? Resume::kStep : Resume::kSystemCalls);
}

base::Result<void> ContextCore::Bind(PtraceAddressSpace& as) {
  if (home_) {
    home_->Enter();
    LeaveThread();
  }
  home_ = &as.home();
  home_->Enter();
  Stub* stub = as.stub();
  if (!stub) return base::Errno(ESRCH);
  thread_ = TRY(stub->TakeThread());
  thread_->set_owner(this);
  ids_.store(static_cast<uint64_t>(stub->pid()) << 32 | static_cast<uint32_t>(thread_->tid()),
             std::memory_order_release);
  return {};
}

void ContextCore::Abandon() {
  registers_ = nullptr;
  if (!home_) return;
  if (home_->IsCurrent()) {
    LeaveThread();
    return;
  }
  home_->executor().Post([self = base::RefPtr<ContextCore>(this)] { self->LeaveThread(); });
}

void ContextCore::LeaveThread() {
  if (!thread_) return;
  CHECK(!thread_->running());
  if (registers_) FetchXState();
  if (state_ == State::kBoth) state_ = State::kBuffer;
  StubThread* thread = thread_;
  thread_ = nullptr;
  thread->stub().GiveThread(*thread);
}

void ContextCore::Interrupt() {
  uint32_t before = run_.fetch_or(kInterrupted, std::memory_order_acq_rel);
  if (before != kRunning) return;  // not running, or already told
  uint64_t ids = ids_.load(std::memory_order_acquire);
  // Should the thread die meanwhile and its id be taken by another of ours, that one swallows the signal.
  (void)base::Host(SYS_tgkill, ids >> 32, ids & 0xffffffff, kInterruptSignal);
}

int ContextCore::LastCpu() const { return home_ ? home_->cpu() : -1; }

// ---- vector state

std::span<const std::byte> ContextCore::XState() {
  if (state_ == State::kThread) {
    home_->Enter();
    FetchXState();
  } else if (state_ == State::kInitial && !xstate_) {
    xstate_.emplace();
    xstate_->SetInitial();
  }
  return {xstate_->data(), XStateSize()};
}

void ContextCore::SetXState(std::span<const std::byte> area) {
  if (!xstate_) xstate_.emplace();
  xstate_->Set(area);
  state_ = State::kBuffer;
}

void ContextCore::FetchXState() {
  if (state_ != State::kThread || !thread_) return;
  if (!xstate_) xstate_.emplace();
  xstate_->SetInitial();  // should the thread be gone
  (void)GetXState(thread_->tid(), xstate_->data(), XStateBuffer::size());
  state_ = State::kBoth;
}

bool ContextCore::LoadXState() {
  if (state_ == State::kThread || state_ == State::kBoth) return true;
  if (state_ == State::kInitial && !thread_->pristine()) {
    if (!xstate_) xstate_.emplace();
    xstate_->SetInitial();
    state_ = State::kBuffer;
  }
  if (state_ == State::kBuffer) {
    long r = ptrace::SetXState(thread_->tid(), xstate_->data(), XStateBuffer::size());
    if (r < 0 && r != -ESRCH) {
      // What the host refuses in spite of SanitizeXState.
      xstate_->SetInitial();
      r = ptrace::SetXState(thread_->tid(), xstate_->data(), XStateBuffer::size());
    }
    if (r < 0 && r != -ESRCH) return false;  // ESRCH: it is being killed and will say so
  }
  state_ = State::kThread;
  return true;
}

// ---- exits

void ContextCore::Finish(const Exit& exit) {
  Completion* done = std::exchange(done_, nullptr);
  run_.store(0, std::memory_order_release);
  done->Complete(exit);
}

void ContextCore::OnThreadDead() {
  thread_ = nullptr;
  if (state_ == State::kThread) state_ = State::kInitial;
  if (state_ == State::kBoth) state_ = State::kBuffer;
  if (done_) Finish({});
}

void ContextCore::OnStop(int status) {
  const int signo = WSTOPSIG(status);
  const int event = status >> 16;
  if (event != 0) {
    thread_->RunOn();
    return;
  }
  Exit exit;
  if (signo == kInterruptSignal) {
    // One for an earlier run that something else ended is late: nobody waits for it any more.
    if (!(run_.load(std::memory_order_acquire) & kInterrupted)) {
      thread_->RunOn();
      return;
    }
    exit.reason = ExitReason::kInterrupted;
    if (!thread_->Fetch(*registers_)) return;
    thread_->EndRun();
    Finish(exit);
    return;
  }
  if (signo == (SIGTRAP | 0x80)) {
    if (!thread_->Fetch(*registers_)) return;
    OnSystemCall(exit);
  } else if (signo == SIGSEGV || signo == SIGBUS || signo == SIGILL || signo == SIGFPE || signo == SIGTRAP ||
             signo == SIGSYS) {
    siginfo_t info = {};
    if (GetSignalInfo(thread_->tid(), info) < 0) return;  // it is being killed
    if (info.si_code <= 0) {
      thread_->RunOn();  // sent by a process on the host; a guest's own signals never go through the host
      return;
    }
    if (!thread_->Fetch(*registers_)) return;
    exit.si_code = info.si_code;
    exit.address = reinterpret_cast<uint64_t>(info.si_addr);
    if (signo == SIGSYS && info.si_code == kSysSeccomp) {
      // The vsyscall page: the host emulates the call itself, and the filter of the stubs stops it. What the guest
      // called is as good as the system call (the host has done the return).
      exit.reason = ExitReason::kSystemCall;
      registers_->orig_rax = static_cast<uint32_t>(info.si_syscall);
      registers_->rax = static_cast<uint64_t>(-ENOSYS);
    } else {
      OnSignal(signo, exit);
    }
  } else {
    thread_->RunOn();
    return;
  }
  if (exit.reason != ExitReason::kFault) last_fault_.valid = false;
  thread_->EndRun();
  Finish(exit);
}

void ContextCore::OnSystemCall(Exit& exit) {
  Registers& r = *registers_;
  // The `syscall` instruction leaves rip in rcx and the flags in r11; `int $0x80` does not (a guest that imitates it
  // fools only itself), and 32-bit code has another code segment. Those are not system calls of our guests: Linux
  // without CONFIG_IA32_EMULATION answers with a general protection fault.
  const uint64_t kHidden = kTrapFlag | kResumeFlag;
  bool native = r.cs == kUserCs && r.rcx == r.rip && (r.r11 & ~kHidden) == (r.rflags & ~kHidden);
  if (!native && r.cs == kUserCs) native = SystemCallArch(thread_->tid()) == AUDIT_ARCH_X86_64;
  if (native) {
    exit.reason = ExitReason::kSystemCall;
    r.r11 = r.rflags;
    return;
  }
  exit.reason = ExitReason::kException;
  exit.signo = SIGSEGV;
  exit.si_code = SI_KERNEL;
  exit.trap_number = 13;
  exit.error_code = 0x80 * 8 + 2;  // the IDT entry
  // As if it had not been executed: rip at the instruction (two bytes long in all of its forms), rax what it was.
  r.rip -= 2;
  r.rax = r.orig_rax;
}

void ContextCore::OnSignal(int signo, Exit& exit) {
  exit.signo = signo;
  if (signo == SIGSEGV && (exit.si_code == kSegvMapErr || exit.si_code == kSegvAccErr)) {
    exit.reason = ExitReason::kFault;
    exit.access = Access(exit.address, exit.si_code);
    exit.trap_number = 14;
    exit.error_code = 4 | (exit.si_code == kSegvAccErr ? 1 : 0) | (exit.access == AccessType::kWrite ? 2 : 0) |
                      (exit.access == AccessType::kExecute ? 16 : 0);
    return;
  }
  exit.reason = ExitReason::kException;
  exit.trap_number = TrapNumber(signo, exit.si_code);
}

AccessType ContextCore::Access(uint64_t address, int si_code) {
  AccessType access = GuessAccess(thread_->tid(), *registers_, address);
  // The guess was served and the same instruction is refused at the same byte of a page that is mapped now: it wanted
  // more. (SEGV_MAPERR instead means that the page went away again in between.)
  if (last_fault_.valid && last_fault_.rip == registers_->rip && last_fault_.address == address &&
      si_code == kSegvAccErr && last_fault_.access == access) {
    access = AccessType::kWrite;
  }
  last_fault_ = {registers_->rip, address, access, true};
  return access;
}

}  // namespace platform::ptrace
