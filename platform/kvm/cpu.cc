#include "platform/kvm/cpu.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/futex_unsafe.h"
#include "base/logging.h"
#include "base/syscall_unsafe.h"
#include "platform/kvm/address_space.h"
#include "platform/kvm/context.h"
#include "platform/kvm/kick.h"
#include "platform/kvm/platform_impl.h"

namespace platform::kvm {
namespace {

constexpr int64_t kTickNs = 4'000'000;
// A context gives way to one that has used less time by more than this.
constexpr int64_t kGranularityNs = 1'000'000;
// How far behind a context that slept may start: what it may run before others get their turn.
constexpr int64_t kCreditNs = 3'000'000;
// Guest threads that wait longer than this behind fibers go elsewhere.
constexpr int64_t kLongWaitNs = 200'000;
constexpr int kSpins = 2000;
constexpr int kManySameFaults = 10'000;

constexpr uint64_t kTrapFlag = 0x100, kResumeFlag = 0x10000;
// Vectors of the processor (Intel SDM vol. 3, table 6-1).
constexpr uint32_t kDivide = 0, kDebug = 1, kBreakpoint = 3, kInvalidOpcode = 6, kNotPresent = 11, kStack = 12,
                   kProtection = 13, kPageFault = 14, kFloatingPoint = 16, kAlignment = 17, kSimd = 19;
// Error code of a page fault (arch/x86/include/asm/trap_pf.h).
constexpr uint32_t kFaultWrite = 2, kFaultFetch = 16, kFaultKey = 32;
// si_code values whose names differ between libc versions (include/uapi/asm-generic/siginfo.h).
constexpr int kSegvPkuErr = 4, kBusAdrErr = 2, kBusAdrAln = 1;

}  // namespace

Cpu::~Cpu() { CHECK(head_ == nullptr && current_ == nullptr); }

// ---- idle strategy

void Cpu::Attach(base::Executor& executor) {
  executor_.store(&executor, std::memory_order_relaxed);
  const int tid = static_cast<int>(base::RawSyscall(SYS_gettid));
  host_tid_.store(tid, std::memory_order_seq_cst);
  UnblockKick();
  if (have_timer_) (void)base::Host(SYS_timer_delete, timer_);
  struct sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = kKickSignal;
  event._sigev_un._tid = tid;
  have_timer_ = base::Host(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer_).ok();
  ticking_ = false;
}

void Cpu::Detach() {
  if (have_timer_) (void)base::Host(SYS_timer_delete, timer_);
  have_timer_ = false;
  host_tid_.store(0, std::memory_order_seq_cst);
}

void Cpu::Wake() {
  switch (word_.exchange(kWoken, std::memory_order_seq_cst)) {
    case kSleeping:
      base::FutexWake(&word_, 1);
      break;
    case kInGuest:
      KickOut();
      break;
    default:
      break;
  }
}

void Cpu::Wait() {
  while (Choose()) {
    if (RunCurrent(false)) {
      word_.store(kAwake, std::memory_order_seq_cst);
      return;
    }
  }
  ArmTick(false);
  uint32_t expected = kAwake;
  if (word_.compare_exchange_strong(expected, kSleeping, std::memory_order_seq_cst)) {
    while (word_.load(std::memory_order_acquire) == kSleeping) base::FutexWait(word_, kSleeping);
  }
  word_.store(kAwake, std::memory_order_seq_cst);
}

void Cpu::ArmTick(bool on) {
  if (!have_timer_ || ticking_ == on) return;
  struct itimerspec spec = {};
  if (on) spec.it_interval.tv_nsec = spec.it_value.tv_nsec = kTickNs;
  (void)base::Host(SYS_timer_settime, timer_, 0, &spec, nullptr);
  ticking_ = on;
}

// ---- the queue

void Cpu::Enqueue(KvmContext& context) {
  if (context.cpu_ != this) {
    context.cpu_ = this;
    context.virtual_time_ = virtual_time_;
  }
  context.virtual_time_ = std::max(context.virtual_time_, virtual_time_ - kCreditNs);
  context.place_ = KvmContext::Place::kQueued;
  KvmContext *before = nullptr, *after = head_;
  while (after != nullptr && after->virtual_time_ <= context.virtual_time_) before = std::exchange(after, after->next_);
  context.previous_ = before;
  context.next_ = after;
  (before != nullptr ? before->next_ : head_) = &context;
  if (after != nullptr) after->previous_ = &context;
  NoteReady();
}

void Cpu::Remove(KvmContext& context) {
  (context.previous_ != nullptr ? context.previous_->next_ : head_) = context.next_;
  if (context.next_ != nullptr) context.next_->previous_ = context.previous_;
  context.next_ = context.previous_ = nullptr;
  NoteReady();
}

bool Cpu::Choose() {
  base::MutexLock lock(platform_.queues());
  if (current_ != nullptr) return true;
  if (head_ == nullptr) return false;
  KvmContext& context = *head_;
  Remove(context);
  context.place_ = KvmContext::Place::kCurrent;
  current_ = &context;
  NoteReady();
  where_ = Where::kContext;
  virtual_time_ = std::max(virtual_time_, context.virtual_time_);
  return true;
}

bool Cpu::OthersTurn() {
  base::MutexLock lock(platform_.queues());
  return head_ != nullptr && head_->virtual_time_ + kGranularityNs < current_->virtual_time_;
}

void Cpu::Requeue(KvmContext& context) {
  pending_vectors_ = nullptr;
  base::MutexLock lock(platform_.queues());
  current_ = nullptr;
  Enqueue(context);
}

bool Cpu::GiveAway() {
  Cpu* idle = nullptr;
  {
    base::MutexLock lock(platform_.queues());
    if (head_ == nullptr) {
      if (current_ == nullptr || where_ != Where::kProcessor) ArmTick(false);
      return false;
    }
    idle = platform_.IdleCpu();
    if (idle == nullptr) return false;
    KvmContext& context = *head_;
    Remove(context);
    idle->Enqueue(context);
    context.moved_ = true;  // its fiber follows when it next starts
  }
  idle->Wake();
  return true;
}

void Cpu::Poll() {
  const base::MonotonicNs waited = base::MonotonicNow() - last_stay_;
  if (waited < kLongWaitNs) return;
  bool any, queued, elsewhere;
  {
    base::MutexLock lock(platform_.queues());
    any = !Idle();
    queued = head_ != nullptr;
    elsewhere = any && platform_.IdleCpu() != nullptr;
  }
  if (!any) return;
  if (elsewhere) {
    if (!queued && current_ != nullptr) {
      KvmContext& context = *current_;
      if (context.as_->dead() || context.interrupted_) return;
      if (std::optional<Exit> exit = Evict(context)) {
        Finish(context, *exit);
        return;
      }
      if (context.as_->dead()) return;
      Requeue(context);
    }
    (void)GiveAway();
    return;
  }
  if (waited < kTickNs) return;
  ArmTick(true);
  if (Choose()) (void)RunCurrent(true);
  last_stay_ = base::MonotonicNow();
}

// ---- stays in the guest

bool Cpu::IsIn(const KvmAddressSpace& as, uint32_t& stay) const {
  stay = stays_.load(std::memory_order_seq_cst);
  return (stay & 1) && in_.load(std::memory_order_seq_cst) == &as;
}

void Cpu::KickOut() { vcpu_->Kick(host_tid_.load(std::memory_order_relaxed)); }

void Cpu::AwaitExit(uint32_t stay) {
  for (int i = 0; i < kSpins; ++i) {
    if (stays_.load(std::memory_order_acquire) != stay) return;
    __builtin_ia32_pause();
  }
  awaited_.fetch_add(1, std::memory_order_seq_cst);
  while (stays_.load(std::memory_order_seq_cst) == stay) base::FutexWait(stays_, stay);
  awaited_.fetch_sub(1, std::memory_order_relaxed);
}

Vcpu::Outcome Cpu::Stay(KvmContext& context) {
  const base::MonotonicNs start = base::MonotonicNow();
  const bool vectors = pending_vectors_ != nullptr;
  in_.store(context.as_, std::memory_order_seq_cst);
  stays_.fetch_add(1, std::memory_order_seq_cst);
  if (vectors) ArmVectors();
  // With KvmPlatform::EndContexts: each side writes its own, then reads the other's.
  Vcpu::Outcome outcome = Vcpu::Outcome::kSignal;
  if (!context.as_->dead()) outcome = vcpu_->Run();
  if (vectors) SettleVectors();
  stays_.fetch_add(1, std::memory_order_seq_cst);
  if (awaited_.load(std::memory_order_seq_cst) != 0) base::FutexWake(&stays_);
  last_stay_ = base::MonotonicNow();
  context.virtual_time_ += last_stay_ - start;
  if (outcome == Vcpu::Outcome::kMessage) {
    where_ = Where::kFrame;
  } else if (outcome == Vcpu::Outcome::kGate) {
    vcpu_->GateRegisters(context.registers_);
    where_ = Where::kContext;
  } else {
    where_ = Where::kProcessor;
    vcpu_->ClearKick();
  }
  return outcome;
}

bool Cpu::RunCurrent(bool bounded) {
  KvmContext& context = *current_;
  for (;;) {
    if (context.as_->dead()) {
      // Never into its tables again.
      Registers lost;
      if (where_ == Where::kProcessor) (void)vcpu_->Extract(lost);
      Finish(context, {});
      return true;
    }
    const bool interrupted = context.interrupted_.load(std::memory_order_acquire);
    if (interrupted || (where_ != Where::kContext && OthersTurn())) {
      std::optional<Exit> exit = Evict(context);
      if (!exit && where_ == Where::kProcessor) continue;  // it died meanwhile
      if (!exit && !interrupted) {
        Requeue(context);
        return false;
      }
      if (!exit) {
        exit.emplace();
        exit->reason = context.as_->dead() ? ExitReason::kDead : ExitReason::kInterrupted;
      }
      Finish(context, *exit);
      return true;
    }
    if (where_ == Where::kFrame && vcpu_->uses_gate()) Store(context);
    if (where_ == Where::kContext) Load(context);
    uint32_t expected = kAwake;
    if (!word_.compare_exchange_strong(expected, kInGuest, std::memory_order_seq_cst)) {
      if (!bounded) return true;
      word_.store(kInGuest, std::memory_order_seq_cst);  // fibers wait, as we know
    }
    const Vcpu::Outcome outcome = Stay(context);
    expected = kInGuest;
    const bool woken = !word_.compare_exchange_strong(expected, kAwake, std::memory_order_seq_cst);
    if (std::optional<Exit> exit = OnOutcome(context, outcome)) {
      Finish(context, *exit);
      return true;
    }
    if (woken) return true;
    if (outcome != Vcpu::Outcome::kMessage && bounded) return true;
    if (outcome == Vcpu::Outcome::kSignal && ticking_) (void)GiveAway();
  }
}

std::optional<Exit> Cpu::Evict(KvmContext& context) {
  while (where_ == Where::kProcessor) {
    if (context.as_->dead()) return std::nullopt;  // the caller looks again
    vcpu_->InjectKick();
    if (auto exit = OnOutcome(context, Stay(context))) return exit;
  }
  if (where_ == Where::kFrame) Store(context);
  where_ = Where::kContext;
  return std::nullopt;
}

std::optional<Exit> Cpu::OnOutcome(KvmContext& context, Vcpu::Outcome outcome) {
  switch (outcome) {
    case Vcpu::Outcome::kMessage:
      return OnMessage(context);
    case Vcpu::Outcome::kGate:
      vcpu_->machine().NoteSystemCallEntry(false);
      return OnSystemCall(context);
    case Vcpu::Outcome::kSignal:
    case Vcpu::Outcome::kWindow:
      return std::nullopt;
    case Vcpu::Outcome::kForeign:
      return OnForeign(context);
    case Vcpu::Outcome::kMemoryFault:
      return OnMemoryFault(context);
    case Vcpu::Outcome::kBroken:
      (void)vcpu_->Extract(context.registers_);
      where_ = Where::kContext;
      return Exit{};
  }
  __builtin_unreachable();
}

void Cpu::Load(KvmContext& context) {
  LoadVectors(context);
  Registers r = context.registers_;
  SanitizeRegisters(r);
  if (context.step_) r.rflags |= kTrapFlag;
  vcpu_->SetAnswers(context.step_ ? AnswerBlock{} : context.answers_);
  if (context.withdrawn_.load(std::memory_order_seq_cst)) vcpu_->WithdrawAnswers();
  if (vcpu_->uses_gate()) {
    vcpu_->LoadDirectly(r, context.as_->root());
  } else {
    StatePage& s = vcpu_->state();
    memcpy(s.gprs, &r, sizeof(s.gprs));
    s.rip = r.rip, s.cs = r.cs, s.rflags = r.rflags, s.rsp = r.rsp, s.ss = r.ss;
    s.fs_base = r.fs_base, s.gs_base = r.gs_base;
    s.ds = static_cast<uint16_t>(r.ds), s.es = static_cast<uint16_t>(r.es);
    s.fs = static_cast<uint16_t>(r.fs), s.gs = static_cast<uint16_t>(r.gs);
    // As Linux decides it (arch/x86/entry/common.c, do_syscall_64): the instruction takes rip and flags from two
    // registers, traps at once with TF, and cannot set RF.
    s.sysret = s.can_sysret && r.rcx == r.rip && r.r11 == r.rflags && r.cs == SELECTOR_USER_CS &&
               r.ss == SELECTOR_USER_SS && !(r.rflags & (kTrapFlag | kResumeFlag)) && kGuestRange.Contains(r.rip);
    vcpu_->LoadRoot(context.as_->root(), context.as_->id());
  }
  where_ = Where::kLoaded;
  same_faults_ = 0;
  bool others;
  {
    base::MutexLock lock(platform_.queues());
    others = head_ != nullptr;
  }
  if (others) ArmTick(true);
}

void Cpu::LoadVectors(KvmContext& context) {
  using Vectors = KvmContext::Vectors;
  pending_vectors_ = nullptr;
  for (;;) {
    Cpu* other = context.vector_cpu_.load(std::memory_order_acquire);
    if (other == nullptr || other == this) break;
    {
      base::MutexLock lock(other->vector_mutex_);
      if (other->FetchVectors(context)) {
        if (other->vector_owner_ == &context) other->vector_owner_ = nullptr;
        context.vector_cpu_.store(nullptr, std::memory_order_release);
        context.vectors_ = Vectors::kBuffer;
        break;
      }
    }
    other->AwaitVectors();
  }
  base::MutexLock lock(vector_mutex_);
  if (vector_owner_ == &context) {
    context.vectors_ = Vectors::kVcpu;
    return;
  }
  if (context.vectors_ == Vectors::kInitial) InitXState(context.Area().data());
  if (vcpu_->moves_vectors()) {
    vcpu_->PrepareXState(context.Area());
    context.vectors_ = Vectors::kBuffer;
    pending_vectors_ = &context;
    return;
  }
  if (vector_owner_ != nullptr) {
    (void)FetchVectors(*vector_owner_);
    vector_owner_->vectors_ = Vectors::kBuffer;
    vector_owner_->vector_cpu_.store(nullptr, std::memory_order_release);
  }
  vcpu_->SetXState(context.Area());
  vector_owner_ = &context;
  context.vector_cpu_.store(this, std::memory_order_release);
  context.vectors_ = Vectors::kVcpu;
}

void Cpu::ArmVectors() {
  base::MutexLock lock(vector_mutex_);
  saving_vectors_ = vector_owner_ != nullptr && vector_owner_->vectors_ == KvmContext::Vectors::kVcpu;
  vcpu_->ArmXState(saving_vectors_);
}

void Cpu::TakeSavedVectors() {
  saving_vectors_ = false;
  if (vector_owner_ == nullptr) return;  // ended meanwhile, or has been given another state
  if (vector_owner_->vectors_ == KvmContext::Vectors::kVcpu) vcpu_->GetSavedXState(vector_owner_->Area());
  vector_owner_->vectors_ = KvmContext::Vectors::kBuffer;
  vector_owner_->vector_cpu_.store(nullptr, std::memory_order_release);
  vector_owner_ = nullptr;
}

void Cpu::SettleVectors() {
  base::MutexLock lock(vector_mutex_);
  if (saving_vectors_ && vcpu_->XStateSaved()) TakeSavedVectors();
  saving_vectors_ = false;
  if (vcpu_->XStateLoaded()) {
    if (vector_owner_ != nullptr) {  // it had a copy
      vector_owner_->vectors_ = KvmContext::Vectors::kBuffer;
      vector_owner_->vector_cpu_.store(nullptr, std::memory_order_release);
    }
    vector_owner_ = std::exchange(pending_vectors_, nullptr);
    vector_owner_->vectors_ = KvmContext::Vectors::kVcpu;
    vector_owner_->vector_cpu_.store(this, std::memory_order_release);
  }
  vcpu_->DisarmXState();
}

bool Cpu::FetchVectors(KvmContext& context) {
  using Vectors = KvmContext::Vectors;
  if (context.vector_cpu_.load(std::memory_order_relaxed) != this || context.vectors_ != Vectors::kVcpu) return true;
  if (saving_vectors_) {
    if (!vcpu_->XStateSaved()) return false;
    TakeSavedVectors();
    return true;
  }
  vcpu_->GetXState(context.Area());
  context.vectors_ = Vectors::kBoth;
  return true;
}

void Cpu::AwaitVectors() {
  const uint32_t stay = stays_.load(std::memory_order_seq_cst);
  if (!(stay & 1)) return;
  KickOut();
  AwaitExit(stay);
}

void Cpu::Store(KvmContext& context) {
  const StatePage& s = vcpu_->state();
  Registers& r = context.registers_;
  memcpy(&r, s.gprs, sizeof(s.gprs));
  r.rip = s.rip, r.cs = s.cs, r.rflags = s.rflags, r.rsp = s.rsp, r.ss = s.ss;
  r.fs_base = s.fs_base, r.gs_base = s.gs_base;
  r.ds = s.ds, r.es = s.es, r.fs = s.fs, r.gs = s.gs;
  if (context.step_ && !context.guest_trap_flag_) r.rflags &= ~kTrapFlag;
  where_ = Where::kContext;
}

void Cpu::Finish(KvmContext& context, const Exit& exit) {
  Completion* done;
  {
    base::MutexLock lock(platform_.queues());
    CHECK(current_ == &context);
    current_ = nullptr;
    NoteReady();
    context.place_ = KvmContext::Place::kNowhere;
    context.interrupted_ = false;
    done = std::exchange(context.done_, nullptr);
    platform_.CountRunning(-1);
  }
  where_ = Where::kContext;
  pending_vectors_ = nullptr;
  context.last_cpu_.store(executor().cpu(), std::memory_order_relaxed);
  done->Complete(exit);
}

// ---- what came back

std::optional<Exit> Cpu::OnMessage(KvmContext& context) {
  const StatePage& s = vcpu_->state();
  const uint32_t vector = static_cast<uint32_t>(s.vector), error = static_cast<uint32_t>(s.error);
  if (vector == VECTOR_KICK) return std::nullopt;
  if (vector == VECTOR_SYSCALL) {
    vcpu_->machine().NoteSystemCallEntry(true);
    Store(context);
    return OnSystemCall(context);
  }
  // Where `syscall` does not change the privilege, the processor cannot fetch from the entry: rcx and r11 are set. A
  // guest that jumps there makes a system call of its own choice, which it may.
  if ((vector == kPageFault || vector == kDebug) && s.rip == vcpu_->syscall_entry()) {
    vcpu_->machine().NoteSystemCallEntry(false);
    StatePage& frame = vcpu_->state();
    frame.rip = frame.gprs[offsetof(Registers, rcx) / 8];
    frame.rflags = frame.gprs[offsetof(Registers, r11) / 8];
    Store(context);
    return OnSystemCall(context);
  }
  if (vector == kPageFault) return OnPageFault(context, error);
  return OnException(context, vector, error);
}

Exit Cpu::OnSystemCall(KvmContext& context) {
  Registers& r = context.registers_;
  if (context.step_ && !context.guest_trap_flag_) r.rflags &= ~kTrapFlag, r.r11 &= ~kTrapFlag;
  r.orig_rax = r.rax;
  r.rax = static_cast<uint64_t>(-ENOSYS);
  Exit exit;
  exit.reason = ExitReason::kSystemCall;
  return exit;
}

std::optional<Exit> Cpu::OnPageFault(KvmContext& context, uint32_t error) {
  Exit exit;
  exit.address = vcpu_->FaultAddress();
  exit.trap_number = kPageFault;
  exit.error_code = error;
  exit.access = (error & kFaultFetch)   ? AccessType::kExecute
                : (error & kFaultWrite) ? AccessType::kWrite
                                        : AccessType::kRead;
  if (error & kFaultKey) {
    Store(context);
    exit.reason = ExitReason::kException;
    exit.signo = SIGSEGV;
    exit.si_code = kSegvPkuErr;
    return exit;
  }
  const KvmAddressSpace::FaultOutcome outcome = context.as_->OnFault(exit.address, exit.access);
  if (outcome == KvmAddressSpace::FaultOutcome::kRetry) {
    // Another thread may have mapped it meanwhile, and taken it away again, now and then.
    same_faults_ = exit.address == last_fault_ ? same_faults_ + 1 : 0;
    last_fault_ = exit.address;
    if (same_faults_ == kManySameFaults) LOG_WARNING("kvm: a page that is mapped faults again and again (%x)", error);
    return std::nullopt;
  }
  Store(context);
  if (outcome == KvmAddressSpace::FaultOutcome::kForSentry) {
    exit.reason = ExitReason::kFault;
  } else {
    exit.reason = ExitReason::kException;
    exit.signo = SIGBUS;
    exit.si_code = kBusAdrErr;
  }
  return exit;
}

// The host has no memory behind a page of the guest. It does not say which; if a file has become shorter, the guest
// tells with its next fault.
std::optional<Exit> Cpu::OnMemoryFault(KvmContext& context) {
  if (context.as_->DropBeyondEnds()) return std::nullopt;
  const bool user = vcpu_->Extract(context.registers_);
  where_ = Where::kContext;
  Exit exit;
  if (!user) return exit;
  exit.reason = ExitReason::kException;
  exit.signo = SIGBUS;
  exit.si_code = kBusAdrErr;
  exit.address = context.registers_.rip;
  exit.trap_number = kPageFault;
  return exit;
}

// An I/O instruction, a halt: where the host does not check the privilege, ring 3 gets out with it. To the guest it is
// the fault that it should have been.
Exit Cpu::OnForeign(KvmContext& context) {
  Exit exit;
  const bool user = vcpu_->Extract(context.registers_);
  where_ = Where::kContext;
  if (!user) return exit;
  // The host has gone past an instruction that it carried out.
  Registers& r = context.registers_;
  std::byte code[2];
  if (context.as_->Peek(r.rip - 2, code) == 2) {
    const auto op = static_cast<uint8_t>(code[0]), last = static_cast<uint8_t>(code[1]);
    if ((op == 0xe6 || op == 0xe7) && last == RING0_GATE_PORT) {
      r.rip -= 2;
    } else if (last == 0xee || last == 0xef) {
      r.rip -= 1;
    }
  }
  exit.reason = ExitReason::kException;
  exit.signo = SIGSEGV;
  exit.si_code = SI_KERNEL;
  exit.trap_number = kProtection;
  return exit;
}

// As arch/x86/kernel/traps.c does it.
Exit Cpu::OnException(KvmContext& context, uint32_t vector, uint32_t error) {
  Store(context);
  Registers& r = context.registers_;
  Exit exit;
  exit.reason = ExitReason::kException;
  exit.trap_number = vector;
  exit.error_code = error;
  switch (vector) {
    case kDivide:
      exit.signo = SIGFPE;
      exit.si_code = FPE_INTDIV;
      exit.address = r.rip;
      break;
    case kDebug:
      exit.signo = SIGTRAP;
      exit.si_code = TRAP_TRACE;
      exit.address = r.rip;
      break;
    case kBreakpoint:
      exit.signo = SIGTRAP;
      exit.si_code = SI_KERNEL;
      break;
    case kInvalidOpcode: {
      // Some hosts make `int n` this, where the gate is not for ring 3. It is a general protection fault.
      std::byte code[2];
      if (context.as_->Peek(r.rip, code) == 2 && code[0] == std::byte{0xcd}) {
        exit.signo = SIGSEGV;
        exit.si_code = SI_KERNEL;
        exit.trap_number = kProtection;
        exit.error_code = static_cast<uint32_t>(code[1]) * 8 + 2;
        break;
      }
      exit.signo = SIGILL;
      exit.si_code = ILL_ILLOPN;
      exit.address = r.rip;
      break;
    }
    case kNotPresent:
    case kStack:
      exit.signo = SIGBUS;
      exit.si_code = SI_KERNEL;
      break;
    case kFloatingPoint:
    case kSimd:
      exit.signo = SIGFPE;
      exit.si_code = FloatingPointCode(context, vector == kSimd);
      exit.address = r.rip;
      break;
    case kAlignment:
      exit.signo = SIGBUS;
      exit.si_code = kBusAdrAln;
      break;
    case kProtection: {
      exit.signo = SIGSEGV;
      exit.si_code = SI_KERNEL;
      // A hypercall is an invalid opcode in ring 3 without a hypervisor; some hosts make it this (Machine::Create).
      // Differs from Linux: what the host's KVM answers itself is -EPERM in rax, for it does not ask anybody.
      std::byte code[3];
      if (context.as_->Peek(r.rip, code) == 3 && code[0] == std::byte{0x0f} && code[1] == std::byte{0x01} &&
          (code[2] == std::byte{0xc1} || code[2] == std::byte{0xd9})) {
        exit.signo = SIGILL;
        exit.si_code = ILL_ILLOPN;
        exit.address = r.rip;
        exit.trap_number = kInvalidOpcode;
      }
      break;
    }
    default:
      exit.signo = SIGSEGV;
      exit.si_code = SI_KERNEL;
      break;
  }
  return exit;
}

// fpu__exception_code of arch/x86/kernel/fpu/core.c.
int Cpu::FloatingPointCode(KvmContext& context, bool simd) {
  const auto area = context.XState();
  uint16_t control, status;
  uint32_t mxcsr;
  memcpy(&control, area.data(), 2);
  memcpy(&status, area.data() + 2, 2);
  memcpy(&mxcsr, area.data() + 24, 4);
  const uint32_t errors = simd ? mxcsr & ~(mxcsr >> 7) : static_cast<uint32_t>(status & ~control);
  if (errors & 0x01) return FPE_FLTINV;
  if (errors & 0x04) return FPE_FLTDIV;
  if (errors & 0x08) return FPE_FLTOVF;
  if (errors & 0x12) return FPE_FLTUND;
  if (errors & 0x20) return FPE_FLTRES;
  return 0;
}

}  // namespace platform::kvm
