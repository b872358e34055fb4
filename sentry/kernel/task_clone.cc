// clone(2) and its relatives, unshare(2). (kernel/fork.c)
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/logging.h"
#include "sentry/kernel/ipc/ipc_namespace.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

// man 2 clone, ERRORS.
Result<void> CheckFlags(const CloneRequest& request) {
  const uint64_t f = request.flags;
  if ((f & CLONE_SIGHAND) && !(f & CLONE_VM)) return Errno(EINVAL);
  if ((f & CLONE_THREAD) && !(f & CLONE_SIGHAND)) return Errno(EINVAL);
  if ((f & CLONE_FS) && (f & CLONE_NEWNS)) return Errno(EINVAL);
  if ((f & CLONE_NEWIPC) && (f & CLONE_SYSVSEM)) return Errno(EINVAL);
  if ((f & CLONE_THREAD) && (f & (CLONE_NEWPID | CLONE_NEWUSER))) return Errno(EINVAL);
  if ((f & CLONE_THREAD) && (f & CLONE_PIDFD)) return Errno(EINVAL);
  if (request.exit_signal < 0 || request.exit_signal > kSignals) return Errno(EINVAL);
  return {};
}

constexpr uint64_t kNamespaceFlags =
    CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWUSER;

}  // namespace

Result<int> Task::Clone(const CloneRequest& request) {
  TRY(CheckFlags(request));
  const uint64_t flags = request.flags;
  if (flags & kNamespaceFlags) {
    // Differs from Linux: user, network and cgroup namespaces cannot be made inside a sandbox yet.
    if (flags & (CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWCGROUP)) return Errno(EPERM);
    if (!Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
  }
  ThreadGroup& parent_group = *thread_group_;
  // Which event a tracer sees (kernel: kernel_clone).
  PtraceEvent event = PtraceEvent::kFork;
  if (flags & CLONE_VFORK) {
    event = PtraceEvent::kVfork;
  } else if (request.exit_signal != kSIGCHLD) {
    event = PtraceEvent::kClone;
  }
  const bool report = !(flags & CLONE_UNTRACED) && PtraceEventEnabled(event);
  {
    base::MutexLock tree(kernel_.tasks().mu);
    // man 2 fork: root (the user, not the capability) is exempt.
    auto it = kernel_.tasks().tasks_of_user.find(creds_->ruid);
    uint64_t count = it == kernel_.tasks().tasks_of_user.end() ? 0 : it->second;
    if (creds_->ruid != 0 && count >= parent_group.Limit(RLIMIT_NPROC) && !Capable(CAP_SYS_RESOURCE) &&
        !Capable(CAP_SYS_ADMIN)) {
      return Errno(EAGAIN);
    }
  }

  TRY(base::ChargedMemory::Admit());  // for all that is made here, but the address space
  Init init;
  init.context = TRY(kernel_.platform().NewContext());
  init.creds = creds_;
  init.comm = comm();
  init.net = net_;
  const bool vm = flags & CLONE_VM;
  if (vm) {
    init.mm = mm_;
    mm_->AddUser();
  } else {
    init.mm = TRY(mm_->Fork());
  }
  // From here on nothing fails until the ids are given; a failure then drops what was taken.
  if (flags & CLONE_FILES) {
    init.fds = fds_;
    fds_->AddUser();
  } else {
    init.fds = fds_->Fork();
  }
  if (flags & CLONE_NEWNS) {
    absl::flat_hash_map<const Mount*, RefPtr<Mount>> map;
    init.mounts = mounts_->Clone(map);
    auto translate = [&](VfsPath p) {
      auto it = map.find(p.mount.get());
      if (it != map.end()) p.mount = it->second;
      return p;
    };
    init.fs = base::MakeRef<FsContext>(translate(fs_->root()), translate(fs_->cwd()), fs_->umask());
  } else {
    init.mounts = mounts_;
    init.fs = (flags & CLONE_FS) ? fs_ : fs_->Fork();
  }
  if (flags & CLONE_NEWUTS) {
    init.uts = base::MakeRef<UtsNamespace>();
    base::MutexLock theirs(uts_->mu);
    base::MutexLock ours(init.uts->mu);
    init.uts->hostname = uts_->hostname;
    init.uts->domainname = uts_->domainname;
  } else {
    init.uts = uts_;
  }

  RefPtr<ThreadGroup> group;
  if (flags & CLONE_THREAD) {
    group = thread_group_;
  } else {
    RefPtr<SignalHandlers> handlers;
    if (flags & CLONE_SIGHAND) {
      handlers = parent_group.handlers;
    } else {
      handlers = base::MakeRef<SignalHandlers>();
      base::MutexLock sig(parent_group.handlers->mu);
      handlers->actions = parent_group.handlers->actions;
      if (flags & 0x100000000ULL) {  // CLONE_CLEAR_SIGHAND
        for (abi::KSigaction& a : handlers->actions) {
          if (a.handler != kSigIgn) a = {};
        }
      }
    }
    RefPtr<PidNamespace> ns(&parent_group.pid_namespace());
    if (flags & CLONE_NEWPID) ns = base::MakeRef<PidNamespace>(ns);
    group = base::MakeRef<ThreadGroup>(kernel_, ns, handlers, request.exit_signal, parent_group.limits());
    group->oom_score_adj = parent_group.oom_score_adj.load();
    group->thp_disabled = parent_group.thp_disabled.load();
  }
  init.thread_group = group;

  RefPtr<Task> child = base::MakeRef<Task>(kernel_, std::move(init));
  child->ipc_ = (flags & CLONE_NEWIPC) ? base::MakeRef<IpcNamespace>() : ipc_;
  if (flags & CLONE_SYSVSEM) {
    if (!sem_undo) sem_undo = base::MakeRef<SemUndoList>();
    sem_undo->AddUser();
    child->sem_undo = sem_undo;
  }
  child->personality = personality;
  child->timer_slack_ns = child->default_timer_slack_ns = timer_slack_ns;
  child->ioprio = ioprio.load();
  child->nice = nice.load();
  if (sched_reset_on_fork) {
    child->nice = std::max(nice.load(), 0);  // man 7 sched
  } else {
    child->sched_policy = sched_policy.load();
  }
  child->affinity = affinity.load();
  child->blocked_.store(blocked_.load());
  // man 2 sigaltstack: kept by fork and vfork, dropped by threads.
  if (!vm || (flags & CLONE_VFORK)) child->altstack_ = altstack_;
  if (saved_mask_) child->blocked_.store(saved_mask_->bits());

  platform::Registers& regs = child->registers();
  regs = registers();
  regs.rax = 0;
  if (request.stack != 0) regs.rsp = request.stack + request.stack_size;
  if (flags & CLONE_SETTLS) {
    if (request.tls >= (uint64_t{1} << 47)) {
      child->DropResources();
      return Errno(EPERM);
    }
    regs.fs_base = request.tls;
  }
  child->context().SetXState(context_->XState());
  // The host may refuse another thread: that is the guest's EAGAIN, not the new thread's death.
  if (Result<void> prepared = child->context().Prepare(child->mm().address_space()); !prepared.ok()) {
    child->DropResources();
    return Errno(prepared.failed_with(ENOMEM) ? ENOMEM : EAGAIN);
  }
  if (flags & CLONE_CHILD_CLEARTID) child->clear_child_tid = request.child_tid;
  RefPtr<VforkDone> vfork_done;
  if (flags & CLONE_VFORK) {
    vfork_done = base::MakeRef<VforkDone>();
    child->vfork_done_ = vfork_done;
  }

  std::optional<FdReservation> pidfd;
  RefPtr<FileDescription> pidfd_file;
  if (flags & CLONE_PIDFD) {
    auto make = [&]() -> Result<void> {
      if (!kernel_.pidfd_factory()) return Errno(ENOSYS);
      pidfd_file = TRY(kernel_.pidfd_factory()(kernel_, group, 0));
      pidfd.emplace(TRY(ReserveFd()));
      return mm_->Write(UserPtr<int32_t>{request.pidfd}, pidfd->fd());
    };
    if (Result<void> made = make(); !made.ok()) {
      child->DropResources();
      return made.error();
    }
  }
  int child_tid = 0, tid_for_tracer = 0;
  Result<void> published = [&]() -> Result<void> {
    base::MutexLock tree(kernel_.tasks().mu);
    {
      base::MutexLock sig(parent_group.handlers->mu);
      // A fork must not escape a signal that kills its process group (kernel: copy_process).
      if (killed_ || parent_group.group_exiting || parent_group.exec_task != nullptr)
        return Errno(base::ERESTARTNOINTR_);
    }
    TRY(kernel_.AddTaskLocked(*child, request.set_tid));
    {
      // Here, so that a thread which makes all others take its filter (TSYNC) misses none.
      base::MutexLock sig(parent_group.handlers->mu);
      child->InheritSeccompLocked(*this);
    }
    if (!(flags & CLONE_THREAD)) {
      ThreadGroup* parent = (flags & CLONE_PARENT) ? parent_group.parent : &parent_group;
      group->parent = parent;
      group->parent_task = (flags & CLONE_PARENT) ? nullptr : this;
      if (flags & CLONE_PARENT) group->exit_signal = parent_group.exit_signal;
      if (parent != nullptr) parent->children.push_back(group.get());
      group->Ref();  // the tree's, dropped when it is reaped
      group->process_group = parent_group.process_group;
      if (group->process_group) group->process_group->members.push_back(group.get());
    }
    child_tid = child->TidIn(pid_namespace());
    if (ptrace_.tracer != nullptr) tid_for_tracer = child->TidIn(ptrace_.tracer->pid_namespace());
    if (report || (flags & CLONE_PTRACE)) child->InheritTracerLocked(*this);
    if (flags & CLONE_THREAD) {
      // Into a stop that is under way (kernel: task_join_group_stop).
      base::MutexLock sig(parent_group.handlers->mu);
      child->stop_pending_ = stop_pending_;
      child->stop_signal_ = stop_signal_;
      if (stop_pending_) child->interrupted_.store(true, std::memory_order_seq_cst);
    }
    return {};
  }();
  if (!published.ok()) {
    child->DropResources();
    return published.error();
  }
  if (pidfd_file) (void)std::move(*pidfd).Install(std::move(pidfd_file), /*cloexec=*/true);
  // Failures of these two stores are ignored, as in kernel_clone.
  if (flags & CLONE_PARENT_SETTID) (void)mm_->Write(UserPtr<int32_t>{request.parent_tid}, child_tid);
  if (flags & CLONE_CHILD_SETTID) (void)child->mm().Write(UserPtr<int32_t>{request.child_tid}, child->tid());

  if (!(flags & CLONE_THREAD)) {
    const abi::Rlimit cpu = group->limits().values[RLIMIT_CPU];
    if (cpu.rlim_cur != UINT64_MAX || cpu.rlim_max != UINT64_MAX) group->timers().SetCpuLimit(cpu);
  }
  child->Start();
  if (report) PtraceReport(event, static_cast<uint64_t>(tid_for_tracer));
  if (vfork_done) {
    // Only a signal that kills ends this wait.
    base::WaitEntry entry(base::kEventIn);
    base::ScopedWait wait(vfork_done->queue, entry);
    state_.store('D', std::memory_order_relaxed);
    bool killed = false;
    while (!vfork_done->done.load(std::memory_order_acquire)) {
      {
        base::MutexLock sig(thread_group_->handlers->mu);
        if ((killed = killed_)) break;
      }
      base::Fiber::Park();
    }
    state_.store('R', std::memory_order_relaxed);
    if (!killed) PtraceReport(PtraceEvent::kVforkDone, static_cast<uint64_t>(tid_for_tracer));
  }
  return child_tid;
}

Result<void> Task::Unshare(uint64_t flags) {
  constexpr uint64_t kValid =
      CLONE_THREAD | CLONE_FS | CLONE_SIGHAND | CLONE_VM | CLONE_FILES | CLONE_SYSVSEM | kNamespaceFlags;
  if (flags & ~kValid) return Errno(EINVAL);
  if (flags & (CLONE_THREAD | CLONE_SIGHAND | CLONE_VM)) {
    base::MutexLock tree(kernel_.tasks().mu);
    if (thread_group_->live_count > 1) return Errno(EINVAL);
  }
  if (flags & kNamespaceFlags) {
    if (flags & (CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWPID)) return Errno(EPERM);
    if (!Capable(CAP_SYS_ADMIN)) return Errno(EPERM);
  }
  TRY(base::ChargedMemory::Admit());
  if (flags & CLONE_FILES) {
    if (fds_->shared()) {
      RefPtr<FdTable> old = fds_;
      SetFds(old->Fork());
      old->DropUser();  // others use it
    }
  }
  if (flags & CLONE_NEWNS) {
    absl::flat_hash_map<const Mount*, RefPtr<Mount>> map;
    RefPtr<MountNamespace> ns = mounts_->Clone(map);
    auto translate = [&](VfsPath p) {
      auto it = map.find(p.mount.get());
      if (it != map.end()) p.mount = it->second;
      return p;
    };
    RefPtr<FsContext> fs = base::MakeRef<FsContext>(translate(fs_->root()), translate(fs_->cwd()), fs_->umask());
    SetMounts(std::move(ns));
    SetFs(std::move(fs));
  } else if (flags & CLONE_FS) {
    SetFs(fs_->Fork());
  }
  if (flags & (CLONE_SYSVSEM | CLONE_NEWIPC)) ReleaseSemUndo();
  if (flags & CLONE_NEWIPC) SetIpc(base::MakeRef<IpcNamespace>());
  if (flags & CLONE_NEWUTS) {
    RefPtr<UtsNamespace> uts = base::MakeRef<UtsNamespace>();
    {
      base::MutexLock theirs(uts_->mu);
      base::MutexLock ours(uts->mu);
      uts->hostname = uts_->hostname;
      uts->domainname = uts_->domainname;
    }
    SetUts(std::move(uts));
  }
  return {};
}

}  // namespace sentry
