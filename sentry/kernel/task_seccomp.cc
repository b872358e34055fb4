// seccomp(2) as it concerns a task: which mode it is in, and what becomes of each of its calls. (kernel/seccomp.c)
#include <sys/syscall.h>

#include "base/logging.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/seccomp_notify.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

constexpr int kSysSeccomp = 1;  // si_code SYS_SECCOMP

}  // namespace

bool Task::KillPending() const {
  base::MutexLock sig(thread_group_->handlers->mu);
  return killed_;
}

Result<void> Task::EnterSeccompStrict() {
  base::MutexLock sig(thread_group_->handlers->mu);
  if (seccomp_mode() == SECCOMP_MODE_FILTER) return Errno(EINVAL);
  seccomp_mode_.store(SECCOMP_MODE_STRICT, std::memory_order_release);
  SetSlowReason(kSlowSeccomp, true);
  return {};
}

void Task::TakeSeccompFilterLocked(SeccompFilter* filter) {
  filter->Ref();
  SeccompFilter* old = seccomp_filter_.exchange(filter, std::memory_order_acq_rel);
  // Never the last reference: the new filter is a descendant of the old one.
  if (old != nullptr) old->Unref();
  seccomp_mode_.store(SECCOMP_MODE_FILTER, std::memory_order_release);
  SetSlowReason(kSlowSeccomp, true);
}

Result<int> Task::AttachSeccompFilter(RefPtr<SeccompFilter> filter, bool all_threads) {
  base::MutexLock tree(kernel_.tasks().mu);
  base::MutexLock sig(thread_group_->handlers->mu);
  if (seccomp_mode() == SECCOMP_MODE_STRICT) return Errno(EINVAL);
  SeccompFilter* mine = seccomp_filter_.load(std::memory_order_relaxed);
  // One listener per tree path: the kernel would not know whom to ask first.
  if (filter->notifier() != nullptr && mine != nullptr && mine->AnyNotifier()) return Errno(EBUSY);
  TRY(filter->PutOnTopOf(RefPtr<SeccompFilter>(mine)));
  if (all_threads) {
    for (Task* t : thread_group_->tasks) {
      if (t == this || t->seccomp_released_) continue;
      SeccompFilter* theirs = t->seccomp_filter_.load(std::memory_order_relaxed);
      if (t->seccomp_mode() == SECCOMP_MODE_DISABLED) continue;
      if (t->seccomp_mode() == SECCOMP_MODE_FILTER && filter->IsDescendantOf(theirs)) continue;
      return t->TidIn(pid_namespace());
    }
  }
  // This task's use of the old filter is the new one's from here on.
  TakeSeccompFilterLocked(filter.get());
  if (!all_threads) return 0;
  for (Task* t : thread_group_->tasks) {
    if (t == this || t->seccomp_released_) continue;
    SeccompFilter* theirs = t->seccomp_filter_.load(std::memory_order_relaxed);
    filter->AddUser();
    if (theirs != nullptr) theirs->DropUser();
    t->TakeSeccompFilterLocked(filter.get());
    // Credentials belong to their own fiber, which looks at this before anything else that the thread does.
    if (creds_->no_new_privs) t->take_no_new_privs_.store(true, std::memory_order_release);
    t->KickForPause();  // so that its platform sees it
  }
  return 0;
}

void Task::InheritSeccompLocked(const Task& parent) {
  SeccompFilter* filter = parent.seccomp_filter_.load(std::memory_order_relaxed);
  if (filter != nullptr) {
    filter->AddUser();
    TakeSeccompFilterLocked(filter);
  }
  if (parent.seccomp_mode() != SECCOMP_MODE_DISABLED) {
    seccomp_mode_.store(parent.seccomp_mode(), std::memory_order_release);
    SetSlowReason(kSlowSeccomp, true);
  }
  if (parent.take_no_new_privs_.load(std::memory_order_acquire)) take_no_new_privs_.store(true);
}

void Task::ReleaseSeccomp() {
  SeccompFilter* filter;
  {
    base::MutexLock tree(kernel_.tasks().mu);
    base::MutexLock sig(thread_group_->handlers->mu);
    filter = seccomp_filter_.exchange(nullptr, std::memory_order_acq_rel);
    seccomp_released_ = true;
  }
  if (filter == nullptr) return;
  filter->DropUser();
  filter->Unref();
}

int Task::seccomp_filters() const {
  base::MutexLock tree(kernel_.tasks().mu);
  base::MutexLock sig(thread_group_->handlers->mu);
  const SeccompFilter* filter = seccomp_filter_.load(std::memory_order_relaxed);
  return filter == nullptr ? 0 : filter->depth();
}

void Task::DieFromSeccomp(int signo, bool process) {
  LOG_INFO("[%d] %s: killed by seccomp in system call %lu at %#lx", tid(), comm().c_str(), registers().orig_rax,
           registers().rip);
  base::MutexLock tree(kernel_.tasks().mu);
  RefPtr<SignalHandlers> handlers = thread_group_->handlers;
  base::MutexLock sig(handlers->mu);
  if (!process && thread_group_->live_count > 1) {
    exit_status_ = signo;  // do_exit(signo): this thread alone
    exiting_ = true;
    return;
  }
  // Nothing that the process has installed can prevent it (force_sig_info_to_task: HANDLER_EXIT).
  if (!thread_group_->group_exiting) {
    thread_group_->group_exiting = true;
    thread_group_->group_exit_status = signo;
  }
  for (Task* t : thread_group_->tasks) t->KillLocked();
}

std::optional<Result<int64_t>> Task::RunSeccomp() {
  if (take_no_new_privs_.load(std::memory_order_relaxed)) {
    take_no_new_privs_.store(false, std::memory_order_relaxed);
    RefPtr<Credentials> creds = base::MakeRef<Credentials>(*creds_);
    creds->no_new_privs = true;
    SetCredentials(CredentialsRef(std::move(creds)));
  }
  platform::Registers& regs = registers();
  if (seccomp_mode() == SECCOMP_MODE_STRICT) {
    switch (regs.orig_rax) {
      case SYS_read:
      case SYS_write:
      case SYS_exit:
      case SYS_rt_sigreturn:
        return std::nullopt;
      default:
        DieFromSeccomp(kSIGKILL, /*process=*/false);
        return Result<int64_t>(static_cast<int64_t>(regs.orig_rax));
    }
  }
  // Threads of this process may put a newer filter on top meanwhile (TSYNC), and the old one stays below it.
  for (bool traced = false;; traced = true) {
    const SeccompFilter& filter = *seccomp_filter_.load(std::memory_order_acquire);
    const uint64_t number = regs.orig_rax;
    if (filter.AlwaysAllows(number, kAuditArchX86_64)) return std::nullopt;
    const seccomp_data data = {static_cast<int>(number),
                               kAuditArchX86_64,
                               regs.rip,
                               {regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9}};
    const SeccompVerdict verdict = filter.Run(data);
    if (verdict.action == SECCOMP_RET_LOG || (verdict.filter != nullptr && verdict.filter->log())) {
      LOG_DEBUG("[%d] %s: seccomp says %#x about system call %lu at %#lx", tid(), comm().c_str(), verdict.action,
                number, regs.rip);
    }
    switch (verdict.action) {
      case SECCOMP_RET_ALLOW:
      case SECCOMP_RET_LOG:
        return std::nullopt;
      case SECCOMP_RET_TRACE:
        if (traced) return std::nullopt;  // the tracer has had its say
        if (!StopForSeccompTrace(verdict.data)) return Result<int64_t>(Errno(ENOSYS));
        if (KillPending() || static_cast<int32_t>(regs.orig_rax) < 0) {
          return Result<int64_t>(static_cast<int64_t>(regs.rax));  // what the tracer has put there
        }
        continue;  // the call may be another one now, and is looked at again
      case SECCOMP_RET_USER_NOTIF: {
        SeccompNotifier* notifier = verdict.filter->notifier();
        if (notifier == nullptr) return Result<int64_t>(Errno(ENOSYS));
        return notifier->Ask(*this, data);
      }
      case SECCOMP_RET_ERRNO: {
        constexpr int64_t kMaxErrno = 4095;
        return Result<int64_t>(-std::min<int64_t>(verdict.data, kMaxErrno));
      }
      case SECCOMP_RET_TRAP: {
        SignalInfo info{};
        info.si_signo = kSIGSYS;
        info.si_errno = verdict.data;
        info.si_code = kSysSeccomp;
        info.sys.call_addr = regs.rip;
        info.sys.syscall = data.nr;
        info.sys.arch = data.arch;
        ForceSignal(info);
        // As before the call (syscall_rollback).
        return Result<int64_t>(static_cast<int64_t>(number));
      }
      case SECCOMP_RET_KILL_THREAD:
        DieFromSeccomp(kSIGSYS, /*process=*/false);
        return Result<int64_t>(static_cast<int64_t>(number));
      case SECCOMP_RET_KILL_PROCESS:
      default:  // an action that nobody knows
        DieFromSeccomp(kSIGSYS, /*process=*/true);
        return Result<int64_t>(static_cast<int64_t>(number));
    }
  }
}

}  // namespace sentry
