// ptrace(2), the tracee's side: where a thread stops for its tracer. (kernel/signal.c ptrace_stop, ptrace_signal,
// do_jobctl_trap; include/linux/ptrace.h; man 2 ptrace)
//
// A stop is entered, ended by the tracer, and looked at with TaskSet::mu held. While it lasts the fiber waits here, and
// the registers belong to whoever holds that lock.
#include "base/errno.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

constexpr int kTrapBrkpt = 1;  // TRAP_BRKPT

int EventCode(PtraceEvent event) { return kSIGTRAP | static_cast<int>(event) << 8; }

}  // namespace

void Task::NoteRestart() {
  const platform::Registers& regs = registers();
  const int64_t rax = static_cast<int64_t>(regs.rax);
  const bool code = rax == -base::ERESTARTSYS_ || rax == -base::ERESTARTNOINTR_ || rax == -base::ERESTARTNOHAND_ ||
                    rax == -base::ERESTART_RESTARTBLOCK_;
  in_syscall_ = code && static_cast<int32_t>(regs.orig_rax) != -1;
}

int Task::PtraceStop(int code, int why, uint64_t message, SignalInfo* info, int otherwise) {
  int result = otherwise;
  bool group_stop_complete = false;
  PtraceState& p = ptrace_;
  {
    base::MutexLock tree(kernel_.tasks().mu);
    // A tracer that is being killed lets go of it soon; two that trace each other would wait for ever.
    if (p.tracer == nullptr || fatal_pending_ || p.tracer->killed_) {
      // Without a tracer nobody would clear these.
      base::MutexLock sig(thread_group_->handlers->mu);
      trap_stop_ = trap_notify_ = false;
      return otherwise;
    }
    {
      base::MutexLock sig(thread_group_->handlers->mu);
      if (why == kCldStopped && stop_pending_) group_stop_complete = ParticipateInGroupStopLocked();
      // Any trap is as good as the one that was asked for; a PTRACE_EVENT_STOP also tells of changes.
      trap_stop_ = false;
      if (info != nullptr && info->si_code >> 8 == static_cast<int>(PtraceEvent::kStop)) trap_notify_ = false;
    }
    p.stopped = true;
    p.listening = false;
    p.code = code;
    p.message = message;
    p.has_info = info != nullptr;
    if (info != nullptr) p.info = *info;
    p.resume_signal = 0;
    state_.store('t', std::memory_order_relaxed);
    NotifyTracerLocked(why);
    if (group_stop_complete && ptrace_reparented() && thread_group_->parent != nullptr) {
      thread_group_->parent->child_events.Notify(base::kEventIn);
    }
  }
  if (group_stop_complete) thread_group_->NotifyParentStopped(/*stopped=*/true);
  for (;;) {
    PtraceErrand* errand = nullptr;
    {
      base::MutexLock tree(kernel_.tasks().mu);
      bool again = fatal_pending_;
      {
        base::MutexLock sig(thread_group_->handlers->mu);
        if (p.listening && (trap_stop_ || trap_notify_)) again = true;
      }
      if (!p.stopped || again) {
        p.stopped = p.listening = false;
        p.code = 0;
        if (p.errand != nullptr) {
          p.errand->done = p.errand->failed = true;
          p.errand->waiter->Unpark();
          p.errand = nullptr;
        }
        result = p.resume_signal;
        p.resume_signal = 0;
        if (info != nullptr) *info = p.info;
        p.has_info = false;
        break;
      }
      errand = p.errand;
      if (errand != nullptr) errand->taken = true;
    }
    if (errand != nullptr) {
      errand->run(*this);
      base::MutexLock tree(kernel_.tasks().mu);
      p.errand = nullptr;
      errand->done = true;
      errand->waiter->Unpark();
      continue;
    }
    base::Fiber::Park();
  }
  state_.store('R', std::memory_order_relaxed);
  {
    base::MutexLock sig(thread_group_->handlers->mu);
    RecalculateInterruptedLocked();
  }
  NoteRestart();
  return result;
}

int Task::PtraceNotify(int code, int why, uint64_t message) {
  SignalInfo info = UserSignal(code & 0x7f, tid(), creds_->ruid, code);
  return PtraceStop(code, why, message, &info, 0);
}

bool Task::PtraceEventEnabled(PtraceEvent event) const {
  if (!traced()) return false;
  base::MutexLock tree(kernel_.tasks().mu);
  return ptrace_.tracer != nullptr && (ptrace_.options & (1u << static_cast<int>(event)));
}

void Task::PtraceReport(PtraceEvent event, uint64_t message) {
  if (!PtraceEventEnabled(event)) return;
  (void)PtraceNotify(EventCode(event), kCldTrapped, message);
}

bool Task::PtraceSuspendsSeccomp() const {
  if (!traced()) return false;
  base::MutexLock tree(kernel_.tasks().mu);
  return ptrace_.tracer != nullptr && (ptrace_.options & kPtraceSuspendSeccomp);
}

bool Task::StopForSeccompTrace(uint16_t data) {
  if (!PtraceEventEnabled(PtraceEvent::kSeccomp)) return false;
  PtraceReport(PtraceEvent::kSeccomp, data);
  return true;
}

int Task::PtraceTrap() {
  bool seized;
  int signo;
  {
    base::MutexLock tree(kernel_.tasks().mu);
    base::MutexLock sig(thread_group_->handlers->mu);
    seized = ptrace_.seized;
    signo = stop_signal_ != 0 ? stop_signal_ : kSIGSTOP;
    if (seized && !thread_group_->group_stopped) signo = kSIGTRAP;
  }
  if (seized) return PtraceNotify(signo | static_cast<int>(PtraceEvent::kStop) << 8, kCldStopped, 0);
  return PtraceStop(signo, kCldStopped, 0, nullptr, 0);
}

int Task::PtraceSignal(QueuedSignal& queued) {
  SignalInfo& info = queued.info;
  const int signo = PtraceStop(info.si_signo, kCldTrapped, 0, &info, info.si_signo);
  if (signo == 0) return 0;
  base::MutexLock tree(kernel_.tasks().mu);
  if (signo != info.si_signo) {
    const Task* tracer = ptrace_.tracer;
    info = UserSignal(signo, tracer != nullptr ? tracer->TidIn(pid_namespace()) : 0,
                      tracer != nullptr ? tracer->SnapshotCreds()->ruid : 0);
  }
  // One that the thread blocks now waits until it does not.
  if (blocked().Has(signo) || fatal_pending_) {
    (void)SendSignalLocked(info);
    return 0;
  }
  return signo;
}

bool Task::PtraceSyscallEntry() {
  const bool emulate = ptrace_.emulate_calls.load(std::memory_order_relaxed);
  if (!emulate && !ptrace_.trace_calls.load(std::memory_order_relaxed)) return true;
  PtraceReportSyscall(kPtraceSyscallEntry);
  if (emulate) return false;
  base::MutexLock tree(kernel_.tasks().mu);
  return !fatal_pending_;
}

void Task::PtraceSyscallExit() {
  if (ptrace_.emulate_calls.load(std::memory_order_relaxed)) return;
  if (ptrace_.step.load(std::memory_order_relaxed)) {
    // Stepping over a system call ends behind it (kernel: user_single_step_report).
    SignalInfo info{};
    info.si_signo = kSIGTRAP;
    info.si_code = kTrapBrkpt;
    info.fault.addr = registers().rip;
    ForceSignal(info);
    return;
  }
  if (!ptrace_.trace_calls.load(std::memory_order_relaxed)) return;
  PtraceReportSyscall(kPtraceSyscallExit);
}

void Task::PtraceReportSyscall(uint64_t message) {
  int code = kSIGTRAP;
  {
    base::MutexLock tree(kernel_.tasks().mu);
    if (ptrace_.tracer == nullptr) return;
    if (ptrace_.options & kPtraceSysGood) code |= 0x80;
  }
  const int signo = PtraceNotify(code, kCldTrapped, message);
  if (signo != 0) (void)SendSignal(KernelSignal(signo));
}

void Task::NotifyTracerLocked(int why) {
  ThreadGroup& theirs = ptrace_.tracer->thread_group();
  bool quiet;
  {
    base::MutexLock sig(theirs.handlers->mu);
    const abi::KSigaction& action = theirs.handlers->actions[kSIGCHLD - 1];
    quiet = action.handler == kSigIgn || (action.flags & kSaNoCldStop);
  }
  if (!quiet) {
    SignalInfo info{};
    info.si_signo = kSIGCHLD;
    info.si_code = why;
    info.chld.pid = TidIn(theirs.pid_namespace());
    info.chld.uid = SnapshotCreds()->ruid;
    info.chld.status = ptrace_.code & 0x7f;
    if (why == kCldStopped) info.chld.status = thread_group_->group_stopped ? thread_group_->group_stop_signal : 0;
    (void)SendGroupSignalLocked(theirs, info);
  }
  theirs.child_events.Notify(base::kEventIn);
}

void Task::ResumeTraceeLocked(int signo) {
  ptrace_.resume_signal = signo;
  ptrace_.code = 0;
  ptrace_.stopped = ptrace_.listening = false;
  if (fiber_) fiber_->Unpark();
}

}  // namespace sentry
