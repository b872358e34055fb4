// wait4(2), waitid(2).
#include <sys/wait.h>

#include "base/time.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

void ReapLocked(ThreadGroup& tg);  // task_exit.cc

namespace {

constexpr uint32_t kWNoThread = 0x20000000, kWAll = 0x40000000, kWClone = 0x80000000;

// `task` is a child's leader, or a tracee.
bool IsNamed(const WaitRequest& request, const Task& task, Task& waiter) {
  ThreadGroup& tg = task.thread_group();
  switch (request.who) {
    case WaitRequest::Who::kAny:
      return true;
    case WaitRequest::Who::kPid:
      return task.TidIn(waiter.pid_namespace()) == request.id;
    case WaitRequest::Who::kProcessGroup: {
      const ProcessGroup* group = tg.process_group.get();
      if (group == nullptr) return false;
      return request.id == 0 ? group == waiter.thread_group().process_group.get()
                             : group->IdIn(waiter.pid_namespace()) == request.id;
    }
    case WaitRequest::Who::kPidfdGroup:
      return &tg == request.pidfd_target && tg.leader == &task;
  }
  return false;
}

bool IsWaitedFor(const WaitRequest& request, const ThreadGroup& child, Task& waiter) {
  if (child.leader == nullptr || !IsNamed(request, *child.leader, waiter)) return false;
  if ((request.options & kWNoThread) && child.parent_task != &waiter) return false;
  // man 2 wait: a "clone" child is one that delivers no signal, or another than SIGCHLD, at its end.
  if (request.options & kWAll) return true;
  bool clone_child = child.exit_signal != kSIGCHLD;
  return clone_child == ((request.options & kWClone) != 0);
}

WaitOutcome Identify(const Task& task, const Task& waiter) {
  WaitOutcome out;
  out.pid = task.TidIn(waiter.pid_namespace());
  out.uid = task.SnapshotCreds()->ruid;
  return out;
}

void SetExit(WaitOutcome& out, int status) {
  out.status = status;
  out.code = ChildCode(status);
  out.value = (status & 0x7f) ? (status & 0x7f) : (status >> 8) & 0xff;
}

// Stopped or continued by job control.
bool TakeJobControl(const WaitRequest& request, ThreadGroup& child, bool stops, WaitOutcome& out) {
  if (stops && (request.options & WSTOPPED) && child.stop_reported_pending) {
    out.status = (child.stop_signal_reported << 8) | 0x7f;
    out.code = kCldStopped;
    out.value = child.stop_signal_reported;
    if (!(request.options & WNOWAIT)) child.stop_reported_pending = false;
  } else if ((request.options & WCONTINUED) && child.continue_reported_pending) {
    out.status = 0xffff;
    out.code = kCldContinued;
    out.value = kSIGCONT;
    if (!(request.options & WNOWAIT)) child.continue_reported_pending = false;
  } else {
    return false;
  }
  out.usage = child.TotalUsageLocked();
  return true;
}

}  // namespace

// What this thread traces, whoever's child it is; the kind of child does not matter (kernel: eligible_child).
bool Task::WaitForTracees(const WaitRequest& request, bool& any, WaitOutcome& out) {
  for (Task* tracer : thread_group_->tasks) {
    if ((request.options & kWNoThread) && tracer != this) continue;
    for (Task* tracee : tracer->ptrace_.tracees) {
      if (!IsNamed(request, *tracee, *this)) continue;
      any = true;
      out = Identify(*tracee, *this);
      ThreadGroup& tg = *tracee->thread_group_;
      PtraceState& p = tracee->ptrace_;
      const bool process = tg.leader == tracee && tg.zombie;
      if (p.exited || process) {
        if (!(request.options & WEXITED)) continue;
        const bool keep = request.options & WNOWAIT;
        if (!process) {
          base::MutexLock sig(tg.handlers->mu);
          SetExit(out, tg.group_exiting ? tg.group_exit_status : tracee->exit_status_);
          out.usage = tracee->usage();
        } else {
          SetExit(out, tg.wait_status);
          out.usage = tg.dead_threads_usage;
          out.usage.Add(tg.children_usage);
        }
        if (keep) return true;
        if (!process) {
          ReleaseThreadLocked(*tracee);
        } else if (tracee->ptrace_reparented()) {
          tracee->UnlinkTracerLocked();
          NotifyRealParentLocked(tg);
        } else {
          thread_group_->children_usage.Add(out.usage);
          ReapLocked(tg);
        }
        return true;
      }
      if (p.stopped && !p.listening && p.code != 0) {
        out.status = (p.code << 8) | 0x7f;
        out.code = kCldTrapped;
        out.value = p.code;
        out.usage = tracee->usage();
        if (!(request.options & WNOWAIT)) p.code = 0;
        return true;
      }
      if (tg.leader == tracee && TakeJobControl(request, tg, /*stops=*/false, out)) return true;
    }
  }
  return false;
}

Result<WaitOutcome> Task::WaitChild(const WaitRequest& request) {
  base::WaitEntry entry(base::kEventIn);
  base::ScopedWait wait(thread_group_->child_events, entry);
  bool interrupted = false;
  for (;;) {
    {
      base::MutexLock tree(kernel_.tasks().mu);
      bool any = false;
      for (ThreadGroup* child : thread_group_->children) {
        if (!IsWaitedFor(request, *child, *this)) continue;
        any = true;
        const Task* tracer = child->leader->ptrace_.tracer;
        if (child->zombie) {
          // A traced one is its tracer's first.
          if (tracer != nullptr || !(request.options & WEXITED)) continue;
          WaitOutcome out = Identify(*child->leader, *this);
          SetExit(out, child->wait_status);
          out.usage = child->dead_threads_usage;
          out.usage.Add(child->children_usage);
          if (!(request.options & WNOWAIT)) {
            thread_group_->children_usage.Add(out.usage);
            ReapLocked(*child);
          }
          return out;
        }
        WaitOutcome out = Identify(*child->leader, *this);
        // Traced by this process, it stops for it once, not twice.
        const bool stops = tracer == nullptr || tracer->thread_group_ != thread_group_;
        if (TakeJobControl(request, *child, stops, out)) return out;
      }
      WaitOutcome traced;
      if (WaitForTracees(request, any, traced)) return traced;
      if (!any) return Errno(ECHILD);
    }
    if (request.options & WNOHANG) return WaitOutcome{};
    // A child that has changed comes before the signal that says so (do_wait).
    if (interrupted) return Errno(base::ERESTARTSYS_);
    interrupted = ParkInterruptible(base::kNever) == Wake::kInterrupted;
  }
}

}  // namespace sentry
