#include "platform/systrap/context.h"

#include <linux/audit.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/executor.h"
#include "base/fiber.h"
#include "base/logging.h"
#include "platform/systrap/platform_impl.h"

namespace platform::systrap {
namespace {

constexpr uint64_t kTrapFlag = 0x100;
constexpr uint64_t kPageFaultVector = 14, kProtectionVector = 13;
// x86 page fault error code (arch/x86/include/asm/trap_pf.h).
constexpr uint64_t kFaultWrite = 2, kFaultFetch = 16;
constexpr int kSysSeccomp = 1, kSegvMapErr = 1, kSegvAccErr = 2;

}  // namespace

SystrapContext::SystrapContext(SystrapPlatform& platform) : platform_(platform) {
  registers_.cs = 0x33;
  registers_.ss = 0x2b;
  registers_.rflags = 0x202;
}

SystrapContext::~SystrapContext() { LeaveThread(); }

base::Result<void> SystrapContext::Prepare(AddressSpace& as) {
  CHECK(!thread_);
  return Bind(static_cast<SystrapAddressSpace&>(as));
}

base::Result<void> SystrapContext::Bind(SystrapAddressSpace& as) {
  LeaveThread();
  base::RefPtr<Stub> stub = as.stub();
  if (!stub) return base::Errno(ESRCH);
  base::RefPtr<GuestThread> thread = TRY(stub->TakeThread());
  called_ = false;
  {
    base::MutexLock lock(answers_mu_);
    thread_ = std::move(thread);
    thread_->SetAnswers(answers_);
    thread_->SetSignalMask(mask_.load(std::memory_order_relaxed));
    thread_->AllowMaskChanges(mask_changes_);
  }
  stub_ = std::move(stub);
  thread_->set_owner(this);
  return {};
}

void SystrapContext::LeaveThread() {
  if (!thread_) return;
  (void)XState();
  if (state_ == State::kBoth) state_ = State::kBuffer;
  thread_->set_owner(nullptr);
  base::RefPtr<Stub> stub = std::exchange(stub_, nullptr);
  base::RefPtr<GuestThread> thread;
  {
    base::MutexLock lock(answers_mu_);
    thread = std::exchange(thread_, nullptr);
  }
  stub->GiveThread(std::move(thread));
}

void SystrapContext::Fail(Completion& done, ExitReason reason) {
  Exit exit;
  exit.reason = reason;
  exit.signal_mask = mask_.load(std::memory_order_relaxed);
  run_.store(0, std::memory_order_release);
  done.Complete(exit);
}

void SystrapContext::Start(AddressSpace& address_space, Completion& done) {
  auto& as = static_cast<SystrapAddressSpace&>(address_space);
  if (!thread_ || stub_.get() != as.stub().get()) {
    // A new guest thread goes where nothing runs, if there is such a place.
    if (Bell* idle = platform_.IdleBell(platform_.CurrentBell())) {
      base::Fiber::MoveTo(idle->executor());
    }
    auto bound = Bind(as);
    if (!bound.ok()) {
      if (!bound.failed_with(ESRCH)) {
        LOG_WARNING("no host process for a guest thread: %s", base::ErrnoName(bound.error().value()));
      }
      Fail(done, ExitReason::kDead);
      return;
    }
  }
  if (state_ == State::kInitial && !thread_->pristine()) {
    InitXState(Area().data());
    state_ = State::kBuffer;
  }
  if (state_ == State::kBuffer) {
    thread_->LoadXState(Area());
    called_ = false;
  }
  state_ = State::kThread;
  // The executor may have left this thread, which was stuck; from here on it stays.
  base::ThreadHold hold;
  Bell& bell = platform_.CurrentBell();
  if (run_.fetch_or(kRunning, std::memory_order_acq_rel) & kInterrupted) {
    Fail(done, ExitReason::kInterrupted);
    return;
  }
  done_ = &done;
  last_cpu_ = bell.cpu();
  guest_trap_flag_ = (registers_.rflags & kTrapFlag) != 0;
  if (!thread_->Run(bell, registers_, step_, CanReturn())) {
    done_ = nullptr;
    Fail(done, ExitReason::kDead);
    return;
  }
  // A thread that waits after a call drops a signal that comes before it may go on (stub_text.S): once more.
  if (run_.load(std::memory_order_seq_cst) & kInterrupted) thread_->Interrupt();
}

void SystrapContext::Renew() {
  InitXState(Area().data());
  state_ = State::kBuffer;
  called_ = false;
  thread_->Renew();
}

void SystrapContext::SetAnswers(const CallAnswers& answers) {
  base::MutexLock lock(answers_mu_);
  answers_ = answers;
  if (thread_) thread_->SetAnswers(answers_);
}

void SystrapContext::WithdrawAnswers() {
  base::MutexLock lock(answers_mu_);
  answers_.valid = false;
  if (thread_) thread_->WithdrawAnswers();
}

bool SystrapContext::KeepsSignalMask() const { return platform_.has_entry(); }

void SystrapContext::SetSignalMask(uint64_t mask) {
  mask_.store(mask, std::memory_order_relaxed);
  if (thread_) thread_->SetSignalMask(mask);
}

void SystrapContext::AllowMaskChanges(bool allowed) {
  base::MutexLock lock(answers_mu_);
  mask_changes_ = allowed;
  if (thread_) thread_->AllowMaskChanges(allowed);
}

uint64_t SystrapContext::SignalMask() {
  base::MutexLock lock(answers_mu_);
  return thread_ ? thread_->SignalMask() : mask_.load(std::memory_order_relaxed);
}

bool SystrapContext::CanReturn() const {
  if (!called_ || step_) return false;
  const Registers& a = registers_;
  const Registers& b = at_call_;
  return a.r15 == b.r15 && a.r14 == b.r14 && a.r13 == b.r13 && a.r12 == b.r12 && a.rbp == b.rbp && a.rbx == b.rbx &&
         a.r11 == b.r11 && a.r10 == b.r10 && a.r9 == b.r9 && a.r8 == b.r8 && a.rcx == b.rcx && a.rdx == b.rdx &&
         a.rsi == b.rsi && a.rdi == b.rdi && a.rip == b.rip && a.cs == b.cs && a.rflags == b.rflags && a.rsp == b.rsp &&
         a.ss == b.ss && a.fs_base == b.fs_base && a.gs_base == b.gs_base;
}

void SystrapContext::Interrupt() {
  const uint32_t before = run_.fetch_or(kInterrupted, std::memory_order_seq_cst);
  if (before != kRunning) return;  // not running, or already told
  thread_->Interrupt();
}

int SystrapContext::LastCpu() const { return last_cpu_; }

// ---- vector state

std::span<std::byte> SystrapContext::Area() {
  if (!xstate_) {
    xstate_.reset(static_cast<std::byte*>(aligned_alloc(64, (XStateSize() + 63) & ~size_t{63})));
    CHECK(xstate_ != nullptr);
  }
  return {xstate_.get(), XStateSize()};
}

std::span<const std::byte> SystrapContext::XState() {
  if (state_ == State::kInitial) {
    InitXState(Area().data());
    state_ = State::kBuffer;
  } else if (state_ == State::kThread) {
    thread_->CopyXState(Area());
    state_ = State::kBoth;
  }
  return Area();
}

void SystrapContext::SetXState(std::span<const std::byte> area) {
  CHECK(area.size() <= XStateSize());
  memset(Area().data(), 0, XStateSize());
  memcpy(Area().data(), area.data(), area.size());
  // The host kills a thread that returns from a signal to a state that the processor refuses.
  if (!SanitizeXState(Area().data(), static_cast<uint32_t>(area.size()))) InitXState(Area().data());
  state_ = State::kBuffer;
}

// ---- exits

int64_t SystrapContext::CpuTimeNs() { return thread_ ? thread_->CpuTimeNs() : 0; }

void SystrapContext::Finish(Exit exit) {
  exit.slept = thread_->TakeSlept();
  exit.signal_mask = thread_->SignalMask();
  thread_->EndRun();
  Completion* done = std::exchange(done_, nullptr);
  run_.store(0, std::memory_order_release);
  done->Complete(exit);
}

void SystrapContext::OnThreadDead() {
  Completion* done = std::exchange(done_, nullptr);
  run_.store(0, std::memory_order_release);
  if (done) done->Complete({});
}

void SystrapContext::Ignore(StubPlace place) {
  if (place != StubPlace::kBehind) return thread_->RunOn();
  // Its frame would take it back into the stub, to wait there for what has come already.
  thread_->IsBehindCall();
  thread_->RunOn(registers_, step_);
}

void SystrapContext::OnCall(const CallRegisters& call, uint64_t fs_base, uint64_t gs_base) {
  FromCall(call, registers_);
  registers_.fs_base = fs_base;
  registers_.gs_base = gs_base;
  if (step_ && !guest_trap_flag_) {
    registers_.rflags &= ~kTrapFlag;
    registers_.r11 &= ~kTrapFlag;
  }
  called_ = true;
  at_call_ = registers_;
  Exit exit;
  exit.reason = ExitReason::kSystemCall;
  Finish(exit);
}

void SystrapContext::OnEvent(const HostFrame& frame, const CallRegisters& call, int signal, uint64_t fs_base,
                             uint64_t gs_base) {
  Exit exit;
  const HostSiginfo& info = frame.info;
  // The stub's handler wrote the number where guests can write: any other than those it serves is a forgery, and the
  // kernel is to see signals only.
  const bool forged = std::find(std::begin(kStubSignals), std::end(kStubSignals), signal) == std::end(kStubSignals);
  if (forged) signal = SIGSEGV;
  const StubPlace place = signal == SIGSYS ? StubPlace::kElsewhere : PlaceInStub(frame.context.rip);
  // It slept until the signal came: a call that the sentry takes over.
  const bool woken = place == StubPlace::kAsked && frame.context.rax == static_cast<uint64_t>(-EINTR);
  if (signal == kInterruptSignal) {
    // One for an earlier run that something else ended is late: nobody waits for it any more.
    if (!interrupted() && !woken) return Ignore(place);
    exit.reason = ExitReason::kInterrupted;
  } else if (info.code <= 0) {
    return Ignore(place);  // sent by a process on the host; a guest's own signals never go through the host
  }
  Registers& r = registers_;
  // Behind a call it has done nothing since it was started, and the registers are what they were then.
  if (place == StubPlace::kBehind) {
    thread_->IsBehindCall();
  } else {
    ToRegisters(frame.context, r);
    r.fs_base = fs_base;
    r.gs_base = gs_base;
  }
  called_ = false;
  if (CountsAsWaiter(frame.context.rip)) thread_->UncountWaiter(r.rdi);
  if (place == StubPlace::kAnswered) FinishAnswer(call, r);
  if (place == StubPlace::kAsked && !FinishHostCall(call, r)) {
    exit = {};
    exit.reason = ExitReason::kSystemCall;
    return Finish(exit);
  }
  if (place == StubPlace::kBefore) {
    RollBack(call, r);
    // The slot is out of the thread's reach (a protection key, say), which the kernel would not mind: by the trap.
    if (signal == SIGSEGV || signal == SIGBUS) return thread_->RunOn(r, step_);
  }
  if (step_ && !guest_trap_flag_) {
    r.rflags &= ~kTrapFlag;
    if (signal == SIGSYS) r.r11 &= ~kTrapFlag;
  }
  exit.trap_number = static_cast<uint32_t>(frame.context.trapno);
  exit.error_code = static_cast<uint32_t>(frame.context.err);
  exit.si_code = info.code;
  exit.address = info.address;
  if (signal == SIGSYS && info.code == kSysSeccomp) {
    exit.address = 0;
    exit.si_code = 0;
    if (info.arch == AUDIT_ARCH_X86_64) {
      exit.reason = ExitReason::kSystemCall;
      exit.trapped = true;
      // The host has put the number back into rax. One that looks like the host's own ERESTARTSYS and so on made it
      // interrupt or restart a call that never was (handle_signal, arch/x86/kernel/signal.c).
      const int64_t number = info.syscall;
      const bool intact = static_cast<int32_t>(r.rax) == info.syscall;
      r.orig_rax = intact ? r.rax : static_cast<uint64_t>(number);
      if (r.rip + 2 == info.address) r.rip = info.address;
      r.rax = static_cast<uint64_t>(-ENOSYS);
      exit.trap_number = exit.error_code = 0;
    } else {
      // `int $0x80`: Linux without CONFIG_IA32_EMULATION answers with a general protection fault, as if the instruction
      // (two bytes) had not been executed.
      exit.reason = ExitReason::kException;
      exit.signo = SIGSEGV;
      exit.si_code = SI_KERNEL;
      exit.trap_number = kProtectionVector;
      exit.error_code = 0x80 * 8 + 2;  // the IDT entry
      r.rip -= 2;
    }
  } else if (exit.reason != ExitReason::kInterrupted) {
    exit.signo = signal;
    const bool page_fault = !forged && signal == SIGSEGV && (info.code == kSegvMapErr || info.code == kSegvAccErr);
    exit.reason = page_fault ? ExitReason::kFault : ExitReason::kException;
    if (page_fault) {
      exit.trap_number = kPageFaultVector;
      exit.access = (exit.error_code & kFaultFetch)   ? AccessType::kExecute
                    : (exit.error_code & kFaultWrite) ? AccessType::kWrite
                                                      : AccessType::kRead;
    }
  }
  Finish(exit);
}

}  // namespace platform::systrap
