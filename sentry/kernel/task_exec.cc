// execve(2). (fs/exec.c)
#include <sys/resource.h>

#include "base/logging.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task.h"

namespace sentry {

// de_thread: every other thread of the process ends, and the caller becomes the leader.
Result<void> Task::KillOtherThreads() {
  ThreadGroup& tg = *thread_group_;
  {
    base::MutexLock tree(kernel_.tasks().mu);
    base::MutexLock sig(tg.handlers->mu);
    if (tg.group_exiting || tg.exec_task != nullptr || killed_) return Errno(base::ERESTARTNOINTR_);
    tg.exec_task = this;
    tg.group_stopped = false;
    for (Task* t : tg.tasks) {
      if (t == this || t->state() == 'Z') continue;
      t->KillLocked();
    }
  }
  for (;;) {
    {
      base::MutexLock tree(kernel_.tasks().mu);
      if (tg.live_count == 1) break;
      base::MutexLock sig(tg.handlers->mu);
      if (killed_) {
        tg.exec_task = nullptr;
        return Errno(EINTR);  // never seen: the task is going
      }
    }
    base::Fiber::Park();  // ExitMain of the others unparks exec_task
  }
  base::MutexLock tree(kernel_.tasks().mu);
  if (tg.leader != this) {
    // The leader is a zombie now: take over its ids, so that the pid does not change (man 2 execve).
    Task* old = tg.leader;
    std::swap(tids_, old->tids_);
    int mine = tid_.load();
    tid_.store(old->tid_.load());
    answers_stale_.store(true, std::memory_order_relaxed);
    old->tid_.store(mine);
    for (auto& [ns, tid] : tids_) const_cast<PidNamespace*>(ns)->tasks[tid] = this;
    for (auto& [ns, tid] : old->tids_) const_cast<PidNamespace*>(ns)->tasks[tid] = old;
    // A tracer that waits for the old leader looks again: it is not there any more.
    if (old->ptrace_.tracer != nullptr) old->ptrace_.tracer->thread_group().child_events.Notify(base::kEventIn);
    old->UnlinkTracerLocked();
    kernel_.RemoveIdsLocked(*old);
    tg.tasks.remove(old);
    tg.leader = this;
    old->Unref();  // the tree's
  }
  base::MutexLock sig(tg.handlers->mu);
  tg.exec_task = nullptr;
  return {};
}

Result<void> Task::Exec(ExecRequest request) {
  ExecImage image = TRY(kernel_.exec_loader()(*this, request));
  int former_tid = 0;  // as the tracer knows it
  {
    base::MutexLock tree(kernel_.tasks().mu);
    if (ptrace_.tracer != nullptr) former_tid = TidIn(ptrace_.tracer->pid_namespace());
  }
  // The point of no return is behind the loader: what fails from here on kills.
  Result<void> alone = KillOtherThreads();
  if (!alone.ok()) {
    image.mm->DropUser();
    return alone.error();
  }
  ThreadGroup& tg = *thread_group_;
  // Nobody else may see the changes of dispositions: unshare, then reset what was caught.
  {
    RefPtr<SignalHandlers> old = tg.handlers;
    RefPtr<SignalHandlers> fresh = base::MakeRef<SignalHandlers>();
    base::MutexLock tree(kernel_.tasks().mu);
    base::MutexLock sig(old->mu);
    for (int i = 0; i < kSignals; ++i) {
      if (old->actions[i].handler == kSigIgn) fresh->actions[i].handler = kSigIgn;
    }
    tg.handlers = fresh;
    tg.has_execed = true;
    tg.exit_signal = kSIGCHLD;
    if (image.secure) pdeath_signal = 0;
  }
  tg.timers().OnExec();
  altstack_ = {};
  restart_block_ = nullptr;
  robust_list_head = 0;

  if (fds_->shared()) {
    RefPtr<FdTable> old = fds_;
    SetFds(old->Fork());
    old->DropUser();
  }
  {
    VfsContext ctx = MakeVfsContext();
    for (RefPtr<FileDescription>& file : fds_->RemoveCloexec()) file->OnDescriptorClosed(ctx);
  }

  // The old memory: whoever waits for the thread's end in it (pthread_join of a CLONE_VM relative) is told first.
  if (clear_child_tid != 0) {
    Addr addr = clear_child_tid;
    clear_child_tid = 0;
    if (mm_->users() > 1 && mm_->Write(UserPtr<uint32_t>{addr}, 0).ok()) {
      (void)kernel_.futexes().Wake(*mm_, addr, /*private_futex=*/false, ~0u, 1);
    }
  }
  RefPtr<MemoryManager> old_mm = mm_;
  if (image.takes_over) {
    if (Result<void> taken = image.mm->TakeOver(*old_mm, *context_); !taken.ok()) {
      // There is no program to go back to.
      LOG_WARNING("an exec has failed on the host behind its point of no return: ending the process");
      image.mm->DropUser();
      base::MutexLock tree(kernel_.tasks().mu);
      (void)SendGroupSignalLocked(*thread_group_, KernelSignal(kSIGKILL));
      return taken.error();
    }
  }
  SetMm(image.mm);
  if (traced()) mm_->RestoreText();
  if (image.creds) SetCredentials(image.creds);
  SetComm(image.comm);
  ReleaseVfork();
  old_mm->DropUser();

  platform::Registers& regs = registers();
  const uint64_t number = regs.orig_rax;
  regs = {};
  regs.orig_rax = number;
  regs.rax = static_cast<uint64_t>(-int64_t{ENOSYS});  // as a tracer sees it; the call's result comes at the end
  regs.rip = image.entry;
  regs.rsp = image.stack;
  regs.cs = 0x33;
  regs.ss = 0x2b;
  regs.rflags = 0x202;
  std::vector<std::byte> fresh(platform::XStateSize());
  platform::InitXState(fresh.data());
  context_->SetXState(fresh);
  if (traced()) {
    if (PtraceEventEnabled(PtraceEvent::kExec)) {
      PtraceReport(PtraceEvent::kExec, static_cast<uint64_t>(former_tid));
    } else {
      // What tracers got before there were events (kernel: ptrace_event).
      bool legacy;
      {
        base::MutexLock tree(kernel_.tasks().mu);
        legacy = ptrace_.tracer != nullptr && !ptrace_.seized;
      }
      if (legacy) (void)SendSignal(UserSignal(kSIGTRAP, thread_group_->pid(), creds_->ruid));
    }
  }
  return {};
}

}  // namespace sentry
