#include "sentry/syscalls/sys_signal.h"

#include <list>

#include "base/time.h"
#include "sentry/fs/anon/pidfd.h"
#include "sentry/kernel/kernel.h"

namespace sentry {

namespace {

constexpr uint64_t kSigsetSize = 8;

SignalInfo FromCaller(Task& task, int signo, int code) {
  return UserSignal(signo, task.thread_group().pid(), task.creds().ruid, code);
}

bool ValidSignal(int signo) { return signo >= 0 && signo <= kSignals; }

// A caller may not claim that the kernel or kill(2) sent the signal, except to itself (man 2 rt_sigqueueinfo).
Result<SignalInfo> ReadInfo(Task& task, int signo, UserPtr<abi::Siginfo> in, bool to_self) {
  SignalInfo info = TRY(task.mm().Read(in));
  if ((info.si_code >= 0 || info.si_code == kSiTkill) && !to_self) return Errno(EPERM);
  info.si_signo = signo;
  return info;
}

}  // namespace

Result<void> SysRtSigaction(Task& task, int signo, UserPtr<abi::KSigaction> in, UserPtr<abi::KSigaction> out,
                            uint64_t size) {
  if (size != kSigsetSize) return Errno(EINVAL);
  abi::KSigaction fresh{};
  if (in) fresh = TRY(task.mm().Read(in));
  abi::KSigaction old = TRY(task.Sigaction(signo, in ? &fresh : nullptr));
  if (out) TRY(task.mm().Write(out, old));
  return {};
}

Result<void> SysRtSigprocmask(Task& task, int how, UserPtr<uint64_t> in, UserPtr<uint64_t> out, uint64_t size) {
  if (size != kSigsetSize) return Errno(EINVAL);
  const SignalSet old = task.blocked();
  if (in) {
    SignalSet set(TRY(task.mm().Read(in)));
    switch (how) {
      case 0:  // SIG_BLOCK
        task.SetBlocked(old | set);
        break;
      case 1:  // SIG_UNBLOCK
        task.SetBlocked(old.Without(set));
        break;
      case 2:  // SIG_SETMASK
        task.SetBlocked(set);
        break;
      default:
        return Errno(EINVAL);
    }
  }
  if (out) TRY(task.mm().Write(out, old.bits()));
  return {};
}

Result<void> SysRtSigpending(Task& task, UserPtr<uint64_t> out, uint64_t size) {
  if (size > kSigsetSize) return Errno(EINVAL);
  uint64_t bits = task.PendingSet().bits();
  size_t n = TRY(task.mm().CopyOut(out.addr, std::as_bytes(std::span(&bits, 1)).first(size)));
  return n == size ? Result<void>() : Errno(EFAULT);
}

Result<void> SysRtSigsuspend(Task& task, UserPtr<uint64_t> mask, uint64_t size) {
  if (size != kSigsetSize) return Errno(EINVAL);
  SignalSet set(TRY(task.mm().Read(mask)));
  task.SetTemporaryMask(set);
  while (task.ParkInterruptible(base::kNever) != Task::Wake::kInterrupted) {
  }
  return Errno(base::ERESTARTNOHAND_);
}

Result<int> SysRtSigtimedwait(Task& task, UserPtr<uint64_t> set, UserPtr<abi::Siginfo> info,
                              UserPtr<abi::Timespec> timeout, uint64_t size) {
  if (size != kSigsetSize) return Errno(EINVAL);
  SignalSet wanted(TRY(task.mm().Read(set)));
  base::MonotonicNs deadline = base::kNever;
  if (timeout) {
    abi::Timespec ts = TRY(task.mm().Read(timeout));
    if (ts.tv_sec < 0 || ts.tv_nsec < 0 || ts.tv_nsec >= 1'000'000'000) return Errno(EINVAL);
    if (ts.tv_sec < INT64_MAX / 4'000'000'000) deadline = base::MonotonicNow() + ts.tv_sec * 1'000'000'000 + ts.tv_nsec;
  }
  SignalInfo got = TRY(task.WaitForSignal(wanted, deadline));
  if (info) TRY(task.mm().Write(info, got));
  return got.si_signo;
}

Result<void> SysRtSigqueueinfo(Task& task, int pid, int signo, UserPtr<abi::Siginfo> in) {
  SignalInfo info = TRY(ReadInfo(task, signo, in, pid == task.thread_group().pid()));
  if (!ValidSignal(signo)) return Errno(EINVAL);
  RefPtr<Task> target = task.kernel().FindTask(pid, task.pid_namespace());
  if (!target) return Errno(ESRCH);
  if (!task.MaySignal(*target, signo)) return Errno(EPERM);
  return Task::SendGroupSignal(target->thread_group(), info);
}

Result<void> SysRtTgsigqueueinfo(Task& task, int tgid, int tid, int signo, UserPtr<abi::Siginfo> in) {
  if (tgid <= 0 || tid <= 0) return Errno(EINVAL);
  SignalInfo info = TRY(ReadInfo(task, signo, in, tgid == task.thread_group().pid()));
  if (!ValidSignal(signo)) return Errno(EINVAL);
  RefPtr<Task> target = task.kernel().FindTask(tid, task.pid_namespace());
  if (!target || target->thread_group().pid() != tgid) return Errno(ESRCH);
  if (!task.MaySignal(*target, signo)) return Errno(EPERM);
  return target->SendSignal(info);
}

Result<int64_t> SysRtSigreturn(Task& task) { return task.Sigreturn(); }

Result<void> SysSigaltstack(Task& task, UserPtr<abi::StackT> in, UserPtr<abi::StackT> out) {
  abi::StackT fresh{};
  if (in) fresh = TRY(task.mm().Read(in));
  abi::StackT old = TRY(task.Sigaltstack(in ? &fresh : nullptr));
  if (out) TRY(task.mm().Write(out, old));
  return {};
}

Result<void> SysKill(Task& task, int pid, int signo) {
  if (!ValidSignal(signo)) return Errno(EINVAL);
  const SignalInfo info = FromCaller(task, signo, kSiUser);
  Kernel& kernel = task.kernel();
  if (pid > 0) {
    RefPtr<Task> target = kernel.FindTask(pid, task.pid_namespace());
    if (!target) return Errno(ESRCH);
    if (!task.MaySignal(*target, signo)) return Errno(EPERM);
    return Task::SendGroupSignal(target->thread_group(), info);
  }
  // A group: success if it reached anybody, EPERM if it was allowed to reach nobody, ESRCH if there is nobody.
  std::vector<RefPtr<ThreadGroup>> targets;
  if (pid == -1) {
    for (RefPtr<ThreadGroup>& tg : kernel.ThreadGroups(task.pid_namespace())) {
      if (tg.get() != &task.thread_group() && tg->pid_namespace().init != tg.get()) targets.push_back(std::move(tg));
    }
  } else {
    base::MutexLock tree(kernel.tasks().mu);
    ProcessGroup* group = task.thread_group().process_group.get();
    if (pid != 0) {
      if (pid == INT32_MIN) return Errno(ESRCH);
      auto it = task.pid_namespace().groups.find(-pid);
      group = it == task.pid_namespace().groups.end() ? nullptr : it->second;
    }
    if (group == nullptr) return Errno(ESRCH);
    for (ThreadGroup* tg : group->members) targets.emplace_back(tg);
  }
  bool sent = false, denied = false;
  for (RefPtr<ThreadGroup>& tg : targets) {
    RefPtr<Task> leader;
    {
      base::MutexLock tree(kernel.tasks().mu);
      if (tg->leader == nullptr) continue;
      leader = RefPtr<Task>(tg->leader);
    }
    if (!task.MaySignal(*leader, signo)) {
      denied = true;
      continue;
    }
    sent = true;
    (void)Task::SendGroupSignal(*tg, info);
  }
  if (sent) return {};
  return Errno(denied ? EPERM : ESRCH);
}

Result<void> SysTkill(Task& task, int tid, int signo) {
  if (tid <= 0 || !ValidSignal(signo)) return Errno(EINVAL);
  RefPtr<Task> target = task.kernel().FindTask(tid, task.pid_namespace());
  if (!target) return Errno(ESRCH);
  if (!task.MaySignal(*target, signo)) return Errno(EPERM);
  return target->SendSignal(FromCaller(task, signo, kSiTkill));
}

Result<void> SysTgkill(Task& task, int tgid, int tid, int signo) {
  if (tgid <= 0 || tid <= 0 || !ValidSignal(signo)) return Errno(EINVAL);
  RefPtr<Task> target = task.kernel().FindTask(tid, task.pid_namespace());
  if (!target || target->thread_group().pid() != tgid) return Errno(ESRCH);
  if (!task.MaySignal(*target, signo)) return Errno(EPERM);
  return target->SendSignal(FromCaller(task, signo, kSiTkill));
}

Result<void> SysPidfdSendSignal(Task& task, FdArg pidfd, int signo, UserPtr<abi::Siginfo> in, uint32_t flags) {
  if (flags != 0) return Errno(EINVAL);
  RefPtr<FileDescription> file = TRY(task.GetFile(static_cast<Fd>(pidfd)));
  // tgid_pidfd_to_pid(): a descriptor of /proc/<pid> will do here, as before there was pidfd_open(2).
  RefPtr<base::RefCounted> process = file->inode()->Process();
  RefPtr<ThreadGroup> target(process ? static_cast<ThreadGroup*>(process.get()) : TRY(PidFdTarget(*file)).get());
  SignalInfo info = FromCaller(task, signo, kSiUser);
  if (in) {
    info = TRY(ReadInfo(task, signo, in, target.get() == &task.thread_group()));
    if (TRY(task.mm().Read(in)).si_signo != signo) return Errno(EINVAL);
  }
  if (!ValidSignal(signo)) return Errno(EINVAL);
  RefPtr<Task> leader;
  {
    base::MutexLock tree(task.kernel().tasks().mu);
    if (target->leader == nullptr) return Errno(ESRCH);
    leader = RefPtr<Task>(target->leader);
  }
  if (!task.MaySignal(*leader, signo)) return Errno(EPERM);
  return Task::SendGroupSignal(*target, info);
}

Result<void> SysPause(Task& task) {
  while (task.ParkInterruptible(base::kNever) != Task::Wake::kInterrupted) {
  }
  return Errno(base::ERESTARTNOHAND_);
}

Result<int64_t> SysRestartSyscall(Task& task) {
  RestartBlock block = task.TakeRestartBlock();
  if (!block) return Errno(EINTR);
  return block(task);
}

}  // namespace sentry
