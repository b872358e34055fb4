// The end of a thread, and of a process with its last one. (kernel/exit.c)
#include <algorithm>

#include "base/logging.h"
#include "sentry/kernel/ipc/ipc_namespace.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task.h"

namespace sentry {

void Task::Exit(int code) {
  exit_status_ = (code & 0xff) << 8;
  exiting_ = true;
}

void Task::ExitGroup(int code) {
  base::MutexLock tree(kernel_.tasks().mu);
  ThreadGroup& tg = *thread_group_;
  base::MutexLock sig(tg.handlers->mu);
  if (tg.group_exiting) {
    exit_status_ = tg.group_exit_status;
  } else {
    tg.group_exiting = true;
    tg.group_exit_status = exit_status_ = (code & 0xff) << 8;
    tg.group_stopped = false;
    for (Task* t : tg.tasks) {
      if (t != this) t->KillLocked();
    }
  }
  exiting_ = true;
}

void Task::ReleaseVfork() {
  if (!vfork_done_) return;
  vfork_done_->done.store(true, std::memory_order_release);
  vfork_done_->queue.Notify(base::kEventIn);
  vfork_done_.reset();
}

void Task::ReleaseSemUndo() {
  if (RefPtr<SemUndoList> undo = std::exchange(sem_undo, nullptr)) undo->DropUser(thread_group_->pid());
}

void Task::DropResources() {
  ReleaseSemUndo();
  SetIpc(nullptr);
  if (fds_) {
    RefPtr<FdTable> fds = fds_;
    if (fds->DropUser()) {
      VfsContext ctx = MakeVfsContext();
      for (RefPtr<FileDescription>& file : fds->RemoveAll()) {
        file->OnDescriptorClosed(ctx);
        file.reset();
      }
    }
    SetFds(nullptr);
  }
  if (mm_) {
    RefPtr<MemoryManager> mm = mm_;
    SetMm(nullptr);
    mm->DropUser();
  }
  SetFs(nullptr);
  SetMounts(nullptr);
  SetNet(nullptr);
}

namespace {

// SIGHUP and SIGCONT to the group of `member` if it loses its last connection to its session, the one by `parent`, and
// somebody in it is stopped (POSIX, "Consequences of Process Termination"; kernel: kill_orphaned_pgrp). `ending`: the
// member that ends, if that is why.
void HangUpIfOrphaned(const ThreadGroup& member, const ThreadGroup* parent, const ThreadGroup* ending) {
  if (!member.process_group || parent == nullptr) return;
  RefPtr<ProcessGroup> group = member.process_group;
  if (!group->IsConnectedBy(*parent) || !group->IsOrphaned(ending)) return;
  const bool has_stopped = std::any_of(group->members.begin(), group->members.end(), [&](const ThreadGroup* m) {
    return m != ending && m->live_count != 0 && m->group_stopped;
  });
  if (has_stopped) group->HangUpLocked();
}

}  // namespace

void ReapLocked(ThreadGroup& tg) {
  Task* leader = tg.leader;
  Kernel& kernel = tg.kernel();
  leader->UnlinkTracerLocked();
  if (tg.parent != nullptr) tg.parent->children.remove(&tg);
  tg.parent = nullptr;
  if (tg.process_group) {
    tg.process_group->members.remove(&tg);
    if (tg.process_group->session->leader == &tg) tg.process_group->session->leader = nullptr;
    tg.process_group.reset();
  }
  kernel.RemoveIdsLocked(*leader);
  tg.tasks.remove(leader);
  tg.leader = nullptr;
  tg.zombie = false;
  leader->Unref();  // the tree's
  tg.Unref();       // the tree's
}

void Task::ExitMain() {
  ThreadGroup& tg = *thread_group_;
  PtraceReport(PtraceEvent::kExit, static_cast<uint64_t>(exit_status_));
  kernel_.futexes().ExitRobustList(*this);
  if (clear_child_tid != 0) {
    // Only if somebody else can look (kernel: mm_release).
    if (mm_->users() > 1 && mm_->Write(UserPtr<uint32_t>{clear_child_tid}, 0).ok()) {
      (void)kernel_.futexes().Wake(*mm_, clear_child_tid, /*private_futex=*/false, ~0u, 1);
    }
  }
  bool last;
  {
    base::MutexLock tree(kernel_.tasks().mu);
    last = tg.live_count == 1;
  }
  if (last) tg.timers().OnExit();
  ReleaseVfork();
  ReleaseSeccomp();
  DropResources();

  RefPtr<ThreadGroup> keep(&tg);
  std::function<void(int)> on_exit;
  int status = 0;
  bool wait_for_namespace = false, stop_complete = false;
  {
    base::MutexLock tree(kernel_.tasks().mu);
    Usage mine = usage();
    tg.dead_threads_usage.Add(mine);
    DetachAllLocked();
    state_.store('Z', std::memory_order_relaxed);
    --tg.live_count;
    ++tg.leaving;
    auto& counts = kernel_.tasks().tasks_of_user;
    if (--counts[creds_->ruid] == 0) counts.erase(creds_->ruid);
    --kernel_.tasks().live_tasks;
    // Children whose parent thread this was keep the process as their parent.
    for (ThreadGroup* child : tg.children) {
      if (child->parent_task == this) {
        child->parent_task = nullptr;
      }
    }
    {
      // A group stop does not wait for it (kernel: exit_signals).
      base::MutexLock sig(tg.handlers->mu);
      if (stop_pending_ && tg.live_count > 0) stop_complete = ParticipateInGroupStopLocked();
    }
    wait_for_namespace = tg.live_count == 0 && tg.pid_namespace().init == &tg;
    if (wait_for_namespace) tg.pid_namespace().dying = true;
    if (tg.exec_task != nullptr && tg.exec_task->fiber_) tg.exec_task->fiber_->Unpark();
  }

  if (stop_complete) tg.NotifyParentStopped(/*stopped=*/true);
  if (wait_for_namespace) {
    // The namespace goes with its init: kill the rest, and wait until it is gone (zap_pid_ns_processes).
    PidNamespace& ns = tg.pid_namespace();
    base::WaitEntry entry(base::kEventAll);
    base::ScopedWait wait(tg.child_events, entry);
    for (;;) {
      bool others = false;
      {
        base::MutexLock tree(kernel_.tasks().mu);
        std::vector<ThreadGroup*> zombies;
        for (auto& [tid, task] : ns.tasks) {
          ThreadGroup& other = *task->thread_group_;
          if (&other == &tg) continue;
          if (other.zombie) {
            if (other.leader == task && !other.on_exit) zombies.push_back(&other);
            continue;
          }
          if (task->state() == 'Z') continue;
          others = true;
          (void)SendGroupSignalLocked(other, KernelSignal(kSIGKILL));
        }
        for (ThreadGroup* z : zombies) ReapLocked(*z);
      }
      if (!others) break;
      base::Fiber::Park();
    }
  }

  {
    base::MutexLock tree(kernel_.tasks().mu);
    if (tg.pid_namespace().dying && tg.pid_namespace().init != nullptr) {
      tg.pid_namespace().init->child_events.Notify(base::kEventIn);
    }
    --tg.leaving;
    if (tg.leader != this) {
      if (ptrace_.tracer != nullptr) {
        ptrace_.exited = true;
        NotifyTracerOfExitLocked(tg.group_exiting ? tg.group_exit_status : exit_status_);
      } else {
        // Nobody waits for a thread.
        kernel_.RemoveIdsLocked(*this);
        tg.tasks.remove(this);
        Unref();  // the tree's; the fiber has another
      }
    }
    if (tg.live_count > 0 || tg.leaving > 0) return;

    // --- The last thread: the process ends.
    {
      base::MutexLock sig(tg.handlers->mu);
      tg.wait_status = tg.group_exiting ? tg.group_exit_status : tg.leader->exit_status_;
    }
    // Orphans go to the nearest subreaper, else to the namespace's init.
    ThreadGroup* reaper = nullptr;
    for (ThreadGroup* p = tg.parent; p != nullptr; p = p->parent) {
      if (&p->pid_namespace() != &tg.pid_namespace()) break;
      if (p->child_subreaper && p->live_count > 0) {
        reaper = p;
        break;
      }
    }
    if (reaper == nullptr) reaper = tg.pid_namespace().init;
    if (reaper == &tg || (reaper != nullptr && reaper->live_count == 0)) reaper = nullptr;
    std::vector<ThreadGroup*> children(tg.children.begin(), tg.children.end());
    for (ThreadGroup* child : children) {
      if (child->leader != nullptr && child->leader->pdeath_signal != 0) {
        (void)child->leader->SendSignalLocked(KernelSignal(child->leader->pdeath_signal));
      }
      tg.children.remove(child);
      child->parent = reaper;
      child->parent_task = nullptr;
      child->ChangeAnswersLocked();
      child->exit_signal = kSIGCHLD;
      if (reaper != nullptr) {
        reaper->children.push_back(child);
        if (child->zombie) reaper->child_events.Notify(base::kEventIn);
      } else if (child->zombie && !child->on_exit) {
        ReapLocked(*child);
        continue;
      }
      HangUpIfOrphaned(*child, &tg, nullptr);
    }
    if (tg.process_group) {
      HangUpIfOrphaned(tg, tg.parent, &tg);
      Session& session = *tg.process_group->session;
      if (session.leader == &tg && session.tty != nullptr) {
        // A session leader that ends hangs its terminal up (man 3 termios; disassociate_ctty).
        RefPtr<ProcessGroup> foreground = session.tty->foreground_;
        if (foreground) foreground->HangUpLocked();
        session.tty->foreground_.reset();
        session.tty->session_ = nullptr;
        session.tty = nullptr;
      }
    }
    if (tg.pid_namespace().init == &tg) tg.pid_namespace().init = nullptr;

    // Threads that a tracer has not reaped hold it up.
    if (tg.tasks.size() != 1) return;
    if (tg.on_exit && !tg.leader->ptrace_reparented()) {
      on_exit = std::exchange(tg.on_exit, nullptr);
      status = tg.wait_status;
      tg.zombie = true;
      tg.exit_events.Notify(base::kEventAll);
      ReapLocked(tg);
    } else {
      FinishProcessLocked(tg);
    }
  }
  if (on_exit) on_exit(status);
}

void Task::ReleaseThreadLocked(Task& thread) {
  ThreadGroup& tg = *thread.thread_group_;
  thread.ptrace_.exited = false;
  thread.UnlinkTracerLocked();
  tg.kernel().RemoveIdsLocked(thread);
  tg.tasks.remove(&thread);
  if (tg.live_count == 0 && tg.tasks.size() == 1 && !tg.zombie) FinishProcessLocked(tg);
  thread.Unref();  // the tree's
}

void Task::NotifyTracerOfExitLocked(int status) {
  ThreadGroup& theirs = ptrace_.tracer->thread_group();
  SignalInfo info{};
  info.si_signo = kSIGCHLD;
  info.si_code = ChildCode(status);
  info.chld.pid = TidIn(theirs.pid_namespace());
  info.chld.uid = creds_->ruid;
  info.chld.status = (status & 0x7f) ? (status & 0x7f) : (status >> 8);
  (void)SendGroupSignalLocked(theirs, info);
  theirs.child_events.Notify(base::kEventIn);
}

void Task::FinishProcessLocked(ThreadGroup& tg) {
  tg.zombie = true;
  tg.exit_events.Notify(base::kEventAll);
  // The real parent is told when the tracer has reaped it, unless they are the same.
  if (tg.leader->ptrace_reparented()) {
    tg.leader->NotifyTracerOfExitLocked(tg.wait_status);
  } else {
    NotifyRealParentLocked(tg);
  }
}

void Task::NotifyRealParentLocked(ThreadGroup& tg) {
  const int status = tg.wait_status;
  if (tg.on_exit) {
    // Not under the lock: it may do anything.
    RefPtr<ThreadGroup> keep(&tg);
    tg.kernel().scheduler().LeastLoaded().Post([keep, status, on_exit = std::move(tg.on_exit)] { on_exit(status); });
    tg.on_exit = nullptr;
    ReapLocked(tg);
    return;
  }
  // Without a parent nobody could wait for it: a process of `runsc exec` whose waiter has not been registered yet
  // stays.
  if (tg.parent == nullptr) return;
  ThreadGroup& parent = *tg.parent;
  bool autoreap = false;
  if (tg.exit_signal == kSIGCHLD && tg.leader->ptrace_.tracer == nullptr) {
    base::MutexLock sig(parent.handlers->mu);
    const abi::KSigaction& action = parent.handlers->actions[kSIGCHLD - 1];
    autoreap = action.handler == kSigIgn || (action.flags & kSaNoCldWait);
  }
  if (tg.exit_signal > 0) {
    SignalInfo info{};
    info.si_signo = tg.exit_signal;
    info.si_code = ChildCode(status);
    info.chld.pid = tg.leader->TidIn(parent.pid_namespace());
    info.chld.uid = tg.leader->SnapshotCreds()->ruid;
    info.chld.status = (status & 0x7f) ? (status & 0x7f) : (status >> 8);
    info.chld.utime = tg.dead_threads_usage.user_ns / 10'000'000;
    info.chld.stime = tg.dead_threads_usage.system_ns / 10'000'000;
    (void)SendGroupSignalLocked(parent, info);
  }
  if (autoreap) {
    parent.children_usage.Add(tg.dead_threads_usage);
    ReapLocked(tg);
  }
  parent.child_events.Notify(base::kEventIn);
}

}  // namespace sentry
