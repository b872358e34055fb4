// Sending, queueing and delivering signals. (kernel/signal.c, arch/x86/kernel/signal.c)
//
// Locks: TaskSet::mu (the tree) before SignalHandlers::mu (the siglock). A sender holds both; the receiver's own fiber
// takes the siglock alone where it touches nothing but its own queues.
#include <sys/resource.h>

#include <algorithm>

#include "base/logging.h"
#include "sentry/arch/signal_frame.h"
#include "sentry/kernel/kernel.h"
#include "sentry/kernel/posix_timers.h"
#include "sentry/kernel/task.h"

namespace sentry {

namespace {

constexpr SignalSet kAllSignals(~uint64_t{0});

// Who sent a signal, as its target sees it (kernel/signal.c: send_signal_locked). Tree held.
struct Sent {
  SignalInfo info;
  bool forced;  // by the kernel, the runtime, or a task that the target's PID namespace does not show
};
Sent SentTo(const ThreadGroup& tg, const SignalInfo& info) {
  Sent sent{info, info.si_code == kSiKernel};
  if (info.si_code != kSiUser && info.si_code != kSiTkill && info.si_code != kSiQueue) return sent;
  const Task* sender = Task::Current();
  const Task* leader = sender != nullptr ? sender->thread_group().leader : nullptr;
  const int pid = leader != nullptr ? leader->TidIn(tg.pid_namespace()) : 0;
  sent.forced = pid == 0;
  // What was queued says what its sender made it say, if the sender can be seen.
  if (pid == 0 || info.si_code != kSiQueue) sent.info.rt.pid = pid;
  return sent;
}

// Signals whose handler's absence makes them vanish. Tree and siglock held.
bool IgnoredLocked(const ThreadGroup& tg, const Task* thread, int signo, bool forced) {
  const abi::KSigaction& action = tg.handlers->actions[signo - 1];
  // It may install a handler before it unblocks, or waits for the signal.
  if (thread != nullptr && (thread->blocked().Has(signo) || thread->WaitsFor(signo))) return false;
  if (thread != nullptr && thread->traced() && signo != kSIGKILL) return false;  // its tracer wants to know
  if (action.handler == kSigDfl && tg.pid_namespace().init == &tg && !(forced && kUnblockable.Has(signo))) {
    // The init of a PID namespace gets only what it has a handler for, and SIGKILL and SIGSTOP from outside (man 7
    // pid_namespaces). Faults are forced elsewhere.
    return true;
  }
  if (action.handler == kSigIgn) return true;
  return action.handler == kSigDfl && DefaultActionOf(signo) == DefaultAction::kIgnore;
}

int CldCode(int status) {
  if ((status & 0x7f) == 0) return 1;  // CLD_EXITED
  return (status & 0x80) ? 3 : 2;      // CLD_DUMPED, CLD_KILLED
}

}  // namespace

void Task::Interrupt() {
  interrupted_.store(true, std::memory_order_seq_cst);
  if (in_guest_.load(std::memory_order_seq_cst)) context_->Interrupt();
  if (fiber_) fiber_->Unpark();
}

void Task::KickForPause() {
  if (in_guest_.load(std::memory_order_seq_cst)) context_->Interrupt();
}

bool Task::KickOutOfGuest(const MemoryManager& mm) {
  if (!in_guest_.load(std::memory_order_seq_cst)) return false;
  {
    base::MutexLock l(mu_);
    if (mm_.get() != &mm) return false;
  }
  context_->Interrupt();
  return true;
}

bool Task::HasDeliverableLocked() const {
  SignalSet pending = pending_.set() | thread_group_->pending.set();
  return !pending.Without(SignalSet(blocked_.load(std::memory_order_relaxed))).empty();
}

void Task::RecalculateInterruptedLocked() {
  const bool stop = stop_pending_ || trap_stop_ || trap_notify_;
  interrupted_.store(killed_ || stop || HasDeliverableLocked(), std::memory_order_seq_cst);
}

void Task::TakeMaskLocked() {
  if (mask_lent_.exchange(false)) context_->AllowMaskChanges(false);
}

void Task::KillLocked() {
  killed_ = true;
  fatal_pending_ = true;
  Interrupt();
}

// --- Sending.

namespace {

// Stop signals and SIGCONT cancel each other, whether or not they are delivered (kernel: prepare_signal).
void CancelOpposites(ThreadGroup& tg, SignalSet gone, PendingSignals Task::*pending) {
  tg.pending.Discard(gone);
  for (Task* t : tg.tasks) (t->*pending).Discard(gone);
}

}  // namespace

Result<void> Task::SendGroupSignal(ThreadGroup& tg, const SignalInfo& info) {
  base::MutexLock tree(tg.kernel().tasks().mu);
  return SendGroupSignalLocked(tg, info);
}

Result<void> Task::SendSignal(const SignalInfo& info) {
  base::MutexLock tree(kernel_.tasks().mu);
  return SendSignalLocked(info);
}

Result<void> Task::SendGroupSignalLocked(ThreadGroup& tg, const SignalInfo& from, RefPtr<base::RefCounted> timer) {
  const int signo = from.si_signo;
  if (tg.live_count == 0 || signo == 0) return {};
  const auto [info, forced] = SentTo(tg, from);
  RefPtr<SignalHandlers> handlers = tg.handlers;
  base::MutexLock sig(handlers->mu);
  if (tg.group_exiting && signo != kSIGKILL) return {};

  if (kStopSignals.Has(signo)) {
    CancelOpposites(tg, SignalSet::Of(kSIGCONT), &Task::pending_);
  } else if (signo == kSIGCONT) {
    CancelOpposites(tg, kStopSignals, &Task::pending_);
    if (tg.group_stopped) {
      tg.group_stopped = false;
      if (tg.group_stop_complete) {
        tg.continue_reported_pending = true;
        tg.continue_notify_due = true;
        tg.stop_reported_pending = false;
      }
      tg.group_stop_complete = false;
      if (tg.parent != nullptr) {
        tg.parent->child_events.Notify(base::kEventIn);
      }
    }
    for (Task* t : tg.tasks) {
      t->stop_pending_ = t->stop_dequeued_ = false;
      if (t->traced() && t->ptrace_.seized && t->state() != 'Z') {
        t->trap_notify_ = true;
        t->Interrupt();
      }
      if (!t->stopped_) continue;
      t->stopped_ = false;
      if (t->fiber_) t->fiber_->Unpark();
    }
  }

  Task* main = tg.tasks.empty() ? nullptr : tg.tasks.front();
  if (signo == kSIGKILL) {
    if (IgnoredLocked(tg, main, signo, forced)) return {};
    // Nothing to queue: every thread goes.
    tg.group_exiting = true;
    if (tg.exec_task == nullptr || tg.group_exit_status == 0) tg.group_exit_status = kSIGKILL;
    tg.group_stopped = false;
    for (Task* t : tg.tasks) t->KillLocked();
    return {};
  }

  if (IgnoredLocked(tg, main, signo, forced)) return {};
  if (signo >= kFirstRtSignal && tg.pending.queued() >= tg.Limit(RLIMIT_SIGPENDING)) {
    // man 7 signal: only a queued one tells its sender.
    return info.si_code < 0 ? Result<void>(Errno(EAGAIN)) : Result<void>();
  }
  if (!tg.pending.Push({info, std::move(timer)})) return {};
  for (Task* t : tg.tasks) t->TakeMaskLocked();
  // Prefer the main thread, then any that does not block it (kernel: complete_signal).
  Task* target = nullptr;
  bool target_stopped = false;
  for (Task* t : tg.tasks) {
    t->signal_events_.Notify(base::kEventIn);
    if (t->blocked().Has(signo) || t->killed_) continue;
    // One that is stopped takes it only if there is no other.
    const char state = t->state();
    if (target == nullptr || (target_stopped && state != 'T' && state != 't')) {
      target = t;
      target_stopped = state == 'T' || state == 't';
    }
  }
  if (target != nullptr) target->Interrupt();
  return {};
}

Result<void> Task::SendSignalLocked(const SignalInfo& from, RefPtr<base::RefCounted> timer) {
  const int signo = from.si_signo;
  if (signo == 0) return {};
  // These act on the process whichever thread they are sent to.
  if (signo == kSIGKILL || signo == kSIGCONT || kStopSignals.Has(signo)) {
    if (signo == kSIGKILL) return SendGroupSignalLocked(*thread_group_, from);
    if (signo == kSIGCONT) (void)SendGroupSignalLocked(*thread_group_, from);
  }
  const auto [info, forced] = SentTo(*thread_group_, from);
  if (state() == 'Z') return {};
  RefPtr<SignalHandlers> handlers = thread_group_->handlers;
  base::MutexLock sig(handlers->mu);
  if (signo == kSIGCONT) return {};
  if (kStopSignals.Has(signo)) CancelOpposites(*thread_group_, SignalSet::Of(kSIGCONT), &Task::pending_);
  if (IgnoredLocked(*thread_group_, this, signo, forced)) return {};
  if (signo >= kFirstRtSignal && pending_.queued() >= thread_group_->Limit(RLIMIT_SIGPENDING)) {
    return info.si_code < 0 ? Result<void>(Errno(EAGAIN)) : Result<void>();
  }
  if (!pending_.Push({info, std::move(timer)})) return {};
  TakeMaskLocked();
  signal_events_.Notify(base::kEventIn);
  if (!blocked().Has(signo)) Interrupt();
  return {};
}

void Task::ForceSignal(const SignalInfo& info) {
  base::MutexLock tree(kernel_.tasks().mu);
  RefPtr<SignalHandlers> handlers = thread_group_->handlers;
  base::MutexLock sig(handlers->mu);
  const int signo = info.si_signo;
  abi::KSigaction& action = handlers->actions[signo - 1];
  // kernel: force_sig_info_to_task. A fault that is blocked or ignored kills.
  if (blocked().Has(signo) || action.handler == kSigIgn) {
    action.handler = kSigDfl;
    SignalSet mask = blocked();
    mask.Remove(signo);
    blocked_.store(mask.bits(), std::memory_order_relaxed);
  }
  if (action.handler == kSigDfl && !traced()) {
    // Also for the init of a namespace, which could ignore it otherwise.
    thread_group_->group_exiting = true;
    thread_group_->group_exit_status = signo;
    for (Task* t : thread_group_->tasks) t->KillLocked();
    return;
  }
  pending_.Push({info, nullptr});
  interrupted_.store(true, std::memory_order_seq_cst);
}

bool Task::MaySignal(const Task& target, int signo) const {
  if (&target.thread_group() == thread_group_.get()) return true;
  CredentialsRef theirs = target.SnapshotCreds();
  const Credentials& mine = *creds_;
  // man 2 kill: the sender's real or effective id against the target's real or saved one.
  if (mine.euid == theirs->suid || mine.euid == theirs->ruid || mine.ruid == theirs->suid || mine.ruid == theirs->ruid)
    return true;
  if (mine.Capable(CAP_KILL)) return true;
  if (signo != kSIGCONT) return false;
  base::MutexLock tree(kernel_.tasks().mu);
  return thread_group_->process_group && target.thread_group_->process_group &&
         thread_group_->process_group->session == target.thread_group_->process_group->session;
}

// --- Masks.

SignalSet Task::blocked() const {
  if (in_guest_.load(std::memory_order_seq_cst) && context_->KeepsSignalMask()) {
    return SignalSet(context_->SignalMask()).Without(kUnblockable);
  }
  return SignalSet(blocked_.load(std::memory_order_relaxed));
}

void Task::LendMask() {
  context_->SetSignalMask(blocked_.load(std::memory_order_relaxed));
  if (mask_lent_.load(std::memory_order_relaxed)) return;
  base::MutexLock sig(thread_group_->handlers->mu);
  if (!(pending_.set() | thread_group_->pending.set()).empty()) return;
  mask_lent_ = true;
  context_->AllowMaskChanges(true);
}

void Task::ReturnMask(const platform::Exit& exit) {
  if (exit.reason == platform::ExitReason::kDead) return;
  const SignalSet mask = SignalSet(exit.signal_mask).Without(kUnblockable);
  // As if it had made the call: a signal may have come meanwhile that this thread takes, or leaves to another.
  if (mask.bits() != blocked_.load(std::memory_order_relaxed)) SetBlocked(mask);
}

void Task::SetBlocked(SignalSet mask) {
  base::MutexLock sig(thread_group_->handlers->mu);
  blocked_.store(mask.Without(kUnblockable).bits(), std::memory_order_seq_cst);
  RecalculateInterruptedLocked();
  // A signal for the process that this thread now blocks is for another thread to take.
  SignalSet shared = thread_group_->pending.set() & mask;
  if (shared.empty()) return;
  for (Task* t : thread_group_->tasks) {
    if (t != this && !shared.Without(t->blocked()).empty()) t->Interrupt();
  }
}

void Task::SetTemporaryMask(SignalSet mask) {
  if (!saved_mask_) saved_mask_ = blocked();
  SetBlocked(mask);
}

SignalSet Task::PendingSet() const {
  base::MutexLock sig(thread_group_->handlers->mu);
  return (pending_.set() | thread_group_->pending.set()) & blocked();
}

std::optional<QueuedSignal> Task::DequeueLocked(SignalSet set) {
  std::optional<QueuedSignal> signal = pending_.Pop(set);
  if (!signal) signal = thread_group_->pending.Pop(set);
  if (signal && signal->timer) static_cast<PosixTimer*>(signal->timer.get())->OnDelivered(signal->info);
  return signal;
}

std::optional<QueuedSignal> Task::TakeSignal(SignalSet set) {
  base::MutexLock sig(thread_group_->handlers->mu);
  std::optional<QueuedSignal> signal = DequeueLocked(set.Without(kUnblockable));
  RecalculateInterruptedLocked();
  return signal;
}

Result<SignalInfo> Task::WaitForSignal(SignalSet set, base::MonotonicNs deadline) {
  set = set.Without(kUnblockable);
  if (std::optional<QueuedSignal> s = TakeSignal(set)) return s->info;
  // While it waits the set counts as unblocked, so that senders pick this thread and wake it (kernel: do_sigtimedwait).
  const SignalSet before = blocked();
  awaited_.store(set.bits(), std::memory_order_relaxed);
  SetBlocked(before.Without(set));
  Wake wake = Wake::kWoken;
  std::optional<QueuedSignal> signal;
  while (wake == Wake::kWoken) {
    wake = ParkInterruptible(deadline);
    signal = TakeSignal(set);
    if (signal) break;
  }
  SetBlocked(before);
  awaited_.store(0, std::memory_order_relaxed);
  if (signal) return signal->info;
  return Errno(wake == Wake::kTimedOut ? EAGAIN : EINTR);
}

Result<abi::KSigaction> Task::Sigaction(int signo, const abi::KSigaction* action) {
  if (signo < 1 || signo > kSignals) return Errno(EINVAL);
  if (action != nullptr && kUnblockable.Has(signo)) return Errno(EINVAL);
  base::MutexLock sig(thread_group_->handlers->mu);
  abi::KSigaction old = thread_group_->handlers->actions[signo - 1];
  if (action != nullptr) {
    abi::KSigaction fresh = *action;
    fresh.mask = SignalSet(fresh.mask).Without(kUnblockable).bits();
    thread_group_->handlers->actions[signo - 1] = fresh;
    bool ignored =
        fresh.handler == kSigIgn || (fresh.handler == kSigDfl && DefaultActionOf(signo) == DefaultAction::kIgnore);
    if (ignored) {
      // POSIX: setting to ignore discards what is pending, blocked or not.
      thread_group_->pending.Discard(SignalSet::Of(signo));
      for (Task* t : thread_group_->tasks) t->pending_.Discard(SignalSet::Of(signo));
    }
  }
  return old;
}

Result<abi::StackT> Task::Sigaltstack(const abi::StackT* stack) {
  constexpr int kSsOnStack = 1, kSsDisable = 2;
  constexpr uint32_t kSsAutodisarm = 1u << 31;
  const uint64_t sp = registers().rsp;
  auto on_stack = [&] { return arch::OnAltStack(sp, altstack_); };
  abi::StackT old = altstack_;
  old.pad = 0;
  old.ss_flags = static_cast<int>((altstack_.ss_size == 0 ? kSsDisable : (on_stack() ? kSsOnStack : 0)) |
                                  (static_cast<uint32_t>(altstack_.ss_flags) & kSsAutodisarm));
  if (stack != nullptr) {
    if (on_stack()) return Errno(EPERM);
    const uint32_t flags = static_cast<uint32_t>(stack->ss_flags);
    const uint32_t mode = flags & ~kSsAutodisarm;
    if (mode != 0 && mode != kSsDisable && mode != kSsOnStack) return Errno(EINVAL);
    if (mode == kSsDisable) {
      altstack_ = {};
    } else {
      if (stack->ss_size < 2048) return Errno(ENOMEM);  // MINSIGSTKSZ
      altstack_ = *stack;
      altstack_.ss_flags = static_cast<int>(flags & kSsAutodisarm);
    }
  }
  return old;
}

// --- Receiving.

bool Task::HandleInterruptions() {
  for (;;) {
    WaitWhileStopped();
    std::optional<QueuedSignal> signal;
    abi::KSigaction action{};
    {
      base::MutexLock sig(thread_group_->handlers->mu);
      if (killed_) {
        fatal_pending_ = false;
        exit_status_ = thread_group_->group_exit_status;
        return false;
      }
      if (stop_pending_ || trap_stop_ || trap_notify_) continue;
      signal = DequeueLocked(kAllSignals.Without(blocked()));
      if (!signal) {
        interrupted_.store(false, std::memory_order_seq_cst);
        break;
      }
      stop_dequeued_ = true;
    }
    if (traced() && PtraceSignal(*signal) == 0) continue;
    {
      base::MutexLock sig(thread_group_->handlers->mu);
      action = thread_group_->handlers->actions[signal->info.si_signo - 1];
      if (action.handler != kSigDfl && action.handler != kSigIgn && (action.flags & kSaResetHand)) {
        thread_group_->handlers->actions[signal->info.si_signo - 1].handler = kSigDfl;
      }
    }
    const int signo = signal->info.si_signo;
    if (action.handler == kSigIgn) continue;
    if (action.handler != kSigDfl) {
      DeliverSignal(*signal, action);
      continue;
    }
    const bool is_init = thread_group_->pid_namespace().init == thread_group_.get();
    switch (DefaultActionOf(signo)) {
      case DefaultAction::kIgnore:
      case DefaultAction::kContinue:
        break;
      case DefaultAction::kStop:
        if (!is_init) BeginGroupStop(signo);
        break;
      case DefaultAction::kTerminate:
      case DefaultAction::kCore: {
        if (is_init && signo != kSIGKILL && signal->info.si_code <= 0) break;
        base::MutexLock tree(kernel_.tasks().mu);
        base::MutexLock sig(thread_group_->handlers->mu);
        if (!thread_group_->group_exiting) {
          thread_group_->group_exiting = true;
          thread_group_->group_exit_status = signo;
        }
        for (Task* t : thread_group_->tasks) t->KillLocked();
        break;
      }
    }
  }
  FinishRestart(/*handler_runs=*/false, nullptr);
  if (saved_mask_) {
    SignalSet mask = *saved_mask_;
    saved_mask_.reset();
    SetBlocked(mask);
  }
  return true;
}

void Task::FinishRestart(bool handler_runs, const abi::KSigaction* action) {
  if (!in_syscall_) return;
  in_syscall_ = false;
  platform::Registers& regs = registers();
  const int code = static_cast<int>(-static_cast<int64_t>(regs.rax));
  bool restart = false;
  if (static_cast<int32_t>(regs.orig_rax) == -1) return;  // a tracer has decided against it
  switch (code) {
    case base::ERESTARTNOINTR_:
      restart = true;
      break;
    case base::ERESTARTSYS_:
      restart = !handler_runs || (action->flags & kSaRestart);
      break;
    case base::ERESTARTNOHAND_:
    case base::ERESTART_RESTARTBLOCK_:
      restart = !handler_runs;
      break;
    default:
      return;
  }
  if (!restart) {
    regs.rax = static_cast<uint64_t>(-int64_t{EINTR});
    return;
  }
  regs.rax = code == base::ERESTART_RESTARTBLOCK_ ? uint64_t{SYS_restart_syscall} : regs.orig_rax;
  regs.rip -= 2;  // the `syscall` instruction
}

void Task::DeliverSignal(const QueuedSignal& signal, const abi::KSigaction& action) {
  FinishRestart(/*handler_runs=*/true, &action);
  const int signo = signal.info.si_signo;
  arch::SignalFrameArgs args;
  args.info = signal.info;
  args.action = action;
  args.altstack = altstack_;
  args.trap_number = trap_number_;
  args.error_code = trap_error_code_;
  args.fault_address = trap_address_;
  // sigsuspend and ppoll: the frame remembers the mask from before the call.
  args.mask = (saved_mask_ ? *saved_mask_ : blocked()).bits();
  saved_mask_.reset();
  Result<void> pushed = arch::PushSignalFrame(*mm_, registers(), context_->XState(), args);
  if (!pushed.ok()) {
    // man 2 sigaltstack: no room for the frame is SIGSEGV, and SIGSEGV without room is the end.
    if (signo == kSIGSEGV) {
      base::MutexLock sig(thread_group_->handlers->mu);
      thread_group_->handlers->actions[kSIGSEGV - 1].handler = kSigDfl;
    }
    ForceSignal(KernelSignal(kSIGSEGV));
    return;
  }
  if (static_cast<uint32_t>(altstack_.ss_flags) & (1u << 31)) altstack_ = {};  // SS_AUTODISARM
  // The handler starts with a clean floating-point state; the frame has the old one.
  std::vector<std::byte> fresh(platform::XStateSize());
  platform::InitXState(fresh.data());
  context_->SetXState(fresh);
  SignalSet mask = blocked() | SignalSet(action.mask);
  if (!(action.flags & kSaNoDefer)) mask.Add(signo);
  SetBlocked(mask);
  // A debugger that steps stops before the handler's first instruction (kernel: signal_setup_done).
  if (ptrace_.step.load(std::memory_order_relaxed)) PtraceNotify(kSIGTRAP, kCldTrapped, 0);
}

Result<int64_t> Task::Sigreturn() {
  Result<arch::RestoredFrame> frame = arch::PopSignalFrame(*mm_, registers());
  if (!frame.ok()) {
    ForceSignal(KernelSignal(kSIGSEGV));
    return int64_t{0};
  }
  registers() = frame->registers;
  context_->SetXState(frame->xstate);
  SetBlocked(SignalSet(frame->mask));
  (void)Sigaltstack(&frame->altstack);
  return static_cast<int64_t>(registers().rax);
}

int ChildCode(int status) { return CldCode(status); }

}  // namespace sentry
