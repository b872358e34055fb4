// wait4(2), waitid(2).
#include <sys/wait.h>

#include "base/time.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/task.h"

namespace sentry {

void ReapLocked(ThreadGroup& tg);  // task_exit.cc

namespace {

constexpr uint32_t kWNoThread = 0x20000000, kWAll = 0x40000000, kWClone = 0x80000000;

bool Matches(const WaitRequest& request, ThreadGroup& child, Task& waiter) {
  switch (request.who) {
    case WaitRequest::Who::kAny:
      break;
    case WaitRequest::Who::kPid:
      if (child.PidIn(waiter.pid_namespace()) != request.id) return false;
      break;
    case WaitRequest::Who::kProcessGroup: {
      const ProcessGroup* group = child.process_group.get();
      if (group == nullptr) return false;
      if (request.id == 0 ? group != waiter.thread_group().process_group.get()
                          : group->IdIn(waiter.pid_namespace()) != request.id) {
        return false;
      }
      break;
    }
    case WaitRequest::Who::kPidfdGroup:
      if (&child != request.pidfd_target) return false;
      break;
  }
  if ((request.options & kWNoThread) && child.parent_task != &waiter) return false;
  // man 2 wait: a "clone" child is one that delivers no signal, or another than SIGCHLD, at its end.
  if (request.options & kWAll) return true;
  bool clone_child = child.exit_signal != kSIGCHLD;
  return clone_child == ((request.options & kWClone) != 0);
}

}  // namespace

Result<WaitOutcome> Task::WaitChild(const WaitRequest& request) {
  base::WaitEntry entry(base::kEventIn);
  base::ScopedWait wait(thread_group_->child_events, entry);
  for (;;) {
    {
      base::MutexLock tree(kernel_.tasks().mu);
      bool any = false;
      for (ThreadGroup* child : thread_group_->children) {
        if (!Matches(request, *child, *this)) continue;
        any = true;
        WaitOutcome out;
        out.pid = child->PidIn(pid_namespace());
        out.uid = child->leader ? child->leader->SnapshotCreds()->ruid : 0;
        if (child->zombie && (request.options & WEXITED)) {
          out.status = child->wait_status;
          out.code = ChildCode(out.status);
          out.value = (out.status & 0x7f) ? (out.status & 0x7f) : (out.status >> 8) & 0xff;
          out.usage = child->dead_threads_usage;
          out.usage.Add(child->children_usage);
          if (!(request.options & WNOWAIT)) {
            thread_group_->children_usage.Add(child->dead_threads_usage);
            thread_group_->children_usage.Add(child->children_usage);
            ReapLocked(*child);
          }
          return out;
        }
        if ((request.options & WSTOPPED) && child->stop_reported_pending && !child->zombie) {
          out.status = (child->stop_signal_reported << 8) | 0x7f;
          out.code = 5;  // CLD_STOPPED
          out.value = child->stop_signal_reported;
          out.usage = child->TotalUsageLocked();
          if (!(request.options & WNOWAIT)) child->stop_reported_pending = false;
          return out;
        }
        if ((request.options & WCONTINUED) && child->continue_reported_pending && !child->zombie) {
          out.status = 0xffff;
          out.code = 6;  // CLD_CONTINUED
          out.value = kSIGCONT;
          out.usage = child->TotalUsageLocked();
          if (!(request.options & WNOWAIT)) child->continue_reported_pending = false;
          return out;
        }
      }
      if (!any) return Errno(ECHILD);
    }
    if (request.options & WNOHANG) return WaitOutcome{};
    if (ParkInterruptible(base::kNever) == Wake::kInterrupted) return Errno(base::ERESTARTSYS_);
  }
}

}  // namespace sentry
