#include "sentry/kernel/tracee.h"

#include <algorithm>

#include "sentry/arch/syscall_args.h"
#include "sentry/kernel/kernel.h"

namespace sentry {

Result<void> CheckPtraceOptions(const Task& tracer, uint64_t options) {
  if (options & ~uint64_t{kPtraceOptions}) return Errno(EINVAL);
  // One that is confined itself must not free another (kernel: check_ptrace_options).
  if ((options & kPtraceSuspendSeccomp) && (!tracer.Capable(CAP_SYS_ADMIN) || tracer.seccomp_mode() != 0)) {
    return Errno(EPERM);
  }
  return {};
}

Result<void> Tracee::CheckLocked(bool stopped) const {
  const PtraceState& p = task_.ptrace_;
  if (p.tracer != &tracer_) return Errno(ESRCH);
  if (stopped && (!p.stopped || p.listening || task_.fatal_pending_)) return Errno(ESRCH);
  return {};
}

Result<void> Tracee::Send(std::function<void(Task&)> errand) {
  PtraceErrand e;
  e.run = std::move(errand);
  e.waiter = base::RefPtr<base::Fiber>(base::Fiber::Current());
  {
    base::MutexLock tree(tracer_.kernel().tasks().mu);
    TRY(CheckLocked());
    task_.ptrace_.errand = &e;
    if (task_.fiber_) task_.fiber_->Unpark();
  }
  // Not interruptible: a stopped tracee is at it at once, and a killed one says so.
  for (;;) {
    {
      base::MutexLock tree(tracer_.kernel().tasks().mu);
      if (e.done) break;
    }
    base::Fiber::Park();
  }
  return e.failed ? Result<void>(Errno(ESRCH)) : Result<void>();
}

Result<void> Tracee::Go(Resume how, bool step, uint64_t signo) {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  if (signo > kSignals) return Errno(EIO);
  PtraceState& p = task_.ptrace_;
  p.trace_calls = how == Resume::kSystemCalls;
  p.emulate_calls = how == Resume::kEmulateCalls;
  p.step = step;
  task_.ResumeTraceeLocked(static_cast<int>(signo));
  return {};
}

Result<void> Tracee::Detach(uint64_t signo) {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  if (signo > kSignals) return Errno(EIO);
  task_.ptrace_.resume_signal = static_cast<int>(signo);
  task_.UnlinkTracerLocked();
  return {};
}

Result<void> Tracee::Kill() {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked(/*stopped=*/false));
  return task_.SendSignalLocked(UserSignal(kSIGKILL, tracer_.thread_group().pid(), tracer_.creds().ruid));
}

Result<void> Tracee::Interrupt() {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked(/*stopped=*/false));
  if (!task_.ptrace_.seized) return Errno(EIO);
  if (task_.state() == 'Z') return {};
  base::MutexLock sig(task_.thread_group().handlers->mu);
  task_.trap_stop_ = true;
  task_.Interrupt();
  return {};
}

Result<void> Tracee::Listen() {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  PtraceState& p = task_.ptrace_;
  if (!p.seized || !p.has_info || p.info.si_code >> 8 != static_cast<int>(PtraceEvent::kStop)) return Errno(EIO);
  p.listening = true;
  if (task_.fiber_) task_.fiber_->Unpark();  // something may have happened since it stopped
  return {};
}

Result<void> Tracee::SetOptions(uint64_t options) {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  TRY(CheckPtraceOptions(tracer_, options));
  task_.ptrace_.options = static_cast<uint32_t>(options);
  return {};
}

Result<uint64_t> Tracee::EventMessage() {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  return task_.ptrace_.message;
}

Result<SignalInfo> Tracee::GetSignalInfo() {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  if (!task_.ptrace_.has_info) return Errno(EINVAL);
  return task_.ptrace_.info;
}

Result<void> Tracee::SetSignalInfo(const SignalInfo& info) {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  if (!task_.ptrace_.has_info) return Errno(EINVAL);
  task_.ptrace_.info = info;
  return {};
}

Result<SignalSet> Tracee::GetSignalMask() {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  return task_.saved_mask_ ? *task_.saved_mask_ : task_.blocked();
}

Result<void> Tracee::SetSignalMask(SignalSet mask) {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  base::MutexLock sig(task_.thread_group().handlers->mu);
  task_.blocked_.store(mask.Without(kUnblockable).bits(), std::memory_order_seq_cst);
  task_.saved_mask_.reset();
  task_.RecalculateInterruptedLocked();
  return {};
}

Result<std::vector<SignalInfo>> Tracee::PeekSignals(uint64_t offset, size_t count, bool shared) {
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  base::MutexLock sig(task_.thread_group().handlers->mu);
  return (shared ? task_.thread_group().pending : task_.pending_).Peek(offset, count);
}

Result<size_t> Tracee::GetSyscallInfo(PtraceSyscallInfo& info) {
  enum : uint8_t { kNone, kEntry, kExit, kSeccomp };
  constexpr size_t kHead = offsetof(PtraceSyscallInfo, entry);
  base::MutexLock tree(tracer_.kernel().tasks().mu);
  TRY(CheckLocked());
  const PtraceState& p = task_.ptrace_;
  const platform::Registers& regs = task_.registers();
  info.arch = arch::kAuditArch;
  info.instruction_pointer = regs.rip;
  info.stack_pointer = regs.rsp;
  // Without PTRACE_O_TRACESYSGOOD nobody can tell a system call's stop from others (kernel: ptrace_get_syscall_info).
  const int stop = p.has_info ? p.info.si_code : 0;
  const bool seccomp = stop == (kSIGTRAP | static_cast<int>(PtraceEvent::kSeccomp) << 8);
  const std::array<uint64_t, 6> args = arch::SyscallArgs(regs);
  if (seccomp) {
    info.op = kSeccomp;
    info.entry.nr = regs.orig_rax;
    std::copy(args.begin(), args.end(), info.entry.args);
    info.words[7] = static_cast<uint32_t>(p.message);
    return kHead + sizeof(info.entry) + sizeof(uint32_t);
  }
  if (stop != (kSIGTRAP | 0x80)) return kHead;
  if (p.message == kPtraceSyscallEntry) {
    info.op = kEntry;
    info.entry.nr = regs.orig_rax;
    std::copy(args.begin(), args.end(), info.entry.args);
    return kHead + sizeof(info.entry);
  }
  if (p.message == kPtraceSyscallExit) {
    info.op = kExit;
    info.exit.rval = static_cast<int64_t>(regs.rax);
    info.exit.is_error = info.exit.rval < 0 && info.exit.rval >= -4095;
    return kHead + offsetof(decltype(info.exit), is_error) + sizeof(info.exit.is_error);
  }
  return kHead;
}

}  // namespace sentry
