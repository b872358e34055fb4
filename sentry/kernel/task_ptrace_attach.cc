// ptrace(2): the tie between a tracer and its tracee. (kernel/ptrace.c)
//
// A tie is made and undone with TaskSet::mu held. A tracer is a thread: other threads of its process may wait for its
// tracees, but only it may do anything to them, and they are free when it ends.
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/ptrace_access.h"
#include "sentry/kernel/task.h"

namespace sentry {

void ReapLocked(ThreadGroup& tg);  // task_exit.cc

void Task::LinkTracerLocked(Task& tracer, bool seized, uint32_t options, CredentialsRef creds) {
  ptrace_.tracer = &tracer;
  ptrace_.seized = seized;
  ptrace_.options = options;
  std::swap(ptrace_.tracer_creds, creds);
  tracer.ptrace_.tracees.push_back(this);
  SetSlowReason(kSlowTraced, true);
  // A platform that answers calls without us finds out when the thread comes to the guest the next time.
  KickForPause();
}

void Task::UnlinkTracerLocked() {
  if (ptrace_.tracer == nullptr) return;
  ptrace_.tracer->ptrace_.tracees.remove(this);
  ptrace_.tracer = nullptr;
  ptrace_.tracer_creds = nullptr;
  ptrace_.seized = false;
  ptrace_.options = 0;
  ptrace_.trace_calls = ptrace_.emulate_calls = ptrace_.step = false;
  SetSlowReason(kSlowTraced, false);
  KickForPause();
  {
    ThreadGroup& tg = *thread_group_;
    base::MutexLock sig(tg.handlers->mu);
    trap_stop_ = trap_notify_ = false;
    // A group stop that goes on takes the thread in again.
    if (tg.group_stopped && state() != 'Z' && !killed_) {
      stop_pending_ = true;
      if (stop_signal_ == 0) stop_signal_ = kSIGSTOP;
      Interrupt();
    }
  }
  if (ptrace_.stopped) ResumeTraceeLocked(ptrace_.resume_signal);
}

void Task::InheritTracerLocked(Task& parent) {
  const PtraceState& theirs = parent.ptrace_;
  if (theirs.tracer == nullptr) return;
  LinkTracerLocked(*theirs.tracer, theirs.seized, theirs.options, theirs.tracer_creds);
  // Its first stop (kernel: ptrace_init_task). Nobody else knows the task yet, but the lock is cheap.
  base::MutexLock sig(thread_group_->handlers->mu);
  if (theirs.seized) {
    trap_stop_ = true;
  } else {
    pending_.Push({KernelSignal(kSIGSTOP), nullptr});
  }
  interrupted_.store(true, std::memory_order_seq_cst);
}

bool Task::ptrace_reparented() const {
  return ptrace_.tracer != nullptr && &ptrace_.tracer->thread_group() != thread_group_->parent;
}

bool Task::WatchedWithoutCapability() const {
  if (!traced()) return false;
  base::MutexLock tree(kernel_.tasks().mu);
  return ptrace_.tracer != nullptr && !ptrace_.tracer_creds->Capable(CAP_SYS_PTRACE);
}

Result<void> Task::PtraceTraceMe() {
  // A debugger sees and steps the program as it is.
  mm_->RestoreText();
  base::MutexLock tree(kernel_.tasks().mu);
  ThreadGroup* parent = thread_group_->parent;
  if (ptrace_.tracer != nullptr || parent == nullptr) return Errno(EPERM);
  // The parent is the thread that forked; when that has gone, another one of its process.
  Task* tracer = thread_group_->parent_task;
  for (Task* t : parent->tasks) {
    if (tracer == nullptr && t->state() != 'Z') tracer = t;
  }
  if (tracer == nullptr || tracer->state() == 'Z') return Errno(EPERM);
  // cap_ptrace_traceme: the parent must not gain anything.
  CredentialsRef theirs = tracer->SnapshotCreds();
  if ((creds_->permitted & ~theirs->permitted) != 0 && !theirs->Capable(CAP_SYS_PTRACE)) return Errno(EPERM);
  LinkTracerLocked(*tracer, /*seized=*/false, /*options=*/0, theirs);
  return {};
}

Result<void> Task::PtraceAttach(Task& target, bool seize, uint32_t options) {
  if (target.thread_group_ == thread_group_) return Errno(EPERM);
  TRY(CheckPtraceAccess(*this, target));
  base::WaitEntry entry(base::kEventIn);
  base::ScopedWait wait(thread_group_->child_events, entry);
  bool was_stopped = false;
  {
    base::MutexLock tree(kernel_.tasks().mu);
    if (target.state() == 'Z' || target.ptrace_.tracer != nullptr) return Errno(EPERM);
    target.LinkTracerLocked(*this, seize, options, creds_);
    if (!seize) (void)target.SendSignalLocked(KernelSignal(kSIGSTOP));
    base::MutexLock sig(target.thread_group_->handlers->mu);
    if (target.stopped_) {
      // From a group stop into a stop for its tracer.
      was_stopped = true;
      target.stopped_ = false;
      target.trap_stop_ = true;
      target.Interrupt();
    }
  }
  // A tracer that waits with WNOHANG must find it stopped (kernel: JOBCTL_TRAPPING).
  while (was_stopped) {
    {
      base::MutexLock tree(kernel_.tasks().mu);
      if (target.ptrace_.tracer != this || target.ptrace_.stopped || target.state() == 'Z' || fatal_pending_) break;
    }
    base::Fiber::Park();
  }
  // A debugger sees and steps the program as it is. (One that is executed meanwhile: Exec looks whether it is traced.)
  if (RefPtr<MemoryManager> mm = target.SnapshotMm()) mm->RestoreText();
  return {};
}

void Task::DetachAllLocked() {
  while (!ptrace_.tracees.empty()) {
    Task* tracee = ptrace_.tracees.front();
    ThreadGroup& tg = *tracee->thread_group_;
    if (tracee->ptrace_.options & kPtraceExitKill) (void)SendGroupSignalLocked(tg, KernelSignal(kSIGKILL));
    const bool reparented = tracee->ptrace_reparented();
    // A signal that the tracer has not waited for is delivered.
    PtraceState& p = tracee->ptrace_;
    if (p.stopped && p.has_info && p.code == p.info.si_signo) p.resume_signal = p.code;
    tracee->UnlinkTracerLocked();
    // What its tracer never reaped (kernel: __ptrace_detach).
    if (tracee->ptrace_.exited) {
      ReleaseThreadLocked(*tracee);
    } else if (tg.zombie && tg.leader == tracee) {
      if (reparented) {
        NotifyRealParentLocked(tg);
      } else {
        bool ignoring;
        {
          base::MutexLock sig(thread_group_->handlers->mu);
          const abi::KSigaction& action = thread_group_->handlers->actions[kSIGCHLD - 1];
          ignoring = action.handler == kSigIgn || (action.flags & kSaNoCldWait);
        }
        if (ignoring) ReapLocked(tg);
      }
    }
  }
}

}  // namespace sentry
