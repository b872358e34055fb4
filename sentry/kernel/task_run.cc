// The life of a guest thread: to the guest, back, serve, signals, again.
#include <algorithm>

#include "base/logging.h"
#include "base/time.h"
#include "platform/sync.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {
// What debuggers and the restart rules see of a thread that is not in a system call.
constexpr uint64_t kNoSystemCall = ~uint64_t{0};
constexpr int kTrapTrace = 2;  // TRAP_TRACE
}  // namespace

Task* Task::Current() {
  base::Fiber* fiber = base::Fiber::Current();
  return fiber == nullptr ? nullptr : static_cast<Task*>(fiber->user_data());
}

void Task::Start() {
  Ref();  // the fiber's
  base::Fiber::Options options;
  options.name = "task";
  fiber_ = base::Fiber::Spawn(kernel_.scheduler(), options, [this] {
    base::Fiber::Current()->set_user_data(this);
    Run();
    base::Fiber::Current()->set_user_data(nullptr);
    Unref();
  });
}

void Task::Run() {
  while (RunOnce()) {
  }
  CountSystemTime(base::MonotonicNow());
  ExitMain();
}

bool Task::RunOnce() {
  WaitWhilePaused();
  if (exiting_) return false;
  if (interrupted_.load(std::memory_order_acquire) || in_syscall_ || saved_mask_) {
    CountSystemTime(base::MonotonicNow());  // it may stop now
    if (!HandleInterruptions()) return false;
  }
  const bool lends = context_->KeepsSignalMask();
  if (lends) LendMask();
  // Dekker: publish that we go to the guest, then look for interruptions once more; a sender does the reverse.
  in_guest_.store(true, std::memory_order_seq_cst);
  if (interrupted_.load(std::memory_order_seq_cst) || kernel_.paused() || mm_->text_changing()) {
    in_guest_.store(false, std::memory_order_relaxed);
    if (mm_->text_changing()) mm_->WaitForText();
    return true;
  }
  if (answers_stale_.load(std::memory_order_seq_cst)) UpdateAnswers();
  if (const bool step = ptrace_.step.load(std::memory_order_relaxed); step || stepping_) {
    context_->SetSingleStep(step);
    stepping_ = step;
  }
  const int64_t start = base::MonotonicNow();
  CountSystemTime(start);
  guest_since_.store(start, std::memory_order_relaxed);
  platform::Exit exit = platform::Run(*context_, mm_->address_space());
  guest_since_.store(0, std::memory_order_relaxed);
  if (lends) ReturnMask(exit);
  const bool was_beside =
      exit.reason != platform::ExitReason::kSystemCall && mm_->text_patched() && mm_->ShowOriginal(registers(), exit);
  in_guest_.store(false, std::memory_order_release);
  int64_t end = base::MonotonicNow();
  CountUserTime(end - start, exit.slept);

  switch (exit.reason) {
    case platform::ExitReason::kSystemCall:
      system_since_ = end;
      parked_ns_ = 0;
      if (exit.trapped) mm_->NoteTrap(registers().rip, registers().orig_rax);
      ServeSystemCall();
      break;
    case platform::ExitReason::kFault:
      registers().orig_rax = kNoSystemCall;
      ServeFault(exit);
      break;
    case platform::ExitReason::kException: {
      registers().orig_rax = kNoSystemCall;
      if (was_beside && exit.signo == kSIGTRAP && exit.si_code == kTrapTrace) {
        // A program that steps itself has stepped on a jump of ours, would do so for ever, and has not seen it yet.
        mm_->RestoreText();
        break;
      }
      SignalInfo info{};
      info.si_signo = exit.signo;
      info.si_code = exit.si_code;
      info.fault.addr = exit.address;
      trap_number_ = exit.trap_number;
      trap_error_code_ = exit.error_code;
      ForceSignal(info);
      break;
    }
    case platform::ExitReason::kInterrupted:
      registers().orig_rax = kNoSystemCall;
      break;
    case platform::ExitReason::kDead: {
      // The host killed the stub (out of memory): the whole process goes, as if the guest's OOM killer had chosen it.
      LOG_WARNING("guest thread %d died on the host; its process is killed", tid());
      base::MutexLock tree(kernel_.tasks().mu);
      (void)SendGroupSignalLocked(*thread_group_, KernelSignal(kSIGKILL));
      break;
    }
  }
  if (base::Fiber::AtGuestBoundary()) {
    CountSystemTime(base::MonotonicNow());
    base::Fiber::Yield();
  }
  return !exiting_;
}

void Task::CountUserTime(int64_t ns, bool slept) {
  if (slept) {
    // A part of the time was not spent computing: what the CPU clock says, less what was counted since it was asked.
    const int64_t cpu_ns = context_->CpuTimeNs();
    ns = std::clamp<int64_t>(cpu_ns - cpu_seen_ns_ - counted_ns_, 0, ns);
    cpu_seen_ns_ = cpu_ns;
    counted_ns_ = 0;
  } else {
    counted_ns_ += ns;
  }
  user_ns_.fetch_add(ns, std::memory_order_relaxed);
}

void Task::CountSystemTime(int64_t now) {
  if (system_since_ == 0) return;
  system_ns_.fetch_add(std::max<int64_t>(now - system_since_ - parked_ns_, 0), std::memory_order_relaxed);
  system_since_ = 0;
}

void Task::ServeSystemCall() {
  // The tracer comes before seccomp, which sees what the tracer has made of the call.
  if (!NeedsSlowSyscalls() || PtraceSyscallEntry()) MakeSystemCall();
  if (NeedsSlowSyscalls() && !exiting_) PtraceSyscallExit();
}

void Task::MakeSystemCall() {
  const platform::Registers& regs = registers();
  if (seccomp_mode() != 0 && !PtraceSuspendsSeccomp()) {
    if (std::optional<Result<int64_t>> result = RunSeccomp()) {
      if (exiting_) return;
      if (result->ok()) {
        registers().rax = static_cast<uint64_t>(**result);
      } else {
        FinishSystemCall(regs.orig_rax, *result);
      }
      return;
    }
  }
  // Changed to −1 by a tracer it is none: rax is what the tracer has put there.
  const uint64_t number = regs.orig_rax;
  if (static_cast<int32_t>(number) == -1 && traced()) return;
  const uint64_t args[6] = {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9};
  Result<int64_t> result = kernel_.system_call_handler()(*this, number, args);
  if (!exiting_) FinishSystemCall(number, result);
}

void Task::FinishSystemCall(uint64_t number, const Result<int64_t>& result) {
  if (kernel_.async_signals().pending()) kernel_.async_signals().Send();
  if (result.ok()) {
    // rt_sigreturn leaves rax as it has to be.
    if (number != SYS_rt_sigreturn) registers().rax = static_cast<uint64_t>(*result);
    return;
  }
  const int error = result.error().value();
  registers().rax = static_cast<uint64_t>(-static_cast<int64_t>(error));
  // A restart code has to be resolved before the guest sees it; a signal that is pending as well decides how.
  in_syscall_ = error >= base::ERESTARTSYS_ && error <= base::ERESTART_RESTARTBLOCK_;
}

void Task::ServeFault(const platform::Exit& exit) {
  minor_faults_.fetch_add(1, std::memory_order_relaxed);
  std::optional<FaultSignal> signal = mm_->HandleFault(exit.address, exit.access, mm_limits());
  if (!signal) return;
  SignalInfo info{};
  info.si_signo = signal->signo;
  info.si_code = signal->si_code;
  info.fault.addr = exit.address;
  trap_number_ = exit.trap_number;
  trap_error_code_ = exit.error_code;
  trap_address_ = exit.address;
  LOG_DEBUG("[%d] fault at %#lx (access %d, rip %#lx): signal %d", tid(), exit.address, static_cast<int>(exit.access),
            registers().rip, signal->signo);
  ForceSignal(info);
}

}  // namespace sentry
