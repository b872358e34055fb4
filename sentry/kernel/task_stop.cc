// Group stops: SIGSTOP, SIGTSTP and their like stop every thread of a process, SIGCONT lets them go on.
// (kernel/signal.c, do_signal_stop)
//
// A stop begins with stop_pending_ in every thread, and is complete when each has taken it up. A thread without a
// tracer then waits here; one with a tracer stops for it (PtraceTrap) and goes on when the tracer says so, whatever the
// group does.
#include <algorithm>

#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

void Task::BeginGroupStop(int signo) {
  base::MutexLock tree(kernel_.tasks().mu);
  ThreadGroup& tg = *thread_group_;
  // An orphaned process group is not stopped from the keyboard (man 2 setpgid): nobody could continue it.
  if (signo != kSIGSTOP && tg.process_group->IsOrphaned()) return;
  base::MutexLock sig(tg.handlers->mu);
  // A SIGCONT that came after the signal was taken cancels it.
  if (!stop_dequeued_ || tg.group_exiting || tg.exec_task != nullptr || stop_pending_) return;
  // A tracer may have let a thread of a stopped group run, which may stop the group once more.
  if (!tg.group_stop_complete) tg.group_stop_signal = signo;
  tg.group_stopped = true;
  tg.continue_reported_pending = false;
  for (Task* t : tg.tasks) {
    if (t->stopped_ || t->state() == 'Z') continue;
    t->stop_pending_ = true;
    t->stop_signal_ = signo;
    if (t == this) continue;
    if (t->ptrace_.seized && t->traced()) t->trap_notify_ = true;
    t->Interrupt();
  }
  interrupted_.store(true, std::memory_order_seq_cst);
}

bool Task::ParticipateInGroupStopLocked() {
  ThreadGroup& tg = *thread_group_;
  stop_pending_ = false;
  if (!tg.group_stopped || tg.group_stop_complete) return false;
  if (std::any_of(tg.tasks.begin(), tg.tasks.end(), [](Task* t) { return t->stop_pending_ && t->state() != 'Z'; })) {
    return false;
  }
  tg.group_stop_complete = true;
  tg.stop_reported_pending = true;
  tg.stop_notify_due = true;
  tg.stop_signal_reported = tg.group_stop_signal;
  return true;
}

void Task::WaitWhileStopped() {
  for (;;) {
    {
      base::MutexLock sig(thread_group_->handlers->mu);
      if (!stop_pending_ && !trap_stop_ && !trap_notify_) return;
    }
    bool trap = false;
    {
      base::MutexLock tree(kernel_.tasks().mu);
      ThreadGroup& tg = *thread_group_;
      base::MutexLock sig(tg.handlers->mu);
      if (killed_) return;
      if (traced()) {
        if (!tg.group_stopped) stop_pending_ = false;
        if (stop_pending_) trap_stop_ = true;
        if (!trap_stop_ && !trap_notify_) return;
        trap = true;
      } else {
        trap_stop_ = trap_notify_ = false;
        if (!tg.group_stopped) stop_pending_ = false;  // something has ended the stop: execve, the end of the process
        if (!stop_pending_) return;
        stopped_ = true;
        state_.store('T', std::memory_order_relaxed);
        if (ParticipateInGroupStopLocked() && tg.parent != nullptr) tg.parent->child_events.Notify(base::kEventIn);
      }
    }
    if (trap) {
      PtraceTrap();
      continue;
    }
    thread_group_->NotifyParentStopped(/*stopped=*/true);
    for (;;) {
      {
        // SIGCONT and PTRACE_ATTACH clear stopped_.
        base::MutexLock sig(thread_group_->handlers->mu);
        if (!stopped_ || killed_) {
          stopped_ = false;
          break;
        }
      }
      base::Fiber::Park();
    }
    state_.store('R', std::memory_order_relaxed);
    thread_group_->NotifyParentStopped(/*stopped=*/false);
  }
}

void ThreadGroup::NotifyParentStopped(bool stopped) {
  base::MutexLock tree(kernel_.tasks().mu);
  if (parent == nullptr || leader == nullptr) return;
  bool& due = stopped ? stop_notify_due : continue_notify_due;
  if (!due) return;  // another thread has told it
  due = false;
  // A parent that traces its child learns of the stop as its tracer.
  const Task* tracer = leader->ptrace_state().tracer;
  if (stopped && tracer != nullptr && &tracer->thread_group() == parent) return;
  bool no_cldstop;
  {
    base::MutexLock sig(parent->handlers->mu);
    no_cldstop = parent->handlers->actions[kSIGCHLD - 1].flags & kSaNoCldStop;
  }
  if (!no_cldstop) {
    SignalInfo info{};
    info.si_signo = kSIGCHLD;
    info.si_code = stopped ? kCldStopped : kCldContinued;
    info.chld.pid = leader->TidIn(parent->pid_namespace());
    info.chld.uid = leader->SnapshotCreds()->ruid;
    info.chld.status = stopped ? stop_signal_reported : kSIGCONT;
    (void)Task::SendGroupSignalLocked(*parent, info);
  }
  parent->child_events.Notify(base::kEventIn);
}

}  // namespace sentry
